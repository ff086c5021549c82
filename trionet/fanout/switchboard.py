"""Who in this process has subscribed to what. All fan-outs share it; they differ in where messages come from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import FanoutClosedError
from .subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .items import Message, Missing
    from .subscription import QueueBounds

__all__ = ["Switchboard", "bytes_of", "check_topic"]


def check_topic(topic: str) -> str:
    """`topic`, if it is one.

    Raises:
        TypeError: not a str.
        ValueError: empty.
    """
    if not isinstance(topic, str):
        raise TypeError(f"topic must be a str, not {topic!r}")
    if not topic:
        raise ValueError("topic must not be empty")
    return topic


def bytes_of(data: str | bytes | bytearray | memoryview) -> bytes:
    """What is published as bytes of its own, which nobody can change afterwards.

    Raises:
        TypeError: it is neither text nor bytes.
    """
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"data must be str, which is sent as UTF-8, or bytes, not {type(data).__name__}")


class Switchboard:
    """The subscriptions of one fan-out in this process, by topic."""

    __slots__ = ("_by_topic", "_closed")

    def __init__(self) -> None:
        self._by_topic: dict[str, list[Subscription]] = {}
        self._closed = False

    @property
    def topics(self) -> Collection[str]:
        """Topics that somebody has subscribed to."""
        return self._by_topic.keys()

    def check_open(self, name: str) -> None:
        """Refuse what a closed fan-out is asked for.

        Raises:
            FanoutClosedError: it is closed.
        """
        if self._closed:
            raise FanoutClosedError(f"{name} is refused: the block of this fan-out has ended")

    @contextmanager
    def connected(
        self, topic: str, bounds: QueueBounds, changed: Callable[[str], object] | None = None
    ) -> Iterator[Subscription]:
        """A new subscription, to which messages are delivered for the length of this block.

        Args:
            topic: Of what.
            bounds: Of its queue.
            changed: Called with the topic when its first subscription has come, or its last one has gone.
        """
        self.check_open("subscribe")
        subscription = Subscription(topic, bounds)
        there = self._by_topic.setdefault(topic, [])
        there.append(subscription)
        try:
            if changed is not None and len(there) == 1:
                changed(topic)
            yield subscription
        finally:
            subscription._close()
            there.remove(subscription)
            if not there and self._by_topic.get(topic) is there:
                del self._by_topic[topic]
                if changed is not None:
                    changed(topic)

    def deliver(self, topic: str, message: Message) -> None:
        """Give all subscribers of this topic the message. A step."""
        for subscription in self._by_topic.get(topic, ()):
            subscription._put(message)

    def gap(self, topic: str, reason: Missing) -> None:
        """Tell all subscribers of this topic that messages may be missing. A step."""
        for subscription in self._by_topic.get(topic, ()):
            subscription._put_gap(reason)

    def close(self) -> None:
        """All subscriptions end, and there are no new ones."""
        self._closed = True
        for there in self._by_topic.values():
            for subscription in there:
                subscription._close()
