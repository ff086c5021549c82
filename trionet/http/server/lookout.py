"""The look-out for clients that go away while their request is being worked on, and the tasks that wait to be told.

Whose going counts? A client that ends its direction (EOF, in TLS a close_notify) has mostly gone; but some half-close,
and wait for the response. A handler of a safe method loses nothing by being cancelled (RFC 9110 §9.2.1), one of another
method may be in the middle of something, so it finishes. A stream has no other way to learn that nobody reads it.

Who looks? Where nobody asks, the caretaker does, twice a second (`client_watch`). Where a task is inside of
`Exchange.wait_disconnected`, a `Lookout` stands for it, and looks by receiving: so EOF and a reset are noticed at once.
Receiving takes what the client has pipelined, or the rest of a body, and there are four rules for that:

* What comes is kept in the machine for whoever reads next, so not one byte is lost.
* It is kept on credit: up to `MAX_AHEAD` bytes for one exchange, also where the machine drops what it is given behind
  the last request. When the credit is used up the lookout only waits, and the caretaker's look has to do.
* It holds up no end: a connection that closes gracefully is looked at only while an exchange is under way (`stop`).
* A task that needs the input itself goes first. It calls off the receive of the lookout (`stand_aside`), looks whether
  what that has taken is enough, and gives the way free when it has received (`Lookout.go_on`).

There is at most one lookout that is told (`Lookouts.current`): the last one that a task asked for. When a later
exchange asks, the tasks of the earlier one are told at the end of the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from ...handle import guards
from ...ownership import Phase, Receive
from ..protocol.states import H1State

if TYPE_CHECKING:
    from .cycle import Cycle, ExchangeUnderWay

__all__ = ["Lookouts", "eof_counts"]

MAX_AHEAD: Final = 65536
"""Bytes that are kept for whoever reads next at most: the exchange's body, and requests behind it."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_RECEIVING: Final = frozenset({Phase.OPEN, Phase.RESERVED})


def eof_counts(cycle: Cycle, exchange: ExchangeUnderWay) -> bool:
    """Whether a client that has ended its direction counts as gone (RFC 9110 §9.2.1)."""
    rule = exchange.eof_is_gone
    if rule is not None:
        return rule
    return exchange._head.method in _SAFE or cycle.machine.our_state is H1State.BODY


class Lookouts:
    """The part of a connection that knows who waits for its client to go.

    Attributes:
        current: Who waits in the exchange under way, or behind the last one.
        receiving: The lookout that is receiving, if one does; it may be one that was replaced.
    """

    __slots__ = ("_cycle", "current", "receiving")

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self.current: Lookout | None = None
        self.receiving: Lookout | None = None

    @enable_ki_protection
    async def wait(self, exchange: ExchangeUnderWay) -> None:
        """See `Exchange.wait_disconnected`."""
        cycle = self._cycle
        if cycle.handle._life.state.phase.terminal or cycle.exchange not in (None, exchange):
            await cycle.handle.wait_ended()
            return
        lookout = self.current
        if lookout is None or lookout.exchange is not exchange:
            if lookout is not None:
                lookout.replace()
            self.current = lookout = Lookout(self, cycle, exchange)
        await lookout.wait()

    def was_told(self, exchange: ExchangeUnderWay) -> bool:
        """Whether a task of this exchange was told that its client has gone: then nobody waits for a response."""
        lookout = self.current
        return lookout is not None and lookout.exchange is exchange and lookout.gone

    @enable_ki_protection
    async def stand_aside(self) -> None:
        """Let another task receive, until `go_on`; at once where no lookout is receiving."""
        if self.receiving is not None:
            await self.receiving.stand_aside()

    @enable_ki_protection
    def go_on(self) -> None:
        """Nobody else receives any more, so a lookout may. A step."""
        if self.current is not None:
            self.current.go_on()

    @enable_ki_protection
    def stop(self) -> None:
        """The connection ends, and no exchange is under way: a receive would only hold that up. A step."""
        if self.receiving is not None and not self._cycle.handle._life.state.phase.terminal:
            self._cycle.handle._transport.wake_receiver()

    @enable_ki_protection
    def forget(self) -> None:
        """Keep nothing of an exchange where nobody waits any more, unless its tasks have been told. A step."""
        lookout = self.current
        if lookout is None or lookout.waiting:
            return
        if not (lookout.gone and lookout.exchange is self._cycle.exchange):
            self.current = None

    @enable_ki_protection
    def end(self) -> None:
        """The connection has ended. A step."""
        if self.current is not None:
            self.current.tell()
            self.current = None


class Lookout:
    """The tasks that wait for the client of one exchange to go. They are told, and then nobody is cancelled.

    Attributes:
        exchange: Whose client. It may be over: some work goes on behind a response.
        gone: Whether it has gone.
        waiting: How many tasks wait.
    """

    __slots__ = ("_all", "_changed", "_credit", "_cycle", "_replaced", "_yields", "exchange", "gone", "waiting")

    def __init__(self, lookouts: Lookouts, cycle: Cycle, exchange: ExchangeUnderWay) -> None:
        self.exchange = exchange
        self.gone = False
        self.waiting = 0
        self._all = lookouts
        self._cycle = cycle
        self._credit = MAX_AHEAD
        self._replaced = False
        self._yields = False
        self._changed = trio.Event()

    @enable_ki_protection
    async def wait(self) -> None:
        """Wait until the client has gone, or the connection has ended.

        Cancellation: not one byte is lost.
        """
        self.waiting += 1
        try:
            await trio.lowlevel.checkpoint()
            while not (self.gone or self._replaced):
                if self._may_receive():
                    await self._receive()
                else:
                    await self._changed.wait()
        finally:
            self.waiting -= 1
            self._wake()  # another one may receive now
            self._all.forget()
        if not self.gone:
            await self._cycle.handle.wait_ended()

    def _may_receive(self) -> bool:
        state = self._cycle.handle._life.state
        if state.phase not in _RECEIVING and (state.phase is not Phase.DRAINING or self._cycle.exchange is None):
            return False
        return state.receive is Receive.IDLE and not state.reset and not self._yields and self._most > 0

    @property
    def _most(self) -> int:
        """How much may still be received: what comes behind the last request is dropped, and has to end too."""
        return min(self._credit, MAX_AHEAD - self._cycle.machine.buffered)

    @enable_ki_protection
    async def _receive(self) -> None:
        """Receive once; what comes is kept. It raises nothing but a cancellation."""
        handle = self._cycle.handle
        guards.begin_receive(handle, self.exchange)
        self._all.receiving = self
        try:
            data = await handle._transport.receive_some(self._most)
            self._cycle.received(data)
            self._credit -= len(data)
        except trio.BrokenResourceError as exc:
            if not handle._life.state.reset:
                guards.peer_reset(handle, exc)
            guards.end_receive(handle)
            self.tell()
        except trio.ClosedResourceError:  # called off, or the connection has ended
            guards.end_receive(handle)
        except BaseException:
            guards.end_receive(handle)
            raise
        else:
            if not data:
                self.tell_eof()
        finally:
            self._all.receiving = None
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @enable_ki_protection
    async def stand_aside(self) -> None:
        """Let another task receive, until `go_on`."""
        self._yields = True
        try:
            while self._all.receiving is self:
                self._cycle.handle._transport.wake_receiver()
                await self._changed.wait()
        except BaseException:
            self.go_on()
            raise

    @enable_ki_protection
    def go_on(self) -> None:
        """Nobody else receives any more. A step."""
        self._yields = False
        self._wake()

    @enable_ki_protection
    def tell(self) -> None:
        """The client has gone. A step."""
        self.gone = True
        self._wake()

    @enable_ki_protection
    def tell_eof(self) -> None:
        """The client has ended its direction. A step."""
        if self.exchange.eof_is_gone is not False:
            self.tell()

    @enable_ki_protection
    def replace(self) -> None:
        """Tasks wait in a later exchange: those in this one are told when the connection has ended. A step."""
        self._replaced = True
        if self._all.receiving is self:
            self._cycle.handle._transport.wake_receiver()
        self._wake()
