"""The client's side of the opening handshake: ask, and believe only what the server proves (RFC 6455 §4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ...connection import Connection
from ...errors import LimitExceededError, LocalProtocolError, UpgradeFailedError, UpgradeRefusedError
from ...http.client import handshake_response
from ...http.client.connection import HTTPClientConnection
from ...support.texts import shown_bytes
from ..protocol import extensions
from . import rules
from .shared import Upgrading

if TYPE_CHECKING:
    from ...handle.wire import Wire
    from ...http.protocol.head import ResponseHead
    from ...http.protocol.headers import Headers
    from .shared import Settings

__all__ = ["ClientRecipe"]


class ClientRecipe(Upgrading):
    """Sends a request and checks the answer.

    Args:
        secure: Whether the connection has to be TLS, or must not be; None where the caller has seen to that.
        host: The Host field.
        target: Path and query.
        subprotocols: What to offer.
        extra: Additional fields.
        settings: What the WebSocket is to be like.
    """

    name = "to_websocket_client"
    client = True
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
        super().__init__(settings)
        self._secure = secure
        self._host = host
        self._path = target
        self._subprotocols = subprotocols
        self._extra = extra

    def check(self, source: Any) -> None:
        """As `OwnRecipe.check`. A step."""
        if unread := source._unread():
            raise LocalProtocolError(
                f"upgrade refused: {source!r} has unread bytes, but a WebSocket server must not speak first: "
                f"{shown_bytes(unread)}. Receive them first if they belong to the protocol before"
            )
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
        self._chosen = rules.check_response(head, key, self._subprotocols)
        self._agreed = extensions.check_agreement(head.headers.get_list(extensions.FIELD), wanted)
        self._peer_headers = head.headers

    async def _refused(self, wire: Wire, head: ResponseHead) -> NoReturn:
        what = f"the server answered the WebSocket handshake with {head.status} {head.reason}".rstrip()
        try:
            body, usable = await handshake_response.read_body(wire, head, self._settings.max_refusal)
        except LimitExceededError as exc:
            refused = UpgradeRefusedError(
                what, handshake_response.HandshakeResponse(head.status, head.reason, head.headers, b"")
            )
            raise UpgradeFailedError(f"{what}, and {exc}") from refused
        refused = UpgradeRefusedError(
            what, handshake_response.HandshakeResponse(head.status, head.reason, head.headers, body)
        )
        if usable:
            raise refused
        raise UpgradeFailedError(f"{what}, and ends the connection with it") from refused
