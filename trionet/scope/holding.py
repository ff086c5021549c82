"""Blocks at whose end an owner lets go of its handles, in the manner that the block's end calls for.

Leaving a scope has an order, and this is where it is kept: the body ends, then its tasks, and only then the handles.
They are let go of gracefully where the block ended well, and at once where it failed or was cancelled.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..custody import leaving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from yarl import URL

    from ..custody.owner import Owner
    from ..http.client.client import HTTPClient
    from ..http.client.options import ClientOptions
    from ..websocket import WebSocket
    from ..websocket.handshake.opening import WebSocketOptions

__all__ = ["hold_http_client", "hold_websocket", "owned_nursery", "owning"]


class owned_nursery:  # noqa: N801 - it is called, like `trio.open_nursery`
    """A nursery for `owner`, which lets go of its handles at the end of the block: an async context manager.

    With `last_words`, handles whose protocol can tell the peer that the body failed do so, within the drain deadline.

    A class, and no generator: a server keeps one for each connection, and a suspended generator costs a kilobyte.
    """

    __slots__ = ("_last_words", "_nursery", "_owner")

    def __init__(self, owner: Owner, *, last_words: bool = False) -> None:
        self._owner = owner
        self._last_words = last_words
        self._nursery = trio.open_nursery()

    @enable_ki_protection
    async def __aenter__(self) -> None:
        self._owner.nursery = await self._nursery.__aenter__()

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        owner = self._owner
        nursery = owner.nursery
        assert nursery is not None
        try:
            if not await self._nursery.__aexit__(kind, exc, traceback) and exc is not None:  # noqa: ASYNC102
                raise exc
            if nursery.cancel_scope.cancel_called:
                leaving.abort_all(owner)
        except BaseException as error:
            await leaving.let_go(owner, error, last_words=self._last_words)  # noqa: ASYNC102, ASYNC120 - a scope's end
            raise
        if not leaving.let_go_of_nothing(owner):
            await leaving.let_go(owner)  # noqa: ASYNC102 - this is the end of a scope
        return True  # what the body raised was a cancellation that ends here


@asynccontextmanager
@enable_ki_protection
async def owning(owner: Owner) -> AsyncIterator[None]:
    """Let go of the owner's handles at the end of the block, in the manner that the block's end calls for."""
    try:
        yield
    except BaseException as error:
        await leaving.let_go(owner, error)  # noqa: ASYNC102, ASYNC120 - a cancellation outranks the error, which stays its context
        raise
    await leaving.let_go(owner)


@asynccontextmanager
@enable_ki_protection
async def hold_http_client(owner: Owner, options: ClientOptions) -> AsyncIterator[HTTPClient]:
    """An HTTP client for the length of a block, at whose end `owner` lets go of its connections."""
    from ..http.client.client import HTTPClient  # it costs more than the rest together

    async with owning(owner):
        client = HTTPClient(owner, **options)
        try:
            yield client
        finally:
            client._pool.shut()


@asynccontextmanager
@enable_ki_protection
async def hold_websocket(owner: Owner, url: str | URL, options: WebSocketOptions) -> AsyncIterator[WebSocket]:
    """A WebSocket for the length of a block, at whose end `owner` lets go of its connections."""
    from ..websocket.handshake.opening import Opening  # it costs more than the rest together

    async with owning(owner):
        yield await Opening(owner, url, **options).open()
