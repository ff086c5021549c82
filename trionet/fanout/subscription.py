"""One subscriber: its queue, which is bounded, and what happens when it is full.

Whoever delivers never waits: a slow subscriber holds up no other one, nor the connection that all of a process share.
So a full queue has to give way, by the subscriber's choice. Either the oldest messages go, and a `Gap` stands in their
place; or the subscription ends, and so its program can end the connection that is too slow for it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ..errors import LimitExceededError
from ..support.checks import check_count
from ..support.texts import amount
from .errors import FanoutClosedError
from .items import Gap, Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self, TypeAlias

    from .items import Missing

    History: TypeAlias = Callable[[], Awaitable[list[Message | Gap]]]

__all__ = ["Overflow", "QueueBounds", "Subscription"]

Overflow = Literal["drop_oldest", "disconnect"]

_TURNS: Final = 32
"""So many messages are taken in a row before other tasks get their turn."""


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much may wait for one subscriber, and what becomes of more."""

    max_messages: int
    max_bytes: int
    overflow: Overflow

    def __post_init__(self) -> None:
        check_count("max_messages", self.max_messages, 1)
        check_count("max_bytes", self.max_bytes, 1)
        if self.overflow not in ("drop_oldest", "disconnect"):
            raise ValueError(f"overflow must be 'drop_oldest' or 'disconnect', not {self.overflow!r}")


class Subscription:
    """The messages of one topic, in order: ``async for item in subscription`` gives each `Message`, and each `Gap`.

    It is what ``async with fanout.subscribe(topic)`` gives. It ends with that block, and never before: iterating goes
    on until then. Several tasks may iterate: each item goes to one of them.

    Attributes:
        topic: What it was subscribed to.
    """

    __slots__ = (
        "_bounds",
        "_bytes",
        "_error",
        "_history",
        "_hole",
        "_is_unwanted",
        "_items",
        "_last",
        "_lot",
        "_messages",
        "_past",
        "_taken",
        "topic",
    )

    def __init__(self, topic: str, bounds: QueueBounds) -> None:
        self.topic = topic
        self._bounds = bounds
        self._items: deque[Message | Gap] = deque()
        self._hole: Gap | None = None  # in front of all items
        self._history: History | None = None  # in front of that
        self._past: deque[Message | Gap] = deque()  # what it has given, in front of all
        self._is_unwanted: Callable[[Message], bool] | None = None
        self._messages = 0
        self._bytes = 0
        self._last: str | None = None
        self._taken = 0
        self._lot = ParkingLot()
        self._error: Exception | None = None

    def __repr__(self) -> str:
        waiting = amount(self._messages, "message")
        return f"<Subscription to {self.topic!r}: {waiting}, {amount(self._bytes, 'byte')} waiting>"

    @property
    def waiting_messages(self) -> int:
        """Messages that have arrived and that nobody has taken yet."""
        return self._messages

    @property
    def waiting_bytes(self) -> int:
        """The bytes of their data."""
        return self._bytes

    # --- the subscriber ------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message | Gap:
        """The next item, as soon as there is one.

        Raises:
            LimitExceededError: the subscriber was too slow, and asked for ``overflow="disconnect"``.
            FanoutClosedError: the block of the subscription, or of its fan-out, has ended.

        Cancellation: nothing is lost.
        """
        self._taken += 1
        if self._taken % _TURNS:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        while self._past or self._history is not None:
            if self._past:
                return self._given(self._past.popleft())
            await self._read_history()
        while True:
            if (item := self._take()) is not None:
                return item
            if self._error is not None:
                raise self._error.with_traceback(None)
            await self._lot.park()

    @enable_ki_protection
    def _take(self) -> Message | Gap | None:
        """The first item, if there is one. A step."""
        if self._hole is not None:
            gap, self._hole = self._hole, None
            return replace(gap, since=self._last)
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, Message):
            self._messages -= 1
            self._bytes -= len(item.data)
        return self._given(item)

    def _given(self, item: Message | Gap) -> Message | Gap:
        if isinstance(item, Gap):
            return replace(item, since=self._last)
        self._last = item.id
        return item

    async def _read_history(self) -> None:
        """Read on in what came before this subscription, if its fan-out keeps that; behind its end there is no more."""
        assert self._history is not None
        items = await self._history()
        if self._error is not None:
            raise self._error.with_traceback(None)
        self._past += items
        if not items:
            self._history = None

    # --- whoever delivers ----------------------------------------------------------------------------------------

    def _begin_with(self, history: History, after: str) -> None:
        """Let the subscriber have these items first, which came behind `after`; what is delivered waits."""
        self._history = history
        self._last = after

    def _leave_out(self, is_unwanted: Callable[[Message], bool]) -> None:
        """Leave out what is delivered, until there is a message of which this is not true."""
        self._is_unwanted = is_unwanted

    @enable_ki_protection
    def _put(self, message: Message) -> None:
        """Deliver a message; a message always fits into an empty queue. A step."""
        if self._error is not None:
            return
        if self._is_unwanted is not None:
            if self._is_unwanted(message):
                return
            self._is_unwanted = None
        bounds = self._bounds
        size = len(message.data)
        while self._messages and (self._messages >= bounds.max_messages or self._bytes + size > bounds.max_bytes):
            if bounds.overflow == "disconnect":
                self._cut_off(size)
                return
            self._drop_oldest()
        self._items.append(message)
        self._messages += 1
        self._bytes += size
        if self._lot:  # whether a task waits there
            self._lot.unpark()

    @enable_ki_protection
    def _put_gap(self, reason: Missing, lost: int | None = None) -> None:
        """Say that here messages may be missing. A step."""
        if self._error is not None:
            return
        gap = Gap(None, reason, lost)
        last = self._items[-1] if self._items else None
        if last is None:
            self._hole = gap if self._hole is None else _joined(self._hole, gap)
        elif isinstance(last, Gap):
            self._items[-1] = _joined(last, gap)
        else:
            self._items.append(gap)
        self._lot.unpark()

    def _drop_oldest(self) -> None:
        """The oldest message goes; gaps that then stand side by side become one."""
        item = self._items.popleft()
        if isinstance(item, Gap):
            gap = item
        else:
            gap = Gap(None, "overflow", 1)
            self._messages -= 1
            self._bytes -= len(item.data)
        self._hole = gap if self._hole is None else _joined(self._hole, gap)
        if self._items and isinstance(behind := self._items[0], Gap):
            self._items.popleft()
            self._hole = _joined(self._hole, behind)

    def _cut_off(self, size: int) -> None:
        waiting = f"{amount(self._messages, 'message')} of {amount(self._bytes, 'byte')}"
        bounds = self._bounds
        self._end(
            LimitExceededError(
                f"the subscriber to {self.topic!r} is too slow: {waiting} waited for it when another one of "
                f"{amount(size, 'byte')} came, and max_messages is {bounds.max_messages}, "
                f"max_bytes {bounds.max_bytes}; "
                "close the connection that it serves, or subscribe with overflow='drop_oldest'"
            )
        )

    @enable_ki_protection
    def _end(self, error: Exception) -> None:
        """From now on there is nothing but this error. A step."""
        if self._error is None:
            self._error = error
            self._hole = self._history = None
            self._past.clear()
            self._items.clear()
            self._messages = self._bytes = 0
            self._lot.unpark_all()

    def _close(self) -> None:
        self._end(FanoutClosedError(f"the subscription to {self.topic!r} has ended, with its block or its fan-out's"))


def _joined(first: Gap, second: Gap) -> Gap:
    """One gap for two that stand side by side. Its reason is the first one's."""
    lost = None if first.lost is None or second.lost is None else first.lost + second.lost
    return Gap(None, first.reason, lost)
