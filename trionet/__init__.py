"""trionet: network connections for Trio that always have exactly one owner.

A handle lives in a scope and cannot be taken away while a task is using it. An upgrade (TCP to TLS, HTTP, WebSocket)
moves its connection to a new handle in one step and ends the old one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .connection import Connection
from .custody.drain_report import DrainReport, Forced, Lost
from .errors import (
    BodyNotReplayableError,
    HandleBrokenError,
    HandleBusyError,
    HandleClosedError,
    HandleMovedError,
    HTTPClientError,
    HTTPStatusError,
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
from .handle import Handle, HandleSocket, Lease, PeerCredentials, Statistics
from .handle.detached import Detached
from .handle.recipe import Recipe
from .handle.wire import Wire
from .ownership import Blocker, End, Phase, Reason
from .pump import pump
from .scope.opening import open_http_client, open_scope, open_tcp, open_unix, open_websocket
from .scope.scope import Scope
from .server import Limits, Server, ServerStatistics, serve, serve_tcp, serve_unix, sniff, to_proxied
from .server.run import run
from .tls import to_plaintext, to_tls_client, to_tls_server
from .transport.proxy_header import ProxyHeader, ProxyTLS
from .transport.tls_info import TLSInfo

if TYPE_CHECKING:
    from .http import (
        Compression,
        EventStream,
        Exchange,
        Headers,
        HTTPClient,
        HTTPClientConnection,
        HTTPClientStatistics,
        HTTPException,
        HTTPLimits,
        HTTPRequest,
        HTTPServerConnection,
        MultiMapping,
        Response,
        ResponseStream,
        UploadedFile,
        forwarded_request_headers,
        forwarded_response_headers,
        to_connection,
        to_http_client,
        to_http_server,
        to_http_tunnel,
        to_socks5_tunnel,
    )
    from .metrics import MetricsHandler, metrics_handler
    from .server.http import http_handler, serve_http
    from .websocket import (
        CloseReason,
        ConnectionClosed,
        Fragments,
        PerMessageDeflate,
        WebSocket,
        WebSocketStatistics,
        broadcast,
        to_websocket_client,
        to_websocket_server,
    )

__all__ = [
    "Blocker",
    "BodyNotReplayableError",
    "CloseReason",
    "Compression",
    "Connection",
    "ConnectionClosed",
    "Detached",
    "DrainReport",
    "End",
    "EventStream",
    "Exchange",
    "Forced",
    "Fragments",
    "HTTPClient",
    "HTTPClientConnection",
    "HTTPClientError",
    "HTTPClientStatistics",
    "HTTPException",
    "HTTPLimits",
    "HTTPRequest",
    "HTTPServerConnection",
    "HTTPStatusError",
    "Handle",
    "HandleBrokenError",
    "HandleBusyError",
    "HandleClosedError",
    "HandleMovedError",
    "HandleSocket",
    "Headers",
    "Lease",
    "LimitExceededError",
    "Limits",
    "LocalProtocolError",
    "Lost",
    "MetricsHandler",
    "MultiMapping",
    "PeerCredentials",
    "PerMessageDeflate",
    "Phase",
    "PlaintextInjectionError",
    "ProxyHeader",
    "ProxyTLS",
    "Reason",
    "Recipe",
    "RemoteProtocolError",
    "Response",
    "ResponseStream",
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
    "UploadedFile",
    "WebSocket",
    "WebSocketStatistics",
    "Wire",
    "broadcast",
    "forwarded_request_headers",
    "forwarded_response_headers",
    "http_handler",
    "metrics_handler",
    "open_http_client",
    "open_scope",
    "open_tcp",
    "open_unix",
    "open_websocket",
    "pump",
    "run",
    "serve",
    "serve_http",
    "serve_tcp",
    "serve_unix",
    "sniff",
    "to_connection",
    "to_http_client",
    "to_http_server",
    "to_http_tunnel",
    "to_plaintext",
    "to_proxied",
    "to_socks5_tunnel",
    "to_tls_client",
    "to_tls_server",
    "to_websocket_client",
    "to_websocket_server",
]

_HTTP = (
    "Compression EventStream Exchange HTTPClient HTTPClientConnection HTTPClientStatistics HTTPException HTTPLimits"
    " HTTPRequest HTTPServerConnection Headers MultiMapping Response ResponseStream UploadedFile"
    " forwarded_request_headers forwarded_response_headers to_connection to_http_client to_http_server to_http_tunnel"
    " to_socks5_tunnel"
)
_WEBSOCKET = (
    "CloseReason ConnectionClosed Fragments PerMessageDeflate WebSocket WebSocketStatistics broadcast"
    " to_websocket_client to_websocket_server"
)
_LOADED_LATER = {
    name: module
    for module, names in {
        "trionet.http": _HTTP,
        "trionet.metrics": "MetricsHandler metrics_handler",
        "trionet.server.http": "http_handler serve_http",
        "trionet.websocket": _WEBSOCKET,
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    """Load HTTP, and WebSocket, when one of its names is first used: they cost more than the rest together.

    So does looking up the version of the installed package.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("trionet")
    if name not in _LOADED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LOADED_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
