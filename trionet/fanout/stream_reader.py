"""The one connection of a process that waits for what comes in all streams that it wants.

Theory of operation. For each topic there is a *position*, the id of the last message that was delivered; reading on
from there is all there is to going on after an outage, so nothing is lost and nothing comes twice. One command waits
for all topics at once. To make it look at a new topic, a message is added to a stream that this process alone reads.
Whether messages were cut off before they were read cannot be seen by that command. But every publisher leaves at least
as many messages in a stream as one answer may have: an answer with fewer is complete. One that is full is not used:
then, and after each connection that was lost, `read_page` reads on, which can tell.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from .errors import FanoutError
from .redis_client import outages
from .redis_link import Outage
from .stream_page import BEGINNING, messages_of, read_page

if TYPE_CHECKING:
    from .items import Message
    from .redis_link import RedisLink
    from .stream_page import Ask
    from .switchboard import Switchboard

__all__ = ["StreamReader"]

_BLOCK: Final = 4000
"""Milliseconds for which one command waits: less than `ANSWER_TIMEOUT`, so that a dead connection is noticed."""
_WAKE: Final = """
redis.call('XADD', KEYS[1], 'MAXLEN', '1', '*', 'd', '')
return redis.call('PEXPIRE', KEYS[1], 60000)
"""


class StreamReader:
    """Reads the streams of all topics that somebody here has subscribed to.

    Args:
        link: The way to Redis.
        switchboard: Where messages are delivered.
        prefix: In front of the keys of all streams.
        count: Messages that one answer may have of each stream.
    """

    __slots__ = ("_count", "_link", "_outage", "_prefix", "_suspects", "_switchboard", "_wake", "_woken", "positions")

    def __init__(self, link: RedisLink, switchboard: Switchboard, prefix: str, count: int) -> None:
        self._link = link
        self._switchboard = switchboard
        self._prefix = prefix
        self._count = count
        self._outage = Outage(link.place)
        self._suspects: set[str] = set()  # topics of which an answer may lack something
        self._wake = f"{prefix}wake:{uuid.uuid4().hex}"
        self._woken = BEGINNING
        self.positions: dict[str, str] = {}

    def change(self, topic: str, tail: str) -> None:
        """A topic has got its first subscriber, to whom what comes behind `tail` belongs, or lost its last one."""
        if topic in self._switchboard.topics:
            self.positions[topic] = tail
        else:
            self.positions.pop(topic, None)

    async def wake(self) -> None:
        """Let the waiting command look again. Where that fails, there is a new connection soon, which does."""
        with suppress(FanoutError):
            await self._link.ask(b"EVAL", _WAKE, 1, self._wake)

    async def run(self) -> None:
        """Read, and deliver, until cancelled."""
        while True:
            error: BaseException | None = None
            try:
                async with self._link.place.new_client() as client:
                    connection = await client.connection_pool.get_connection()
                    await connection.create_request(b"PING")  # else there is only an answer when there is a message
                    self._outage.over()
                    self._suspects = {*self.positions}
                    await self._read(connection.create_request)
            except* outages() as group:
                error = group
            if error is not None:
                await self._outage.wait(error)

    async def _read(self, ask: Ask) -> None:
        """Use one connection, until it is lost."""
        while True:
            while self._suspects:
                await self._catch_up(ask, self._suspects.pop())
            asked = dict(self.positions)
            keys = [self._wake, *map(self._key, asked)]
            places = [self._woken, *asked.values()]
            options = (b"COUNT", self._count, b"BLOCK", _BLOCK, b"STREAMS")
            found: dict[bytes, list[Any]] | None = await ask(b"XREAD", *options, *keys, *places)
            for key, entries in (found or {}).items():
                if key == self._wake.encode():
                    self._woken = entries[-1][0].decode("ascii")
                else:
                    self._take(key[len(self._prefix.encode()) :].decode(), asked, entries)

    def _take(self, topic: str, asked: dict[str, str], entries: list[Any]) -> None:
        if self.positions.get(topic) != asked[topic]:
            return  # it was left meanwhile, and perhaps joined again
        if len(entries) >= self._count:
            self._suspects.add(topic)
        else:
            self._deliver(topic, messages_of(entries))

    async def _catch_up(self, ask: Ask, topic: str) -> None:
        """Read on page by page, up to the newest message."""
        more = True
        while more and (after := self.positions.get(topic)) is not None:
            page = await read_page(ask, self._key(topic), after, "+", self._count)
            if self.positions.get(topic) != after:
                continue  # as above
            if page.gap:
                self._switchboard.gap(topic, "trimmed")
            self._deliver(topic, page.messages)
            self.positions[topic] = page.at
            more = page.more

    def _deliver(self, topic: str, messages: list[Message]) -> None:
        for message in messages:
            self._switchboard.deliver(topic, message)
            assert message.id is not None
            self.positions[topic] = message.id

    def _key(self, topic: str) -> str:
        return self._prefix + topic
