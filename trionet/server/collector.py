"""CPython's garbage collector in a run of servers: what is there from the start is left out of its work.

Generation 2 goes through all objects that there are, in one go, while the loop stands still. Those of the modules of a
small program are 30,000, as many as 700 connections have. They cost more than their number: the collector goes from one
object to the next in the order in which it has met them, so the more there are the fewer are in the processor's cache.
Beside 800 connections it took 26 ms with them and 3 ms without (benchmarks/README.md, collector.py).
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final, Self

from trio.lowlevel import enable_ki_protection

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Collector"]

THRESHOLD: Final = 100
"""Runs of generation 1 before one of generation 2, in place of 10.

That is after 770,000 objects more than have been freed: what a program leaves in cycles that live for longer than a
request can come to so much, about 100 MB, before it is looked for.
"""


class Collector:
    """A context manager: what `settle` has set is as it was before at its end."""

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None

    def __enter__(self) -> Self:
        return self

    @enable_ki_protection
    def settle(self) -> None:
        """The program has started: freeze what it is made of, once. A step.

        A program that has frozen objects itself, or switched the collector off, looks after it: it is left alone.
        """
        if self._before is not None or gc.get_freeze_count() or not gc.isenabled():
            return
        gc.collect()  # garbage that is frozen would stay
        gc.freeze()
        self._before = first, second, third = gc.get_threshold()
        gc.set_threshold(first, second, max(third, THRESHOLD))

    @enable_ki_protection
    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            gc.set_threshold(*self._before)
            gc.unfreeze()
