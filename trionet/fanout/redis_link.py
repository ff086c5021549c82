"""The way to Redis of one fan-out: its tasks, for the length of its block, and how its reader waits out an outage."""

from __future__ import annotations

import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from ..errors import leaves, one_of
from .errors import FanoutClosedError
from .redis_client import RedisPlace
from .redis_commands import RedisCommands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["Outage", "RedisLink"]

_LOG = logging.getLogger("trionet.fanout")


class RedisLink:
    """What a fan-out over Redis runs on, for as long as its block is open.

    Args:
        url: Where Redis is.

    Attributes:
        place: The same, as far as it may be shown.
        ask: What Redis answers to a command: `RedisCommands.ask`.
    """

    __slots__ = ("_commands", "_running", "ask", "place")

    def __init__(self, url: str) -> None:
        self.place = RedisPlace(url)
        self._commands = RedisCommands(self.place)
        self.ask = self._commands.ask
        self._running: AbstractAsyncContextManager[Any] | None = None

    async def open(self, *tasks: Callable[[], Awaitable[None]]) -> None:
        """Connect, and start these tasks, which run until `close`.

        Raises:
            FanoutError: Redis does not answer.
            RuntimeError: this was opened before.
        """
        if self._running is not None:
            raise RuntimeError("a fan-out can be entered once: make another one")
        running = self._run(tasks)
        try:
            await running.__aenter__()
        except BaseExceptionGroup as group:
            error = one_of(group)
            raise error from error.__cause__
        self._running = running

    @asynccontextmanager
    async def _run(self, tasks: tuple[Callable[[], Awaitable[None]], ...]) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commands.run)
            await self.ask(b"PING")
            for task in tasks:
                nursery.start_soon(task)
            yield
            nursery.cancel_scope.cancel()

    async def close(self, error: BaseException | None) -> None:
        """End the tasks, and close the connections.

        Args:
            error: What the program's block ends with. It goes its own way, past the tasks; but for a cancellation,
                which may be that of the tasks because one of them has failed.
        """
        assert self._running is not None
        cancelled = error if any(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)) else None
        try:
            await self._running.__aexit__(type(cancelled) if cancelled else None, cancelled, None)
        except BaseExceptionGroup as group:
            raise one_of(group) from None

    def check_open(self) -> None:
        """Refuse what is asked in front of the block.

        Raises:
            FanoutClosedError: `open` was not called yet.
        """
        if self._running is None:
            raise FanoutClosedError("this fan-out has to be entered first: async with ... as fanout")


class Outage:
    """What a reader does while Redis is away: one line when that begins, one when it ends, and longer pauses between.

    Args:
        place: Where Redis is, for the log.
        logged: Whether there are these lines. The reader of a fan-out has them, and nobody else needs to.
    """

    __slots__ = ("_attempts", "_logged", "_place")

    def __init__(self, place: RedisPlace, *, logged: bool = True) -> None:
        self._place = place
        self._logged = logged
        self._attempts = 0

    async def wait(self, error: BaseException) -> None:
        """The connection was lost, or there is none: wait for the next attempt, at most 2 s."""
        if self._logged and not self._attempts:
            causes = "; ".join(str(leaf) or type(leaf).__name__ for leaf in leaves(error))
            _LOG.warning("the connection to Redis at %s is lost, trying again: %s", self._place, causes)
        pause = min(2.0, 0.02 * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 10)
        await trio.sleep(pause * random.uniform(0.5, 1.0))

    def over(self) -> None:
        """There is a connection."""
        if self._attempts:
            self._attempts = 0
            _LOG.info("there is a connection to Redis at %s again", self._place)
