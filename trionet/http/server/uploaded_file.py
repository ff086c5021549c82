"""A file that came in a form: small ones are in memory, others in a file that has no name, and so needs no removing."""

from __future__ import annotations

import io
import os
import tempfile
from typing import IO, TYPE_CHECKING, Final, Self

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["UploadedFile"]

_PIECE: Final = 65536
_MOST_PIECES: Final = 1024
"""Pieces that one write takes at most (IOV_MAX)."""
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

    __slots__ = ("_gathered", "_unwritten", "content_type", "file", "filename", "size")

    def __init__(self, filename: str, content_type: str | None) -> None:
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.file: IO[bytes] = io.BytesIO()
        self._gathered: list[bytes] = []
        self._unwritten = 0

    def __repr__(self) -> str:
        return f"<UploadedFile {self.filename[:64]!r}, {self.size} bytes>"

    @property
    def is_in_memory(self) -> bool:
        """Whether it is small enough to have been kept in memory."""
        return isinstance(self.file, io.BytesIO)

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
        if self._unwritten >= _BATCH or (to_disk and self.is_in_memory):
            await self._flush(to_disk=to_disk)

    async def _finish(self) -> Self:
        """It is complete."""
        await self._flush(to_disk=False)
        self.file.seek(0)
        return self

    async def _flush(self, *, to_disk: bool) -> None:
        gathered, self._gathered, self._unwritten = self._gathered, [], 0
        if to_disk or not self.is_in_memory:
            await trio.to_thread.run_sync(self._write, gathered)
        else:
            self.file.writelines(gathered)

    def _write(self, pieces: list[bytes]) -> None:
        if isinstance(before := self.file, io.BytesIO):
            self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - mode 0600, and mostly without a name
            pieces = [before.getvalue(), *pieces]
        fd = self.file.fileno()
        for at in range(0, len(pieces), _MOST_PIECES):
            some = pieces[at : at + _MOST_PIECES]
            written = os.writev(fd, some)
            if written < (size := sum(map(len, some))):  # the disk is nearly full
                rest = memoryview(b"".join(some))[written:size]
                while rest:
                    rest = rest[os.write(fd, rest) :]

    def _close(self) -> None:
        self.file.close()
