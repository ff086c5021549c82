"""Machines that are wrong on purpose. The search has to catch every one; else it proves nothing about the right one.

A mutation changes an entry of the table, or the machine that reads it, or the hands that carry its effects out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from trionet.ownership import TABLE, Effect, Event, Ownership, Phase, Reason, Refuse, Rule, Send

from ..helpers.states import but
from .bounds import EVERYDAY
from .search import Found, Search
from .state import Capsule, Handle
from .world import Machine, Step

Entry = Rule | Refuse
Changes = dict[tuple[Phase, Event], Entry]


@dataclass(frozen=True)
class Mutation:
    """One way to be wrong."""

    name: str
    table: Changes
    machine: type[Ownership] = Ownership
    hands: type[Step] = Step


def caught(mutation: Mutation) -> Found:
    """What the first search that notices it has found; the last search, if none does."""
    with _patched(mutation.table):
        for bounds in EVERYDAY:
            found = Search(bounds, Machine(mutation.machine), mutation.hands).run()
            if found.violation:
                break
    return found


@contextmanager
def _patched(changes: Changes) -> Iterator[None]:
    right = {key: TABLE[key] for key in changes}
    TABLE.update(changes)
    try:
        yield
    finally:
        TABLE.update(right)


def _rule(phase: Phase, event: Event) -> Rule:
    entry = TABLE[phase, event]
    assert isinstance(entry, Rule)
    return entry


def _without(phase: Phase, event: Event, *checks: str) -> Changes:
    """The entry without these checks, which must be there."""
    rule = _rule(phase, event)
    kept = tuple(check for check in rule.checks if check.name not in checks)
    assert len(kept) == len(rule.checks) - len(checks)
    return {(phase, event): replace(rule, checks=kept)}


def _without_effect(phase: Phase, event: Event, effect: Effect) -> Changes:
    rule = _rule(phase, event)
    assert effect in rule.effects
    return {(phase, event): replace(rule, effects=tuple(each for each in rule.effects if each is not effect))}


def _like(phase: Phase, event: Event, other: Phase) -> Changes:
    """The event does in `phase` what it does in `other`."""
    return {(phase, event): TABLE[other, event]}


def _nothing(phase: Phase, event: Event) -> Changes:
    return {(phase, event): Rule()}


# --- wrong machines --------------------------------------------------------------------------------------------------


class LastReasonWins(Ownership):
    __slots__ = ()

    def apply(self, event: Event) -> tuple[Effect, ...] | Refuse:
        answer = self.decide(event)
        if isinstance(answer, Rule) and answer.reason is not None:
            self.state = but(self.state, reason=None)
        return super().apply(event)


class RefusedEofShuts(Ownership):
    __slots__ = ()

    def apply(self, event: Event) -> tuple[Effect, ...] | Refuse:
        answer = super().apply(event)
        if event is Event.SEND_EOF and isinstance(answer, Refuse):
            self.state = but(self.state, send=Send.SHUT)
        return answer


class ForgetsToSettle(Ownership):
    __slots__ = ()

    def apply(self, event: Event) -> tuple[Effect, ...] | Refuse:
        answer = self.decide(event)
        if event is Event.LEASE_ENDED and isinstance(answer, Rule) and self.state.leases:
            self.state = but(self.state, leases=self.state.leases - 1)
            return ()
        return super().apply(event)


# --- wrong hands -----------------------------------------------------------------------------------------------------


class LeftoverDropped(Step):
    def successor(self, i: int) -> Handle:
        return super().successor(i)._replace(leftover=())


class LeftoverTwice(Step):
    def hand_over(self, i: int) -> None:
        leftover = self.handle(i).leftover
        super().hand_over(i)
        self.put(i, leftover=leftover)


class InjectedKept(Step):
    """The handle ends, but what the handshake had received waits in it."""

    def release(self, i: int) -> None:
        wire = self.handle(i).wire
        super().release(i)
        if self.injected and wire is not None:
            self.put(i, leftover=wire.consumed + wire.unread)


class StaysInOldScope(Step):
    def hand_over(self, i: int) -> None:
        old = list(self.members[self.handle(i).scope])
        super().hand_over(i)
        self.members[self.handle(i).scope] = old


class CapsuleUnowned(Step):
    def into_capsule(self, i: int) -> None:
        super().into_capsule(i)
        self.unregister(len(self.nodes) - 1)


class CapsuleForgetsEof(Step):
    def into_capsule(self, i: int) -> None:
        super().into_capsule(i)
        capsule = self.nodes[-1]
        assert isinstance(capsule, Capsule)
        self.nodes[-1] = capsule._replace(receive_ended=False)


class HandshakeGoesOn(Step):
    def interrupt(self, i: int) -> None:
        wire = self.handle(i).wire
        super().interrupt(i)
        self.put(i, wire=wire)


class ReleasedTwice(Step):
    def let_go(self, scope: int, event: Event) -> None:
        members = tuple(self.members[scope])
        super().let_go(scope, event)
        for i in members:
            self.release(i)


class EndBeforeReset(Step):
    """The order of the two events that a failed operation causes, the wrong way round."""

    def operation_failed(self, i: int, failure: Event, ended: Event) -> None:
        self.poison = True
        self.take(i, ended)
        self.take(i, failure)


class EofInTwoEvents(Step):
    """First the write ends, then EOF is asked for: between the two, somebody else may have been let in."""

    def eof_sent(self, i: int) -> None:
        self.shut = True
        life, _ = self.machine.step(self.handle(i).life, Event.SEND_ENDED)
        self.put(i, life=life)
        self.take(i, Event.SEND_EOF)


class ResetForgotten(Step):
    """The handshake saw the reset; the handle that is open again does not know of it."""

    def handshake_undone(self, i: int, failure: Event | None) -> None:
        self.poison = self.poison or failure is not None
        self.take(i, Event.RESTORED)


class CapsuleSurvives(Step):
    def close_capsule(self, i: int) -> None:
        if "leaving" not in self.scopes:
            super().close_capsule(i)


# --- the list --------------------------------------------------------------------------------------------------------

_QUIET = "nothing in progress"


def mutations() -> list[Mutation]:
    """All of them, each with a name that says what is wrong."""
    kept_open = replace(_rule(Phase.CLAIMED, Event.ACCEPTED), phase=Phase.OPEN, reason=None)
    closes_successor = Rule(effects=(Effect.RELEASE,))
    return [
        Mutation("upgrade does not ask for quiescence", _without(Phase.OPEN, Event.UPGRADE, _QUIET)),
        Mutation("detach does not look at operations", _without(Phase.OPEN, Event.DETACH, _QUIET)),
        Mutation("transfer does not look at operations", _without(Phase.OPEN, Event.TRANSFER, _QUIET)),
        Mutation(
            "upgrade does not ask for an open send side", _without(Phase.OPEN, Event.UPGRADE, "sending not ended")
        ),
        Mutation("a second lease does not hinder an upgrade", _any_lease()),
        Mutation("a broken connection can be detached", _without(Phase.OPEN, Event.DETACH, "not poisoned")),
        Mutation(
            "aclose of an old handle closes the successor's endpoint", {(Phase.MOVED, Event.ACLOSE): closes_successor}
        ),
        Mutation("a second reader is let in", _without(Phase.OPEN, Event.RECEIVE, "no reader")),
        Mutation("reserving: a new lease is granted", _like(Phase.RESERVED, Event.LEASE, Phase.OPEN)),
        Mutation("reserving: a new send is let in", _like(Phase.RESERVED, Event.SEND, Phase.OPEN)),
        Mutation("draining: a new receive is let in", _like(Phase.DRAINING, Event.RECEIVE, Phase.OPEN)),
        Mutation("reserving: cancelled, but the door stays shut", _nothing(Phase.RESERVED, Event.RESERVE_CANCELLED)),
        Mutation("reserving: a torn write does not open the door", _like(Phase.RESERVED, Event.SEND_TORN, Phase.OPEN)),
        Mutation("reserving: a reset does not open the door", _like(Phase.RESERVED, Event.PEER_RESET, Phase.OPEN)),
        Mutation(
            "a cut-off counts as a reset", {(Phase.OPEN, Event.PEER_CUT_OFF): _rule(Phase.OPEN, Event.PEER_RESET)}
        ),
        Mutation("a cut-off is forgotten by aclose", _without(Phase.OPEN, Event.ACLOSE, "not cut off by the peer")),
        Mutation("reserving: a cut-off does not open the door", _like(Phase.RESERVED, Event.PEER_CUT_OFF, Phase.OPEN)),
        Mutation("the last lease ends and nobody looks", {}, ForgetsToSettle),
        Mutation("accepted, but the old handle stays open", {(Phase.CLAIMED, Event.ACCEPTED): kept_open}),
        Mutation("undone, but nothing is put back", _without_effect(Phase.CLAIMED, Event.RESTORED, Effect.PUT_BACK)),
        Mutation(
            "injected plaintext is put back", {(Phase.CLAIMED, Event.INJECTED): _rule(Phase.CLAIMED, Event.RESTORED)}
        ),
        Mutation("injected plaintext survives the end", {}, hands=InjectedKept),
        Mutation(
            "refused, but the unread rest is dropped", _without_effect(Phase.CLAIMED, Event.REFUSED, Effect.KEEP_REST)
        ),
        Mutation(
            "drain done in spite of a lease", _without(Phase.DRAINING, Event.DRAINED, "no operation and no lease")
        ),
        Mutation("drain does not wake the bare reader", _without_effect(Phase.OPEN, Event.ACLOSE, Effect.WAKE_READER)),
        Mutation("drain is not told that the work is over", _without_effect(Phase.DRAINING, Event.QUIET, Effect.DRAIN)),
        Mutation(
            "aclose of a claimed handle does nothing but say so", {(Phase.CLAIMED, Event.ACLOSE): _closed_in_name()}
        ),
        Mutation("the scope's deadline spares a claimed handle", _nothing(Phase.CLAIMED, Event.SCOPE_DEADLINE)),
        Mutation("a cancelled scope spares a draining handle", _nothing(Phase.DRAINING, Event.SCOPE_CANCELLED)),
        Mutation("abort works on an ended handle", _like(Phase.MOVED, Event.ABORT, Phase.OPEN)),
        Mutation("the last reason wins", _like(Phase.CLOSED, Event.ABORT, Phase.OPEN), LastReasonWins),
        Mutation("a refused send eof ends sending", {}, RefusedEofShuts),
        Mutation("leftover is dropped by an upgrade", {}, hands=LeftoverDropped),
        Mutation("leftover goes to the successor and stays", {}, hands=LeftoverTwice),
        Mutation("a transfer does not leave the old scope", {}, hands=StaysInOldScope),
        Mutation("a capsule belongs to no scope", {}, hands=CapsuleUnowned),
        Mutation("a capsule forgets the peer's EOF", {}, hands=CapsuleForgetsEof),
        Mutation("a scope that ends does not close its capsule", {}, hands=CapsuleSurvives),
        Mutation("a handshake goes on after its handle was closed", {}, hands=HandshakeGoesOn),
        Mutation("the endpoint is released twice", {}, hands=ReleasedTwice),
        Mutation("an operation's end is told before the reset that ended it", {}, hands=EndBeforeReset),
        Mutation("EOF is told in two events", {}, hands=EofInTwoEvents),
        Mutation("a reset during an undone handshake is forgotten", {}, hands=ResetForgotten),
    ]


def _any_lease() -> Changes:
    return _without(Phase.OPEN, Event.UPGRADE_LEASED, "nothing in progress but the lease that asks")


def _closed_in_name() -> Rule:
    return Rule(phase=Phase.CLOSED, reason=Reason.LOCAL, effects=(Effect.INTERRUPT,))
