"""The caretaker's look at a client, twice a second: is it silent for too long, does it read nothing, has it gone?

One chore for all connections of a server looks at each of them in turn. That costs nothing where nothing is wrong,
while a deadline for each receive and each send would cost a cancel scope for each of them. The price is precision: what
is bounded here is noticed up to a tick (`caretaker.TICK`) late, and what takes two looks, up to two.

Two things keep a look from doing harm where the *program* was late, and not the client:

* A client counts as gone only at the second look at the same exchange. One that half-closes, and waits, gets in that
  time what is ready.
* What is overdue is given one more tick if there is input that its reader had no turn to take: a close would reset that
  away.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from ...custody.caretaker import TICK
from ...errors import RemoteProtocolError
from ...handle import guards
from ...ownership import Event, Phase, Receive, Send
from .lookout import eof_counts

if TYPE_CHECKING:
    from .cycle import Cycle, ExchangeUnderWay
    from .lookout import Lookouts

__all__ = ["ClientWatch"]

RATE_WINDOW: Final = 5.0
"""Seconds of waiting over which the rate is measured at which a request comes."""

_BUSY: Final = Receive.BUSY


class ClientWatch:
    """The part of a connection that the caretaker calls."""

    __slots__ = ("_cycle", "_head", "_lookouts", "_pace", "_seen", "_spared", "_stuck")

    def __init__(self, cycle: Cycle, lookouts: Lookouts) -> None:
        self._cycle = cycle
        self._lookouts = lookouts
        # What was seen at the last look: the exchange under way, and how its client had gone.
        self._seen: tuple[ExchangeUnderWay | None, str | None] | None = None
        # A head that is coming: where it begins, in all that was received, and since when it is waited for.
        self._head: tuple[int, float] | None = None
        # A send that does not get on: which one, how far it has got, and since when.
        self._stuck: tuple[float, object, float] | None = None
        # What comes, a head or a body; how much had come when it was last measured, and how long it was waited for.
        self._pace: tuple[object, int, float] | None = None
        # The receive, or the head, that was late and had input to take, and so was given one tick more.
        self._spared: object = None

    def __repr__(self) -> str:
        return str(self._cycle.handle)

    @enable_ki_protection
    def forget_work(self) -> None:
        """Keep nothing that refers to an exchange. A step."""
        self._seen = self._pace = None

    @enable_ki_protection
    def tick(self, now: float) -> None:
        """Look at the client. A step; see `Charge.tick`."""
        cycle = self._cycle
        life = cycle.handle._life
        if life.state.send is Send.BUSY:
            self._look_at_send(now)
        elif life.state.receive is _BUSY and self._lookouts.receiving is None:
            self._stuck = None
            self._look_at_receive(now)
        if life.state.receive is _BUSY or life.state.phase is Phase.CLAIMED or life.state.phase.terminal:
            self._seen = None  # whoever receives, or shakes hands, notices
        elif cycle.exchange is not None or self._lookouts.current is not None:
            self._look_for_client()

    # --- silence -------------------------------------------------------------------------------------------------

    def _look_at_send(self, now: float) -> None:
        # A system that has its buffers full takes no more before a good part is empty: a slow client's doing shows in
        # what it takes out of them.
        handle = self._cycle.handle
        mark = (handle._writer_since, handle._transport.progress())
        if self._stuck is None or self._stuck[:2] != mark:
            self._stuck = (*mark, now)
        elif now - self._stuck[2] >= self._cycle.limits.send_timeout:
            handle._take(Event.IDLE_TIMEOUT)

    def _look_at_receive(self, now: float) -> None:
        cycle = self._cycle
        handle, limits = cycle.handle, cycle.limits
        since = handle._reader_since
        if cycle.exchange is None and (size := cycle.machine.buffered):
            self._look_at_head(now, handle._bytes_received - size, since)
        elif (now - since >= limits.idle_timeout and not self._has_input(since)) or self._is_slow_body():
            handle._take(Event.IDLE_TIMEOUT)
        elif cycle.exchange is None:
            cycle.machine.forget_fields()  # of thousands that are idle
            if handle._life.retiring:
                handle._stop_waiting()

    def _look_at_head(self, now: float, start: int, since: float) -> None:
        """A head that began at `start`, in all that was received, is waited for; the present receive began `since`."""
        if self._head is None or self._head[0] != start:
            self._head = (start, since)
        limits = self._cycle.limits
        if now - self._head[1] >= limits.head_timeout and not self._has_input(self._head):
            self._refuse_late_head(f"was not complete within {limits.head_timeout:g} s (head_timeout)")
        elif self._is_too_slow(start):
            rate = limits.min_receive_rate
            self._refuse_late_head(f"came at less than {rate:g} bytes per second (min_receive_rate)")

    def _is_slow_body(self) -> bool:
        exchange = self._cycle.exchange
        return exchange is not None and self._is_too_slow(exchange)

    def _is_too_slow(self, work: object) -> bool:
        """Whether this head or body has come at less than the floor, in the time in which it was waited for.

        Only looks that find its reader waiting count: a handler that reads slowly is not the client's fault.
        """
        rate = self._cycle.limits.min_receive_rate
        received = self._cycle.handle._bytes_received
        if not rate or self._pace is None or self._pace[0] != work:
            self._pace = (work, received, 0.0) if rate else None
            return False
        _, before, waited = self._pace
        waited += TICK
        late = received - before < rate * waited
        if waited < RATE_WINDOW or (late and self._has_input((work, before))):
            self._pace = (work, before, waited)
            return False
        self._pace = (work, received, 0.0)
        return late

    def _has_input(self, late: object) -> bool:
        """Whether what is `late` has come by now, and its reader had no turn to take it: a close would reset it away.

        So it is where something else has held the program up. The reader has the time to the next tick, but only once.
        """
        if self._spared == late or not self._cycle.handle._transport.input_waits():
            return False
        self._spared = late
        return True

    def _refuse_late_head(self, what: str) -> None:
        """A request that does not come to its end (408, RFC 9110 §15.5.9)."""
        cycle, handle = self._cycle, self._cycle.handle
        handle._failure = error = RemoteProtocolError(f"the head of a request {what}", 408)
        cycle.machine.fail(error)
        data = cycle.machine.respond(408, cycle.machine.error_fields, f"{error}\n".encode())
        if not handle._life.state.unsent:
            with suppress(trio.BrokenResourceError):
                handle._transport.send_some(data)
        handle._take(Event.IDLE_TIMEOUT)

    # --- clients that have gone ----------------------------------------------------------------------------------

    def _look_for_client(self) -> None:
        """At the second look at the same exchange a client that has gone counts; EOF if the first one found it too.

        So a client that half-closes gets what is ready within a tick, however the ticks fall.
        """
        handle, exchange = self._cycle.handle, self._cycle.exchange
        gone = handle._transport.peer_gone() or ("eof" if handle._life.state.receive is Receive.EOF else None)
        before, self._seen = self._seen, (exchange, gone)
        if gone is not None and before is not None and before[0] is exchange and (gone == "reset" or before[1]):
            self._client_gone(gone)

    @enable_ki_protection
    def _client_gone(self, how: str) -> None:
        """The client has gone: tell who waits for that; else end the connection and the scope that works on it. A step.

        Not where the response is complete: its handler does not work for that client any more.
        """
        cycle, handle = self._cycle, self._cycle.handle
        if how == "reset" and not handle._life.state.reset:
            guards.peer_reset(handle, trio.BrokenResourceError("the client has reset the connection"))
        exchange, lookout = cycle.exchange, self._lookouts.current
        if lookout is not None and (lookout.waiting or lookout.gone):
            lookout.tell() if how == "reset" else lookout.tell_eof()
            if lookout.exchange is exchange:
                return
        if exchange is None or cycle.is_responded or (how == "eof" and not eof_counts(cycle, exchange)):
            return
        owner = handle._owner
        handle._take(Event.PEER_GONE if how == "eof" else Event.ACLOSE)
        if owner.of_connection and owner.public is not None:
            owner.public.cancel()
