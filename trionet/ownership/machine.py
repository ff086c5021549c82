"""The machine: a state, and the only code that changes it."""

from __future__ import annotations

from .state import State
from .table import TABLE, Rule
from .words import Effect, Event, Refuse

__all__ = ["Ownership"]


class Ownership(State):
    """One handle's machine: `decide` asks the table, `apply` takes an event."""

    __slots__ = ()

    def decide(self, event: Event) -> Rule | Refuse:
        """What this event would lead to now. Changes nothing."""
        answer = TABLE[self.phase, event]
        if isinstance(answer, Rule):
            for check in answer.checks:
                if not check.holds(self):
                    return check.otherwise
        return answer

    def apply(self, event: Event) -> tuple[Effect, ...] | Refuse:
        """Take the event: the effects that follow from it, or the refusal. A refused event changes nothing."""
        answer = self.decide(event)
        if isinstance(answer, Refuse):
            return answer
        if answer.phase is not None:
            self.phase = answer.phase
        if answer.reason is not None and self.reason is None:
            self.reason = answer.reason
        if answer.receive is not None:
            self.receive = answer.receive
        if answer.send is not None:
            self.send = answer.send
        self.leases += answer.leases
        self.reset = self.reset or answer.reset
        self.cut_off = self.cut_off or answer.cut_off
        if answer.settles and self.quiet:
            more = self.apply(Event.QUIET)
            assert not isinstance(more, Refuse)
            return answer.effects + more
        return answer.effects
