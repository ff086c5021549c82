"""The functions that open something for the length of a block: a scope, one connection, or one client.

Only `open_scope` has a nursery. All others have a scope of their own without one: so what the block raises leaves as it
is, and not in a group.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Unpack

from trio.lowlevel import enable_ki_protection

from ..custody.background import open_services
from ..custody.owner import Owner
from ..support.block import block
from .holding import hold_http_client, hold_websocket, owned_nursery, owning
from .scope import Scope

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Sequence

    from yarl import URL

    from ..connection import Connection
    from ..custody.member import Observer
    from ..http.client.client import HTTPClient
    from ..http.client.options import ClientOptions
    from ..http.client.proxies.proxy import Proxy
    from ..transport.socket_options import SocketOption
    from ..websocket import WebSocket
    from ..websocket.handshake.opening import WebSocketOptions

__all__ = ["open_http_client", "open_scope", "open_single", "open_tcp", "open_unix", "open_websocket"]


@block
@enable_ki_protection
async def open_scope(
    *, name: str | None = None, drain_timeout: float = 5.0, observer: Observer | None = None
) -> AsyncIterator[Scope]:
    """Open a scope: a nursery that also owns connections.

    Leaving it: the body ends; its tasks end; then nothing can be opened any more and all handles are closed gracefully
    together, within `drain_timeout`; what is left is closed by force and listed in `Scope.report`. When the body or a
    task fails, or the scope is cancelled, the handles are closed at once. Afterwards nothing of the scope is open.

    Args:
        name: What errors and reports call the scope.
        drain_timeout: Seconds for the graceful close, at least 0; ``math.inf`` waits for ever.
        observer: Called in each step in which a handle of this scope, or of a scope inside it, is opened or changes its
            phase: with the handle, the old phase (None when it is opened) and the new phase. One that raises is logged
            and asked no more.

    Raises:
        ExceptionGroup: what the body or the tasks raised, as from a Trio nursery.

    Cancellation: closes every handle (`SCOPE_CANCELLED`).
    """
    if observer is not None and not callable(observer):
        raise TypeError(f"observer must be a function of a handle and two phases, not {observer!r}")
    async with open_services() as services:
        owner = Owner(name or "", drain_timeout=drain_timeout, services=services, observer=observer)
        async with owned_nursery(owner):
            yield Scope(owner)


@asynccontextmanager
@enable_ki_protection
async def open_single(name: str, drain_timeout: float) -> AsyncIterator[Scope]:
    """A scope without a nursery: an exception of the body leaves as it is."""
    async with open_services() as services:
        owner = Owner(name, drain_timeout=drain_timeout, services=services)
        async with owning(owner):
            yield Scope(owner)


@block
@enable_ki_protection
async def open_tcp(
    host: str | bytes,
    port: int,
    *,
    happy_eyeballs_delay: float | None = 0.25,
    local_address: str | None = None,
    proxy: str | URL | Proxy | None = None,
    socket_options: Sequence[SocketOption] = (),
    drain_timeout: float = 5.0,
) -> AsyncIterator[Connection]:
    """Connect to a TCP server for the length of a block: ``async with open_tcp(host, port) as conn``.

    The block's own exceptions leave as they are, not in a group. Arguments and errors: as `Scope.connect_tcp`.

    Cancellation: the connection is closed.
    """
    async with open_single(f"open_tcp {host!r}:{port}", drain_timeout) as scope:
        yield await scope.connect_tcp(
            host,
            port,
            happy_eyeballs_delay=happy_eyeballs_delay,
            local_address=local_address,
            proxy=proxy,
            socket_options=socket_options,
        )


@block
@enable_ki_protection
async def open_unix(
    path: str | bytes | os.PathLike[str],
    *,
    socket_options: Sequence[SocketOption] = (),
    drain_timeout: float = 5.0,
) -> AsyncIterator[Connection]:
    """Connect to a Unix socket for the length of a block: ``async with open_unix(path) as conn``.

    The block's own exceptions leave as they are, not in a group. Errors: as `Scope.connect_unix`.

    Cancellation: the connection is closed.
    """
    async with open_single(f"open_unix {path!r}", drain_timeout) as scope:
        yield await scope.connect_unix(path, socket_options=socket_options)


@block
@enable_ki_protection
async def open_http_client(
    *, drain_timeout: float = 5.0, **options: Unpack[ClientOptions]
) -> AsyncIterator[HTTPClient]:
    """Open an HTTP/1.1 client with a pool of connections: ``async with open_http_client() as client``.

    Leaving the block: requests that are running in other tasks have `drain_timeout` to end, those that wait for a
    connection are refused, then every connection is closed. When the block fails or is cancelled, all is closed at
    once. The block's own exceptions leave as they are, not in a group.

    Args:
        drain_timeout: Seconds for the graceful end, at least 0; ``math.inf`` waits for ever.
        **options: All of them may be left out.

            base_url (str): What URLs without a scheme are appended to: ``https://host/api`` and ``/users`` make
            ``https://host/api/users``. User name and password in it become Basic authorization; it has no query and no
            fragment.

            headers (pairs or a mapping): Sent with every request that has none of the same name. Credentials among
            them go to the origin of the request's URL, and to no other by a redirect.

            max_connections (int, 100): To all origins together; idle ones give way to new ones.

            max_connections_per_origin (int, 16): Requests to one origin that run at a time; the others wait.

            limits (HTTPLimits): Bounds on responses; how long connections stay idle; how much is drained.

            ssl_context (ssl.SSLContext): For https. By default one that verifies with the system's trust store. What it
            offers by ALPN is set to ``http/1.1`` for good, since a context can be neither copied nor asked for it: lend
            none that offers something else elsewhere.

            proxy (str): ``http://``, ``https://``, ``socks5://`` or ``socks5h://``, for everything.

            trust_env (bool, True): Whether ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` count, where
            there is no `proxy`.

            cookies (bool or http.cookiejar.CookieJar, False): Whether to keep cookies, and where.

            auth (tuple of str): User name and password for Basic authorization.

            event_hooks (mapping): Lists of functions, async or not: ``request`` gets an `HTTPRequest` that it may
            change, ``response`` a `Response` whose body is not read yet. Also for each redirect.

            follow_redirects (bool, True), max_redirects (int, 20), allow_downgrade (bool, False: from https to http).

            local_address (str): The IP address to connect from.

            socket_options (list of (level, option, value)): Arguments of `socket.setsockopt` for each connection.

            unix_path (str): A Unix socket to connect to, whatever a URL's host says.

    Raises:
        ValueError, TypeError: an option cannot be right.

    Cancellation: all connections are closed (`SCOPE_CANCELLED`).
    """
    async with open_services() as services:
        scope = Scope(Owner("open_http_client", drain_timeout=drain_timeout, services=services))
        async with hold_http_client(scope._owner, options) as client:
            yield client


@block
@enable_ki_protection
async def open_websocket(
    url: str | URL, *, drain_timeout: float = 5.0, **options: Unpack[WebSocketOptions]
) -> AsyncIterator[WebSocket]:
    """Open a WebSocket for the length of a block: ``async with open_websocket("wss://host.example/chat") as ws``.

    Leaving the block closes with 1000 and waits for the server's close for `drain_timeout` at most. When the block
    fails or is cancelled, the connection is closed at once. The block's own exceptions leave as they are, not in a
    group.

    Args:
        url: ``ws://`` or ``wss://``. User name and password in it become Basic authorization.
        drain_timeout: Seconds for the graceful end, at least 0; ``math.inf`` waits for ever.
        **options: All of them may be left out.

            subprotocols (sequence of str): What to offer, best first.

            extra_headers (pairs or a mapping): Additional fields of the request, such as Origin or Cookie. Credentials
            among them go to the origin of `url`, and to no other by a redirect.

            ssl_context (ssl.SSLContext): For wss. By default one that verifies with the system's trust store.

            proxy (str): ``http://``, ``https://``, ``socks5://`` or ``socks5h://``. An HTTP proxy is asked for a
            tunnel (CONNECT), also for ws.

            trust_env (bool, True): Whether ``HTTP_PROXY`` (for ws), ``HTTPS_PROXY`` (for wss), ``ALL_PROXY`` and
            ``NO_PROXY`` count, where there is no `proxy`.

            compression (PerMessageDeflate): What to offer for the compression of messages. None by default.

            max_message_size (int, 1 MiB): Bytes of a received message at most, after decompression; a longer one closes
            with 1009. None for no limit.

            ping_interval (float), ping_timeout (float): Seconds between two pings that are sent by themselves, and
            seconds within which one has to be answered, else the WebSocket is aborted. Neither by default.

            handshake_timeout (float, 30.0): Seconds, more than 0, for everything until the WebSocket is open: looking
            up, connecting, proxy, TLS, handshake, redirects; ``math.inf`` for no limit.

            follow_redirects (bool, True), max_redirects (int, 20), allow_downgrade (bool, False: from wss to ws).

            local_address (str): The IP address to connect from.

            socket_options (list of (level, option, value)): Arguments of `socket.setsockopt` for each connection.

            unix_path (str): A Unix socket to connect to, whatever the URL's host says.

    Raises (on entering):
        OSError: the server, or the proxy, could not be reached; nothing was sent.
        UpgradeRefusedError: the server, or the proxy, answered otherwise: `response` has status, headers and body.
        UpgradeFailedError: TLS, the proxy or the handshake did not work out, or not in time. Where that was a refusal
            that ends the connection, the `UpgradeRefusedError` is the ``__cause__``.
        TooManyRedirectsError, RemoteProtocolError: a redirect could not be followed.
        LocalProtocolError: a redirect leads from wss to ws.
        ValueError, TypeError: an argument cannot be right; nothing was looked up.

    Cancellation: the connection is closed (`SCOPE_CANCELLED`).

    Source: RFC 6455 §3, §4.1; RFC 9110 §15.4.
    """
    async with open_services() as services:
        scope = Scope(Owner("open_websocket", drain_timeout=drain_timeout, services=services))
        async with hold_websocket(scope._owner, url, options) as websocket:
            yield websocket
