"""The public face of ownership: `Scope`, the functions that open one thing for a block, and adoption."""

from __future__ import annotations

from .opening import open_http_client, open_scope, open_tcp, open_unix, open_websocket
from .scope import Scope

__all__ = ["Scope", "open_http_client", "open_scope", "open_tcp", "open_unix", "open_websocket"]
