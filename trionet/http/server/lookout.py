"""Clients that go away while they are being answered: whose going counts, and the tasks that wait to be told of it.

A client that ends its direction (EOF, in TLS a close_notify) has mostly gone; but some half-close, and wait for the
answer. A handler of a safe method loses nothing by being cancelled (RFC 9110 §9.2.1), one of another method may be in
the middle of something, so it finishes. A stream has no other way to learn that nobody reads it.

A `Lookout` stands for the tasks in `Exchange.wait_disconnected`. As long as nobody else receives, one of them does:
what comes is kept for whoever reads next, within a bound. So EOF and a reset are noticed at once. Otherwise the
caretaker sees them, as it does where nobody waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import enable_ki_protection

from ...ownership import Phase, Receive
from ..protocol.states import H1State

if TYPE_CHECKING:
    from .exchange import Exchange
    from .link import Link

__all__ = ["Lookout", "eof_counts", "is_answered"]

MAX_AHEAD: Final = 65536
"""Bytes that are kept for whoever reads next at most: the exchange's body, and requests behind it."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ANSWERED: Final = frozenset({H1State.DONE, H1State.MUST_CLOSE})
_RECEIVING: Final = frozenset({Phase.OPEN, Phase.RESERVED, Phase.DRAINING})


def is_answered(link: Link) -> bool:
    """Whether the answer is complete, or will be without the handler: what goes on then is not for the client."""
    return link.machine.our_state in _ANSWERED or link.answer_ready


def eof_counts(link: Link, exchange: Exchange) -> bool:
    """Whether a client that has ended its direction counts as gone (RFC 9110 §9.2.1)."""
    rule = exchange.eof_is_gone
    if rule is not None:
        return rule
    return exchange.method in _SAFE or link.machine.our_state is H1State.BODY


class Lookout:
    """The tasks that wait for the client of one exchange to go. They are told, and then nobody is cancelled.

    Attributes:
        exchange: Whose client. It may be over: some work goes on behind an answer.
        gone: Whether it has gone.
        waiting: How many tasks wait.
    """

    __slots__ = ("_changed", "_link", "_replaced", "_room", "_yields", "exchange", "gone", "waiting")

    def __init__(self, link: Link, exchange: Exchange) -> None:
        self.exchange = exchange
        self.gone = False
        self.waiting = 0
        self._link = link
        self._room = MAX_AHEAD
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
            self._link.forget_lookout()
        if not self.gone:
            await self._link.wait_ended()

    def _may_receive(self) -> bool:
        life = self._link._life
        free = life.receive is Receive.IDLE and life.phase in _RECEIVING and not life.reset
        return free and not self._yields and self._most > 0

    @property
    def _most(self) -> int:
        """How much may still be received: what comes behind the last request is dropped, and has to end too."""
        return min(self._room, MAX_AHEAD - self._link.machine.buffered)

    @enable_ki_protection
    async def _receive(self) -> None:
        """Receive once; what comes is kept. Without a cancellation it raises nothing."""
        link = self._link
        link._begin_receive(self.exchange)
        link.looking = self
        try:
            data = await link._transport.receive_some(self._most)
            link._took(data)
            self._room -= len(data)
        except trio.BrokenResourceError as exc:
            if not link._life.reset:
                link._peer_reset(exc)
            link._end_receive()
            self.tell()
        except trio.ClosedResourceError:  # called off, or the connection has ended
            link._end_receive()
        except BaseException:
            link._end_receive()
            raise
        else:
            if not data:
                self.tell_eof()
        finally:
            link.looking = None
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @enable_ki_protection
    async def stand_aside(self) -> None:
        """Let another task receive, until `go_on`."""
        self._yields = True
        try:
            while self._link.looking is self:
                self._link._transport.wake_receiver()
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
        if self._link.looking is self:
            self._link._transport.wake_receiver()
        self._wake()
