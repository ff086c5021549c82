"""The end of a WebSocket: who closes first, what is said, and how long one waits for the other (RFC 6455 §7).

Whatever ends it, the peer is told in a close frame if that can still be done, and the connection is let go within the
drain deadline of the scope. The peer's close and its offences are answered by the task that reads them; only where the
answer has to wait does a service task of the scope take over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import trio
from trio.lowlevel import enable_ki_protection

from ..ownership import Event, Phase, Reason, Receive, Send
from ..transport.linger import linger
from ..transport.protocol import MAX_RECEIVE
from .close_codes import CLEAN, CloseReason, ConnectionClosed, check_close
from .receiving import Link

if TYPE_CHECKING:
    from ..errors import TrionetError
    from ..handle.detached import Detached
    from .protocol.engine import Engine

__all__ = ["Closing"]

TOO_SLOW: Final = (1013, "too slow")
"""What a peer is told that does not read what it is sent."""


class Closing(Link):
    """A handle that knows how a WebSocket ends."""

    __slots__ = ("_final", "_parted", "_retire_by", "_to_raise", "_words")

    def __init__(self, capsule: Detached, engine: Engine) -> None:
        self._words = (1000, "")
        # What ended the WebSocket, where that was not this side's own decision.
        self._final: Event | None = None
        self._to_raise: TrionetError | None = None
        self._parted = False
        self._retire_by = 0.0
        super().__init__(capsule, engine)

    @enable_ki_protection
    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:
        """Close gracefully: finish a message that is being sent, send a close frame, wait for the peer's, release.

        A task that waits for a message is woken with `ConnectionClosed`; messages that nobody took are dropped. Does
        nothing on a WebSocket that has ended or moved. At the scope's ``drain_timeout`` the rest is cut off.

        Args:
            code: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: At most 123 bytes of UTF-8.

        Raises:
            LocalProtocolError: code or reason cannot be sent; nothing has changed.

        The handle is CLOSED afterwards: `LOCAL`, `DRAIN_TIMEOUT`, `PEER_RESET`, or how the peer ended it first.

        Cancellation: the handle is aborted (`ABORTED`).

        Source: RFC 6455 §7.1.2, §7.4.
        """
        check_close(code, reason)
        await self._close_with(code, reason or "")

    @enable_ki_protection
    async def _close_with(self, code: int, reason: str) -> None:
        self._check_run(Event.ACLOSE)
        if self._life.phase is Phase.OPEN:
            self._words = (code, reason)
        await super().aclose()

    @enable_ki_protection
    def _retire(self, grace: float = 0.0) -> None:
        """Close with 1001 (going away), as soon as the messages that have arrived are taken. A step.

        While they are not, they can be answered, for `grace` seconds; and taken also later. Where there are none the
        peer is told at once, also while nobody is receiving. See `Handle._retire`.
        """
        self._check_run("retire")
        life = self._life
        if life.phase is not Phase.OPEN or life.retiring:
            return
        self._words = (1001, "")
        more = self._take_what_came()
        self._retire_by = trio.current_time() + grace
        super()._retire(grace)
        if more:
            return  # the caretaker sees to it
        if self.phase is Phase.OPEN and life.receive is not Receive.BUSY and not self._engine.reader.messages:
            self._close_in_background()

    def _take_what_came(self) -> bool:
        """Do some of a reader's work where there is none: whether there may be more. A step; defined by `Kept`."""
        raise NotImplementedError

    @enable_ki_protection
    def _handler_failed(self, error: BaseException | None = None) -> None:
        """The handler has raised: close with 1011 (internal error). A step; the close follows from the scope's end."""
        self._check_run("handler failed")
        if self._life.phase is Phase.OPEN:
            self._words = (1011, "")

    @enable_ki_protection
    def _too_slow(self) -> None:
        """The peer does not read what it is sent: close with 1013 (try again later). A step."""
        if self._life.phase is Phase.OPEN:
            self._words = TOO_SLOW
            self._close_in_background()

    @property
    def _closed_here(self) -> bool:
        """Whether this side is closing gracefully, or has done so."""
        life = self._life
        return self._final is None and (
            life.phase is Phase.DRAINING or life.reason in (Reason.LOCAL, Reason.DRAIN_TIMEOUT)
        )

    @property
    def _ended_by_peer(self) -> Reason | None:
        if self._words is TOO_SLOW:
            return Reason.IDLE_TIMEOUT
        if self._life.reset or self._final is None:
            return super()._ended_by_peer
        return Reason.PROTOCOL_ERROR if self._final is Event.PROTOCOL_ERROR else Reason.PEER_EOF

    # --- what the peer did ---------------------------------------------------------------------------------------

    @enable_ki_protection
    def _take_events(self) -> None:
        engine = self._engine
        for payload in engine.take_pongs():
            self._pong_came(payload)
        if self._life.phase is not Phase.OPEN:
            return  # a close on this side is under way, and looks for itself
        if engine.failure is not None:
            code, error = engine.failure
            self._to_raise = error
            # What is raised refers to the handle by its traceback. So the record keeps another one: else both would be
            # garbage that only the collector finds.
            self._failure = type(error)(*error.args)
            engine.failure = code, self._failure
            self._end_by(Event.PROTOCOL_ERROR, CloseReason(code, str(error)))
        elif engine.peer_close is not None:
            code, reason = engine.peer_close
            self._end_by(Event.PEER_GONE, CloseReason(code, reason or None))

    def _raise_offence(self) -> NoReturn:
        """Raise what the peer did wrong, which is done once."""
        error, self._to_raise = self._to_raise, None
        assert error is not None
        try:
            raise error.with_handle(self)
        finally:
            del error  # the frame must not keep its own traceback alive

    @enable_ki_protection
    def _end_by(self, event: Event, reason: CloseReason) -> None:
        """The peer has ended the WebSocket, or has to be told that it is over: answer now, then let go. A step.

        A server that has answered closes the connection at once (RFC 6455 §7.1.1); a client gives the server the time
        to do that, and whoever reports an offence lingers, so that the report is not lost in a reset.
        """
        self._close = reason
        self._final = event
        if event is Event.PEER_GONE and reason.code not in CLEAN:
            self._failure = ConnectionClosed(reason, f"{self!r} was closed by the peer")
        if self._life.poisoned:
            self._take(event)
        elif (
            not self._answer() or self._engine.writer.client or event is Event.PROTOCOL_ERROR or self._transport.parting
        ):
            self._close_in_background()
        else:
            self._take(event)

    def _answer(self) -> bool:
        """Send the close frame that is due, if that needs no waiting: whether it is out."""
        if self._writing.held or self._life.send is not Send.IDLE:
            return False
        data = self._last_words()
        try:
            sent = self._transport.send_some(data)
        except trio.BrokenResourceError:
            return True
        self._unsent += data[sent:]
        return sent == len(data)

    def _last_words(self) -> bytes:
        writer = self._engine.writer
        data = bytes(self._unsent) + writer.pongs + writer.close_frame
        self._unsent.clear()
        writer.pongs = writer.close_frame = b""
        return data

    @enable_ki_protection
    def _peer_vanished(self) -> None:
        """EOF without a close frame. A step."""
        self._close = self._close or CloseReason(1006, None)
        if self._life.phase is Phase.OPEN:
            self._failure = ConnectionClosed(self._close, f"{self!r}: the peer ended the connection without a close")
            self._final = Event.PEER_GONE
            self._take(Event.PEER_GONE)

    def _phase_changed(self, before: Phase) -> None:
        phase = self._life.phase
        if phase is Phase.DRAINING and self._close is None:
            code, reason = self._words
            self._close = CloseReason(code, reason or None)
        elif phase is Phase.CLOSED and self._close is None:
            self._close = CloseReason(1006, None)
        if phase is not Phase.MOVED and self._final is None:
            if not self._life.retiring:  # else they arrived before the server began to drain
                self._engine.reader.messages.clear()
            self._engine.reader.parts.clear()
        super()._phase_changed(before)

    # --- the goodbye ---------------------------------------------------------------------------------------------

    @property
    def _parting(self) -> bool:
        return not (self._parted or self._life.poisoned)

    async def _goodbye(self) -> None:
        """The closing handshake (RFC 6455 §7.1), then the transport's own goodbye."""
        try:
            self._engine.reader.want_nothing()
            await self._take_leftover()
            self._engine.writer.close(*self._words)
            if data := self._last_words():
                await self._transport.send_all(data)
            await self._wait_for_close()
        except trio.BrokenResourceError:
            if self._final is None and self._engine.peer_close is None:
                raise
        if self._transport.parting:
            await self._transport.goodbye()
        self._parted = True
        if self._final is not None:
            self._take(self._final)

    async def _take_leftover(self) -> None:
        """What came behind the handshake, or was left by the engine: it may have the peer's close in it."""
        data = bytes(self._leftover)
        self._leftover.clear()
        await self._skim(data)

    async def _skim(self, data: bytes) -> None:
        """Look for the peer's close only; nothing else is wanted any more, nor kept."""
        engine = self._engine
        engine.receive(data)
        while engine.reader.tired:
            await trio.lowlevel.checkpoint()
            engine.go_on()
        engine.take_pongs()

    async def _wait_for_close(self) -> None:
        """Until the peer has answered the close frame; and, where that is due, until it has ended the connection."""
        engine = self._engine
        while engine.peer_close is None and engine.failure is None:
            data = await self._transport.receive_some(MAX_RECEIVE)
            if not data:
                return
            await self._skim(data)
        if engine.writer.client or engine.failure is not None:
            await linger(self._transport, end_sending=engine.failure is not None)
