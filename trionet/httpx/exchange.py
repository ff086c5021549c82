"""One request on its way through the pool, and its response until that is closed, in whatever task that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import trio
from trio.lowlevel import enable_ki_protection

from ..errors import LocalProtocolError
from ..http.content import NOTHING
from ..http.prepared import PreparedRequest
from ..http.retry import IDEMPOTENT
from ..http.url import DEFAULT_PORTS, Origin, ascii_host
from .body import Timeouts
from .errors import errors, within

if TYPE_CHECKING:
    from ..http.client_connection import HTTPClientConnection
    from ..http.content import Content
    from ..http.pool import Site
    from ..http.response import Response
    from .body import Body
    from .transport import TrionetTransport

__all__ = ["Exchange"]

_FRAMING: Final = frozenset({b"transfer-encoding"})
"""Fields that are left to trionet, which frames the body."""
_FIRST_BACKOFF: Final = 0.5


class Exchange:
    """One request on its way through the pool, and its response until that is closed."""

    def __init__(
        self, transport: TrionetTransport, request: httpx.Request, content: Content, body: Body | None
    ) -> None:
        self._transport = transport
        self._pool = transport.pool
        self._request = request
        self._content = content
        self._body = body
        self._timeouts = Timeouts.of(request)
        self._site: Site | None = None
        self._connection: HTTPClientConnection | None = None
        self.response: Response | None = None

    @enable_ki_protection
    async def begin(self) -> None:
        """Send the request and receive the head of the response."""
        prepared, origin = self._prepare()
        try:
            with within(self._timeouts.pool, httpx.PoolTimeout), errors(httpx.ConnectError):
                self._site = await self._pool.acquire(origin)
            self.response = await self._send(prepared)
        except BaseException:
            self._give_back()
            raise

    def _prepare(self) -> tuple[PreparedRequest, Origin]:
        request = self._request
        url = request.url
        if url.scheme not in DEFAULT_PORTS:
            raise httpx.UnsupportedProtocol(f"{str(url)!r} must begin with http:// or https://")
        target = request.extensions.get("target", url.raw_path).decode("ascii")
        line, authorization = self._transport.line_of(request, target)
        fields = [field for field in request.headers.raw if field[0].lower() not in _FRAMING]
        if authorization is not None:
            fields.append((b"Proxy-Authorization", authorization.encode("ascii")))
        try:
            origin = Origin(url.scheme, ascii_host(url.raw_host.decode("ascii")), url.port or DEFAULT_PORTS[url.scheme])
            return PreparedRequest(request.method, line, fields), origin
        except (ValueError, TypeError, LocalProtocolError) as exc:
            raise httpx.LocalProtocolError(str(exc)) from exc

    @enable_ki_protection
    async def _send(self, prepared: PreparedRequest) -> Response:
        """On an idle connection or a new one; once more, where that is known to be safe."""
        assert self._site is not None
        self._connection = connection = self._pool.take_idle(self._site)
        if connection is not None:
            try:
                return await self._exchange(connection, prepared)
            except httpx.TransportError as exc:
                dead = isinstance(exc.__cause__, trio.BrokenResourceError)
                if not dead or connection.answered or prepared.method not in IDEMPOTENT or self._content.data is None:
                    raise
            self._pool.retried += 1
        self._connection = connection = await self._open(self._site)
        return await self._exchange(connection, prepared)

    @enable_ki_protection
    async def _open(self, site: Site) -> HTTPClientConnection:
        """A new connection; the transport's `retries` are made here."""
        delay = 0.0
        for left in range(self._transport.retries, -1, -1):
            try:
                with within(self._timeouts.connect, httpx.ConnectTimeout), errors(httpx.ConnectError):
                    return await self._pool.open(site)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if not left:
                    raise
            await trio.sleep(delay)
            delay = delay * 2 or _FIRST_BACKOFF
        raise AssertionError("the last attempt returns or raises")

    @enable_ki_protection
    async def _exchange(self, connection: HTTPClientConnection, prepared: PreparedRequest) -> Response:
        """Send the request on `connection`, with a deadline."""
        seconds = self._timeouts.read + (self._timeouts.write if self._content is not NOTHING else 0)
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            if self._body is not None:
                self._body.scope = scope
            with errors(httpx.ReadError, self._body):
                response = await connection.exchange(prepared, self._content)
            response.decodes = False  # HTTPX does it
            if self._body is not None:
                self._body.scope = None
            return response
        raise self._timeout()

    def _timeout(self) -> httpx.TimeoutException:
        if self._body is not None and self._body.writing:
            return httpx.WriteTimeout(f"the server took nothing of the body for {self._timeouts.write:g} s")
        return httpx.ReadTimeout(f"the server did not answer within {self._timeouts.read:g} s")

    @enable_ki_protection
    async def next_piece(self) -> bytes | None:
        """The next piece of the body as it comes, with its content codings on; None at the end."""
        assert self.response is not None
        with within(self._timeouts.read, httpx.ReadTimeout), errors(httpx.ReadError, self._body):
            return await anext(self.response, None)
        raise AssertionError("a timeout raises")

    @enable_ki_protection
    async def end(self) -> None:
        """The response is closed. What is unread of it is dropped within bounds, or the connection ends.

        Cancellation: the connection ends.
        """
        assert self.response is not None
        try:
            with errors(httpx.ReadError, self._body):
                await self.response.leave(None)
        finally:
            self._give_back()

    @enable_ki_protection
    def _give_back(self) -> None:
        site, self._site = self._site, None
        connection, self._connection = self._connection, None
        if site is None:
            return
        if connection is not None:
            if self._pool.statistics().idle >= self._transport.max_idle:
                connection.abort()
            self._pool.put(site, connection)
        self._pool.release(site)
