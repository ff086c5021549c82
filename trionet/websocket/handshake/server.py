"""The server's side of the opening handshake: read the request, check all of it, and only then answer (RFC 6455 §4.2).

A request that is good HTTP but cannot be accepted is answered, and the connection goes on behind it. One that is not,
or whose end cannot be told, is answered too, but nothing can be read after it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio

from ...connection import Connection
from ...errors import LimitExceededError, RemoteProtocolError, UpgradeFailedError, UpgradeRefusedError
from ...http.protocol.head import RequestHead, parse_request
from ...http.protocol.limits import MAX_HEAD
from ...http.protocol.outgoing import write_response
from ...http.server.exchange import Exchange
from ...support.texts import amount
from ...transport.linger import linger
from ..protocol import extensions
from . import rules
from .shared import Upgrading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...handle.wire import Wire
    from ...http.client.handshake_response import HandshakeResponse
    from ...http.protocol.headers import Headers
    from .origins import Decide
    from .shared import Settings

__all__ = ["ServerRecipe"]

EMPTY_LINES: Final = 16
"""How many may stand before a request (RFC 9112 §2.2 asks for one at least): an endless row is no request."""


class ServerRecipe(Upgrading):
    """Reads a request and accepts it."""

    name = "to_websocket_server"
    client = False
    sources = (Connection, Exchange)
    takes = "a Connection or an Exchange"
    _exchange: Exchange | None = None

    def __init__(
        self, subprotocols: tuple[str, ...], extra: Headers, allowed: Decide | None, settings: Settings
    ) -> None:
        super().__init__(settings)
        self._subprotocols = subprotocols
        self._extra = extra
        self._allowed = allowed

    def check(self, source: Any) -> None:
        """As `OwnRecipe.check`. A step."""
        if isinstance(source, Exchange):
            self._exchange = source

    async def talk(self, wire: Wire) -> None:
        """As `OwnRecipe.talk`."""
        head = await self._read_request(wire) if self._exchange is None else self._exchange._head
        try:
            asked = rules.check_request(head)
            if self._allowed is not None:
                rules.check_origin(asked.origins, self._allowed)
            self._chosen = rules.choose_subprotocol(asked.subprotocols, self._subprotocols)
            extension = self._choose_compression(asked.extensions)
        except rules.NotAcceptableError as exc:
            await wire.send_all(self._refusal(exc.answer))  # noqa: ASYNC120 - a cancellation outranks the refusal
            raise UpgradeRefusedError(f"no acceptable WebSocket handshake: {exc}", exc.answer) from None
        self._path = rules.resource_name(head.target)
        self._peer_headers = head.headers
        await wire.send_all(rules.accept_response(asked.key, self._chosen, extension, self._extra))

    def _choose_compression(self, values: Sequence[str]) -> str | None:
        """The field that accepts one of the client's offers, if there is one and it can be."""
        granted, self._agreed = self._settings.compression, None
        if not values:
            return None
        try:
            offers = extensions.parse_extensions(values)
        except ValueError as exc:
            raise rules.NotAcceptableError(400, str(exc)) from None
        accepted = None if granted is None else extensions.accept_offer(offers, granted)
        if accepted is None:
            return None
        self._agreed, field = accepted
        return field

    def _refusal(self, response: HandshakeResponse) -> bytes:
        """The bytes of a refusal; an exchange knows whether the connection goes on after it."""
        if self._exchange is None:
            return _wire_form(response)
        return self._exchange._refuse_upgrade(response.status, response.headers, response.body)

    async def _read_request(self, wire: Wire) -> RequestHead:
        """The request; one that is not HTTP, or has a body, is answered and fails the upgrade."""
        try:
            data = await wire.receive_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
            for _ in range(EMPTY_LINES // 2):
                if data == b"\r\n\r\n":
                    data = await wire.receive_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
            if not data:
                raise UpgradeFailedError(
                    f"the client ended the connection {amount(len(wire.unread), 'byte')} into its request"
                )
            data = data.removeprefix(b"\r\n")
            head = parse_request(data)
            if head.has_body:
                raise RemoteProtocolError("a WebSocket handshake has no body (Content-Length, Transfer-Encoding)")
        except LimitExceededError as exc:
            await _fail(wire, 431, f"the request head is longer than {MAX_HEAD} bytes", exc)
        except RemoteProtocolError as exc:
            await _fail(wire, exc.status_hint, str(exc), exc)
        return head


async def _fail(wire: Wire, status: int, text: str, cause: Exception) -> NoReturn:
    """Answer with an error, let the client read it, and fail the upgrade (RFC 9112 §9.6)."""
    await wire.send_all(_wire_form(rules.refusal(status, text, [("Connection", "close")])))
    wire.unread.clear()
    with suppress(trio.BrokenResourceError):
        await linger(wire.transport, end_sending=True)
    raise UpgradeFailedError(f"the request was answered with {status}: {text}") from cause


def _wire_form(response: HandshakeResponse) -> bytes:
    return write_response(response.status, response.reason, response.headers) + response.body
