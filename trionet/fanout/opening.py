"""A fan-out by its URL: which one it is, is a matter of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .memory import MemoryFanout
from .redis_pubsub import RedisFanout

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["open_fanout"]


def open_fanout(url: str = "memory:") -> AbstractAsyncContextManager[MemoryFanout | RedisFanout]:
    """The fan-out that a URL names: ``async with open_fanout(os.environ.get("FANOUT", "memory:")) as fanout``.

    Args:
        url: ``memory:`` is a `MemoryFanout`; ``redis://``, ``rediss://`` and ``unix://`` are a `RedisFanout`.

    Raises:
        ValueError: it is another kind of URL.
        ImportError, TypeError: as for `RedisFanout`. Entering may raise `FanoutError`.
    """
    return MemoryFanout() if url == "memory:" else RedisFanout(url)
