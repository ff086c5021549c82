"""The connections of one server: which are open, how many may be, and what is counted of them.

A connection counts as open until its handler has ended *and* its endpoint is closed, wherever that was moved to. So
`ServedConnection` follows it through all its handles and scopes, and `Connections` has those that are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trio.lowlevel import ParkingLot, enable_ki_protection

from ..custody.drain_report import Forced
from ..ownership import Reason
from .crowding import Crowding
from .fault import Fault
from .follower import Follower

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..custody.owner import Owner

__all__ = ["Connections", "ServedConnection"]


class Connections:
    """What all parts of a server know of its connections."""

    __slots__ = (
        "accepted",
        "asking",
        "crowding",
        "draining",
        "ends",
        "faults",
        "grace",
        "most",
        "opened",
        "room",
        "stopped",
    )

    def __init__(self, most: float, most_per_address: float) -> None:
        self.most: Final = most
        """How many may be open; only a drain accepts more."""
        self.crowding: Final = Crowding(most_per_address)
        """How many each client has."""
        self.opened: dict[Owner, ServedConnection] = {}
        """Those that are open, by the owners of their scopes."""
        self.accepted = 0
        """How many there were since the server began."""
        self.faults = dict.fromkeys(Fault, 0)
        """How many errors there were on them, by whose fault it was."""
        self.ends = dict.fromkeys(Reason, 0)
        """How many have ended, by reason."""
        self.room = ParkingLot()
        """Where accept loops wait until there may be one more."""
        self.stopped = ParkingLot()
        """Where drains wait until the connections that they wait for have ended."""
        self.asking: set[Owner] = set()
        """The connections whose own handlers wait in `Server.drain`, which cannot wait for them."""
        self.draining = False
        """Whether a drain has begun."""
        self.grace = 0.0
        """Seconds for which the latest drain keeps a connection between two requests."""

    @enable_ki_protection
    def remove(self, owner: Owner) -> None:
        """This connection is not open any more. A step."""
        served = self.opened.pop(owner, None)
        if served is not None and served.client is not None:
            self.crowding.release(served.client)
        if self.room:  # whether a task waits there
            self.room.unpark_all()
        if self.stopped:
            self.look_again()

    def begin_asking(self, owners: Iterable[Owner]) -> None:
        """The handlers of these connections wait for a drain. A step."""
        self.asking.update(owners)
        self.look_again()

    def look_again(self) -> None:
        """Wake the drains, if all connections that they wait for may have ended. A step."""
        if self.stopped and len(self.opened) <= len(self.asking):
            self.stopped.unpark_all()


class ServedConnection(Follower):
    """One connection of a server, until its handler has ended and its endpoint is closed."""

    __slots__ = ("_connections", "_member", "_owner", "_parts", "client", "cut", "opened_at")

    def __init__(self, connections: Connections, owner: Owner, opened_at: str) -> None:
        self._connections = connections
        self._owner = owner
        self._parts = 2  # the handler and the endpoint
        self._member: Any = None
        self.opened_at = opened_at
        self.client: object = None
        """Whose connection it is, if that is counted."""
        self.cut = False
        """Whether a drain has cut it off, so that only its handler has yet to end."""

    @property
    def draining(self) -> bool:
        """As `Follower.draining`."""
        return self._connections.draining

    def comes_from(self, address: Any) -> bool:
        """It is the connection of a client with this address: whether that one may have it."""
        crowding = self._connections.crowding
        if crowding.is_full(address):
            self.count(Fault.CROWD)
            return False
        self.client = crowding.admit(address)
        return True

    def count(self, fault: Fault) -> None:
        """As `Follower.count`."""
        self._connections.faults[fault] += 1

    def moved_to(self, member: Any) -> None:
        """The endpoint belongs to this capsule or handle now; those before it are forgotten."""
        self._member = member

    def endpoint_closed(self) -> None:
        """The endpoint is closed."""
        self._done()

    def handler_done(self) -> None:
        """The handler has ended."""
        self._done()

    @enable_ki_protection
    def force(self, *, alone: bool) -> list[Forced]:
        """Close the endpoint if it lives on outside of the connection's scope: what was cut off. A step.

        Args:
            alone: Whether nothing else of the connection was cut off: then the handler itself is named, once.
        """
        member, was_cut, self.cut = self._member, self.cut, True
        if member is not None and member.end is None:
            name, blockers = repr(member), member.blockers
            member.abort()
            return [Forced(name, member.opened_at, Reason.ABORTED, blockers)]
        if not alone or was_cut:
            return []
        return [Forced(f"handler of {self._owner.name}, without a connection", self.opened_at, Reason.ABORTED, ())]

    def _done(self) -> None:
        self._parts -= 1
        if not self._parts:
            # The parts that knew each other forget each other, so that they do not make a cycle of garbage.
            self._member._forget_work()
            end, self._member = self._member.end, None
            if end is not None:
                self._connections.ends[end.reason] += 1
            self._connections.remove(self._owner)
