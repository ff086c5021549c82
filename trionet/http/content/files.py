"""Content out of a file that was opened in binary mode, from where it stands to its end.

Files are read in a worker thread, for a disk can take its time, and nothing but the request may wait for it.
"""

from __future__ import annotations

import io
import os
import stat
from typing import Any, Final

import trio

from ...errors import LocalProtocolError
from ...transport.file_region import FileRegion
from .content import Chunks, Content

__all__ = ["CHUNK", "FileContent", "make_file_content"]

CHUNK: Final = 65536
"""Bytes that are read of a file at a time."""


def make_file_content(file: Any, name: str) -> Content:
    """The rest of a file as content; errors call it `name`.

    Raises:
        TypeError: it was opened in text mode.
    """
    if isinstance(file, io.TextIOBase) or hasattr(file, "encoding"):
        raise TypeError(f"{name} is a file in text mode, {file!r}; open it in binary mode: open(path, 'rb')")
    start = _position(file)
    return FileContent(file, start, None if start is None else _length(file, start))


def _position(file: Any) -> int | None:
    """Where a seekable file stands; None for one that cannot seek, such as a pipe."""
    try:
        return int(file.tell()) if file.seekable() else None
    except (AttributeError, OSError):
        return None


def _length(file: Any, start: int) -> int | None:
    """Bytes from `start` to the end, as far as that costs no reading.

    A file object around another one (`gzip.GzipFile`) has the other's descriptor, and its end is found by decoding all
    of it. So descriptors count only where nothing stands between.
    """
    if (fd := _descriptor(file)) is not None:
        status = os.fstat(fd)
        return max(0, status.st_size - start) if stat.S_ISREG(status.st_mode) else None
    if isinstance(file, io.BytesIO):
        return max(0, file.getbuffer().nbytes - start)
    return None


def _descriptor(file: Any) -> int | None:
    """The descriptor of a file whose bytes are those that the descriptor gives."""
    inner = getattr(file, "file", file)  # of tempfile.NamedTemporaryFile
    raw = inner.raw if isinstance(inner, (io.BufferedReader, io.BufferedRandom)) else inner
    return raw.fileno() if isinstance(raw, io.FileIO) else None


class FileContent(Content):
    """A file in binary mode, from where it stood to where it ended."""

    __slots__ = ("_file", "_start")

    def __init__(self, file: Any, start: int | None, length: int | None) -> None:
        super().__init__(length, start is not None, None, None)
        self._file = file
        self._start = start

    @property
    def region(self) -> FileRegion | None:
        """See `Content.region`."""
        if self.length is None or self._start is None or (fd := _descriptor(self._file)) is None:
            return None
        self._file.flush()  # what was written and waits in a buffer; a seek within that buffer would leave it there
        self._file.seek(self._start + self.length)  # as reading it would
        return FileRegion(fd, self._start, self.length)

    def chunks(self) -> Chunks:
        """See `Content.chunks`."""
        self._use(f"the file {self._file!r}")
        return FileChunks(self._file, self._start, self.length)


class FileChunks(Chunks):
    """Pieces out of a file, read in a thread; exactly `length` bytes where that was promised."""

    def __init__(self, file: Any, start: int | None, length: int | None) -> None:
        self._file = file
        self._seek = start
        self._length = length
        self._read = 0

    async def __anext__(self) -> bytes:
        size = CHUNK if self._length is None else min(CHUNK, self._length - self._read)
        data = await self._next(size) if size else b""
        if not data:
            self._check_whole()
            raise StopAsyncIteration
        self._read += len(data)
        return data

    async def _next(self, size: int) -> bytes:
        if isinstance(self._file, io.BytesIO):
            return self._read_some(size)
        # A read of a pipe may never return, so a cancellation does not wait for it; one of a disk's file does.
        abandon = self._length is None
        return await trio.to_thread.run_sync(self._read_some, size, abandon_on_cancel=abandon)

    def _read_some(self, size: int) -> bytes:
        if self._seek is not None:
            self._file.seek(self._seek)
            self._seek = None
        data = self._file.read(size)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"read() of {self._file!r} gave {type(data).__name__}, not bytes")
        return bytes(data)

    def _check_whole(self) -> None:
        if self._length is not None and self._read < self._length:
            raise LocalProtocolError(
                f"the file {self._file!r} ended after {self._read} of {self._length} bytes: it has become shorter "
                f"since the request began"
            )
