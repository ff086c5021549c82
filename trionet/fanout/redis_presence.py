"""Who is present, kept in Redis: a sorted set for each topic, in which each entry has the time at which it expires.

Each process renews its own entries, all of them in one go, three times within their time to live. So who was held by a
process that is gone is gone as well, a while later. The clock is that of Redis, so that those of the processes need not
agree.
"""

from __future__ import annotations

import uuid
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from .errors import FanoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .redis_link import RedisLink

__all__ = ["RedisPresence"]

_RENEW: Final = """
local now = redis.call('TIME')
local milliseconds = now[1] * 1000 + math.floor(now[2] / 1000)
for i = 2, #ARGV do
    redis.call('ZADD', KEYS[1], milliseconds + ARGV[1], ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 0
"""
_MEMBERS: Final = """
local now = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now[1] * 1000 + math.floor(now[2] / 1000))
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
_BATCH: Final = 1000
"""So many entries are renewed by one command."""
_LEAVE_TIMEOUT: Final = 1.0
"""Seconds for which the end of a block waits for Redis; an entry that stays behind expires."""


class RedisPresence:
    """The members of all topics, as far as this process has brought them, and a look at all.

    Args:
        link: The way to Redis.
        prefix: In front of all keys.
        ttl: Seconds for which an entry lives without being renewed.
    """

    __slots__ = ("_here", "_link", "_milliseconds", "_prefix", "_token", "_ttl")

    def __init__(self, link: RedisLink, prefix: str, ttl: float) -> None:
        self._link = link
        self._prefix = f"{prefix}presence:"
        self._ttl = ttl
        self._milliseconds = max(1, int(ttl * 1000))
        self._token = uuid.uuid4().hex
        self._here: dict[str, Counter[str]] = {}

    @asynccontextmanager
    async def present(self, topic: str, name: str) -> AsyncIterator[None]:
        """As `RedisFanout.present`."""
        names = self._here.setdefault(topic, Counter())
        names[name] += 1
        try:
            await self._renew(topic, [name])
            yield
        finally:
            names[name] -= 1
            if not names[name]:
                del names[name]
                if not names and self._here.get(topic) is names:
                    del self._here[topic]
                with trio.move_on_after(_LEAVE_TIMEOUT, shield=True), suppress(FanoutError):
                    await self._link.ask(b"ZREM", self._prefix + topic, self._entry(name))

    async def members(self, topic: str) -> list[str]:
        """As `RedisFanout.members`."""
        found = await self._link.ask(b"EVAL", _MEMBERS, 1, self._prefix + topic)
        return sorted({entry.partition(b":")[2].decode() for entry in found})

    async def beat(self) -> None:
        """Renew what is here again and again, until cancelled. What Redis has lost meanwhile is there again too."""
        while True:
            await trio.sleep(self._ttl / 3)
            for topic, names in tuple(self._here.items()):
                with suppress(FanoutError):  # the next beat comes, and the reader says that there is an outage
                    await self._renew(topic, list(names))

    async def _renew(self, topic: str, names: list[str]) -> None:
        key = self._prefix + topic
        for begin in range(0, len(names), _BATCH):
            entries = map(self._entry, names[begin : begin + _BATCH])
            await self._link.ask(b"EVAL", _RENEW, 1, key, self._milliseconds, *entries)

    def _entry(self, name: str) -> str:
        """The same name brought by two processes is two entries, each of which has to go."""
        return f"{self._token}:{name}"
