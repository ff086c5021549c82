"""The scope of a request: what an application is told about it, as the specification's dictionary.

What is the same for all requests of a connection is put together once (`ConnectionScope`); a request copies it, and
adds its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from .http_access import read_head
from .tls_extension import tls_extension

if TYPE_CHECKING:
    from ..http import Exchange, HTTPServerConnection
    from ..transport.proxy_header import ProxyHeader
    from .options import AppOptions
    from .types import Scope

__all__ = ["ASGI_VERSION", "HTTP_SPEC_VERSION", "LIFESPAN_SPEC_VERSION", "WEBSOCKET_SPEC_VERSION", "ConnectionScope"]

ASGI_VERSION: Final = "3.0"
HTTP_SPEC_VERSION: Final = "2.3"
"""Starlette stops listening for disconnects where it finds 2.4: an idle stream of events would never end."""
WEBSOCKET_SPEC_VERSION: Final = "2.4"
LIFESPAN_SPEC_VERSION: Final = "2.0"

_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}
_WEBSOCKET_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {"websocket.http.response": {}}


class ConnectionScope:
    """What the scopes of one connection's requests have in common.

    Args:
        connection: The connection.
        options: Those of the server.
        state: What the lifespan has put there; each request gets a copy.
    """

    __slots__ = ("_extensions", "_forwarding", "_http", "_root_path", "_state", "_websocket", "client")

    def __init__(self, connection: HTTPServerConnection, options: AppOptions, state: dict[str, Any]) -> None:
        tls = connection.tls
        self.client = _address(connection.remote_address)
        server = _address(connection.local_address, unix=True)
        forwarding = options.forwarding
        header = connection.proxy_header
        # Behind the PROXY protocol the client that it names is judged: also where it names none.
        unknown = header is not None and header.source is None and not header.local
        trusted = not unknown and forwarding.trusts_peer(connection.remote_address, connection.local_address)
        self._forwarding = forwarding if trusted else None
        self._root_path = options.root_path
        self._state = state
        self._extensions = _EXTENSIONS if tls is None else {**_EXTENSIONS, "tls": tls_extension(tls)}
        self._http: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION},
            "http_version": "1.1",
            "server": server,
            "client": self.client,
            "scheme": "https" if tls is not None or _was_secure(header) else "http",
            "root_path": options.root_path,
            # Of each request; they are here so that a copy has the room.
            "method": "",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "headers": (),
            "state": {},
            "extensions": {},
        }

    def of_request(self, exchange: Exchange) -> Scope:
        """The scope of a request."""
        head, fields, is_forwarded = read_head(exchange)
        target = head.target
        if target[0] == "/":
            path, _, query = target.partition("?")
        else:
            path, query = exchange.path or target, exchange.query
        if self._root_path:
            path = self._below_root(path)
        scope = self._http.copy()
        scope["method"] = head.method
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = path.encode()
        scope["query_string"] = query.encode()
        scope["headers"] = fields
        scope["state"] = self._state.copy()
        scope["extensions"] = self._extensions.copy()
        if head.http_version != "1.1":
            scope["http_version"] = head.http_version
        if is_forwarded and self._forwarding is not None:
            self._forwarding.apply(scope)
        return scope

    def of_websocket(self, exchange: Exchange, subprotocols: list[str]) -> Scope:
        """The scope of a WebSocket."""
        scope = self.of_request(exchange)
        scope["type"] = "websocket"
        scope["asgi"] = {"version": ASGI_VERSION, "spec_version": WEBSOCKET_SPEC_VERSION}
        scope["scheme"] = scope["scheme"].replace("http", "ws")
        scope["extensions"] = {**_WEBSOCKET_EXTENSIONS}
        if "tls" in self._extensions:
            scope["extensions"]["tls"] = self._extensions["tls"]
        scope["subprotocols"] = subprotocols
        del scope["method"]
        return scope

    def _below_root(self, path: str) -> str:
        """The path below the root path, as the specification has it, also where the proxy has not stripped that."""
        root = self._root_path
        return path if path == root or path.startswith(f"{root}/") else root + path


def _was_secure(header: ProxyHeader | None) -> bool:
    """Whether the client spoke TLS with a proxy that says so."""
    return header is not None and header.tls is not None and header.tls.secure


def _address(address: Any, *, unix: bool = False) -> tuple[str, int | None] | None:
    """Host and port; for the server's own Unix socket, its path and None."""
    if isinstance(address, tuple):
        return str(address[0]), int(address[1])
    if not unix or not address:
        return None
    return (address.decode("utf-8", "surrogateescape") if isinstance(address, bytes) else str(address)), None
