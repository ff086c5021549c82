"""Where a WebSocket client wants to go: a ws:// or wss:// URL, taken apart and checked (RFC 6455 §3)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import idna
from yarl import URL

__all__ = ["Target", "parse_url"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a handshake needs to know of a URL."""

    secure: bool
    host: str
    """As it stands in the Host field: ASCII, IPv6 in brackets, with the port unless it is the scheme's own."""
    target: str
    """Path and query, percent-encoded."""
    authorization: str | None
    """Value of the Authorization field, if the URL has user name and password."""


def parse_url(url: Any) -> Target:
    """Take a URL (str or `yarl.URL`) apart.

    Raises:
        TypeError: not a str.
        ValueError: not a ws:// or wss:// URL with a host and without a fragment.
    """
    if not isinstance(url, (str, URL)):
        raise TypeError(f"url must be a str like 'ws://host.example/path', not {url!r}")
    if any(character <= " " or character == "\x7f" for character in str(url)):
        raise ValueError(f"url {url!r} has a space or control character; percent-encode it")
    try:
        parts = URL(url)
        port = parts.explicit_port
    except (ValueError, UnicodeError) as exc:
        raise ValueError(f"url {url!r} cannot be understood: {exc}") from exc
    if parts.scheme not in ("ws", "wss"):
        raise ValueError(f"url {url!r} must begin with ws:// or wss://")
    if not parts.host:
        raise ValueError(f"url {url!r} has no host")
    if parts.raw_fragment:
        raise ValueError(f"url {url!r} has a fragment, which WebSocket URLs must not have (RFC 6455 §3)")
    host = _ascii_host(parts.host, url)
    default = 443 if parts.scheme == "wss" else 80
    return Target(
        secure=parts.scheme == "wss",
        host=host if port in (None, default) else f"{host}:{port}",
        target=parts.raw_path_qs or "/",
        authorization=_basic(parts.user, parts.password),
    )


def _ascii_host(host: str, url: object) -> str:
    if ":" in host:
        return f"[{host.partition('%')[0]}]"  # RFC 6874: a zone is this machine's own business
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as exc:
        raise ValueError(f"url {url!r}: {host!r} is not a host name: {exc}") from exc


def _basic(user: str | None, password: str | None) -> str | None:
    """RFC 7617, in UTF-8."""
    if user is None and password is None:
        return None
    credentials = f"{user or ''}:{password or ''}".encode()
    return f"Basic {base64.b64encode(credentials).decode('ascii')}"
