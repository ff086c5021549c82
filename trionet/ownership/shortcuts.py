"""Short cuts through the table, for operations that count in microseconds.

Asking the table takes some calls, and most operations end where they began: a receive begins on an open handle, and
ends. So each short cut is what the table has said about one event, remembered state by state: the state that follows,
or None where there is more to it (a refusal, an effect to be carried out, or nothing at all). It is used like this, and
in no other way::

    if (busy := RECEIVE[life.state]) is None:
        ...  # ask the table: `Handle._take`
    life.state = busy

Two look-ups and no call; and a short cut cannot say anything else than the table does, since it asks the machine the
first time. Rejected: tests and assignments written out at each place, which were a second statement of the table's
rules; and methods for them, since a call costs as much as all the rest of the bracket.
"""

from __future__ import annotations

from typing import Final

from .machine import Ownership
from .state import State
from .words import Effect, Event, Refuse

__all__ = [
    "ARRIVED_LEASE",
    "BUFFERED",
    "CLOSE_QUIET",
    "LEASE",
    "LEASE_ENDED",
    "RECEIVE",
    "RECEIVE_ENDED",
    "SEND",
    "SEND_ENDED",
    "ShortCut",
    "ShortWay",
]


class ShortCut(dict[State, State | None]):
    """Where one event leads to, as far as that is a change of the state and nothing else."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event

    def __missing__(self, state: State) -> State | None:
        machine = Ownership()
        machine.state = state
        effects = machine.apply(self.event)
        alone = not isinstance(effects, Refuse) and not effects and machine.state is not state
        self[state] = after = machine.state if alone else None
        return after


class ShortWay(dict[State, tuple[State, tuple[Effect, ...]] | None]):
    """Where several events in a row lead to, and their effects in order, each once; None if one of them is refused."""

    def __init__(self, *events: Event) -> None:
        super().__init__()
        self.events = events

    def take(self, machine: Ownership) -> tuple[Effect, ...] | None:
        """Let the machine take the events: their effects; None, and nothing has changed, if one is refused."""
        if (way := self[machine.state]) is None:
            return None
        machine.state, effects = way
        return effects

    def __missing__(self, state: State) -> tuple[State, tuple[Effect, ...]] | None:
        machine = Ownership()
        machine.state = state
        effects: dict[Effect, None] = {}
        for event in self.events:
            found = machine.apply(event)
            if isinstance(found, Refuse):
                self[state] = None
                return None
            effects.update(dict.fromkeys(found))
        self[state] = way = (machine.state, tuple(effects))
        return way


RECEIVE: Final = ShortCut(Event.RECEIVE)
RECEIVE_ENDED: Final = ShortCut(Event.RECEIVE_ENDED)
SEND: Final = ShortCut(Event.SEND)
SEND_ENDED: Final = ShortCut(Event.SEND_ENDED)
LEASE: Final = ShortCut(Event.LEASE)
ARRIVED_LEASE: Final = ShortCut(Event.ARRIVED_LEASE)
LEASE_ENDED: Final = ShortCut(Event.LEASE_ENDED)
BUFFERED: Final = ShortCut(Event.BUFFERED)
CLOSE_QUIET: Final = ShortWay(Event.ACLOSE, Event.DRAINED)
"""A graceful close in which nothing has to be waited for: its two events in one step, for one that nobody observes."""
