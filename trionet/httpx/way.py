"""From an origin to a connection, as HTTPX's transport goes there: with what a request's extensions want of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx

from ..http.client.connector import Connector
from ..http.client.tunnel import to_http_tunnel
from ..http.url.url import DEFAULT_PORTS
from ..tls import to_tls_client
from .network_stream import NetworkStream

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Coroutine

    from ..connection import Connection
    from ..custody.owner import Owner
    from ..handle.recipe import Recipe
    from ..http.client.connection import HTTPClientConnection
    from ..http.client.pool import Site
    from ..http.client.proxy import Proxies, Proxy
    from ..http.protocol.limits import HTTPLimits
    from ..http.url.url import Origin
    from ..transport.socket_options import SocketOption
    from .trace import Step, Trace

__all__ = ["Settings", "connect"]


@dataclass(frozen=True)
class Settings:
    """What is the same for all connections of a transport."""

    limits: HTTPLimits
    ssl_context: ssl.SSLContext
    proxies: Proxies
    proxy_ssl_context: ssl.SSLContext | None
    """For TLS to a proxy; where there is none, HTTPX's own defaults, whatever was asked for the servers behind it."""
    trust_env: bool
    proxy_headers: list[tuple[bytes, bytes]]
    local_address: str | None
    unix_path: str | os.PathLike[str] | None
    socket_options: tuple[SocketOption, ...]

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """The proxy on the way to this origin, if any."""
        if self.unix_path is not None:
            return None
        return self.proxies.for_origin(origin._replace(scheme="http") if origin.scheme == "ws" else origin)


async def connect(settings: Settings, owner: Owner, site: Site, trace: Trace) -> HTTPClientConnection:
    """A connection to the origin of `site`. Raises and Cancellation: as `Connector.connect`."""
    return await _Way(settings, owner, trace).connect(site)


class _Way(Connector):
    """The way to one connection, told of as it is gone."""

    def __init__(self, settings: Settings, owner: Owner, trace: Trace) -> None:
        super().__init__(
            owner,
            limits=settings.limits,
            ssl_context=settings.ssl_context,
            proxies=settings.proxies,
            local_address=settings.local_address,
            socket_options=settings.socket_options,
            unix_path=settings.unix_path,
        )
        self._settings = settings
        self._trace = trace
        self._handshakes: dict[Recipe[Connection], dict[str, Any]] = {}

    def proxy_for(self, origin: Origin) -> Proxy | None:
        return self._settings.proxy_for(origin)

    async def _dial(self, origin: Origin, proxy: Proxy | None) -> Connection:
        return await _told(self._dialling(origin, proxy), super()._dial(origin, proxy))

    def _dialling(self, origin: Origin, proxy: Proxy | None) -> Step:
        settings = self._settings
        common = {"timeout": self._trace.connect_timeout, "socket_options": settings.socket_options}
        if settings.unix_path is not None:
            return self._trace.step("connection.connect_unix_socket", path=settings.unix_path, **common)
        host, port = (origin.host, origin.port) if proxy is None else (proxy.host, proxy.port)
        return self._trace.step(
            "connection.connect_tcp", host=host, port=port, local_address=settings.local_address, **common
        )

    def _way_through(self, origin: Origin, proxy: Proxy) -> list[Recipe[Connection]]:
        recipes = super()._way_through(origin, proxy)
        if origin.scheme == "ws" and proxy.scheme in DEFAULT_PORTS:
            recipes.append(self._tunnel(origin, proxy))  # RFC 6455 §4.1
        return recipes

    def _tls(self, host: str) -> Recipe[Connection]:
        return self._noted(super()._tls(host), self._settings.ssl_context, host)

    def _tls_to_proxy(self, proxy: Proxy) -> Recipe[Connection]:
        settings = self._settings
        context = settings.proxy_ssl_context or _default_context(settings.trust_env)
        return self._noted(to_tls_client(proxy.host, context, ["http/1.1"]), context, proxy.host)

    def _noted(self, recipe: Recipe[Connection], context: ssl.SSLContext, host: str) -> Recipe[Connection]:
        self._handshakes[recipe] = {"ssl_context": context, "server_hostname": host}
        return recipe

    def _tunnel(self, origin: Origin, proxy: Proxy) -> Recipe[Connection]:
        headers = self._settings.proxy_headers
        return to_http_tunnel(origin.host, origin.port, authorization=proxy.authorization, headers=headers)

    async def _upgrade(self, connection: Connection, recipe: Recipe[Connection]) -> Connection:
        handshake = self._handshakes.get(recipe)
        if handshake is None:
            return await super()._upgrade(connection, recipe)
        step = self._trace.step("connection.start_tls", **handshake, timeout=self._trace.connect_timeout)
        return await _told(step, super()._upgrade(connection, recipe))


async def _told(step: Step, opening: Coroutine[Any, Any, Connection]) -> Connection:
    """What `opening` opens, as the step says; closed, if the program's function that is told of it raises."""
    connection = None
    try:
        async with step:
            connection = await opening
            step.return_value = NetworkStream(connection)
    except BaseException:
        opening.close()
        if connection is not None:
            connection.abort()
        raise
    return connection


@cache
def _default_context(trust_env: bool) -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=trust_env)
