"""The body of HTTPX's request, and how long each of its phases may take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import httpx
import trio

from ..errors import BodyNotReplayableError
from ..http.content import CHUNK, NOTHING, Chunks, Content, make_content
from ..support.generators import close_generator, has_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Paced", "Timeouts", "content_of"]

SMALL: Final = 16384
"""Bytes of a body in memory that go out together with the head: the system takes so many at once."""


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


class Paced(Content):
    """A body that is sent piece by piece. It moves the deadline of the exchange along, for each piece has its own.

    Args:
        pieces: Makes an iterator of the pieces: once, or as often as one likes.
        length: Bytes; None if that is not known.
        replayable: Whether it can be made again.
        timeouts: How long a piece may take, and the head of the response behind the last one.
        source: What HTTPX takes the pieces from. A generator is closed when no more of it is wanted.

    Attributes:
        scope: What the deadline is of; None when the head of the response has come.
        error: What the program that makes the body has raised.
        writing: Whether there is more of it, as far as is known.
        when_sent: Called when there is no more, if it is not None.
    """

    __slots__ = ("_pieces", "_source", "_timeouts", "error", "scope", "when_sent", "writing")

    def __init__(
        self,
        pieces: Callable[[], AsyncIterator[bytes]],
        length: int | None,
        replayable: bool,
        timeouts: Timeouts,
        source: Any = None,
    ) -> None:
        super().__init__(length, replayable, None, None)
        self._source = source
        self._pieces = pieces
        self._timeouts = timeouts
        self.scope: trio.CancelScope | None = None
        self.error: BaseException | None = None
        self.writing = True
        self.when_sent: Callable[[], Any] | None = None

    def chunks(self) -> Chunks:
        """As `Content.chunks`."""
        if self._used and not self.replayable:
            raise BodyNotReplayableError("this body was sent before, and can be produced only once")
        self._used = self.writing = True
        return _Pieces(self, self._pieces(), self._source)

    def give(self, phase: str) -> None:
        """What comes now has the time of this phase; of none, if it is the program's own business."""
        if self.scope is not None:
            seconds: float = getattr(self._timeouts, phase) if phase else math.inf
            self.scope.deadline = trio.current_time() + seconds


class _Pieces(Chunks):
    """One time that a body is made."""

    def __init__(self, body: Paced, pieces: AsyncIterator[bytes], source: Any) -> None:
        self._body = body
        self._pieces = pieces
        self._source = source
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        body = self._body
        body.give("")
        self._begun = True
        try:
            while (piece := await anext(self._pieces, None)) == b"":
                pass
        except BaseException as exc:
            body.error = exc
            raise
        if piece is None:
            body.writing = False
            if body.when_sent is not None:
                await body.when_sent()
            body.give("read")
            raise StopAsyncIteration
        body.give("write")
        return piece

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()
        if self._begun:  # else it is as it was given, and can be sent by another attempt of the program's
            await close_generator(self._source)


async def content_of(request: httpx.Request) -> Content:
    """The body as trionet takes it; a `Paced` one unless it is small. Cancellation: nothing has happened."""
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        data = b"".join([piece async for piece in stream])
        if len(data) > SMALL:
            pieces = make_content([data[start : start + CHUNK] for start in range(0, len(data), CHUNK)])
            return Paced(pieces.chunks, len(data), True, Timeouts.of(request))
        return make_content(data) if data else NOTHING
    if not isinstance(stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("an AsyncClient cannot send a synchronous body; use an async iterator")
    source = getattr(stream, "_stream", None)
    if has_ended(source):
        raise httpx.StreamConsumed
    # HTTPX leaves a generator to the garbage collector, which would find it some time later.
    return Paced(stream.__aiter__, None, False, Timeouts.of(request), source)
