"""The two chores that are done for all connections together, by one task each and not by one per connection.

*Ticks*: twice a second each connection that asked for it is looked at: is it idle for too long, has its client gone?
*Flushes*: what a connection has left in its output buffer goes out in the next scheduling turn, unless it has by then.

A task or a deadline for each connection would be simpler, and was measured: a cancel scope around each request costs
0.4 of all else that a small response takes, and ten thousand sleeping tasks are most of an idle server's memory. A tick
costs one call for each connection, and an idle timeout that is half a second late hurts nobody.

Each connection's part is a short step, but there can be thousands of them, and peers that keep many of them busy. So
every `SLICE` all other tasks get their turns (`Breather`), and a connection that has more to do than fits into a short
step says so and is called again, in turn with the others of its kind. A turn of the loop that takes long is the one
thing that a caretaker must not cause: it would delay every connection, also those that nobody floods.

Both are service tasks of the outermost scope. They are started when first needed; ticks end when nobody is watched any
more, while the flusher sleeps until the next flush, since it is needed again in the next moment.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio
from trio.lowlevel import enable_ki_protection

from .background import start_service

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TICK", "Breather", "Caretaker", "Charge", "Flushable"]

_LOG = logging.getLogger("trionet")

TICK: Final = 0.5
"""Seconds between two looks at a connection: what takes two of them, such as noticing that a client left, takes 1 s."""
SLICE: Final = 0.001
"""Seconds that a chore takes, and one connection's step more at most, before other tasks get their turns."""


class Flushable(Protocol):
    """What has an output buffer."""

    def flush(self) -> None:
        """Called once after `Caretaker.flush_soon`. A step that must not raise."""
        ...


class Charge(Protocol):
    """What is looked after: a connection, or the part of one that does the looking."""

    def tick(self, now: float) -> Callable[[], bool] | None:
        """Called each half second; `now` is `trio.current_time`. A short step that must not raise.

        Returns:
            What has more to do before the next tick: it is called until it returns False, other tasks in between.
        """
        ...


class Breather:
    """Lets other tasks run when a chore has taken a `SLICE` of time."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = perf_counter()

    async def breathe(self) -> None:
        """To be called between two connections."""
        if perf_counter() - self._since >= SLICE:
            await trio.lowlevel.checkpoint()
            self._since = perf_counter()


class Caretaker:
    """Looks after the connections of one outermost scope. All methods are steps.

    Args:
        services: Where its tasks run.
    """

    __slots__ = ("_due", "_flushing", "_services", "_sleeper", "_ticking", "_watched")

    def __init__(self, services: trio.Nursery) -> None:
        self._services = services
        self._watched: dict[Charge, None] = {}
        self._ticking = False
        self._due: list[Flushable] = []
        self._flushing = False
        self._sleeper: Any = None

    @enable_ki_protection
    def watch(self, charge: Charge) -> None:
        """Call ``charge.tick`` each half second from now on."""
        self._watched[charge] = None
        if not self._ticking:
            self._ticking = True
            start_service(self._services, self._tick)

    @enable_ki_protection
    def unwatch(self, charge: Charge) -> None:
        """Look at it no more."""
        self._watched.pop(charge, None)

    @enable_ki_protection
    async def _tick(self) -> None:
        due = trio.current_time() + TICK
        try:
            while self._watched:
                await trio.sleep_until(due)
                now = trio.current_time()
                due = now + TICK
                await self._look_at_all(now, due)
        finally:
            self._ticking = False

    @enable_ki_protection
    async def _look_at_all(self, now: float, until: float) -> None:
        """One tick of every connection; then those that have more to do, round by round, until the next one is due.

        None is kept here beyond its turn: thousands that end meanwhile would all be freed in one step.
        """
        breather = Breather()
        busy = {}
        due = list(reversed(self._watched))
        while due:
            charge = due.pop()
            if (more := self._ask(charge, charge.tick, now)) is not None:
                busy[charge] = more
            await breather.breathe()
        while busy and trio.current_time() < until:
            due.extend(reversed(busy))
            while due:
                charge = due.pop()
                if not self._ask(charge, busy[charge]):
                    del busy[charge]
                await breather.breathe()

    @enable_ki_protection
    def _ask(self, charge: Charge, step: Callable[..., Any], *args: Any) -> Any:
        """What a step of a connection returns; None if that is watched no more, or fails. A step."""
        if charge not in self._watched:
            return None
        try:
            return step(*args)
        except Exception:  # noqa: BLE001 - one connection's failure must not end the care for all others
            self.unwatch(charge)
            _LOG.exception("looking after %r failed; it is left alone from now on", charge)
            return None

    @enable_ki_protection
    def flush_soon(self, charge: Flushable) -> None:
        """Call ``charge.flush`` once, when the tasks that are due now have had their turns."""
        due = self._due
        due.append(charge)
        if len(due) > 1:
            return
        if self._sleeper is not None:
            sleeper, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(sleeper)
        elif not self._flushing:
            self._flushing = True
            start_service(self._services, self._flush)

    @enable_ki_protection
    async def _flush(self) -> None:
        try:
            while True:
                await self._flush_all()
                self._sleeper = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop)
        finally:
            self._flushing = False

    @enable_ki_protection
    async def _flush_all(self) -> None:
        breather = Breather()
        while self._due:  # also what has become due while others had their turns
            due, self._due = self._due, []
            due.reverse()
            while due:
                due.pop().flush()
                await breather.breathe()

    def _stop(self, _: Any) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED
