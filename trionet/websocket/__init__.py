"""WebSocket (RFC 6455): recipes that turn a byte stream into one, and the handle that it then is.

This package is loaded when one of its names is first used: trio-websocket, whose exceptions trionet's derive from, and
the websockets library take longer to load than the rest of trionet together.
"""

from __future__ import annotations

from .closing import CloseReason, ConnectionClosed
from .connection import WebSocket
from .keepalive import WebSocketStatistics
from .recipes import to_websocket_client, to_websocket_server

__all__ = [
    "CloseReason",
    "ConnectionClosed",
    "WebSocket",
    "WebSocketStatistics",
    "to_websocket_client",
    "to_websocket_server",
]
