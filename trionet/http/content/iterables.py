"""Content out of memory and out of iterables, sync and async."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator
from typing import Any, Final

from .content import Chunks, Content
from .text import checked_piece

__all__ = ["NOTHING", "IteratedContent", "MemoryContent", "StreamedContent"]


class MemoryContent(Content):
    """All of it is there."""

    __slots__ = ()

    def __init__(self, data: bytes, content_type: str | None) -> None:
        super().__init__(len(data), True, content_type, data)

    def chunks(self) -> Chunks:
        """See `Content.chunks`."""
        return SyncChunks(iter((self.data,) if self.data else ()))


NOTHING: Final[Content] = MemoryContent(b"", None)
"""No body."""


class IteratedContent(Content):
    """An iterable of bytes; a collection can be iterated again, an iterator cannot."""

    __slots__ = ("_source",)

    def __init__(self, source: Iterable[Any], length: int | None) -> None:
        super().__init__(length, isinstance(source, Collection), None, None)
        self._source = source

    def chunks(self) -> Chunks:
        """See `Content.chunks`."""
        self._use(f"a {type(self._source).__name__}")
        return SyncChunks(iter(self._source))


class SyncChunks(Chunks):
    """Pieces out of an iterator."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            if data := checked_piece(piece):
                return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


class StreamedContent(Content):
    """An async iterable of bytes."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterable[Any]) -> None:
        super().__init__(None, False, None, None)
        self._source = source

    def chunks(self) -> Chunks:
        """See `Content.chunks`."""
        self._use(f"a {type(self._source).__name__}")
        return AsyncChunks(self._source.__aiter__())


class AsyncChunks(Chunks):
    """Pieces out of an async iterator."""

    def __init__(self, pieces: AsyncIterator[Any]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        while True:
            if data := checked_piece(await anext(self._pieces)):
                return data

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()
