"""A WebSocket that behaves as trio-websocket's: there is always somebody who reads.

trio-websocket has a task for each connection that reads ahead into a queue, so pings and a close are answered while the
program does something else. Here an attendant does that: it reads while no task of the program's does, and gives way to
one that wants to. So in a loop of receiving and sending it costs a look now and then, and no message passes through it.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection
from trio_websocket import ConnectionClosed

from ...errors import LimitExceededError, RemoteProtocolError
from ...ownership import Event, Phase
from ...websocket import WebSocket

if TYPE_CHECKING:
    from trio_websocket import Endpoint

    from ...capsule import Detached
    from ...http.headers import Headers
    from ...websocket.assembly import Message
    from ...websocket.engine import Engine
    from .endpoint import Endpoints

__all__ = [
    "CONN_TIMEOUT",
    "MAX_MESSAGE_SIZE",
    "MESSAGE_QUEUE_SIZE",
    "RECEIVE_BYTES",
    "WebSocketConnection",
    "application_fields",
]

CONN_TIMEOUT: Final = 60
"""Seconds for the handshake, and for the close."""
MESSAGE_QUEUE_SIZE: Final = 1
MAX_MESSAGE_SIZE: Final = 2**20
RECEIVE_BYTES: Final = 4096

_HANDSHAKE: Final = frozenset({b"connection", b"host", b"upgrade"})
_serial: Final = itertools.count()


def application_fields(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The fields that are not the handshake's own, names in lower case: what trio-websocket shows."""
    fields = [(name.lower(), value) for name, value in headers.raw]
    return [field for field in fields if field[0] not in _HANDSHAKE and not field[0].startswith(b"sec-websocket-")]


class WebSocketConnection(WebSocket):
    """trionet's `WebSocket`, with the ways of `trio_websocket.WebSocketConnection`."""

    __slots__ = ("_attending", "_endpoints", "_id", "_idle", "_queue_size")

    def __init__(self, capsule: Detached, engine: Engine, **options: Any) -> None:
        self._id = next(_serial)
        self._endpoints: Endpoints | None = None
        self._queue_size = MESSAGE_QUEUE_SIZE
        self._attending: trio.CancelScope | None = None
        self._idle = ParkingLot()
        super().__init__(capsule, engine, **options)

    def __str__(self) -> str:
        """Which side this is, and a number."""
        return f"{'client' if self.is_client else 'server'}-{self._id}"

    def furnish(self, queue_size: int, endpoints: Endpoints | None) -> None:
        """How many messages the attendant reads ahead, and what the stream underneath was called."""
        self._queue_size = queue_size
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
        return tuple(application_fields(self._headers))

    # --- messages ------------------------------------------------------------------------------------------------

    async def get_message(self) -> Message:
        """As `WebSocket.get_message`; what the peer has done wrong is a `ConnectionClosed` too.

        Cancellation: no message is lost.
        """
        self._call_off()
        try:
            return await super().get_message()
        except (RemoteProtocolError, LimitExceededError) as exc:
            raise ConnectionClosed(self.closed) from exc
        finally:
            self._idle.unpark()

    async def send_message(self, message: str | bytes | bytearray | memoryview) -> None:
        """As `WebSocket.send_message`; raises ValueError for what is neither str nor bytes.

        Cancellation: as `WebSocket.send_message`.
        """
        if not isinstance(message, (str, bytes, bytearray, memoryview)):
            raise ValueError("message must be str or bytes")  # noqa: TRY004 - so it is in trio-websocket
        await super().send_message(message)

    async def ping(self, payload: bytes | None = None) -> None:
        """As `WebSocket.ping`.

        Cancellation: as `WebSocket.ping`.
        """
        try:
            await super().ping(payload)
        finally:
            self._idle.unpark()

    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:
        """As `WebSocket.aclose`. An exception that is being handled is not lost to a cancellation meanwhile.

        Cancellation: the connection is aborted.
        """
        handled = sys.exc_info()[1]
        try:
            await super().aclose(code, reason)
        except trio.Cancelled:  # noqa: ASYNC103 - the exception that is handled goes on in its place
            if handled is None:
                raise

    # --- the attendant -------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def attend(self) -> None:
        """Read while nobody else does, until the WebSocket closes. Never raises an error; what there is, is recorded.

        Cancellation: pings and the close are answered by tasks that receive only.
        """
        reading = self._reading
        try:
            while self._life.phase is Phase.OPEN:
                if reading.held or not self._has_room():
                    await self._idle.park()
                    continue
                reading.held = True
                try:
                    with trio.CancelScope() as self._attending:
                        await self._read_batch()
                finally:
                    self._attending = None
                    reading.release()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass

    async def keep(self) -> None:
        """Attend until the WebSocket has ended, or has failed and waits for its owner to see that.

        Cancellation: as `attend`.
        """
        await self.attend()
        if self._life.phase is not Phase.OPEN:
            await self.wait_ended()

    @enable_ki_protection
    def stream_closed(self) -> None:
        """The program has closed the stream underneath: messages that came before can still be taken. A step."""
        if self._life.phase is Phase.OPEN:
            self._final = Event.ABORT
        self.abort()

    def _call_off(self) -> None:
        """Make the attendant give its turn to the task that asks for one."""
        if self._attending is not None:
            self._attending.cancel()

    def _has_room(self) -> bool:
        return len(self._engine.messages) <= self._queue_size and super()._has_room()

    def _phase_changed(self, before: Phase) -> None:
        super()._phase_changed(before)
        self._idle.unpark_all()
