"""Serving HTTP: a handler for exchanges in place of one for connections.

What a handler raises ends its exchange and nothing else: `exchange_faults` says what becomes of that. This module has
the loop over a connection's exchanges, in one function: it runs with each request, and a call less is a call less.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

import trio

from ..errors import HandleBrokenError, HandleClosedError, RemoteProtocolError
from ..http.protocol.limits import DEFAULT_LIMITS, HTTPLimits
from ..http.server.connection import HTTPServerConnection
from ..http.server.recipe import to_http_server
from ..support.texts import shown_address
from .arguments import check_handler
from .exchange_faults import ExchangeFaults
from .first_handle import FirstHandle
from .follower import followed
from .serve import serve_tcp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from ..connection import Connection
    from ..handle.detached import Detached
    from ..http.server.compression import Compression
    from ..http.server.exchange import Exchange
    from ..tls.server_contexts import ServerContexts
    from ..transport.socket_options import SocketOption
    from .exchange_faults import ErrorHook
    from .limits import Limits
    from .server import Server

    Handler = Callable[[Exchange], Awaitable[object]]
    ExchangeLoop = Callable[[HTTPServerConnection], Coroutine[Any, Any, None]]

__all__ = ["http_handler", "serve_http"]

_ACCESS = logging.getLogger("trionet.access")


async def serve_http(
    handler: Handler,
    port: int,
    *,
    host: str | bytes | None = None,
    ssl_context: ServerContexts | None = None,
    proxy_protocol: Iterable[str] | None = None,
    backlog: int | None = None,
    socket_options: Sequence[SocketOption] = (),
    limits: Limits | None = None,
    http_limits: HTTPLimits = DEFAULT_LIMITS,
    compression: Compression | None = None,
    on_error: ErrorHook | None = None,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 on a TCP port, until cancelled or until `Server.drain` is through.

    For a Unix socket, or listeners that exist already: ``serve_unix(http_handler(handler), path)``.

    Args:
        handler: Called with each `Exchange`, in the task and scope of its connection (``exchange.connection.scope``).
            One that does not respond gives a 500. One that raises gives a 500 too or, where the response has begun, one
            that is visibly truncated. Either is an error, and goes to `on_error`. What the client has done wrong is
            not: it gets the status for that (413 for a body over ``read(max_bytes)``), and is logged as INFO.
        port: 0 to 65,535; 0 lets the system choose, see `Server.port`.
        host: Name or address to listen on; every address of this machine by default.
        ssl_context: If given, HTTPS.
        proxy_protocol: As for `serve`.
        backlog: Connections that may wait to be accepted; the system's maximum by default.
        socket_options: As for `serve_tcp`.
        limits: Bounds of the server.
        http_limits: Bounds of each connection.
        compression: Whether responses are compressed for clients that ask for it, and which; None for none.
        on_error: Called with the exchange and an `outcome.Error`, in the handler's task, when a handler has failed. By
            default the error is logged (logger ``trionet.server``).
        observer: As for `open_scope`.
        task_status: Reports the `Server`.

    Each exchange is logged to the logger ``trionet.access`` with the level INFO, if that is enabled when its connection
    begins. For formatters of your own the record's ``access`` is a dict of client (its address), method, target,
    http_version, status and seconds.

    Raises:
        ValueError, TypeError, OSError, BaseExceptionGroup: as for `serve_tcp`.

    Cancellation: as for `serve`.
    """
    serving = http_handler(handler, limits=http_limits, compression=compression, on_error=on_error)
    await serve_tcp(
        serving,
        port,
        host=host,
        ssl_context=ssl_context,
        proxy_protocol=proxy_protocol,
        backlog=backlog,
        socket_options=socket_options,
        limits=limits,
        observer=observer,
        task_status=task_status,
    )


def http_handler(
    handler: Handler,
    *,
    limits: HTTPLimits = DEFAULT_LIMITS,
    compression: Compression | None = None,
    on_error: ErrorHook | None = None,
) -> Callable[[Connection], Awaitable[None]]:
    """A handler of connections, for `serve`, `serve_tcp` or `serve_unix`, that speaks HTTP and calls this `handler`.

    Arguments: as for `serve_http`.

    Raises:
        TypeError: `handler` is not an async function, `limits` is not an `HTTPLimits`, or `compression` not a
            `Compression`.
    """
    check_handler(handler)
    if on_error is not None and not callable(on_error):
        raise TypeError(f"on_error must be a function of the exchange and the error, not {on_error!r}")
    to_http_server(limits=limits, compression=compression)  # checks them
    serve_connection = functools.wraps(handler, updated=())(
        _connection_handler(_exchange_loop(handler, on_error), limits, compression)
    )
    serve_connection.scheme = "http"  # type: ignore[attr-defined]  # so that `run` can say where it listens
    return serve_connection


def _connection_handler(
    serve_exchanges: ExchangeLoop, limits: HTTPLimits, compression: Compression | None
) -> Callable[[Connection], Coroutine[Any, Any, None]]:
    """What is done with a `Connection`; and, without one, with a connection that is HTTP from the start."""

    async def serve_connection(connection: Connection) -> None:
        http = await connection.upgrade(to_http_server(limits=limits, compression=compression))
        del connection  # nobody needs the old handle any more
        await serve_exchanges(http)

    def first_handle(capsule: Detached) -> HTTPServerConnection:
        return HTTPServerConnection(capsule, limits, compression)

    FirstHandle(first_handle, serve_exchanges).belong_to(serve_connection)
    return serve_connection


def _exchange_loop(handler: Handler, on_error: ErrorHook | None) -> ExchangeLoop:
    """The loop over a connection's exchanges, each of which `handler` is called with."""
    name = getattr(handler, "__qualname__", repr(handler))
    make_tally = getattr(handler, "_make_tally", None)  # `trionet.metrics` has put it there

    async def serve_exchanges(http: HTTPServerConnection) -> None:
        faults = ExchangeFaults(name, followed(http), on_error)
        with_access_log = _ACCESS.isEnabledFor(logging.INFO)
        tally = None if make_tally is None else make_tally(http)
        timed = with_access_log or tally is not None
        judged = False
        try:
            async for exchange in http:
                judged = False
                began = trio.current_time() if timed else 0.0
                try:
                    result = await handler(exchange)
                    if not exchange.status or http._cycle.exchange is exchange:
                        await faults.returned(exchange, result)
                except Exception as exc:  # noqa: BLE001 - a handler's failure ends its own exchange only
                    judged = await faults.raised(exchange, exc)
                except BaseExceptionGroup as group:
                    await faults.failed_partly(exchange, group)
                except trio.Cancelled:
                    faults.cancelled(exchange)
                    raise
                finally:
                    if with_access_log:
                        _log_access(http, exchange, trio.current_time() - began)
                    if tally is not None:
                        tally.ended(exchange, trio.current_time() - began)
                del exchange  # a connection that waits for its next request keeps nothing of the last one
            faults.loop_ended(http)
        except (HandleBrokenError, HandleClosedError, RemoteProtocolError) as exc:
            if not judged:  # else the loop ends with what the handler has met already
                faults.loop_failed(http, exc)
        finally:
            if tally is not None:
                tally.left()

    return serve_exchanges


def _log_access(http: HTTPServerConnection, exchange: Exchange, seconds: float) -> None:
    head = exchange._head
    remote = http.remote_address
    client = remote[0] if isinstance(remote, tuple) else shown_address(remote) if remote else "-"
    parts = {
        "client": remote,
        "method": head.method,
        "target": head.target,
        "http_version": head.http_version,
        "status": exchange.status,
        "seconds": seconds,
    }
    _ACCESS.info(
        '%s "%s %s HTTP/%s" %d %.6f',
        client,
        head.method,
        head.target,
        head.http_version,
        exchange.status,
        seconds,
        extra={"access": parts},
    )
