"""The interface of trio-websocket 0.12, on trionet: ``from trionet.interop import trio_websocket``.

It takes the place of ``import trio_websocket``: the same functions and classes with the same arguments, and the same
exceptions, which are trio-websocket's own. What is behind them is trionet's WebSocket, so what its contract promises
holds here too: a cancelled send cannot corrupt the connection, a flood cannot take the memory, every connection has an
owner.

The differences, all by intention, are listed in the documentation (WebSocket, "Programs for trio-websocket").

`to_trio_websocket` is the way in the other direction: from a connection of trionet's to the real trio-websocket.
"""

from __future__ import annotations

from trio_websocket import (
    CloseReason,
    ConnectionClosed,
    ConnectionRejected,
    ConnectionTimeout,
    DisconnectionTimeout,
    Endpoint,
    HandshakeError,
    __version__,
)

from . import _impl
from .client import (
    connect_websocket,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    wrap_client_stream,
)
from .connection import WebSocketConnection
from .real import TrioWebSocketStream, to_trio_websocket
from .request import WebSocketRequest, wrap_server_stream
from .server import WebSocketServer, serve_websocket

__all__ = [
    "CloseReason",
    "ConnectionClosed",
    "ConnectionRejected",
    "ConnectionTimeout",
    "DisconnectionTimeout",
    "Endpoint",
    "HandshakeError",
    "TrioWebSocketStream",
    "WebSocketConnection",
    "WebSocketRequest",
    "WebSocketServer",
    "__version__",
    "_impl",
    "connect_websocket",
    "connect_websocket_url",
    "open_websocket",
    "open_websocket_url",
    "serve_websocket",
    "to_trio_websocket",
    "wrap_client_stream",
    "wrap_server_stream",
]
