"""WebSocket as an upgrade: the recipes for both sides of a connection, as a program calls them.

All of a handshake's checks come before the first byte that cannot be taken back. What the peer has sent behind its part
of the handshake are the first frames. `accepting` and `asking` do the talking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .handshake import rules
from .handshake.client import ClientRecipe
from .handshake.origins import check_origins
from .handshake.server import ServerRecipe
from .handshake.shared import Settings, make_keepalive
from .handshake.url import authorization, is_secure, parse_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yarl import URL

    from ..handle.recipe import Recipe
    from ..http.protocol.headers import HeaderInput
    from .connection import WebSocket
    from .handshake.origins import Origins
    from .protocol.deflate import PerMessageDeflate

__all__ = ["to_websocket_client", "to_websocket_server"]


def to_websocket_server(
    *,
    origins: Origins = None,
    subprotocols: Sequence[str] = (),
    extra_headers: HeaderInput = (),
    compression: PerMessageDeflate | None = None,
    max_message_size: int | None = 2**20,
    ping_interval: float | None = None,
    ping_timeout: float | None = None,
    handshake_timeout: float = 10.0,
) -> Recipe[WebSocket]:
    """Upgrade an `Exchange`, or a raw `Connection`, to WebSocket, as the server. The result is used once.

    Use it in ``await exchange.upgrade(...)`` or ``await conn.upgrade(...)``. On a raw connection the request is read
    first, unread bytes before all. What the client has sent behind its request are the first frames.

    Args:
        origins: Which web pages may open it: a list of origins such as ``"https://host.example"`` (also ``"null"``,
            and None for clients that send no Origin field, as those that are no browsers), or a function that is given
            the origin, or None, and returns whether it is allowed. The default asks nobody: right only where
            nothing depends on cookies or on the client's address.
        subprotocols: What this side speaks, best first; the first one that the client offers is chosen.
        extra_headers: Additional fields of the answer, such as Set-Cookie: pairs or a mapping.
        compression: What this side grants if the client offers permessage-deflate; None for no compression.
        max_message_size: Bytes of a received message at most, after decompression; a longer one closes with 1009. None
            for no limit.
        ping_interval: Seconds between two pings that are sent by themselves; None for none.
        ping_timeout: Seconds without a sign of life, while a pong is due or a send waits for the peer, after which the
            WebSocket is aborted; None for no limit. Any byte that the peer sends or takes is a sign of life.
        handshake_timeout: Seconds, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right: a field that the handshake sets itself, a line break in one;
            an origin that is none.

    Raises (in the upgrade):
        UpgradeRefusedError: the request is good HTTP but no acceptable handshake: it was answered with 426, 400 or, for
            its origin, 403 (`response`). The handle is OPEN, and the next byte read comes after the request; an
            exchange is over.
        UpgradeFailedError: the request is malformed, too long or has a body: answered with an error, the handle is
            CLOSED (`UPGRADE_FAILED`). Or there was none in time: the handle is OPEN, what came is unread.
        LocalProtocolError: the recipe was used before, or the source is neither a `Connection` nor an `Exchange`.
        Whatever the function `origins` raises: nothing was answered.

    Cancellation: before the answer the handle is OPEN again, what was received is unread; afterwards it is CLOSED.

    Source: RFC 6455 §4.2, §10.2; RFC 7692 §7.1.
    """
    names = rules.check_subprotocols(subprotocols)
    extra = rules.check_extra_headers(extra_headers)
    keepalive = make_keepalive(ping_interval, ping_timeout)
    settings = Settings(max_message_size, handshake_timeout, keepalive=keepalive, compression=compression)
    return ServerRecipe(names, extra, check_origins(origins), settings)


def to_websocket_client(
    url: str | URL,
    *,
    subprotocols: Sequence[str] = (),
    extra_headers: HeaderInput = (),
    compression: PerMessageDeflate | None = None,
    max_message_size: int | None = 2**20,
    ping_interval: float | None = None,
    ping_timeout: float | None = None,
    handshake_timeout: float = 10.0,
) -> Recipe[WebSocket]:
    """Upgrade a `Connection`, or an `HTTPClientConnection` that is idle, to WebSocket, as the client.

    The result is used once, in ``await conn.upgrade(...)``. Frames behind the server's answer are the first messages.

    Args:
        url: ``ws://`` or ``wss://``. Path, query and host are those of the request; user name and password are sent as
            Basic authorization. Nothing is connected to: that is done already, for ``wss://`` with TLS on it.
        subprotocols: What to offer, best first.
        extra_headers: Additional fields of the request, such as Origin or Cookie: pairs or a mapping.
        compression: What to offer; None for no compression. The server may decline: see `WebSocket.compression`.
        max_message_size: Bytes of a received message at most, after decompression; a longer one closes with 1009. None
            for no limit.
        ping_interval: Seconds between two pings that are sent by themselves; None for none.
        ping_timeout: Seconds without a sign of life, while a pong is due or a send waits for the peer, after which the
            WebSocket is aborted; None for no limit. Any byte that the peer sends or takes is a sign of life.
        handshake_timeout: Seconds, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right.

    Raises (in the upgrade):
        UpgradeRefusedError: the server answered something else than 101: `response` has status, headers and body.
            The handle is OPEN, after that answer.
        UpgradeFailedError: the answer is wrong, not HTTP, late or missing; or it is a refusal after which nothing can
            be read (it ends with the connection, or its body is longer than 64 KiB): the `UpgradeRefusedError` with its
            `response` is then the ``__cause__``. The handle is CLOSED.
        LocalProtocolError: unread bytes (the server must not speak first); ``wss://`` without TLS or ``ws://`` over it;
            the recipe was used before. Nothing has changed.

    Cancellation: before the request was sent the handle is OPEN again; afterwards it is CLOSED (`UPGRADE_FAILED`).

    Source: RFC 6455 §3, §4.1; RFC 7692 §7.1.
    """
    target = parse_url(url)
    names = rules.check_subprotocols(subprotocols)
    extra = rules.check_extra_headers(extra_headers, authorization(target))
    keepalive = make_keepalive(ping_interval, ping_timeout)
    settings = Settings(max_message_size, handshake_timeout, keepalive=keepalive, compression=compression)
    return ClientRecipe(
        is_secure(target), target.authority, target.target, subprotocols=names, extra=extra, settings=settings
    )
