"""The one connection of a process that Redis publishes to.

Theory of operation. coredis' object for this is used for one connection only: when that is lost, so is the object,
and a new one subscribes to all topics anew. Therefore this module knows each time that messages may be missing, and
says so with a gap. Two tasks work on a connection. `_adjust` sends what has changed: topics with their first
subscriber, topics whose last one has gone. `_receive` gets what Redis sends, confirmations among it, in the order in
which it was sent. A topic is *confirmed* from the moment when its confirmation was received until the moment when
giving it up is sent: only then do messages arrive for certain, and only then is a subscriber's block entered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from .items import Message
from .redis_client import ANSWER_TIMEOUT, outages
from .redis_link import Outage

if TYPE_CHECKING:
    from .redis_link import RedisLink
    from .switchboard import Switchboard

__all__ = ["RedisSubscriber"]


class RedisSubscriber:
    """Keeps this process subscribed to the topics of its switchboard.

    Args:
        link: The way to Redis.
        switchboard: Who wants what, and where it is delivered.
        prefix: In front of the names of all channels.
    """

    __slots__ = ("_changed", "_confirmed", "_confirming", "_interrupted", "_link", "_outage", "_prefix", "_switchboard")

    def __init__(self, link: RedisLink, switchboard: Switchboard, prefix: str) -> None:
        self._link = link
        self._switchboard = switchboard
        self._prefix = prefix.encode()
        self._confirmed: set[str] = set()
        self._interrupted: set[str] = set()
        self._changed = trio.Event()
        self._confirming = trio.lowlevel.ParkingLot()
        self._outage = Outage(link.place)

    def change(self, topic: str) -> None:
        """A topic has got its first subscriber, or lost its last one."""
        self._changed.set()

    async def wait_confirmed(self, topic: str) -> None:
        """Wait until what is published in this topic arrives here."""
        while topic not in self._confirmed:
            await self._confirming.park()

    async def run(self) -> None:
        """Subscribe, and deliver, until cancelled."""
        while True:
            error: BaseException | None = None
            try:
                async with self._link.place.new_client() as client:
                    await self._serve(client)
            except* outages() as group:
                error = group
            self._interrupted |= self._confirmed & {*self._switchboard.topics}
            self._confirmed.clear()
            if error is not None:
                await self._outage.wait(error)

    async def _serve(self, client: Any) -> None:
        """Use one connection, until it is lost."""
        pubsub = client.pubsub(retry_policy=None, subscription_timeout=ANSWER_TIMEOUT)
        async with pubsub, trio.open_nursery() as nursery:
            nursery.start_soon(self._adjust, pubsub)
            nursery.start_soon(self._receive, pubsub)

    async def _adjust(self, pubsub: Any) -> None:
        while True:
            self._changed = trio.Event()
            wanted = {*self._switchboard.topics}
            if given_up := self._confirmed - wanted:
                self._confirmed -= given_up
                await pubsub.unsubscribe(*map(self._channel, given_up))
            if new := wanted - self._confirmed:
                await pubsub.subscribe(*map(self._channel, new))
                for topic in new:
                    await self.wait_confirmed(topic)
            if not self._changed.is_set():
                await self._changed.wait()

    async def _receive(self, pubsub: Any) -> None:
        start = len(self._prefix)
        while True:
            item = await pubsub.get_message()
            if item is None:
                continue
            topic = item["channel"][start:].decode()
            if item["type"] == "message":
                self._switchboard.deliver(topic, Message(None, item["data"]))
            elif item["type"] == "subscribe":
                self._confirm(topic)

    def _confirm(self, topic: str) -> None:
        """Messages arrive from here on; what was missed is told first."""
        self._outage.over()
        self._confirmed.add(topic)
        if topic in self._interrupted:
            self._interrupted.remove(topic)
            self._switchboard.gap(topic, "reconnect")
        self._confirming.unpark_all()

    def _channel(self, topic: str) -> bytes:
        return self._prefix + topic.encode()
