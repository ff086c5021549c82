"""Frames in: the part of a WebSocket handle that receives.

No task stands behind it. The task that wants a message reads the transport itself and takes everything that is there
through the protocol engine. The engine stops where enough waits to be taken; then it goes on before more is received.
"""

from __future__ import annotations

from typing import Any, Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task, enable_ki_protection

from ..errors import HandleBrokenError
from ..handle.turn import Turn
from ..ownership import Event, Phase, Receive
from ..transport.protocol import MAX_RECEIVE
from .close_codes import CloseReason, ConnectionBroken
from .sending import Sending

__all__ = ["Link"]

# In Python 3.11 a member read off its enum class costs 70 ns, a global 4.
_OPEN: Final = Phase.OPEN
_IDLE: Final = Receive.IDLE
_BUSY: Final = Receive.BUSY


class Link(Sending):
    """A handle that moves frames. Its subclass decides what the peer's close, offences and EOF lead to."""

    __slots__ = ("_pings", "_reading")

    def _renew(self) -> None:
        super()._renew()
        self._reading = Turn()
        self._pings: dict[bytes, Any] = {}

    def _take_events(self) -> None:
        """A batch had more than messages. A step."""
        raise NotImplementedError

    def _peer_vanished(self) -> None:
        """EOF came. A step."""
        raise NotImplementedError

    @enable_ki_protection
    async def _read_batch(self, *, patient: bool = False) -> None:
        """Receive once and take what came, or what was left of that before. The caller has the reading turn.

        Args:
            patient: As for `Engine.receive`.
        """
        life = self._life
        if (self._leftover or self._engine.reader.stalled) and life.phase is _OPEN:
            await self._read_rest(patient)
            return
        if self._unsent:
            self.flush()
        retires = life.retiring
        if life.phase is _OPEN and life.receive is _IDLE and not (life.reset or retires):
            self._reader = current_task()  # first: outside of Trio it raises
            life.receive = _BUSY
            self._reader_since = trio.current_time()
        else:
            self._begin_receive()
        try:
            if retires:
                data = await self._receive_arrived(MAX_RECEIVE)
            else:
                data = await self._transport.receive_some(MAX_RECEIVE)
        except BaseException as exc:
            self._receive_broke(exc)
            raise
        self._parked = True
        self._reader = None
        if life.phase is _OPEN:
            life.receive = _IDLE
        else:
            self._take(Event.RECEIVE_ENDED)
        if data:
            self._bytes_received += len(data)
            if self._engine.receive(data, patient=patient):
                self._attend()
        elif life.reset:
            raise self._broken_error(f"receive failed: {self!r}")
        else:
            self._peer_vanished()

    async def _read_rest(self, patient: bool) -> None:
        """What came behind the handshake is the first input; what the engine has left goes before what is new."""
        await checkpoint_if_cancelled()
        self._take_rest(patient)
        await cancel_shielded_checkpoint()

    def _take_rest(self, patient: bool) -> None:
        data = bytes(self._leftover)
        self._leftover.clear()
        if self._engine.receive(data, patient=patient):
            self._attend()

    @enable_ki_protection
    def _receive_broke(self, exc: BaseException) -> None:
        """A receive ended with `exc`: raise what it means on this handle, or return for `exc` to go on."""
        try:
            self._receive_failed(exc)
        except HandleBrokenError as broken:
            self._close = self._close or CloseReason(1006, None)
            raise ConnectionBroken(self._close, broken.args[0]).with_handle(self) from exc

    def _attend(self) -> None:
        """The batch had more than messages: pongs, the peer's close, an offence, or a ping to be answered. A step."""
        self._take_events()
        self.flush()

    def _pong_came(self, payload: bytes) -> None:
        if payload in self._pings:
            while self._pings:
                sent = next(iter(self._pings))
                self._reading.wake(self._pings.pop(sent))
                if sent == payload:
                    break
