"""The transport itself: what HTTPX calls, and what it is made with."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
import trio

from .body import content_of
from .body_stream import BodyStream
from .exchange import HTTPXExchange
from .home import Home
from .network_stream import NetworkStream
from .settings import TransportSettings
from .way import connect

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Iterable
    from types import TracebackType

    from ..custody.owner import Owner
    from ..http.client.connection import HTTPClientConnection
    from ..http.client.pool import Pool
    from ..http.url.url import Origin
    from .trace import Trace

__all__ = ["TrionetTransport"]

_DEFAULT_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)


class TrionetTransport(httpx.AsyncBaseTransport):
    """What `httpx.AsyncClient` sends requests through, in the place of `httpx.AsyncHTTPTransport`.

    It opens with its first request, whether it was entered or not, and closes with `aclose`, or with the client; in
    whatever task, and in whatever order with other transports. Closing cuts off what is running. Used again, it opens
    again. One that nobody closes ends with the run.

    Extensions of requests: ``timeout``, ``trace``, ``sni_hostname``, ``target``; of responses: ``http_version``,
    ``reason_phrase``, ``network_stream``. All are those of httpcore.

    Args:
        verify: As for `httpx.AsyncHTTPTransport`: an `ssl.SSLContext`, or whether to verify certificates.
        cert: A client's certificate.
        trust_env: Whether the environment counts: ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, and, where there is no
            `proxy`, the proxies that it names. HTTPX itself looks for proxies only where it makes the transports.
        http1: Must be true: HTTP/1.1 is what is spoken.
        http2: Must be false.
        limits: Of the pool: connections, those that are kept idle, and for how many seconds.
        proxy: ``http://``, ``https://``, ``socks5://`` or ``socks5h://``; an `httpx.Proxy` may have fields and an
            `ssl.SSLContext` of its own.
        uds: A Unix socket to connect to, whatever a URL's host says.
        local_address: The IP address to connect from.
        retries: How often connecting is tried again, after 0, 0.5, 1, 2 … seconds.
        socket_options: Arguments of `socket.setsockopt`, for each connection.

    Raises:
        ValueError, TypeError: an argument cannot be right.
    """

    def __init__(  # noqa: PLR0917 - they are those of httpx.AsyncHTTPTransport, in the same order
        self,
        verify: ssl.SSLContext | str | bool = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits = _DEFAULT_LIMITS,
        proxy: str | httpx.URL | httpx.Proxy | None = None,
        uds: str | os.PathLike[str] | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[Any] | None = None,
    ) -> None:
        if not http1 or http2:
            what = "http2=True" if http2 else "http1=False"
            raise ValueError(f"{what}: HTTP/1.1 is the only version that trionet speaks; leave it out")
        self._settings = TransportSettings(
            httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env),
            limits,
            httpx.Proxy(proxy) if isinstance(proxy, (str, httpx.URL)) else proxy,
            trust_env=trust_env,
            retries=retries,
            unix_path=uds,
            local_address=local_address,
            socket_options=list(socket_options or ()),
        )
        self._home: Home | None = None
        self._abandon: weakref.finalize[Any, TrionetTransport] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """As `aclose`."""
        await self.aclose()  # noqa: ASYNC102 - it closes at once

    async def aclose(self) -> None:
        """Close every connection, at once: requests that are running are cut off, and raise `httpx.ReadError`.

        Cancellation: not a cancellation point. It waits for nothing but the producers of bodies, which are cancelled.
        """
        home = self._forget()
        if home is not None and not home.over:
            await home.aclose()

    @property
    def retries(self) -> int:
        """How often connecting is tried again."""
        return self._settings.retries

    @property
    def pool(self) -> Pool:
        """The connections.

        Raises:
            RuntimeError: there are none: nothing was requested yet, or the transport was closed.
        """
        if self._home is None or self._home.over:
            raise RuntimeError(
                "there are no connections now: a TrionetTransport has them from its first request to its close"
            )
        return self._home.pool

    async def _opened(self) -> Home:
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError("TrionetTransport needs Trio: run the program with trio.run() instead of asyncio.run()")
        home = self._home
        if home is None or home.over:
            settings = self._settings

            async def connect_so(owner: Owner, origin: Origin, trace: Trace) -> HTTPClientConnection:
                return await connect(settings, owner, origin, trace)

            self._forget()
            home = self._home = Home(connect_so, settings.idle_timeout, settings.most)
            self._abandon = weakref.finalize(self, home.abandon)
            self._abandon.atexit = False
        await home.wait_opened()
        return home

    def _forget(self) -> Home | None:
        """The present home is not this transport's any more."""
        home, self._home = self._home, None
        if self._abandon is not None:
            self._abandon.detach()
        return home

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and receive the head of its response, for HTTPX.

        Raises:
            httpx.TransportError: it did not work out; the cause is trionet's or the system's error.

        Cancellation: the connection is closed if anything of the request had been sent.
        """
        content = await content_of(request)
        exchange = HTTPXExchange(self._settings, (await self._opened()).pool, request, content)
        response = await exchange.begin()
        stream = NetworkStream(response.connection)
        return httpx.Response(
            response.status,
            headers=response.headers.raw,
            stream=BodyStream(exchange, stream),
            extensions={
                "http_version": f"HTTP/{response.http_version}".encode("ascii"),
                "reason_phrase": response.reason.encode("latin-1"),
                "network_stream": stream,
            },
        )
