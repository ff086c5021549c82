"""From an origin to a connection for HTTPX: the client's way, told to the request's ``trace``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import httpx

from ..http.client.connector import Connector
from ..http.client.proxies.http_tunnel import to_http_tunnel
from ..tls import to_tls_client
from .network_stream import NetworkStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine

    from ..connection import Connection
    from ..custody.owner import Owner
    from ..handle.recipe import Recipe
    from ..http.client.connection import HTTPClientConnection
    from ..http.client.proxies.proxy import Proxy
    from ..http.url.url import Origin
    from .settings import TransportSettings
    from .trace import Trace, TracedStep

__all__ = ["connect"]


async def connect(settings: TransportSettings, owner: Owner, origin: Origin, trace: Trace) -> HTTPClientConnection:
    """A connection to `origin`. Raises and Cancellation: as `Connector.connect`."""
    return await _TracedConnector(settings, owner, trace).connect(origin)


class _TracedConnector(Connector):
    """Opens one connection, and tells of each of its steps."""

    def __init__(self, settings: TransportSettings, owner: Owner, trace: Trace) -> None:
        super().__init__(owner, settings)
        self._settings = settings
        self._trace = trace
        self._handshakes: dict[Recipe[Connection], dict[str, Any]] = {}

    async def _dial(self, origin: Origin, proxy: Proxy | None) -> Connection:
        return await _told(self._dialling(origin, proxy), super()._dial(origin, proxy))

    def _dialling(self, origin: Origin, proxy: Proxy | None) -> TracedStep:
        settings = self._settings
        common = {"timeout": self._trace.connect_timeout, "socket_options": settings.socket_options}
        if settings.unix_path is not None:
            return self._trace.step("connection.connect_unix_socket", path=settings.unix_path, **common)
        host, port = (origin.host, origin.port) if proxy is None else (proxy.host, proxy.port)
        return self._trace.step(
            "connection.connect_tcp", host=host, port=port, local_address=settings.local_address, **common
        )

    def _tls(self, host: str) -> Recipe[Connection]:
        return self._noted(super()._tls(host), self._settings.ssl_context, host)

    def _tls_to_proxy(self, host: str) -> Recipe[Connection]:
        settings = self._settings
        context = settings.proxy_ssl_context or _default_context(settings.trust_env)
        return self._noted(to_tls_client(host, context, ["http/1.1"]), context, host)

    def _noted(self, recipe: Recipe[Connection], context: ssl.SSLContext | None, host: str) -> Recipe[Connection]:
        self._handshakes[recipe] = {"ssl_context": context, "server_hostname": host}
        return recipe

    def _tunnel(self, proxy: Proxy, host: str, port: int) -> Recipe[Connection]:
        return to_http_tunnel(host, port, authorization=proxy.authorization, headers=self._settings.proxy_headers)

    async def _upgrade(self, connection: Connection, recipe: Recipe[Connection]) -> Connection:
        handshake = self._handshakes.get(recipe)
        if handshake is None:
            return await super()._upgrade(connection, recipe)
        step = self._trace.step("connection.start_tls", **handshake, timeout=self._trace.connect_timeout)
        return await _told(step, super()._upgrade(connection, recipe))


async def _told(step: TracedStep, opening: Coroutine[Any, Any, Connection]) -> Connection:
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
