"""Frames over a transport: the part of a WebSocket handle that reads, writes, and keeps frames whole.

No task stands behind it. The task that wants a message reads the transport itself and takes everything that is there
through the protocol engine. Whoever sends has the sending turn until his frame is out. Pongs that become due meanwhile
go out in front of the next frame, or at once if nobody waits to send; only where the transport does not take them does
a service task of the scope wait with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task, enable_ki_protection

from ..errors import HandleBrokenError
from ..handle import Handle
from ..handle.turn import Turn
from ..ownership import Event, Phase, Receive, Refuse, Send
from ..transport.protocol import MAX_RECEIVE
from .closing import CloseReason, ConnectionBroken, ConnectionClosed

if TYPE_CHECKING:
    from websockets.frames import Opcode

    from ..capsule import Detached
    from ..owner import Owner
    from .engine import Engine

__all__ = ["Link"]


class Link(Handle):
    """A handle that moves frames. Its subclass decides what the peer's close, offences and EOF lead to."""

    __slots__ = ("_close", "_engine", "_flushing", "_parked", "_pings", "_reading", "_unsent", "_writing")

    def __init__(self, capsule: Detached, engine: Engine) -> None:
        self._engine = engine
        self._close: CloseReason | None = None
        # Whether this handle's reader has let other tasks run since the latest send: then a send need not.
        self._parked = False
        # The rest of a control frame of which some bytes are out already: nothing may go before it.
        self._unsent = b""
        super().__init__(capsule)

    def _renew(self) -> None:
        super()._renew()
        self._reading = Turn()
        self._writing = Turn()
        self._flushing = False
        self._pings: dict[bytes, Any] = {}

    @enable_ki_protection
    def seat(self, owner: Owner, instead_of: Any = None) -> None:
        """As for every handle; and what the handle before a transfer had to wait with goes out."""
        super().seat(owner, instead_of)
        self.flush()

    def _take_events(self) -> None:
        """A batch had more than messages. A step."""
        raise NotImplementedError

    def _peer_vanished(self) -> None:
        """EOF came. A step."""
        raise NotImplementedError

    # --- receiving -----------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def _read_batch(self) -> None:
        """Receive once and take everything that came. The caller has the reading turn."""
        life = self._life
        if self._leftover and life.phase is Phase.OPEN:
            await self._read_leftover()
            return
        if life.phase is Phase.OPEN and life.receive is Receive.IDLE and not life.reset:
            life.receive = Receive.BUSY
            self._reader = current_task()
            self._reader_since = trio.current_time()
        else:
            self._begin_receive()
        try:
            data = await self._transport.receive_some(MAX_RECEIVE)
        except BaseException as exc:
            self._receive_broke(exc)
            raise
        self._parked = True
        self._reader = None
        if life.phase is Phase.OPEN:
            life.receive = Receive.IDLE
        else:
            self._take(Event.RECEIVE_ENDED)
        if data:
            self._bytes_received += len(data)
            if self._engine.receive(data):
                self._attend()
        elif life.reset:
            raise self._broken_error(f"receive failed: {self!r}")
        else:
            self._peer_vanished()

    async def _read_leftover(self) -> None:
        """What came behind the handshake is the first input."""
        await checkpoint_if_cancelled()
        data = bytes(self._leftover)
        self._leftover.clear()
        if self._engine.receive(data):
            self._attend()
        await cancel_shielded_checkpoint()

    @enable_ki_protection
    def _receive_broke(self, exc: BaseException) -> None:
        """A receive ended with `exc`: raise what it means on this handle, or return for `exc` to go on."""
        try:
            self._receive_failed(exc)
        except HandleBrokenError as broken:
            self._close = self._close or CloseReason(1006, None)
            raise ConnectionBroken(self._close, str(broken)) from exc

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

    # --- sending -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def _send_in_turn(self, message: str | bytes | bytearray | memoryview, opcode: Opcode | None = None) -> None:
        """Send where the short way is not open: others send, control frames are due, or it is refused."""
        if self._life.phase is not Phase.OPEN:
            self._refuse_send()
        if self._writing.held:
            await self._writing.wait()
        else:
            self._writing.held = True
        try:
            await checkpoint_if_cancelled()
            self._refuse_send()
            if opcode is None:
                frame = self._engine.message(message)
            else:
                assert isinstance(message, bytes)
                frame = self._engine.control(opcode, message)
            await self._transmit(frame)
        finally:
            self._release_writing()

    def _refuse_send(self) -> None:
        """Raise what the refusal of a send means; return where it is not refused."""
        if isinstance(refuse := self._life.decide(Event.SEND), Refuse):
            raise self._refusal(refuse, Event.SEND)

    @property
    def _due(self) -> bool:
        """Whether control output waits to be sent: the rest of a frame that was begun, or a pong."""
        return bool(self._unsent or self._engine.pong)

    @enable_ki_protection
    def flush(self) -> None:
        """Send the control output that is due without holding up the caller. A step.

        A task that is sending takes it along. What the transport does not take at once waits in a service task, never
        in the reader: a peer who reads nothing until he has sent everything would wait for us, and we for him.
        """
        if not self._due or self._flushing or self._writing.held:
            return
        life = self._life
        if life.phase is not Phase.OPEN or life.send is not Send.IDLE or life.reset:
            return
        if not self._unsent:
            self._unsent, self._engine.pong = self._engine.pong, b""
            self._send_unsent()
        self._send_later()

    @enable_ki_protection
    def _send_control(self, frame: bytes) -> None:
        """Send a control frame, behind what is due, without holding up the caller. A step; only while nobody sends."""
        self.flush()
        if self._due:
            self._unsent += frame  # a whole frame, behind what a service task is about to send
            return
        self._unsent = frame
        self._send_unsent()
        self._send_later()

    def _send_unsent(self) -> None:
        """Try to send the rest of a control frame. From here on it stays what it is: a part of it may be out."""
        try:
            sent = self._transport.send_some(self._unsent)
            self._unsent = self._unsent[sent:]
            self._bytes_sent += sent
        except trio.BrokenResourceError:
            self._unsent = b""  # there may still be something to read; the next send finds out

    def _send_later(self) -> None:
        if self._unsent and not self._flushing:
            self._flushing = True
            self._owner.start_service(self._flush)

    async def _flush(self) -> None:
        """`flush` where that has to wait. Its errors are on the handle's record."""
        self._flushing = False
        if self._writing.held or self._life.send is not Send.IDLE:
            return
        self._writing.held = True
        try:
            while self._due and self._life.phase is Phase.OPEN:
                await self._transmit(b"")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._writing.release()

    @enable_ki_protection
    async def _transmit(self, frame: bytes, sent: int = 0) -> None:
        """Send what is due and then `frame`, of which `sent` bytes are out. The caller has the sending turn."""
        engine, transport = self._engine, self._transport
        unsent, pong = (b"", b"") if sent else (self._unsent, engine.pong)
        due = unsent + pong
        data = due + frame
        self._begin_send()
        transport.bytes_sent = 0
        try:
            sent = sent or transport.send_some(data)
            if sent < len(data):
                with memoryview(data)[sent:] as rest:
                    await transport.send_all(rest)
            else:
                await cancel_shielded_checkpoint()
        except BaseException as exc:
            total = _plus(sent, transport.bytes_sent)
            self._control_sent(due, pong, total)
            self._transmit_failed(exc, total, len(due), len(frame))
            raise
        self._control_sent(due, pong, len(data))
        self._parked = False
        self._bytes_sent += len(data)
        self._end_send()

    def _control_sent(self, due: bytes, pong: bytes, total: int | None) -> None:
        """Of the control output `due`, which ends with `pong`, this much is out: keep the rest."""
        if not due or not total:
            return
        self._unsent = due[total:]
        if self._engine.pong is pong:
            self._engine.pong = b""

    @enable_ki_protection
    def _transmit_failed(self, exc: BaseException, total: int | None, due: int, size: int) -> None:
        """A send was cut off: a frame of a message that was begun is torn, control output goes on where it stopped."""
        sent = None if total is None else max(0, total - due)
        if not size and total is not None:
            sent = 0
        if sent == 0:
            self._transport.bytes_sent = 0  # what did go out is accounted for, in `_unsent`
        try:
            self._send_failed(exc, sent)
        except HandleBrokenError as broken:
            self._close = self._close or CloseReason(1006, None)
            raise ConnectionBroken(self._close, str(broken), sent) from exc

    @enable_ki_protection
    def _send_broke(self, exc: BaseException, sent: int) -> NoReturn:
        self._torn = sent
        self._peer_reset(exc)
        self._close = self._close or CloseReason(1006, None)
        raise ConnectionBroken(self._close, f"send failed: {self!r}: {exc}", sent) from exc

    @enable_ki_protection
    def _release_writing(self) -> None:
        self._writing.release()
        self.flush()

    # --- errors --------------------------------------------------------------------------------------------------

    def _closed_error(self, what: str) -> ConnectionClosed:
        return ConnectionClosed(self._close, what, self._end)

    def _broken_error(self, what: str) -> ConnectionBroken:
        return ConnectionBroken(self._close, str(super()._broken_error(what)), self._torn)


def _plus(sent: int, more: int | None) -> int | None:
    """How much is out altogether; None if the transport cannot tell."""
    return None if more is None else sent + more
