"""A client's way to a WebSocket: take a URL apart, connect, shake hands, and name what went wrong."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionRejected, HandshakeError

from ...errors import UpgradeFailedError, UpgradeRefusedError
from ...http.url.hosts import bracketed
from ...tls import to_tls_client
from ...websocket.handshake.client import WebSocketClientRecipe
from ...websocket.handshake.rules import check_subprotocols
from .connection import WebSocketConnection, logger
from .options import split_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...connection import Connection
    from ...scope.scope import Scope
    from .endpoint import Endpoints
    from .options import Fields, Options

__all__ = ["Way", "client_recipe", "shake_hands", "take_apart"]


class Way:
    """Where to, and what to say there. Arguments: as `open_websocket`."""

    def __init__(
        self,
        host: str,
        port: int,
        resource: str,
        *,
        use_ssl: bool | ssl.SSLContext,
        subprotocols: Iterable[str] | None,
        extra_headers: Fields,
        options: Options,
    ) -> None:
        self._host = host
        self._port = port
        self._resource = resource
        self._context = _ssl_context(use_ssl)
        self._options = options
        authority = bracketed(host) if port in (80, 443) else f"{bracketed(host)}:{port}"
        self._recipe = client_recipe(authority, resource, subprotocols, extra_headers, options)

    async def go(self, scope: Scope) -> WebSocketConnection:
        """Connect, in this scope."""
        secure = "" if self._context is None else "s"
        logger.debug("Connecting to ws%s://%s:%d%s", secure, self._host, self._port, self._resource)
        connection = await scope.connect_tcp(self._host, self._port)
        if self._context is not None:
            try:
                connection = await connection.upgrade(to_tls_client(self._host, self._context))
            except UpgradeFailedError as exc:
                raise HandshakeError(str(exc)) from exc
        return await shake_hands(connection, self._recipe, self._options.queue_size, None)


def _ssl_context(use_ssl: object) -> ssl.SSLContext | None:
    if use_ssl is True:
        return ssl.create_default_context()
    if use_ssl is False:
        return None
    if isinstance(use_ssl, ssl.SSLContext):
        return use_ssl
    raise TypeError("`use_ssl` argument must be bool or ssl.SSLContext")


def client_recipe(
    host: str, resource: str, subprotocols: Iterable[str] | None, extra_headers: Fields, options: Options
) -> WebSocketClientRecipe:
    """The recipe that asks in trio-websocket's terms; what the connection is, the caller has seen to.

    Raises:
        TypeError, ValueError: a subprotocol or a field cannot be sent.
    """
    extra, more = split_fields(extra_headers)
    wanted = check_subprotocols(subprotocols or ())
    return WebSocketClientRecipe(
        None,
        host,
        resource,
        subprotocols=wanted + check_subprotocols(name for name in more if name not in wanted),
        extra=extra,
        settings=options.settings(),
    )


async def shake_hands(
    connection: Connection, recipe: WebSocketClientRecipe, queue_size: float, endpoints: Endpoints | None
) -> WebSocketConnection:
    """Become a WebSocket.

    Raises:
        ConnectionRejected: the server did not accept the handshake.
        HandshakeError: there was no response, or a wrong one.

    Cancellation: the connection is closed.
    """
    try:
        websocket = await connection.upgrade(recipe)
    except trio.ClosedResourceError as exc:
        raise HandshakeError(str(exc)) from exc
    except (UpgradeRefusedError, UpgradeFailedError) as exc:
        refused = exc if isinstance(exc, UpgradeRefusedError) else exc.__cause__
        if not isinstance(refused, UpgradeRefusedError):
            raise HandshakeError(str(exc)) from exc
        response = refused.response
        fields = tuple((name.lower(), value) for name, value in response.headers.raw)
        raise ConnectionRejected(response.status, fields, response.body) from exc
    assert isinstance(websocket, WebSocketConnection)
    websocket._set_up(queue_size, endpoints)
    return websocket


def take_apart(url: str, ssl_context: ssl.SSLContext | None) -> tuple[str, int, str, bool | ssl.SSLContext]:
    """Host, port, resource and `use_ssl` of a URL."""
    parts = urlsplit(str(url))  # a yarl.URL is as good
    if parts.scheme not in ("ws", "wss"):
        raise ValueError('WebSocket URL scheme must be "ws:" or "wss:"')
    if ssl_context is not None and parts.scheme == "ws":
        raise ValueError("SSL context must be None for ws: URL scheme")
    if parts.hostname is None:
        raise ValueError("URL host must not be None")
    secure = parts.scheme == "wss"
    port = parts.port if parts.port is not None else 443 if secure else 80
    query = f"?{parts.query}" if "?" in str(url) else ""
    return parts.hostname, port, f"{parts.path or '/'}{query}", secure if ssl_context is None else ssl_context
