"""What a client's errors are: of one base, and honest about whether the request may be sent again (RFC 9110 §9.2.2).

An error keeps the class that says what happened, such as `HandleBrokenError` or `ConnectionRefusedError`, and becomes
an `HTTPClientError` too. It calls a retry safe only where that is true and where a retry could help. An error that a
second attempt would meet again, such as a wrong certificate or a head that is too long, says nothing about a retry,
unless it has to warn of one.

Each error is judged once, where it is known best what had been sent: before anything was (`mark_unsent`), during an
exchange (`mark`), or behind a redirect (`mark_carried_out`). Later judgements do not change the first.
"""

from __future__ import annotations

import re
import ssl
from typing import Any, Final

import trio

from ...errors import (
    HTTPClientError,
    RemoteProtocolError,
    TrionetError,
    UpgradeFailedError,
    UpgradeRefusedError,
)

__all__ = ["IDEMPOTENT", "as_client_error", "mark", "mark_carried_out", "mark_unsent", "unreachable"]

IDEMPOTENT: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
"""The methods whose requests may be carried out twice without another effect (RFC 9110 §9.2.2)."""

_PASSING: Final = frozenset({408, 425, 429})
"""Statuses below 500 by which a proxy says that it may do later what it refuses now."""
_PASSING_REPLIES: Final = frozenset({1, 3, 4, 5, 6})
"""The same for the replies of SOCKS5 (RFC 1928 §6): it could not reach the host, which may change."""
_CERTIFICATE_ALERTS: Final = (
    "_ALERT_ACCESS_DENIED", "_ALERT_BAD_CERTIFICATE", "_ALERT_CERTIFICATE_EXPIRED", "_ALERT_CERTIFICATE_REQUIRED",
    "_ALERT_CERTIFICATE_REVOKED", "_ALERT_CERTIFICATE_UNKNOWN", "_ALERT_UNKNOWN_CA", "_ALERT_UNSUPPORTED_CERTIFICATE",
)  # fmt: skip
"""The ends of OpenSSL's names for the alerts about a certificate (RFC 8446 §6.2)."""
_OF_A_RETRY: Final = re.compile(r" \((?:[^()]*a retry is safe|nothing (?:of the request )?was sent)\)\Z")
"""The part of a message that speaks of a retry."""
_KINDS: Final[dict[Any, type[Any]]] = {}
"""Classes that are an `HTTPClientError` too, by the class that says what happened."""


def mark_unsent(exc: Exception) -> None:
    """Nothing of the request was sent before `exc`: another attempt is safe, if it can go better. A step."""
    if _lasts(exc):
        _say(exc, None, "nothing of the request was sent")
    else:
        _say(exc, True, "nothing of the request was sent: a retry is safe")


def mark(exc: Exception, method: str, *, lasts: bool = False) -> None:
    """All or some of the request was sent before `exc`: another attempt is safe if `method` is idempotent. A step.

    Args:
        exc: What the request has failed with.
        method: Of the request.
        lasts: Whether another attempt would fail in the same way.
    """
    if method not in IDEMPOTENT:
        _say(exc, False, f"{method} is not idempotent and may have been carried out: a retry is not safe")
    elif lasts or _rejects_certificate(exc):
        _say(exc, None, "")
    else:
        _say(exc, True, f"{method} is idempotent: a retry is safe")


def mark_carried_out(exc: Exception, method: str) -> None:
    """The server has carried out a request with `method` and redirected it, and then `exc` came. A step.

    What `exc` says of a retry so far is about the request behind the redirect. The program would repeat the first one.
    """
    if not isinstance(exc, HTTPClientError) or exc.retry_safe is False:
        return
    exc.retry_safe = False
    why = f" ({method} is not idempotent and was carried out: a retry is not safe)"
    if isinstance(exc, OSError) and exc.strerror is not None:
        exc.strerror = _OF_A_RETRY.sub("", exc.strerror) + why
    else:
        exc.args = (_OF_A_RETRY.sub("", str(exc)) + why, *exc.args[1:])


def as_client_error(exc: TrionetError) -> None:
    """Make `exc` an `HTTPClientError` besides what it is. A step."""
    if not isinstance(exc, HTTPClientError):
        exc.__class__ = _client_kind(exc.__class__)


def unreachable(exc: OSError) -> OSError:
    """The same error as an `HTTPClientError`: the class of a built-in exception cannot be changed."""
    error: Any = _client_kind(exc.__class__)(*exc.args)
    error.retry_safe = getattr(exc, "retry_safe", None)
    result: OSError = error
    return result


def _client_kind(kind: Any) -> type[Any]:
    """A class that is `kind` and `HTTPClientError`. It has the name of `kind`, which says what happened."""
    if kind not in _KINDS:
        names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        _KINDS[kind] = type(kind.__name__, (HTTPClientError, kind), names)
    return _KINDS[kind]


def _say(exc: Exception, safe: bool | None, why: str) -> None:
    """Put the judgement into `exc`, if it is the first."""
    if isinstance(exc, TrionetError) and not isinstance(exc, OSError) and exc.retry_safe is None:
        exc.retry_safe = safe
        if why:
            exc.args = (f"{exc} ({why})", *exc.args[1:])
        as_client_error(exc)


def _lasts(exc: BaseException | None) -> bool:
    """Whether a connection that could not be made will not be made by another attempt either."""
    if isinstance(exc, UpgradeRefusedError):
        code = exc.response if isinstance(exc.response, int) else exc.response.status
        return code < 500 and code not in (_PASSING_REPLIES if code < 100 else _PASSING)
    if isinstance(exc, UpgradeFailedError) and not isinstance(exc, trio.TooSlowError):
        cause = exc.__cause__
        return _lasts(cause) if isinstance(cause, (UpgradeRefusedError, RemoteProtocolError)) else _is_verdict(cause)
    return isinstance(exc, RemoteProtocolError) and not isinstance(exc.__cause__, EOFError)


def _rejects_certificate(exc: BaseException | None) -> bool:
    """Whether the server has said by an alert that it does not accept this side's certificate, or that it needs one.

    With TLS 1.3 the alert comes after the handshake, as a failure of the connection (RFC 8446 §4.4.2.4).
    """
    while exc is not None and not isinstance(exc, ssl.SSLError):
        exc = exc.__cause__
    return exc is not None and (exc.reason or "").endswith(_CERTIFICATE_ALERTS)


def _is_verdict(cause: BaseException | None) -> bool:
    """Whether a handshake failed because one side refused, and not because the connection broke."""
    return isinstance(cause, ssl.SSLError) or not isinstance(cause, (OSError, trio.BrokenResourceError))
