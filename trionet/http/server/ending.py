"""How a server's HTTP connection ends, and how an exchange does that its handler has left.

Whatever ends it, the client is told if that can still be done: an answer is completed or visibly cut off, an error
answer stays readable, and a client that has gone is noticed while its answer is being worked out.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio
from trio.lowlevel import current_clock, current_task, enable_ki_protection

from ...errors import HandleBrokenError, HandleClosedError, RemoteProtocolError, errors_on, unraised
from ...ownership import Blocker, Event, Phase, Reason, Receive, Refusal, Refuse, Send
from ...transport.linger import linger
from ...transport.protocol import MAX_RECEIVE
from ..protocol.body_reader import PIECES, EndOfMessage
from ..protocol.states import H1State
from .error_response import PLAIN_TEXT, answer_status, error_text
from .link import Link
from .lookout import eof_counts, is_answered

if TYPE_CHECKING:
    from ...custody.owner import Owner
    from ...handle.detached import Detached
    from ..protocol.limits import HTTPLimits
    from .exchange import Exchange

__all__ = ["Ending"]

_NOT_ANSWERED: Final = b"the request was not answered\n"
_REASONS: Final = {Event.PROTOCOL_ERROR: Reason.PROTOCOL_ERROR, Event.PEER_GONE: Reason.PEER_EOF}


class Ending(Link):
    """A handle that knows how an HTTP connection ends."""

    __slots__ = (
        "_clock", "_final", "_grace_ends", "_handler", "_head", "_in_a_row", "_linger", "_seen", "_spared", "_stuck",
        "_turned",
    )  # fmt: skip

    def __init__(self, capsule: Detached, limits: HTTPLimits) -> None:
        super().__init__(capsule, limits)
        # What ended the connection, where that was not this side's own decision; whether to wait for the client then.
        self._final: Event | None = None
        self._linger = False
        self._clock = current_clock()  # `trio.current_time` would look for it each time
        self._handler: Any = None
        self._in_a_row = 0
        # Until when a next request is waited for although the connection is to end.
        self._grace_ends = 0.0

    def _renew(self) -> None:
        super()._renew()
        self._turned: trio.Event | None = None
        # What the caretaker has seen when it looked the last time.
        self._seen: tuple[Exchange | None, str | None] | None = None
        self._head: tuple[int, float] | None = None
        self._stuck: tuple[float, object, float] | None = None
        # The receive, or the head, that was late and had input to take, and so was given one tick more.
        self._spared: object = None

    @enable_ki_protection
    def _seat(self, owner: Owner, instead_of: Any = None) -> None:
        """As for every handle; and the owner's caretaker looks after it."""
        super()._seat(owner, instead_of)
        owner.caretaker.watch(self)

    def _phase_changed(self, before: Phase) -> None:
        if self._life.phase.terminal:
            self._owner.caretaker.unwatch(self)
            if self.lookout is not None:
                self.lookout.tell()
                self.lookout = None
        if self._life.phase is Phase.MOVED:
            self._forget_work()
        if self._turned is not None:
            self._turned.set()
            self._turned = None
        super()._phase_changed(before)

    @enable_ki_protection
    def _forget_work(self) -> None:
        """As `Member._forget_work`: the exchange refers to this handle, so that they would be garbage together."""
        self.exchange = self._seen = None

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """The work in progress on the handle; see `Handle.blockers`."""
        found = super().blockers
        if self.exchange is None or self._life.phase.terminal:
            return found
        head = self.exchange.head
        task = "" if self._handler is None else self._handler.name
        return (*found, Blocker(task, f"exchange ({head.method} {head.shown_target})", self._reader_since))

    # --- exchanges that their handler has left -------------------------------------------------------------------

    @enable_ki_protection
    async def _conclude(self, exchange: Exchange) -> None:
        """The handler asks for the next request: see this exchange to its end."""
        if self._life.phase.terminal:
            return
        if not self._is_deserted():
            raise self._refusal(Refuse(Refusal.BUSY), Event.LEASE)
        try:
            await self._complete(exchange)
        except HandleBrokenError:  # the client has gone
            self.tear(exchange)
            raise StopAsyncIteration from None
        except HandleClosedError:  # or is not waited for any more
            if not self._life.phase.terminal:
                raise

    @enable_ki_protection
    async def _complete(self, exchange: Exchange) -> None:
        """Do what the handler has left undone."""
        machine = self.machine
        if machine.our_state is H1State.HEAD:
            self._report_unanswered(exchange)
            await exchange.respond(500, _NOT_ANSWERED, headers=PLAIN_TEXT)
        elif machine.our_state is H1State.BODY:
            if self.is_unfinished(exchange):
                self._report_unanswered(exchange)
            self.tear(exchange)
        if self.exchange is exchange and not self._life.phase.terminal:
            await self._drop_body(exchange)

    @enable_ki_protection
    async def _drop_body(self, exchange: Exchange) -> None:
        """Read what is left of the request, within bounds; beyond them the connection ends with this exchange."""
        machine, limits = self.machine, self.limits
        size = pieces = 0
        if machine.keep_alive:
            await self.flush_all(exchange)
            with trio.move_on_after(limits.drain_timeout):
                while size <= limits.drain_bytes and not exchange.body_complete():
                    try:
                        event = machine.next_event()
                    except RemoteProtocolError:
                        break
                    if type(event) is bytes:
                        size += len(event)
                        pieces += 1
                        if not pieces % PIECES:
                            await trio.lowlevel.checkpoint()
                    elif not isinstance(event, EndOfMessage):
                        await self.receive_body(exchange)
        self.settle_exchange()
        if self.exchange is exchange:
            self._end_exchange_early()

    @enable_ki_protection
    def _end_exchange_early(self) -> None:
        """The exchange is over although the request is not: the connection ends with it. A step."""
        self.machine.disable_keep_alive()
        self._linger = True
        if self.machine.peer_state is H1State.BROKEN:
            self._final = Event.PROTOCOL_ERROR
        self.exchange = None
        self._take(Event.LEASE_ENDED)

    def _report_unanswered(self, exchange: Exchange) -> None:
        if self._watcher is not None and not self.peer_failed:
            self._watcher.left_unanswered(exchange)

    @enable_ki_protection
    def _desert(self, status: int = 500) -> None:
        """Nobody goes on with the exchange: answer for the handler that did not, or cut off what it began. A step."""
        exchange, machine = self.exchange, self.machine
        if exchange is None or self._life.phase.terminal:
            return
        if machine.our_state is H1State.BODY:
            self.tear(exchange)
            return
        if machine.our_state is H1State.HEAD:
            machine.close_after_exchange()
            text = _NOT_ANSWERED if status == 500 else error_text(status)
            self._out.append(machine.respond(status, PLAIN_TEXT, text))
            self._life.unsent = True
            self._owner.caretaker.flush_soon(self)
            exchange.status = status
        self.settle_exchange()
        if self.exchange is exchange:
            self._end_exchange_early()

    def _is_deserted(self) -> bool:
        """Whether the task of the exchange has ended, or is the one that asks."""
        task = self._handler
        return task is current_task() or inspect.getcoroutinestate(task.coro) == inspect.CORO_CLOSED

    def _waits_for_asker(self) -> bool:
        return self.exchange is not None and self._reader is None and self._handler is current_task()

    @enable_ki_protection
    def _scope_event(self, event: Event) -> None:
        """Take an event of the scope; see `Handle._scope_event`."""
        if event is Event.SCOPE_LEFT:
            if self.exchange is not None and self.machine.our_state is H1State.HEAD and self._is_deserted():
                self._report_unanswered(self.exchange)
            self._begin_end()
        super()._scope_event(event)

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close gracefully: finish the exchange under way, send what waits to be sent, release.

        A request that has arrived for a loop that waits, or has begun to, is given to it first. A handler that calls it
        within its exchange gives that up: the client gets a 500 if it has no answer yet. See `Handle.aclose`.

        Cancellation: the handle is aborted (`ABORTED`).
        """
        self._check_run(Event.ACLOSE)
        self._begin_end()
        await super().aclose()

    @enable_ki_protection
    def _begin_end(self) -> None:
        """No request follows the one under way, or the one that has arrived for a loop that waits. A step."""
        if self.exchange is None:
            self.machine.end_soon()
            if self.machine.has_unread and self._life.receive is Receive.BUSY:
                self._reader_lease = self  # whoever waits for the rest of a request is not called off
            return
        if self._is_deserted():
            self._desert()
        self.machine.close_after_exchange()

    @enable_ki_protection
    def _handler_failed(self, error: BaseException | None = None) -> None:
        """The handler has raised: its request is answered, or an answer that was begun is cut off. A step.

        With 500; or with what fits the client's offence, if that is what `error` tells of.
        """
        self._check_run("handler failed")
        self._desert(max((answer_status(own) for own in errors_on(self, error)), default=500))

    # --- the end that a server's drain asks for ------------------------------------------------------------------

    @enable_ki_protection
    def _retire(self, grace: float = 0.0) -> None:
        """Answer the requests that have arrived, or begun to; the last answer says so (``Connection: close``). A step.

        A client may have sent its next request, on a connection that was kept for it, before it learns that the server
        ends (RFC 9112 §9.5): so that is waited for `grace` seconds. See `Handle._retire`.
        """
        self._check_run("retire")
        if not self._life.retiring:
            self._take_arrived()
            self.machine.end_soon()
        super()._retire(grace)

    def _take_arrived(self) -> None:
        """Take the requests that came behind the one under way, so that its answer does not end the connection."""
        life = self._life
        if self.exchange is None or life.phase is not Phase.OPEN or life.receive is not Receive.IDLE or life.reset:
            return
        if not self.exchange.body_complete():
            return
        life.looked = True
        try:
            data = self._transport.receive_nowait(MAX_RECEIVE)
        except trio.BrokenResourceError as exc:
            self._peer_reset(exc)
            return
        if data:
            self.machine.receive(data)
            self._bytes_received += len(data)

    def _stop_waiting(self) -> None:
        if not self._may_wait():
            super()._stop_waiting()

    def _may_wait(self) -> bool:
        """Whether a connection that is to end may wait for input: a request has begun, or the grace is not over."""
        if self.machine.has_unread:
            return True  # the rest of a head: `head_timeout` bounds that
        now = self._clock.current_time()
        if not self._grace_ends and self._life.grace:
            self._grace_ends = now + self._life.grace
        return now < self._grace_ends

    @property
    def _ended_by_peer(self) -> Reason | None:
        if self._life.reset or self._final is None:
            return super()._ended_by_peer
        return _REASONS.get(self._final)

    # --- the end of the connection -------------------------------------------------------------------------------

    @enable_ki_protection
    async def _refuse_request(self, exc: RemoteProtocolError) -> None:
        """Answer what is no request, behind the answers that are due before it, and end the connection."""
        self._failure = unraised(exc)
        self._final = Event.PROTOCOL_ERROR
        self._linger = True
        if self.machine.our_state is H1State.HEAD:
            text = f"{exc}\n".encode("utf-8", "backslashreplace")
            with suppress(HandleBrokenError, HandleClosedError):  # the client has gone, or takes nothing
                await self.send(self.machine.respond(exc.status_hint, PLAIN_TEXT, text), None)
        await self.aclose()

    @enable_ki_protection
    async def _end_quietly(self) -> NoReturn:
        """The connection is over, between two requests."""
        if self.machine.peer_state is H1State.CLOSED:
            if not self._life.unsent and not self._transport.parting:
                self._take(Event.PEER_GONE)
            else:
                self._final = Event.PEER_GONE
        elif self.machine.has_unread or not self._transport.is_silent():
            self._linger = True  # the client sends on, and a close without reading that would reset the answer away
        await self.aclose()
        raise StopAsyncIteration

    @property
    def _parting(self) -> bool:
        return (self._linger or self._transport.parting) and not self._life.poisoned

    async def _goodbye(self) -> None:
        """Let a client that is still sending read the answer: closing at once would reset it away (RFC 9112 §9.6)."""
        if self._linger:
            await linger(self._transport, end_sending=True)
            self._linger = False
        if self._transport.parting:
            await self._transport.goodbye()
        if self._final is not None:
            self._take(self._final)

    # --- for the caretaker ---------------------------------------------------------------------------------------

    @enable_ki_protection
    def tick(self, now: float) -> None:
        """Look whether the client is silent for too long, reads nothing, or has gone. A step."""
        life = self._life
        if life.send is Send.BUSY:
            self._look_at_send(now)
        elif life.receive is Receive.BUSY and self.looking is None:
            self._stuck = None
            self._look_at_receive(now)
        if life.receive is Receive.BUSY or life.phase is Phase.CLAIMED or life.phase.terminal:
            self._seen = None  # whoever receives, or shakes hands, notices
        elif self.exchange is not None or self.lookout is not None:
            self._look_for_client()

    def _look_for_client(self) -> None:
        """At the second look at the same exchange a client that has gone counts; EOF if the first one found it too.

        So a client that half-closes gets what is ready within a tick, however the ticks fall.
        """
        gone = self._transport.peer_gone() or ("eof" if self._life.receive is Receive.EOF else None)
        before, self._seen = self._seen, (self.exchange, gone)
        if gone is not None and before is not None and before[0] is self.exchange and (gone == "reset" or before[1]):
            self._client_gone(gone)

    def _look_at_send(self, now: float) -> None:
        # A system that has its buffers full takes no more before a good part is empty: a slow client's doing shows in
        # what it takes out of them.
        mark = (self._writer_since, self._transport.progress())
        if self._stuck is None or self._stuck[:2] != mark:
            self._stuck = (*mark, now)
        elif now - self._stuck[2] >= self.limits.send_timeout:
            self._take(Event.IDLE_TIMEOUT)

    def _look_at_receive(self, now: float) -> None:
        if self.exchange is None and (size := self.machine.buffered):
            start = self._bytes_received - size  # of the head, in all that was received
            if self._head is None or self._head[0] != start:
                self._head = (start, self._reader_since)
            if now - self._head[1] >= self.limits.head_timeout and not self._has_input(self._head):
                self._late_head()
            return
        if now - self._reader_since >= self.limits.idle_timeout and not self._has_input(self._reader_since):
            self._take(Event.IDLE_TIMEOUT)
        elif self._life.retiring and self.exchange is None:
            self._stop_waiting()

    def _has_input(self, late: object) -> bool:
        """Whether what is `late` has come by now, and its reader had no turn to take it: a close would reset it away.

        So it is where something else has held the program up. The reader has the time to the next tick, but only once.
        """
        if self._spared == late or not self._transport.input_waits():
            return False
        self._spared = late
        return True

    def _late_head(self) -> None:
        """A request that does not come to its end (408, RFC 9110 §15.5.9)."""
        seconds = self.limits.head_timeout
        self._failure = RemoteProtocolError(f"no whole request within {seconds:g} s (head_timeout)", 408)
        self.machine.fail(self._failure)
        data = self.machine.respond(408, PLAIN_TEXT, f"{self._failure}\n".encode())
        if not self._life.unsent:
            with suppress(trio.BrokenResourceError):
                self._transport.send_some(data)
        self._take(Event.IDLE_TIMEOUT)

    @enable_ki_protection
    def _client_gone(self, how: str) -> None:
        """The client has gone: tell who waits for that; else end the connection and the scope that works on it. A step.

        Not where the answer is complete: its handler does not work for that client any more.
        """
        if how == "reset" and not self._life.reset:
            self._peer_reset(trio.BrokenResourceError("the client has reset the connection"))
        exchange, lookout = self.exchange, self.lookout
        if lookout is not None and (lookout.waiting or lookout.gone):
            lookout.tell() if how == "reset" else lookout.tell_eof()
            if lookout.exchange is exchange:
                return
        if exchange is None or is_answered(self) or (how == "eof" and not eof_counts(self, exchange)):
            return
        self._take(Event.PEER_GONE if how == "eof" else Event.ACLOSE)
        if self._owner.of_connection and self._owner.public is not None:
            self._owner.public.cancel()
