"""From a topic to the WebSockets of this process: one subscription for all of them, and one frame for each message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import trio

from .items import Gap, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..websocket import WebSocket
    from .protocol import Fanout

__all__ = ["relay"]


def _data_of(item: Message | Gap) -> bytes | None:
    return item.data if isinstance(item, Message) else None


async def relay(
    fanout: Fanout,
    topic: str,
    websockets: Collection[WebSocket],
    *,
    encode: Callable[[Message | Gap], str | bytes | None] = _data_of,
    when_slow: Literal["skip", "close"] = "close",
    max_buffered: int = 2**20,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send what is published in `topic` to all of `websockets`, until cancelled.

    One subscription serves all WebSockets of a process, and none of them waits for another: each has a buffer of its
    own, as `broadcast` says.

    Args:
        fanout: Where messages come from.
        topic: Which ones.
        websockets: A collection that may change at any time, such as a set to which each handler adds its WebSocket.
            Those that are closed are passed over.
        encode: What is sent for an item, a str as text, bytes as binary; None for nothing. By default a message is sent
            as binary, and a gap not at all.
        when_slow: What becomes of a WebSocket in whose buffer there is no room: "close" closes it with 1013 (try again
            later), "skip" leaves this message out.
        max_buffered: Bytes that may wait for one WebSocket.
        task_status: Told when the subscription has begun.

    Raises:
        FanoutError, FanoutClosedError: as for `subscribe` of this fan-out.
        ValueError, TypeError: an argument is out of its range, or `encode` gives what cannot be sent.

    Cancellation: the subscription ends.
    """
    from ..websocket import broadcast

    async with fanout.subscribe(topic) as items:
        task_status.started()
        async for item in items:
            if (message := encode(item)) is not None:
                broadcast(tuple(websockets), message, when_slow=when_slow, max_buffered=max_buffered)
