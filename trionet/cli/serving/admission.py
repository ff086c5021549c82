"""What stands in front of a handler of exchanges: how many are answered at once, how many in all, and the health path.

All of it is counting on the connection's own task; a command that asks for none of it has nothing in front.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from .health import Health

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ... import Exchange
    from .options import Lifetime

    Handler = Callable[[Exchange], Awaitable[object]]

__all__ = ["Admission"]

_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)


class Admission:
    """Counts exchanges, refuses those that are too many, and says when there were enough.

    Args:
        lifetime: The limits, and the health path.
        enough: Called once, in a step, when `Lifetime.limit_max_requests` have been answered.
        is_ending: Whether the end has begun: then a load balancer that asks for the health is told to go elsewhere.
    """

    def __init__(self, lifetime: Lifetime, enough: Callable[[], None], is_ending: Callable[[], bool]) -> None:
        self._most = lifetime.limit_concurrency
        self._left: int | None = None
        if lifetime.limit_max_requests is not None:
            self._left = lifetime.limit_max_requests + random.randint(0, lifetime.limit_max_requests_jitter)
        path = lifetime.health_path
        self._health = None if path is None else Health((path,), is_ending)
        self._enough = enough
        self._now = 0

    def in_front_of(self, handler: Handler) -> Handler:
        """The same handler, behind what was asked for."""
        if self._most is None and self._left is None and self._health is None:
            return handler

        async def admit(exchange: Exchange) -> None:
            if self._health is not None and (told := self._health(exchange)) is not None:
                await exchange.respond(*told, headers=_TEXT)
                return
            if self._most is not None and self._now >= self._most:
                text = b"Service Unavailable: too many requests at the same time\n"
                await exchange.respond(503, text, headers=[*_TEXT, ("Retry-After", "1")])
                return
            self._now += 1
            try:
                await handler(exchange)
            finally:
                self._now -= 1
                self._count()

        return admit

    def _count(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._enough()
