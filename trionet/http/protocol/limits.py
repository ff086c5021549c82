"""What an HTTP connection allows its peer, as one value, for both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...support.checks import check_count, check_flag, check_rate, check_seconds

__all__ = ["DEFAULT_LIMITS", "MAX_FIELDS", "MAX_HEAD", "HTTPLimits"]

MAX_HEAD: Final = 65536
"""Bytes of a head, or of a trailer section, at most, where nobody sets another bound."""
MAX_FIELDS: Final = 128
"""Fields in a head, or in a trailer section, likewise."""

_LEAST: Final = {
    "max_head": 64, "max_fields": 1, "max_target": 1, "max_blank_lines": 0, "max_informational": 0, "drain_bytes": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPLimits:
    """Bounds on an HTTP/1.1 connection. Durations are in seconds; ``math.inf`` switches a duration off.

    Attributes:
        max_head: Bytes of a head, and of a trailer section (431).
        max_fields: Fields in a head, and in a trailer section (431).
        max_target: Characters of a request target (414).
        max_blank_lines: Empty lines in front of a request, which some clients send after a body (400; RFC 9112 §2.2).
        max_informational: 1xx heads in front of a response.
        idle_timeout: How long a connection may wait for its next request, or a request's body for its next byte. A
            server closes it then, a client's pool drops it.
        head_timeout: How long the head of a request may take from its first byte (408).
        min_receive_rate: Bytes per second that a request's head or body has to come at while it is waited for, measured
            over 5 s (408 for a head, the end of the connection for a body); 0 for no such floor.
        send_timeout: How long a peer may take nothing of what is sent to it.
        drain_bytes: Bytes of an unread body that are read and dropped, so that the connection can be used again.
        drain_timeout: How long that may take. Beyond either bound the connection is closed.
        eof_is_gone: Whether a client that ends its direction counts as gone while it waits for a response, so that the
            connection's scope is cancelled: always, never (for clients that half-close and wait), or, if None, where
            nothing is lost by that (GET, HEAD, OPTIONS and TRACE: RFC 9110 §9.2.1) and for `stream`. A reset always
            counts. See `Exchange.eof_is_gone`.
        any_method: Whether a server gives methods that no standard has to its handler, and does not respond with 501.
    """

    max_head: int = MAX_HEAD
    max_fields: int = MAX_FIELDS
    max_target: int = 8192
    max_blank_lines: int = 4
    max_informational: int = 16
    idle_timeout: float = 75.0
    head_timeout: float = 20.0
    min_receive_rate: float = 0.0
    send_timeout: float = 60.0
    drain_bytes: int = 65536
    drain_timeout: float = 1.0
    eof_is_gone: bool | None = None
    any_method: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            check_count(name, getattr(self, name), least)
        for name in ("idle_timeout", "head_timeout", "send_timeout", "drain_timeout"):
            check_seconds(name, getattr(self, name))
        check_rate("min_receive_rate", self.min_receive_rate)
        check_flag("any_method", self.any_method)
        if self.eof_is_gone is not None:
            check_flag("eof_is_gone", self.eof_is_gone)


DEFAULT_LIMITS: Final = HTTPLimits()
