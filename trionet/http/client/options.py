"""What an HTTP client can be told when it is opened, for the signatures of all that open one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from http.cookiejar import CookieJar

    from yarl import URL

    from ...transport.socket_options import SocketOption
    from ..protocol.headers import HeaderInput, Headers
    from ..protocol.limits import HTTPLimits
    from .proxies.proxy import Proxy

__all__ = ["ClientOptions"]


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `open_http_client`, where they are described."""

    base_url: str | URL | None
    headers: HeaderInput | Headers
    max_connections: int
    max_connections_per_origin: int
    limits: HTTPLimits
    ssl_context: ssl.SSLContext | None
    proxy: str | URL | Proxy | None
    trust_env: bool
    cookies: bool | CookieJar
    auth: tuple[str, str] | None
    event_hooks: Mapping[str, Iterable[Callable[..., Any]]] | None
    follow_redirects: bool
    max_redirects: int
    allow_downgrade: bool
    local_address: str | None
    socket_options: Sequence[SocketOption]
    unix_path: str | bytes | os.PathLike[str] | None
