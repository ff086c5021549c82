"""Where a request goes: an http:// or https:// URL, taken apart and checked once.

What goes on the wire is what was given. A signed URL is valid in one spelling only, so nothing is decoded, put into
another order or left out: not ``%2F`` or ``%7e``, not dot segments, not the ``?`` in front of an empty query
(RFC 3986 §2.2, §6.2.2.2). yarl's `URL` would spell much of this anew, so `parts` does the splitting, and a `URL` is
how the result is shown.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from yarl import URL

from .hosts import bracketed
from .parts import Parts, kind_of

__all__ = ["DEFAULT_PORTS", "Origin", "Target", "as_text", "make_url", "parse_url"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_WEBSOCKET: Final = {"ws": "http", "wss": "https"}
"""RFC 6455 §3: the scheme of the request that a WebSocket begins as."""


class Origin(NamedTuple):
    """The server of a URL: what must be equal for a connection, or a credential, to be used again (RFC 9110 §4.3.1)."""

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


def parse_url(url: str | URL, *, websocket: bool = False) -> Target:
    """Take a URL apart.

    Args:
        url: ``http://`` or ``https://``.
        websocket: It is ``ws://`` or ``wss://`` instead; its origin is that of the request all the same.

    Raises:
        TypeError: neither str nor `yarl.URL`.
        ValueError: another scheme, or no host that can be asked. The message shows no password.
    """
    return _parse(as_text(url), websocket)


def as_text(url: Any) -> str:
    """A str or `yarl.URL` as it is spelled.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(url, (str, URL)):
        raise TypeError(f"url must be a str like 'https://host.example/path' or a yarl.URL, not {kind_of(url)}")
    return str(url)


@lru_cache(maxsize=1024)
def _parse(url: str, websocket: bool) -> Target:
    parts = Parts.of(url, schemes="ws:// or wss://") if websocket else Parts.of(url)
    scheme = _request_scheme(parts, websocket)
    host, port = parts.place()
    origin = Origin(scheme, host, DEFAULT_PORTS[scheme] if port is None else port)
    path, query = parts.quoted(parts.path), parts.quoted(parts.query)
    target = f"{path or '/'}{query}"
    return Target(
        url=make_url(parts.scheme, _netloc(host, port), target if path or query else "", parts.quoted(parts.fragment)),
        origin=origin,
        authority=origin.authority,
        target=target,
        userinfo=parts.userinfo(),
    )


def make_url(scheme: str, netloc: str, target: str, fragment: str = "") -> URL:
    """A `URL` that shows exactly this.

    yarl has no room for the ``?`` of an empty query: it becomes the end of the path, so that ``str(url)`` has it.
    """
    if target.endswith("?") and target.count("?") == 1:
        return URL.build(scheme=scheme, authority=netloc, path=target, fragment=fragment, encoded=True)
    return URL(f"{scheme}://{netloc}{target}{'#' if fragment else ''}{fragment}", encoded=True)


def _request_scheme(parts: Parts, websocket: bool) -> str:
    scheme = _WEBSOCKET.get(parts.scheme) if websocket else parts.scheme
    if scheme in DEFAULT_PORTS:
        return scheme
    if websocket:
        raise ValueError(f"{parts.shown} must begin with ws:// or wss://")
    if parts.scheme in _WEBSOCKET:
        raise ValueError(
            f"{parts.shown} is a WebSocket's: use open_websocket(), or upgrade a connection with "
            f"to_websocket_client(); it must be http:// or https://"
        )
    raise ValueError(f"{parts.shown} has the scheme {parts.scheme!r}; it must be http:// or https://")


def _netloc(host: str, port: int | None) -> str:
    """Host and port as they stand in a URL: with the zone, whose ``%`` is encoded (RFC 6874 §2)."""
    name = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"
