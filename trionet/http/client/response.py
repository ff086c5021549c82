"""A response, as a program sees it: its head, and its body as it arrives, decoded.

The pieces come from `incoming_body`, which also knows what becomes of the connection when the response is left.
"""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Self

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ...errors import HTTPStatusError, LimitExceededError, RemoteProtocolError
from ...support.checks import check_count
from ..coding import make_decoder, unknown_codings
from ..protocol.body_reader import PIECES
from ..url.parts import for_people
from ..url.url import make_url
from .incoming_body import IncomingBody
from .retry import as_client_error, mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from yarl import URL

    from ...handle import Lease
    from ..coding import Decoder
    from ..protocol.head import ResponseHead
    from ..protocol.prepared import PreparedRequest
    from .connection import HTTPClientConnection
    from .upload import Upload

__all__ = ["MAX_READ", "Response"]

MANY: Final = PIECES
"""Pieces that are joined at the latest: a server may send them as small as a byte, and an object of each takes 34."""

MANY_PIECES: Final = 64
MAX_DECODED: Final = 65536
"""How much a status error decodes of what was drained: pieces, each of which costs work, and bytes."""

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
        "_chosen",
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
        self.decodes = True
        """Whether the content codings that are known here are taken off the body."""
        self._chosen = False
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

    @property
    def content_encoding(self) -> str:
        """The content codings that are still on the body as it is read; mostly the empty string.

        What Content-Encoding names and is known here (gzip, deflate, and br and zstd where a package for them is
        installed) is taken off, whoever has asked for it. Any other name is passed over, and the bytes stay as they
        are: it stands here, in lower case, and several are joined by ``", "``.
        """
        named = self.headers.get("content-encoding")
        return ", ".join(unknown_codings(named)) if self.decodes else named or ""

    def raise_for_status(self) -> Self:
        """Return the response itself, unless its status is an error.

        The error may leave the block: the rest of the body is drained as it is at a block's normal end, so that the
        connection can be used again, and `HTTPStatusError.body` has what is at hand of it.

        Raises:
            HTTPStatusError: the status is 400 or more.
        """
        if self.status < 400:
            return self
        status = f"{self.status} {self.reason}".rstrip()
        text = f"{self.method} {for_people(self.url)} was answered with {status}"
        raise HTTPStatusError(text, self, self._read_so_far())

    def _read_so_far(self) -> bytes:
        return bytes(self._gathered) + b"".join(self._parts) if self._body is None else self._body

    @enable_ki_protection
    async def leave(self, exc: BaseException | None, rest: list[bytes] | None = None) -> None:
        """As `IncomingBody.leave`; the status error that this response has raised drains, and is given the rest."""
        error = exc
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]  # a nursery inside of the block wraps it
        if self._ended or not isinstance(error, HTTPStatusError) or error.response is not self:
            await super().leave(exc, rest)
            return
        found: list[bytes] = []
        await super().leave(exc, found)
        error.body += self._decoded(b"".join(found))

    def _decoded(self, rest: bytes) -> bytes:
        """What was drained, decoded as far as that is little work, and as far as it can be. A step."""
        found = bytearray()
        try:
            if not self._chosen and self.decodes:
                self._decoder = make_decoder(self.headers.get("content-encoding"))
            if self._decoder is None:
                return rest
            pieces = chain(self._pieces or (), self._decoder.decode(rest))
            for piece in islice(pieces, MANY_PIECES):
                found += piece
                if len(found) >= MAX_DECODED:
                    break
        except RemoteProtocolError:
            pass  # the error that is on its way says more
        return bytes(found[:MAX_DECODED])

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
        if type(max_bytes) is not int or max_bytes < 0:
            check_count("max_bytes", max_bytes)
        if self._body is not None:
            await trio.lowlevel.checkpoint()
            return self._body
        if not self._chosen:
            self._choose_decoder()
        if self._decoder is None and not self._ended:  # a body that will be too long is not waited for
            framing = self._connection.machine.framing
            if framing - self._read + self._size > max_bytes:
                raise self._too_long(max_bytes, f"Content-Length says {framing}")
        parts = self._parts
        piece = await self._next_piece()
        following = self._next_piece if self._decoder else self._next_quickly
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
        """Iterate over the body as it arrives, without the codings that are known here: ``async for chunk in …``.

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
        if not self._chosen:
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
        named = self.headers.get("content-encoding")
        if named is not None and self.decodes and not self._ended:
            try:
                self._decoder = make_decoder(named)
            except RemoteProtocolError as exc:
                mark(exc, self.asked, lasts=True)
                raise
        self._chosen = True

    def _check_coding(self, decoder: Decoder) -> None:
        try:
            decoder.end()
        except Exception as exc:
            cut_off = "content-length" not in self.headers and "transfer-encoding" not in self.headers
            mark(exc, self.asked, lasts=not cut_off)  # a body that only EOF ends may have been cut off by it
            raise

    def _too_long(self, max_bytes: int, what: str) -> LimitExceededError:
        error = LimitExceededError(f"the body of {self!r} is longer than {max_bytes} bytes (max_bytes): {what}")
        as_client_error(error)
        return error
