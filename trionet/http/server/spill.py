"""Where the files of one form lie that are not kept in memory: one after the other, in a file without a name.

One for all of them: a form of a thousand small files must not use up the descriptors of the whole process. Nothing has
to be removed, whatever happens, since the file has no name; its mode is 0600 all the same. All of it is for worker
threads, but `close`.
"""

from __future__ import annotations

import io
import os
import tempfile
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spill", "SpilledFile"]

_MOST_PIECES: Final = 1024
"""Pieces that one write takes at most (IOV_MAX)."""


class Spill:
    """A file that grows at its end.

    Attributes:
        size: Bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._file: IO[bytes] | None = None
        self._is_closed = False

    def append(self, pieces: Sequence[bytes]) -> None:
        """Write these behind what is there.

        Raises:
            OSError: the disk is full, or fails.
        """
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `close`
        fd = self._file.fileno()
        for at in range(0, len(pieces), _MOST_PIECES):
            some = pieces[at : at + _MOST_PIECES]
            size = sum(map(len, some))
            written = os.writev(fd, some)
            if written < size:  # the disk is nearly full
                rest = memoryview(b"".join(some))[written:]
                while rest:
                    rest = rest[os.write(fd, rest) :]
            self.size += size

    def read_into(self, buffer: Any, at: int) -> int:
        """Read what stands from there on: how many bytes.

        Raises:
            ValueError: it is closed.
        """
        if self._is_closed or self._file is None:
            raise ValueError("the file of a form is read after its block has ended")
        return os.preadv(self._file.fileno(), [buffer], at)

    def close(self) -> None:
        """Forget all of it."""
        self._is_closed = True
        if self._file is not None:
            self._file.close()


class SpilledFile(io.RawIOBase):
    """A part of a `Spill`, as a file of its own that can be read and sought in."""

    def __init__(self, spill: Spill, start: int, size: int) -> None:
        super().__init__()
        self._spill = spill
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As every file does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, in front of the file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As every file does."""
        with memoryview(buffer).cast("B") as view:
            count = self._spill.read_into(view[: max(0, min(len(view), self._size - self._at))], self._start + self._at)
        self._at += count
        return count
