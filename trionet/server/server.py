"""A running server: one accept loop per listener, one scope and one task per connection, and the drain.

A handler that fails ends its own connection and no other. An accept error that passes (descriptors exhausted, a client
that went away in the queue) is waited out; one that does not (a listener that was shut down) ends the server.
"""

from __future__ import annotations

import errno
import inspect
import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import ParkingLot, current_task, disable_ki_protection, enable_ki_protection, wait_readable

from ..custody.caretaker import Breather
from ..custody.drain_report import DrainReport
from ..custody.owner import Owner
from ..errors import HandleClosedError
from ..handle.detached import Detached
from ..scope.scope import Scope, open_child
from ..support.checks import check_seconds
from ..support.texts import amount, shown_address
from ..tls import to_tls_server
from ..transport.listening import close_listener, hide_listener
from ..transport.socket import SocketTransport
from .fault import Fault, said
from .watched import Watched

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from trio.lowlevel import Task

    from ..connection import Connection
    from .limits import Limits

    Handler = Callable[[Connection], Awaitable[object]]

__all__ = ["Server", "ServerStatistics"]

_LOG = logging.getLogger("trionet.server")

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Accept errors that last until something is freed: waited out."""
_HOPELESS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT})
"""Accept errors of the listener itself, which come again for ever. All others are the single client's (accept(2))."""
_BACK_OFF = 0.1
"""Seconds between two attempts while the system is exhausted."""
_WARN_AGAIN = 1.0
"""Seconds between two warnings that the system is exhausted."""
_BACKLOG = 4096
"""Connections that wait in a backlog at most where nothing else is said: what Linux allows by default."""
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
    """Handlers that failed: that raised what is not the client's fault, or left a request without an answer."""
    accept_errors: int
    """Pauses in accepting because the system was exhausted."""
    peer_faults: Mapping[str, int]
    """How often clients did what they should not, by kind: ``reset``, ``left``, ``silent``, ``protocol``, ``limit``,
    ``handshake``, ``refused``; 0 for what has not happened."""


class Server:
    """A running server: what ``task_status.started`` gives.

    Attributes:
        listeners: The listening sockets.
        scope: The scope above the scopes of all its connections.
    """

    __slots__ = (
        "_accept_errors",
        "_accepted",
        "_askers",
        "_backlog",
        "_cut",
        "_draining",
        "_faults",
        "_grace",
        "_handler",
        "_limits",
        "_name",
        "_open",
        "_opened_at",
        "_room",
        "_ssl_context",
        "_stopped",
        "_warned_at",
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
        *,
        backlog: int | None,
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
        # The connections whose own handlers wait in `drain`, which cannot wait for them.
        self._askers: set[Owner] = set()
        # The connections that a drain has cut off, as long as their handlers have not ended.
        self._cut: set[Owner] = set()
        self._draining = False
        # How many may wait in a backlog, and are accepted before a drain closes it; 0 where others go on with it.
        self._backlog = _BACKLOG if backlog is None else backlog
        self._grace = 0.0
        self._warned_at = -math.inf
        self._faults = dict.fromkeys(Fault, 0)
        self._accept_errors = 0

    def __repr__(self) -> str:
        where = ", ".join(str(address) for address in self.addresses) or "closed"
        return f"<Server {where}: {amount(len(self._open), 'connection')}>"

    @property
    def addresses(self) -> tuple[Any, ...]:
        """Where the server listens; empty once it drains."""
        return tuple(listener.getsockname() for listener in self.listeners if listener.fileno() >= 0)

    @property
    def secure(self) -> bool:
        """Whether clients speak TLS."""
        return self._ssl_context is not None

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
        faults = {fault.value: self._faults[fault] for fault in Fault if fault.peers}
        failed = self._faults[Fault.PROGRAM]
        return ServerStatistics(self._accepted, len(self._open), failed, self._accept_errors, faults)

    @property
    def draining(self) -> bool:
        """Whether a drain has begun."""
        return self._draining

    def count(self, fault: Fault) -> None:
        """Count a fault. For `Watched`."""
        self._faults[fault] += 1

    # --- accepting -----------------------------------------------------------------------------------------------

    async def accept_loop(self, listener: socket.socket) -> None:
        """Accept on one listener until it is closed. For `serve`.

        Raises:
            OSError: no connection can be accepted on it any more, although it was not closed.
        """
        try:
            while await self._room_for(listener):
                await wait_readable(listener)
                if self._accept_batch(listener) is None:
                    await trio.sleep(_BACK_OFF)
        except trio.ClosedResourceError:
            return

    async def _room_for(self, listener: socket.socket) -> bool:
        """Wait until one more connection is allowed: False if the listener is closed by then."""
        while listener.fileno() >= 0 and len(self._open) >= self._limits.max_connections:
            await self._room.park()
        return listener.fileno() >= 0

    @enable_ki_protection
    def _accept_batch(self, listener: socket.socket, most: int = _BATCH, *, beyond_limit: bool = False) -> int | None:
        """Accept who waits, `most` of them: how many have left the backlog; None if the system is exhausted. A step."""
        for count in range(most):
            if len(self._open) >= self._limits.max_connections and not beyond_limit:
                return count
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return count
            except OSError as exc:
                if listener.fileno() < 0:
                    raise trio.ClosedResourceError("the listener was closed") from None
                if exc.errno in _EXHAUSTED:
                    self._exhausted(exc)
                    return None
                if exc.errno in _HOPELESS:
                    raise OSError(exc.errno, f"accept on {listener.getsockname()} failed: {exc.strerror}") from exc
                continue  # this one client has gone (ECONNABORTED and its kin, accept(2)): the next one
            try:
                transport = SocketTransport(sock, address)
            except OSError:  # gone already: its options cannot be set
                sock.close()
                continue
            self._begin(transport)
        return most

    def _exhausted(self, exc: OSError) -> None:
        """Say so, but not ten times a second: it lasts until something is freed."""
        self._accept_errors += 1
        if (now := trio.current_time()) - self._warned_at >= _WARN_AGAIN:
            self._warned_at = now
            _LOG.warning("accept failed: %s; trying again each %g s", exc, _BACK_OFF)

    @enable_ki_protection
    def _begin(self, transport: SocketTransport) -> None:
        """Count and own a new connection, and start its task. A step: from now on a drain finds it."""
        self._accepted += 1
        owner = Owner(
            f"connection {self._accepted}",
            parent=self.scope._owner,
            drain_timeout=self._limits.drain_timeout,
            services=self.scope._owner.services,
            of_connection=True,
        )
        name = f"{self._name} {self._accepted}"
        watched = Watched(self, owner, self._opened_at)
        capsule = Detached(transport, opened_at=self._opened_at, watcher=watched)
        capsule._seat(owner)
        owner.register(capsule)
        self._open[owner] = watched
        if self._draining:
            owner.retire(self._grace)  # now: its handler may answer before the drain goes round again
        self.scope.start_soon(self._connection, capsule, owner, watched, name=name)

    # --- one connection ------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def _connection(self, capsule: Detached, owner: Owner, watched: Watched) -> None:
        """Serve one connection: its scope ends with the handler, and its failure ends here."""
        try:
            async with open_child(owner, last_words=True) as scope:
                connection = await self._secured(scope.adopt(capsule), watched)
                del capsule
                if connection is not None:
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
            _record(exc, owner, watched)
        except BaseExceptionGroup as group:
            failures, others = group.split(Exception)
            if failures is not None:
                _record(failures, owner, watched)
            assert others is not None  # else it were an Exception
            raise others from None
        finally:
            watched.handler_done()

    async def _secured(self, connection: Connection, watched: Watched) -> Connection | None:
        """The connection, with TLS on it if there is to be; None if the handshake failed."""
        if self._ssl_context is None:
            return connection
        recipe = to_tls_server(self._ssl_context, handshake_timeout=self._limits.handshake_timeout)
        try:
            return await connection.upgrade(recipe)
        except trio.BrokenResourceError as exc:
            watched.say(watched.judge(exc), f"no TLS with {shown_address(connection.remote_address)}")
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
        self._cut.discard(owner)
        self._room.unpark_all()
        self._look_again()

    # --- draining ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    def stop_accepting(self) -> None:
        """Close the listeners. A step; connections go on."""
        self.scope._owner.check_run("stop_accepting")
        for listener in self.listeners:
            close_listener(listener)
        self._room.unpark_all()

    async def drain(self, timeout: float, *, idle_grace: float | None = None) -> DrainReport:
        """Stop accepting, answer what has arrived, let every handler come to its end, and cut off what is left.

        Clients that wait in the backlog are accepted first, above `Limits.max_connections` too. Every connection's
        ``scope.draining`` is set. A handler that is busy may finish and send its answer. One that waits for input gets
        what has arrived by now, once; else it is woken with `HandleClosedError`. Requests that have arrived, or begun
        to, are answered with ``Connection: close``, and so are those that come within `idle_grace`. A connection that
        was transferred elsewhere is waited for, and not told. After `timeout` seconds the rest is closed by force,
        wherever it is.

        Several tasks may drain: the shortest of their deadlines counts. A handler of this server may, or a task of its:
        it does not wait for its own connection, nor for those whose handlers drain too, and cuts none of them off. They
        end when their handlers do.

        Args:
            timeout: Seconds, at least 0; ``math.inf`` waits for ever. 0 cuts everything off at once.
            idle_grace: Seconds for which a connection between two requests is kept for a next one, which its client may
                have sent before it learns of the drain (RFC 9112 §9.5); at most half of `timeout`. By default that of
                `Limits`.

        Returns:
            How many connections came to their end; what was forced: endpoints, also of connections that were
            transferred elsewhere, and handlers that had to be cancelled without having one; and what had arrived
            without having been received.

        Raises:
            ValueError, TypeError: a number of seconds is less than 0, or no number.
            RuntimeError: it is called in another Trio run than the server's; nothing has changed.

        Cancellation: what is left is closed by force.
        """
        self.scope._owner.check_run("drain")
        check_seconds("timeout", timeout)
        grace = self._limits.idle_grace if idle_grace is None else check_seconds("idle_grace", idle_grace)
        began = trio.current_time()
        self._draining, self._grace = True, min(grace, timeout / 2)
        owners = dict.fromkeys(self._open)
        mine = self._connection_of(current_task())
        asking = () if mine is None else (mine,)
        self._askers.update(asking)
        self._look_again()
        try:
            if timeout:
                with trio.move_on_after(timeout):
                    await self._let_go(owners, mine)
        finally:
            self.stop_accepting()
            await self._force(self._askers if asking else ())  # noqa: ASYNC102 - shielded in there
            self._askers.difference_update(asking)
        await trio.lowlevel.checkpoint()
        reports = [owner.report for owner in owners if owner is not mine]
        forced = tuple(entry for report in reports for entry in report.forced)
        lost = tuple(entry for report in reports for entry in report.lost)
        drained = sum(not report.forced for report in reports)
        return DrainReport(drained, forced, trio.current_time() - began, lost)

    def _connection_of(self, task: Task) -> Owner | None:
        """The connection in whose handler this task runs, or in a task below it; None for a task from outside."""
        nurseries = set(task.child_nurseries)
        while task.parent_nursery is not None:
            nurseries.add(task.parent_nursery)
            task = task.parent_nursery.parent_task
            nurseries |= {*task.child_nurseries}
        return next((owner for owner in self._open if owner.nursery in nurseries), None)

    async def _let_go(self, owners: dict[Owner, None], mine: Owner | None) -> None:
        """Everything of a drain but the force; those of the connections that come meanwhile are added to `owners`."""
        await self._retire()
        await self._accept_rest()
        self.stop_accepting()
        owners |= dict.fromkeys(self._open)
        await self._retire()
        with trio.move_on_after(self._grace):
            await self._all_over(mine)
        await self._retire()
        await self._all_over(mine)

    async def _accept_rest(self) -> None:
        """Accept who waits in the backlog: closing the listener resets them, and what they have sent with them."""
        for listener in self.listeners:
            hide_listener(listener)
            left = self._backlog
            while left > 0 and listener.fileno() >= 0:
                before = self._accepted
                taken = self._accept_batch(listener, min(left, _BATCH), beyond_limit=True)
                if taken is None and self._open:  # the system is exhausted, and each of them that ends frees something
                    left -= self._accepted - before
                    await trio.sleep(_BACK_OFF)
                    await self._retire()  # also those that have come meanwhile
                    continue
                if not taken:
                    break
                left -= taken
                await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def _retire(self) -> None:
        """Tell every connection that it is to end; told again, it looks whether the grace is over.

        In short steps: there may be thousands. One that comes meanwhile is told when it begins.
        """
        breather = Breather()
        for owner in tuple(self._open):
            if owner in self._open:
                owner.retire(self._grace)
                await breather.breathe()

    async def _all_over(self, mine: Owner | None) -> None:
        """Wait for all connections; for those whose handlers do not drain, if the one of `mine` does."""
        while self._open.keys() - (self._askers if mine is not None else ()):
            await self._stopped.park()

    def _look_again(self) -> None:
        """Wake who drains, if there may be nobody left to wait for. A step."""
        if len(self._open) <= len(self._askers):
            self._stopped.unpark_all()

    @enable_ki_protection
    async def _force(self, spared: Collection[Owner]) -> None:
        """Cut off all connections but the `spared` ones, in short steps. It is not cancelled."""
        breather = Breather()
        with trio.CancelScope(shield=True):
            for owner, watched in tuple(self._open.items()):
                if owner in self._open and owner not in spared:
                    self._cut_off(owner, watched)
                    await breather.breathe()

    @enable_ki_protection
    def _cut_off(self, owner: Owner, watched: Watched) -> None:
        """Cancel what is left of this connection's handler and close its endpoints, wherever those are. A step."""
        if owner.nursery is not None:
            owner.nursery.cancel_scope.cancel()  # not the whole scope: it would close its handles, uncounted
        cut = [_close_all(inner) for inner in reversed(owner.tree())]
        forced = [entry for report in cut for entry in report.forced]
        forced += watched.force(alone=not forced and owner not in self._cut)
        self._cut.add(owner)
        lost = [entry for report in cut for entry in report.lost]
        before = owner.report
        owner.report = replace(before, forced=(*before.forced, *forced), lost=(*before.lost, *lost))


@disable_ki_protection
async def _unprotected(conversation: Awaitable[object]) -> None:
    await conversation


def _close_all(owner: Owner) -> DrainReport:
    """Close everything this owner has: what that was. Taken out of its report, to stand in that of the connection."""
    before, owner.report = owner.report, DrainReport()
    owner.abort_all()
    cut, owner.report = owner.report, before
    return cut


def _record(exc: Exception, owner: Owner, watched: Watched) -> None:
    """Log with what a handler has ended; loudly only if that is the program's fault."""
    verdict = watched.judge(exc)
    if verdict.fault is Fault.PROGRAM:
        _LOG.error("%s failed: %s", owner.name, said(verdict.error), exc_info=verdict.error)
    else:
        handle = getattr(verdict.error, "handle", None)
        watched.say(
            verdict, owner.name if handle is None else f"{owner.name} with {shown_address(handle.remote_address)}"
        )
