"""Fan-out over streams of Redis: what was published is kept for a while, and so survives outages on both sides."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from ..support.checks import check_count, check_kind, check_seconds
from .errors import FanoutError
from .redis_link import Outage, RedisLink
from .redis_presence import RedisPresence
from .stream_history import StreamHistory
from .stream_page import check_id, order, read_tail
from .stream_reader import StreamReader
from .subscription import QueueBounds
from .switchboard import Switchboard, bytes_of, check_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from .items import Message
    from .subscription import Overflow, Subscription

__all__ = ["RedisStreamFanout"]

_MOST_AT_ONCE: Final = 500
"""Messages of one stream in an answer."""


class RedisStreamFanout:
    """Fan-out over streams of Redis, which keep the newest messages of each topic.

    A message that `publish` has returned for reaches each subscriber in order, also where connections are lost, and
    where Redis is killed and has it on its disk (``appendonly yes``, ``appendfsync always``). A subscriber that comes
    back asks for what came behind the last id that it has got. What is not there any more, because `maxlen` newer
    messages have come since, or because Redis has lost it, is a `Gap` with ``reason="trimmed"``. At least once: a
    program that publishes again what raised a `FanoutError` may publish it twice. Nothing is promised about a failover
    of Redis itself.

    Use it as ``async with RedisStreamFanout(url) as fanout``; connections, outages and the log are as for
    `RedisFanout`.

    Args:
        url: As for `RedisFanout`.
        maxlen: So many messages of each topic are kept, or some more; at least 1. It must be the same for all
            publishers of a topic.
        prefix: As for `RedisFanout`. The stream of a topic has this and the topic as its key, and one field, ``d``.
        presence_ttl: As for `RedisFanout`.

    Raises:
        ImportError: coredis is not installed; it comes with ``trionet[redis]``.
        ValueError, TypeError: an argument is out of its range.
    """

    __slots__ = ("_link", "_maxlen", "_prefix", "_presence", "_reader", "_switchboard")

    def __init__(
        self, url: str, *, maxlen: int = 10_000, prefix: str = "trionet:stream:", presence_ttl: float = 30.0
    ) -> None:
        self._maxlen = check_count("maxlen", maxlen, 1)
        self._prefix = check_kind("prefix", prefix, str, "a str")
        check_seconds("presence_ttl", presence_ttl, positive=True, off="it cannot be switched off")
        self._link = RedisLink(url)
        self._switchboard = Switchboard()
        self._reader = StreamReader(self._link, self._switchboard, prefix, min(_MOST_AT_ONCE, maxlen))
        self._presence = RedisPresence(self._link, prefix, presence_ttl)

    def __repr__(self) -> str:
        return f"<RedisStreamFanout at {self._link.place}: {len(self._switchboard.topics)} topics with subscribers>"

    async def __aenter__(self) -> Self:
        await self._link.open(self._reader.run, self._presence.beat)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._switchboard.close()
        await self._link.close(error)  # noqa: ASYNC102 - it waits for tasks that it has cancelled

    async def publish(self, topic: str, data: str | bytes | bytearray | memoryview) -> None:
        """Send `data` to all subscribers of `topic`, here and elsewhere, now and later. It waits for Redis alone.

        Args:
            topic: Any text that is not empty.
            data: Any bytes; str is sent as UTF-8.

        Raises:
            FanoutError: Redis does not answer. ``retry_safe`` is False where the message may have been published.
            FanoutClosedError: the block of this fan-out has ended, or has not begun.
            TypeError, ValueError: `topic` or `data` is none; nothing was sent.

        Cancellation: the message may have been published.
        """
        check_topic(topic)
        data = bytes_of(data)
        self._check("publish")
        await self._link.ask(b"XADD", self._prefix + topic, b"MAXLEN", b"~", self._maxlen, b"*", b"d", data)

    @asynccontextmanager
    async def subscribe(
        self,
        topic: str,
        *,
        after: str | None = None,
        max_messages: int = 1024,
        max_bytes: int = 2**20,
        overflow: Overflow = "drop_oldest",
    ) -> AsyncIterator[Subscription]:
        """The messages of `topic` from now on, or from an id on, for the length of a block.

        If Redis cannot be reached, entering waits until it can.

        Args:
            topic: Any text that is not empty.
            after: The id of the last message that this subscriber has got, of an earlier subscription: it gets all that
                came behind it first, read from Redis as it takes them. ``"0-0"`` is the oldest that is kept. An id that
                Redis does not have is answered with a `Gap`, and all that is newer. None: from now on.
            max_messages: As for `MemoryFanout.subscribe`.
            max_bytes: As for `MemoryFanout.subscribe`.
            overflow: As for `MemoryFanout.subscribe`.

        Raises:
            FanoutError: Redis refuses to read.
            FanoutClosedError: the block of this fan-out has ended, or has not begun.
            TypeError, ValueError: an argument is out of its range.

        Cancellation: there is no subscription.
        """
        check_topic(topic)
        if after is not None:
            check_id("after", after)
        self._check("subscribe")
        bounds = QueueBounds(max_messages, max_bytes, overflow)
        tail = await self._tail(topic)
        is_new = topic not in self._reader.positions
        with self._switchboard.connected(topic, bounds, partial(self._reader.change, tail=tail)) as subscription:
            position = self._reader.positions[topic]
            if after is not None:
                history = StreamHistory(self._link, self._prefix + topic, after, position)
                subscription._begin_with(history, after)
            known = tail if after is None else after
            if order(position) < order(known) <= order(tail):
                subscription._leave_out(partial(_is_known, order(known)))
            if is_new:
                await self._reader.wake()
            yield subscription

    def present(self, topic: str, name: str) -> AbstractAsyncContextManager[None]:
        """Let `name` be one of the topic's members for the length of a block: as `RedisFanout.present`."""
        check_topic(topic)
        check_topic(name)
        self._check("present")
        return self._presence.present(topic, name)

    async def members(self, topic: str) -> list[str]:
        """Who is present in `topic`, in all processes, sorted, each name once: as `RedisFanout.members`.

        Cancellation: does nothing.
        """
        check_topic(topic)
        self._check("members")
        return await self._presence.members(topic)

    async def _tail(self, topic: str) -> str:
        outage = Outage(self._link.place, logged=False)
        while True:
            try:
                return await read_tail(self._link.ask, self._prefix + topic)
            except FanoutError as exc:
                if exc.retry_safe is None:
                    raise
                await outage.wait(exc)

    def _check(self, name: str) -> None:
        self._switchboard.check_open(name)
        self._link.check_open()


def _is_known(known: tuple[int, int], message: Message) -> bool:
    """Whether a message comes to a subscriber that has got it already, or that came later than it."""
    assert message.id is not None
    return order(message.id) <= known
