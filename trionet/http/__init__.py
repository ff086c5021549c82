"""HTTP/1.1.

Without I/O: fields, message heads, framing and bodies, and the machines of both sides. With it: a server's connection
and its exchanges, a client's connection, and the client with its pool.

The client is loaded when one of its names is first used: a server starts in half the time without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..support.multi_mapping import MultiMapping
from .protocol.headers import Headers
from .protocol.limits import HTTPLimits
from .server.connection import HTTPServerConnection
from .server.exchange import Exchange
from .server.http_exception import HTTPException
from .server.recipe import to_http_server
from .server.response_stream import ResponseStream
from .server.switching import to_connection

if TYPE_CHECKING:
    from .client.client import HTTPClient
    from .client.connection import HTTPClientConnection
    from .client.hooks import HTTPRequest
    from .client.proxies.http_tunnel import to_http_tunnel
    from .client.proxies.socks5_tunnel import to_socks5_tunnel
    from .client.recipe import to_http_client
    from .client.response import Response
    from .client.statistics import HTTPClientStatistics
    from .server.compression import Compression
    from .server.event_stream import EventStream
    from .server.forwarding import forwarded_request_headers, forwarded_response_headers
    from .server.uploaded_file import UploadedFile

__all__ = [
    "Compression",
    "EventStream",
    "Exchange",
    "HTTPClient",
    "HTTPClientConnection",
    "HTTPClientStatistics",
    "HTTPException",
    "HTTPLimits",
    "HTTPRequest",
    "HTTPServerConnection",
    "Headers",
    "MultiMapping",
    "Response",
    "ResponseStream",
    "UploadedFile",
    "forwarded_request_headers",
    "forwarded_response_headers",
    "to_connection",
    "to_http_client",
    "to_http_server",
    "to_http_tunnel",
    "to_socks5_tunnel",
]

_LOADED_LATER: Final = {
    "Compression": "server.compression",
    "EventStream": "server.event_stream",
    "UploadedFile": "server.uploaded_file",
    "HTTPClient": "client.client",
    "HTTPClientConnection": "client.connection",
    "HTTPClientStatistics": "client.statistics",
    "HTTPRequest": "client.hooks",
    "Response": "client.response",
    "forwarded_request_headers": "server.forwarding",
    "forwarded_response_headers": "server.forwarding",
    "to_http_client": "client.recipe",
    "to_http_tunnel": "client.proxies.http_tunnel",
    "to_socks5_tunnel": "client.proxies.socks5_tunnel",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LOADED_LATER[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
