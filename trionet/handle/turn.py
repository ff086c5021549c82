"""Taking turns: several tasks may receive, or send, and each gets its turn in the order of asking.

A lock without a cost while nobody waits: whoever finds `held` false sets it, and that is all. The turn is handed to the
next waiting task before that task runs, so nobody can slip in between. A waiting task can also be told that it need not
wait any more, which is how a pong that another task has read reaches the `ping` that waits for it.
"""

from __future__ import annotations

from typing import Any

import outcome
import trio

__all__ = ["Turn"]


class Turn:
    """One side's turn. Take it with ``if turn.held: await turn.wait()``, ``else: turn.held = True``.

    Give it back with `release`; where nobody is `waiting`, ``turn.held = False`` is the same.

    Attributes:
        held: Whether a task has the turn.
        waiting: The tasks that wait for it, in order; empty, or None, if none does.
    """

    __slots__ = ("held", "waiting")

    def __init__(self) -> None:
        self.held = False
        self.waiting: dict[Any, None] | None = None  # most turns are never waited for

    async def wait(self) -> bool:
        """Wait for the turn: True when the caller has it, False when `wake` said that there is no need.

        Cancellation: the caller does not have the turn.
        """
        task = trio.lowlevel.current_task()
        if self.waiting is None:
            self.waiting = {}
        queue = self.waiting
        queue[task] = None

        def give_up(_: object) -> trio.lowlevel.Abort:
            del queue[task]
            return trio.lowlevel.Abort.SUCCEEDED

        return bool(await trio.lowlevel.wait_task_rescheduled(give_up))

    def release(self) -> None:
        """Hand the turn to the task that has waited longest, if any does."""
        if self.waiting:
            self._resume(self.waiting, next(iter(self.waiting)), True)
        else:
            self.held = False

    def wake(self, task: Any) -> None:
        """Tell `task`, if it is waiting, that it need not."""
        if self.waiting and task in self.waiting:
            self._resume(self.waiting, task, False)

    def _resume(self, queue: dict[Any, None], task: Any, has_turn: bool) -> None:
        del queue[task]
        trio.lowlevel.reschedule(task, outcome.Value(has_turn))
