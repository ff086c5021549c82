"""A lease: something in progress on a handle that is more than one operation, such as an exchange or an unread body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ..support.checks import refuse_copy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Lease"]


class Lease:
    """As long as it has not ended, the handle that granted it cannot be taken away. `end` it exactly once.

    Attributes:
        name: What is in progress.
        since: When it began, on the clock of `trio.current_time`, in seconds.
        task: Name of the task that asked for it.
    """

    __slots__ = ("_holder", "_on_end", "_stop", "_worker", "name", "since", "task")

    def __init__(self, name: str, on_end: Callable[[Lease], None]) -> None:
        self._on_end: Callable[[Lease], None] | None = on_end
        self.name = name
        self._holder = task = current_task()
        self.task = task.name
        # Where the work goes on in a task of its own: how that is told to end, a step, and the task.
        self._stop: Callable[[], None] | None = None
        self._worker: trio.lowlevel.Task | None = None
        self.since = trio.current_time()

    @enable_ki_protection
    def _give_up(self) -> None:
        """The work will not be completed: the lease ends, and with it what goes on for it. A step."""
        if self._stop is not None:
            self._stop()
        self.end()

    __reduce_ex__ = refuse_copy

    @enable_ki_protection
    def end(self) -> None:
        """The work is over. A second call does nothing. A step."""
        on_end = self._on_end
        if on_end is not None:
            on_end(self)
            self._on_end = None
