"""Range requests: which bytes of a representation a client wants (RFC 9110 §14). Without I/O.

A Range can be an attack: hundreds of overlapping ranges would send a file hundreds of times (CVE-2011-3192), or take
quadratic time to be put in order (CVE-2025-62727). So there are few at most, and those that overlap become one.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_RANGES", "Span", "UnsatisfiableRangeError", "parse_range"]

MAX_RANGES: Final = 16
"""Ranges that are answered one by one; of more the whole representation is sent."""

Span = tuple[int, int]
"""The first byte, and the one behind the last."""

_SET: Final = re.compile(r"bytes[ \t]*=(.*)", re.IGNORECASE)
_ONE: Final = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")


class UnsatisfiableRangeError(Exception):
    """No byte of the representation is wanted, or the range is malformed: that is a 416 (RFC 9110 §15.5.17)."""


def parse_range(text: str, size: int) -> list[Span] | None:
    """The parts of a representation of `size` bytes that a Range asks for, in its order; None for the whole of it.

    It is None for other units than bytes, for more than `MAX_RANGES`, for none at all, and where nothing can be a part.
    Parts that overlap are joined, and all of them are in ascending order then.

    Raises:
        UnsatisfiableRangeError: the range is malformed, or lies behind the end.

    Source: RFC 9110 §14.1.2, §14.2.
    """
    match = _SET.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    parts = [part for part in (part.strip(" \t") for part in match[1].split(",")) if part]
    if not (size and 0 < len(parts) <= MAX_RANGES):
        return None
    spans = [span for part in parts if (span := _span(part, size)) is not None]
    if not spans:
        raise UnsatisfiableRangeError
    joined = _joined(spans)
    return None if len(joined) < len(spans) and joined == [(0, size)] else joined


def _span(part: str, size: int) -> Span | None:
    """The bytes of one range; None if it lies behind the end."""
    match = _ONE.fullmatch(part)
    if match is None or match[0] == "-":
        raise UnsatisfiableRangeError
    if not match[1]:  # so many bytes at the end
        count = min(int(match[2]), size)
        return (size - count, size) if count else None
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        raise UnsatisfiableRangeError
    return (first, min(last + 1, size)) if first < size else None


def _joined(spans: list[Span]) -> list[Span]:
    ordered = sorted(spans)
    joined = ordered[:1]
    for start, end in ordered[1:]:
        before, until = joined[-1]
        if start < until:
            joined[-1] = before, max(until, end)
        else:
            joined.append((start, end))
    return spans if len(joined) == len(spans) else joined
