"""The follower of a connection decides about its errors: whose fault they are, what is counted, what the log says.

Each connection has one `Follower`, which all of its handles hand on as they are upgraded and moved. On a server that
is its `ServedConnection`, which counts for the server; elsewhere an `Unserved`, which counts nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ..errors import LocalProtocolError
from ..support.texts import printable
from .fault import Fault, judge

if TYPE_CHECKING:
    from .fault import Judged, Verdict

__all__ = ["REMEDY", "STREAM_REMEDY", "Follower", "followed"]

REMEDY: Final = "await exchange.respond(...), exchange.stream(...) or exchange.upgrade(...)"
"""How an exchange is answered."""
STREAM_REMEDY: Final = "the end of the block async with exchange.stream(...) completes it"
"""How a response that has begun is completed."""
_LOG = logging.getLogger("trionet.server")


class Follower:
    """Follows one connection through all of its handles: a `Watcher` that judges, counts and logs."""

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


class Unserved(Follower):
    """Follows a connection that no server has accepted, such as one that a program gave to a handler by itself."""

    __slots__ = ("__weakref__",)


def followed(handle: Judged) -> Follower:
    """The follower of this handle's connection; a new one if there is none. A step."""
    follower = handle._watcher
    if not isinstance(follower, Follower):
        follower = handle._watcher = Unserved()
    return follower
