"""Messages in parts (RFC 6455 §5.4): for those too large to be held in memory, or that come into being slowly.

A message that is sent in parts has a lease on the handle, so the handle cannot be taken away between two parts. If it
cannot be finished the WebSocket is closed, as nothing else may follow a message without an end. One that is received in
parts belongs to the task that asked for it. When that task goes on to the next message, the rest of this one is
dropped.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Self

import trio
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint_if_cancelled,
    current_task,
    disable_ki_protection,
    enable_ki_protection,
)

from ..errors import LocalProtocolError
from ..handle import guards
from ..ownership import Phase
from ..support.generators import close_generator
from .receiving import PartStream, StreamState
from .sending import take_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..handle import Handle, Lease
    from .close_state import CloseState
    from .protocol.reader import Message, MessageReader
    from .receiving import MessageReceiver
    from .sending import MessageSender

    Part = str | bytes | bytearray | memoryview
    Parts = Iterable[Part] | AsyncIterable[Part]

__all__ = ["ABANDONED", "Fragments", "check_parts", "send_in_fragments"]


ABANDONED: Final = (1011, "a message was abandoned")
"""What a peer is told that will not get the rest of a message."""


# --- receiving ----------------------------------------------------------------------------------------------------


class Fragments:
    """A message, received in parts: iterate over it with ``async for``. Made by `WebSocket.receive_fragments`."""

    __slots__ = ("_closing", "_handle", "_reader", "_receiver", "_stream")

    def __init__(self, handle: Handle, receiver: MessageReceiver, reader: MessageReader, closing: CloseState) -> None:
        self._handle = handle
        self._receiver = receiver
        self._reader = reader
        self._closing = closing
        self._stream = PartStream()

    def __aiter__(self) -> Self:
        """Iterate over the parts."""
        return self

    @enable_ki_protection
    async def __anext__(self) -> Message:
        """The next part: str of a text message, bytes of a binary one.

        Raises:
            StopAsyncIteration: the message is complete.
            LocalProtocolError: its rest was dropped.
            Others: as `WebSocket.get_message`, but for a limit.

        Cancellation: nothing is lost; the next call goes on.
        """
        receiver, stream = self._receiver, self._stream
        await take_turn(receiver.turn)
        try:
            await checkpoint_if_cancelled()
            if stream.state is StreamState.OVER:
                raise StopAsyncIteration
            if stream.state is StreamState.DROPPED:
                raise LocalProtocolError("the rest of this message was dropped when the next one was asked for")
            if stream.state is StreamState.NEW:
                receiver.settle(self._handle)
                if receiver.messages and self._handle._life.state.phase is not Phase.MOVED:
                    stream.state = StreamState.OVER
                    return await receiver.take_message()
                self._begin()
            return await self._await_part()
        finally:
            receiver.turn.release()

    def _begin(self) -> None:
        stream = self._stream
        stream.state = StreamState.COMING
        stream.task = current_task()
        stream.since = trio.current_time()
        self._receiver.stream = stream
        self._reader.want_parts()

    async def _await_part(self) -> Message:
        reader, receiver, stream = self._reader, self._receiver, self._stream
        waited = False
        try:
            while not reader.parts:
                if reader.parts_over:
                    stream.state = StreamState.OVER
                    receiver.stream = None
                    raise StopAsyncIteration
                if self._closing.violation is not None:
                    self._closing.raise_violation(self._handle)
                await receiver.read_batch(self._handle, patient=True)
                waited = True
        except BaseException:
            if stream.state is StreamState.COMING and reader.parts_not_begun:
                stream.state = StreamState.NEW
                receiver.stream = None
                reader.want_whole()
            raise
        part = reader.parts.popleft()
        if not waited:
            await cancel_shielded_checkpoint()
        return part

    async def aclose(self) -> None:
        """Drop what has not been received of the message. Does nothing if it is complete.

        Cancellation: it is dropped all the same.
        """
        self._receiver.drop(self._stream)
        await trio.lowlevel.checkpoint()


# --- sending ------------------------------------------------------------------------------------------------------


def check_parts(parts: Any) -> None:
    """Raise unless these can be the parts of a message.

    Raises:
        TypeError: it is a single message, or nothing to iterate over.
    """
    if isinstance(parts, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"parts must be an iterable of parts, not one {type(parts).__name__}; use send_message()")
    if not isinstance(parts, (Iterable, AsyncIterable)):
        raise TypeError(f"parts must be an iterable or async iterable of str or of bytes, not {parts!r}")


@enable_ki_protection
async def send_in_fragments(handle: Handle, sender: MessageSender, closing: CloseState, parts: Parts) -> None:
    """Send one message in parts. See `WebSocket.send_fragments`."""
    await sender.take_message_turn(handle)
    try:
        await checkpoint_if_cancelled()
        if not sender.frame_turn.held:  # else it is a control frame's turn, or that of what is due
            sender.check(handle)
        lease = guards.grant_lease(handle, "send_fragments")
        sender.fragmenting = True
        try:
            await _send_parts(handle, sender, closing, parts, lease)
        finally:
            sender.fragmenting = sender.unfinished = False
            lease.end()
    finally:
        sender.unsent += sender.posted
        sender.posted.clear()
        sender.message_turn.release()
        sender.flush(handle)


async def _send_parts(handle: Handle, sender: MessageSender, closing: CloseState, parts: Parts, lease: Lease) -> None:
    writer = sender.writer
    kind: type | None = None
    try:
        async with aclosing(_each(parts)) as each:
            async for part in each:
                text = isinstance(part, str)
                if kind is None:
                    await sender.send_frame(handle, writer.first, part, lease=lease)
                    sender.unfinished = True
                    kind = str if text else bytes
                elif text != (kind is str):
                    raise TypeError(
                        f"the parts of a message must be of one kind: this one is {type(part).__name__}, "
                        f"the ones before are {kind.__name__}"
                    )
                else:
                    await sender.send_frame(handle, writer.next, part, lease=lease)
        if kind is not None:
            await sender.send_frame(handle, writer.last, lease=lease)
    except BaseException:
        if kind is not None:
            _abandon(handle, sender, closing)
        raise
    if kind is None:
        raise ValueError("send_fragments was given no part: nothing was sent; an empty message has one empty part")


@enable_ki_protection
def _abandon(handle: Handle, sender: MessageSender, closing: CloseState) -> None:
    """A message has begun that will not end: nothing but a close may follow it (RFC 6455 §5.4). A step."""
    sender.posted.clear()
    if handle._life.state.phase is Phase.OPEN:
        closing.to_say = ABANDONED
        handle._close_in_background()


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
