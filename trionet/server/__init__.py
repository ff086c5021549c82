"""Serving: accept connections, give each one its own scope, and drain them."""

from .limits import Limits
from .serve import Server, serve, serve_tcp, serve_unix

__all__ = ["Limits", "Server", "serve", "serve_tcp", "serve_unix"]
