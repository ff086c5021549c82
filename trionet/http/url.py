"""Where a request goes: an http:// or https:// URL, taken apart and checked once.

What goes on the wire is what was given. A signed URL is valid in one spelling only, so nothing is decoded, put into
another order or left out: not ``%2F`` or ``%7e``, not dot segments, not the ``?`` in front of an empty query
(RFC 3986 §2.2, §6.2.2.2). Quoted is only what may not stand in a URL (RFC 3986 §2): spaces, what is not ASCII,
quotation marks, backslashes, angle and curly brackets, ``^``, ``|``, backticks, and a ``%`` with no two hexadecimal
digits behind it. yarl's `URL` would spell much of this anew, so the splitting is done here; a `URL` is how the result
is shown.

Refused is what a request must not carry: what two readers could take for different hosts, and what would write a second
line into a request. Host names become ASCII by IDNA 2008 with UTS #46, as browsers do it.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

import idna
from yarl import URL

__all__ = [
    "DEFAULT_PORTS",
    "Origin",
    "Target",
    "as_text",
    "ascii_host",
    "bracketed",
    "has_scheme",
    "kind_of",
    "make_url",
    "parse_port",
    "parse_url",
    "without_userinfo",
]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PARTS: Final = re.compile(r"([^:/?#]+):(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(?:#(.*))?", re.DOTALL)
"""Scheme, authority, path, query with its ``?``, fragment (RFC 3986, Appendix B)."""
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_HOST_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
_PORT: Final = re.compile(r"0*([0-9]{1,5})")
_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]+")
_ODD: Final = re.compile(r"[^!#$&-;=?-\[\]_a-z~%]+|%(?![0-9A-Fa-f]{2})")
"""What may not stand in a URL: neither reserved nor unreserved nor percent-encoded (RFC 3986 §2)."""
_USERINFO: Final = re.compile(r"^([^/?#@]*//)?(?:[^/?#]*@|[^/?#@:\[]*:(?![0-9]*(?:[/?#]|$)).*@)", re.DOTALL)
"""User name and password; also where a password has a ``/``, ``?`` or ``#``, so that the rest looks like a port."""
_MAX_HOST: Final = 254
"""Characters of a host name, with a dot at its end (RFC 1035 §2.3.4)."""


class Origin(NamedTuple):
    """Who is asked: what must be equal for a connection, or a credential, to be used again (RFC 9110 §4.3.1)."""

    scheme: str
    host: str
    """ASCII, lower case, without brackets; an IPv6 address may have a zone (``fe80::1%eth0``)."""
    port: int
    server_name: str | None = None
    """Whose certificate TLS asks for, where that is not the host's."""

    @property
    def authority(self) -> str:
        """The Host field: IPv6 in brackets and without its zone (RFC 6874 §4), the port unless the scheme's own."""
        name = bracketed(self.host)
        return name if self.port == DEFAULT_PORTS.get(self.scheme) else f"{name}:{self.port}"


class Target(NamedTuple):
    """What a request needs to know of a URL."""

    url: URL
    """Without userinfo; with the fragment."""
    origin: Origin
    authority: str
    """The origin's: the Host field."""
    target: str
    """Path and query as they were given; at least ``/``."""
    userinfo: tuple[str, str] | None
    """User name and password, decoded, if the URL has any."""


def parse_url(url: str | URL) -> Target:
    """Take a URL apart.

    Raises:
        TypeError: neither str nor `yarl.URL`.
        ValueError: not an http:// or https:// URL with a host that can be asked. The message shows no password.
    """
    return _parse(as_text(url))


def as_text(url: Any) -> str:
    """A str or `yarl.URL` as it is spelled.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(url, (str, URL)):
        raise TypeError(f"url must be a str like 'https://host.example/path' or a yarl.URL, not {kind_of(url)}")
    return str(url)


@lru_cache(maxsize=1024)
def _parse(url: str) -> Target:
    shown = repr(without_userinfo(url))
    if found := _CONTROL.search(url):
        raise ValueError(f"url {shown} has the control character {found[0]!r}; leave it out, or percent-encode it")
    scheme, authority, path, query, fragment = _split(url, shown)
    userinfo, at, place = authority.rpartition("@")
    host, port = _place(place, shown)
    target = (_quoted(path, shown) or "/") + _quoted(query, shown)
    origin = Origin(scheme, host, DEFAULT_PORTS[scheme] if port is None else port)
    return Target(
        url=make_url(scheme, _netloc(host, port), target if path or query else "", _quoted(fragment, shown)),
        origin=origin,
        authority=origin.authority,
        target=target,
        userinfo=_userinfo(userinfo, shown) if at else None,
    )


def make_url(scheme: str, netloc: str, target: str, fragment: str = "") -> URL:
    """A `URL` that shows exactly this.

    yarl has no room for the ``?`` of an empty query: it becomes the end of the path, so that ``str(url)`` has it.
    """
    if target.endswith("?") and target.count("?") == 1:
        return URL.build(scheme=scheme, authority=netloc, path=target, fragment=fragment, encoded=True)
    return URL(f"{scheme}://{netloc}{target}{'#' if fragment else ''}{fragment}", encoded=True)


def _split(url: str, shown: str) -> tuple[str, str, str, str, str]:
    """Scheme, authority, path, query with its ``?``, fragment."""
    if not has_scheme(url):
        raise ValueError(f"url {shown} has no scheme; it must begin with http:// or https://")
    match = _PARTS.fullmatch(url)
    assert match is not None
    scheme, authority, path, query, fragment = match.groups(default="")
    scheme = scheme.lower()
    _check_scheme(scheme, shown)
    if "\\" in authority:
        raise ValueError(f"url {shown} has a backslash in its host, which some take for a slash, so for another host")
    return scheme, authority, path, query, fragment


def has_scheme(text: str) -> bool:
    """Whether a URL, or Location, has a scheme: else it is relative to something (RFC 3986 §4.1)."""
    return _SCHEME.match(text) is not None


def _check_scheme(scheme: str, shown: str) -> None:
    if scheme in DEFAULT_PORTS:
        return
    if scheme in ("ws", "wss"):
        raise ValueError(
            f"url {shown} is a WebSocket's: use open_websocket(), or upgrade a connection with "
            f"to_websocket_client(); http:// and https:// are spoken here"
        )
    raise ValueError(f"url {shown} has the scheme {scheme!r}; http:// and https:// are spoken here")


def _place(place: str, shown: str) -> tuple[str, int | None]:
    """Host and port; None for the scheme's own."""
    match = _HOST_PORT.fullmatch(place)
    if match is None:
        raise ValueError(f"url {shown} cannot be understood: an IPv6 address, and that alone, stands in brackets")
    host, port = match.groups()
    if port and ":" in port:
        raise ValueError(f"url {shown} has more than one colon in its host: an IPv6 address stands in brackets")
    if not host:
        raise ValueError(f"url {shown} has no host")
    try:
        return _host(host), parse_port(port)
    except ValueError as exc:
        raise ValueError(f"url {shown}: {exc}") from exc


def _host(host: str) -> str:
    if not host.startswith("["):
        return ascii_host(host)
    if ":" not in host:
        raise ValueError("in brackets there can be an IPv6 address only")
    return ascii_host(host[1:-1].replace("%25", "%", 1))  # RFC 6874 §2


def parse_port(text: str | None) -> int | None:
    """The port behind a host; None where there is none, or only the colon (RFC 3986 §3.2.3).

    Raises:
        ValueError: it is not a number from 1 to 65535.
    """
    if not text:
        return None
    match = _PORT.fullmatch(text)
    port = int(match[1]) if match else 0
    if match and not port:
        raise ValueError("port 0 is one that nobody can be reached at; leave it out for the default")
    if not 1 <= port <= 65535:
        shown = text if len(text) <= 20 else f"{text[:20]}..."
        raise ValueError(f"port {shown!r} is not a number from 1 to 65535")
    return port


def _netloc(host: str, port: int | None) -> str:
    """Host and port as they stand in a URL: with the zone, whose ``%`` is encoded (RFC 6874 §2)."""
    name = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _quoted(text: str, shown: str) -> str:
    """Percent-encode what may not stand in a URL, as UTF-8, and leave everything else alone."""
    try:
        return _ODD.sub(lambda found: quote(found[0], safe=""), text)
    except UnicodeEncodeError:
        raise ValueError(
            f"url {shown} has half a surrogate pair, which is not text; percent-encode its bytes"
        ) from None


def _userinfo(userinfo: str, shown: str) -> tuple[str, str]:
    user, _, password = userinfo.partition(":")
    user, password = unquote(user), unquote(password)
    if _CONTROL.search(f"{user}{password}"):
        raise ValueError(f"url {shown} has a control character in its user name or password")
    return user, password


def without_userinfo(url: str) -> str:
    """A URL as it may be shown to people, malformed or not: without user name and password."""
    shown = _USERINFO.sub(lambda found: found[1] or "", url, count=1)
    if _ABSOLUTE.match(shown) or re.match("/(?!/)", shown):
        return shown
    return shown.rpartition("@")[2]  # where nobody can tell what is what, what is behind the last of them


def kind_of(value: Any) -> str:
    """What was given in the place of a URL; of bytes and the like only what they are: they may have a password too."""
    return repr(value) if value is None or isinstance(value, (int, float)) else type(value).__name__


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
