"""Conditional requests: what If-Match and its kin come to for a representation with these validators (RFC 9110 §13).

Without I/O. A field that is malformed is ignored, as the RFC asks for dates, except that an If-Match which names no
entity tag matches none.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .headers import Headers

__all__ = ["is_range_wanted", "parse_date", "precondition"]

_TAG: Final = re.compile(r'(W/)?"([!#-~\x80-\xff]*)"')


def precondition(headers: Headers, etag: str | None, modified: int | None) -> int:
    """The status that the conditions of a GET or HEAD lead to: 200 to go on, 304, or 412.

    Args:
        headers: Of the request.
        etag: Of the representation, with its quotes; None if it has none.
        modified: When it was last changed, in seconds since the epoch; None if that is not known.

    Source: RFC 9110 §13.2.2.
    """
    if (tags := headers.get("if-match")) is not None:
        if not _matches(tags, etag, weak=False):
            return 412
    elif _is_before(headers.get("if-unmodified-since"), modified):
        return 412
    if (tags := headers.get("if-none-match")) is not None:
        return 304 if _matches(tags, etag, weak=True) else 200
    since = parse_date(headers.get("if-modified-since"))
    return 304 if since is not None and modified is not None and modified <= since else 200


def is_range_wanted(headers: Headers, etag: str | None, modified: int | None) -> bool:
    """Whether a Range is to be looked at: there is no If-Range, or it names this very representation (§13.1.5)."""
    wanted = headers.get("if-range")
    if wanted is None:
        return True
    if wanted.startswith(('"', "W/")):
        return _matches(wanted, etag, weak=False)
    return modified is not None and parse_date(wanted) == modified


def parse_date(text: str | None) -> int | None:
    """An HTTP date in one of its three forms, in seconds since the epoch; None if it is not one (§5.6.7)."""
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        return None


def _is_before(text: str | None, modified: int | None) -> bool:
    since = parse_date(text)
    return since is not None and modified is not None and modified > since


def _matches(tags: str, etag: str | None, *, weak: bool) -> bool:
    """Whether one of the entity tags is this one, by the weak or the strong comparison (§8.8.3.2)."""
    if tags.strip() == "*":
        return True
    if etag is None or (own := _TAG.fullmatch(etag)) is None:
        return False
    return any(tag[2] == own[2] and (weak or not (tag[1] or own[1])) for tag in _TAG.finditer(tags))
