"""One request on its way through the pool, and its response until that is closed, in whatever task that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import trio
from trio.lowlevel import enable_ki_protection

from ..http.client.retry import IDEMPOTENT
from .errors import errors, within
from .request import origin_of, prepare
from .timed_request import TimedRequest
from .trace import Trace

if TYPE_CHECKING:
    from ..http.client.connection import HTTPClientConnection
    from ..http.client.pool import Pool
    from ..http.client.response import Response
    from ..http.client.sites import Site
    from ..http.content import Content
    from ..http.protocol.prepared_request import PreparedRequest
    from .settings import TransportSettings

__all__ = ["HTTPXExchange"]

_FIRST_BACKOFF: Final = 0.5


class HTTPXExchange:
    """One request on its way through the pool, and its response until that is closed.

    Attributes:
        trace: Tells the program of it.
    """

    def __init__(self, settings: TransportSettings, pool: Pool, request: httpx.Request, content: Content) -> None:
        self.trace = Trace(request)
        self._settings = settings
        self._pool = pool
        self._request = request
        self._sending = TimedRequest(request, content, self.trace)
        self._site: Site | None = None
        self._connection: HTTPClientConnection | None = None

    @enable_ki_protection
    async def begin(self) -> Response:
        """Send the request and receive the head of the response.

        Raises:
            httpx.TransportError: that did not work out.

        Cancellation: the connection is closed if anything of the request had been sent.
        """
        origin = origin_of(self._request)
        prepared = prepare(self._request, origin, self._settings)
        try:
            with within(self._sending.timeouts.pool, httpx.PoolTimeout), errors(httpx.ConnectError):
                self._site = site = await self._pool.slots.acquire(origin)
            await self._send(site, prepared)
        except BaseException as exc:
            await self._give_up(exc)  # noqa: ASYNC102 - at once
            raise
        return self._response

    @property
    def _response(self) -> Response:
        response = self._sending.response
        assert response is not None
        return response

    @enable_ki_protection
    async def _send(self, site: Site, prepared: PreparedRequest) -> None:
        """On an idle connection or a new one; once more, where that is known to be safe."""
        self._connection = connection = self._pool.take_idle(site)
        if connection is not None:
            try:
                await self._sending.send(connection, prepared)
                return
            except httpx.TransportError as exc:
                dead = isinstance(exc.__cause__, trio.BrokenResourceError)
                repeatable = prepared.method in IDEMPOTENT and self._sending.replayable
                if not dead or connection._io.response_begun or not repeatable:
                    raise
            self._pool.retried += 1
        self._connection = connection = await self._open(site)
        await self._sending.send(connection, prepared)

    @enable_ki_protection
    async def _open(self, site: Site) -> HTTPClientConnection:
        """A new connection; the transport's `retries` are made here."""
        delay = 0.0
        for left in range(self._settings.retries, -1, -1):
            try:
                with within(self._sending.timeouts.connect, httpx.ConnectTimeout), errors(httpx.ConnectError):
                    return await self._pool.open(site, self.trace)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if not left:
                    raise
            async with self.trace.step("connection.retry"):
                await trio.sleep(delay)
            delay = delay * 2 or _FIRST_BACKOFF
        raise AssertionError("the last attempt returns or raises")

    @enable_ki_protection
    async def next_piece(self) -> bytes | None:
        """The next piece of the body as it comes, with its content codings on; None at the end."""
        with within(self._sending.timeouts.read, httpx.ReadTimeout), errors(httpx.ReadError, self._sending.body):
            return await self._response._body.next_piece()
        raise AssertionError("a timeout raises")

    @enable_ki_protection
    async def end(self) -> None:
        """The response is closed. What is unread of it is dropped within bounds, or the connection ends.

        Cancellation: the connection ends.
        """
        try:
            with errors(httpx.ReadError, self._sending.body):
                await self._response._leave(None)
        finally:
            self._give_back()

    @enable_ki_protection
    async def _give_up(self, exc: BaseException) -> None:
        """The exchange has failed with `exc`, maybe behind the head of its response, while the body is still sent.

        Cancellation: not a cancellation point. A producer of a body is cancelled, and should heed that.
        """
        try:
            if self._sending.response is not None:
                await self._response._leave(exc)
        finally:
            self._give_back()

    @enable_ki_protection
    def _give_back(self) -> None:
        site, self._site = self._site, None
        connection, self._connection = self._connection, None
        if site is None:
            return
        if connection is not None:
            if self._pool.statistics().idle >= self._settings.max_idle:
                connection.abort()
            self._pool.put(site, connection)
        self._pool.slots.release(site)
