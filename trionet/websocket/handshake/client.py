"""The client's side of the opening handshake: ask, and believe only what the server proves (RFC 6455 §4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ...connection import Connection
from ...errors import LimitExceededError, LocalProtocolError, UpgradeFailedError, UpgradeRefusedError
from ...http.client import handshake_response
from ...http.client.connection import HTTPClientConnection
from ...own_recipe import OwnRecipe, refuse_unread
from ..protocol import extensions
from . import rules
from .settings import Agreement, Settings, make_keepalive
from .url import authorization, is_secure, parse_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yarl import URL

    from ...handle.detached import Detached
    from ...handle.recipe import Recipe
    from ...handle.wire import Wire
    from ...http.protocol.head import ResponseHead
    from ...http.protocol.headers import HeaderInput, Headers
    from ..connection import WebSocket
    from ..protocol.deflate import PerMessageDeflate

__all__ = ["WebSocketClientRecipe", "to_websocket_client"]


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

    The result is used once, in ``await conn.upgrade(...)``. Frames behind the server's response are the first messages.

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
        UpgradeRefusedError: the server answered something other than 101: `response` has status, headers and body.
            The handle is OPEN, after that response.
        UpgradeFailedError: the response is wrong, not HTTP, late or missing; or it is a refusal after which nothing can
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
    return WebSocketClientRecipe(
        is_secure(target), target.authority, target.target, subprotocols=names, extra=extra, settings=settings
    )


class WebSocketClientRecipe(OwnRecipe["WebSocket"]):
    """Sends a request and checks the response.

    Args:
        secure: Whether the connection has to be TLS, or must not be; None where the caller has seen to that.
        host: The Host field.
        target: Path and query.
        subprotocols: What to offer.
        extra: Additional fields.
        settings: What the WebSocket is to be like.
    """

    name = "to_websocket_client"
    sources = (Connection, HTTPClientConnection)
    takes = "a Connection or an HTTPClientConnection"

    def __init__(
        self,
        secure: bool | None,
        host: str,
        target: str,
        *,
        subprotocols: tuple[str, ...],
        extra: Headers,
        settings: Settings,
    ) -> None:
        self.limit_time(settings.handshake_timeout, "WebSocket handshake (to_websocket_client)")
        self._settings = settings
        self._secure = secure
        self._host = host
        self._path = target
        self._subprotocols = subprotocols
        self._extra = extra

    def check(self, source: Any) -> None:
        """As `OwnRecipe.check`. A step."""
        refuse_unread(source, source._unread(), "a WebSocket server")
        tls = source._transport.tls is not None
        if self._secure and not tls:
            raise LocalProtocolError(
                f"upgrade refused: wss:// needs TLS, and {source!r} is not TLS; "
                f"upgrade it with to_tls_client({self._host!r}) first, or use ws://"
            )
        if self._secure is False and tls:
            raise LocalProtocolError(
                f"upgrade refused: {source!r} is TLS, so the URL must begin with wss://, not ws://"
            )

    async def talk(self, wire: Wire) -> None:
        """As `OwnRecipe.talk`."""
        key = rules.new_key()
        wanted = self._settings.compression
        offer = None if wanted is None else extensions.make_offer(wanted)
        await wire.send_all(
            rules.request(self._path, self._host, key, self._subprotocols, extension=offer, extra=self._extra)
        )
        head = await handshake_response.read_head(wire, "the server")
        if head.status != 101:
            await self._refused(wire, head)
        subprotocol = rules.check_response(head, key, self._subprotocols)
        compression = extensions.check_agreement(head.headers.get_list(extensions.FIELD), wanted)
        self._agreed = Agreement(self._path, subprotocol, compression, head.headers)

    def make(self, capsule: Detached) -> WebSocket:
        """As `OwnRecipe.make`. A step."""
        return self._settings.websocket(capsule, self._agreed, client=True)

    async def _refused(self, wire: Wire, head: ResponseHead) -> NoReturn:
        what = f"the server answered the WebSocket handshake with {head.status} {head.reason}".rstrip()
        body, after = b"", ""
        try:
            body, usable = await handshake_response.read_body(wire, head, self._settings.max_refusal)
            after = "" if usable else "ends the connection with it"
        except LimitExceededError as exc:
            after = str(exc)
        response = handshake_response.HandshakeResponse(head.status, head.reason, head.headers, body)
        refused = UpgradeRefusedError(what, response)
        if not after:
            raise refused
        raise UpgradeFailedError(f"{what}, and {after}") from refused
