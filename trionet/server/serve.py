"""The ways to start a server: on a port, on a path, on listeners that exist already.

Every argument is checked before anything is opened or taken over.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ..scope.opening import open_scope
from ..support.checks import check_flag
from ..transport.listening import close_listener, tcp_listeners
from ..transport.socket import take_socket
from ..transport.socket_options import set_socket_options
from ..transport.unix_listening import unix_listener
from .arguments import check_listener, check_listener_options, check_options
from .fault import only
from .occupied import check_free, give_up, occupy
from .running import join, leave
from .server import Server

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from ..tls.server_contexts import ServerContexts
    from ..transport.socket_options import SocketOption
    from .handling import Handler
    from .introduction import Introduction
    from .limits import Limits

__all__ = ["serve", "serve_tcp", "serve_unix"]


@enable_ki_protection
async def serve(
    handler: Handler,
    listeners: Iterable[socket.socket],
    *,
    ssl_context: ServerContexts | None = None,
    proxy_protocol: Iterable[str] | None = None,
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
            fault in one line as INFO. What is not an `Exception`, such as `SystemExit`, ends the server.
        listeners: Listening stream sockets (of `socket` or `trio.socket`, or Trio's listeners). The server owns them
            from now on, unless it raises ValueError or TypeError. Socket files that it did not make stay.
        ssl_context: If given, `handler` gets TLS connections. One for each name (SNI): as for `to_tls_server`.
        proxy_protocol: The proxies that say in front of each connection, TLS too, whose it is, as `trusted` of
            `to_proxied`: everybody else is cut off. By default the PROXY protocol is not spoken.
        limits: Bounds.
        inherited: Whether other processes go on accepting on these sockets, such as the next worker. Then a drain
            leaves the clients in the backlog to them; else it accepts those first, as closing would reset them.
        observer: As for `open_scope`, for all connections.
        task_status: Reports the `Server`.

    Raises:
        ValueError, TypeError: a listener does not listen, is in use, or another argument cannot be right.
        OSError: a listener has failed for good, for instance because it was shut down.
        BaseExceptionGroup: several errors at once: of listeners, or of handlers where they are not an `Exception`. A
            single one leaves as it is.

    Cancellation: handlers are cancelled, connections and listeners closed. For a graceful end, call `Server.drain`
    first.
    """
    limits, introduction = check_options(handler, ssl_context, proxy_protocol, limits)
    check_flag("inherited", inherited)
    if not isinstance(listeners, Iterable):
        raise TypeError(f"listeners must be an iterable of listening sockets, not {listeners!r}; write [listener]")
    given = [check_listener(listener) for listener in listeners]
    if not given:
        raise ValueError("serve() needs at least one listener")
    check_free(given)
    socks = [_take_listener(listener) for listener in given]
    backlog = 0 if inherited else None
    await _serve(handler, socks, limits, introduction, backlog=backlog, observer=observer, started=task_status.started)


@enable_ki_protection
async def _serve(
    handler: Handler,
    socks: list[socket.socket],
    limits: Limits,
    introduction: Introduction,
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
            server = Server(handler, socks, scope, limits, introduction, backlog=backlog)
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
    ssl_context: ServerContexts | None = None,
    proxy_protocol: Iterable[str] | None = None,
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
        proxy_protocol: As for `serve`.
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
    limits, introduction = check_options(handler, ssl_context, proxy_protocol, limits)
    options = check_listener_options(socket_options)
    listeners = await tcp_listeners(port, host, backlog)
    _set_options(listeners, options)
    await _serve(
        handler,
        listeners,
        limits,
        introduction,
        backlog=backlog,
        observer=observer,
        started=task_status.started,
    )


@enable_ki_protection
async def serve_unix(
    handler: Handler,
    path: str | bytes | os.PathLike[str],
    *,
    mode: int | None = None,
    ssl_context: ServerContexts | None = None,
    proxy_protocol: Iterable[str] | None = None,
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
        proxy_protocol: As for `serve`.
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
    limits, introduction = check_options(handler, ssl_context, proxy_protocol, limits)
    options = check_listener_options(socket_options)
    listener = unix_listener(path, backlog, mode)
    _set_options([listener], options)
    await _serve(
        handler,
        [listener],
        limits,
        introduction,
        backlog=backlog,
        observer=observer,
        started=task_status.started,
    )


def _set_options(listeners: list[socket.socket], options: Sequence[SocketOption]) -> None:
    try:
        for listener in listeners:
            set_socket_options(listener, options)
    except BaseException:
        for listener in listeners:
            close_listener(listener)
        raise


@enable_ki_protection
def _take_listener(sock: Any) -> socket.socket:
    """The server's own socket: one of Trio's ends here."""
    plain: socket.socket = sock if isinstance(sock, socket.socket) else take_socket(sock)
    plain.setblocking(False)
    return plain
