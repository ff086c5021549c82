"""A running server: one accept loop per listener, one scope and one task per connection, and the drain.

A handler that fails ends its own connection and no other. An accept error that passes (descriptors exhausted, a client
that went away in the queue) is waited out; one that does not (a listener that was shut down) ends the server.
"""

from __future__ import annotations

import errno
import inspect
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import ParkingLot, disable_ki_protection, enable_ki_protection, wait_readable

from ..capsule import Detached
from ..checks import check_seconds
from ..drain_report import DrainReport, Forced
from ..errors import HandleClosedError
from ..listen import close_listener
from ..owner import Owner
from ..scope import Scope, open_child
from ..tls import to_tls_server
from ..transport.socket import SocketTransport
from .watched import Watched

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Iterable

    from ..connection import Connection
    from .limits import Limits

    Handler = Callable[[Connection], Awaitable[object]]

__all__ = ["Server", "ServerStatistics", "only"]

_LOG = logging.getLogger("trionet.server")

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Accept errors that last until something is freed: waited out."""
_HOPELESS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT})
"""Accept errors of the listener itself, which come again for ever. All others are the single client's (accept(2))."""
_BACK_OFF = 0.1
"""Seconds between two attempts while the system is exhausted."""
_BATCH = 64
"""Connections accepted before other tasks get their turn."""


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """Figures of one server since it began."""

    accepted: int
    """Connections accepted."""
    open: int
    """Connections whose handler has not ended yet, or whose endpoint is open, wherever it was moved to."""
    failed: int
    """Handlers that raised."""
    accept_errors: int
    """Pauses in accepting because the system was exhausted."""


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
        "_name",
        "_open",
        "_opened_at",
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
        self._handler = disable_ki_protection(handler) if inspect.isfunction(handler) else handler
        self._name = getattr(handler, "__qualname__", "handler")
        self._opened_at = f"accept() for {self._name}"
        self._limits = limits
        self._ssl_context = ssl_context
        self._open: dict[Owner, Watched] = {}
        self._room = ParkingLot()
        self._stopped = ParkingLot()
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
        """The scopes of the connections whose handlers have begun; `Scope.handles` are their handles."""
        return tuple(owner.public for owner in self._open if owner.public is not None)

    def statistics(self) -> ServerStatistics:
        """Figures since the server began. Never raises."""
        return ServerStatistics(self._accepted, len(self._open), self._failed, self._accept_errors)

    # --- accepting -----------------------------------------------------------------------------------------------

    async def accept_loop(self, listener: socket.socket) -> None:
        """Accept on one listener until it is closed. For `serve`.

        Raises:
            OSError: no connection can be accepted on it any more, although it was not closed.
        """
        try:
            while await self._room_for(listener):
                await wait_readable(listener)
                if not self._accept_batch(listener):
                    self._accept_errors += 1
                    await trio.sleep(_BACK_OFF)
        except trio.ClosedResourceError:
            return

    async def _room_for(self, listener: socket.socket) -> bool:
        """Wait until one more connection is allowed: False if the listener is closed by then."""
        while listener.fileno() >= 0 and len(self._open) >= self._limits.max_connections:
            await self._room.park()
        return listener.fileno() >= 0

    @enable_ki_protection
    def _accept_batch(self, listener: socket.socket) -> bool:
        """Accept what waits, up to a batch: False if the system is exhausted. A step."""
        for _ in range(_BATCH):
            if len(self._open) >= self._limits.max_connections:
                return True
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return True
            except OSError as exc:
                if listener.fileno() < 0:
                    raise trio.ClosedResourceError("the listener was closed") from None
                if exc.errno in _EXHAUSTED:
                    _LOG.warning("accept failed: %s; trying again in %g s", exc, _BACK_OFF)
                    return False
                if exc.errno in _HOPELESS:
                    raise OSError(exc.errno, f"accept on {listener.getsockname()} failed: {exc.strerror}") from exc
                continue  # this one client has gone (ECONNABORTED and its kin, accept(2)): the next one
            try:
                transport = SocketTransport(sock, address)
            except OSError:  # gone already: its options cannot be set
                sock.close()
                continue
            self._begin(transport)
        return True

    @enable_ki_protection
    def _begin(self, transport: SocketTransport) -> None:
        """Count and own a new connection, and start its task. A step: from now on a drain finds it."""
        self._accepted += 1
        owner = Owner(
            f"connection {self._accepted}",
            parent=self.scope.owner,
            drain_timeout=self._limits.drain_timeout,
            services=self.scope.owner.services,
            of_connection=True,
        )
        name = f"{self._name} {self._accepted}"
        watched = Watched(self, owner, self._opened_at)
        capsule = Detached(transport, opened_at=self._opened_at, watcher=watched)
        capsule.seat(owner)
        owner.register(capsule)
        self._open[owner] = watched
        self.scope.start_soon(self._connection, capsule, owner, watched, name=name)

    # --- one connection ------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def _connection(self, capsule: Detached, owner: Owner, watched: Watched) -> None:
        """Serve one connection: its scope ends with the handler, and its failure ends here."""
        try:
            async with open_child(owner, last_words=True) as scope:
                connection = await self._secured(scope.adopt(capsule))
                del capsule
                if connection is not None:
                    if self._draining:
                        connection.retire()  # the drain began before there was a handle that it could tell
                    conversation = self._call(connection)
                    del connection  # as it is upgraded, nobody needs it any more
                    try:
                        await conversation
                    except HandleClosedError as exc:
                        if not self._draining:
                            raise
                        # That is how the handler noticed the drain, so the scope ends as if it had returned.
                        _LOG.debug("%s ended by the drain: %s", owner.name, exc)
        except Exception as exc:  # noqa: BLE001 - a handler's failure ends its own connection only, and is logged
            self._record(exc, owner)
        except BaseExceptionGroup as group:
            failures, others = group.split(Exception)
            if failures is not None:
                self._record(failures, owner)
            assert others is not None  # else it were an Exception
            raise others from None
        finally:
            watched.handler_done()

    def _record(self, exc: Exception, owner: Owner) -> None:
        """Log what a handler raised; quietly if its tasks noticed in that way that the server drains."""
        if self._draining and all(isinstance(leaf, HandleClosedError) for leaf in _leaves(exc)):
            _LOG.debug("%s ended by the drain: %s", owner.name, exc)
            return
        self._failed += 1
        error = only(exc)
        _LOG.error("%s failed: %s", owner.name, error, exc_info=error)

    async def _secured(self, connection: Connection) -> Connection | None:
        """The connection, with TLS on it if there is to be; None if the handshake failed."""
        if self._ssl_context is None:
            return connection
        recipe = to_tls_server(self._ssl_context, handshake_timeout=self._limits.handshake_timeout)
        try:
            return await connection.upgrade(recipe)
        except trio.BrokenResourceError as exc:
            _LOG.info("no TLS with %s: %s", connection.remote_address, exc)
            return None

    def _call(self, connection: Connection) -> Awaitable[object]:
        """The user's code, in which Ctrl-C may strike: so it is marked, or goes through a function that is."""
        conversation = self._handler(connection)
        if not hasattr(conversation, "__await__"):
            raise TypeError(f"the handler must be an async function, but {self._handler!r} returned {conversation!r}")
        return conversation if inspect.isfunction(self._handler) else _unprotected(conversation)

    @enable_ki_protection
    def forget(self, owner: Owner) -> None:
        """The handler of this connection has ended and its endpoint is closed. For `Watched`."""
        self._open.pop(owner, None)
        self._room.unpark_all()
        if not self._open:
            self._stopped.unpark_all()

    # --- draining ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    def stop_accepting(self) -> None:
        """Close the listeners. A step; connections go on."""
        for listener in self.listeners:
            close_listener(listener)
        self._room.unpark_all()

    async def drain(self, timeout: float) -> DrainReport:
        """Stop accepting, let every handler come to its end, and cut off what is left.

        Every connection's ``scope.draining`` is set. A handler that waits for input is woken with `HandleClosedError`,
        one that is busy may finish and send its answer. A connection that was transferred elsewhere is waited for, and
        not told. After `timeout` seconds the rest is closed by force, wherever it is.

        Several tasks may drain: the shortest of their deadlines counts.

        Args:
            timeout: Seconds, at least 0; ``math.inf`` waits for ever.

        Returns:
            How many connections came to their end, and what was forced: endpoints, also of connections that were
            transferred elsewhere, and handlers that had to be cancelled without having one.

        Raises:
            ValueError, TypeError: `timeout` is less than 0, or no number.

        Cancellation: what is left is closed by force.
        """
        check_seconds("timeout", timeout)
        began = trio.current_time()
        self._draining = True
        self.stop_accepting()
        owners = tuple(self._open)
        try:
            for owner in owners:
                owner.retire()
            with trio.move_on_after(timeout):
                while self._open:
                    await self._stopped.park()
        finally:
            self._force()
        await trio.lowlevel.checkpoint()
        forced = tuple(entry for owner in owners for entry in owner.report.forced)
        drained = sum(not owner.report.forced for owner in owners)
        return DrainReport(drained, forced, trio.current_time() - began)

    @enable_ki_protection
    def _force(self) -> None:
        """Cancel what handlers are left and close their endpoints, wherever those are. A step."""
        for owner, watched in tuple(self._open.items()):
            if owner.public is not None:
                owner.public.cancel()
            forced = [entry for inner in reversed(owner.tree()) for entry in _cut_off(inner)]
            owner.report = replace(owner.report, forced=(*owner.report.forced, *(forced or [watched.force()])))


@disable_ki_protection
async def _unprotected(conversation: Awaitable[object]) -> None:
    await conversation


def _cut_off(owner: Owner) -> tuple[Forced, ...]:
    """Close everything this owner has: what that was. Taken out of its report, to stand in that of the connection."""
    before = owner.report
    owner.abort_all()
    forced = owner.report.forced[len(before.forced) :]
    owner.report = before
    return forced


def _leaves(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for inner in exc.exceptions for leaf in _leaves(inner)]
    return [exc]


def only(exc: BaseException) -> BaseException:
    """The single error inside of groups, if there is just one."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
