"""Taking a connection out of its handle: when the work in progress has ended, and into another scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from ..custody.owner import Owner
from ..ownership import Event, Phase, Refuse
from ..support.attributes import attributes
from . import refusals
from .inner import InnerHandle

if TYPE_CHECKING:
    from .detached import Detached

__all__ = ["detach", "detach_when_idle", "transfer"]

Kind = TypeVar("Kind", bound=InnerHandle)


@enable_ki_protection
def detach(handle: InnerHandle, event: Event = Event.DETACH) -> Detached:
    """See `Handle.detach`. A step."""
    handle._take(event)
    assert handle._end is not None
    capsule: Detached = handle._end.successor
    return capsule


@enable_ki_protection
async def detach_when_idle(handle: InnerHandle) -> Detached:
    """See `Handle.detach_when_idle`."""
    await trio.lowlevel.checkpoint_if_cancelled()
    if isinstance(refuse := handle._life.decide(Event.RESERVE), Refuse):
        raise handle._refusal(refuse, Event.RESERVE)
    if handle._waits_for_asker():
        raise refusals.self_wait(handle, Event.RESERVE)
    await _become_quiet(handle)
    what = f"{Event.RESERVE.value} refused: {handle!r}"
    if handle._life.state.phase is Phase.CLAIMED:
        return detach(handle, Event.DETACH_CLAIMED)
    if handle._life.state.phase is Phase.OPEN:
        raise handle._broken_error(what)
    raise handle._closed_error(f"{what}: it was closed while a task waited to detach it")


@enable_ki_protection
async def _become_quiet(handle: InnerHandle) -> None:
    """Shut the door, and wait until the machine says how that went.

    Cancellation: the door is open again.
    """
    handle._quiet = quiet = trio.Event()
    handle._take(Event.RESERVE)
    try:
        await quiet.wait()
    except BaseException:
        handle._take(Event.RESERVE_CANCELLED)
        raise
    finally:
        if handle._quiet is quiet:
            handle._quiet = None


@enable_ki_protection
def transfer(handle: Kind, scope: Any) -> Kind:
    """See `Handle.transfer`. A step."""
    target = getattr(scope, "_owner", None)
    if not isinstance(target, Owner) or target.public is not scope:  # a handle has an owner too
        raise TypeError(f"transfer needs a trionet scope (of open_scope), not {scope!r}")
    target.check_run("transfer")
    target.check_open("transfer")
    if isinstance(refuse := handle._life.decide(Event.TRANSFER), Refuse):
        raise handle._refusal(refuse, Event.TRANSFER)
    successor = _twin(handle)
    handle._next = (successor, target)
    handle._take(Event.TRANSFER)
    return successor


def _twin(handle: Kind) -> Kind:
    """A new handle with everything that belongs to the connection."""
    twin = object.__new__(type(handle))
    for name, value in attributes(handle).items():
        if name not in handle._OWN:
            object.__setattr__(twin, name, value)
    twin._life = handle._life.renewed()
    twin._renew()
    return twin
