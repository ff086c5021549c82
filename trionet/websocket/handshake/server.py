"""The server's side of the opening handshake: read the request, check all of it, and only then answer (RFC 6455 §4.2).

A request that is valid HTTP but cannot be accepted gets a response that says so, and the connection goes on. One that
is not valid, or whose end cannot be told, gets a response too, but nothing can be read after it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio

from ...connection import Connection
from ...errors import LimitExceededError, RemoteProtocolError, UpgradeFailedError, UpgradeRefusedError
from ...http.protocol.head import RequestHead, parse_request
from ...http.protocol.headers import Headers
from ...http.protocol.limits import MAX_HEAD
from ...http.protocol.outgoing import write_response
from ...http.server.exchange import Exchange
from ...own_recipe import OwnRecipe
from ...support.texts import amount
from ...transport.linger import linger
from ..protocol import extensions
from . import rules
from .origins import check_origins
from .settings import Agreement, Settings, make_keepalive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...handle.detached import Detached
    from ...handle.recipe import Recipe
    from ...handle.wire import Wire
    from ...http.client.handshake_response import HandshakeResponse
    from ...http.protocol.headers import HeaderInput
    from ..connection import WebSocket
    from ..protocol.deflate import PerMessageDeflate
    from .origins import Decide, Origins

__all__ = ["WebSocketServerRecipe", "to_websocket_server"]

EMPTY_LINES: Final = 16
"""Empty lines that may come before a request (RFC 9112 §2.2 asks for one at least); more of them are an error."""


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
            and None for requests without an Origin field, which browsers never send), or a function that is given the
            origin, or None, and returns whether it is allowed. By default every origin is allowed: right only where
            nothing depends on cookies or on the client's address.
        subprotocols: What this side speaks, best first; the first one that the client offers is chosen.
        extra_headers: Additional fields of the response, such as Set-Cookie: pairs or a mapping.
        compression: What this side grants if the client offers permessage-deflate; None for no compression.
        max_message_size: Bytes of a received message at most, after decompression; a longer one closes with 1009. None
            for no limit.
        ping_interval: Seconds between two pings that are sent by themselves; None for none.
        ping_timeout: Seconds without a sign of life, while a pong is due or a send waits for the peer, after which the
            WebSocket is aborted; None for no limit. Any byte that the peer sends or takes is a sign of life.
        handshake_timeout: Seconds, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right: a field that the handshake sets itself, a line break in one;
            what stands for an origin is not one.

    Raises (in the upgrade):
        UpgradeRefusedError: the request is valid HTTP but not an acceptable handshake: it was answered with 426, 400
            or, for its origin, 403 (`response`). The handle is OPEN, and the next byte read comes after the request; an
            exchange is over.
        UpgradeFailedError: the request is malformed, too long or has a body: answered with an error, the handle is
            CLOSED (`UPGRADE_FAILED`). Or no request came in time: the handle is OPEN, what came is unread.
        LocalProtocolError: the recipe was used before, or the source is neither a `Connection` nor an `Exchange`.
        Whatever the function `origins` raises: nothing was sent.

    Cancellation: before the response the handle is OPEN again, what was received is unread; afterwards it is CLOSED.

    Source: RFC 6455 §4.2, §10.2; RFC 7692 §7.1.
    """
    names = rules.check_subprotocols(subprotocols)
    extra = rules.check_extra_headers(extra_headers)
    keepalive = make_keepalive(ping_interval, ping_timeout)
    settings = Settings(max_message_size, handshake_timeout, keepalive=keepalive, compression=compression)
    return WebSocketServerRecipe(names, extra, check_origins(origins), settings)


class WebSocketServerRecipe(OwnRecipe["WebSocket"]):
    """Reads a request and accepts it."""

    name = "to_websocket_server"
    sources = (Connection, Exchange)
    takes = "a Connection or an Exchange"

    def __init__(
        self, subprotocols: tuple[str, ...], extra: Headers, allowed: Decide | None, settings: Settings
    ) -> None:
        self.limit_time(settings.handshake_timeout, "WebSocket handshake (to_websocket_server)")
        self._settings = settings
        self._subprotocols = subprotocols
        self._extra = extra
        self._allowed = allowed
        self._exchange: Exchange | None = None

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
            compression, extension = self._choose_compression(asked.extensions)
        except rules.NotAcceptableError as exc:
            await wire.send_all(self._refusal(exc.response))  # noqa: ASYNC120 - a cancellation outranks the refusal
            raise UpgradeRefusedError(f"no acceptable WebSocket handshake: {exc}", exc.response) from None
        subprotocol = rules.choose_subprotocol(asked.subprotocols, self._subprotocols)
        self._agreed = Agreement(rules.resource_name(head.target), subprotocol, compression, head.headers)
        extra = self._extra if self._exchange is None else Headers(self._exchange._with_cookies(self._extra))
        await wire.send_all(rules.accept_response(asked.key, subprotocol, extension, extra))

    def make(self, capsule: Detached) -> WebSocket:
        """As `OwnRecipe.make`. A step."""
        return self._settings.websocket(capsule, self._agreed, client=False)

    def _choose_compression(self, values: Sequence[str]) -> tuple[PerMessageDeflate | None, str | None]:
        """What is granted of the client's offers, and the field that says so; twice None for no compression."""
        if not values:
            return None, None
        try:
            offers = extensions.parse_extensions(values)
        except ValueError as exc:
            raise rules.NotAcceptableError(400, str(exc)) from None
        granted = self._settings.compression
        accepted = None if granted is None else extensions.accept_offer(offers, granted)
        return (None, None) if accepted is None else accepted

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
