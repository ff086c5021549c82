"""What HTTPX says about one request besides its head: its body, and how long each phase may take."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import httpx
import trio

from ..http.content import NOTHING, Content, make_content

__all__ = ["Body", "Timeouts", "content_of"]


class Timeouts(NamedTuple):
    """Seconds for each phase; `math.inf` for no limit."""

    connect: float = math.inf
    read: float = math.inf
    write: float = math.inf
    pool: float = math.inf

    @classmethod
    def of(cls, request: httpx.Request) -> Timeouts:
        """Those of one request."""
        given = request.extensions.get("timeout", {})
        return cls(**{name: seconds for name, seconds in given.items() if seconds is not None})


class Body:
    """HTTPX's body as an async iterator. It moves the deadline of the exchange along, for each piece has its own.

    Attributes:
        scope: What the deadline is of; None when the head of the response has come.
        error: What the program that makes the body has raised.
        writing: Whether there is more of it, as far as is known.
    """

    def __init__(self, stream: httpx.AsyncByteStream, timeouts: Timeouts) -> None:
        self._pieces = stream.__aiter__()
        self._timeouts = timeouts
        self.scope: trio.CancelScope | None = None
        self.error: BaseException | None = None
        self.writing = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._give(math.inf)  # how long the program takes for a piece is its own business
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self.writing = False
            self._give(self._timeouts.read)
            raise
        except BaseException as exc:
            self.error = exc
            raise
        self._give(self._timeouts.write)
        return piece

    async def aclose(self) -> None:
        """No more is wanted of it. Cancellation: is the program's business."""
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()

    def _give(self, seconds: float) -> None:
        if self.scope is not None:
            self.scope.deadline = trio.current_time() + seconds


async def content_of(request: httpx.Request) -> tuple[Content, Body | None]:
    """The body as trionet takes it; a `Body` where it is made while it is sent. Cancellation: nothing has happened."""
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        data = b"".join([piece async for piece in stream])
        return (make_content(data) if data else NOTHING), None
    if not isinstance(stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("an AsyncClient cannot send a synchronous body; use an async iterator")
    body = Body(stream, Timeouts.of(request))
    return make_content(body), body
