"""A fan-out by its URL: which one it is, is a matter of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..support.checks import check_kind
from .memory import MemoryFanout
from .redis_pubsub import RedisFanout
from .redis_stream import RedisStreamFanout

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["open_fanout"]


def open_fanout(url: str = "memory:") -> AbstractAsyncContextManager[MemoryFanout | RedisFanout | RedisStreamFanout]:
    """The fan-out that a URL names: ``async with open_fanout(os.environ.get("FANOUT", "memory:")) as fanout``.

    Args:
        url: ``memory:`` is a `MemoryFanout`; ``redis://``, ``rediss://`` and ``unix://`` are a `RedisFanout`;
            ``redis+stream://``, ``rediss+stream://`` and ``unix+stream://`` are a `RedisStreamFanout`.

    Raises:
        ValueError: it is another kind of URL.
        ImportError, TypeError: as for `RedisFanout`. Entering may raise `FanoutError`.
    """
    if url == "memory:":
        return MemoryFanout()
    scheme, _, rest = check_kind("url", url, str, "a str").partition(":")
    kind, plus, stream = scheme.partition("+")
    if plus and stream == "stream":
        return RedisStreamFanout(f"{kind}:{rest}")
    return RedisFanout(url)
