"""The pings that are under way, and who waits for which pong (RFC 6455 §5.5.2, §5.5.3)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import current_task

if TYPE_CHECKING:
    from ..handle.turn import Turn

__all__ = ["Pings"]


class Pings:
    """Pings whose pongs have not come yet, in the order in which they were sent.

    Attributes:
        latency: Seconds from the latest keepalive ping to its pong; None before the first one.
    """

    __slots__ = ("_under_way", "latency")

    def __init__(self, latency: float | None = None) -> None:
        # By payload: the task that waits, None for a keepalive ping, and when it was sent.
        self._under_way: dict[bytes, tuple[Any, float]] = {}
        self.latency = latency

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._under_way

    def new_payload(self) -> bytes:
        """A payload that no ping under way has."""
        while (payload := secrets.token_bytes(4)) in self._under_way:
            pass
        return payload

    def begin(self, payload: bytes) -> Any:
        """The running task sends a ping with this payload: that task.

        Raises:
            ValueError: another ping under way has it.
        """
        if payload in self._under_way:
            raise ValueError(f"a ping with payload {payload!r} is under way already")
        task = current_task()
        self._under_way[payload] = task, trio.current_time()
        return task

    def begin_keepalive(self, payload: bytes, now: float) -> None:
        """A keepalive ping is sent, for whose pong no task waits."""
        self._under_way[payload] = None, now

    def awaits(self, payload: bytes, task: Any) -> bool:
        """Whether the ping with this payload is under way, and this task's; by now it may be another one's."""
        return payload in self._under_way and self._under_way[payload][0] is task

    def end(self, payload: bytes, task: Any) -> None:
        """The task does not wait any more."""
        if self.awaits(payload, task):
            del self._under_way[payload]

    def pong_came(self, payload: bytes, turn: Turn) -> None:
        """A pong answers the ping with its payload, and those that were sent before: tasks in `turn` need not wait."""
        if payload not in self._under_way:
            return
        while self._under_way:
            sent = next(iter(self._under_way))
            task, since = self._under_way.pop(sent)
            if task is None:
                self.latency = trio.current_time() - since
            else:
                turn.wake(task)
            if sent == payload:
                break
