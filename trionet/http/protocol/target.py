"""The target of a request: which form it has, and which host it names (RFC 9112 §3.2, §3.3).

A target has one of four forms: a path with its query (``/a?b``, nearly always), an absolute URL (to a proxy), ``*``
(OPTIONS) and ``host:port`` (CONNECT). An absolute URL names a host, and so does Host. Where the two differ, whoever
reads the request next may believe the other one, so they have to agree.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ...errors import RemoteProtocolError
from ...support.texts import shown_bytes
from .authority import is_authority, is_tunnel_target

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_host", "check_same_host", "check_target", "origin_form", "without_secrets"]

_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?]*+).*+")
_USERINFO: Final = re.compile(r"^((?:[^/]*//)?)[^/]*@")


def check_target(method: str, target: bytes) -> None:
    """Refuse a target that has none of the four forms, or not one that `method` has.

    Raises:
        RemoteProtocolError: it has not, or an absolute target names no host (RFC 9110 §4.2.1) or a user.
    """
    if method == "CONNECT":
        good = is_tunnel_target(target)
    elif target == b"*":
        good = method == "OPTIONS"
    else:
        good = (match := _ABSOLUTE.fullmatch(target)) is not None and _names_a_host(match[1], match[2])
    if not good:
        raise RemoteProtocolError(f"not a request target for {method} (RFC 9112 §3.2)")


def _names_a_host(scheme: bytes, authority: bytes) -> bool:
    if b"@" in authority:  # and it is not quoted: it may be a password
        raise RemoteProtocolError("the request target has a user name (RFC 9110 §4.2.4)")
    return is_authority(authority, may_be_empty=scheme.lower() not in (b"http", b"https"))


def check_host(hosts: Sequence[bytes], version: str) -> None:
    """Refuse values of Host that leave open whom a request is for (RFC 9112 §3.2, RFC 9110 §7.2).

    Raises:
        RemoteProtocolError: there is more than one, or none in HTTP/1.1, or it is not a host.
    """
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise RemoteProtocolError(f"{len(hosts)} Host fields; a request must have exactly one (RFC 9112 §3.2)")
    if hosts and not is_authority(hosts[0]):
        shown = "it has a user name" if b"@" in hosts[0] else shown_bytes(hosts[0], 64)
        raise RemoteProtocolError(f"Host is not a host with or without a port: {shown} (RFC 9110 §7.2)")


def check_same_host(target: str, host: str | None) -> None:
    """Refuse an absolute target that is for another host than Host says, which the client has to send alike.

    Raises:
        RemoteProtocolError: they differ (RFC 9112 §3.2).
    """
    authority, _ = _split(target)
    if authority is not None and host is not None and host.lower() != authority.lower():
        raise RemoteProtocolError(f"the target is for {authority[:64]!r}, Host says {host[:64]!r} (RFC 9112 §3.2)")


def origin_form(target: str) -> str:
    """Path and query of a target, as they stand in it; empty for ``*`` and ``host:port``, which have none."""
    return target if target[0] == "/" else _split(target)[1]


def _split(target: str) -> tuple[str | None, str]:
    """What an absolute target names: a host, and a path with its query. None and nothing for other forms."""
    _, mark, rest = target.partition("://")
    if not mark:
        return None, ""
    end = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    path = rest[end:]
    return rest[:end], path if path[:1] == "/" else f"/{path}"


def without_secrets(target: str) -> str:
    """A request target for logs and errors: without the query, and without user name and password."""
    return _USERINFO.sub(r"\1", re.split("[?#]", target, maxsplit=1)[0])
