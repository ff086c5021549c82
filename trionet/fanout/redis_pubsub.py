"""Fan-out over Redis' publish and subscribe: quick, and at most once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..support.checks import check_kind, check_seconds
from .redis_link import RedisLink
from .redis_presence import RedisPresence
from .redis_subscriber import RedisSubscriber
from .subscription import QueueBounds
from .switchboard import Switchboard, bytes_of, check_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from .subscription import Overflow, Subscription

__all__ = ["RedisFanout"]


class RedisFanout:
    """Fan-out over Redis' publish and subscribe, for processes on any number of machines.

    A message reaches each subscriber at most once, and those of one publisher in order. While a process has no
    connection to Redis, what is published is lost for it: its subscribers get a `Gap` with ``reason="reconnect"`` after
    each time. Nothing is promised about a failover of Redis itself.

    Use it as ``async with RedisFanout(url) as fanout``: connecting raises `FanoutError` if Redis does not answer. A
    process has two connections to Redis, one that publishes and one that is subscribed, however many subscribers it
    has. When a connection is lost it is made anew, again and again, with pauses of up to 2 s; the logger
    ``trionet.fanout`` has a line when that begins and one when it ends.

    Args:
        url: ``redis://user:password@host:port/db``, ``rediss://`` for TLS, ``unix:///path/of/the/socket``.
        prefix: In front of the names of all channels and keys, so that programs can share a Redis.
        presence_ttl: Seconds after which those whom a process that is gone has held `present` are gone as well;
            more than 0.

    Raises:
        ImportError: coredis is not installed; it comes with ``trionet[redis]``.
        ValueError, TypeError: an argument is out of its range.
    """

    __slots__ = ("_link", "_prefix", "_presence", "_subscriber", "_switchboard")

    def __init__(self, url: str, *, prefix: str = "trionet:", presence_ttl: float = 30.0) -> None:
        self._prefix = check_kind("prefix", prefix, str, "a str")
        check_seconds("presence_ttl", presence_ttl, positive=True, off="it cannot be switched off")
        self._link = RedisLink(url)
        self._switchboard = Switchboard()
        self._subscriber = RedisSubscriber(self._link, self._switchboard, prefix)
        self._presence = RedisPresence(self._link, prefix, presence_ttl)

    def __repr__(self) -> str:
        return f"<RedisFanout at {self._link.place}: {len(self._switchboard.topics)} topics with subscribers>"

    async def __aenter__(self) -> Self:
        await self._link.open(self._subscriber.run, self._presence.beat)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._switchboard.close()
        await self._link.close(error)  # noqa: ASYNC102 - it waits for tasks that it has cancelled

    async def publish(self, topic: str, data: str | bytes | bytearray | memoryview) -> None:
        """Send `data` to all subscribers of `topic`, here and elsewhere. It waits for Redis, and for none of them.

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
        await self._link.ask(b"PUBLISH", self._prefix + topic, data)

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

        Entering waits until Redis has confirmed it. If Redis cannot be reached, that is until it can.

        Arguments: as for `MemoryFanout.subscribe`.

        Raises:
            FanoutClosedError: the block of this fan-out has ended, or has not begun.
            TypeError, ValueError: an argument is out of its range.

        Cancellation: there is no subscription.
        """
        check_topic(topic)
        self._check("subscribe")
        bounds = QueueBounds(max_messages, max_bytes, overflow)
        with self._switchboard.connected(topic, bounds, self._subscriber.change) as subscription:
            await self._subscriber.wait_confirmed(topic)
            yield subscription

    def present(self, topic: str, name: str) -> AbstractAsyncContextManager[None]:
        """Let `name` be one of the topic's members for the length of a block.

        The same name may be present several times, in several processes too, and is a member until the last of these
        blocks has ended; or, where a process ended without that, `presence_ttl` later.

        Args:
            topic: Any text that is not empty.
            name: Any text that is not empty.

        Raises:
            FanoutError: Redis does not answer: then the block is not entered. Leaving it raises nothing.
            FanoutClosedError: the block of this fan-out has ended, or has not begun.
            TypeError, ValueError: an argument is out of its range.

        Cancellation: the block is not entered. Leaving waits for Redis for 1 s at most, also when cancelled.
        """
        check_topic(topic)
        check_topic(name)
        self._check("present")
        return self._presence.present(topic, name)

    async def members(self, topic: str) -> list[str]:
        """Who is present in `topic`, in all processes, sorted, each name once.

        Raises:
            FanoutError: Redis does not answer.
            FanoutClosedError: the block of this fan-out has ended, or has not begun.

        Cancellation: does nothing.
        """
        check_topic(topic)
        self._check("members")
        return await self._presence.members(topic)

    def _check(self, name: str) -> None:
        self._switchboard.check_open(name)
        self._link.check_open()
