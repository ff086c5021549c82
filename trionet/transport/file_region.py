"""A part of a file on its way to a socket without coming through this process: sendfile(2).

The system sends what it has of the file in its page cache. What it has not it would read from the disk, and the whole
loop would wait for that. So each piece is probed first (``preadv2`` with RWF_NOWAIT: its first and its last byte), and
read by a worker thread if it is not there. A file that was just written or read costs nothing but the probe.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import trio

from ..errors import LocalProtocolError
from ..support.texts import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileRegion"]

PIECE: Final = 2**20
"""Bytes that are probed, and sent, at a time: other tasks get their turn behind each."""

_NO_WAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


class FileRegion:
    """So many bytes of a regular file, from an offset on. Its length is that of the bytes that it stands for.

    The descriptor is the caller's, and has to stay open until the region is sent.
    """

    __slots__ = ("_count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self._count = count

    def __len__(self) -> int:
        return self._count

    def pieces(self) -> Iterator[FileRegion]:
        """The same, in pieces that are worth a turn each."""
        for done in range(0, self._count, PIECE):
            yield FileRegion(self.fd, self.offset + done, min(PIECE, self._count - done))

    async def fetch(self) -> None:
        """See that the system has this in memory. A checkpoint only if it has not.

        Cancellation: waits for the disk.
        """
        if self._count and not self._is_there():
            await trio.to_thread.run_sync(self._read)

    def _is_there(self) -> bool:
        return _can_read(self.fd, self.offset) and _can_read(self.fd, self.offset + self._count - 1)

    def _read(self) -> None:
        """Read it, so that the system keeps it; the bytes themselves are not wanted."""
        buffer = bytearray(65536)
        for offset in range(self.offset, self.offset + self._count, len(buffer)):
            os.preadv(self.fd, [buffer], offset)

    def send_some(self, sock: int, done: int) -> int:
        """How many bytes the system took at once of what is behind the first `done`. A step.

        Raises:
            BlockingIOError: it takes none now.
            LocalProtocolError: the file has become shorter.
            OSError: the connection is broken, or what `check` raises.
        """
        sent = os.sendfile(sock, self.fd, self.offset + done, self._count - done)
        if not sent:
            raise LocalProtocolError(
                f"the file ended {amount(self._count - done, 'byte')} before its end at {self.offset + self._count}: "
                f"it has become shorter since the request began"
            )
        return sent

    def check(self, done: int) -> None:
        """Whose fault an error of `send_some` was: raise the file's own error, if it is the file that cannot be read.

        Raises:
            OSError: the descriptor is closed, or the disk fails.
        """
        os.pread(self.fd, 1, self.offset + done)


def _can_read(fd: int, offset: int) -> bool:
    """Whether the system has this byte in memory; True where it cannot tell."""
    if not _NO_WAIT:
        return True
    try:
        os.preadv(fd, [bytearray(1)], offset, _NO_WAIT)
    except BlockingIOError:
        return False
    except OSError:  # a file system that does not know the flag
        return True
    return True
