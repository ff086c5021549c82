"""One hop of a request: its slots, its connection, and the one retry that is safe.

A hop takes the slots of its origin before it connects, and holds them until its response needs its connection no more
(`claim`). It is sent on an idle connection of the pool, or on a new one.

Why there is one retry: a server may close an idle connection at any time, also while a request is on its way to it.
Then the client gets a reset or EOF in the place of a response, although nothing is wrong with the request. So a request
that failed before any byte of a response, on a connection that had been used before, is sent once more, on a fresh
connection, where nobody could have closed it for being idle. That is done only where it cannot do anything twice: the
server may have carried the request out, so its method has to be idempotent (RFC 9110 §9.2.2), and its body has to be in
memory. Every other failure is the program's to judge; its error says whether a retry is safe (`retry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from .retry import IDEMPOTENT

if TYPE_CHECKING:
    from ..content import Content
    from ..protocol.prepared_request import PreparedRequest
    from ..url.url import Origin
    from .connection import HTTPClientConnection
    from .pool import Pool
    from .response import Response
    from .sites import Site

__all__ = ["Hop"]


class Hop:
    """One request to one origin, from its slots to its response."""

    __slots__ = ("_connection", "_pool", "_site")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._site: Site | None = None
        self._connection: HTTPClientConnection | None = None

    @enable_ki_protection
    async def exchange(self, origin: Origin, prepared: PreparedRequest, content: Content, *, keep: bool) -> Response:
        """Wait for the slots, send, and receive the head of the response, which lets go of the slots.

        Raises and Cancellation: as `HTTPClient.request`.
        """
        self._site = site = await self._pool.slots.acquire(origin)
        try:
            response = await self._send(site, prepared, content)
        except BaseException:
            self._give_back()
            raise
        response._body.claim.lend(self._give_back, keep=keep)
        return response

    async def _send(self, site: Site, prepared: PreparedRequest, content: Content) -> Response:
        """Send on an idle connection or a new one; once more, where that is known to be safe."""
        pool = self._pool
        self._connection = connection = pool.take_idle(site)
        if connection is not None:
            try:
                return await connection._exchange(prepared, content)
            except trio.BrokenResourceError:
                if connection._io.response_begun or prepared.method not in IDEMPOTENT or content.data is None:
                    raise
            pool.retried += 1
        self._connection = connection = await pool.open(site)  # noqa: ASYNC120 - only after a failure
        return await connection._exchange(prepared, content)

    @enable_ki_protection
    def _give_back(self) -> None:
        """The connection goes back to its pool, or ends; the next request may come. A step."""
        site, self._site = self._site, None
        connection, self._connection = self._connection, None
        if site is not None:
            if connection is not None:
                self._pool.put(site, connection)
            self._pool.slots.release(site)
