"""How an event gets into a handle: the machine decides, and what it decides is carried out in the same step.

This is the only door. It has three outcomes. The machine refuses: nothing has changed, and the refusal is raised as the
error that it means (`refusals`). The machine accepts: the effects that it names are carried out (`effects`), in their
order. Where that has changed the phase, the handle and everybody who waits for it are told.

Hot paths do not come by here with each operation: a `ShortCut` of `ownership.shortcuts` is the table's own answer to an
event that has no effects, remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import outcome
from trio.lowlevel import enable_ki_protection

from ..errors import HandleClosedError
from ..ownership import End, Event, Phase, Refuse
from ..ownership.shortcuts import CLOSE_QUIET
from .effects import CARRY_OUT

if TYPE_CHECKING:
    from .inner import InnerHandle

__all__ = ["close_quiet", "note_end", "take"]

_MOVED: Final = Phase.MOVED
_CLOSED: Final = Phase.CLOSED
_INSIDE: Final = (
    Event.SEND_LEASED, Event.LEASE_ENDED, Event.ACCEPTED, Event.DRAINED, Event.SEND_ENDED, Event.RECEIVE_ENDED,
)  # fmt: skip
"""Events of work that has passed a check of the run when it began: nobody takes them from another thread."""


@enable_ki_protection
def take(handle: InnerHandle, event: Event) -> None:
    """Take `event` and carry out its effects, in one step; raise what its refusal means."""
    before = handle._life.state.phase
    owner = handle._owner
    if owner is None:
        raise HandleClosedError(
            f"{event.value} refused: {handle!r} was made by a recipe that has another successor, so nobody owns it"
        )
    if before is not _MOVED and before is not _CLOSED and event not in _INSIDE:
        owner.check_run(event)
    effects = handle._life.apply(event)
    if isinstance(effects, Refuse):
        raise handle._refusal(effects, event)
    for effect in effects:
        CARRY_OUT[effect](handle)
    if handle._life.state.phase is not before:
        handle._phase_changed(before)


@enable_ki_protection
def close_quiet(handle: InnerHandle) -> None:
    """Close gracefully a handle on which nothing is in progress, and that has nothing left to say. A step.

    Whoever observes the handle sees each of the two events.
    """
    before = handle._life.state.phase
    if handle._owner.observer is not None or (effects := CLOSE_QUIET.take(handle._life)) is None:
        handle._take(Event.ACLOSE)
        handle._take(Event.DRAINED)  # it has been closed by the first where the connection had failed
        return
    for effect in effects:
        CARRY_OUT[effect](handle)
    handle._phase_changed(before)


def note_end(handle: InnerHandle) -> None:
    """The handle has ended without a successor: its `End`, with the failure that ended it, if any."""
    assert handle._life.state.reason is not None
    result = outcome.Value(None) if handle._failure is None else outcome.Error(handle._failure)
    handle._end = End(handle._life.state.reason, None, result)
