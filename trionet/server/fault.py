"""Whose fault it was that a handler ended with an exception: the peer's, the program's, or nobody's.

That is told by the handle that failed, not by the place where the exception came out. A handler uses many connections:
the one that it serves, and others of which its client knows nothing. Every error that a connection or its peer has
caused names its handle (`TrionetError.handle`). If that is the connection being served, in whatever protocol it was
then, the peer has done it: the handler has not failed, and a traceback would help nobody.

Everything else is the program's: what another connection, a memory channel or the handler itself has raised, also
where it was raised *from* an error of the peer's; and errors of the served connection that come of what the program
did to it, such as to use it after closing it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..errors import (
    HandleBrokenError,
    HandleClosedError,
    LimitExceededError,
    RemoteProtocolError,
    TrionetError,
    UpgradeFailedError,
    UpgradeRefusedError,
    leaves,
)
from ..ownership import Reason
from ..support.texts import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..handle.detached import Watcher

__all__ = ["Fault", "Judged", "Verdict", "fault_of_end", "judge", "only", "said"]


class Judged(Protocol):
    """What a handle tells its server: how it ended, and which follower its connection has."""

    _watcher: Watcher | None

    @property
    def _ended_by_peer(self) -> Reason | None: ...

    @property
    def _eof_seen(self) -> bool: ...


class Fault(StrEnum):
    """Whose fault, and for the peer's which kind: so it is counted in `ServerStatistics.peer_faults`."""

    PROGRAM = "program"
    NOBODY = "nobody"
    RESET = "reset"
    """The connection was reset, or failed."""
    LEFT = "left"
    """The peer left in the middle: EOF in a line, a body or a frame, or no close that tells of a normal end."""
    SILENT = "silent"
    """The peer said, read or answered nothing for too long."""
    PROTOCOL = "protocol"
    """The peer broke the protocol."""
    LIMIT = "limit"
    """More than is allowed: a line, a head, a body, a message."""
    HANDSHAKE = "handshake"
    """A handshake failed."""
    REFUSED = "refused"
    """A handshake or a method was refused, with an answer that says why."""
    CROWD = "crowd"
    """One address had more connections than it may have."""

    @property
    def words(self) -> str:
        """What the client did, as the log says it."""
        return _WORDS[self]

    @property
    def peers(self) -> bool:
        """Whether it is the peer's."""
        return self is not Fault.PROGRAM and self is not Fault.NOBODY


class Verdict(NamedTuple):
    """Whose fault it was, and the part of the exception that shows it."""

    fault: Fault
    error: BaseException


_WORDS: Final = {
    Fault.RESET: "reset the connection",
    Fault.LEFT: "left",
    Fault.SILENT: "was too slow",
    Fault.PROTOCOL: "broke the protocol",
    Fault.LIMIT: "sent too much",
    Fault.HANDSHAKE: "failed in the handshake",
    Fault.REFUSED: "was refused",
    Fault.CROWD: "has too many connections",
}
_BY_REASON: Final = {
    Reason.PEER_RESET: Fault.RESET,
    Reason.PEER_EOF: Fault.LEFT,
    Reason.IDLE_TIMEOUT: Fault.SILENT,
    Reason.PROTOCOL_ERROR: Fault.PROTOCOL,
}
_BY_STATUS: Final = {
    408: Fault.SILENT,
    413: Fault.LIMIT,
    414: Fault.LIMIT,
    431: Fault.LIMIT,
    501: Fault.REFUSED,
}


def judge(exc: BaseException, watcher: Watcher, *, draining: bool = False) -> Verdict:
    """Whose fault it is that the handler of the connection that `watcher` follows has raised `exc`.

    Of several errors at once, the program's count before the peer's, and the peer's before nobody's.

    Args:
        exc: What the handler raised; a group is judged by what is in it.
        watcher: The connection's follower, which all its handles have: by that they are recognised.
        draining: Whether the server drains: then a closed error is how a handler notices that.
    """

    def fault_of(leaf: BaseException) -> Fault:
        if draining and isinstance(leaf, HandleClosedError):
            return Fault.NOBODY
        if isinstance(leaf, TrionetError) and leaf.handle is not None and leaf.handle._watcher is watcher:
            return _on_its_own(leaf, leaf.handle)
        return Fault.PROGRAM

    found = [(fault_of(leaf), leaf) for leaf in leaves(exc)]
    if any(fault is Fault.PROGRAM for fault, _ in found):
        return Verdict(Fault.PROGRAM, only(_part(exc, lambda leaf: fault_of(leaf) is Fault.PROGRAM)))
    return Verdict(*next((one for one in found if one[0].peers), found[0]))


def fault_of_end(handle: Judged) -> Fault | None:
    """What the peer did if it has ended this handle, in the middle of something; None if it has not."""
    reason = handle._ended_by_peer
    return None if reason is None else _BY_REASON.get(reason)


def _on_its_own(error: TrionetError, handle: Judged) -> Fault:
    """Whose fault an error of the served connection is."""
    match error:
        case UpgradeRefusedError():
            return Fault.REFUSED
        case UpgradeFailedError():
            return Fault.HANDSHAKE
        case LimitExceededError():
            return Fault.LIMIT
        case RemoteProtocolError():
            if handle._eof_seen:
                return Fault.LEFT
            return _BY_STATUS.get(error.status_hint, Fault.PROTOCOL)
        case HandleClosedError() | HandleBrokenError():
            fault = fault_of_end(handle)
            if isinstance(error, HandleClosedError):
                if fault is None and error.end is None and handle._eof_seen:
                    return Fault.LEFT  # what was refused needs both directions
                if fault is not None and error.clean:
                    return Fault.NOBODY
            return fault or Fault.PROGRAM
    return Fault.PROGRAM


def _part(exc: BaseException, wanted: Callable[[BaseException], bool]) -> BaseException:
    """What is left of a group if only the `wanted` errors stay in it."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    part = exc.subgroup(lambda leaf: not isinstance(leaf, BaseExceptionGroup) and wanted(leaf))
    assert part is not None
    return part


def said(exc: BaseException) -> str:
    """What an exception says, on one line; its name if it says nothing, as `trio.TooSlowError` does."""
    return printable(exc) or type(exc).__name__


def only(exc: BaseException) -> BaseException:
    """The single error inside of groups, if there is just one."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
