"""From an origin to an HTTP connection: the socket, the proxy, TLS, and HTTP on top, each as an upgrade of the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from ...connection import Connection
from ...handle.detached import Detached
from ...support.checks import check_kind
from ...tls import to_tls_client
from ...transport import connecting
from ...transport.addresses import check_local_address, unix_address
from ...transport.socket import SocketTransport
from ...transport.socket_options import check_socket_options, set_socket_options
from ..protocol.limits import HTTPLimits
from .proxies.way import called, go_through, through_http, way_through
from .recipe import to_http_client

if TYPE_CHECKING:
    import os
    import socket
    import ssl
    from collections.abc import Sequence

    from ...custody.owner import Owner
    from ...handle.recipe import Recipe
    from ...transport.socket_options import SocketOption
    from ..url.url import Origin
    from .connection import HTTPClientConnection
    from .proxies.choice import Proxies
    from .proxies.proxy import Proxy

__all__ = ["ConnectOptions", "Connector"]


class ConnectOptions:
    """How the connections of one client are opened. Arguments: as `open_http_client`.

    Raises:
        ValueError, TypeError: an argument cannot be right.
    """

    def __init__(  # noqa: PLR0917 - a value, made in three places
        self,
        limits: HTTPLimits,
        ssl_context: ssl.SSLContext | None,
        proxies: Proxies,
        local_address: str | None,
        socket_options: Sequence[SocketOption],
        unix_path: str | bytes | os.PathLike[str] | None,
    ) -> None:
        self.limits = check_kind("limits", limits, HTTPLimits, "a trionet.HTTPLimits")
        if ssl_context is not None:
            to_tls_client("localhost", ssl_context=ssl_context)  # checks it
        self.ssl_context = ssl_context
        self.proxies = proxies
        self.local_address = check_local_address(local_address)
        self.socket_options = check_socket_options(socket_options)
        if unix_path is not None:
            unix_address(unix_path, "connect to")  # checks it
        self.unix_path = unix_path

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """The proxy on the way to this origin, if any."""
        return None if self.unix_path is not None else self.proxies.for_origin(origin)


class Connector:
    """Opens connections.

    Args:
        owner: Owns them.
        options: How.
    """

    def __init__(self, owner: Owner, options: ConnectOptions) -> None:
        self._owner = owner
        self._options = options

    @enable_ki_protection
    async def connect(self, origin: Origin) -> HTTPClientConnection:
        """A new connection to `origin`.

        Raises:
            OSError: the origin, or the proxy in front of it, could not be reached.
            UpgradeFailedError, UpgradeRefusedError: TLS or the proxy did not work out.
            ScopeClosedError: the owner is closing.

        Cancellation: nothing stays open.
        """
        proxy = self._options.proxy_for(origin)
        connection: Any = await self._dial(origin, proxy)
        try:
            if proxy is not None:
                connection = await go_through(proxy, connection, self._way_through(origin, proxy), self._upgrade)
            if origin.scheme == "https":
                connection = await self._upgrade(connection, self._tls(origin.server_name or origin.host))
            http: HTTPClientConnection = await connection.upgrade(
                to_http_client(host=origin.authority, limits=self._options.limits)
            )
        except BaseException:
            connection.abort()
            raise
        return http

    async def _dial(self, origin: Origin, proxy: Proxy | None) -> Connection:
        options = self._options
        if options.unix_path is not None:
            sock = await connecting.unix_socket(options.unix_path)
        elif proxy is not None:
            sock = await connecting.tcp_socket(proxy.host, proxy.port, 0.25, options.local_address, called(proxy))
        else:
            sock = await connecting.tcp_socket(origin.host, origin.port, 0.25, options.local_address)
        return self._own(sock)

    def _own(self, sock: socket.socket) -> Connection:
        try:
            set_socket_options(sock, self._options.socket_options)
            self._owner.check_open("connecting")
            connection = Connection(Detached(SocketTransport(sock)))
            connection._seat(self._owner)
        except BaseException:
            sock.close()
            raise
        return connection

    def _way_through(self, origin: Origin, proxy: Proxy) -> list[Recipe[Connection]]:
        """The upgrades between the socket to the proxy and the origin."""
        return way_through(
            proxy,
            origin.host,
            origin.port,
            tls=self._tls_to_proxy,
            tunnel=self._tunnel,
            forwards=self._is_forwarded(origin),
        )

    def _is_forwarded(self, origin: Origin) -> bool:
        """Whether an HTTP proxy is asked to forward requests to it, by their whole URL, and not for a tunnel."""
        return origin.scheme == "http"

    async def _upgrade(self, connection: Connection, recipe: Recipe[Connection]) -> Connection:
        return await connection.upgrade(recipe)

    def _tls(self, host: str) -> Recipe[Connection]:
        return to_tls_client(host, self._options.ssl_context, ["http/1.1"])

    def _tls_to_proxy(self, host: str) -> Recipe[Connection]:
        return self._tls(host)

    def _tunnel(self, proxy: Proxy, host: str, port: int) -> Recipe[Connection]:
        return through_http(proxy, host, port)
