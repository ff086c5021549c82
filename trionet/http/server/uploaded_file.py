"""A file that came in a form: small ones are in memory, the others lie in the form's `Spill`."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Final, Self

import trio

from .spill import SpilledFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .spill import Spill

__all__ = ["UploadedFile"]

_PIECE: Final = 65536
_BATCH: Final = 2**20
"""Bytes that are gathered before they are written: each write is a visit to a worker thread."""


class UploadedFile:
    """A file of a form; made by `Exchange.form`, and open as long as its block.

    Attributes:
        filename: What its client calls it. Data like any other: it may be empty, a path, or another user's name; never
            open or write what it says.
        content_type: What its client says that it is; None if nothing.
        size: Bytes.
        file: The content as a seekable file in binary mode, for code that reads in a thread, or for
            ``exchange.respond(200, uploaded.file)``.
    """

    __slots__ = ("_gathered", "_spill", "_start", "_unwritten", "content_type", "file", "filename", "size")

    def __init__(self, filename: str, content_type: str | None, spill: Spill) -> None:
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.file: IO[bytes] = io.BytesIO()
        self._spill = spill
        self._start: int | None = None  # where it begins in the spill
        self._gathered: list[bytes] = []
        self._unwritten = 0

    def __repr__(self) -> str:
        return f"<UploadedFile {self.filename[:64]!r}, {self.size} bytes>"

    @property
    def is_in_memory(self) -> bool:
        """Whether it is small enough to have been kept in memory."""
        return self._start is None

    async def read(self) -> bytes:
        """All of it.

        Cancellation: waits for the disk.
        """
        return await self._in_thread(self._read_all)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the content from its beginning, in pieces of at most 64 KiB.

        Cancellation: waits for the disk.
        """
        at = 0
        while piece := await self._in_thread(lambda: self._read_at(at)):  # noqa: B023 - called at once
            yield piece
            at += len(piece)

    async def _in_thread(self, read: Callable[[], bytes]) -> bytes:
        if self.is_in_memory:
            await trio.lowlevel.checkpoint()
            return read()
        return await trio.to_thread.run_sync(read)

    def _read_all(self) -> bytes:
        self.file.seek(0)
        return self.file.read()

    def _read_at(self, at: int) -> bytes:
        self.file.seek(at)
        return self.file.read(_PIECE)

    # --- while it comes ------------------------------------------------------------------------------------------

    async def _take(self, data: bytes, *, to_disk: bool) -> None:
        """Add a piece. From the first one with `to_disk` on the file is on the disk."""
        self.size += len(data)
        self._gathered.append(data)
        self._unwritten += len(data)
        if to_disk and self._start is None:
            self._start = self._spill.size
        if self._start is not None and self._unwritten >= _BATCH:
            await self._write()

    async def _finish(self) -> Self:
        """It is complete."""
        if self._start is None:
            self.file = io.BytesIO(b"".join(self._gathered))
            self._gathered = []
        else:
            await self._write()
            self.file = io.BufferedReader(SpilledFile(self._spill, self._start, self.size), _PIECE)
        return self

    async def _write(self) -> None:
        gathered, self._gathered, self._unwritten = self._gathered, [], 0
        await trio.to_thread.run_sync(self._spill.append, gathered)
