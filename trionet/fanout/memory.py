"""Fan-out within one process: nothing to install, nothing to reach, and nothing that can fail."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .items import Message
from .subscription import QueueBounds
from .switchboard import Switchboard, bytes_of, check_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import Self

    from .subscription import Overflow, Subscription

__all__ = ["MemoryFanout"]


class MemoryFanout:
    """Fan-out within one process: every message reaches every subscriber once and in order, unless its queue is full.

    It may be made anywhere, also before the Trio run begins, and used at once. ``async with`` ends all subscriptions
    at the end of the block, and is not required.
    """

    __slots__ = ("_number", "_present", "_switchboard")

    def __init__(self) -> None:
        self._switchboard = Switchboard()
        self._present: dict[str, Counter[str]] = {}
        self._number = 0

    def __repr__(self) -> str:
        return f"<MemoryFanout: {len(self._switchboard.topics)} topics with subscribers>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._switchboard.close()

    async def publish(self, topic: str, data: str | bytes | bytearray | memoryview) -> None:
        """Send `data` to all subscribers of `topic`. It waits for none of them.

        Args:
            topic: Any text that is not empty.
            data: Any bytes; str is sent as UTF-8.

        Raises:
            FanoutClosedError: the block of this fan-out has ended.
            TypeError, ValueError: `topic` or `data` is none; nothing was sent.

        Cancellation: before anything was sent, or not at all.
        """
        check_topic(topic)
        data = bytes_of(data)
        await trio.lowlevel.checkpoint()
        self._switchboard.check_open("publish")
        self._number += 1
        self._switchboard.deliver(topic, Message(str(self._number), data))

    @asynccontextmanager
    async def subscribe(
        self,
        topic: str,
        *,
        max_messages: int = 1024,
        max_bytes: int = 2**20,
        overflow: Overflow = "drop_oldest",
    ) -> AsyncIterator[Subscription]:
        """The messages of `topic` from now on, for the length of a block.

        Args:
            topic: Any text that is not empty.
            max_messages: So many messages may wait for this subscriber; at least 1.
            max_bytes: So many bytes of data; at least 1. A message always fits into an empty queue.
            overflow: What becomes of a message for which there is no room: "drop_oldest" drops the oldest ones, and
                the subscriber gets a `Gap` in their place; "disconnect" drops all that waits, and the subscriber gets a
                `LimitExceededError`.

        Raises:
            FanoutClosedError: the block of this fan-out has ended.
            TypeError, ValueError: an argument is out of its range.

        Cancellation: entering and leaving the block does not wait.
        """
        check_topic(topic)
        with self._switchboard.connected(topic, QueueBounds(max_messages, max_bytes, overflow)) as subscription:
            yield subscription

    @asynccontextmanager
    async def present(self, topic: str, name: str) -> AsyncIterator[None]:
        """Let `name` be one of the topic's members for the length of a block.

        The same name may be present several times, as somebody with two windows is, and is a member until the last of
        these blocks has ended.

        Args:
            topic: Any text that is not empty.
            name: Any text that is not empty.

        Raises:
            FanoutClosedError: the block of this fan-out has ended.
            TypeError, ValueError: an argument is out of its range.

        Cancellation: entering and leaving the block does not wait.
        """
        check_topic(topic)
        check_topic(name)
        self._switchboard.check_open("present")
        names = self._present.setdefault(topic, Counter())
        names[name] += 1
        try:
            yield
        finally:
            names[name] -= 1
            if not names[name]:
                del names[name]
            if not names and self._present.get(topic) is names:
                del self._present[topic]

    async def members(self, topic: str) -> list[str]:
        """Who is present in `topic`, sorted, each name once.

        Cancellation: does nothing.
        """
        check_topic(topic)
        await trio.lowlevel.checkpoint()
        return sorted(self._present.get(topic, ()))
