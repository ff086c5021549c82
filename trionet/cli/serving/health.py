"""The health path: where a load balancer asks whether to send more requests here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ... import Exchange

__all__ = ["Health"]

_METHODS: Final = ("GET", "HEAD")


class Health:
    """Tells a load balancer to come, or to go elsewhere: what its requests are answered with.

    They are answered in front of all limits: a server that is busy is healthy, and a look at it is no work.

    Args:
        paths: Where it is asked for.
        is_ending: Whether the end of the server has begun.
    """

    def __init__(self, paths: Collection[str], is_ending: Callable[[], bool]) -> None:
        self._paths = frozenset(paths)
        self._is_ending = is_ending

    def __call__(self, exchange: Exchange) -> tuple[int, bytes] | None:
        """Status and text; None if this request asks for something else."""
        if exchange.path not in self._paths or exchange.method not in _METHODS:
            return None
        return (503, b"ending\n") if self._is_ending() else (200, b"ok\n")
