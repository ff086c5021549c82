"""What is the same for all connections of a transport, and how HTTPX says it."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from ..http.client.connector import ConnectOptions
from ..http.client.proxies.choice import Proxies
from ..http.client.proxies.proxy import Proxy
from ..http.protocol.limits import HTTPLimits
from ..http.url.url import DEFAULT_PORTS
from ..support.checks import check_count

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Sequence

    import httpx

    from ..http.url.url import Origin
    from ..transport.socket_options import SocketOption

__all__ = ["TransportSettings"]


class TransportSettings(ConnectOptions):
    """What is the same for all connections of a transport. Arguments: as `TrionetTransport`.

    Attributes:
        most: How many connections there may be.
        max_idle: How many of them are kept without a request.
        idle_timeout: For how many seconds those are kept.
        retries: How often connecting is tried again.
        proxy_ssl_context: For TLS to a proxy; where there is none, HTTPX's own defaults, whatever was asked for the
            servers behind it.
        trust_env: Whether the environment says where those look for certificates.
        proxy_headers: Further fields for the proxy.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        limits: httpx.Limits,
        proxy: httpx.Proxy | None,
        *,
        trust_env: bool,
        retries: int,
        unix_path: str | os.PathLike[str] | None,
        local_address: str | None,
        socket_options: Sequence[SocketOption],
    ) -> None:
        self.retries = check_count("retries", retries)
        self.most, self.max_idle, idle = _bounds_of(limits)
        self.idle_timeout = idle.idle_timeout
        self.trust_env = trust_env
        self.proxy_ssl_context = None if proxy is None else proxy.ssl_context
        self.proxy_headers = [] if proxy is None else list(proxy.headers.raw)
        through = None if proxy is None else _as_proxy(proxy)
        proxies = Proxies.choose(through, trust_env=trust_env and unix_path is None)
        super().__init__(idle, ssl_context, proxies, local_address, socket_options, unix_path)

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """As `ConnectOptions.proxy_for`; a WebSocket's is that of HTTP."""
        return super().proxy_for(origin._replace(scheme="http") if origin.scheme == "ws" else origin)

    def through_proxy(self, origin: Origin, target: str) -> tuple[str, list[tuple[bytes, bytes]]]:
        """What stands in the request line, and the fields that are for an HTTP proxy in front of http://."""
        proxy = self.proxy_for(origin) if origin.scheme == "http" else None
        if proxy is None or proxy.scheme not in DEFAULT_PORTS:
            return target, []
        fields = list(self.proxy_headers)
        if proxy.authorization is not None:
            fields.append((b"Proxy-Authorization", proxy.authorization.encode("ascii")))
        return f"http://{origin.authority}{target}", fields  # RFC 9112 §3.2.2


def _bounds_of(limits: httpx.Limits) -> tuple[int, int, HTTPLimits]:
    """How many connections there may be, how many of them without a request, and for how long those are kept."""
    most = sys.maxsize if limits.max_connections is None else limits.max_connections
    if most < 1:
        raise ValueError(f"limits.max_connections must be at least 1, or None, not {most!r}")
    kept = most if limits.max_keepalive_connections is None else limits.max_keepalive_connections
    expiry = math.inf if limits.keepalive_expiry is None else limits.keepalive_expiry
    return (most, kept, HTTPLimits(idle_timeout=expiry)) if expiry > 0 else (most, 0, HTTPLimits())


def _as_proxy(given: httpx.Proxy) -> Proxy:
    parsed = Proxy.parse(str(given.url))
    if given.auth is None:
        return parsed
    return Proxy(parsed.scheme, parsed.host, parsed.port, *given.auth)
