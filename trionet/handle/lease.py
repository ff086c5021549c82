"""A lease: something in progress on a handle that is more than one operation, such as an exchange or an unread body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import current_task, enable_ki_protection

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

    __slots__ = ("_on_end", "name", "since", "task")

    def __init__(self, name: str, on_end: Callable[[Lease], None]) -> None:
        self._on_end: Callable[[Lease], None] | None = on_end
        self.name = name
        self.task = current_task().name
        self.since = trio.current_time()

    @enable_ki_protection
    def end(self) -> None:
        """The work is over. A second call does nothing. A step."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)
