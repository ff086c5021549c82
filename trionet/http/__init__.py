"""HTTP/1.1.

Without I/O: fields, message heads, framing and bodies, and the machines of both sides. With it: a server's connection
and its exchanges, a client's connection, and the client with its pool.
"""

from __future__ import annotations

from .client.client import HTTPClient
from .client.connection import HTTPClientConnection
from .client.hooks import HTTPRequest
from .client.proxies.http_tunnel import to_http_tunnel
from .client.proxies.socks5_tunnel import to_socks5_tunnel
from .client.recipe import to_http_client
from .client.response import Response
from .client.statistics import HTTPClientStatistics
from .protocol.headers import Headers
from .protocol.limits import HTTPLimits
from .server.connection import HTTPServerConnection, to_http_server
from .server.exchange import Exchange
from .server.response_stream import ResponseStream
from .server.switching import to_connection

__all__ = [
    "Exchange",
    "HTTPClient",
    "HTTPClientConnection",
    "HTTPClientStatistics",
    "HTTPLimits",
    "HTTPRequest",
    "HTTPServerConnection",
    "Headers",
    "Response",
    "ResponseStream",
    "to_connection",
    "to_http_client",
    "to_http_server",
    "to_http_tunnel",
    "to_socks5_tunnel",
]
