"""A proxy, as a URL names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from ...url.hosts import bracketed
from ...url.parts import Parts, kind_of
from ...url.url import DEFAULT_PORTS
from ..auth import basic

__all__ = ["Proxy"]

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_SPOKEN: Final = "http, https, socks5 or socks5h"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. Equal ones can share their connections."""

    scheme: str
    """``http``, ``https`` (TLS to the proxy), ``socks5`` (names are looked up here), ``socks5h`` (by the proxy)."""
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str | URL) -> Proxy:
        """The proxy that a URL names, such as ``http://user:secret@proxy.example:3128``.

        Raises:
            TypeError: neither str nor `yarl.URL`.
            ValueError: another scheme, no host, a path, or user name and password that cannot be sent.
        """
        if not isinstance(url, (str, URL)):
            raise TypeError(f"a proxy must be a URL like 'http://proxy.example:3128', not {kind_of(url)}")
        text = str(url)
        shown = f"proxy {_shown(text)!r}"
        if "://" not in text:
            raise ValueError(f"{shown} must begin with {_SPOKEN}, and '://'")
        parts = Parts.of(text, shown)
        proxy = cls(*_where(parts), *(parts.userinfo() or (None, None)))
        _check_credentials(proxy)
        return proxy

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization, if there are user name and password."""
        return None if self.username is None else basic(self.username, self.password or "")

    @property
    def remote_dns(self) -> bool:
        """Whether the proxy looks names up."""
        return self.scheme != "socks5"

    def __str__(self) -> str:
        """Its URL, without user name and password."""
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def _shown(url: str) -> str:
    """A proxy's URL, malformed or not, without what may be a user name and password: it has no path with an ``@``."""
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _where(parts: Parts) -> tuple[str, str, int]:
    if parts.scheme not in _PORTS:
        raise ValueError(f"{parts.shown} must begin with {_SPOKEN}, and '://'")
    host, port = parts.place()
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{parts.shown} has more behind its host and port, which means nothing for a proxy")
    return parts.scheme, host, port or _PORTS[parts.scheme]


def _check_credentials(proxy: Proxy) -> None:
    if proxy.username is None:
        return
    if proxy.scheme in DEFAULT_PORTS:
        basic(proxy.username, proxy.password or "")
    elif not all(1 <= len(text.encode()) <= 255 for text in (proxy.username, proxy.password or "")):
        raise ValueError(f"proxy {proxy}: user name and password for SOCKS have 1 to 255 bytes each (RFC 1929)")
