"""Frames out: the part of a WebSocket handle that sends, and keeps frames and messages whole.

Whoever sends a message has the message turn until it is out, and the frame turn for each frame of it; a control frame
needs the frame turn only, so it may come between the frames of a message (RFC 6455 §5.4). What is due goes out in front
of the next frame, or at once if nobody sends: pongs, messages that were broadcast, and messages that were sent while
others of the same batch wait to be taken. Where the transport does not take it, a service task of the scope waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ..errors import HandleBrokenError
from ..handle import Handle
from ..handle.turn import Turn
from ..ownership import Event, Phase, Refuse, Send
from .close_codes import CloseReason, ConnectionBroken, ConnectionClosed

if TYPE_CHECKING:
    from ..custody.owner import Owner
    from ..handle import Lease
    from ..handle.detached import Detached
    from .protocol.engine import Engine

__all__ = ["YIELD_EVERY", "Sending", "take_turn"]

GATHER: Final = 65536
"""Bytes of messages that may wait in the output buffer for others to leave with."""
YIELD_EVERY: Final = 32
"""Of so many messages that are taken from, or put into, a buffer one lets other tasks run."""


class Sending(Handle):
    """A handle that sends frames."""

    __slots__ = ("_close", "_composing", "_engine", "_flush_asked", "_flushing", "_fragmenting", "_parked", "_posted",
                 "_turns", "_unsent", "_writing")  # fmt: skip

    def __init__(self, capsule: Detached, engine: Engine) -> None:
        self._engine = engine
        self._close: CloseReason | None = None
        # Whether this handle's reader has let other tasks run since the latest send: then a send need not.
        self._parked = False
        self._turns = 0
        # What goes out before anything else: whole frames, but for the first one, of which a part may be out already.
        self._unsent: bytearray = bytearray()
        # Messages that were broadcast while another message is being sent in fragments.
        self._posted: bytearray = bytearray()
        super().__init__(capsule)

    def _renew(self) -> None:
        super()._renew()
        self._composing = Turn()
        self._writing = Turn()
        self._fragmenting = False
        self._flushing = False
        self._flush_asked = False

    @enable_ki_protection
    def _seat(self, owner: Owner, instead_of: Any = None) -> None:
        """As for every handle; and what the handle before a transfer had to wait with goes out."""
        super()._seat(owner, instead_of)
        self.flush()

    # --- messages ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def _send_in_turn(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send where the short way is not open: others send, something is due, or it is refused."""
        if self._life.phase is not Phase.OPEN:
            self._refuse_send()
        await self._take_message_turn()
        try:
            await self._send_frame(self._engine.writer.message, message)
        finally:
            self._composing.release()

    async def _take_message_turn(self) -> None:
        """Have the turn to send a message.

        Raises:
            HandleBusyError: it is the caller's own, who makes the parts of another message: nobody would give it back.
        """
        if self._waits_for_asker():
            raise self._self_wait_error(Event.SEND)
        await take_turn(self._composing)

    @enable_ki_protection
    async def _send_control_in_turn(self, opcode: int, payload: bytes) -> None:
        if self._life.phase is not Phase.OPEN:
            self._refuse_send()
        await self._send_frame(self._engine.writer.control, opcode, payload)

    @enable_ki_protection
    async def _send_frame(self, build: Any, *args: Any, lease: Lease | None = None) -> None:
        """Send the frame that ``build(*args)`` makes, in turn."""
        await take_turn(self._writing)
        try:
            await checkpoint_if_cancelled()
            self._refuse_send(lease)
            await self._transmit(build(*args), lease=lease)
        finally:
            self._release_writing()

    def _refuse_send(self, lease: Lease | None = None) -> None:
        """Raise what the refusal of a send means; return where it is not refused."""
        event = Event.SEND if lease is None else Event.SEND_LEASED
        if isinstance(refuse := self._life.decide(event), Refuse):
            raise self._refusal(refuse, event)

    @property
    def _may_gather(self) -> bool:
        """Whether the only thing in the way of a message is that others wait to leave, with which it can leave too."""
        life = self._life
        if life.phase is not Phase.OPEN or life.send is not Send.IDLE or life.reset:
            return False
        return not (self._writing.held or self._composing.held) and len(self._unsent) <= GATHER

    @enable_ki_protection
    async def _gather(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message in the company of others: what comes next of this batch is likely to be answered too."""
        await checkpoint_if_cancelled()
        self._unsent += self._engine.writer.message(message)
        if not self._flush_asked:
            self._flush_asked = True
            self._owner.caretaker.flush_soon(self)
        await self._take_a_turn()

    @enable_ki_protection
    async def _take_a_turn(self) -> None:
        """A message was taken from a buffer, or put into one: let other tasks run now and then."""
        self._turns += 1
        if self._turns >= YIELD_EVERY:
            self._turns = 0
            await cancel_shielded_checkpoint()

    @enable_ki_protection
    def _post(self, frame: bytes, most: int) -> bool:
        """Send a whole message without holding up the caller: False if that needs more than `most` bytes of buffer.

        A step; only on an open handle.
        """
        waiting = len(self._unsent) + len(self._posted)
        if waiting and waiting + len(frame) > most:
            return False
        if self._fragmenting:
            self._posted += frame
        else:
            self._unsent += frame
            self.flush()
        return True

    # --- what is due ---------------------------------------------------------------------------------------------

    @property
    def _due(self) -> bool:
        """Whether something waits to be sent before anything else."""
        return bool(self._unsent or self._engine.writer.pongs)

    @enable_ki_protection
    def flush(self) -> None:
        """Send what is due without holding up the caller. A step.

        A task that is sending takes it along. What the transport does not take at once waits in a service task, never
        in the reader: a peer who reads nothing until he has sent everything would wait for us, and we for him.
        """
        self._flush_asked = False
        if not self._due or self._flushing or self._writing.held:
            return
        life = self._life
        if life.phase is not Phase.OPEN or life.send is not Send.IDLE or life.reset:
            return
        writer = self._engine.writer
        if writer.pongs:
            self._unsent += writer.pongs
            writer.pongs = b""
        self._send_unsent()
        self._send_later()

    @enable_ki_protection
    def _send_control(self, frame: bytes) -> None:
        """Send a control frame, behind what is due, without holding up the caller. A step; only while nobody sends."""
        self._unsent += frame
        self.flush()

    def _send_unsent(self) -> None:
        """Try to send what is due. From here on it stays what it is: a part of it may be out."""
        unsent = self._unsent
        try:
            sent = self._transport.send_some(unsent)
            del unsent[:sent]
            self._bytes_sent += sent
        except trio.BrokenResourceError as exc:
            unsent.clear()
            self._peer_reset(exc)  # for the next operation to tell; what there is to be read can still be read

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

    # --- frames --------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def _transmit(self, frame: bytes, sent: int = 0, *, lease: Lease | None = None) -> None:
        """Send what is due and then `frame`, of which `sent` bytes are out. The caller has the frame turn."""
        writer, transport = self._engine.writer, self._transport
        self._begin_send(lease)
        due = b""
        if not sent:
            due = bytes(self._unsent) + writer.pongs
            self._unsent.clear()
            writer.pongs = b""
        data = due + frame
        transport.bytes_sent = 0
        try:
            sent = sent or transport.send_some(data)
            if sent < len(data):
                with memoryview(data)[sent:] as rest:
                    await transport.send_all(rest)
            else:
                await cancel_shielded_checkpoint()
        except BaseException as exc:
            self._transmit_failed(exc, _plus(sent, transport.bytes_sent), due, len(frame))
            raise
        self._parked = False
        self._bytes_sent += len(data)
        self._end_send()

    @enable_ki_protection
    def _transmit_failed(self, exc: BaseException, total: int | None, due: bytes, size: int) -> None:
        """A send was cut off: a frame of a message that was begun is torn, what was due goes on where it stopped."""
        sent = None if total is None else max(0, total - len(due))
        if not size and total is not None:
            sent = 0
        if total is not None:
            self._unsent[:0] = due[total:]
        if sent == 0:
            self._transport.bytes_sent = 0  # what did go out is accounted for, in `_unsent`
            self._engine.writer.forget()
        try:
            self._send_failed(exc, sent)
        except HandleBrokenError as broken:
            self._close = self._close or CloseReason(1006, None)
            raise ConnectionBroken(self._close, broken.args[0], sent).with_handle(self) from exc

    @enable_ki_protection
    def _send_broke(self, exc: BaseException, sent: int) -> NoReturn:
        self._torn = sent
        self._peer_reset(exc)
        self._close = self._close or CloseReason(1006, None)
        raise ConnectionBroken(self._close, f"send failed: {self!r}: {exc}", sent).with_handle(self) from exc

    @enable_ki_protection
    def _release_writing(self) -> None:
        self._writing.release()
        self.flush()

    # --- errors --------------------------------------------------------------------------------------------------

    def _closed_error(self, what: str) -> ConnectionClosed:
        if self._ended_by_peer is not None and self._close is not None and self._close.code == 1006:
            # Without a close frame, by whatever it came: the connection failed, to whoever catches that.
            return ConnectionBroken(self._close, f"{what}{self._left}", end=self._end).with_handle(self)
        return ConnectionClosed(self._close, f"{what}{self._left}", self._end).with_handle(self)

    def _broken_error(self, what: str) -> ConnectionBroken:
        return ConnectionBroken(self._close, str(super()._broken_error(what)), self._torn).with_handle(self)


async def take_turn(turn: Turn) -> None:
    """Have the turn, after those who have asked before."""
    if turn.held:
        await turn.wait()
    else:
        turn.held = True


def _plus(sent: int, more: int | None) -> int | None:
    """How much is out altogether; None if the transport cannot tell."""
    return None if more is None else sent + more
