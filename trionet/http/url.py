"""Where a request goes: an http:// or https:// URL, taken apart and checked once.

yarl splits and percent-encodes. What it lets pass and a request must not carry is refused here: what two readers could
take for different hosts, and what would write a second line into a request. Host names become ASCII by IDNA 2008 with
UTS #46, as browsers do it.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

import idna
from yarl import URL

__all__ = ["DEFAULT_PORTS", "Origin", "Target", "ascii_host", "bracketed", "parse_url"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BLANK: Final = re.compile(r"[\x00-\x20\x7f-\x9f]")
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]+")
_TARGET: Final = re.compile(r"/[!-~]*")
_BRACKETS: Final = re.compile(r"[a-z]+://[^/?#]*\[", re.IGNORECASE)
_MAX_HOST: Final = 254
"""Characters of a host name, with a dot at its end (RFC 1035 §2.3.4)."""


class Origin(NamedTuple):
    """Who is asked: what must be equal for a connection, or a credential, to be used again (RFC 9110 §4.3.1)."""

    scheme: str
    host: str
    """ASCII, lower case, without brackets; an IPv6 address may have a zone (``fe80::1%eth0``)."""
    port: int


class Target(NamedTuple):
    """What a request needs to know of a URL."""

    url: URL
    """Without userinfo and fragment."""
    origin: Origin
    authority: str
    """The Host field: IPv6 in brackets and without its zone (RFC 6874 §4), the port unless it is the scheme's own."""
    target: str
    """Path and query, percent-encoded; at least ``/``."""
    userinfo: tuple[str, str] | None
    """User name and password, decoded, if the URL has any."""


def parse_url(url: str | URL) -> Target:
    """Take a URL apart.

    Raises:
        TypeError: neither str nor `yarl.URL`.
        ValueError: not an http:// or https:// URL with a host that can be asked.
    """
    if not isinstance(url, (str, URL)):
        raise TypeError(f"url must be a str like 'https://host.example/path' or a yarl.URL, not {url!r}")
    return _parse(url)


@lru_cache(maxsize=1024)
def _parse(url: str | URL) -> Target:
    if _BLANK.search(str(url)):
        raise ValueError(f"url {str(url)!r} has a space or control character; percent-encode it")
    try:
        parts = URL(url)
        port = parts.explicit_port
    except (ValueError, UnicodeError) as exc:
        raise ValueError(f"url {str(url)!r} cannot be understood: {exc}") from exc
    _check_scheme(parts, url)
    host = _host(parts, url)
    if port == 0:
        raise ValueError(f"url {str(url)!r} has port 0, which nobody can be reached at; leave it out for the default")
    origin = Origin(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme])
    target = parts.raw_path_qs or "/"
    if not _TARGET.fullmatch(target):
        raise ValueError(f"url {str(url)!r}: its path is not percent-encoded")
    return Target(
        url=parts.with_user(None).with_fragment(None),
        origin=origin,
        authority=bracketed(host) if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{bracketed(host)}:{port}",
        target=target,
        userinfo=_userinfo(parts, url),
    )


def _check_scheme(parts: URL, url: object) -> None:
    if parts.scheme in DEFAULT_PORTS:
        return
    if parts.scheme in ("ws", "wss"):
        raise ValueError(
            f"url {str(url)!r} is a WebSocket's: use open_websocket(), or upgrade a connection with "
            f"to_websocket_client(); http:// and https:// are spoken here"
        )
    if not parts.scheme:
        raise ValueError(f"url {str(url)!r} has no scheme; it must begin with http:// or https://")
    raise ValueError(f"url {str(url)!r} has the scheme {parts.scheme!r}; http:// and https:// are spoken here")


def _host(parts: URL, url: object) -> str:
    if not parts.host:
        raise ValueError(f"url {str(url)!r} has no host")
    if ":" not in parts.host and _BRACKETS.match(str(url)):
        raise ValueError(f"url {str(url)!r}: in brackets there can be an IPv6 address only")
    try:
        return ascii_host(parts.host)
    except ValueError as exc:
        raise ValueError(f"url {str(url)!r}: {exc}") from exc


def _userinfo(parts: URL, url: object) -> tuple[str, str] | None:
    user, password = parts.user, parts.password
    if user is None and password is None:
        return None
    if _CONTROL.search(f"{user}{password}"):
        shown = URL(str(url)).with_user(None)
        raise ValueError(f"url '{shown}' has a control character in its user name or password")
    return user or "", password or ""


def ascii_host(host: str) -> str:
    """A host name or IP address as it is looked up: ASCII, lower case.

    Raises:
        ValueError: it can be neither.
    """
    if ":" in host:
        return _ipv6(host)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError as exc:
            raise ValueError(f"{host!r} is not a host name: {exc}") from exc
    name = host.lower()
    if not _HOST.fullmatch(name) or len(name) > _MAX_HOST:
        raise ValueError(f"{host!r} is not a host name: labels of 1 to 63 letters, digits and '-', with dots between")
    return name


def _ipv6(host: str) -> str:
    address, percent, zone = host.partition("%")
    zone = zone.removeprefix("25") if zone != "25" else zone  # RFC 6874 writes %25 for the %, others do not
    try:
        plain = str(ipaddress.IPv6Address(address))
    except ValueError:
        raise ValueError(f"{host!r} is not an IPv6 address") from None
    if percent and not _ZONE.fullmatch(zone):
        raise ValueError(f"{host!r} has a zone that names no interface (RFC 6874)")
    return f"{plain}%{zone}" if percent else plain


def bracketed(host: Any) -> str:
    """A host as it stands in front of a port: an IPv6 address in brackets, and without its zone."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host
