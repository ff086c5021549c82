"""One served connection: where it is, whether it has ended, and what its handler has come to.

However often it was upgraded and wherever it was moved, its handles have the same `Watched`: so they are known.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from trio.lowlevel import enable_ki_protection

from ..custody.drain_report import Forced
from ..errors import LocalProtocolError
from ..ownership import Reason
from ..support.texts import printable
from .fault import Fault, judge

if TYPE_CHECKING:
    from ..custody.owner import Owner
    from .fault import Verdict
    from .server import Server

__all__ = ["REMEDY", "STREAM_REMEDY", "Follower", "Unwatched", "Watched", "followed"]

REMEDY: Final = "await exchange.respond(...), exchange.stream(...) or exchange.upgrade(...)"
"""How an exchange is answered."""
STREAM_REMEDY: Final = "the end of the block async with exchange.stream(...) completes it"
"""How an answer that has begun is completed."""
_LOG = logging.getLogger("trionet.server")


class Follower:
    """Who decides about the errors of a connection: whose they are, what is counted, and what the log says."""

    __slots__ = ()

    @property
    def draining(self) -> bool:
        """Whether the server drains."""
        return False

    def count(self, fault: Fault) -> None:
        """Count a fault."""

    def moved_to(self, member: Any) -> None:
        """As `Watcher.moved_to`."""

    def endpoint_closed(self) -> None:
        """As `Watcher.endpoint_closed`."""

    def left_unanswered(self, exchange: Any) -> None:
        """As `Watcher.left_unanswered`."""
        self.count(Fault.PROGRAM)
        what = f"unfinished: {STREAM_REMEDY}" if exchange.status else f"without an answer: {REMEDY}"
        error = LocalProtocolError(f"the handler has left {exchange!r} {what}")
        _LOG.error("%s", error, exc_info=error)

    def judge(self, exc: BaseException) -> Verdict:
        """Whose fault it is that the handler has raised `exc`; it is counted."""
        verdict = judge(exc, self, draining=self.draining)
        self.count(verdict.fault)
        return verdict

    def say(self, verdict: Verdict, what: object) -> None:
        """Log what was not the program's fault: one line, without a traceback."""
        fault, error = verdict
        if fault.peers:
            _LOG.info("%s: the client %s: %s", what, fault.words, printable(error))
        else:
            _LOG.debug("%s has ended: %s", what, printable(error))


class Unwatched(Follower):
    """Follows a connection that no server serves."""

    __slots__ = ("__weakref__",)


def followed(handle: Any) -> Follower:
    """Who decides about the errors of this handle's connection. A step."""
    if not isinstance(handle._watcher, Follower):
        handle._watcher = Unwatched()
    found: Follower = handle._watcher
    return found


class Watched(Follower):
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
        self._done()

    @property
    def draining(self) -> bool:
        """As `Follower.draining`."""
        return self._server.draining

    def count(self, fault: Fault) -> None:
        """As `Follower.count`."""
        self._server.count(fault)

    def handler_done(self) -> None:
        """The handler has ended."""
        self._done()

    @enable_ki_protection
    def force(self, *, alone: bool) -> list[Forced]:
        """Close the endpoint if it lives on outside of the connection's scope: what was cut off. A step.

        Args:
            alone: Whether the handler itself is to be named, if nothing else was cut off.
        """
        member = self._member
        if member is not None and member.end is None:
            name, blockers = repr(member), member.blockers
            member.abort()
            return [Forced(name, member.opened_at, Reason.ABORTED, blockers)]
        if not alone:
            return []
        return [Forced(f"handler of {self._owner.name}, without a connection", self.opened_at, Reason.ABORTED, ())]

    def _done(self) -> None:
        self._parts -= 1
        if not self._parts:
            # Who knew each other forget each other: no cycle of garbage.
            self._member._forget_work()
            self._member = None
            self._server.forget(self._owner)
