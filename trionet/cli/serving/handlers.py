"""What ``trionet serve`` serves: a handler of exchanges, or one of connections."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ... import HTTPLimits, http_handler
from ...server.arguments import check_handler
from ..mistakes import Mistake
from .admission import Admission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .options import Lifetime
    from .serving import Handler

__all__ = ["ConnectionHandler", "ExchangeHandler"]


class ConnectionHandler:
    """A handler of connections, for a protocol of its own.

    Raises:
        Mistake: it cannot be one.
    """

    def __init__(self, handler: Any) -> None:
        _check(handler)
        self._handler: Handler = handler

    @asynccontextmanager
    async def open(self, enough: Callable[[], None], is_ending: Callable[[], bool]) -> AsyncIterator[Handler]:
        """As `Service.open`."""
        yield self._handler


class ExchangeHandler:
    """A handler of HTTP exchanges.

    Raises:
        Mistake: it cannot be one, or a limit cannot be right.
    """

    def __init__(self, handler: Any, lifetime: Lifetime) -> None:
        _check(handler)
        self._handler = handler
        self._lifetime = lifetime
        try:
            self._limits = HTTPLimits(**lifetime.head_limits())
        except ValueError as exc:
            raise Mistake(str(exc)) from exc

    @asynccontextmanager
    async def open(self, enough: Callable[[], None], is_ending: Callable[[], bool]) -> AsyncIterator[Handler]:
        """As `Service.open`."""
        admission = Admission(self._lifetime, enough, is_ending)
        yield http_handler(admission.in_front_of(self._handler), limits=self._limits)


def _check(handler: Any) -> None:
    try:
        check_handler(handler)
    except TypeError as exc:
        raise Mistake(str(exc)) from exc
