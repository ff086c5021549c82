"""Which protocol a client begins with, on a port that serves several. Nothing is consumed by looking."""

from __future__ import annotations

from typing import Final, Literal

import trio

from ..connection import Connection
from ..support.checks import check_seconds
from ..tls.first_bytes import HEAD, is_client_hello

__all__ = ["sniff"]

MOST: Final = 24
"""Bytes that decide at the latest: the length of HTTP/2's preface, which begins like a request."""

_METHODS: Final = frozenset(
    b"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY"
    b" MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PRI PROPFIND PROPPATCH PUT QUERY"
    b" REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL".split()
)
"""IANA's registry of HTTP methods (RFC 9110 §16.1.1)."""
_TARGETS: Final = (b"/", b"* ", b"http:", b"https:")
"""How the target of a request begins, but that of CONNECT (RFC 9112 §3.2)."""

Kind = Literal["tls", "http", "other"]


async def sniff(connection: Connection, *, timeout: float = 10.0) -> Kind:
    """What a client begins with: ``"tls"``, ``"http"``, or ``"other"``. Every byte stays unread.

    As soon as the first bytes tell, and behind 24 of them at the latest. A line of some other protocol that begins as a
    request does (a registered method, in capitals, and a path) counts as HTTP. A client that says nothing in time, or
    ends the connection, is ``"other"``: many protocols wait for the server's greeting.

    Args:
        connection: Whose client speaks first.
        timeout: Seconds that this may take, as a handshake may; `math.inf` for no limit.

    Raises:
        HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.receive_some`.
        TypeError, ValueError: an argument cannot be right.

    Cancellation: not one byte is lost.

    Source: RFC 9112 §3, RFC 8446 §5.1.
    """
    if not isinstance(connection, Connection):
        raise TypeError(f"connection must be a trionet.Connection, not {connection!r}")
    check_seconds("timeout", timeout, positive=True)
    found: Kind | None = None

    def tells() -> bool:
        nonlocal found
        first = bytes(connection._leftover[:MOST])
        found = _kind(first)
        if found is None and len(first) == MOST:
            found = "http"  # nothing else has kept it open for so long
        return found is not None

    with trio.move_on_after(timeout):
        await connection._fill(tells)
    return found or "other"


def _kind(first: bytes) -> Kind | None:
    """What these first bytes are; None if more of them have to tell."""
    if not first:
        return None
    if is_client_hello(first):
        return "tls" if len(first) >= HEAD else None
    first = first.removeprefix(b"\r\n")  # which a server ignores in front of a request (RFC 9112 §2.2)
    if first in (b"", b"\r"):
        return None
    method, space, target = first.partition(b" ")
    if not space:
        return None if any(known.startswith(method) for known in _METHODS) else "other"
    if method not in _METHODS:
        return "other"
    if method == b"CONNECT":
        return "http"
    if target.startswith(_TARGETS):
        return "http"
    return None if any(begin.startswith(target) for begin in _TARGETS) else "other"
