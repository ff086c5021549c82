"""Where a served connection is, and whether it has ended: however often it was upgraded, and wherever it was moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from ..drain_report import Forced
from ..ownership import Reason

if TYPE_CHECKING:
    from ..owner import Owner
    from .server import Server

__all__ = ["Watched"]


class Watched:
    """Counts one connection until its handler has ended *and* its endpoint is closed, wherever that was moved to."""

    __slots__ = ("_member", "_owner", "_parts", "_server", "opened_at")

    def __init__(self, server: Server, owner: Owner, opened_at: str) -> None:
        self._server = server
        self._owner = owner
        self._parts = 2  # the handler and the endpoint
        self.opened_at = opened_at
        self._member: Any = None

    def moved_to(self, member: Any) -> None:
        """The endpoint belongs to this capsule or handle now; those before it are forgotten."""
        self._member = member

    def endpoint_closed(self) -> None:
        """The endpoint is closed."""
        self._member = None  # which knows this object: no cycle of garbage
        self._done()

    def handler_done(self) -> None:
        """The handler has ended."""
        self._done()

    @enable_ki_protection
    def force(self) -> Forced:
        """Close the endpoint if it lives on outside of the connection's scope; in any case, say what was cut off."""
        member = self._member
        if member is None:
            return Forced(f"handler of {self._owner.name}, without a connection", self.opened_at, Reason.ABORTED, ())
        name, blockers = repr(member), member.blockers
        member.abort()
        return Forced(name, member.opened_at, Reason.ABORTED, blockers)

    def _done(self) -> None:
        self._parts -= 1
        if not self._parts:
            self._server.forget(self._owner)
