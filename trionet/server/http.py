"""Serving HTTP: a handler for exchanges in place of one for connections.

What a handler raises ends its exchange and nothing else: the client gets a 500, or sees that its answer is cut off.
"""

from __future__ import annotations

import functools
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import outcome
import trio

from ..errors import HandleBrokenError, HandleClosedError, RemoteProtocolError
from ..http.limits import DEFAULT_LIMITS, HTTPLimits
from ..http.server import to_http_server
from ..ownership import Reason
from .serve import check_handler, serve_tcp

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from ..connection import Connection
    from ..http.exchange import Exchange
    from ..http.server import HTTPServerConnection
    from .limits import Limits
    from .server import Server

    Handler = Callable[[Exchange], Awaitable[object]]
    ErrorHook = Callable[[Exchange, outcome.Error], object]

__all__ = ["http_handler", "serve_http"]

_LOG = logging.getLogger("trionet.server")
_ACCESS = logging.getLogger("trionet.access")
_TEXT = [("Content-Type", "text/plain; charset=utf-8")]


async def serve_http(
    handler: Handler,
    port: int,
    *,
    host: str | bytes | None = None,
    ssl_context: ssl.SSLContext | None = None,
    backlog: int | None = None,
    limits: Limits | None = None,
    http_limits: HTTPLimits = DEFAULT_LIMITS,
    on_error: ErrorHook | None = None,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 on a TCP port, until cancelled or until `Server.drain` is through.

    For a Unix socket, or listeners that exist already: ``serve_unix(http_handler(handler), path)``.

    Args:
        handler: Called with each `Exchange`, in the task and scope of its connection (``exchange.connection.scope``).
            One that does not answer gives a 500. One that raises gives a 500 too or, where the answer has begun, one
            that is visibly cut off; the error goes to `on_error`.
        port: 0 to 65,535; 0 lets the system choose, see `Server.port`.
        host: Name or address to listen on; every address of this machine by default.
        ssl_context: If given, HTTPS.
        backlog: Connections that may wait to be accepted; the system's maximum by default.
        limits: Bounds of the server.
        http_limits: Bounds of each connection.
        on_error: Called with the exchange and an `outcome.Error`, in the handler's task, when a handler has raised. By
            default the error is logged (logger ``trionet.server``).
        observer: As for `open_scope`.
        task_status: Reports the `Server`.

    Each exchange is logged to the logger ``trionet.access`` with the level INFO, if that is enabled when its connection
    begins.

    Raises:
        ValueError, TypeError, OSError, BaseExceptionGroup: as for `serve_tcp`.

    Cancellation: as for `serve`.
    """
    serving = http_handler(handler, limits=http_limits, on_error=on_error)
    await serve_tcp(
        serving,
        port,
        host=host,
        ssl_context=ssl_context,
        backlog=backlog,
        limits=limits,
        observer=observer,
        task_status=task_status,
    )


def http_handler(
    handler: Handler, *, limits: HTTPLimits = DEFAULT_LIMITS, on_error: ErrorHook | None = None
) -> Callable[[Connection], Awaitable[None]]:
    """A handler of connections, for `serve`, `serve_tcp` or `serve_unix`, that speaks HTTP and calls this `handler`.

    Arguments: as for `serve_http`.

    Raises:
        TypeError: `handler` is no async function, or `limits` is no `HTTPLimits`.
    """
    check_handler(handler)
    if on_error is not None and not callable(on_error):
        raise TypeError(f"on_error must be a function of the exchange and the error, not {on_error!r}")
    to_http_server(limits=limits)  # checks them

    @functools.wraps(handler, updated=())
    async def serve_connection(connection: Connection) -> None:
        http = await connection.upgrade(to_http_server(limits=limits))
        del connection  # nobody needs the old handle any more
        with_access_log = _ACCESS.isEnabledFor(logging.INFO)
        try:
            async for exchange in http:
                began = trio.current_time() if with_access_log else 0.0
                try:
                    await handler(exchange)
                    if not exchange.status:
                        await _answer(exchange, 500)
                except Exception as exc:  # noqa: BLE001 - a handler's failure ends its own exchange only
                    await _failed(exchange, exc, on_error)
                finally:
                    if with_access_log:
                        _log_access(http, exchange, trio.current_time() - began)
                del exchange  # a connection that waits for its next request keeps nothing of the last one
        except RemoteProtocolError as exc:
            _LOG.info("%s broke the protocol: %s", http.remote_address, exc)
        except (HandleBrokenError, HandleClosedError) as exc:
            _LOG.info("%s: the connection has ended: %s", http.remote_address, exc)

    return serve_connection


async def _failed(exchange: Exchange, exc: Exception, on_error: ErrorHook | None) -> None:
    """Tell the program what its handler has raised, and the client that it gets no answer, or no more of it."""
    _tell_successor(exchange.connection)
    blame = _blame(exchange, exc)
    if blame is None:
        _tell(exchange, exc, on_error)
    else:
        _LOG.info("%r was not answered: %s", exchange, blame)
    if not exchange.status:  # else the loop cuts off the answer that was begun
        await _answer(exchange, exc.status_hint if isinstance(exc, RemoteProtocolError) and blame is not None else 500)


def _tell_successor(connection: Any) -> None:
    """What the handler has upgraded the connection to learns that it has raised: a WebSocket closes with 1011."""
    handle = connection
    while handle.end is not None and handle.end.reason is Reason.UPGRADED:
        handle = handle.end.successor
    if handle is not connection:
        handle.handler_failed()


async def _answer(exchange: Exchange, status: int) -> None:
    """Answer for a handler that did not, if anybody is there to be told."""
    connection = exchange.connection
    if connection.exchange is exchange and not connection.phase.terminal:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await exchange.respond(status, f"{status} {HTTPStatus(status).phrase}\n".encode(), headers=_TEXT)


def _blame(exchange: Exchange, exc: Exception) -> Exception | None:
    """The error if it is the client's fault, or comes of the end of the connection: no failure of the handler's."""
    connection = exchange.connection
    if isinstance(exc, HandleClosedError) and connection.phase.terminal:
        return exc
    if isinstance(exc, trio.BrokenResourceError) and (connection.peer_failed or connection.phase.terminal):
        return exc
    return None


def _tell(exchange: Exchange, exc: Exception, on_error: ErrorHook | None) -> None:
    if on_error is None:
        _LOG.error("the handler of %r failed: %s", exchange, exc, exc_info=exc)
        return
    try:
        on_error(exchange, outcome.Error(exc))
    except Exception:  # noqa: BLE001 - a hook that fails must not end the connection
        _LOG.exception("on_error raised for %r", exchange)


def _log_access(http: HTTPServerConnection, exchange: Exchange, seconds: float) -> None:
    head = exchange.head
    remote = http.remote_address
    client = remote[0] if isinstance(remote, tuple) else remote or "-"
    _ACCESS.info(
        '%s "%s %s HTTP/%s" %d %.6f', client, head.method, head.target, head.http_version, exchange.status, seconds
    )
