"""The ways to start a server: on a port, on a path, on listeners that exist already.

Every argument is checked before anything is opened or taken over.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ..scope.scope import open_scope
from ..support.block import check_trio
from ..support.checks import check_flag, check_kind
from ..tls import to_tls_server
from ..transport.listening import close_listener, tcp_listeners
from ..transport.socket import take_socket
from ..transport.socket_options import check_socket_options, set_socket_options
from ..transport.unix_listening import unix_listener
from .fault import only
from .limits import Limits
from .occupied import check_free, give_up, occupy
from .running import join, leave
from .server import Server

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Sequence

    from ..transport.socket_options import SocketOption
    from .handling import Handler

__all__ = ["check_handler", "serve", "serve_tcp", "serve_unix"]


@enable_ki_protection
async def serve(
    handler: Handler,
    listeners: Iterable[socket.socket],
    *,
    ssl_context: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    inherited: bool = False,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve connections on `listeners` until cancelled, or until `Server.drain` is through.

    An error of accepting that passes, such as too many open files, is logged and waited out.

    Args:
        handler: Called with the `Connection`, in a task and a scope (``connection.scope``) of its own. What it raises
            is logged (logger ``trionet.server``) and ends that connection only: as an error, or where the client was at
            fault in one line as INFO. What is no `Exception`, such as `SystemExit`, ends the server.
        listeners: Listening stream sockets (of `socket` or `trio.socket`, or Trio's listeners). The server owns them
            from now on, unless it raises ValueError or TypeError. Socket files that it did not make stay.
        ssl_context: If given, `handler` gets TLS connections.
        limits: Bounds.
        inherited: Whether other processes go on accepting on these sockets, such as the next worker. Then a drain
            leaves them who waits in the backlog; else it accepts those first, as closing would reset them.
        observer: As for `open_scope`, for all connections.
        task_status: Reports the `Server`.

    Raises:
        ValueError, TypeError: a listener does not listen, is in use, or another argument cannot be right.
        OSError: a listener has failed for good, for instance because it was shut down.
        BaseExceptionGroup: several things at once: listeners that failed, or from handlers what is no `Exception`. One
            alone leaves as it is.

    Cancellation: handlers are cancelled, connections and listeners closed. For a graceful end, call `Server.drain`
    first.
    """
    limits = _check_options(handler, ssl_context, limits)
    check_flag("inherited", inherited)
    if not isinstance(listeners, Iterable):
        raise TypeError(f"listeners must be an iterable of listening sockets, not {listeners!r}; write [listener]")
    given = [_check_listener(listener) for listener in listeners]
    if not given:
        raise ValueError("serve() needs at least one listener")
    check_free(given)
    socks = [_take_listener(listener) for listener in given]
    backlog = 0 if inherited else None
    await _serve(handler, socks, ssl_context, limits, backlog=backlog, observer=observer, started=task_status.started)


@enable_ki_protection
async def _serve(
    handler: Handler,
    socks: list[socket.socket],
    ssl_context: ssl.SSLContext | None,
    limits: Limits,
    *,
    backlog: int | None,
    observer: Any,
    started: Callable[[Server], None],
) -> None:
    """Serve on sockets that are the server's own; `backlog` is how many may wait in one: 0 if that is none of ours."""
    occupy(socks)
    server = None
    try:
        async with open_scope(name="server", drain_timeout=limits.drain_timeout, observer=observer) as scope:
            server = Server(handler, socks, scope, limits, ssl_context, backlog=backlog)
            server._start()
            join(server, getattr(handler, "scheme", ""))
            started(server)
    except BaseExceptionGroup as group:
        # Of the server's own making: a Ctrl-C or the end of its only listener leaves as it is.
        if (error := only(group)) is not group:
            raise error from error.__cause__
        raise
    finally:
        give_up(socks)
        for sock in socks:
            close_listener(sock)
        if server is not None:
            leave(server)


@enable_ki_protection
async def serve_tcp(
    handler: Handler,
    port: int,
    *,
    host: str | bytes | None = None,
    ssl_context: ssl.SSLContext | None = None,
    backlog: int | None = None,
    socket_options: Sequence[SocketOption] = (),
    limits: Limits | None = None,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve TCP connections on `port`. See `serve`.

    Args:
        handler: As for `serve`.
        port: 0 to 65,535; 0 lets the system choose, see `Server.port`.
        host: Name or address to listen on; every address of this machine by default.
        ssl_context: If given, `handler` gets TLS connections.
        backlog: Connections that may wait to be accepted; the system's maximum by default.
        socket_options: Arguments of `socket.setsockopt`, (level, option, value), for the listening sockets, from which
            the connections inherit most of them. They are set on sockets that listen: what has to be set before, such
            as SO_REUSEPORT, is for a socket of your own, and `serve`.
        limits: Bounds.
        observer: As for `open_scope`.
        task_status: Reports the `Server`.

    Raises:
        ValueError, TypeError: an argument cannot be right; nothing was opened.
        OSError: the address is in use or not this machine's; the message names it.
        BaseExceptionGroup: as for `serve`.

    Cancellation: as for `serve`.
    """
    limits = _check_options(handler, ssl_context, limits)
    options = _check_listener_options(socket_options)
    listeners = await tcp_listeners(port, host, backlog)
    _set_options(listeners, options)
    await _serve(
        handler, listeners, ssl_context, limits, backlog=backlog, observer=observer, started=task_status.started
    )


@enable_ki_protection
async def serve_unix(
    handler: Handler,
    path: str | bytes | os.PathLike[str],
    *,
    mode: int | None = None,
    ssl_context: ssl.SSLContext | None = None,
    backlog: int | None = None,
    socket_options: Sequence[SocketOption] = (),
    limits: Limits | None = None,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve connections on a Unix socket. See `serve`.

    Args:
        handler: As for `serve`.
        path: Where the socket file is made; a stale one is replaced. It is removed at the end, unless something else
            has taken its place. A name that begins with NUL is an abstract address, and makes no file.
        mode: Permissions of the socket file.
        ssl_context: If given, `handler` gets TLS connections.
        backlog: As for `serve_tcp`.
        socket_options: As for `serve_tcp`.
        limits: Bounds.
        observer: As for `open_scope`.
        task_status: Reports the `Server`.

    Raises:
        ValueError, TypeError: an argument cannot be right; nothing was opened.
        OSError: somebody listens there, something else is there, or the folder is missing; the message names the path.
        BaseExceptionGroup: as for `serve`.

    Cancellation: as for `serve`.
    """
    limits = _check_options(handler, ssl_context, limits)
    options = _check_listener_options(socket_options)
    listener = unix_listener(path, backlog, mode)
    _set_options([listener], options)
    await _serve(
        handler, [listener], ssl_context, limits, backlog=backlog, observer=observer, started=task_status.started
    )


def _check_listener_options(options: Any) -> tuple[SocketOption, ...]:
    """The options as a tuple; raise if one of them comes too late for a socket that listens."""
    for option in (checked := check_socket_options(options)):
        if option[:2] == (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", None)):
            raise ValueError(
                "socket_options: SO_REUSEPORT has to be set before a socket is bound; make the listener yourself and "
                "serve it: trionet.serve(handler, [listener])"
            )
    return checked


def _set_options(listeners: list[socket.socket], options: Sequence[SocketOption]) -> None:
    try:
        for listener in listeners:
            set_socket_options(listener, options)
    except BaseException:
        for listener in listeners:
            close_listener(listener)
        raise


def _check_options(handler: Any, ssl_context: ssl.SSLContext | None, limits: Any) -> Limits:
    """The limits; raise if an argument cannot be right, before anything is opened."""
    check_trio("serve")
    check_handler(handler)
    checked = Limits() if limits is None else check_kind("limits", limits, Limits, "a trionet.Limits")
    if ssl_context is not None:
        to_tls_server(ssl_context)  # checks it
    return checked


def check_handler(handler: Any) -> None:
    """Raise unless this can be an async function."""
    if inspect.iscoroutine(handler):
        raise TypeError(
            f"handler must be an async function, not {handler!r}: pass the function itself, without calling it"
        )
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}")
    function = inspect.unwrap(handler)
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"handler must be an async function, not {handler!r}, which has a yield and so is a generator")
    if _is_plain(function):
        raise TypeError(
            f"handler must be an async function, not {handler!r}: write async def (or, for a function that returns an "
            f"awaitable, lambda x: {function.__name__}(x))"
        )
    _check_arity(handler)


def _is_plain(function: Any) -> bool:
    """Whether this was written with def and nothing says that it returns an awaitable: async was forgotten."""
    return (
        inspect.isroutine(function)
        and not inspect.iscoroutinefunction(function)
        and function.__name__ != "<lambda>"
        and "return" not in getattr(function, "__annotations__", {})
    )


def _check_arity(handler: Any) -> None:
    """Raise if the handler cannot be called with the one thing that a handler is given."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return  # not every callable tells
    try:
        signature.bind(None)
    except TypeError as exc:
        raise TypeError(
            f"handler must take one argument, the connection or exchange: {handler!r} takes {signature} ({exc})"
        ) from None


def _check_listener(listener: Any) -> Any:
    """A socket that listens, else a clear error. The listener is as before."""
    sock = listener.socket if isinstance(listener, trio.SocketListener) else listener
    if not isinstance(sock, (socket.socket, trio.socket.SocketType)):
        raise TypeError(f"a listener must be a listening socket, not {listener!r}")
    if sock.fileno() < 0:
        raise ValueError(f"{listener!r} is closed")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"{listener!r} does not listen; call listen() on it first")
    return sock


@enable_ki_protection
def _take_listener(sock: Any) -> socket.socket:
    """The server's own socket: one of Trio's ends here."""
    plain: socket.socket = sock if isinstance(sock, socket.socket) else take_socket(sock)
    plain.setblocking(False)
    return plain
