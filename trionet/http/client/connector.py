"""From an origin to an HTTP connection: the socket, the proxy, TLS, and HTTP on top, each as an upgrade of the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from ...connection import Connection
from ...handle.detached import Detached
from ...support.checks import check_kind
from ...tls import to_tls_client
from ...transport import connecting
from ...transport.connecting import check_local_address, unix_address
from ...transport.socket import SocketTransport
from ...transport.socket_options import check_socket_options, set_socket_options
from ..protocol.limits import HTTPLimits
from .proxied import called, go_through, through_http, through_socks
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
    from .pool import Site
    from .proxy import Proxies, Proxy

__all__ = ["Connector"]


class Connector:
    """Opens connections for one client. Arguments: as `HTTPClient`."""

    def __init__(
        self,
        owner: Owner,
        *,
        limits: HTTPLimits,
        ssl_context: ssl.SSLContext | None,
        proxies: Proxies,
        local_address: str | None,
        socket_options: Sequence[SocketOption],
        unix_path: str | bytes | os.PathLike[str] | None,
    ) -> None:
        self._owner = owner
        self._limits = check_kind("limits", limits, HTTPLimits, "a trionet.HTTPLimits")
        if ssl_context is not None:
            to_tls_client("localhost", ssl_context=ssl_context)  # checks it
        self._ssl_context = ssl_context
        self._proxies = proxies
        self._local_address = check_local_address(local_address)
        self._socket_options = check_socket_options(socket_options)
        if unix_path is not None:
            unix_address(unix_path, "connect to")  # checks it
        self._unix_path = unix_path

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """The proxy through which this is asked, if any."""
        return None if self._unix_path is not None else self._proxies.for_origin(origin)

    @enable_ki_protection
    async def connect(self, site: Site) -> HTTPClientConnection:
        """A new connection to the origin of `site`.

        Raises:
            OSError: the origin, or the proxy in front of it, could not be reached.
            UpgradeFailedError, UpgradeRefusedError: TLS or the proxy did not work out.
            ScopeClosedError: the owner is closing.

        Cancellation: nothing stays open.
        """
        origin = site.origin
        proxy = self.proxy_for(origin)
        connection: Any = await self._dial(origin, proxy)
        try:
            if proxy is not None:
                connection = await go_through(proxy, connection, self._way_through(origin, proxy), self._upgrade)
            if origin.scheme == "https":
                connection = await self._upgrade(connection, self._tls(origin.server_name or origin.host))
            http: HTTPClientConnection = await connection.upgrade(
                to_http_client(host=origin.authority, limits=self._limits)
            )
        except BaseException:
            connection.abort()
            raise
        return http

    async def _dial(self, origin: Origin, proxy: Proxy | None) -> Connection:
        host, port = (origin.host, origin.port) if proxy is None else (proxy.host, proxy.port)
        if self._unix_path is not None:
            sock = await connecting.unix_socket(self._unix_path)
        else:
            name = "" if proxy is None else called(proxy)
            sock = await connecting.tcp_socket(host, port, 0.25, self._local_address, name)
        return self._own(sock)

    def _own(self, sock: socket.socket) -> Connection:
        try:
            set_socket_options(sock, self._socket_options)
            self._owner.check_open("connecting")
            connection = Connection(Detached(SocketTransport(sock)))
            connection._seat(self._owner)
        except BaseException:
            sock.close()
            raise
        return connection

    def _way_through(self, origin: Origin, proxy: Proxy) -> list[Recipe[Connection]]:
        """What comes between the socket to the proxy and the origin."""
        recipes: list[Recipe[Connection]] = []
        if proxy.scheme == "https":
            recipes.append(self._tls_to_proxy(proxy))
        if proxy.scheme in ("socks5", "socks5h"):
            recipes.append(through_socks(proxy, origin.host, origin.port))
        elif origin.scheme == "https":
            recipes.append(self._tunnel(origin, proxy))
        return recipes

    async def _upgrade(self, connection: Connection, recipe: Recipe[Connection]) -> Connection:
        return await connection.upgrade(recipe)

    def _tls(self, host: str) -> Recipe[Connection]:
        return to_tls_client(host, self._ssl_context, ["http/1.1"])

    def _tls_to_proxy(self, proxy: Proxy) -> Recipe[Connection]:
        return self._tls(proxy.host)

    def _tunnel(self, origin: Origin, proxy: Proxy) -> Recipe[Connection]:
        return through_http(proxy, origin.host, origin.port)
