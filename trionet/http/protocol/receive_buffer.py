"""Bytes that were received and not read yet: what a parser without I/O takes its input from.

Two things would make such a buffer slow. One is copying: nearly always a receive brings a whole message, and nothing is
left of the last one. Then the bytes are kept as they came, and read by moving a place in them; only where new bytes
continue a rest do they get copied, into a bytearray that grows in place. The other is searching: a head that trickles
in byte by byte must not be searched from its beginning with each of them, or 64 KiB of it would cost 2 GiB of
comparisons. So `cut` and `has_bare_newline` remember how far they have looked in vain, and go on from there.

The attributes are public because the fast path for request heads reads them in place; only this class and that path
move `at`.
"""

from __future__ import annotations

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer:
    """Received bytes, and how far they are read.

    Attributes:
        data: What was received.
        at: How far it is read.
        searched: How far `cut` has searched in vain.
    """

    __slots__ = ("_lines", "at", "data", "searched")

    def __init__(self, data: bytes = b"") -> None:
        self.data: bytes | bytearray = data
        self.at = 0
        self.searched = 0
        self._lines = 0

    def __len__(self) -> int:
        return len(self.data) - self.at

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        if self.at == len(self.data):
            self.data = data
            self.at = self.searched = self._lines = 0
            return
        rest = self.data if isinstance(self.data, bytearray) else bytearray(self.data)
        del rest[: self.at]
        rest += data
        self.searched = max(0, self.searched - self.at)
        self._lines = max(0, self._lines - self.at)
        self.data, self.at = rest, 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer if fewer are there; they stay."""
        return bytes(self.data[self.at : self.at + size])

    def take(self, size: int) -> bytes:
        """Read the next `size` bytes, fewer if fewer are there."""
        data, start = self.data, self.at
        if type(data) is bytes:
            taken = data[start : start + size]
        else:
            with memoryview(data) as view:  # a slice of the buffer itself would be a second copy
                taken = bytes(view[start : start + size])
        self.at = start + len(taken)
        return taken

    def cut(self, delimiter: bytes, max_bytes: int) -> bytes | None:
        """Read up to and including `delimiter`, if it ends within `max_bytes`; else None, and all stays.

        The search is resumed where it ended: always look for the same delimiter until it is found.
        """
        start = max(self.at, self.searched)
        limit = self.at + max_bytes
        found = self.data.find(delimiter, start, limit)
        if found < 0:
            self.searched = max(self.at, min(len(self.data), limit) - len(delimiter) + 1)
            return None
        self.searched = 0
        return self.take(found + len(delimiter) - self.at)

    def has_bare_newline(self) -> bool:
        """Whether there is an LF without its CR in what is there. Resumed, as `cut` is."""
        data, place = self.data, max(self.at, self._lines)
        while (place := data.find(b"\n", place)) >= 0:
            if place == self.at or data[place - 1] != 13:
                return True
            place += 1
        self._lines = len(data)
        return False

    def skip_lines(self, most: int) -> int:
        """Read the empty lines (CRLF) that come next, at most `most`: how many there were."""
        lines = 0
        while lines < most and self.data.startswith(b"\r\n", self.at):
            self.at += 2
            lines += 1
        return lines

    def clear(self) -> bytes:
        """Read all that is left."""
        return self.take(len(self.data) - self.at)
