"""trionet: network connections for Trio that always have exactly one owner.

A handle lives in a scope and cannot be taken away while a task is using it. An upgrade (TCP to TLS, to WebSocket) moves
its connection to a new handle in one step and ends the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .capsule import Detached
from .connection import Connection
from .errors import (
    BodyNotReplayableError,
    HandleBrokenError,
    HandleBusyError,
    HandleClosedError,
    HandleMovedError,
    LimitExceededError,
    LocalProtocolError,
    PlaintextInjectionError,
    RemoteProtocolError,
    ScopeClosedError,
    TooManyRedirectsError,
    TrionetError,
    UpgradeFailedError,
    UpgradeRefusedError,
)
from .handle import Handle, Lease, Statistics
from .owner import DrainReport, Forced
from .ownership import Blocker, End, Phase, Reason
from .recipe import Recipe, handshake_deadline
from .scope import Scope, open_scope, open_tcp, open_unix
from .server import Limits, Server, ServerStatistics, serve, serve_tcp, serve_unix
from .tls import to_plaintext, to_tls_client, to_tls_server
from .transport.tls import TLSInfo
from .wire import Wire

if TYPE_CHECKING:
    from .websocket import CloseReason, ConnectionClosed, WebSocket, to_websocket_client, to_websocket_server

__all__ = [
    "Blocker",
    "BodyNotReplayableError",
    "CloseReason",
    "Connection",
    "ConnectionClosed",
    "Detached",
    "DrainReport",
    "End",
    "Forced",
    "Handle",
    "HandleBrokenError",
    "HandleBusyError",
    "HandleClosedError",
    "HandleMovedError",
    "Lease",
    "LimitExceededError",
    "Limits",
    "LocalProtocolError",
    "Phase",
    "PlaintextInjectionError",
    "Reason",
    "Recipe",
    "RemoteProtocolError",
    "Scope",
    "ScopeClosedError",
    "Server",
    "ServerStatistics",
    "Statistics",
    "TLSInfo",
    "TooManyRedirectsError",
    "TrionetError",
    "UpgradeFailedError",
    "UpgradeRefusedError",
    "WebSocket",
    "Wire",
    "handshake_deadline",
    "open_scope",
    "open_tcp",
    "open_unix",
    "serve",
    "serve_tcp",
    "serve_unix",
    "to_plaintext",
    "to_tls_client",
    "to_tls_server",
    "to_websocket_client",
    "to_websocket_server",
]

_WEBSOCKET = {"CloseReason", "ConnectionClosed", "WebSocket", "to_websocket_client", "to_websocket_server"}


def __getattr__(name: str) -> Any:
    """Load the WebSocket package when one of its names is first used: it costs more than the rest together."""
    if name not in _WEBSOCKET:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import websocket

    value = getattr(websocket, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
