"""The ways to serve an ASGI application: on a port of its own, or as a part of another server."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

import trio

from ..custody.background import open_services
from ..http.protocol.limits import HTTPLimits
from ..server.follower import followed
from ..server.serve import serve_tcp
from ..support.block import block
from ..support.checks import check_kind
from .connection import connection_handler, websocket_handler
from .http_access import keep_scope
from .lifespan import open_lifespan
from .options import AppOptions
from .request import run_request
from .scope import ConnectionScope
from .served import ServedApplication

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from typing import Unpack

    from ..http import Exchange
    from ..server.limits import Limits
    from ..server.server import Server
    from ..tls.server_contexts import ServerContexts
    from ..transport.socket_options import SocketOption
    from .call import Call
    from .options import ASGIOptions
    from .types import Application

_LOG = logging.getLogger("trionet.asgi")

__all__ = ["DEFAULT_HTTP_LIMITS", "open_application", "open_asgi", "serve_asgi"]

DEFAULT_HTTP_LIMITS = HTTPLimits(eof_is_gone=True, any_method=True)
"""An application is told of a client that has gone, and never cancelled; and it judges methods itself."""


async def serve_asgi(
    app: Application,
    port: int,
    *,
    host: str | bytes | None = None,
    ssl_context: ServerContexts | None = None,
    proxy_protocol: Iterable[str] | None = None,
    backlog: int | None = None,
    socket_options: Sequence[SocketOption] = (),
    limits: Limits | None = None,
    http_limits: HTTPLimits = DEFAULT_HTTP_LIMITS,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[ASGIOptions],
) -> None:
    """Serve an ASGI application on a TCP port, until cancelled or until `Server.drain` is through.

    The application's lifespan begins before the server listens, and ends behind its drain. Each request is a call of
    the application in the task of its connection, with context variables of its own. A client that goes does not cancel
    it: it is told.

    Args:
        app: An ASGI 3 application, ``async def app(scope, receive, send)``, that runs on Trio.
        port: 0 to 65,535; 0 lets the system choose, see `Server.port`.
        host: Name or address to listen on; every address of this machine by default.
        ssl_context: If given, HTTPS and wss.
        proxy_protocol: As for `serve`.
        backlog: Connections that may wait to be accepted; the system's maximum by default.
        socket_options: As for `serve_tcp`.
        limits: Bounds of the server.
        http_limits: Bounds of each connection.
        observer: As for `open_scope`.
        task_status: Reports the `Server`.
        lifespan: ``"auto"`` (an application that knows no lifespan has none), ``"on"`` (it must have one) or ``"off"``.
        root_path: The path below which a proxy serves the application, such as ``/api``. It is put in front of a
            request's path unless that has it already.
        forwarded_allow_ips: Proxies that are believed about their clients: addresses, networks, ``*`` for everybody,
            ``unix:`` for those on Unix sockets. 127.0.0.1 and ::1 by default.
        forwarded_headers: The fields in which they say so, X-Forwarded-For and X-Forwarded-Proto by default; none for
            no such thing. X-Forwarded-Host and X-Forwarded-Port only where your proxy sets or removes them; Forwarded
            only alone.
        headers: Fields for each response, unless the application gives one of that name.
        server_header: Whether ``Server: trionet`` is one of them.
        date_header: Whether each response has a Date (RFC 9110 §6.6.1 asks for it).
        limit_concurrency: Requests and WebSockets under way at most; more are answered with 503.
        limit_max_requests: After so many requests the server drains.
        ws_max_size: Bytes of a WebSocket message at most, 1 MiB by default; None for no limit.
        ws_ping_interval: Seconds between two pings on a WebSocket; None for none.
        ws_ping_timeout: Seconds after which a WebSocket whose client shows no sign of life is ended; None for no limit.
        ws_per_message_deflate: Whether messages are compressed where the client offers that.
        ws_drain_code: The code with which a drain closes WebSockets: 1001 (going away), or 1012 (service restart, in
            IANA's registry), which tells clients to come again.
        ws_origins: Which web pages may open a WebSocket, as for `to_websocket_server`; by default all may.
        access_log_query: Whether the access log (logger ``trionet.access``) has the queries of targets.

    Raises:
        LifespanError: the application could not start, or its shutdown failed.
        ValueError, TypeError, OSError, BaseExceptionGroup: as for `serve_tcp`.

    Cancellation: applications are cancelled, and the lifespan has 5 seconds to shut down. For a graceful end call
    `Server.drain` first, or run the program with `trionet.run`.

    Source: ASGI 3.0; HTTP and WebSocket message format 2.3 and 2.4, lifespan 2.0.
    """
    checked = AppOptions(**options)
    check_kind("http_limits", http_limits, HTTPLimits, "a trionet.HTTPLimits")
    async with open_application(app, checked) as served:
        await drained_when_exhausted(
            served,
            lambda status: serve_tcp(
                connection_handler(served, http_limits),
                port,
                host=host,
                ssl_context=ssl_context,
                proxy_protocol=proxy_protocol,
                backlog=backlog,
                socket_options=socket_options,
                limits=limits,
                observer=observer,
                task_status=status,
            ),
            task_status,
        )


async def drained_when_exhausted(
    served: ServedApplication,
    serving: Callable[[Any], Awaitable[None]],
    task_status: trio.TaskStatus[Server],
    patience: float = 30.0,
) -> None:
    """Run a server until it ends, or has answered as many requests as it may: then it drains, for so many seconds."""
    exhausted = trio.Event()

    class Status:
        """Hands on what the server reports, and keeps it."""

        server: Server

        def started(self, server: Server) -> None:
            self.server = server
            task_status.started(server)

    async def wait() -> None:
        await exhausted.wait()
        _LOG.info("ending: %d requests were answered", served.options.limit_max_requests)
        with trio.CancelScope(shield=True):
            await status.server.drain(patience)

    status = Status()
    if served.options.limit_max_requests is None:
        await serving(task_status)
        return
    served.on_exhausted = exhausted.set
    async with open_services() as services:
        services.start_soon(wait)
        await serving(status)


@block
async def open_application(app: Application, options: AppOptions) -> AsyncIterator[ServedApplication]:
    """Start an application, and shut it down when the block ends."""
    check_application(app)
    async with open_lifespan(app, options.lifespan) as state:
        yield ServedApplication(app, options, state)


@block
async def open_asgi(
    app: Application, **options: Unpack[ASGIOptions]
) -> AsyncIterator[Callable[[Exchange], Awaitable[None]]]:
    """Start an ASGI application, for a server of your own: ``async with open_asgi(app) as handler``.

    The handler takes an `Exchange`, also one that asks for a WebSocket: pass it to `serve_http`, or call it in a
    dispatcher, which can serve raw TCP on the same port. The application's lifespan is that of the block.

    Args:
        app: As for `serve_asgi`.
        **options: The options of `serve_asgi` behind `task_status`.

    Raises:
        LifespanError: the application could not start, or its shutdown failed.
        ValueError, TypeError: an argument cannot be right.

    Cancellation: the lifespan has 5 seconds to shut down.

    What an application does behind its response holds up the next request on the same connection here, which
    `serve_asgi` prevents.
    """
    async with open_application(app, AppOptions(**options)) as served:
        yield _exchange_handler(served)


def _exchange_handler(served: ServedApplication) -> Callable[[Exchange], Awaitable[None]]:
    async def handle(exchange: Exchange) -> None:
        connection = exchange.connection
        exchange.eof_is_gone = True
        before = keep_scope(connection, True)
        try:
            scope = ConnectionScope(connection, served.options, served.state)
            run = websocket_handler() if exchange.wants_websocket else run_request
            await run(served, scope, exchange, followed(connection), _stay)
        finally:
            keep_scope(connection, before)

    handle.__qualname__ = getattr(served.app, "__qualname__", type(served.app).__name__)
    return handle


def _stay(_call: Call) -> None:
    """The loop over the connection belongs to somebody else, who waits."""


def check_application(app: Any) -> None:
    """Raise unless this can be an ASGI 3 application.

    Raises:
        TypeError: it is not callable; or it takes something other than scope, receive and send.
    """
    if not callable(app):
        raise TypeError(f"app must be an ASGI application, async def app(scope, receive, send), not {app!r}")
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return  # not every callable tells
    try:
        signature.bind({}, None, None)
    except TypeError:
        remedy = ""
        if _binds(signature, 2):
            remedy = "; one that takes environ and start_response is a WSGI application, which needs an adapter"
        elif _binds(signature, 0):
            remedy = "; if this makes the application, call it (on the command line: --factory)"
        elif _binds(signature, 1):
            remedy = "; if this is an ASGI 2 application, asgiref's guarantee_single_callable adapts it"
        raise TypeError(
            f"app must be an ASGI application, async def app(scope, receive, send): {app!r} takes {signature}{remedy}"
        ) from None


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
