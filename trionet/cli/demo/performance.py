"""Carrying out the steps of the demonstration, one after the other, and keeping account of what was kept.

Every step gets a scope of its own, and is over only when the server's handles have ended as well: so each one has its
part of the timeline to itself, and nothing of it can be left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
import trio.testing

import trionet

from ...errors import leaves
from ...inspect import Life, lives
from ...support.texts import amount
from .promises import BrokenPromiseError, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ... import DrainReport
    from ...inspect import Timeline
    from ...server import ServerStatistics
    from .promises import Stage, Step

__all__ = ["Outcome", "Result", "perform"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one step."""

    name: str
    promise: str
    broken: str | None
    """What broke; None if the promise was kept."""
    shown: str | None
    """A text of the step that is worth showing."""
    lives: tuple[Life, ...]
    """The handles of this step, the client's before the server's."""

    @property
    def kept(self) -> bool:
        """Whether all went as promised."""
        return self.broken is None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of all of them."""

    results: tuple[Result, ...]
    seconds: float
    server: ServerStatistics
    drain: DrainReport | None
    """How the server ended; None if it goes on."""
    opened: int
    """Handles opened, moved, closed, and still open, on both sides together."""
    moved: int
    closed: int
    open: int

    @property
    def leftover(self) -> str | None:
        """What is wrong with the sums; None if they are right."""
        if self.open or self.server.open:
            return f"left open: {amount(self.open, 'handle')}, {amount(self.server.open, 'connection')} of the server"
        if self.opened != self.moved + self.closed:
            return f"{self.opened} handles were opened, but {self.moved} moved and {self.closed} closed"
        if self.server.failed:
            return f"handlers of the server that failed: {self.server.failed}"
        if self.drain is not None and not self.drain.clean:
            return f"the server could not end in peace: {self.drain}"
        return None

    @property
    def kept(self) -> bool:
        """Whether all went as promised."""
        return self.leftover is None and all(result.kept for result in self.results)


async def perform(
    steps: Iterable[Step],
    stage: Stage,
    timeline: Timeline,
    *,
    seconds: float,
    tell: Callable[[Result], None],
) -> tuple[Result, ...]:
    """Carry out `steps`.

    Args:
        steps: In this order.
        stage: What each of them finds.
        timeline: The server records into it, as side ``server``; the clients' handles are recorded as side ``client``.
        seconds: For all steps together; a step that this cuts off is broken.
        tell: Called with each result as soon as it is there.

    Cancellation: the step under way is cut off and its connections are closed.
    """
    results = []
    deadline = trio.current_time() + seconds
    for step in steps:
        result = await _perform_one(step, stage, timeline, trio.CancelScope(deadline=deadline))
        results.append(result)
        tell(result)
    return tuple(results)


async def _perform_one(step: Step, stage: Stage, timeline: Timeline, limit: trio.CancelScope) -> Result:
    mark = timeline.recorded
    shown = None
    broken: str | None = "cut off: all steps together took too long"
    with limit:
        try:
            shown = await _attempt(step, stage, timeline)
            await _settle(timeline)
            _check_handles(step, lives(timeline.since(mark)))
            broken = None
        except Exception as exc:  # noqa: BLE001 - whatever it is, the promise was not kept; the others still count
            broken = "; ".join(map(_describe, leaves(exc)))
            await _settle(timeline)
    seen = sorted(lives(timeline.since(mark)), key=lambda life: life.side)
    return Result(step.name, step.promise, broken, shown, tuple(seen))


async def _attempt(step: Step, stage: Stage, timeline: Timeline) -> str | None:
    async with trionet.open_scope(name=step.name, observer=timeline.side("client")) as scope:
        shown = await step.run(stage, scope)
    expect(scope.report.clean, f"the client's scope closes its handles in peace: {scope.report}")
    return shown


async def _settle(timeline: Timeline) -> None:
    """Wait until the server is done with the step's connections as well."""
    await timeline.wait_quiet()
    await trio.testing.wait_all_tasks_blocked()


def _check_handles(step: Step, seen: tuple[Life, ...]) -> None:
    for side in sorted({*step.handles, *(life.side for life in seen)}):
        kinds = [life.handle.partition(" #")[0] for life in seen if life.side == side]
        wanted = step.handles.get(side, [])
        expect(kinds == wanted, f"on the {side}'s side there are {wanted or 'no handles'}: found {kinds}")
    for life in seen:
        expect(life.ended, f"{life.side} {life.handle} ends: it is {life.phases[-1].value}")


def _describe(exc: BaseException) -> str:
    return str(exc) if isinstance(exc, BrokenPromiseError) else f"{type(exc).__name__}: {exc}"
