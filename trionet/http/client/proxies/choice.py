"""Which proxy a request goes through: one that a program names, or those of the environment.

The variables are those that curl made customary, and they are read as HTTPX reads them: ``http_proxy``,
``https_proxy``, ``all_proxy``, ``no_proxy``, in either case, lower case first.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from .no_proxy import address_of, parse_direct
from .proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from ...url.url import Origin

__all__ = ["Proxies"]


class Proxies:
    """Which proxy is for which origin.

    Args:
        by_scheme: The proxies for ``http`` and ``https``; the one for ``all`` is used where the scheme has none.
        no_proxy: The value of ``NO_PROXY``: what is asked directly, separated by commas. ``example.org`` stands for
            itself and what is below it, ``.example.org`` for what is below; addresses and networks
            (``10.0.0.0/8``); each, networks apart, with or without a port, and a scheme; ``*`` for everything.

    Raises:
        ValueError: `no_proxy` has a port or a host that cannot be right.
    """

    def __init__(self, by_scheme: Mapping[str, Proxy], no_proxy: str = "") -> None:
        self._by_scheme = dict(by_scheme)
        entries = [entry for entry in re.split(r"[,\s]+", no_proxy) if entry]
        if "*" in entries:
            self._by_scheme.clear()
        self._direct = tuple(map(parse_direct, entries)) if self._by_scheme else ()

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
        address = address_of(host)
        direct = any(entry.covers(scheme, host, address, port) for entry in self._direct)
        return None if direct else proxy


def _variable(values: Mapping[str, str], name: str) -> tuple[str, str]:
    if name in values:
        return name, values[name].strip()
    upper = name.upper()
    if upper == "HTTP_PROXY" and "REQUEST_METHOD" in values:
        return upper, ""
    return upper, values.get(upper, "").strip()
