"""A response, as a program sees it: its head, and its body as it arrives, decoded.

A response has a body as it comes from the connection (`IncomingBody`), and reads it through `decoded`, which takes its
content codings off. What becomes of the connection is no concern of this class: see `claim` and `leaving`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Self

import trio
from trio.lowlevel import enable_ki_protection

from ...errors import HTTPStatusError, LimitExceededError, LocalProtocolError
from ...support.checks import check_count
from ..coding import unknown_codings
from ..protocol.body_reader import PIECES
from ..url.parts import for_people
from ..url.url import make_url
from .decoded_body import decode_rest, decoded
from .leaving import leave
from .retry import as_client_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yarl import URL

    from ..protocol.headers import Headers
    from ..protocol.prepared_request import PreparedRequest
    from .connection import HTTPClientConnection
    from .decoded_body import DecodedBody
    from .incoming_body import IncomingBody

__all__ = ["MAX_READ", "Response"]

MANY: Final = PIECES
"""Pieces that are joined at the latest: a server may send them as small as a byte, and an object of each takes 34."""

MAX_READ: Final = 16 * 1024 * 1024
"""Bytes that `Response.read` takes at most unless it is told otherwise."""


class Response:
    """The response to one request. Use it inside the block that gave it.

    Attributes:
        status: 200 to 999, or 101 where the request offered to switch protocols.
        reason: The words behind the status; often empty.
        http_version: ``1.0`` or ``1.1``.
        headers: The fields of the head.
        history: The responses that redirected to this one, oldest first. They have no bodies any more.
        method: Of the request.
        target: Of the request, as it stood in its first line.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_content",
        "_gathered",
        "_parts",
        "_size",
        "_source",
        "_url",
        "headers",
        "history",
        "http_version",
        "method",
        "reason",
        "status",
        "target",
    )

    def __init__(self, connection: HTTPClientConnection, body: IncomingBody, prepared: PreparedRequest) -> None:
        head = body.head
        self.status = head.status
        self.reason = head.reason
        self.http_version = head.http_version
        self.headers: Headers = head.headers
        self.history: tuple[Response, ...] = ()
        self.method = prepared.method
        self.target = prepared.target
        self._connection = connection
        self._body = body
        self._source: IncomingBody | DecodedBody | None = None  # where `read` has its pieces from, once that is chosen
        self._url: URL | None = None
        # What `read` has so far: pieces, those that were joined already, and how many bytes that is; in the end, all.
        self._parts: list[bytes] = []
        self._gathered = bytearray()
        self._size = 0
        self._content: bytes | None = None

    def __repr__(self) -> str:
        return repr(self._body)

    @property
    def connection(self) -> HTTPClientConnection:
        """The `HTTPClientConnection` that the response comes from, as long as it is the response's.

        Raises:
            LocalProtocolError: the response has ended, and its connection has gone back to the pool, where it may carry
                somebody else's request by now.
        """
        if self._body.claim.gone:
            raise LocalProtocolError(
                f"Response.connection refused: {self!r} was received to its end, and its connection is back in the "
                f"pool; request(..., keep_connection=True) keeps it until the block is left"
            )
        return self._connection

    @property
    def trailers(self) -> Headers:
        """The fields behind the body, once that has been read to its end; mostly none."""
        return self._body.trailers

    @property
    def url(self) -> URL:
        """The URL of the last request, after redirects; without user name and password."""
        if self._url is None:
            target = self.target if self.target.startswith("/") else "/"
            self._url = make_url("http", self._connection.host, target)
        return self._url

    @url.setter
    def url(self, url: URL) -> None:
        self._url = url

    @property
    def content_encoding(self) -> str:
        """The content codings that are still on the body as it is read; mostly the empty string.

        Known codings (gzip, deflate, and br and zstd where a package for them is installed) are taken off, whether or
        not the request has asked for them. Names of other codings are given here, in lower case and joined by
        ``", "``; the bytes stay as they are.
        """
        named = self.headers.get("content-encoding")
        return ", ".join(unknown_codings(named))

    def raise_for_status(self) -> Self:
        """Return the response itself, unless its status is an error.

        The error may leave the block: then the rest of the body is drained as at a block's normal end, so that the
        connection can be used again, and `HTTPStatusError.body` has as much of the body as was received.

        Raises:
            HTTPStatusError: the status is 400 or more.
        """
        if self.status < 400:
            return self
        status = f"{self.status} {self.reason}".rstrip()
        text = f"{self.method} {for_people(self.url)} was answered with {status}"
        raise HTTPStatusError(text, self, self._read_so_far())

    def _read_so_far(self) -> bytes:
        return bytes(self._gathered) + b"".join(self._parts) if self._content is None else self._content

    @enable_ki_protection
    async def _leave(self, exc: BaseException | None) -> None:
        """The block ends: as `leave`; but the status error that this response has raised drains, and gets the rest."""
        error = exc
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]  # a nursery inside of the block wraps it
        body = self._body
        if body.ended or not isinstance(error, HTTPStatusError) or error.response is not self:
            await leave(body, exc)
            return
        found: list[bytes] = []
        await leave(body, exc, found)
        error.body += decode_rest(body, self._source, b"".join(found))

    # --- the body ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def read(self, max_bytes: int = MAX_READ) -> bytes:
        """The whole body, without what was iterated over before. A second call gives the same.

        Args:
            max_bytes: How long the body may be, decoded.

        Raises:
            LimitExceededError: it is longer. What was read until then is kept: a call with a larger bound goes on.
            RemoteProtocolError: the body is malformed, or ends too early; the connection is closed.
            HandleBrokenError: the connection failed.
            HandleClosedError: the connection was closed meanwhile, or the response's block has been left.

        Cancellation: what was read until then is kept for the next call.
        """
        if type(max_bytes) is not int or max_bytes < 0:
            check_count("max_bytes", max_bytes)
        if self._content is not None:
            await trio.lowlevel.checkpoint()
            return self._content
        body, parts = self._body, self._parts
        source = self._source or self._choose_source()
        if source is body and not body.ended and body.framing - body.size + self._size > max_bytes:
            raise self._too_long(max_bytes, f"Content-Length says {body.framing}")  # it is not waited for
        piece = await source.next_piece()
        while piece is not None:
            parts.append(piece)
            self._size += len(piece)
            if self._size > max_bytes:
                raise self._too_long(max_bytes, f"{self._size} have been received")
            if len(parts) >= MANY:
                self._gather()
                await trio.lowlevel.checkpoint()
            piece = await source.next_quickly()
        if self._gathered:
            self._gather()
            parts.append(bytes(self._gathered))
            self._gathered = bytearray()
        self._content = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return self._content

    def _choose_source(self) -> IncomingBody | DecodedBody:
        self._source = source = decoded(self._body)
        return source

    def _gather(self) -> None:
        self._gathered += b"".join(self._parts)
        self._parts.clear()

    async def json(self, max_bytes: int = MAX_READ) -> Any:
        """The body, read as JSON.

        Raises:
            ValueError: it is not JSON (`json.JSONDecodeError`, `UnicodeDecodeError`).
            LimitExceededError, RemoteProtocolError, HandleBrokenError, HandleClosedError: as `read`.

        Cancellation: as for `read`.
        """
        return json.loads(await self.read(max_bytes))

    def __aiter__(self) -> Self:
        """Iterate over the body as it arrives, without the codings that are known here: ``async for chunk in …``.

        Pieces have 1 to 65,536 bytes. Raises what `read` raises, apart from `LimitExceededError`.
        """
        return self

    @enable_ki_protection
    async def __anext__(self) -> bytes:
        piece = await (self._source or self._choose_source()).next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def raw(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it is on the wire, apart from its framing: without taking content codings off.

        Raises: as `read`, apart from `LimitExceededError`.
        """
        while (piece := await self._body.next_piece()) is not None:
            yield piece

    def _too_long(self, max_bytes: int, what: str) -> LimitExceededError:
        error = LimitExceededError(f"the body of {self!r} is longer than {max_bytes} bytes (max_bytes): {what}")
        as_client_error(error)
        return error
