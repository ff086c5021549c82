"""The one connection of a process on which it asks Redis, and Redis answers.

All tasks share it, and what they ask leaves in the order of asking. A task of its own connects, so that a cancelled
asker takes nothing with it. A connection is made when somebody asks, and there is none: an outage costs nothing while
nobody does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ..errors import leaves
from .errors import FanoutError
from .redis_client import outages

if TYPE_CHECKING:
    from .redis_client import RedisPlace

__all__ = ["RedisCommands"]


class RedisCommands:
    """Asks Redis, on a connection that is made anew when it was lost.

    Args:
        place: Where Redis is.
    """

    __slots__ = ("_asking", "_connection", "_failure", "_place", "_wanted")

    def __init__(self, place: RedisPlace) -> None:
        self._place = place
        self._connection: Any = None
        self._wanted = trio.Event()
        self._asking = trio.lowlevel.ParkingLot()
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Connect whenever it is asked for, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            self._failure = None
            try:
                async with self._place.new_client() as client:
                    self._connection = await client.connection_pool.get_connection()
                    self._asking.unpark_all()
                    await self._wanted.wait()
            except* outages() as group:
                self._failure = group
            self._connection = None
            if self._failure is not None:
                self._asking.unpark_all()

    async def ask(self, command: bytes, *arguments: str | bytes | int) -> Any:
        """What Redis answers to a command.

        Raises:
            FanoutError: nothing, or an error; ``retry_safe`` is False where the command may have been carried out.

        Cancellation: the command may have been carried out.
        """
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connected()
        try:
            request = connection.create_request(command, *arguments)
        except outages() as exc:
            raise self._unreached(exc) from exc
        try:
            return await request
        except outages() as exc:
            refused = self._place.is_refusal(exc)
            error = FanoutError(f"Redis at {self._place} {'refuses' if refused else 'has not answered'}: {exc}")
            if not refused:
                error.retry_safe = False
                connection.invalidate()
            raise error from exc

    async def _connected(self) -> Any:
        """The next connection.

        Raises:
            FanoutError: it cannot be made.
        """
        self._wanted.set()
        await self._asking.park()
        if self._connection is None:
            raise self._unreached(self._failure) from self._failure
        return self._connection

    def _unreached(self, failure: BaseException | None) -> FanoutError:
        causes = "; ".join(str(leaf) for leaf in leaves(failure))
        error = FanoutError(f"Redis at {self._place} cannot be reached: {causes}")
        error.retry_safe = True
        return error
