"""A WebSocket that behaves as trio-websocket's: there is always a task that reads.

trio-websocket has a task for each connection that reads ahead into a queue, so pings and a close are answered while the
program does something else. Here an attendant does that: it reads while no task of the program's does, and gives way to
one that wants to. So in a loop of receiving and sending it costs a look now and then, and no message passes through it.
"""

from __future__ import annotations

import itertools
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection
from trio_websocket import CloseReason, ConnectionClosed

from ...errors import LimitExceededError, LocalProtocolError, RemoteProtocolError
from ...ownership import Event, Phase
from ...websocket import WebSocket
from ...websocket.close_codes import ConnectionClosed as WebSocketClosed
from ...websocket.protocol.frames import MAX_REASON

if TYPE_CHECKING:
    from trio_websocket import Endpoint

    from ...handle.detached import Detached
    from ...websocket.protocol.engine import Engine
    from ...websocket.protocol.reader import Message
    from .endpoint import Endpoints

__all__ = ["WebSocketConnection", "logger"]

logger: Final = logging.getLogger("trio-websocket")
"""The other library's: what programs have set for it holds here too."""

_WITHOUT_CODE: Final = frozenset({1005, 1006, 1015})
"""Codes that stand for a close without one, or for none at all (RFC 6455 §7.4.1)."""
_HANDSHAKE: Final = frozenset({b"connection", b"host", b"upgrade"})


class WebSocketConnection(WebSocket):
    """trionet's `WebSocket`, with the ways of `trio_websocket.WebSocketConnection`: it takes attributes, too."""

    CONNECTION_ID = itertools.count()
    """Numbers the connections of this process: the next one is that of the next connection."""

    def __init__(self, capsule: Detached, engine: Engine, **options: Any) -> None:
        self._id = next(self.CONNECTION_ID)
        self._endpoints: Endpoints | None = None
        self._attending: trio.CancelScope | None = None
        self._idle = ParkingLot()
        super().__init__(capsule, engine, **options)

    def __str__(self) -> str:
        """Which side this is, and a number."""
        return f"{'client' if self.is_client else 'server'}-{self._id}"

    def _set_up(self, queue_size: float, endpoints: Endpoints | None) -> None:
        """How many messages the attendant reads ahead, and what the stream underneath was called."""
        self._receiver.max_messages = queue_size
        self._endpoints = endpoints

    @property
    def local(self) -> Endpoint | str:
        """This side's endpoint, or the ``repr()`` of a stream that has none."""
        return super().local if self._endpoints is None else self._endpoints.local

    @property
    def remote(self) -> Endpoint | str:
        """The peer's endpoint, or the ``repr()`` of a stream that has none."""
        return super().remote if self._endpoints is None else self._endpoints.remote

    @property
    def handshake_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields of the peer's part of the handshake that are not about the handshake itself."""
        fields = [(name.lower(), value) for name, value in self._headers.raw]
        return tuple(
            field for field in fields if field[0] not in _HANDSHAKE and not field[0].startswith(b"sec-websocket-")
        )

    # --- messages ------------------------------------------------------------------------------------------------

    async def get_message(self) -> Message:
        """As `WebSocket.get_message`; what the peer has done wrong is a `ConnectionClosed` too.

        Cancellation: no message is lost.
        """
        self._call_off()
        try:
            return await super().get_message()
        except (WebSocketClosed, RemoteProtocolError, LimitExceededError) as exc:
            raise self._closed_for_programs() from exc
        finally:
            if self._idle:
                self._idle.unpark_all()

    async def send_message(self, message: str | bytes | bytearray | memoryview) -> None:
        """As `WebSocket.send_message`; raises ValueError for what is neither str nor bytes.

        Cancellation: as `WebSocket.send_message`.
        """
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            raise ValueError("message must be str or bytes")  # noqa: TRY004 - so it is in trio-websocket
        try:
            await super().send_message(message)
        except WebSocketClosed as exc:
            raise self._closed_for_programs() from exc

    async def ping(self, payload: bytes | None = None) -> None:
        """As `WebSocket.ping`; where the pong comes behind messages that no task takes, it waits until one does.

        Cancellation: as `WebSocket.ping`.
        """
        try:
            await super().ping(payload)
        except WebSocketClosed as exc:
            raise self._closed_for_programs() from exc
        finally:
            if self._idle:
                self._idle.unpark_all()

    async def pong(self, payload: bytes | None = None) -> None:
        """As `WebSocket.pong`.

        Cancellation: as `WebSocket.pong`.
        """
        try:
            await super().pong(payload)
        except WebSocketClosed as exc:
            raise self._closed_for_programs() from exc

    def _closed_for_programs(self) -> ConnectionClosed:
        """The other library's own error, which is not one of Trio's.

        Programs have ``except trio.BrokenResourceError`` around what they do with a message, and mean their channels.
        """
        return ConnectionClosed(self.closed or CloseReason(1006, None))

    async def _read_for_pong(self, payload: bytes) -> None:
        """Read, or let the task that has the reading turn do that, or wait for room for what comes before the pong."""
        receiver = self._receiver
        turn = receiver.turn
        if turn.held:
            if not await turn.wait():
                return
        elif receiver.has_room or self._life.state.phase is not Phase.OPEN:
            turn.held = True
        else:
            await self._idle.park()
            return
        try:
            if payload in receiver.pings and (receiver.has_room or self._life.state.phase is not Phase.OPEN):
                await receiver.read_batch(self)
        finally:
            turn.release()

    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:
        """As `WebSocket.aclose`. An exception that is being handled is not lost to a cancellation meanwhile.

        A longer reason is cut off. With 1005, 1006 or 1015, which no frame can carry, the close frame is empty. A code
        that cannot be sent leaves the connection closed all the same.

        Cancellation: the connection is aborted.
        """
        handled = sys.exc_info()[1]
        try:
            if code in _WITHOUT_CODE:
                await self._close_with(1005, "")
            else:
                await super().aclose(code, _cut(reason))
        except LocalProtocolError:
            self.abort()
            raise
        except trio.Cancelled:  # noqa: ASYNC103 - the exception that is handled goes on in its place
            if handled is None:
                raise

    # --- the attendant -------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def _attend(self) -> None:
        """Read while no other task does, until the WebSocket closes. Never raises an error; the handle records it.

        Cancellation: from then on pings and the close are answered only by tasks that receive.
        """
        receiver, turn = self._receiver, self._receiver.turn
        try:
            while self._life.state.phase is Phase.OPEN:
                if turn.held or not receiver.has_room:
                    await self._idle.park()
                    continue
                turn.held = True
                try:
                    with trio.CancelScope() as self._attending:
                        await receiver.read_batch(self)
                finally:
                    self._attending = None
                    turn.release()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        logger.debug("%s websocket closed %r", self, self.closed)

    async def _keep(self) -> None:
        """Attend until the WebSocket has ended, or has failed and waits for its owner to see that.

        Cancellation: as `_attend`.
        """
        await self._attend()
        if self._life.state.phase is not Phase.OPEN:
            await self.wait_ended()

    @enable_ki_protection
    def _stream_closed(self) -> None:
        """The program has closed the stream underneath: messages that came before can still be taken. A step."""
        if self._life.state.phase is Phase.OPEN:
            self._closing.cause = Event.ABORT
        self.abort()

    def _call_off(self) -> None:
        """Make the attendant give its turn to the task that asks for one."""
        if self._attending is not None:
            self._attending.cancel()

    def _phase_changed(self, before: Phase) -> None:
        super()._phase_changed(before)
        self._idle.unpark_all()


def _cut(reason: str | None) -> str | None:
    """As much of a close reason as a frame can carry, cut off between two characters."""
    if not reason or len(reason) * 4 <= MAX_REASON:
        return reason
    return reason.encode("utf-8", "surrogatepass")[:MAX_REASON].decode(errors="ignore")
