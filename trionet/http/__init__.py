"""HTTP/1.1.

Without I/O: fields, message heads, framing and bodies, and the machines of both sides. With it: a server's connection
and its exchanges, a client's connection, and the client with its pool.
"""

from __future__ import annotations

from .client import HTTPClient, HTTPRequest
from .client_connection import HTTPClientConnection
from .client_recipe import to_http_client
from .exchange import Exchange
from .headers import Headers
from .limits import HTTPLimits
from .pool import HTTPClientStatistics
from .response import Response
from .response_stream import ResponseStream
from .server import HTTPServerConnection, to_http_server
from .switching import to_connection
from .tunnel import to_http_tunnel, to_socks5_tunnel

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
