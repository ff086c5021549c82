"""What `open_websocket` can be told, for the signatures of all that open one."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Sequence

    from yarl import URL

    from ..http.client.proxy import Proxy
    from ..http.protocol.headers import HeaderInput
    from ..transport.socket_options import SocketOption
    from .protocol.deflate import PerMessageDeflate

__all__ = ["WebSocketOptions"]


class WebSocketOptions(TypedDict, total=False):
    """The keyword arguments of `open_websocket`, where they are described."""

    subprotocols: Sequence[str]
    extra_headers: HeaderInput
    ssl_context: ssl.SSLContext | None
    proxy: str | URL | Proxy | None
    trust_env: bool
    compression: PerMessageDeflate | None
    max_message_size: int | None
    ping_interval: float | None
    ping_timeout: float | None
    handshake_timeout: float
    follow_redirects: bool
    max_redirects: int
    allow_downgrade: bool
    local_address: str | None
    socket_options: Sequence[SocketOption]
    unix_path: str | bytes | os.PathLike[str] | None
