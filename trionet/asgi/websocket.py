"""One WebSocket of an application: the handshake that it accepts or denies, and the messages.

The handshake is checked before the application is called: one that could not be accepted never gets there, nor does a
page from an origin that is not allowed. Whatever ends the WebSocket reaches the application as ``websocket.disconnect``
with the code of whoever closed it; errors of the wire are no exceptions of `receive`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

import trio

from ..errors import (
    HandleBrokenError,
    HandleClosedError,
    LimitExceededError,
    RemoteProtocolError,
    UpgradeFailedError,
    UpgradeRefusedError,
)
from ..websocket import to_websocket_server
from .errors import ClientDisconnectedError
from .fields import check_bytes
from .http import HTTPCycle
from .response import Progress

if TYPE_CHECKING:
    from ..http import Exchange
    from ..websocket import WebSocket
    from .served import ServedApplication
    from .types import Message

__all__ = ["WebSocketCycle", "WebSocketState"]

CLOSE_TIMEOUT: Final = 10.0
"""Seconds that an application's close waits for the client's."""
ABNORMAL: Final = 1006
"""The code of a WebSocket that nobody has closed (RFC 6455 §7.4.1)."""

_GONE: Final = (HandleBrokenError, HandleClosedError)
_PROTOCOL: Final = b"sec-websocket-protocol"


class WebSocketState(enum.Enum):
    """Where a WebSocket stands."""

    ASKED = "asked for"
    DENYING = "being denied"
    DENIED = "denied"
    OPEN = "open"
    CLOSED = "closed"

    __hash__ = object.__hash__


_ASKED: Final = WebSocketState.ASKED
_OPEN: Final = WebSocketState.OPEN


class WebSocketCycle:
    """A WebSocket of an application, from its handshake to its end.

    Args:
        exchange: The request of the handshake.
        served: What is served.
        offered: The subprotocols that the client offers.

    Attributes:
        exchange: The request of the handshake.
        state: Where the WebSocket stands.
        websocket: The WebSocket, once it is accepted.
        progress: As `HTTPCycle.progress`, for a WebSocket that is denied; those that are accepted have no response.
    """

    __slots__ = (
        "_connected",
        "_denial",
        "_listening",
        "_offered",
        "_site",
        "exchange",
        "progress",
        "state",
        "websocket",
    )

    def __init__(self, exchange: Exchange, served: ServedApplication, offered: list[str]) -> None:
        self.exchange = exchange
        self.state = _ASKED
        self.websocket: WebSocket | None = None
        self.progress = Progress.NONE
        self._site = served
        self._offered = offered
        self._connected = False
        self._denial: HTTPCycle | None = None
        self._listening: list[trio.CancelScope] = []

    # --- receive -------------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next event: that the client asks, a message, or the end.

        Before the WebSocket is accepted it waits for that, or for the client to go.

        Cancellation: no message is lost.
        """
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        if self.state is _ASKED:
            await self._wait_decided()
        websocket = self.websocket
        if websocket is None:
            return {"type": "websocket.disconnect", "code": ABNORMAL, "reason": ""}
        try:
            message = await websocket.get_message()
        except (*_GONE, RemoteProtocolError, LimitExceededError):
            self.state = WebSocketState.CLOSED
            closed = websocket.closed
            code, reason = (ABNORMAL, "") if closed is None else (closed.code, closed.reason or "")
            return {"type": "websocket.disconnect", "code": code, "reason": reason}
        return {"type": "websocket.receive", "text" if type(message) is str else "bytes": message}

    async def _wait_decided(self) -> None:
        """Wait until the application has accepted or denied, or the client has gone."""
        with trio.CancelScope() as scope:
            self._listening.append(scope)
            try:
                await self.exchange.wait_disconnected()
            finally:
                self._listening.remove(scope)
        if self.state is _ASKED:
            self.state = WebSocketState.CLOSED

    def _decide(self, state: WebSocketState) -> None:
        self.state = state
        for scope in self._listening:
            scope.cancel()

    # --- send ----------------------------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Take an event: accept, a message, close, or a response that denies.

        Raises:
            ClientDisconnectedError: the client has gone.
            RuntimeError: this event is not due.
            ValueError, TypeError, LocalProtocolError: it is malformed, or cannot be sent.

        Cancellation: as for `WebSocket.send_message`.
        """
        kind, state = message["type"], self.state
        try:
            if state is _OPEN and kind == "websocket.send":
                assert self.websocket is not None
                text = message.get("text")
                await self.websocket.send_message(message["bytes"] if text is None else text)
            elif state is _OPEN and kind == "websocket.close":
                await self._close(message)
            elif state is _ASKED and kind == "websocket.accept":
                await self._accept(message)
            elif state is _ASKED and kind == "websocket.close":
                await self._deny({"type": "http.response.start", "status": 403}, {"type": "http.response.body"})
            elif state in (_ASKED, WebSocketState.DENYING) and kind.startswith("websocket.http.response."):
                await self._deny({**message, "type": kind.removeprefix("websocket.")})
            elif state is WebSocketState.CLOSED:
                raise ClientDisconnectedError(f"the WebSocket of {self.exchange!r} is closed")
            else:
                raise RuntimeError(f"the application sent {kind!r} to a WebSocket that is {state.value}")
        except _GONE as exc:
            self.state = WebSocketState.CLOSED
            raise ClientDisconnectedError(f"the WebSocket of {self.exchange!r} is closed: {exc}") from exc

    async def _accept(self, message: Message) -> None:
        subprotocol, headers = self._read_accept(message)
        recipe = to_websocket_server(
            subprotocols=() if subprotocol is None else (subprotocol,),
            extra_headers=self._site.options.default_fields.beside(headers),
            **self._site.options.websocket(),
        )
        try:
            self.websocket = await self.exchange.upgrade(recipe)
        except (UpgradeRefusedError, UpgradeFailedError) as exc:
            self._decide(WebSocketState.CLOSED)
            raise ClientDisconnectedError(f"{self.exchange!r} did not become a WebSocket: {exc}") from exc
        self.websocket._closing.drain_code = self._site.options.ws_drain_code
        self._decide(_OPEN)

    def _read_accept(self, message: Message) -> tuple[str | None, list[tuple[bytes, bytes]]]:
        """The subprotocol, which some give as a field, and the other fields."""
        subprotocol, headers = message.get("subprotocol"), []
        for pair in message.get("headers") or ():
            name, value = check_bytes(*pair)
            if name.lower() != _PROTOCOL:
                headers.append((name, value))
            elif subprotocol is None:
                subprotocol = value.decode("latin-1")
        if subprotocol is not None and subprotocol not in self._offered:
            raise ValueError(
                f"the application chose the subprotocol {subprotocol!r}, and the client offers {self._offered} "
                f"(RFC 6455 §4.2.2)"
            )
        return subprotocol, headers

    async def _close(self, message: Message) -> None:
        assert self.websocket is not None
        self.state = WebSocketState.CLOSED
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self.websocket.aclose(message.get("code", 1000), message.get("reason") or None)

    async def _deny(self, *messages: dict[str, Any]) -> None:
        """Answer the handshake with an ordinary response (extension ``websocket.http.response``)."""
        if self._denial is None:
            self._denial = HTTPCycle(self.exchange, self._site.options.default_fields)
            self._decide(WebSocketState.DENYING)
        for message in messages:
            await self._denial.send(message)
        self.progress = self._denial.progress
        if self.progress is Progress.COMPLETE:
            self.state = WebSocketState.DENIED

    # --- its end -------------------------------------------------------------------------------------------------

    async def finish(self, exc: BaseException | None) -> bool:
        """The application has ended, with `exc` if it has raised: close, or answer, for it.

        Returns:
            Whether it has left undone what it should have done.
        """
        if self._denial is not None and self.progress is not Progress.COMPLETE:
            await self._denial.give_up(exc or RuntimeError("the application has returned"))
            return True
        if self.websocket is not None and self.websocket.closed is None:
            with trio.move_on_after(CLOSE_TIMEOUT):
                await self.websocket.aclose(1000 if exc is None else 1011)
        return self.state is _ASKED
