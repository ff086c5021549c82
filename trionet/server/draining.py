"""Draining a server: how all its connections come to their end together.

In this order. Every connection is told to end. The clients that wait in the backlog are accepted and told too, since
closing a listener would reset them. The listeners are closed. For the grace, a connection between two requests is
kept, as its client may have sent a next one before it learned of the drain; then it is told again, that the grace is
over. What is left at the deadline is cut off: the handler is cancelled, and the endpoints are closed, wherever they
were moved to.

A handler may drain its own server. Nobody waits for such a connection, which would wait for itself: those are
`Connections.asking`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ..custody import leaving
from ..custody.caretaker import Breather
from ..custody.drain_report import DrainReport

if TYPE_CHECKING:
    from collections.abc import Collection

    from trio.lowlevel import Task

    from ..custody.owner import Owner
    from .accepting import Accepting
    from .connections import Connections, ServedConnection

__all__ = ["Draining"]


class Draining:
    """Drains one server. Several tasks may at a time: the shortest of their deadlines counts."""

    __slots__ = ("_accepting", "_connections")

    def __init__(self, connections: Connections, accepting: Accepting) -> None:
        self._connections = connections
        self._accepting = accepting

    async def drain(self, timeout: float, grace: float) -> DrainReport:
        """As `Server.drain`; the arguments are checked."""
        connections = self._connections
        began = trio.current_time()
        connections.draining, connections.grace = True, min(grace, timeout / 2)
        owners = dict.fromkeys(connections.opened)
        mine = self._connection_of(current_task())
        asking = () if mine is None else (mine,)
        connections.begin_asking(asking)
        try:
            if timeout:
                with trio.move_on_after(timeout):
                    await self._let_go(owners, mine)
        finally:
            self._accepting.stop()
            await self._force(connections.asking if asking else ())  # noqa: ASYNC102 - shielded in there
            connections.asking.difference_update(asking)
        await trio.lowlevel.checkpoint()
        return _summary([owner.report for owner in owners if owner is not mine], trio.current_time() - began)

    def _connection_of(self, task: Task) -> Owner | None:
        """The connection in whose handler this task runs, or in a task below it; None for a task from outside."""
        nurseries = set(task.child_nurseries)
        while task.parent_nursery is not None:
            nurseries.add(task.parent_nursery)
            task = task.parent_nursery.parent_task
            nurseries |= {*task.child_nurseries}
        return next((owner for owner in self._connections.opened if owner.nursery in nurseries), None)

    async def _let_go(self, owners: dict[Owner, None], mine: Owner | None) -> None:
        """Everything of a drain but the force; those of the connections that come meanwhile are added to `owners`."""
        await self._retire()
        await self._accepting.accept_rest(self._retire)
        self._accepting.stop()
        owners |= dict.fromkeys(self._connections.opened)
        await self._retire()
        with trio.move_on_after(self._connections.grace):
            await self._all_over(mine)
        await self._retire()
        await self._all_over(mine)

    @enable_ki_protection
    async def _retire(self) -> None:
        """Tell every connection that it is to end; told again, it looks whether the grace is over.

        In short steps: there may be thousands. One that comes meanwhile is told when it begins.
        """
        connections = self._connections
        breather = Breather()
        for owner in tuple(connections.opened):
            if owner in connections.opened:
                leaving.retire(owner, connections.grace)
                await breather.breathe()

    async def _all_over(self, mine: Owner | None) -> None:
        """Wait for all connections; for those whose handlers do not drain, if the one of `mine` does."""
        connections = self._connections
        while connections.opened.keys() - (connections.asking if mine is not None else ()):
            await connections.stopped.park()

    @enable_ki_protection
    async def _force(self, spared: Collection[Owner]) -> None:
        """Cut off all connections but the `spared` ones, in short steps. It is not cancelled."""
        opened = self._connections.opened
        breather = Breather()
        with trio.CancelScope(shield=True):
            for owner, served in tuple(opened.items()):
                if owner in opened and owner not in spared:
                    _cut_off(owner, served)
                    await breather.breathe()


@enable_ki_protection
def _cut_off(owner: Owner, served: ServedConnection) -> None:
    """Cancel what is left of this connection's handler and close its endpoints, wherever those are. A step."""
    if owner.nursery is not None:
        owner.nursery.cancel_scope.cancel()  # not the whole scope: it would close its handles, uncounted
    cut = [_close_all(inner) for inner in reversed(owner.tree())]
    forced = [entry for report in cut for entry in report.forced]
    forced += served.force(alone=not forced)
    lost = [entry for report in cut for entry in report.lost]
    before = owner.report
    owner.report = replace(before, forced=(*before.forced, *forced), lost=(*before.lost, *lost))


def _close_all(owner: Owner) -> DrainReport:
    """Close everything this owner has: what that was. Taken out of its report, to stand in that of the connection."""
    before, owner.report = owner.report, DrainReport()
    leaving.abort_all(owner)
    cut, owner.report = owner.report, before
    return cut


def _summary(reports: list[DrainReport], seconds: float) -> DrainReport:
    """What the drain of so many connections came to."""
    forced = tuple(entry for report in reports for entry in report.forced)
    lost = tuple(entry for report in reports for entry in report.lost)
    drained = sum(not report.forced for report in reports)
    return DrainReport(drained, forced, seconds, lost)
