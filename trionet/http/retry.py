"""Whether a request that failed may be sent again, and saying so in every error (RFC 9110 §9.2.2)."""

from __future__ import annotations

from typing import Final

from ..errors import TrionetError

__all__ = ["IDEMPOTENT", "mark", "mark_unsent"]

IDEMPOTENT: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
"""The methods whose requests mean the same when they are carried out twice (RFC 9110 §9.2.2)."""


def mark_unsent(exc: Exception) -> None:
    """Nothing of the request was sent before `exc`: another attempt is safe. A step."""
    _say(exc, True, "nothing of the request was sent: a retry is safe")


def mark(exc: Exception, method: str) -> None:
    """All or some of the request was sent before `exc`: another attempt is safe if `method` is idempotent. A step."""
    if method in IDEMPOTENT:
        _say(exc, True, f"{method} is idempotent: a retry is safe")
    else:
        _say(exc, False, f"{method} is not idempotent and may have been carried out: a retry is not safe")


def _say(exc: Exception, safe: bool, why: str) -> None:
    """Only the first judgement counts: it was made where it was known best what had happened."""
    if isinstance(exc, TrionetError):
        if exc.retry_safe is None:
            exc.retry_safe = safe
            exc.args = (f"{exc} ({why})", *exc.args[1:])
    elif isinstance(exc, OSError) and not hasattr(exc, "retry_safe"):
        exc.retry_safe = safe  # type: ignore[attr-defined]  # its message says it already
