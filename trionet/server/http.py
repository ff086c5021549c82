"""Serving HTTP: a handler for exchanges in place of one for connections.

What a handler raises ends its exchange and nothing else: the client gets a 500, or sees that its answer is cut off.
"""

from __future__ import annotations

import functools
import inspect
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import outcome
import trio

from ..errors import (
    HandleBrokenError,
    HandleClosedError,
    LocalProtocolError,
    RemoteProtocolError,
    TrionetError,
)
from ..http.protocol.limits import DEFAULT_LIMITS, HTTPLimits
from ..http.server.connection import to_http_server
from ..http.server.error_response import PLAIN_TEXT, answer_status, error_text
from ..ownership import Reason
from ..support.texts import printable, shown_address
from .arguments import check_handler
from .fault import Fault, Verdict, fault_of_end, judge, said
from .follower import REMEDY, STREAM_REMEDY, followed
from .serve import serve_tcp

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from ..connection import Connection
    from ..http.server.connection import HTTPServerConnection
    from ..http.server.exchange import Exchange
    from ..transport.socket_options import SocketOption
    from .follower import Follower
    from .limits import Limits
    from .server import Server

    Handler = Callable[[Exchange], Awaitable[object]]
    ErrorHook = Callable[[Exchange, outcome.Error], object]

__all__ = ["http_handler", "serve_http"]

_LOG = logging.getLogger("trionet.server")
_ACCESS = logging.getLogger("trionet.access")


async def serve_http(
    handler: Handler,
    port: int,
    *,
    host: str | bytes | None = None,
    ssl_context: ssl.SSLContext | None = None,
    backlog: int | None = None,
    socket_options: Sequence[SocketOption] = (),
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
            that is visibly cut off. Either is an error, and goes to `on_error`. What the client has done wrong is not:
            it is answered with the status for that (413 for a body over ``read(max_bytes)``), and logged as INFO.
        port: 0 to 65,535; 0 lets the system choose, see `Server.port`.
        host: Name or address to listen on; every address of this machine by default.
        ssl_context: If given, HTTPS.
        backlog: Connections that may wait to be accepted; the system's maximum by default.
        socket_options: As for `serve_tcp`.
        limits: Bounds of the server.
        http_limits: Bounds of each connection.
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
    serving = http_handler(handler, limits=http_limits, on_error=on_error)
    await serve_tcp(
        serving,
        port,
        host=host,
        ssl_context=ssl_context,
        backlog=backlog,
        socket_options=socket_options,
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
    name = getattr(handler, "__qualname__", repr(handler))

    @functools.wraps(handler, updated=())
    async def serve_connection(connection: Connection) -> None:
        follower = followed(connection)
        http = await connection.upgrade(to_http_server(limits=limits))
        del connection  # nobody needs the old handle any more
        with_access_log = _ACCESS.isEnabledFor(logging.INFO)
        judged = False
        try:
            async for exchange in http:
                judged = False
                began = trio.current_time() if with_access_log else 0.0
                try:
                    result = await handler(exchange)
                    if not exchange.status:
                        await _left_without_answer(exchange, name, result, follower, on_error)
                    elif http._cycle.exchange is exchange and http._ending.is_unfinished(exchange):
                        _left_unfinished(exchange, name, follower, on_error)
                except Exception as exc:  # noqa: BLE001 - a handler's failure ends its own exchange only
                    judged = True
                    await _failed(exchange, _explained(exc, name), follower, on_error)
                except BaseExceptionGroup as group:
                    failures, others = group.split(Exception)
                    if failures is not None:
                        await _failed(exchange, failures, follower, on_error)  # noqa: ASYNC120 - it outranks them
                    assert others is not None  # else it were an Exception
                    raise others from None
                except trio.Cancelled:
                    _cut_short(exchange, follower)
                    raise
                finally:
                    if with_access_log:
                        _log_access(http, exchange, trio.current_time() - began)
                del exchange  # a connection that waits for its next request keeps nothing of the last one
            _report_late_head(http, follower)
        except (HandleBrokenError, HandleClosedError, RemoteProtocolError) as exc:
            if not judged:  # else the loop ends with what the handler has met already
                _report_end(http, exc, follower)

    serve_connection.scheme = "http"  # type: ignore[attr-defined]  # so that `run` can say where it listens
    return serve_connection


def _explained(exc: Exception, name: str) -> Exception:
    """The same; or, where calling the handler did not come as far as its first line, why not."""
    traceback = exc.__traceback__
    if isinstance(exc, TypeError) and traceback is not None and traceback.tb_next is None:
        error = TypeError(f"the handler must be an async function of one exchange, which {name} is not: {exc}")
        return error.with_traceback(traceback)
    return exc


async def _failed(exchange: Exchange, exc: Exception, follower: Follower, on_error: ErrorHook | None) -> None:
    """Tell the program what its handler has raised, and the client that it gets no answer, or no more of it."""
    verdict = follower.judge(exc)
    if verdict.fault is Fault.PROGRAM:
        _tell_successor(exchange.connection, exc)
        _tell(exchange, verdict.error, on_error)
        status = 500
    else:
        follower.say(verdict, _named(exchange))
        status = answer_status(verdict.error)
    if not exchange.status:  # else the loop cuts off the answer that was begun
        await _answer(exchange, status)


async def _left_without_answer(
    exchange: Exchange, name: str, result: object, follower: Follower, on_error: ErrorHook | None
) -> None:
    """The handler has returned, and nobody has answered: that is its mistake, unless there is nobody to be answered."""
    connection = exchange.connection
    if connection._cycle.peer_failed:
        await _answer(exchange, 400)
    elif connection._lookouts.was_told(exchange):
        await _answer(exchange, 500)  # it may have half-closed, and read on
    elif connection._cycle.exchange is exchange and not connection.phase.terminal:
        hint = "; is there an await missing?" if inspect.isawaitable(result) else ""
        follower.count(Fault.PROGRAM)
        _tell(
            exchange,
            LocalProtocolError(
                f"{name} returned {printable(repr(result)[:64])} and has not answered {exchange!r}{hint}: {REMEDY}"
            ),
            on_error,
        )
        await _answer(exchange, 500)


def _left_unfinished(exchange: Exchange, name: str, follower: Follower, on_error: ErrorHook | None) -> None:
    """The handler has returned, and a stream that it has begun goes on no more: that is its mistake. Cut it off."""
    follower.count(Fault.PROGRAM)
    _tell(exchange, LocalProtocolError(f"{name} has left {exchange!r} unfinished: {STREAM_REMEDY}"), on_error)
    exchange.connection._cycle.truncate(exchange)


def _cut_short(exchange: Exchange, follower: Follower) -> None:
    """The handler was cancelled: say so if that is because its client has gone."""
    if (fault := fault_of_end(exchange.connection)) is not None:
        follower.count(fault)
        follower.say(Verdict(fault, TrionetError("nobody waits for the answer any more")), _named(exchange))


def _report_end(http: HTTPServerConnection, exc: Exception, follower: Follower) -> None:
    """The loop has ended with an error: the client's, or else that of a connection which the handler has aborted."""
    verdict = judge(exc, follower, draining=follower.draining)
    if verdict.fault.peers:
        follower.count(verdict.fault)
        follower.say(verdict, _client_of(http))


def _report_late_head(http: HTTPServerConnection, follower: Follower) -> None:
    """The loop has ended: quietly, also if its client did not come to the end of a request, and got a 408."""
    end = http.end
    if end is not None and end.reason is Reason.IDLE_TIMEOUT and isinstance(end.outcome, outcome.Error):
        follower.count(Fault.SILENT)
        follower.say(Verdict(Fault.SILENT, end.outcome.error), _client_of(http))


def _named(exchange: Exchange) -> str:
    return f"{exchange!r} from {shown_address(exchange.connection.remote_address)}"


def _client_of(http: HTTPServerConnection) -> str:
    return f"HTTP with {shown_address(http.remote_address)}"


def _tell_successor(connection: Any, exc: BaseException) -> None:
    """What the handler has upgraded the connection to learns that it has raised: a WebSocket closes with 1011."""
    handle = connection
    while handle.end is not None and handle.end.reason is Reason.UPGRADED:
        handle = handle.end.successor
    if handle is not connection:
        handle._handler_failed(exc)


async def _answer(exchange: Exchange, status: int) -> None:
    """Answer for a handler that did not, if anybody is there to be told."""
    connection = exchange.connection
    if connection._cycle.exchange is exchange and not (connection.phase.terminal or connection._life.state.reset):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await exchange.respond(status, error_text(status), headers=PLAIN_TEXT)


def _tell(exchange: Exchange, exc: BaseException, on_error: ErrorHook | None) -> None:
    if on_error is None:
        _LOG.error("the handler of %r failed: %s", exchange, said(exc), exc_info=exc)
        return
    try:
        on_error(exchange, outcome.Error(exc))
    except Exception:  # noqa: BLE001 - a hook that fails must not end the connection
        _LOG.exception("on_error raised for %r", exchange)


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
