"""The server: one accept loop per listener, one scope and one task per connection.

A handler that fails ends its own connection and no other. An accept error that passes (descriptors exhausted, a client
that went away in the queue) is waited out, not fatal.
"""

from __future__ import annotations

import errno
import logging
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection, wait_readable

from ..capsule import Detached
from ..connection import Connection
from ..errors import HandleClosedError
from ..listen import close_listener, tcp_listeners, unix_listener
from ..owner import DrainReport, Owner
from ..scope import Scope, open_child, open_scope
from ..tls import to_tls_server
from ..transport.socket import SocketTransport
from .limits import Limits

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Awaitable, Callable, Iterable

    Handler = Callable[[Connection], Awaitable[object]]

__all__ = ["Server", "ServerStatistics", "serve", "serve_tcp", "serve_unix"]

_LOG = logging.getLogger("trionet.server")

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Accept errors that last until something is freed: waited out."""
_BACK_OFF = 0.1
"""Seconds between two attempts while the system is exhausted."""
_BATCH = 64
"""Connections accepted before other tasks get their turn."""


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Figures of one server since it began."""

    accepted: int
    open: int
    failed: int
    """Handlers that raised."""
    accept_errors: int


class Server:
    """A running server: what ``task_status.started`` gives.

    Attributes:
        listeners: The listening sockets.
        scope: The scope above the scopes of all its connections.
    """

    __slots__ = (
        "_accept_errors",
        "_accepted",
        "_draining",
        "_failed",
        "_handler",
        "_limits",
        "_open",
        "_room",
        "_ssl_context",
        "_stopped",
        "listeners",
        "scope",
    )

    def __init__(
        self,
        handler: Handler,
        listeners: Iterable[socket.socket],
        scope: Scope,
        limits: Limits,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.listeners = tuple(listeners)
        self.scope = scope
        self._handler = handler
        self._limits = limits
        self._ssl_context = ssl_context
        self._open: dict[Owner, int] = {}
        self._room = trio.Event()
        self._stopped = trio.Event()
        self._accepted = 0
        self._draining = False
        self._failed = 0
        self._accept_errors = 0

    def __repr__(self) -> str:
        where = ", ".join(str(address) for address in self.addresses) or "closed"
        return f"<Server {where}: {len(self._open)} connections>"

    @property
    def addresses(self) -> tuple[Any, ...]:
        """Where the server listens; empty once it drains."""
        return tuple(listener.getsockname() for listener in self.listeners if listener.fileno() >= 0)

    @property
    def port(self) -> int:
        """The TCP port.

        Raises:
            ValueError: the server listens on no TCP port (any more).
        """
        for address in self.addresses:
            if isinstance(address, tuple):
                return int(address[1])
        raise ValueError(f"{self!r} listens on no TCP port")

    @property
    def connections(self) -> tuple[Scope, ...]:
        """The scopes of the connections being served; `Scope.handles` are their handles."""
        return tuple(owner.public for owner in self._open)

    def statistics(self) -> ServerStatistics:
        """Figures since the server began. Never raises."""
        return ServerStatistics(self._accepted, len(self._open), self._failed, self._accept_errors)

    # --- accepting -----------------------------------------------------------------------------------------------

    async def accept_loop(self, listener: socket.socket) -> None:
        """Accept on one listener until it is closed. For `serve`."""
        try:
            while listener.fileno() >= 0:
                await self._wait_for_room()
                await wait_readable(listener)
                if not self._accept_batch(listener):
                    self._accept_errors += 1
                    await trio.sleep(_BACK_OFF)
        except trio.ClosedResourceError:
            return

    async def _wait_for_room(self) -> None:
        while len(self._open) >= self._limits.max_connections:
            self._room = trio.Event()
            await self._room.wait()

    @enable_ki_protection
    def _accept_batch(self, listener: socket.socket) -> bool:
        """Accept what waits, up to a batch: False if the system is exhausted. A step."""
        for _ in range(_BATCH):
            if len(self._open) >= self._limits.max_connections:
                return True
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return True
            except OSError as exc:
                if listener.fileno() < 0:
                    raise trio.ClosedResourceError("the listener was closed") from None
                if exc.errno in _EXHAUSTED:
                    _LOG.warning("accept failed: %s; trying again in %g s", exc, _BACK_OFF)
                    return False
                continue  # this one client has gone (ECONNABORTED and its kin, accept(2)): the next one
            self._begin(sock, listener)
        return True

    def _begin(self, sock: socket.socket, listener: socket.socket) -> None:
        self._accepted += 1
        owner = Owner(
            f"connection {self._accepted}",
            parent=self.scope.owner,
            drain_timeout=self._limits.drain_timeout,
            services=self.scope.owner.services,
        )
        self._open[owner] = 0
        name = f"{getattr(self._handler, '__qualname__', 'handler')} {self._accepted}"
        self.scope.start_soon(self._connection, sock, owner, f"accept() for {name}", name=name)

    # --- one connection ------------------------------------------------------------------------------------------

    async def _connection(self, sock: socket.socket, owner: Owner, opened_at: str) -> None:
        """Serve one connection: its scope ends with the handler, and its failure ends here."""
        watched = Watched(self, owner)
        try:
            async with open_child(owner, self.scope, last_words=True):
                connection = _own(sock, owner, opened_at, watched)
                await self._serve(connection)
        except Exception as exc:  # noqa: BLE001 - a handler's failure ends its own connection only, and is logged
            self._record(_only(exc), owner)
        finally:
            watched.handler_done()

    def _record(self, exc: BaseException, owner: Owner) -> None:
        """Log what a handler raised; quietly if that is how it noticed that the server drains."""
        if self._draining and isinstance(exc, HandleClosedError):
            _LOG.debug("%s ended by the drain: %s", owner.name, exc)
            return
        self._failed += 1
        _LOG.error("%s failed: %s", owner.name, exc, exc_info=exc)

    async def _serve(self, connection: Connection) -> None:
        if self._ssl_context is not None:
            recipe = to_tls_server(self._ssl_context, handshake_timeout=self._limits.handshake_timeout)
            try:
                connection = await connection.upgrade(recipe)
            except trio.BrokenResourceError as exc:
                _LOG.info("TLS handshake with %s failed: %s", connection.remote_address, exc)
                return
        await self._handler(connection)

    def forget(self, owner: Owner) -> None:
        """The handler of this connection has ended and its endpoint is closed. For `Watched`."""
        self._open.pop(owner, None)
        self._room.set()
        if not self._open:
            self._stopped.set()

    # --- draining ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    def stop_accepting(self) -> None:
        """Close the listeners. A step; connections go on."""
        for listener in self.listeners:
            close_listener(listener)

    async def drain(self, timeout: float) -> DrainReport:
        """Stop accepting, let every handler come to its end, and cut off what is left.

        Every connection's ``scope.draining`` is set. A handler that waits for input is woken with `HandleClosedError`,
        one that is busy may finish and send its answer. After `timeout` seconds the rest is closed by force.

        Args:
            timeout: Seconds, at least 0; ``math.inf`` waits for ever.

        Returns:
            What was drained and what was forced, also of connections that were transferred elsewhere.

        Cancellation: what is left is closed by force.
        """
        if not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds (math.inf: no limit), not {timeout!r}")
        began = trio.current_time()
        self._draining = True
        self.stop_accepting()
        owners = tuple(self._open)
        try:
            self._retire(owners)
            with trio.move_on_after(timeout):
                while self._open:
                    self._stopped = trio.Event()
                    await self._stopped.wait()
        finally:
            left = tuple(self._open)
            for owner in left:
                owner.public.cancel()
                owner.abort_all()
        await trio.lowlevel.checkpoint()
        reports = [owner.report for owner in owners]
        forced = tuple(entry for report in reports for entry in report.forced)
        return DrainReport(len(owners) - len(left), forced, trio.current_time() - began)

    @enable_ki_protection
    def _retire(self, owners: tuple[Owner, ...]) -> None:
        for owner in owners:
            owner.draining.set()
            for member in owner.members:
                member.retire()


class Watched:
    """Counts one connection until its handler has ended *and* its endpoint is closed, wherever that was moved to."""

    __slots__ = ("_owner", "_parts", "_server")

    def __init__(self, server: Server, owner: Owner) -> None:
        self._server = server
        self._owner = owner
        self._parts = 1

    def endpoint_opened(self) -> None:
        """One more endpoint to wait for."""
        self._parts += 1

    def endpoint_closed(self) -> None:
        """The endpoint is closed."""
        self._done()

    def handler_done(self) -> None:
        """The handler has ended."""
        self._done()

    def _done(self) -> None:
        self._parts -= 1
        if not self._parts:
            self._server.forget(self._owner)


def _only(exc: BaseException) -> BaseException:
    """The single error inside of groups, if there is just one."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


@enable_ki_protection
def _own(sock: socket.socket, owner: Owner, opened_at: str, watched: Watched) -> Connection:
    capsule = Detached(SocketTransport(sock), opened_at=opened_at, watchers=(watched.endpoint_closed,))
    watched.endpoint_opened()
    connection = Connection(capsule)
    connection.seat(owner)
    return connection


async def serve(
    handler: Handler,
    listeners: Iterable[socket.socket],
    *,
    ssl_context: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve connections on `listeners` until cancelled, or until `Server.drain` is through.

    Args:
        handler: Called with the `Connection`, in a task and a scope (``connection.scope``) of its own. What it raises
            is logged (logger ``trionet.server``) and ends that connection only.
        listeners: Listening stream sockets; the server owns them from now on.
        ssl_context: If given, `handler` gets TLS connections.
        limits: Bounds.
        observer: As for `open_scope`, for all connections.
        task_status: Reports the `Server`.

    Raises:
        ValueError, TypeError: a listener does not listen.

    Cancellation: handlers are cancelled, connections and listeners closed. For a graceful end, call `Server.drain`
    first.
    """
    socks = [_check_listener(listener) for listener in listeners]
    if not socks:
        raise ValueError("serve() needs at least one listener")
    limits = Limits() if limits is None else limits
    try:
        async with open_scope(name="server", drain_timeout=limits.drain_timeout, observer=observer) as scope:
            server = Server(handler, socks, scope, limits, ssl_context)
            task_status.started(server)
            async with trio.open_nursery() as nursery:
                for sock in socks:
                    nursery.start_soon(server.accept_loop, sock)
    finally:
        for sock in socks:
            close_listener(sock)


async def serve_tcp(
    handler: Handler,
    port: int,
    *,
    host: str | bytes | None = None,
    ssl_context: ssl.SSLContext | None = None,
    backlog: int | None = None,
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
        limits: Bounds.
        observer: As for `open_scope`.
        task_status: Reports the `Server`.

    Raises:
        ValueError, TypeError: the port cannot be right.
        OSError: the address is in use or not this machine's; the message names it.

    Cancellation: as for `serve`.
    """
    listeners = await tcp_listeners(port, host, backlog)
    run = partial(serve, ssl_context=ssl_context, limits=limits, observer=observer, task_status=task_status)
    await run(handler, listeners)


async def serve_unix(
    handler: Handler,
    path: str | os.PathLike[str],
    *,
    mode: int | None = None,
    ssl_context: ssl.SSLContext | None = None,
    backlog: int | None = None,
    limits: Limits | None = None,
    observer: Any = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve connections on a Unix socket. See `serve`.

    Args:
        handler: As for `serve`.
        path: Where the socket file is made; a stale one is replaced, and it is removed at the end.
        mode: Permissions of the socket file.
        ssl_context: If given, `handler` gets TLS connections.
        backlog: As for `serve_tcp`.
        limits: Bounds.
        observer: As for `open_scope`.
        task_status: Reports the `Server`.

    Raises:
        OSError: somebody listens there, something else is there, or the folder is missing; the message names the path.

    Cancellation: as for `serve`.
    """
    listener = unix_listener(path, backlog, mode)
    run = partial(serve, ssl_context=ssl_context, limits=limits, observer=observer, task_status=task_status)
    await run(handler, [listener])


def _check_listener(listener: Any) -> socket.socket:
    if isinstance(listener, trio.SocketListener):
        listener = listener.socket
    if isinstance(listener, trio.socket.SocketType):
        listener = socket.socket(listener.family, listener.type, listener.proto, fileno=listener.detach())
    if not isinstance(listener, socket.socket):
        raise TypeError(f"a listener must be a listening socket, not {listener!r}")
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"{listener!r} does not listen; call listen() on it first")
    listener.setblocking(False)
    return listener
