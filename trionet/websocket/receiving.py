"""Frames in: the part of a WebSocket that receives.

No task stands behind it. The task that wants a message reads the transport itself, in its turn, and takes everything
that is there through the protocol engine. The engine stops where enough waits to be taken; then it goes on before more
is received.

*Attendance.* While no task receives, the caretaker's tick does some of a reader's work (`MessageReceiver.attend`): what
has come is taken in, so pings are answered within half a second or so, and so are the peer's close and its violations.
One step takes one receive, or goes on with what the engine has left of it; as long as there is more, the caretaker
comes back when other connections and other tasks have had their turns. Attendance has the reader's role only for the
length of a step. So it holds no turn that a task could have to wait for, no task stands behind it, it keeps nobody from
moving the connection, and it ends with the scope. A foreign Trio stream cannot be asked without waiting: there a task
has to receive.

*The bound.* Messages are kept until they have more bytes than `max_message_size`, or are more than `MAX_KEPT`. Then the
rest stays with the operating system, and TCP makes the peer wait. Pings behind that are not seen, and not answered:
they come behind messages that nobody takes. A task in `ping` learns that its pong cannot be read.
"""

from __future__ import annotations

import inspect
import math
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task, enable_ki_protection

from ..errors import HandleBrokenError, HandleBusyError, LimitExceededError
from ..handle import guards
from ..handle.turn import Turn
from ..ownership import Blocker, Event, Phase, Receive
from ..ownership.shortcuts import RECEIVE, RECEIVE_ENDED
from ..transport.protocol import MAX_RECEIVE
from .close_codes import ConnectionBroken
from .pings import Pings
from .protocol.reader import MAX_KEPT
from .sending import YIELD_EVERY

if TYPE_CHECKING:
    from ..handle import Handle
    from .close_handshake import CloseHandshake
    from .close_state import CloseState
    from .protocol.engine import Engine
    from .protocol.reader import Message
    from .sending import MessageSender

__all__ = ["MessageReceiver", "PartStream", "StreamState"]

BATCHES: Final = 4
"""Receives of the attendance between two ticks at most: a flood costs no more than that."""

# In Python 3.11 a member read off its enum class costs 70 ns, a global 4.
_OPEN: Final = Phase.OPEN
_MOVED: Final = Phase.MOVED
_IDLE: Final = Receive.IDLE


class StreamState(Enum):
    """How far a message has come that is received in parts."""

    NEW = auto()
    COMING = auto()
    OVER = auto()
    DROPPED = auto()


class PartStream:
    """A message that is received in parts: whose it is, since when, and how far it has come."""

    __slots__ = ("since", "state", "task")

    def __init__(self) -> None:
        self.state = StreamState.NEW
        self.task: Any = None
        self.since = 0.0

    @property
    def blocker(self) -> Blocker:
        """What the task that receives it keeps others from."""
        return Blocker(self.task.name, "receive_fragments", self.since)


class MessageReceiver:
    """Receives the frames of a WebSocket.

    Args:
        engine: The protocol.
        closing: How the WebSocket closes.
        sender: What sends the responses.
        close_handshake: What responds to the peer's close and its violations.
        before: The receiver of the handle that a transfer has ended.

    Attributes:
        turn: Held by the task that receives.
        messages: What has come and is whole. Taking one is counted in `taken`.
        taken: Messages taken since other tasks were last let run.
        stream: The message that is being received in parts.
        pings: The pings under way.
        max_messages: Beyond so many messages nothing is received while no task wants one.
    """

    __slots__ = ("_batches", "_close_handshake", "_closing", "_engine", "_sender", "max_messages", "messages", "pings",
                 "stream", "taken", "turn")  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        closing: CloseState,
        sender: MessageSender,
        close_handshake: CloseHandshake,
        before: MessageReceiver | None,
    ) -> None:
        self._engine = engine
        self._closing = closing
        self._sender = sender
        self._close_handshake = close_handshake
        self.turn = Turn()
        self.messages = engine.reader.messages
        self.taken = 0
        self.stream: PartStream | None = None
        self.pings: Pings = Pings() if before is None else Pings(before.pings.latency)
        self.max_messages: float = math.inf if before is None else before.max_messages
        self._batches = 0

    # --- for the task that wants a message -----------------------------------------------------------------------

    @enable_ki_protection
    async def next_message(self, handle: Handle) -> Message:
        """The next message, in turn. See `WebSocket.get_message`."""
        turn, messages = self.turn, self.messages
        if turn.held:
            await turn.wait()
        else:
            turn.held = True
        try:
            if self.stream is not None:
                self.settle(handle)
            if messages and handle._life.state.phase is not _MOVED:
                return await self.take_message()
            while not messages or handle._life.state.phase is _MOVED:
                if self._closing.violation is not None:
                    self._closing.raise_violation(handle)
                await self.read_batch(handle)
            return messages.popleft()
        finally:
            if turn.waiting:
                turn.release()
            else:
                turn.held = False

    async def take_message(self) -> Message:
        """One that has come; now and then other tasks are let run."""
        await checkpoint_if_cancelled()
        message = self.messages.popleft()
        self.taken += 1
        if self.taken >= YIELD_EVERY:
            self.taken = 0
            await cancel_shielded_checkpoint()
        return message

    @enable_ki_protection
    async def read_batch(self, handle: Handle, *, patient: bool = False) -> None:
        """Receive once and take what came, or what was left of that before. The caller has the reading turn.

        Args:
            handle: Whose receiver this is.
            patient: As for `Engine.receive`.
        """
        life = handle._life
        if (handle._leftover or self._engine.reader.stalled) and life.state.phase is _OPEN:
            await self._read_rest(handle, patient)
            return
        if self._sender.unsent:
            self._sender.flush(handle)
        retires = life.retiring
        if not retires and (busy := RECEIVE[life.state]) is not None:
            handle._reader = current_task()  # first: outside of Trio it raises
            life.state = busy
            handle._reader_since = handle._clock.current_time()
        else:
            guards.begin_receive(handle)
        try:
            if retires:
                data = await guards.receive_arrived(handle, MAX_RECEIVE)
            else:
                data = await handle._transport.receive_some(MAX_RECEIVE)
        except BaseException as exc:
            self._failed(handle, exc)
            raise
        self._sender.yielded = True
        handle._reader = None
        if (ended := RECEIVE_ENDED[life.state]) is not None:
            life.state = ended
        else:
            handle._take(Event.RECEIVE_ENDED)
        if data:
            handle._bytes_received += len(data)
            if self._engine.receive(data, patient=patient):
                self._see_to(handle)
        elif life.state.reset:
            raise handle._broken_error(f"receive failed: {handle!r}")
        else:
            self._close_handshake.peer_vanished(handle)

    async def _read_rest(self, handle: Handle, patient: bool) -> None:
        """What came behind the handshake is the first input; what the engine has left goes before what is new."""
        await checkpoint_if_cancelled()
        self._take_rest(handle, patient)
        await cancel_shielded_checkpoint()

    def _take_rest(self, handle: Handle, patient: bool) -> None:
        data = bytes(handle._leftover)
        handle._leftover.clear()
        if self._engine.receive(data, patient=patient):
            self._see_to(handle)

    @enable_ki_protection
    def _failed(self, handle: Handle, exc: BaseException) -> None:
        """A receive ended with `exc`: raise what it means on this handle, or return for `exc` to go on."""
        try:
            guards.receive_failed(handle, exc)
        except HandleBrokenError as broken:
            raise ConnectionBroken(self._closing.broken(), broken.args[0]).with_handle(handle) from exc

    def _see_to(self, handle: Handle) -> None:
        """The batch had more than messages: pongs, the peer's close, a violation, or a ping to be answered. A step."""
        engine = self._engine
        for payload in engine.take_pongs():
            self.pings.pong_came(payload, self.turn)
        if (engine.failure or engine.peer_close) and handle._life.state.phase is _OPEN:
            self._close_handshake.peer_ended(handle)  # else a close of this side is under way, and looks for itself
        self._sender.flush(handle)

    # --- for a task that waits for a pong ------------------------------------------------------------------------

    @enable_ki_protection
    async def read_for_pong(self, handle: Handle, payload: bytes) -> None:
        """Wait for the receive turn, or until the task that has it has read the pong; then receive once.

        Raises:
            LimitExceededError: the pong comes behind more messages than are kept.
        """
        if self.turn.held:
            if not await self.turn.wait():
                return
        else:
            self.turn.held = True
        try:
            if payload in self.pings:
                reader = self._engine.reader
                if reader.buffered > (reader.max_message_size or math.inf) or len(reader.messages) > MAX_KEPT:
                    raise self._no_room()
                await self.read_batch(handle, patient=True)
                if reader.stalled and not reader.tired and payload in self.pings:
                    raise self._no_room()
        finally:
            self.turn.release()

    def _no_room(self) -> LimitExceededError:
        reader = self._engine.reader
        return LimitExceededError(
            f"ping given up: the pong comes behind messages that nobody takes: {len(reader.messages)} of them, with "
            f"{reader.buffered} bytes, wait to be taken with get_message(), or the next one is too big. At most "
            f"{reader.max_message_size or math.inf:g} bytes (max_message_size) and {MAX_KEPT} messages are kept"
        )

    # --- attendance ----------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether more may be received while nobody takes what is there."""
        return len(self.messages) <= self.max_messages and not self._engine.full

    @enable_ki_protection
    def attend(self, handle: Handle) -> bool:
        """For the caretaker's tick: `attend_again`, with as many receives as there may be between two ticks. A step."""
        self._batches = BATCHES
        return self.attend_again(handle)

    @enable_ki_protection
    def attend_again(self, handle: Handle) -> bool:
        """Do some of a reader's work where there is none, up to the bound: whether there may be more. A step."""
        life = handle._life
        if self.turn.held or life.state.phase is not _OPEN or life.state.receive is not _IDLE or life.state.reset:
            return False
        return self.has_room and self._take_batch(handle)

    def _take_batch(self, handle: Handle) -> bool:
        """Take in what one receive brings without waiting, or what is left of one: whether it brought bytes."""
        reader = self._engine.reader
        if handle._leftover or reader.stalled:
            self._take_rest(handle, patient=True)
            return reader.tired or not reader.stalled
        if not self._batches:
            return False
        self._batches -= 1
        try:
            data = handle._transport.receive_nowait(MAX_RECEIVE)
        except trio.BrokenResourceError as exc:
            self._closing.broken()
            guards.peer_reset(handle, exc)
            return False
        if data is None:
            return False
        if not data:
            self._close_handshake.peer_vanished(handle)
            return False
        handle._bytes_received += len(data)
        if self._engine.receive(data, patient=True):
            self._see_to(handle)
        return True

    # --- a message in parts --------------------------------------------------------------------------------------

    @enable_ki_protection
    def settle(self, handle: Handle) -> None:
        """The task that is running wants the next message: drop the rest of one that it has received in parts.

        Raises:
            HandleBusyError: another task is receiving one.
        """
        stream = self.stream
        if stream is None:
            return
        task = stream.task
        if task is not current_task() and inspect.getcoroutinestate(task.coro) != inspect.CORO_CLOSED:
            blocker = stream.blocker
            raise HandleBusyError(
                f"receive refused: {handle!r}: a message is being received in parts: {blocker}. Read it to its end, or "
                f"drop its rest with aclose()",
                (blocker,),
            )
        self.drop(stream)

    @enable_ki_protection
    def drop(self, stream: PartStream) -> None:
        """Drop what has not been received of a message."""
        if stream is self.stream:
            self.stream = None
            self._engine.reader.want_whole()
        if stream.state is not StreamState.OVER:
            stream.state = StreamState.DROPPED
