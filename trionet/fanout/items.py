"""What a subscriber gets: messages, and a gap wherever some are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Gap", "Message", "Missing"]

Missing: TypeAlias = Literal["overflow", "reconnect", "trimmed"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a topic.

    Attributes:
        id: Its name within the topic, by which a `RedisStreamFanout` can be asked for what came behind it. None with a
            `RedisFanout`, whose messages have no names.
        data: What was published; text as UTF-8.
    """

    id: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """At this place messages may be missing: whoever must know all of them has to ask elsewhere what it missed.

    Attributes:
        since: The id of the last message in front of the gap; None if there was none, or it has no id.
        reason: "overflow": the subscriber took them too slowly, and its queue dropped the oldest ones. "reconnect": the
            connection to Redis was lost, and what was published before it came back is unknown. "trimmed": the stream
            has been cut down to its newest messages before these were read.
        lost: How many are missing; None if that is unknown, and perhaps none.
    """

    since: str | None
    reason: Missing
    lost: int | None = None
