"""A response, as a program sees it: its head, and its body as it arrives, decoded.

The pieces come from `incoming_body`, which also knows what becomes of the connection when the response is left.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Self

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ..errors import HTTPStatusError, LimitExceededError, RemoteProtocolError
from .coding import make_decoder
from .incoming_body import IncomingBody
from .retry import mark
from .url import make_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from yarl import URL

    from ..handle import Lease
    from .client_connection import HTTPClientConnection
    from .coding import Decoder
    from .head import ResponseHead
    from .prepared import PreparedRequest
    from .upload import Upload

__all__ = ["MAX_READ", "Response"]

MANY: Final = 1024
"""Pieces that are joined at the latest: a server may send them as small as a byte, and an object of each takes 34."""

MAX_READ: Final = 16 * 1024 * 1024
"""Bytes that `Response.read` takes at most unless it is told otherwise."""


class Response(IncomingBody):
    """The answer to one request. Use it inside the block that gave it.

    Attributes:
        status: 200 to 999, or 101 where the request offered to switch protocols.
        reason: The words behind the status; often empty.
        http_version: ``1.0`` or ``1.1``.
        headers: The fields of the head.
        trailers: The fields behind the body, once that has been read to its end; mostly none.
        history: The responses that redirected to this one, oldest first. They have no bodies any more.
        method: Of the request.
        target: Of the request, as it stood in its first line.
    """

    __slots__ = (
        "_body",
        "_decoder",
        "_gathered",
        "_parts",
        "_pieces",
        "_size",
        "_url",
        "decodes",
        "headers",
        "history",
        "http_version",
        "reason",
        "status",
        "target",
    )

    def __init__(
        self,
        connection: HTTPClientConnection,
        head: ResponseHead,
        prepared: PreparedRequest,
        lease: Lease,
        upload: Upload | None,
    ) -> None:
        super().__init__(connection, prepared.method, lease, upload)
        self.status = head.status
        self.reason = head.reason
        self.http_version = head.http_version
        self.headers = head.headers
        self.history: tuple[Response, ...] = ()
        self.target = prepared.target
        self.decodes = False
        """Whether content codings are taken off the body: whether the client has asked for them."""
        self._decoder: Decoder | None = None
        self._url: URL | None = None
        self._parts: list[bytes] = []
        self._gathered = bytearray()
        self._size = 0
        self._body: bytes | None = None
        self._pieces: Iterator[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}>" if self.reason else f"<Response {self.status}>"

    @property
    def url(self) -> URL:
        """What was asked for, at last: after redirects, and without user name and password."""
        if self._url is None:
            target = self.target if self.target.startswith("/") else "/"
            self._url = make_url("http", self._connection.host, target)
        return self._url

    @url.setter
    def url(self, url: URL) -> None:
        self._url = url

    def raise_for_status(self) -> Self:
        """Return the response itself, unless its status is an error.

        Raises:
            HTTPStatusError: the status is 400 or more.
        """
        if self.status >= 400:
            status = f"{self.status} {self.reason}".rstrip()
            error = HTTPStatusError(f"{self.method} {self.url} was answered with {status}", self)
            mark(error, self.method)
            raise error
        return self

    # --- the body ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def read(self, max_bytes: int = MAX_READ) -> bytes:
        """The whole body; what was iterated over before is not in it. Asked again, it gives the same.

        Args:
            max_bytes: How long the body may be, decoded.

        Raises:
            LimitExceededError: it is longer. What was read until then is kept, and can be read on with a larger bound.
            RemoteProtocolError: the body is malformed, or ends too early; the connection is closed.
            HandleBrokenError: the connection failed.
            HandleClosedError: the connection was closed meanwhile, or the response's block has been left.

        Cancellation: what was read until then is kept, and given by the next call.
        """
        if self._body is not None:
            await trio.lowlevel.checkpoint()
            return self._body
        if not self._ended and not self.decodes and self._connection.machine.framing > max_bytes:
            raise self._too_long(max_bytes, f"Content-Length says {self._connection.machine.framing}")
        parts = self._parts
        piece = await self._next_piece()
        following = self._next_piece if self.decodes or self._decoder else self._next_quickly
        while piece is not None:
            parts.append(piece)
            self._size += len(piece)
            if self._size > max_bytes:
                raise self._too_long(max_bytes, f"{self._size} have come")
            if len(parts) >= MANY:
                self._gather()
                await trio.lowlevel.checkpoint()
            piece = await following()
        if self._gathered:
            self._gather()
            parts.append(bytes(self._gathered))
            self._gathered = bytearray()
        self._body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return self._body

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
        """Iterate over the body as it arrives, decoded if the client has asked for codings: ``async for chunk in …``.

        Pieces have 1 to 65,536 bytes. Raises what `read` raises, apart from `LimitExceededError`.
        """
        return self

    @enable_ki_protection
    async def __anext__(self) -> bytes:
        piece = await self._next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def raw(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it is on the wire, apart from its framing: without taking content codings off.

        Raises: as `read`, apart from `LimitExceededError`.
        """
        while (piece := await self._next_raw()) is not None:
            yield piece

    async def _next_piece(self) -> bytes | None:
        """The next piece, decoded; None at the end."""
        if self.decodes:
            self._choose_decoder()
        decoder = self._decoder
        if decoder is None:
            return await self._next_raw()
        while True:
            if self._pieces is not None:
                await checkpoint_if_cancelled()
                try:
                    piece = next(self._pieces, None)
                except Exception as exc:
                    self._failed(exc)
                    raise
                if piece is not None:
                    await cancel_shielded_checkpoint()
                    if not piece:
                        continue
                    return piece
            data = await self._next_raw()
            if data is None:
                self._check_coding(decoder)
                return None
            self._pieces = decoder.decode(data)

    def _choose_decoder(self) -> None:
        if not self._ended:
            try:
                self._decoder = make_decoder(self.headers.get("content-encoding"))
            except RemoteProtocolError as exc:
                mark(exc, self.method)
                raise
        self.decodes = False

    def _check_coding(self, decoder: Decoder) -> None:
        try:
            decoder.end()
        except Exception as exc:
            mark(exc, self.method)
            raise

    def _too_long(self, max_bytes: int, what: str) -> LimitExceededError:
        error = LimitExceededError(f"the body of {self!r} is longer than {max_bytes} bytes (max_bytes): {what}")
        mark(error, self.method)
        return error
