"""Looking for a delimiter in bytes that grow: nothing is searched twice."""

from __future__ import annotations

__all__ = ["DelimiterSearch"]


class DelimiterSearch:
    """Finds the first `delimiter` that ends within `max_bytes`, in a buffer that more is appended to between looks.

    Attributes:
        end: How many bytes there are up to and including the delimiter; None until it was found.
    """

    __slots__ = ("_delimiter", "_max_bytes", "_searched", "end")

    def __init__(self, delimiter: bytes, max_bytes: int) -> None:
        self._delimiter = delimiter
        self._max_bytes = max_bytes
        self._searched = 0
        self.end: int | None = None

    def is_over(self, buffer: bytearray) -> bool:
        """Whether the delimiter is there, or cannot come within the bound any more: `end` tells which."""
        size = len(self._delimiter)
        at = buffer.find(self._delimiter, self._searched, self._max_bytes)
        if at >= 0:
            self.end = at + size
            return True
        self._searched = max(0, len(buffer) - size + 1)
        return len(buffer) >= self._max_bytes
