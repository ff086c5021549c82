"""Serving: accept connections, give each one its own scope, and drain them. `http` serves exchanges, and loads HTTP."""

from .limits import Limits
from .proxy_protocol import to_proxied
from .serve import serve, serve_tcp, serve_unix
from .server import Server, ServerStatistics
from .sniff import sniff

__all__ = ["Limits", "Server", "ServerStatistics", "serve", "serve_tcp", "serve_unix", "sniff", "to_proxied"]
