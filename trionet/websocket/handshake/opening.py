"""From a URL to a WebSocket: the way there, the handshake, and the redirects that a server answers it with.

The way is that of an HTTP client (`http.client.connector`): the socket, the proxy, TLS, and an HTTP connection on top,
which becomes the WebSocket. What another origin may see of the request is decided where an HTTP client's redirects are
(`http.client.redirect`). Two things differ from a client: an HTTP proxy is asked for a tunnel also where there is no
TLS (RFC 6455 §4.1), and a connection is used again only for a redirect to the same origin.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict, Unpack

import trio

from ...errors import TooManyRedirectsError, UpgradeFailedError, UpgradeRefusedError
from ...http.client.connector import ConnectOptions, Connector
from ...http.client.proxies.choice import Proxies
from ...http.client.redirect import MAX_REDIRECTS, next_request
from ...http.protocol.limits import DEFAULT_LIMITS
from ...support.checks import check_count, check_flag
from ...support.texts import amount
from . import rules
from .client import WebSocketClientRecipe
from .settings import Settings, make_keepalive
from .url import authorization, parse_url, shown_url, with_http_scheme

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Sequence

    from yarl import URL

    from ...custody.owner import Owner
    from ...http.client.connection import HTTPClientConnection
    from ...http.client.handshake_response import HandshakeResponse
    from ...http.client.proxies.proxy import Proxy
    from ...http.client.redirect import Next
    from ...http.protocol.headers import HeaderInput, Headers
    from ...http.url.url import Origin, Target
    from ...transport.socket_options import SocketOption
    from ..connection import WebSocket
    from ..protocol.deflate import PerMessageDeflate

__all__ = ["Opening", "WebSocketOptions"]


class WayOptions(TypedDict, total=False):
    """The keyword arguments of `open_websocket` that are about the way to the server."""

    ssl_context: ssl.SSLContext | None
    proxy: str | URL | Proxy | None
    trust_env: bool
    local_address: str | None
    socket_options: Sequence[SocketOption]
    unix_path: str | bytes | os.PathLike[str] | None


class WebSocketOptions(WayOptions, total=False):
    """The keyword arguments of `open_websocket`, where they are described."""

    subprotocols: Sequence[str]
    extra_headers: HeaderInput
    compression: PerMessageDeflate | None
    max_message_size: int | None
    ping_interval: float | None
    ping_timeout: float | None
    handshake_timeout: float
    follow_redirects: bool
    max_redirects: int
    allow_downgrade: bool


class Opening:
    """One WebSocket on its way: ``await Opening(owner, url, ...).open()``. Arguments: as `open_websocket`.

    Raises:
        ValueError, TypeError: an argument cannot be right.
    """

    def __init__(
        self,
        owner: Owner,
        url: str | URL,
        *,
        subprotocols: Sequence[str] = (),
        extra_headers: HeaderInput = (),
        compression: PerMessageDeflate | None = None,
        max_message_size: int | None = 2**20,
        ping_interval: float | None = None,
        ping_timeout: float | None = None,
        handshake_timeout: float = 30.0,
        follow_redirects: bool = True,
        max_redirects: int = MAX_REDIRECTS,
        allow_downgrade: bool = False,
        **way: Unpack[WayOptions],
    ) -> None:
        self._target = parse_url(url)
        self._subprotocols = rules.check_subprotocols(subprotocols)
        self._headers = rules.check_extra_headers(extra_headers, authorization(self._target))
        Settings(max_message_size, handshake_timeout)  # checks them
        # One deadline for all of it, which the recipe of a single handshake must not come before.
        keepalive = make_keepalive(ping_interval, ping_timeout)
        self._settings = Settings(max_message_size, math.inf, keepalive=keepalive, compression=compression)
        self._timeout = handshake_timeout
        check_count("max_redirects", max_redirects)
        self._max_redirects = max_redirects if check_flag("follow_redirects", follow_redirects) else None
        self._allow_downgrade = check_flag("allow_downgrade", allow_downgrade)
        self._connector = _WebSocketConnector(owner, _connect_options(**way))

    async def open(self) -> WebSocket:
        """Connect, and shake hands, wherever that leads.

        Raises and Cancellation: as `open_websocket`. What is open then belongs to the owner.
        """
        target = self._target
        with trio.move_on_after(self._timeout):
            return await self._go(target, self._headers)
        raise UpgradeFailedError(
            f"opening a WebSocket to {shown_url(target.url)} did not finish within {self._timeout:g} s "
            f"(handshake_timeout)"
        )

    async def _go(self, target: Target, headers: Headers) -> WebSocket:
        """Ask; and where the response leads elsewhere, ask there."""
        followed = 0
        connection = await self._connect(target)
        while True:
            try:
                return await connection.upgrade(self._recipe(target, headers))
            except (UpgradeRefusedError, UpgradeFailedError) as exc:
                onward = self._next(exc, target, headers, followed)
                if onward is None:
                    raise
            before, target, headers = target, onward.target, onward.headers
            followed += 1
            if target.origin != before.origin or not _usable(connection):
                connection.abort()
                connection = await self._connect(target)

    async def _connect(self, target: Target) -> HTTPClientConnection:
        return await self._connector.connect(target.origin)

    def _recipe(self, target: Target, headers: Headers) -> WebSocketClientRecipe:
        return WebSocketClientRecipe(
            None,
            target.authority,
            target.target,
            subprotocols=self._subprotocols,
            extra=headers,
            settings=self._settings,
        )

    def _next(self, error: Exception, target: Target, headers: Headers, followed: int) -> Next | None:
        """Where the response leads to; None if it leads nowhere.

        Raises:
            TooManyRedirectsError, LocalProtocolError, RemoteProtocolError: it cannot be followed.
        """
        refused = error if isinstance(error, UpgradeRefusedError) else error.__cause__
        if self._max_redirects is None or not isinstance(refused, UpgradeRefusedError):
            return None
        response: HandshakeResponse = refused.response
        location = with_http_scheme((response.headers.get("Location") or "").strip(" "))
        onward = next_request(response.status, location, "GET", target, headers, allow_downgrade=self._allow_downgrade)
        if onward is not None and followed >= self._max_redirects:
            raise TooManyRedirectsError(
                f"the WebSocket handshake with {shown_url(target.url)} leads on to {shown_url(location)!r}, "
                f"after {amount(followed, 'redirect')}; at most {self._max_redirects} are followed (max_redirects)"
            ) from error
        return onward


def _connect_options(
    *,
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | URL | Proxy | None = None,
    trust_env: bool = True,
    local_address: str | None = None,
    socket_options: Sequence[SocketOption] = (),
    unix_path: str | bytes | os.PathLike[str] | None = None,
) -> ConnectOptions:
    proxies = Proxies.choose(proxy, trust_env=trust_env)
    return ConnectOptions(DEFAULT_LIMITS, ssl_context, proxies, local_address, socket_options, unix_path)


class _WebSocketConnector(Connector):
    """An HTTP client's, but for the tunnel that a WebSocket needs through every HTTP proxy."""

    def _is_forwarded(self, origin: Origin) -> bool:
        return False


def _usable(connection: HTTPClientConnection) -> bool:
    """Whether the connection is fit for the next handshake behind this response."""
    return connection._reuse.fit()
