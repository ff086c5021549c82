"""Which proxy a request goes through: one that a program names, or those of the environment.

The variables are those that curl made customary, and they are read as httpx reads them: ``http_proxy``,
``https_proxy``, ``all_proxy``, ``no_proxy``, in either case, lower case first.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from yarl import URL

from ..url.hosts import ascii_host, bracketed
from ..url.parts import Parts, kind_of
from ..url.url import DEFAULT_PORTS
from .auth import basic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..url.url import Origin

__all__ = ["Proxies", "Proxy"]

_BRACKETED: Final = re.compile(r"\A\[([^\[\]]*)\](/[0-9]+)?\Z")
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


class Proxies:
    """Which proxy is for which origin.

    Args:
        by_scheme: The proxy for ``http`` and ``https``, and for ``all`` where there is none for the scheme.
        no_proxy: The value of ``NO_PROXY``: what is asked directly, separated by commas. ``example.org`` stands for
            itself and what is below it, ``.example.org`` for what is below; addresses and networks
            (``10.0.0.0/8``); each, networks apart, with or without a port, and a scheme; ``*`` for everything.

    Raises:
        ValueError: `no_proxy` has a port or a network that is none.
    """

    def __init__(self, by_scheme: Mapping[str, Proxy], no_proxy: str = "") -> None:
        self._by_scheme = dict(by_scheme)
        entries = [entry for entry in re.split(r"[,\s]+", no_proxy) if entry]
        if "*" in entries:
            self._by_scheme.clear()
        self._direct = tuple(map(_parse_direct, entries)) if self._by_scheme else ()

    @classmethod
    def choose(cls, proxy: str | URL | Proxy | None, *, trust_env: bool) -> Proxies:
        """What a client is told to use: this proxy for everything, or else what the environment says, or none.

        Raises:
            ValueError: `proxy`, or a variable of the environment, is no proxy.
        """
        if proxy is not None:
            return cls.single(proxy if isinstance(proxy, Proxy) else Proxy.parse(proxy))
        return cls.from_environment() if trust_env else cls({})

    @classmethod
    def single(cls, proxy: Proxy) -> Proxies:
        """One proxy for everything."""
        return cls({"all": proxy})

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Proxies:
        """What the environment says.

        ``HTTP_PROXY`` is not looked at in a CGI program, where a client sets it by sending a Proxy field
        (CVE-2016-1000110); ``http_proxy`` is.

        Raises:
            ValueError: a variable has a value that is no proxy; the message names it.
        """
        values = os.environ if environ is None else environ
        found: dict[str, Proxy] = {}
        for scheme in ("http", "https", "all"):
            name, value = _variable(values, f"{scheme}_proxy")
            if value:
                try:
                    found[scheme] = Proxy.parse(value if "://" in value else f"http://{value}")
                except ValueError as exc:
                    raise ValueError(f"the environment variable {name}: {exc}") from exc
        return cls(found, _variable(values, "no_proxy")[1])

    def for_origin(self, origin: Origin) -> Proxy | None:
        """The proxy for what is asked there; None if it is asked directly."""
        if not self._by_scheme:
            return None
        scheme, port = origin.scheme, origin.port
        proxy = self._by_scheme.get(scheme) or self._by_scheme.get("all")
        if proxy is None or not self._direct:
            return proxy
        host = origin.host.rstrip(".")
        address = _address(host)
        direct = any(entry.covers(scheme, host, address, port) for entry in self._direct)
        return None if direct else proxy


def _variable(values: Mapping[str, str], name: str) -> tuple[str, str]:
    if name in values:
        return name, values[name].strip()
    upper = name.upper()
    if upper == "HTTP_PROXY" and "REQUEST_METHOD" in values:
        return upper, ""
    return upper, values.get(upper, "").strip()


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Direct(NamedTuple):
    """One entry of NO_PROXY."""

    scheme: str | None
    name: str
    below_only: bool
    network: _Network | None
    port: int | None

    def covers(self, scheme: str, host: str, address: _Address | None, port: int | None) -> bool:
        if self.scheme not in (None, scheme) or self.port not in (None, port):
            return False
        if self.network is not None:
            return address is not None and address in self.network
        return (host == self.name and not self.below_only) or host.endswith(f".{self.name}")


def _parse_direct(entry: str) -> _Direct:
    scheme, separator, rest = entry.rpartition("://")
    rest = rest.removesuffix("/")
    network = _network(rest)
    if network is not None:
        return _Direct(_scheme(scheme, separator), "", False, network, None)
    host, port = _split_port(rest, entry)
    network = _network(host)
    name = host.removeprefix("*").rstrip(".")
    below_only = name.startswith(".")
    name = name.lstrip(".")
    if not name.isascii() and network is None:
        try:
            name = ascii_host(name)
        except ValueError as exc:
            raise ValueError(f"NO_PROXY has an entry that is no host: {exc}") from exc
    return _Direct(_scheme(scheme, separator), name.lower(), below_only, network, port)


def _scheme(scheme: str, separator: str) -> str | None:
    return scheme.lower() if separator and scheme.lower() != "all" else None


def _split_port(text: str, entry: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        return text, None
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise ValueError(f"NO_PROXY has the entry {entry!r}, whose port is not a number from 1 to 65535")
    return host, int(port)


def _network(text: str) -> _Network | None:
    """An address, or a network with its prefix length."""
    text = _BRACKETED.sub(r"\1\2", text)
    address = _address(text)
    try:
        return ipaddress.ip_network(text if address is None else address, strict=False)
    except ValueError:
        return None


def _address(host: str) -> _Address | None:
    """An address without its zone. What is written ``::ffff:10.0.0.1`` is reached over IPv4 (RFC 4291 §2.5.5.2)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
