"""Which connection a request gets: the pool of a client, one site for each origin.

A request first takes a slot of its origin, then one of the client's, both first come first served; semaphores keep
those accounts, so that no slot is lost whenever a task is cancelled. Who has both slots takes the connection that
became idle last, if the server has not said anything on it since, and opens a new one otherwise. So there are never
more connections than slots, as long as idle ones make room.

A connection may have a user besides the pool: who got it from a response may send a request of his own on it, or wait
to detach it. Then it is *engaged*, and the pool neither uses it nor ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ...errors import ScopeClosedError
from ...ownership import Event, Phase, Reason
from ...support.checks import check_count
from .retry import mark_unsent, unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...custody.owner import Owner
    from ..protocol.limits import HTTPLimits
    from ..url.url import Origin
    from .connection import HTTPClientConnection

__all__ = ["HTTPClientStatistics", "Pool", "Site"]


@dataclass(frozen=True, slots=True)
class HTTPClientStatistics:
    """Figures of one client."""

    open: int
    """Connections that are open, or are just saying goodbye."""
    idle: int
    """Those of them that wait for their next request."""
    running: int
    """Requests that have their slots, from before they connect to the end of their responses."""
    waiting: int
    """Requests that wait for a slot."""
    opened: int
    """Connections that were opened, ever."""
    reused: int
    """Requests that were sent on a connection that had carried one before."""
    retried: int
    """Requests that were sent again because the connection they were first sent on had died."""
    dropped: int
    """Idle connections that were closed: expired, ended by the server, or in the way of a new one."""


class Site:
    """What the pool has for one origin."""

    __slots__ = ("idle", "origin", "slots", "users")

    def __init__(self, origin: Origin, max_requests: int) -> None:
        self.origin = origin
        self.slots = trio.Semaphore(max_requests)
        self.idle: dict[HTTPClientConnection, None] = {}
        """In the order in which they became idle."""
        self.users = 0
        """Requests that hold a slot of it or wait for one."""


class Pool:
    """The connections of one client.

    Args:
        owner: Owns the connections.
        connect: Opens one to a site.
        limits: Their bounds; ``idle_timeout`` is the pool's.
        max_connections: To all origins together.
        max_connections_per_origin: To one of them.
    """

    def __init__(
        self,
        owner: Owner,
        connect: Callable[..., Awaitable[HTTPClientConnection]],
        *,
        limits: HTTPLimits,
        max_connections: int,
        max_connections_per_origin: int,
    ) -> None:
        for name, value in (
            ("max_connections", max_connections),
            ("max_connections_per_origin", max_connections_per_origin),
        ):
            check_count(name, value, 1)
        self._owner = owner
        self._connect = connect
        self._idle_timeout = limits.idle_timeout
        self._max_connections = max_connections
        self._max_per_origin = max_connections_per_origin
        self._slots = trio.Semaphore(max_connections)
        self._sites: dict[Origin, Site] = {}
        self._open: dict[HTTPClientConnection, None] = {}
        self._idle: dict[HTTPClientConnection, Site] = {}
        self._connecting: set[trio.CancelScope] = set()
        self._watched = False
        self._running = self._waiting = 0
        self._opened = self._reused = self._dropped = 0
        self.retried = 0
        """Requests that were sent again."""

    def statistics(self) -> HTTPClientStatistics:
        """Figures for now. Never raises."""
        return HTTPClientStatistics(
            open=len(self._open),
            idle=len(self._idle),
            running=self._running,
            waiting=self._waiting,
            opened=self._opened,
            reused=self._reused,
            retried=self.retried,
            dropped=self._dropped,
        )

    # --- slots ---------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def acquire(self, origin: Origin) -> Site:
        """Wait for the slots of a request; `release` gives them back. Not a checkpoint if both are free.

        Raises:
            ScopeClosedError: the client is closing or closed, or was closed meanwhile.

        Cancellation: no slot is held.
        """
        self.check_open()
        site = self._sites.get(origin)
        if site is None:
            site = self._sites[origin] = Site(origin, self._max_per_origin)
        site.users += 1
        if site.slots.value and self._slots.value:
            site.slots.acquire_nowait()
            self._slots.acquire_nowait()
        else:
            await self._wait_for_slots(site)
        self._running += 1
        return site

    async def _wait_for_slots(self, site: Site) -> None:
        self._waiting += 1
        try:
            await site.slots.acquire()
            try:
                await self._slots.acquire()
                try:
                    self.check_open()
                except BaseException:
                    self._slots.release()
                    raise
            except BaseException:
                site.slots.release()
                raise
        except BaseException:
            self._left(site)
            raise
        finally:
            self._waiting -= 1

    @enable_ki_protection
    def release(self, site: Site) -> None:
        """The request is over: the next one may come. A step."""
        self._running -= 1
        self._slots.release()
        site.slots.release()
        self._left(site)

    def _left(self, site: Site) -> None:
        site.users -= 1
        if not site.users and not site.idle:
            self._sites.pop(site.origin, None)

    def check_open(self) -> None:
        """Raise `ScopeClosedError` if the client is closing or closed. A step."""
        try:
            self._owner.check_open("request")
        except ScopeClosedError as exc:
            mark_unsent(exc)
            raise

    @enable_ki_protection
    def shut(self) -> None:
        """The client is about to close: whoever waits for a slot or a connection is told. A step.

        One extra slot for each queue is enough: who is woken by it finds the door shut and hands it on.
        """
        self._owner.shut_door()
        self._owner.caretaker.unwatch(self)
        for site in self._sites.values():
            site.slots.release()
        self._slots.release()
        for scope in self._connecting:
            scope.cancel()

    # --- connections ---------------------------------------------------------------------------------------------

    @enable_ki_protection
    def take_idle(self, site: Site) -> HTTPClientConnection | None:
        """The connection to `site` that became idle last and is fit for use; those that are not are dropped. A step."""
        idle = site.idle
        engaged: list[HTTPClientConnection] = []
        found = None
        while idle and found is None:
            connection, _ = idle.popitem()
            if connection._reuse.fit():
                found = connection
                del self._idle[connection]
                self._reused += 1
            elif connection._reuse.engaged:
                engaged.append(connection)
            else:
                idle[connection] = None
                self._drop(connection, Event.PEER_GONE)
        for connection in reversed(engaged):  # its user's own business: it may come back
            idle[connection] = None
        return found

    @enable_ki_protection
    async def open(self, site: Site, *details: Any) -> HTTPClientConnection:
        """A new connection to `site`. The caller has the slots for it. `details` are handed on to `connect`.

        Raises:
            OSError, UpgradeFailedError, UpgradeRefusedError: the site could not be reached; nothing was sent.
            ScopeClosedError: the client was closed meanwhile.

        Cancellation: nothing stays open.
        """
        self.check_open()
        self._make_room()
        with trio.CancelScope() as scope:
            self._connecting.add(scope)
            try:
                connection = await self._connect(site, *details)
            except OSError as exc:
                raise unreachable(exc) from exc.__cause__
            except Exception as exc:
                mark_unsent(exc)
                raise
            finally:
                self._connecting.discard(scope)
            self._opened += 1
            self._open[connection] = None
            connection._reuse.when_ended(self._forget)
            return connection
        self.check_open()
        raise AssertionError("only a client that closes cancels its attempts to connect")

    def _make_room(self) -> None:
        """Close what is idle for longest where there are as many connections as there may be.

        Those that say goodbye do not count: that takes a second at most. But there are no more of them than of others.
        """
        missing = len(self._open) - len(self._parting()) + len(self._connecting) + 1 - self._max_connections
        if missing > 0:
            for connection in [one for one in self._idle if not one._reuse.engaged][:missing]:
                self._part(connection, Reason.LOCAL)
        parting = self._parting()
        for connection in parting[: max(0, len(parting) - self._max_connections)]:
            connection.abort()

    def _parting(self) -> list[HTTPClientConnection]:
        return [one for one in self._open if one.phase is Phase.DRAINING and not one.blockers]

    @enable_ki_protection
    def put(self, site: Site, connection: HTTPClientConnection) -> None:
        """A request has ended: its connection waits for the next one, or ends. Before `release`. A step."""
        reuse = connection._reuse
        if (reuse.reusable or reuse.engaged) and not self._owner.shut:
            site.idle[connection] = None
            self._idle[connection] = site
            if not self._watched:
                self._watched = True
                self._owner.caretaker.watch(self)
        elif connection.phase is Phase.OPEN:
            connection.abort()

    def _drop(self, connection: HTTPClientConnection, event: Event) -> None:
        """An idle connection is unfit for use."""
        self._dropped += 1
        self._leave_idle(connection)
        if connection.phase is Phase.OPEN:  # else its user is closing it
            connection._reuse.give_up(event)

    def _part(self, connection: HTTPClientConnection, reason: Reason) -> None:
        """An idle connection is not wanted any more."""
        self._dropped += 1
        self._leave_idle(connection)
        connection._reuse.part(reason)

    def _forget(self, connection: HTTPClientConnection) -> None:
        """A connection has ended, or has become something else."""
        self._open.pop(connection, None)
        self._leave_idle(connection)

    def _leave_idle(self, connection: HTTPClientConnection) -> None:
        site = self._idle.pop(connection, None)
        if site is not None:
            del site.idle[connection]
            if not site.users and not site.idle:
                self._sites.pop(site.origin, None)

    # --- the caretaker -------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Drop what is idle for too long, and what the server has ended. A step."""
        for connection in tuple(self._idle):
            reuse = connection._reuse
            if reuse.engaged:
                continue
            if connection.phase is Phase.OPEN and now - reuse.idle_since >= self._idle_timeout:
                self._part(connection, Reason.IDLE_TIMEOUT)
            elif not reuse.is_silent():
                self._drop(connection, Event.PEER_GONE)
        if not self._idle:
            self._watched = False
            self._owner.caretaker.unwatch(self)

    def flush(self) -> None:
        """Nothing is ever left to be flushed."""
