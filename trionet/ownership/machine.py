"""The machine: what a handle is in, and the only code that changes it."""

from __future__ import annotations

from typing import Final

from .state import state_of
from .table import TABLE, Rule
from .words import Effect, Event, Receive, Refuse, Send

__all__ = ["Ownership"]

_RECEIVE_IDLE: Final = Receive.IDLE
_SEND_IDLE: Final = Send.IDLE
_NEW: Final = state_of()


class Ownership:
    """One handle's machine: `decide` asks the table, `apply` takes an event.

    Attributes:
        state: The state that the handle is in. Only `apply` changes it, and a `ShortCut` where microseconds count.
        retiring: The handle closes gracefully as soon as its user waits for input: a server drains.
        looked: A handle that retires has taken what had arrived by then: that is done once.
        grace: Seconds for which a handle that retires may wait for a next request all the same.
    """

    __slots__ = ("grace", "looked", "retiring", "state")

    def __init__(self, receive: Receive = Receive.IDLE, send: Send = Send.IDLE) -> None:
        self.state = _NEW if receive is _RECEIVE_IDLE and send is _SEND_IDLE else state_of(receive=receive, send=send)
        self.retiring = False
        self.looked = False
        self.grace = 0.0

    def decide(self, event: Event) -> Rule | Refuse:
        """What this event would lead to now. Changes nothing."""
        state = self.state
        entry = TABLE[state.phase, event]
        if isinstance(entry, Rule):
            for check in entry.checks:
                if not check.holds(state):
                    return check.otherwise
        return entry

    def apply(self, event: Event) -> tuple[Effect, ...] | Refuse:
        """Take the event: the effects that follow from it, or the refusal. A refused event changes nothing."""
        rule = self.decide(event)
        if isinstance(rule, Refuse):
            return rule
        state = self.state
        self.state = state = state_of(
            phase=rule.phase or state.phase,
            reason=state.reason or rule.reason,
            receive=rule.receive or state.receive,
            send=rule.send or state.send,
            leases=state.leases + rule.leases,
            unsent=state.unsent if rule.unsent is None else rule.unsent,
            reset=state.reset or rule.reset,
            cut_off=state.cut_off or rule.cut_off,
        )
        if rule.settles and state.quiet:
            more = self.apply(Event.QUIET)
            assert not isinstance(more, Refuse)
            return rule.effects + more
        return rule.effects

    # --- a server's drain, which looks before it ends a handle ----------------------------------------------------

    def retire(self, grace: float) -> None:
        """The handle is to end as soon as its user waits for input."""
        self.retiring = True
        self.grace = grace

    def look(self) -> bool:
        """Whether what has arrived is still to be taken, now: True once."""
        first, self.looked = not self.looked, True
        return first

    def renewed(self) -> Ownership:
        """The machine of a handle that is made of this one in the middle of its life: with nothing in progress."""
        machine = Ownership(self.state.receive, self.state.send)
        machine.retiring, machine.looked, machine.grace = self.retiring, self.looked, self.grace
        return machine
