"""WebSocket (RFC 6455): recipes that turn a byte stream into one, and the handle that it then is.

This package is loaded when one of its names is first used: trio-websocket, whose exceptions trionet's derive from, and
the websockets library take longer to load than the rest of trionet together.
"""

from __future__ import annotations

from .broadcast import broadcast
from .close_codes import CloseReason, ConnectionClosed
from .connection import WebSocket
from .fragments import Fragments
from .handshake.client import to_websocket_client
from .handshake.server import to_websocket_server
from .keepalive import WebSocketStatistics
from .protocol.deflate import PerMessageDeflate

__all__ = [
    "CloseReason",
    "ConnectionClosed",
    "Fragments",
    "PerMessageDeflate",
    "WebSocket",
    "WebSocketStatistics",
    "broadcast",
    "to_websocket_client",
    "to_websocket_server",
]
