"""The names that programs import from ``trio_websocket._impl``, where they can be offered.

What they stand for is trionet's; of the other library's inner workings there is nothing here.
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
)

from .client import (
    connect_websocket,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    wrap_client_stream,
)
from .connection import WebSocketConnection, logger
from .options import CONN_TIMEOUT, MAX_MESSAGE_SIZE, MESSAGE_QUEUE_SIZE, RECEIVE_BYTES
from .request import WebSocketRequest, wrap_server_stream
from .server import WebSocketServer, serve_websocket
from .way import take_apart as _url_to_host

_TRIO_EXC_GROUP_TYPE = BaseExceptionGroup

__all__ = [
    "CONN_TIMEOUT",
    "MAX_MESSAGE_SIZE",
    "MESSAGE_QUEUE_SIZE",
    "RECEIVE_BYTES",
    "_TRIO_EXC_GROUP_TYPE",
    "CloseReason",
    "ConnectionClosed",
    "ConnectionRejected",
    "ConnectionTimeout",
    "DisconnectionTimeout",
    "Endpoint",
    "HandshakeError",
    "WebSocketConnection",
    "WebSocketRequest",
    "WebSocketServer",
    "_url_to_host",
    "connect_websocket",
    "connect_websocket_url",
    "logger",
    "open_websocket",
    "open_websocket_url",
    "serve_websocket",
    "wrap_client_stream",
    "wrap_server_stream",
]
