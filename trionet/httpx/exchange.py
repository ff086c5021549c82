"""One request on its way through the pool, and its response until that is closed, in whatever task that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
import trio
from trio.lowlevel import enable_ki_protection

from ..errors import LocalProtocolError
from ..http.client.retry import IDEMPOTENT
from ..http.content import NOTHING
from ..http.protocol.prepared import PreparedRequest
from ..http.url.hosts import ascii_host
from ..http.url.url import Origin
from .body import Paced, Timeouts
from .errors import errors, within
from .trace import Trace

if TYPE_CHECKING:
    from ..http.client.connection import HTTPClientConnection
    from ..http.client.pool import Pool
    from ..http.client.response import Response
    from ..http.client.sites import Site
    from ..http.content import Content
    from .settings import TransportSettings

__all__ = ["HTTPXExchange"]

_FRAMING: Final = frozenset({b"transfer-encoding"})
"""Fields that are left to trionet, which frames the body."""
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "ws", "wss": "https"}
"""A WebSocket begins as a request, which asks an HTTP proxy for a tunnel also where there is no TLS."""
_FIRST_BACKOFF: Final = 0.5


class HTTPXExchange:
    """One request on its way through the pool, and its response until that is closed.

    Attributes:
        trace: Who wants to know of it.
        response: Its response, when that has begun.
    """

    def __init__(self, settings: TransportSettings, pool: Pool, request: httpx.Request, content: Content) -> None:
        self._settings = settings
        self._pool = pool
        self._request = request
        self._content = content
        self._body = content if isinstance(content, Paced) else None
        self._timeouts = Timeouts.of(request)
        self._site: Site | None = None
        self._connection: HTTPClientConnection | None = None
        self.trace = Trace(request)
        self.response: Response | None = None

    @enable_ki_protection
    async def begin(self) -> None:
        """Send the request and receive the head of the response."""
        origin = origin_of(self._request)
        prepared = self._prepare(origin)
        try:
            with within(self._timeouts.pool, httpx.PoolTimeout), errors(httpx.ConnectError):
                self._site = await self._pool.slots.acquire(origin)
            await self._send(prepared)
        except BaseException as exc:
            await self._give_up(exc)  # noqa: ASYNC102 - at once
            raise

    def _prepare(self, origin: Origin) -> PreparedRequest:
        request = self._request
        target = request.extensions.get("target", request.url.raw_path).decode("ascii")
        fields = [field for field in request.headers.raw if field[0].lower() not in _FRAMING]
        line, for_proxy = self._settings.through_proxy(origin, target)
        names = {name.lower() for name, _ in fields}
        fields += [field for field in for_proxy if field[0].lower() not in names]
        try:
            return PreparedRequest(request.method, line, fields)
        except (ValueError, TypeError, LocalProtocolError) as exc:
            raise httpx.LocalProtocolError(str(exc)) from exc

    @enable_ki_protection
    async def _send(self, prepared: PreparedRequest) -> None:
        """On an idle connection or a new one; once more, where that is known to be safe."""
        assert self._site is not None
        self._connection = connection = self._pool.take_idle(self._site)
        if connection is not None:
            try:
                await self._exchange(connection, prepared)
                return
            except httpx.TransportError as exc:
                dead = isinstance(exc.__cause__, trio.BrokenResourceError)
                if not dead or connection._io.answered or prepared.method not in IDEMPOTENT or not self._replayable:
                    raise
            self._pool.retried += 1
        self._connection = connection = await self._open(self._site)
        await self._exchange(connection, prepared)

    @property
    def _replayable(self) -> bool:
        return self._content.data is not None or self._content.replayable

    @enable_ki_protection
    async def _open(self, site: Site) -> HTTPClientConnection:
        """A new connection; the transport's `retries` are made here."""
        delay = 0.0
        for left in range(self._settings.retries, -1, -1):
            try:
                with within(self._timeouts.connect, httpx.ConnectTimeout), errors(httpx.ConnectError):
                    return await self._pool.open(site, self.trace)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if not left:
                    raise
            async with self.trace.step("connection.retry"):
                await trio.sleep(delay)
            delay = delay * 2 or _FIRST_BACKOFF
        raise AssertionError("the last attempt returns or raises")

    @enable_ki_protection
    async def _exchange(self, connection: HTTPClientConnection, prepared: PreparedRequest) -> None:
        """Send the request on `connection`, within its times, and tell of it."""
        if not self.trace.on:
            await self._ask(connection, prepared)
            return
        try:
            await self._ask_and_tell(connection, prepared)
        except BaseException:
            connection.abort()  # also where the program's function has raised, with the response half received
            async with self.trace.step("http11.response_closed"):  # noqa: ASYNC102 - the program's own function
                pass
            raise

    async def _ask_and_tell(self, connection: HTTPClientConnection, prepared: PreparedRequest) -> None:
        """The same, in the steps of httpcore. The head, and a small body, leave in one send, and are told of before."""
        async with self.trace.http("send_request_headers"):
            pass
        sending, receiving = self.trace.http("send_request_body"), self.trace.http("receive_response_headers")

        async def sent() -> None:
            await sending.complete()
            await receiving.begin()

        await sending.begin()
        if self._body is None:
            await sent()
        else:
            self._body.when_sent = sent
        try:
            response = await self._ask(connection, prepared)
        except BaseException as exc:
            await (receiving if receiving.begun else sending).fail(exc)  # noqa: ASYNC102 - the program's own function
            raise
        if self._body is not None:
            self._body.when_sent = None
        if not receiving.begun:  # the server has answered before the body's end
            await receiving.begin()
        receiving.return_value = (
            f"HTTP/{response.http_version}".encode("ascii"),
            response.status,
            response.reason.encode("latin-1"),
            list(response.headers.raw),
        )
        await receiving.complete()

    @enable_ki_protection
    async def _ask(self, connection: HTTPClientConnection, prepared: PreparedRequest) -> Response:
        """Send the request on `connection`, within its times."""
        times, body = self._timeouts, self._body
        seconds = times.write if self._content is not NOTHING else 0
        if body is None:
            seconds += times.read
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            if body is not None:
                body.scope = scope
            with errors(httpx.ReadError, body):
                self.response = response = await connection._exchange(prepared, self._content)
            if body is not None:
                body.scope = None
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
            return await self.response._body.next_piece()
        raise AssertionError("a timeout raises")

    @enable_ki_protection
    async def end(self) -> None:
        """The response is closed. What is unread of it is dropped within bounds, or the connection ends.

        Cancellation: the connection ends.
        """
        assert self.response is not None
        try:
            with errors(httpx.ReadError, self._body):
                await self.response._leave(None)
        finally:
            self._give_back()

    @enable_ki_protection
    async def _give_up(self, exc: BaseException) -> None:
        """The exchange has failed with `exc`, maybe behind the head of its response, while the body is still sent.

        Cancellation: not a cancellation point. A producer of a body is cancelled, and should heed that.
        """
        try:
            if self.response is not None:
                await self.response._leave(exc)
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


def origin_of(request: httpx.Request) -> Origin:
    """Who is asked.

    Raises:
        httpx.UnsupportedProtocol: the scheme is not one of HTTP.
        httpx.ConnectError: nobody can be reached at such a host or port.
    """
    url = request.url
    scheme = _SCHEMES.get(url.scheme)
    if scheme is None or not url.host:
        raise httpx.UnsupportedProtocol(f"{str(url)!r} must begin with http:// or https://, and have a host")
    port = url.port or (443 if scheme == "https" else 80)
    try:
        if not 1 <= port <= 65535:
            raise ValueError(f"port {port} is not a number from 1 to 65535")
        host = ascii_host(url.raw_host.decode("ascii"))
    except ValueError as exc:
        raise httpx.ConnectError(f"cannot connect to {url.host}: {exc}") from exc
    return Origin(scheme, host, port, request.extensions.get("sni_hostname"))
