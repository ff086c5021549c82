"""What happened to each handle, and when: a record that any scope or server can be asked to keep.

A `Timeline` is an observer: `trionet.open_scope` and `trionet.serve_tcp` call it in the very step in which a handle
opens or changes its phase, so it misses nothing and sees no state in between. It only takes notes: the entries hold
names, not handles, and their number is bounded, so a server may carry a timeline for as long as it runs.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ..connection import Connection
from ..support.checks import check_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..custody.member import Observer
    from ..ownership import Phase, Reason

__all__ = ["Entry", "Life", "Timeline", "lives"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened to one handle."""

    time: float
    """Seconds since the first entry of the timeline, on Trio's clock."""
    side: str
    """What the observer was told to call this side, such as ``client``; may be empty."""
    handle: str
    """Such as ``Connection #3``, ``TLS #4``, ``WebSocket #5``: each handle that opens on a side has the next number."""
    before: Phase | None
    """The phase that ended; None where the handle was opened."""
    after: Phase
    """The phase that began."""
    reason: Reason | None = None
    """Why the handle ended; None while it is alive."""
    successor: str | None = None
    """Where the connection lives on, if the handle was moved."""

    def __str__(self) -> str:
        what = "opened" if self.before is None else f"{self.before.value} -> {self.after.value}"
        why = f" ({self.reason.value})" if self.reason is not None else ""
        where = f" to {self.successor}" if self.successor is not None else ""
        return f"{self.time * 1000:10.3f} ms  {self.side:<7} {self.handle:<24} {what}{why}{where}"


@dataclass(frozen=True, slots=True)
class Life:
    """What became of one handle: all its entries in one."""

    side: str
    """As `Entry.side`."""
    handle: str
    """As `Entry.handle`."""
    opened: float
    """When its first entry was made, in seconds since the first entry of the timeline."""
    changed: float
    """When the latest of `phases` began, likewise."""
    phases: tuple[Phase, ...]
    """Those it went through, in order."""
    reason: Reason | None
    """Why it ended; None while it is alive."""
    successor: str | None
    """Where the connection lives on, if it was moved."""

    @property
    def ended(self) -> bool:
        """Whether the handle is MOVED or CLOSED."""
        return self.phases[-1].terminal


class Timeline:
    """Records what happens to the handles of scopes and servers. Pass it to them as ``observer=``.

    ``async with trionet.open_scope(observer=timeline) as scope``, and then ``print(timeline)``.

    With handles of both ends in one program, give each scope an observer of its own, as `side` makes them. A timeline
    belongs to one Trio run.

    Args:
        limit: How many entries are kept, at least 1; older ones are dropped and counted.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._entries: deque[Entry] = deque(maxlen=check_count("limit", limit, 1))
        self._names: dict[Any, str] = {}
        self._serial: Counter[str] = Counter()
        self._start: float | None = None
        self._quiet: trio.Event | None = None
        self._counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Timeline: {len(self._entries)} entries, {self.open} handles open>"

    def __str__(self) -> str:
        dropped = [f"({self.dropped} earlier entries were dropped)"] if self.dropped else []
        return "\n".join([*dropped, *map(str, self._entries)])

    # --- recording -----------------------------------------------------------------------------------------------

    def side(self, name: str) -> Observer:
        """An observer that records into this timeline and calls its side `name`."""

        @enable_ki_protection
        def observe(handle: Any, before: Phase | None, after: Phase) -> None:
            self._record(name, handle, before, after)

        return observe

    @enable_ki_protection
    def __call__(self, handle: Any, before: Phase | None, after: Phase) -> None:
        """Take a note: `handle` was opened (`before` is None) or has changed its phase. A step; never raises."""
        self._record("", handle, before, after)

    @enable_ki_protection
    def _record(self, side: str, handle: Any, before: Phase | None, after: Phase) -> None:
        now = trio.current_time()
        if self._start is None:
            self._start = now
        name = self._name_of(side, handle)
        end = handle.end
        successor = None if end is None or end.successor is None else self._successor(end.successor)
        reason = None if end is None else end.reason
        self._entries.append(Entry(now - self._start, side, name, before, after, reason, successor))
        self._count(handle, before, after)

    def _name_of(self, side: str, handle: Any) -> str:
        name = self._names.get(handle)
        if name is None:
            self._serial[side] += 1
            name = self._names[handle] = f"{_kind(handle)} #{self._serial[side]}"
        return name

    def _successor(self, successor: Any) -> str:
        """Its name, where it has been seen: a capsule, or a handle of a scope without this observer, has none."""
        return self._names.get(successor) or _kind(successor)

    def _count(self, handle: Any, before: Phase | None, after: Phase) -> None:
        self._counts["entries"] += 1
        if before is None:
            self._counts["opened"] += 1
        if after.terminal:
            self._counts[after.value] += 1
            del self._names[handle]
            if not self._names and self._quiet is not None:
                self._quiet.set()

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The latest entries, in the order in which they happened."""
        return tuple(self._entries)

    def since(self, count: int) -> tuple[Entry, ...]:
        """The entries after the first `count` of all that were ever recorded, as far as they are kept."""
        return self.entries[max(0, count - self.dropped) :]

    @property
    def recorded(self) -> int:
        """How many entries were ever recorded."""
        return self._counts["entries"]

    @property
    def dropped(self) -> int:
        """How many entries had to make room for later ones."""
        return self.recorded - len(self._entries)

    @property
    def opened(self) -> int:
        """How many handles were opened, successors included."""
        return self._counts["opened"]

    @property
    def moved(self) -> int:
        """How many handles were moved."""
        return self._counts["moved"]

    @property
    def closed(self) -> int:
        """How many handles were closed."""
        return self._counts["closed"]

    @property
    def open(self) -> int:
        """How many handles have not ended yet."""
        return len(self._names)

    async def wait_quiet(self) -> None:
        """Wait until every handle that was opened has ended. For any number of tasks.

        Cancellation: no effect.
        """
        await trio.lowlevel.checkpoint()
        while self._names:
            if self._quiet is None or self._quiet.is_set():
                self._quiet = trio.Event()
            await self._quiet.wait()


def lives(entries: Iterable[Entry]) -> tuple[Life, ...]:
    """What became of each handle, in the order in which they were opened.

    A handle whose first entries were dropped begins with the oldest that is left.
    """
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.side, entry.handle), []).append(entry)
    return tuple(_life(each) for each in found.values())


def _life(entries: list[Entry]) -> Life:
    first, last = entries[0], entries[-1]
    phases = tuple(entry.after for entry in entries)
    return Life(first.side, first.handle, first.time, last.time, phases, last.reason, last.successor)


def _kind(handle: Any) -> str:
    """What names begin with: the class, or TLS for a byte stream that is encrypted."""
    return "TLS" if isinstance(handle, Connection) and handle.tls is not None else type(handle).__name__
