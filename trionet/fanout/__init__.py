"""Fan-out: one message for all subscribers of a topic, in this process or, over Redis, in many on many machines.

`MemoryFanout` needs nothing and is where to begin. What a subscriber has not taken yet waits in a queue of its own,
which is bounded in messages and bytes; what a subscriber has not got it is told of, by a `Gap`.
"""

from __future__ import annotations

from .errors import FanoutClosedError, FanoutError
from .items import Gap, Message
from .memory import MemoryFanout
from .opening import open_fanout
from .protocol import Fanout
from .redis_pubsub import RedisFanout
from .redis_stream import RedisStreamFanout
from .relay import relay
from .subscription import Subscription

__all__ = [
    "Fanout",
    "FanoutClosedError",
    "FanoutError",
    "Gap",
    "MemoryFanout",
    "Message",
    "RedisFanout",
    "RedisStreamFanout",
    "Subscription",
    "open_fanout",
    "relay",
]
