"""Messages in parts (RFC 6455 §5.4): for those too large to be held in memory, or that come into being slowly.

A message that is sent in parts has a lease on the handle, so nobody takes that away between two parts; if it cannot be
finished the WebSocket is closed, as nothing else may follow a message without an end. One that is received in parts
belongs to the task that asked for it. When that task goes on to the next message, the rest of this one is dropped.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Iterable
from contextlib import aclosing
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Self

import trio
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint_if_cancelled,
    current_task,
    disable_ki_protection,
    enable_ki_protection,
)

from ..errors import HandleBusyError, LocalProtocolError
from ..ownership import Blocker, Event, Phase
from ..support.generators import close_generator
from .keepalive import Kept
from .sending import take_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..handle import Lease
    from .protocol.reader import Message

    Part = str | bytes | bytearray | memoryview
    Parts = Iterable[Part] | AsyncIterable[Part]

__all__ = ["Fragments", "InFragments"]


_ABANDONED: Final = (1011, "a message was abandoned")
"""What a peer is told that will not get the rest of a message."""


class _State(Enum):
    NEW = auto()
    COMING = auto()
    OVER = auto()
    DROPPED = auto()


class Fragments:
    """A message, received in parts: iterate over it with ``async for``. Made by `WebSocket.receive_fragments`."""

    __slots__ = ("_websocket", "since", "state", "task")

    def __init__(self, websocket: InFragments) -> None:
        self._websocket = websocket
        self.state = _State.NEW
        self.task: Any = None
        self.since = 0.0

    def __aiter__(self) -> Self:
        """Iterate over the parts."""
        return self

    async def __anext__(self) -> Message:
        """The next part: str of a text message, bytes of a binary one.

        Raises:
            StopAsyncIteration: the message is complete.
            LocalProtocolError: its rest was dropped.
            Others: as `WebSocket.get_message`, but for a limit.

        Cancellation: nothing is lost; the next call goes on.
        """
        return await self._websocket._next_part(self)

    async def aclose(self) -> None:
        """Drop what has not been received of the message. Does nothing if it is complete.

        Cancellation: it is dropped all the same.
        """
        self._websocket._drop(self)
        await trio.lowlevel.checkpoint()


class InFragments(Kept):
    """A handle that sends and receives messages in parts."""

    __slots__ = ("_stream", "_unfinished")

    def _renew(self) -> None:
        super()._renew()
        # Whether the first frame of a message has been sent whose last one has not.
        self._unfinished = False
        self._stream: Fragments | None = None

    # --- sending -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def send_fragments(self, parts: Parts) -> None:
        """Send one message in parts: each leaves as soon as it is there, as a frame of its own.

        Other messages wait until it is complete; pings and pongs do not.

        Args:
            parts: An iterable, or asynchronous iterable, of str for a text message, or of bytes-like for a binary one;
                at least one.

        Raises:
            TypeError, ValueError: it is a single message, has no part, or parts of both kinds.
            ConnectionClosed, HandleBrokenError, HandleMovedError, HandleBusyError, LocalProtocolError: as
                `send_message`.
            Whatever `parts` raises.

        If it raises behind the first part, the WebSocket is closed with 1011: the peer never sees a valid end. So it is
        if what makes the parts calls `aclose`.

        Cancellation: the message was not begun; or, behind the first part, the WebSocket is closed as for an error.

        A generator is closed when this returns or raises, also where it was refused.

        Source: RFC 6455 §5.4.
        """
        if isinstance(parts, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"parts must be an iterable of parts, not one {type(parts).__name__}; use send_message()")
        if not isinstance(parts, (Iterable, AsyncIterable)):
            raise TypeError(f"parts must be an iterable or async iterable of str or of bytes, not {parts!r}")
        try:
            await self._send_in_fragments(parts)
        finally:
            await close_generator(parts)  # noqa: ASYNC102 - what a generator waits for at its end is its own business

    @enable_ki_protection
    async def _send_in_fragments(self, parts: Parts) -> None:
        if self._life.phase is not Phase.OPEN:
            self._refuse_send()
        await self._take_message_turn()
        try:
            await checkpoint_if_cancelled()
            if not self._writing.held:  # else it is a control frame's turn, or that of what is due
                self._refuse_send()
            lease = self._lease("send_fragments")
            self._fragmenting = True
            try:
                await self._send_parts(parts, lease)
            finally:
                self._fragmenting = self._unfinished = False
                lease.end()
        finally:
            self._unsent += self._posted
            self._posted.clear()
            self._composing.release()
            self.flush()

    async def _send_parts(self, parts: Parts, lease: Lease) -> None:
        writer = self._engine.writer
        kind: type | None = None
        try:
            async with aclosing(_each(parts)) as each:
                async for part in each:
                    text = isinstance(part, str)
                    if kind is None:
                        await self._send_frame(writer.first, part, lease=lease)
                        self._unfinished = True
                        kind = str if text else bytes
                    elif text != (kind is str):
                        raise TypeError(f"a part is {type(part).__name__}, the ones before are {kind.__name__}")
                    else:
                        await self._send_frame(writer.next, part, lease=lease)
            if kind is not None:
                await self._send_frame(writer.last, lease=lease)
        except BaseException:
            if kind is not None:
                self._abandon()
            raise
        if kind is None:
            raise ValueError("send_fragments was given no part: nothing was sent; an empty message has one empty part")

    @enable_ki_protection
    def _abandon(self) -> None:
        """A message has begun that will not end: nothing but a close may follow it (RFC 6455 §5.4). A step."""
        self._posted.clear()
        if self._life.phase is Phase.OPEN:
            self._words = _ABANDONED
            self._close_in_background()

    def _waits_for_asker(self) -> bool:
        """Whether the task that asks is sending a message in parts: then it is what makes them that asks."""
        return bool(self._leases) and self._leases[0]._holder is current_task()

    @enable_ki_protection
    async def _close_with(self, code: int, reason: str) -> None:
        """As for `Closing`; but what makes the parts of a message does not wait for the rest of them: none comes."""
        if self._waits_for_asker():
            if self._life.phase is Phase.OPEN:
                self._words = _ABANDONED if self._unfinished else (code, reason)
            self._take(Event.ACLOSE)  # first: nobody else gets the handle when the lease ends
            self._posted.clear()
            self._leases[0]._give_up()
        await super()._close_with(code, reason)

    # --- receiving -----------------------------------------------------------------------------------------------

    def receive_fragments(self) -> Fragments:
        """The next message in parts, as they come: ``async for part in ws.receive_fragments()``.

        There is at least one part; where they are cut is up to chance. `max_message_size` does not count, as nobody
        holds the whole message; add the parts up where a limit is needed. Until the message is complete it belongs
        to the task that iterates: if that task asks for the next message, or calls `Fragments.aclose`, the rest is
        dropped; other tasks that ask for one are refused (`HandleBusyError`).

        Source: RFC 6455 §5.4.
        """
        return Fragments(self)

    @enable_ki_protection
    async def _next_part(self, stream: Fragments) -> Message:
        await take_turn(self._reading)
        try:
            await checkpoint_if_cancelled()
            if stream.state is _State.OVER:
                raise StopAsyncIteration
            if stream.state is _State.DROPPED:
                raise LocalProtocolError("the rest of this message was dropped when the next one was asked for")
            if stream.state is _State.NEW:
                self._settle()
                messages = self._engine.reader.messages
                if messages and self._life.phase is not Phase.MOVED:
                    stream.state = _State.OVER
                    message = messages.popleft()
                    await self._take_a_turn()
                    return message
                self._begin_stream(stream)
            return await self._await_part(stream)
        finally:
            self._reading.release()

    def _begin_stream(self, stream: Fragments) -> None:
        stream.state = _State.COMING
        stream.task = current_task()
        stream.since = trio.current_time()
        self._stream = stream
        self._engine.reader.want_parts()

    async def _await_part(self, stream: Fragments) -> Message:
        reader = self._engine.reader
        try:
            waited = False
            while not reader.parts:
                if reader.parts_over:
                    stream.state = _State.OVER
                    self._stream = None
                    raise StopAsyncIteration
                if self._to_raise is not None:
                    self._raise_offence()
                await self._read_batch(patient=True)
                waited = True
        except BaseException:
            if stream.state is _State.COMING and reader.parts_not_begun:
                stream.state = _State.NEW
                self._stream = None
                reader.want_whole()
            raise
        part = reader.parts.popleft()
        if not waited:
            await cancel_shielded_checkpoint()
        return part

    @enable_ki_protection
    def _settle(self) -> None:
        """The task that is running wants the next message: drop the rest of one that it has received in parts.

        Raises:
            HandleBusyError: another task is receiving one.
        """
        stream = self._stream
        if stream is None:
            return
        task = stream.task
        if task is not current_task() and inspect.getcoroutinestate(task.coro) != inspect.CORO_CLOSED:
            blocker = self._stream_blocker(stream)
            raise HandleBusyError(
                f"receive refused: {self!r}: a message is being received in parts: {blocker}. Read it to its end, or "
                f"drop its rest with aclose()",
                (blocker,),
            )
        self._drop(stream)

    @enable_ki_protection
    def _drop(self, stream: Fragments) -> None:
        if stream is self._stream:
            self._stream = None
            self._engine.reader.want_whole()
        if stream.state is not _State.OVER:
            stream.state = _State.DROPPED

    def transfer(self, scope: Any) -> Self:
        """As `Handle.transfer`; refused while a message is received in parts. A step."""
        if self._stream is not None and self._life.phase is Phase.OPEN:
            blocker = self._stream_blocker(self._stream)
            raise HandleBusyError(f"transfer refused: {self!r} is in use: {blocker}", (blocker,))
        return super().transfer(scope)

    @staticmethod
    def _stream_blocker(stream: Fragments) -> Blocker:
        return Blocker(stream.task.name, "receive_fragments", stream.since)


@disable_ki_protection
async def _each(parts: Any) -> AsyncGenerator[Part, None]:
    """The parts; the user's code that makes them can be interrupted by Ctrl-C."""
    iterator = parts.__aiter__() if hasattr(parts, "__aiter__") else iter(parts)
    try:
        if hasattr(iterator, "__anext__"):
            async for part in iterator:
                yield part
        else:
            for part in iterator:
                yield part
    finally:
        await close_generator(iterator)  # noqa: ASYNC102 - of the iterable's own making, perhaps
