"""Which connection a request gets: the pool of a client.

Theory of operation. A request that holds its slots (`sites`) takes the connection to its origin that became idle last,
if the server has said nothing on it since (`reuse`), and opens a new one otherwise. The last one, because the server is
least likely to be closing it, and so that connections which are not needed grow old and expire.

There are never more connections than slots, as long as idle ones make room: before a new one is opened, those that are
idle for longest are closed until there is room for it. The slot is taken first and the room is made then, so no
request ever waits for a connection to end; one that says goodbye (TLS) does not count, which takes a second at most.

A connection becomes idle with the end of its response (`put`) and leaves the pool in one of four ways: a request takes
it; it is too old; the server ends it or says something unasked, which the next tick of the caretaker notices; or it
makes room for another. Whoever kept a connection from a response may have taken it in hand: one that is *engaged* stays
in the pool and is passed over.

Not done: handing a connection that becomes idle to a request that is just opening one. That saves some time now and
then, and takes an account of who waits for what that has to be kept true through every cancellation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from ...ownership import Event, Phase, Reason
from ...support.checks import check_count
from .retry import mark_unsent, unreachable
from .sites import Slots
from .statistics import HTTPClientStatistics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...custody.owner import Owner
    from .connection import HTTPClientConnection
    from .sites import Site

__all__ = ["Pool"]


class Pool:
    """The connections of one client.

    Args:
        owner: Owns the connections.
        connect: Opens one to an origin.
        idle_timeout: Seconds for which a connection stays idle at most.
        max_connections: To all origins together.
        max_connections_per_origin: To one of them.

    Attributes:
        slots: For its requests.
        retried: Requests that were sent again because the connection they were first sent on had died.
    """

    def __init__(
        self,
        owner: Owner,
        connect: Callable[..., Awaitable[HTTPClientConnection]],
        idle_timeout: float,
        max_connections: int,
        max_connections_per_origin: int,
    ) -> None:
        check_count("max_connections", max_connections, 1)
        check_count("max_connections_per_origin", max_connections_per_origin, 1)
        self.slots = Slots(owner, max_connections, max_connections_per_origin)
        self.retried = 0
        self._owner = owner
        self._connect = connect
        self._idle_timeout = idle_timeout
        self._max_connections = max_connections
        self._open: dict[HTTPClientConnection, None] = {}
        self._idle: dict[HTTPClientConnection, Site] = {}
        self._connecting: set[trio.CancelScope] = set()
        self._watched = False
        self._opened = self._reused = self._dropped = 0

    def statistics(self) -> HTTPClientStatistics:
        """Figures for now. Never raises."""
        return HTTPClientStatistics(
            open=len(self._open),
            idle=len(self._idle),
            running=self.slots.running,
            waiting=self.slots.waiting,
            opened=self._opened,
            reused=self._reused,
            retried=self.retried,
            dropped=self._dropped,
        )

    @enable_ki_protection
    def shut(self) -> None:
        """The client is about to close: wake the tasks that wait for a slot or a connection. A step."""
        self._owner.shut_door()
        self._owner.caretaker.unwatch(self)
        self.slots.wake_all()
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
        self.slots.check_open()
        self._make_room()
        with trio.CancelScope() as scope:
            self._connecting.add(scope)
            try:
                connection = await self._connect(site.origin, *details)
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
        self.slots.check_open()
        raise AssertionError("only a client that closes cancels its attempts to connect")

    def _make_room(self) -> None:
        """Close the connections that have been idle for longest, if there are as many as there may be.

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
        """Take out an idle connection that is unfit for use, and end it."""
        self._dropped += 1
        self._leave_idle(connection)
        if connection.phase is Phase.OPEN:  # else its user is closing it
            connection._reuse.give_up(event)

    def _part(self, connection: HTTPClientConnection, reason: Reason) -> None:
        """Take out an idle connection that is not wanted any more, and close it gracefully."""
        self._dropped += 1
        self._leave_idle(connection)
        connection._reuse.part(reason)

    def _forget(self, connection: HTTPClientConnection) -> None:
        """Take out a connection that has ended or moved."""
        self._open.pop(connection, None)
        self._leave_idle(connection)

    def _leave_idle(self, connection: HTTPClientConnection) -> None:
        site = self._idle.pop(connection, None)
        if site is not None:
            del site.idle[connection]
            self.slots.forget_unused(site)

    # --- the caretaker -------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Drop connections that have been idle for too long, or that the server has ended. A step."""
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
