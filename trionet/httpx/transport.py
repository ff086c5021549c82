"""The transport itself: what HTTPX calls, and what it is made with."""

from __future__ import annotations

import math
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
from yarl import URL

from ..http.limits import HTTPLimits
from ..http.proxy import Proxies, Proxy
from ..http.url import DEFAULT_PORTS
from ..opening import open_http_client
from .body import content_of
from .exchange import Exchange

if TYPE_CHECKING:
    import os
    import ssl
    from types import TracebackType

    from ..http.client import HTTPClient
    from ..http.client_connection import HTTPClientConnection
    from ..http.pool import Pool

__all__ = ["TrionetTransport"]

_DEFAULT_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)


class TrionetTransport(httpx.AsyncBaseTransport):
    """What `httpx.AsyncClient` sends requests through. Enter the client (or the transport) with ``async with``.

    Args:
        verify: As for `httpx.AsyncHTTPTransport`: an `ssl.SSLContext`, or whether to verify certificates.
        cert: A client's certificate.
        trust_env: Whether the environment counts: ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, and, where there is no
            `proxy`, the proxies that it names. HTTPX itself looks for proxies only where it makes the transports.
        http1: Must be true: HTTP/1.1 is what is spoken.
        limits: Of the pool: connections, those that are kept idle, and for how many seconds.
        proxy: ``http://``, ``https://``, ``socks5://`` or ``socks5h://``.
        uds: A Unix socket to connect to, whatever a URL's host says.
        local_address: The IP address to connect from.
        retries: How often connecting is tried again, after 0, 0.5, 1, 2 … seconds.

    Raises:
        ValueError, TypeError: an argument cannot be right.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | str | bool = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        limits: httpx.Limits = _DEFAULT_LIMITS,
        proxy: str | httpx.URL | httpx.Proxy | None = None,
        uds: str | os.PathLike[str] | None = None,
        local_address: str | None = None,
        retries: int = 0,
    ) -> None:
        if not http1:
            raise ValueError("http1=False: HTTP/1.1 is the only version that trionet speaks")
        if retries < 0:
            raise ValueError(f"retries must be at least 0, not {retries!r}")
        self.retries = retries
        """How often connecting is tried again."""
        through = None if proxy is None else _as_proxy(proxy)
        self._proxies = Proxies.choose(through, trust_env=trust_env and uds is None)
        most = sys.maxsize if limits.max_connections is None else limits.max_connections
        kept = limits.max_keepalive_connections
        self.max_idle = most if kept is None else kept
        """Connections that are kept without a request."""
        idle = math.inf if limits.keepalive_expiry is None else limits.keepalive_expiry
        self._options: dict[str, Any] = {
            "max_connections": most,
            "max_connections_per_origin": most,
            "limits": HTTPLimits(idle_timeout=idle),
            "ssl_context": httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env),
            "proxy": through,
            "trust_env": trust_env,
            "local_address": local_address,
            "unix_path": uds,
        }
        self._stack: AsyncExitStack | None = None
        self._client: HTTPClient | None = None

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise RuntimeError("a TrionetTransport is entered once; make one for each client")
        stack = self._stack = AsyncExitStack()
        self._client = await stack.enter_async_context(open_http_client(**self._options))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Close every connection. Requests that are running are cut off."""
        if self._stack is not None:
            await self._stack.__aexit__(exc_type, exc_value, traceback)  # noqa: ASYNC102 - it closes within bounds

    async def aclose(self) -> None:
        """Refuse new requests, wait within bounds for those that are running, then close every connection.

        Cancellation: the connections are closed at once.
        """
        if self._client is not None:
            await self._client.aclose()

    @property
    def pool(self) -> Pool:
        """The connections."""
        if self._client is None:
            raise RuntimeError(
                "a TrionetTransport is open from entering it to leaving it: async with httpx.AsyncClient(transport=...)"
            )
        return self._client.pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and receive the head of its response, for HTTPX.

        Raises:
            httpx.TransportError: it did not work out; the cause is trionet's or the system's error.

        Cancellation: the connection is closed if anything of the request had been sent.
        """
        content, body = await content_of(request)
        exchange = Exchange(self, request, content, body)
        await exchange.begin()
        response = exchange.response
        assert response is not None
        return httpx.Response(
            response.status,
            headers=response.headers.raw,
            stream=_ResponseStream(exchange),
            extensions={
                "http_version": f"HTTP/{response.http_version}".encode("ascii"),
                "reason_phrase": response.reason.encode("latin-1"),
                "network_stream": _NetworkStream(response.connection),
            },
        )

    def line_of(self, request: httpx.Request, target: str) -> tuple[str, str | None]:
        """What stands in the request line, and the value of Proxy-Authorization."""
        if request.url.scheme != "http":
            return target, None
        proxy = self._proxies.for_url(URL(str(request.url)))
        if proxy is None or proxy.scheme not in DEFAULT_PORTS:
            return target, None
        return f"http://{request.url.netloc.decode('ascii')}{target}", proxy.authorization


def _as_proxy(proxy: str | httpx.URL | httpx.Proxy) -> Proxy:
    given = proxy if isinstance(proxy, httpx.Proxy) else httpx.Proxy(proxy)
    if given.headers or given.ssl_context is not None:
        raise ValueError("a proxy with headers or an ssl_context of its own is not supported")
    parsed = Proxy.parse(str(given.url))
    if given.auth is None:
        return parsed
    return Proxy(parsed.scheme, parsed.host, parsed.port, *given.auth)


class _ResponseStream(httpx.AsyncByteStream):
    """The body of a response, for HTTPX."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._exchange.next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._exchange.end()


class _NetworkStream:
    """What HTTPX calls the network stream, as far as it tells about the connection."""

    def __init__(self, connection: HTTPClientConnection) -> None:
        self._connection = connection

    def get_extra_info(self, info: str) -> Any:
        """The addresses: ``client_addr`` and ``server_addr``; None for everything else."""
        if info == "client_addr":
            return self._connection.local_address
        return self._connection.remote_address if info == "server_addr" else None
