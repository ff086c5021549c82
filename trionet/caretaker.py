"""The two chores that are done for all connections together, by one task each and not by one per connection.

*Ticks*: twice a second each connection that asked for it is looked at: is it idle for too long, has its client gone?
*Flushes*: what a connection has left in its output buffer goes out in the next scheduling turn, unless it has by then.

Both are service tasks of the outermost scope. They are started when first needed and end when nobody needs them.
"""

from __future__ import annotations

import logging
from typing import Any, Final, Protocol

import trio
from trio.lowlevel import enable_ki_protection

from .services import start_service

__all__ = ["TICK", "Caretaker", "Charge"]

_log = logging.getLogger("trionet")

TICK: Final = 0.5
"""Seconds between two looks at a connection: what takes two of them, such as noticing that a client left, takes 1 s."""


class Flushable(Protocol):
    """What has an output buffer."""

    def flush(self) -> None:
        """Called once after `Caretaker.flush_soon`. A step that must not raise."""
        ...


class Charge(Flushable, Protocol):
    """What is taken care of: a connection."""

    def tick(self, now: float) -> None:
        """Called each half second; `now` is `trio.current_time`. A step that must not raise."""
        ...


class Caretaker:
    """Looks after the connections of one outermost scope. All methods are steps.

    Args:
        services: Where its tasks run.
    """

    __slots__ = ("_due", "_services", "_sleeper", "_ticking", "_watched")

    def __init__(self, services: trio.Nursery) -> None:
        self._services = services
        self._watched: dict[Charge, None] = {}
        self._ticking = False
        self._due: list[Flushable] = []
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
        try:
            while self._watched:
                await trio.sleep(TICK)
                now = trio.current_time()
                for charge in tuple(self._watched):
                    try:
                        charge.tick(now)
                    except Exception:  # noqa: BLE001 - one connection's failure must not end the care for all others
                        self.unwatch(charge)
                        _log.exception("looking after %r failed; it is left alone from now on", charge)
        finally:
            self._ticking = False

    @enable_ki_protection
    def flush_soon(self, charge: Flushable) -> None:
        """Call ``charge.flush`` once, when the tasks that are due now have had their turns."""
        due = self._due
        due.append(charge)
        if len(due) > 1:
            return
        if self._sleeper is None:
            start_service(self._services, self._flush)
        else:
            sleeper, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(sleeper)

    @enable_ki_protection
    async def _flush(self) -> None:
        while True:
            due, self._due = self._due, []
            for charge in due:
                charge.flush()
            self._sleeper = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop)

    def _stop(self, _: Any) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED
