"""The closing handshake: who closes first, what is said, and how long one waits for the other (RFC 6455 §7).

*This side closes first* (`aclose`, the end of a scope or of a handler, a server's drain). The handle becomes DRAINING:
a task that waits for a message is woken, a message that is being sent is finished. Then comes `CloseHandshake.goodbye`:
the close frame goes out behind all that is due, and input is read until the peer's close frame comes; messages before
it are dropped. A client then waits until the server has ended the connection (§7.1.1), for a second at most. All of it
together has one deadline, that of whoever asked for it: the ``drain_timeout`` of the scope, or what a server's drain
has left. At the deadline the connection is cut off.

*The peer closes first*, or breaks the protocol, or ends the connection without a word (`CloseHandshake.peer_ended`,
`peer_vanished`). Whoever read it answers in the same step, if the transport takes the answer at once and nobody is in
the middle of a frame; a server lets go of the connection right behind it, and that is all. Only where something has to
be waited for does a service task of the scope do the rest, as for a close of this side: the answer has to wait, a
client gives the server time to end the connection first, or TLS has a goodbye of its own. Whoever reports a violation
lingers, so that the report is not lost in a reset.

*Who reads.* While the handle is OPEN, whoever has the receive turn, or the attendance of the caretaker's tick. From
DRAINING on, the goodbye alone: all other reads are refused, and a pending one was woken.

Who began it is what the program is told, the first reason wins, and it never changes: `CloseState` has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..ownership import Event, Phase, Send
from ..transport.linger import linger
from ..transport.protocol import MAX_RECEIVE
from .close_codes import CLEAN, CloseReason, ConnectionClosed

if TYPE_CHECKING:
    from ..handle import Handle
    from .close_state import CloseState
    from .protocol.engine import Engine
    from .sending import MessageSender

__all__ = ["TOO_SLOW", "CloseHandshake"]

TOO_SLOW: Final = (1013, "too slow")
"""What a peer is told that does not read what it is sent."""


class CloseHandshake:
    """Says goodbye, and answers the peer's.

    Attributes:
        over: Whether all has been said.
    """

    __slots__ = ("_closing", "_engine", "_sender", "over")

    def __init__(self, engine: Engine, closing: CloseState, sender: MessageSender) -> None:
        self._engine = engine
        self._closing = closing
        self._sender = sender
        self.over = False

    @enable_ki_protection
    def give_up_slow(self, handle: Handle) -> None:
        """The peer does not read what it is sent: close with 1013 (try again later). A step."""
        if handle._life.state.phase is Phase.OPEN:
            self._closing.to_say = TOO_SLOW
            handle._close_in_background()

    # --- what the peer did ---------------------------------------------------------------------------------------

    @enable_ki_protection
    def peer_ended(self, handle: Handle) -> None:
        """The engine has seen the peer's close frame, or a violation; the handle is open. A step."""
        engine, closing = self._engine, self._closing
        if engine.failure is not None:
            code, error = engine.failure
            closing.violation = error
            # What is raised refers to the handle by its traceback. So the record keeps another one: else both would be
            # garbage that only the collector finds.
            kept = type(error)(*error.args)
            handle._failure, engine.failure = kept, (code, kept)
            closing.reason = CloseReason(code, str(error))
            self._answer(handle, Event.PROTOCOL_ERROR)
        elif engine.peer_close is not None:
            code, reason = engine.peer_close
            closing.reason = CloseReason(code, reason or None)
            if code not in CLEAN:
                handle._failure = ConnectionClosed(closing.reason, f"{handle!r} was closed by the peer")
            self._answer(handle, Event.PEER_GONE)

    @enable_ki_protection
    def peer_vanished(self, handle: Handle) -> None:
        """EOF without a close frame. A step."""
        reason = self._closing.broken()
        if handle._life.state.phase is Phase.OPEN:
            handle._failure = ConnectionClosed(reason, f"{handle!r}: the peer ended the connection without a close")
            self._closing.cause = Event.PEER_GONE
            handle._take(Event.PEER_GONE)

    def _answer(self, handle: Handle, cause: Event) -> None:
        """Send the close frame that is due, now if that needs no waiting; then let go of the connection. A step."""
        self._closing.cause = cause
        last = cause is Event.PEER_GONE and not (self._engine.writer.client or handle._transport.parting)
        if handle._life.state.poisoned or (self._answer_now(handle) and last):
            handle._take(cause)
        else:
            handle._close_in_background()

    def _answer_now(self, handle: Handle) -> bool:
        """Send the close frame that is due, if that needs no waiting: whether it is out."""
        if self._sender.frame_turn.held or handle._life.state.send is not Send.IDLE:
            return False
        data = self._last_words()
        try:
            sent = handle._transport.send_some(data)
        except trio.BrokenResourceError:
            return True
        self._sender.unsent += data[sent:]
        return sent == len(data)

    def _last_words(self) -> bytes:
        """What is due, and the close frame behind it."""
        writer = self._engine.writer
        data, writer.close_frame = self._sender.take_due() + writer.close_frame, b""
        return data

    # --- the goodbye ---------------------------------------------------------------------------------------------

    async def goodbye(self, handle: Handle) -> None:
        """The closing handshake (RFC 6455 §7.1), then the transport's own goodbye."""
        engine, closing, transport = self._engine, self._closing, handle._transport
        try:
            engine.reader.want_nothing()
            if handle._leftover or engine.reader.stalled:
                await self._look_at_leftover(handle)
            engine.writer.close(*closing.to_say)
            if data := self._last_words():
                await transport.send_all(data)
            await self._wait_for_peer(handle)
        except trio.BrokenResourceError:
            if closing.cause is None and engine.peer_close is None:
                raise
        if transport.parting:
            await transport.goodbye()
        self.over = True
        if closing.cause is not None:
            handle._take(closing.cause)

    async def _look_at_leftover(self, handle: Handle) -> None:
        """What came behind the opening handshake, or was left by the engine: the peer's close may be in it."""
        data = bytes(handle._leftover)
        handle._leftover.clear()
        await self._skim(data)

    async def _skim(self, data: bytes) -> None:
        """Look for the peer's close only; nothing else is wanted any more, nor kept."""
        engine = self._engine
        engine.receive(data)
        while engine.reader.tired:
            await trio.lowlevel.checkpoint()
            engine.go_on()
        engine.pongs.clear()

    async def _wait_for_peer(self, handle: Handle) -> None:
        """Until the peer has sent its close frame; and, where that is due, until it has ended the connection."""
        engine, transport = self._engine, handle._transport
        while engine.peer_close is None and engine.failure is None:
            data = await transport.receive_some(MAX_RECEIVE)
            if not data:
                return
            await self._skim(data)
        if engine.writer.client or engine.failure is not None:
            await linger(transport, end_sending=engine.failure is not None)
