"""The errors that a handle's refusals mean, with all that the reader of a log needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import HandleBrokenError, HandleBusyError, HandleClosedError, HandleMovedError
from ..ownership import Event, Phase, Receive, Refusal
from ..support.texts import amount

if TYPE_CHECKING:
    from ..ownership import Refuse
    from .inner import InnerHandle

__all__ = ["broken", "closed", "refusal", "scope_left", "self_wait"]


def refusal(handle: InnerHandle, refuse: Refuse, event: Event) -> Exception:
    """The error that this refusal of `event` means."""
    what = f"{event.value} refused: {handle!r}"
    match refuse.kind:
        case Refusal.MOVED:
            assert handle._end is not None
            successor = handle._end.successor
            return HandleMovedError(f"{what} ended; the connection lives on in {successor!r}: use that", handle._end)
        case Refusal.CLOSED:
            return handle._closed_error(what)
        case Refusal.SHUT:
            return HandleClosedError(f"{what} has sent EOF already; nothing can be sent after it")
        case Refusal.BROKEN:
            return handle._broken_error(what)
    return _busy(handle, what, event)


def _busy(handle: InnerHandle, what: str, event: Event) -> HandleBusyError:
    blockers = handle.blockers
    if handle._life.state.phase is Phase.CLAIMED:
        return HandleBusyError(f"{what}: an upgrade is under way; wait for its outcome", blockers)
    if handle._life.state.phase is Phase.RESERVED:
        return HandleBusyError(f"{what}: a task is waiting to detach it; nothing new can begin", blockers)
    held = "; ".join(map(str, blockers)) or "bytes that have not been sent yet"
    remedy = " (or detach_when_idle())" if event is Event.DETACH else ""
    return HandleBusyError(f"{what} is in use: {held}. Wait for it, or cancel it{remedy}", blockers)


def self_wait(handle: InnerHandle, event: Event) -> HandleBusyError:
    """The task that asks would wait for its own work."""
    blockers = handle.blockers
    held = "; ".join(map(str, blockers))
    return HandleBusyError(
        f"{event.value} refused: {handle!r} would wait for the task that asks: {held}. End that work first", blockers
    )


def closed(handle: InnerHandle, what: str) -> HandleClosedError:
    """The handle has ended, or is about to."""
    if handle._end is not None:
        return HandleClosedError(f"{what}{scope_left(handle)}", handle._end).with_handle(handle)
    life = handle._life
    if life.state.receive is Receive.EOF and life.state.phase is Phase.OPEN:
        why = "the peer has ended its direction (EOF); an upgrade needs both directions"
    elif life.retiring and life.state.phase is Phase.OPEN:
        why = "it is about to end and waits for no more input; what it has received stays unread"
    else:
        why = "it is being closed"
    return HandleClosedError(f"{what}: {why}").with_handle(handle)


def scope_left(handle: InnerHandle) -> str:
    """Where a handle is used after its scope was left, which says so; else nothing. It is the usual cause."""
    end, owner = handle._end, handle._owner
    if end is None or end.successor is not None or not owner.closed:
        return ""
    return f": its scope {owner.name or '(unnamed)'} was left; use it inside the block that opened it"


def broken(handle: InnerHandle, what: str) -> HandleBrokenError:
    """The connection has failed, or a send was abandoned half-way."""
    if handle._life.state.reset:
        why = f"the connection has failed ({handle._failure}); close it"
    else:
        sent = "an unknown number of bytes" if handle._torn is None else amount(handle._torn, "byte")
        why = f"a send was abandoned after {sent}, so the peer cannot find the next boundary; close it"
    return HandleBrokenError(f"{what}: {why}", handle._torn).with_handle(handle)
