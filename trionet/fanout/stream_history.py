"""What a subscriber gets first that goes on behind an id: what the stream still has, page by page, as it takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from .errors import FanoutError
from .items import Gap
from .redis_link import Outage
from .stream_page import order, read_page

if TYPE_CHECKING:
    from .items import Message
    from .redis_link import RedisLink
    from .stream_page import StreamPage

__all__ = ["StreamHistory"]

_COUNT: Final = 100


class StreamHistory:
    """The messages behind one id, and not behind another: call it for the next of them, until it gives none.

    Args:
        link: The way to Redis. Where Redis is away, the next page waits until it is back.
        key: Of the stream.
        after: The id behind which it begins.
        upto: The id with which it ends.
    """

    __slots__ = ("_after", "_ended", "_gap_told", "_key", "_link", "_lock", "_upto")

    def __init__(self, link: RedisLink, key: str, after: str, upto: str) -> None:
        self._link = link
        self._key = key
        self._after = after
        self._upto = upto
        self._ended = False
        self._gap_told = False
        self._lock = trio.Lock()

    async def __call__(self) -> list[Message | Gap]:
        """The next items.

        Raises:
            FanoutError: Redis refuses to read.

        Cancellation: nothing is lost.
        """
        async with self._lock:
            items: list[Message | Gap] = []
            while not (items or self._ended):
                page = await self._outlasting()
                if page.gap and not self._gap_told:
                    items.append(Gap(None, "trimmed"))
                items += page.messages
                self._gap_told = page.gap and not page.messages
                self._after = page.at
                self._ended = not page.more or order(page.at) >= order(self._upto)
            return items

    async def _outlasting(self) -> StreamPage:
        outage = Outage(self._link.place, logged=False)
        while True:
            try:
                return await read_page(self._link.ask, self._key, self._after, self._upto, _COUNT)
            except FanoutError as exc:
                if exc.retry_safe is None:
                    raise
                await outage.wait(exc)
