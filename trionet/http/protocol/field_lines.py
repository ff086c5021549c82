"""The fields of a request as they came: lines that were checked, and are taken apart when somebody asks.

Clients repeat themselves. On a kept connection nearly every request has the same fields as the one before, byte for
byte; what differs is the request line. So the machine keeps the lines of the last head, and where the next one has the
same, it shares them with whatever was made of them. That they are the same is one comparison of bytes, so nothing is
accepted by it that was not accepted before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .headers import checked_headers, split_lines

if TYPE_CHECKING:
    from .framing import FieldSummary
    from .headers import Headers

__all__ = ["FieldLines"]


class FieldLines:
    """Checked field lines, shared by the heads of requests that have the same. Immutable, but for what it remembers.

    Attributes:
        wire: The lines, each with its CRLF, and the blank line behind them.
        summary: What they say about framing and connection.
    """

    __slots__ = ("_headers", "_lowered", "summary", "wire")

    def __init__(self, wire: bytes, summary: FieldSummary) -> None:
        self.wire = wire
        self.summary = summary
        self._headers: Headers | None = None
        self._lowered: tuple[list[tuple[bytes, bytes]], bool] | None = None

    @property
    def headers(self) -> Headers:
        """As `Headers`."""
        if self._headers is None:
            self._headers = checked_headers(split_lines(self.wire))
        return self._headers

    def lowered(self) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The fields with their names in lower case, which nobody may change; and whether one is about forwarding."""
        if self._lowered is None:
            fields = [(name.lower(), value) for name, value in split_lines(self.wire)]
            self._lowered = fields, any(b"forwarded" in name for name, _ in fields)
        return self._lowered

    def __len__(self) -> int:
        """How many fields there are."""
        return self.wire.count(b"\n") - 1
