"""Frames out: the part of a WebSocket that sends, and keeps frames and messages whole.

A task that sends a message has the message turn until it is out, and the frame turn for each frame of it; a control
frame needs the frame turn only, so it may come between the frames of a message (RFC 6455 §5.4). What is due goes out in
front of the next frame, or at once if nobody sends: pongs, messages that were broadcast, and messages that were sent
while others of the same batch wait to be taken. Where the transport does not take it, a service task of the scope
waits, never the reader: a peer that reads nothing until it has sent everything would wait for us, and we for it.

`WebSocket.send_message` has a fast path for a message that nothing stands in the way of; `MessageSender.send` is the
rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ..errors import HandleBrokenError
from ..handle import guards, refusals
from ..handle.turn import Turn
from ..ownership import Event, Phase, Refuse, Send
from ..ownership.shortcuts import SEND
from .close_codes import ConnectionBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..custody.caretaker import Flushable
    from ..handle import Handle, Lease
    from .close_state import CloseState
    from .protocol.engine import Engine

__all__ = ["YIELD_EVERY", "MessageSender", "take_turn"]

GATHER: Final = 65536
"""Bytes of messages that may wait in the output buffer for others to leave with."""
YIELD_EVERY: Final = 32
"""Of so many messages that are taken from, or put into, a buffer one lets other tasks run."""


class MessageSender:
    """Sends the frames of a WebSocket.

    Args:
        engine: The protocol.
        closing: How the WebSocket closes.
        before: The sender of the handle that a transfer has ended: what waits to be sent goes out here.

    Attributes:
        writer: Builds the frames.
        message_turn: Held by the task that sends a message, to its last frame.
        frame_turn: Held by the task that sends a frame.
        attendance: What the caretaker is told to flush; None once the handle has ended.
        fragmenting: Whether a message is being sent in fragments.
        unfinished: Whether its first frame has been sent, and its last one not yet.
        yielded: Whether this handle's reader has let other tasks run since the latest send: then a send need not.
        unsent: What goes out before anything else: whole frames, but for the first one, of which a part may be out
            already.
        posted: Messages that were broadcast while another message is being sent in fragments.
    """

    __slots__ = ("_closing", "_flush_asked", "_flushing", "_gathered", "_received", "attendance", "fragmenting",
                 "frame_turn", "message_turn", "posted", "unfinished", "unsent", "writer", "yielded")  # fmt: skip

    def __init__(self, engine: Engine, closing: CloseState, before: MessageSender | None) -> None:
        self.writer = engine.writer
        self._received = engine.reader.messages
        self._closing = closing
        self.message_turn = Turn()
        self.frame_turn = Turn()
        self.attendance: Flushable | None = None
        self.fragmenting = False
        self.unfinished = False
        self.yielded = False
        self.unsent: bytearray = bytearray() if before is None else before.unsent
        self.posted: bytearray = bytearray() if before is None else before.posted
        self._gathered = 0
        self._flush_asked = False  # whether the caretaker will call for a flush
        self._flushing = False  # whether a service task will send what is due

    # --- messages ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def send(self, handle: Handle, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message, whatever else is being sent, or due. See `WebSocket.send_message`."""
        busy = self.frame_turn.held or self.message_turn.held
        if self._received and not busy and len(self.unsent) <= GATHER and SEND[handle._life.state] is not None:
            await self._gather(handle, message)
            return
        await self.take_message_turn(handle)
        try:
            await self.send_frame(handle, self.writer.message, message)
        finally:
            self.message_turn.release()

    async def take_message_turn(self, handle: Handle) -> None:
        """Have the turn to send a message.

        Raises:
            HandleBusyError: the caller has it: it makes the parts of another message, and would wait for itself.
            Others: what the refusal of a send means, if the handle is not open.
        """
        if handle._life.state.phase is not Phase.OPEN:
            self.check(handle)
        if handle._waits_for_asker():
            raise refusals.self_wait(handle, Event.SEND)
        await take_turn(self.message_turn)

    @enable_ki_protection
    async def send_control(self, handle: Handle, opcode: int, payload: bytes) -> None:
        """Send a control frame, which need not wait for the end of a message."""
        if handle._life.state.phase is not Phase.OPEN:
            self.check(handle)
        await self.send_frame(handle, self.writer.control, opcode, payload)

    @enable_ki_protection
    async def send_frame(
        self, handle: Handle, build: Callable[..., bytes], *args: Any, lease: Lease | None = None
    ) -> None:
        """Send the frame that ``build(*args)`` makes, in turn."""
        await take_turn(self.frame_turn)
        try:
            await checkpoint_if_cancelled()
            self.check(handle, lease)
            await self._transmit(handle, build(*args), lease=lease)
        finally:
            self._release_frame_turn(handle)

    def check(self, handle: Handle, lease: Lease | None = None) -> None:
        """Raise what the refusal of a send means; return where it is not refused."""
        event = Event.SEND if lease is None else Event.SEND_LEASED
        if isinstance(refuse := handle._life.decide(event), Refuse):
            raise handle._refusal(refuse, event)

    @enable_ki_protection
    async def _gather(self, handle: Handle, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message together with others: what comes next of this batch is likely to be answered too."""
        await checkpoint_if_cancelled()
        self.unsent += self.writer.message(message)
        if not self._flush_asked:
            self._flush_asked = True
            assert self.attendance is not None  # the handle is open
            handle._owner.caretaker.flush_soon(self.attendance)
        self._gathered += 1
        if self._gathered >= YIELD_EVERY:
            self._gathered = 0
            await cancel_shielded_checkpoint()

    @enable_ki_protection
    def post(self, handle: Handle, frame: bytes, most: int) -> bool:
        """Send a whole message without holding up the caller: False if that needs more than `most` bytes of buffer.

        A step; only on an open handle.
        """
        waiting = len(self.unsent) + len(self.posted)
        if waiting and waiting + len(frame) > most:
            return False
        if self.fragmenting:
            self.posted += frame
        else:
            self.send_soon(handle, frame)
        return True

    # --- what is due ---------------------------------------------------------------------------------------------

    @enable_ki_protection
    def send_soon(self, handle: Handle, frame: bytes) -> None:
        """Send a frame behind what is due, without holding up the caller. A step."""
        self.unsent += frame
        self.flush(handle)

    @enable_ki_protection
    def flush(self, handle: Handle) -> None:
        """Send what is due without holding up the caller; a task that is sending takes it along. A step."""
        self._flush_asked = False
        writer = self.writer
        if self._flushing or self.frame_turn.held or not (self.unsent or writer.pongs):
            return
        if SEND[handle._life.state] is None:
            return
        # From here on it stays what it is: a part of it may be out.
        unsent = self.unsent
        unsent += writer.pongs
        writer.pongs = b""
        try:
            sent = handle._transport.send_some(unsent)
        except trio.BrokenResourceError as exc:
            unsent.clear()
            guards.peer_reset(handle, exc)  # for the next operation to tell; what there is to be read can still be read
            return
        del unsent[:sent]
        handle._bytes_sent += sent
        if unsent:
            self._flushing = True
            handle._owner.start_service(self._flush_patiently, handle)

    async def _flush_patiently(self, handle: Handle) -> None:
        """`flush` where that has to wait: a service task. Its errors are on the handle's record."""
        self._flushing = False
        if self.frame_turn.held or handle._life.state.send is not Send.IDLE:
            return
        self.frame_turn.held = True
        try:
            while (self.unsent or self.writer.pongs) and handle._life.state.phase is Phase.OPEN:
                await self._transmit(handle, b"")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.frame_turn.release()

    def take_due(self) -> bytes:
        """What has to go out before anything else is said, in one piece; it is the caller's from now on."""
        due = bytes(self.unsent) + self.writer.pongs
        self.unsent.clear()
        self.writer.pongs = b""
        return due

    # --- frames --------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def finish(self, handle: Handle, frame: bytes, sent: int) -> None:
        """For the fast path: send the rest of a frame, of which `sent` bytes are out, and let other tasks run."""
        self.message_turn.held = self.frame_turn.held = True
        try:
            await self._transmit(handle, frame, sent)
        finally:
            self._release_frame_turn(handle)
            if self.message_turn.waiting:
                self.message_turn.release()
            else:
                self.message_turn.held = False

    @enable_ki_protection
    async def _transmit(self, handle: Handle, frame: bytes, sent: int = 0, *, lease: Lease | None = None) -> None:
        """Send what is due and then `frame`, of which `sent` bytes are out. The caller has the frame turn."""
        transport = handle._transport
        guards.begin_send(handle, lease)
        due = b"" if sent else self.take_due()
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
            self._failed(handle, exc, _plus(sent, transport.bytes_sent), due, len(frame))
            raise
        self.yielded = False
        handle._bytes_sent += len(data)
        guards.end_send(handle)

    @enable_ki_protection
    def _failed(self, handle: Handle, exc: BaseException, total: int | None, due: bytes, size: int) -> None:
        """A send was cut off: a frame that was begun is left half-way, what was due goes on where it stopped."""
        sent = None if total is None else max(0, total - len(due))
        if not size and total is not None:
            sent = 0
        if total is not None:
            self.unsent[:0] = due[total:]
        if sent == 0:
            handle._transport.bytes_sent = 0  # what did go out is accounted for, in `unsent`
            self.writer.forget()
        try:
            guards.send_failed(handle, exc, sent)
        except HandleBrokenError as broken:
            raise ConnectionBroken(self._closing.broken(), broken.args[0], sent).with_handle(handle) from exc

    @enable_ki_protection
    def failed_at_once(self, handle: Handle, exc: BaseException) -> NoReturn:
        """For the fast path: the transport has refused a frame as a whole."""
        handle._torn = 0
        guards.peer_reset(handle, exc)
        raise ConnectionBroken(self._closing.broken(), f"send failed: {handle!r}: {exc}", 0).with_handle(
            handle
        ) from exc

    @enable_ki_protection
    def _release_frame_turn(self, handle: Handle) -> None:
        self.frame_turn.release()
        self.flush(handle)


async def take_turn(turn: Turn) -> None:
    """Have the turn, after the tasks that asked before."""
    if turn.held:
        await turn.wait()
    else:
        turn.held = True


def _plus(sent: int, more: int | None) -> int | None:
    """How much is out altogether; None if the transport cannot tell."""
    return None if more is None else sent + more
