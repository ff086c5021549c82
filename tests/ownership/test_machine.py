"""The ownership machine, in three ways: against the contract's table by hand, by search, and by its own mutations."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.states import but
from tests.model.bounds import EVERYDAY, SOAK, Bounds
from tests.model.mutations import Mutation, caught, mutations
from tests.model.search import Search
from trionet.ownership import (
    TABLE,
    Effect,
    Event,
    Ownership,
    Phase,
    Reason,
    Receive,
    Refuse,
    Rule,
    Send,
    State,
    state_of,
)

ROOT = Path(__file__).parents[2]

# The contract's table, written down a second time: what happens to a handle with nothing in progress. A refusal by its
# kind, "-" for nothing at all, else what changes. The columns are OPEN, RESERVED, CLAIMED, DRAINING, MOVED, CLOSED.
CONTRACT = {
    Event.RECEIVE: "receive=busy | busy | busy | closed | moved | closed",
    Event.RECEIVE_LEASED: "receive=busy | receive=busy | busy | receive=busy | moved | closed",
    Event.RECEIVE_ENDED: "- | - | - | - | - | -",
    Event.SEND: "send=busy | busy | busy | closed | moved | closed",
    Event.SEND_LEASED: "send=busy | send=busy | busy | send=busy | moved | closed",
    Event.SEND_ENDED: "- | - | - | - | - | -",
    Event.SEND_TORN: "- | - | - | - | - | -",
    Event.SEND_EOF: "send=shut | busy | busy | closed | moved | closed",
    Event.EOF_SENT: "- | - | - | - | - | -",
    Event.LEASE: "leases=1 | busy | busy | closed | moved | closed",
    Event.ARRIVED_LEASE: "leases=1 | busy | busy | leases=1 | moved | closed",
    Event.LEASE_ENDED: "- | - | - | - | - | -",
    Event.BUFFERED: "unsent | unsent | unsent | unsent | - | -",
    Event.FLUSHED: "- | claimed | - | drain | - | -",
    Event.QUIET: "- | claimed | - | drain | - | -",
    Event.DETACH: "moved (detached) | busy | busy | closed | moved | closed",
    Event.RESERVE: "claimed | busy | busy | closed | moved | closed",
    Event.RESERVE_CANCELLED: "- | open | open | - | - | -",
    Event.DETACH_CLAIMED: "busy | busy | moved (detached) | closed | moved | closed",
    Event.TRANSFER: "moved (transferred) | busy | busy | closed | moved | closed",
    Event.UPGRADE: "claimed | busy | busy | closed | moved | closed",
    Event.UPGRADE_LEASED: "busy | busy | busy | closed | moved | closed",
    Event.ACCEPTED: "busy | busy | moved (upgraded) | closed | moved | closed",
    Event.REFUSED: "- | - | open | - | - | -",
    Event.RESTORED: "- | - | open | - | - | -",
    Event.FAILED: "- | - | closed (upgrade failed) | - | - | -",
    Event.INJECTED: "- | - | closed (upgrade failed) | - | - | -",
    Event.PEER_EOF: "receive=eof | claimed receive=eof | - | receive=eof drain | - | -",
    Event.PEER_RESET: "reset | open reset | - | closed (peer reset) | - | -",
    Event.PEER_CUT_OFF: "reset cut_off | open reset cut_off | - | closed (peer eof) | - | -",
    Event.PEER_GONE: "closed (peer eof) | closed (peer eof) | - | closed (peer eof) | - | -",
    Event.PROTOCOL_ERROR: (
        "closed (protocol error) | closed (protocol error) | closed (upgrade failed) | closed (protocol error) | - | -"
    ),
    Event.IDLE_TIMEOUT: "closed (idle timeout) | closed (idle timeout) | - | closed (idle timeout) | - | -",
    Event.IDLE_CLOSE: "draining (idle timeout) | draining (idle timeout) | closed (idle timeout) | - | - | -",
    Event.ACLOSE: "draining | draining | closed (local) | - | - | -",
    Event.DRAINED: "busy | busy | busy | closed (local) | - | -",
    Event.DRAIN_TIMEOUT: "- | - | - | closed (drain timeout) | - | -",
    Event.DRAIN_CANCELLED: "- | - | - | closed (aborted) | - | -",
    Event.ABORT: "closed (aborted) | closed (aborted) | closed (aborted) | closed (aborted) | - | -",
    Event.SCOPE_LEFT: "draining | draining | - | - | - | -",
    Event.SCOPE_DEADLINE: (
        "closed (scope exit) | closed (scope exit) | closed (scope exit) | closed (drain timeout) | - | -"
    ),
    Event.SCOPE_CANCELLED: " | ".join(["closed (scope cancelled)"] * 4 + ["-", "-"]),
}
COLUMNS = (Phase.OPEN, Phase.RESERVED, Phase.CLAIMED, Phase.DRAINING, Phase.MOVED, Phase.CLOSED)
CELLS = [
    (event, phase, answer.strip())
    for event, row in CONTRACT.items()
    for phase, answer in zip(COLUMNS, row.split("|"), strict=True)
]

# What depends on the work in progress: phase, sides and leases; the event; what comes of it.
CASES = [
    ("open receive=busy", Event.RECEIVE, "busy"),
    ("open receive=eof", Event.RECEIVE, "-"),
    ("open reset", Event.RECEIVE, "receive=busy"),
    ("open receive=busy", Event.RECEIVE_ENDED, "receive=idle"),
    ("open receive=busy", Event.PEER_EOF, "receive=eof"),
    ("open send=busy", Event.SEND, "busy"),
    ("open send=shut", Event.SEND, "shut"),
    ("open send=broken", Event.SEND, "broken"),
    ("open reset", Event.SEND, "broken"),
    ("open send=busy", Event.SEND_ENDED, "send=idle"),
    ("open send=busy", Event.SEND_TORN, "send=broken"),
    ("open send=busy", Event.SEND_EOF, "busy"),
    ("open send=shut", Event.SEND_EOF, "-"),
    ("open send=broken", Event.SEND_EOF, "broken"),
    ("open send=busy", Event.EOF_SENT, "send=shut"),
    ("reserved send=busy", Event.EOF_SENT, "claimed send=shut"),
    ("draining send=busy", Event.EOF_SENT, "send=shut drain"),
    ("open receive=busy", Event.DETACH, "busy"),
    ("open send=busy", Event.DETACH, "busy"),
    ("open leases=1", Event.DETACH, "busy"),
    ("open unsent", Event.DETACH, "busy"),
    ("open send=broken", Event.DETACH, "broken"),
    ("open reset", Event.DETACH, "broken"),
    ("open receive=eof send=shut", Event.DETACH, "moved (detached)"),
    ("open send=busy", Event.TRANSFER, "busy"),
    ("open leases=1", Event.TRANSFER, "busy"),
    ("open send=broken", Event.TRANSFER, "broken"),
    ("open receive=busy", Event.UPGRADE, "busy"),
    ("open leases=1", Event.UPGRADE, "busy"),
    ("open unsent", Event.UPGRADE, "busy"),
    ("open receive=eof", Event.UPGRADE, "closed"),
    ("open send=shut", Event.UPGRADE, "shut"),
    ("open send=broken", Event.UPGRADE, "broken"),
    ("open leases=1", Event.UPGRADE_LEASED, "claimed"),
    ("open leases=2", Event.UPGRADE_LEASED, "busy"),
    ("open leases=1 receive=busy", Event.UPGRADE_LEASED, "busy"),
    ("open receive=busy", Event.RESERVE, "reserved"),
    ("open send=broken", Event.RESERVE, "broken"),
    ("reserved receive=busy", Event.RECEIVE_ENDED, "claimed receive=idle"),
    ("reserved receive=busy leases=1", Event.RECEIVE_ENDED, "receive=idle"),
    ("reserved leases=1", Event.LEASE_ENDED, "claimed leases=0"),
    ("reserved leases=2", Event.LEASE_ENDED, "leases=1"),
    ("reserved send=busy", Event.SEND_TORN, "open send=broken"),
    ("reserved receive=busy", Event.PEER_EOF, "claimed receive=eof"),
    ("reserved leases=1 receive=busy", Event.RECEIVE_LEASED, "busy"),
    ("draining leases=1", Event.LEASE_ENDED, "leases=0 drain"),
    ("draining receive=busy", Event.RECEIVE_ENDED, "receive=idle drain"),
    ("open unsent", Event.BUFFERED, "-"),
    ("open unsent", Event.FLUSHED, "sent"),
    ("reserved unsent", Event.FLUSHED, "claimed sent"),
    ("reserved unsent leases=1", Event.FLUSHED, "sent"),
    ("draining unsent", Event.FLUSHED, "sent drain"),
    ("draining send=busy", Event.DRAINED, "busy"),
    ("draining leases=1", Event.DRAINED, "busy"),
    ("open reset", Event.ACLOSE, "closed (peer reset)"),
    ("open reset", Event.IDLE_CLOSE, "closed (peer reset)"),
    ("open reset", Event.SCOPE_LEFT, "closed (peer reset)"),
    ("open reset cut_off", Event.ACLOSE, "closed (peer eof)"),
    ("open reset cut_off", Event.SCOPE_LEFT, "closed (peer eof)"),
    ("open reset cut_off", Event.PEER_RESET, "-"),
    ("open reset", Event.PEER_CUT_OFF, "-"),
    ("open leases=1 send=busy", Event.ABORT, "closed (aborted)"),
    ("open leases=1 send=busy", Event.SCOPE_CANCELLED, "closed (scope cancelled)"),
]

REASONS = {Phase.MOVED: Reason.UPGRADED, Phase.CLOSED: Reason.LOCAL}


def given(words: str) -> State:
    """The state that these words describe."""
    fields: dict[str, Any] = {}
    for word in words.split():
        name, _, value = word.partition("=")
        match name:
            case "receive":
                fields["receive"] = Receive(value)
            case "send":
                fields["send"] = Send(value)
            case "leases":
                fields["leases"] = int(value)
            case "unsent" | "reset" | "cut_off":
                fields[name] = True
            case _:
                fields["phase"] = Phase(name)
                fields["reason"] = REASONS.get(fields["phase"])
    return state_of(**fields)


def told(before: State, event: Event) -> str:
    """What the event came to, in the words of the tables above."""
    machine = machine_in(before)
    effects = machine.apply(event)
    after = machine.state
    if isinstance(effects, Refuse):
        assert after is before
        return effects.kind.value
    words = []
    if after.phase is not before.phase:
        ended = f" ({after.reason.value})" if after.reason else ""
        words.append(after.phase.value + ended)
    for side in ("receive", "send"):
        if getattr(after, side) is not getattr(before, side):
            words.append(f"{side}={getattr(after, side).value}")
    if after.leases != before.leases:
        words.append(f"leases={after.leases}")
    words += [name for name in ("reset", "cut_off") if getattr(after, name) != getattr(before, name)]
    if after.unsent != before.unsent:
        words.append("unsent" if after.unsent else "sent")
    if Effect.DRAIN in effects and before.phase is Phase.DRAINING:
        words.append("drain")
    return " ".join(words) or "-"


def machine_in(state: State) -> Ownership:
    """A machine of its own in this state."""
    machine = Ownership()
    machine.state = state
    return machine


# --- the contract, by hand -------------------------------------------------------------------------------------------


def test_every_event_and_phase_is_in_the_table_and_in_the_contract() -> None:
    assert set(TABLE) == set(itertools.product(Phase, Event))
    assert set(CONTRACT) == set(Event)


@pytest.mark.parametrize(("event", "phase", "expected"), CELLS, ids=lambda each: getattr(each, "name", ""))
def test_a_quiet_handle_does_what_the_contract_says(event: Event, phase: Phase, expected: str) -> None:
    assert told(given(phase.value), event) == expected


@pytest.mark.parametrize(("state", "event", "expected"), CASES, ids=lambda each: getattr(each, "name", each))
def test_work_in_progress_counts(state: str, event: Event, expected: str) -> None:
    assert told(given(state), event) == expected


def every_state() -> list[State]:
    """Every state of a machine, but one that no handle can reach: the door shut on a broken connection."""
    sides = itertools.product(
        Phase, Receive, Send, (0, 1, 2), (False, True), ((False, False), (True, False), (True, True))
    )
    found = [
        state_of(
            phase=phase,
            reason=REASONS.get(phase),
            receive=receive,
            send=send,
            leases=leases,
            unsent=unsent,
            reset=reset,
            cut_off=cut_off,
        )
        for phase, receive, send, leases, unsent, (reset, cut_off) in sides
    ]
    return [state for state in found if not (state.phase is Phase.RESERVED and state.poisoned)]


def test_a_refusal_changes_nothing_and_the_first_reason_wins() -> None:
    for before, event in itertools.product(every_state(), Event):
        machine = machine_in(before)
        answer = machine.apply(event)
        after = machine.state
        if isinstance(answer, Refuse) or before.phase.terminal:
            assert after is before
        if before.reason is not None:
            assert after.reason is before.reason
        closes_for_idleness = event is Event.IDLE_CLOSE and after.phase is Phase.DRAINING
        assert (after.phase.terminal or closes_for_idleness) >= (after.reason is not None)
        assert not after.phase.terminal or after.reason is not None


def test_deciding_changes_nothing_and_agrees_with_applying() -> None:
    for state, event in itertools.product(every_state(), Event):
        machine = machine_in(state)
        decided = machine.decide(event)
        assert machine.state is state
        assert isinstance(machine.apply(event), Refuse) == isinstance(decided, Refuse)


def test_there_is_one_object_for_each_state() -> None:
    states = every_state()
    assert len(set(states)) == len(states)
    for state in states:
        assert but(state, leases=state.leases) is state
    with pytest.raises(dataclasses.FrozenInstanceError):
        states[0].phase = Phase.CLOSED  # type: ignore[misc]


def test_the_endpoint_is_released_exactly_when_a_handle_closes() -> None:
    for (phase, _event), entry in TABLE.items():
        answers = [] if isinstance(entry, Refuse) else [entry, *(check.otherwise for check in entry.checks)]
        for answer in answers:
            if isinstance(answer, Rule):
                closes = answer.phase is Phase.CLOSED and phase is not Phase.CLOSED
                assert (Effect.RELEASE in answer.effects) == closes
                assert (Effect.INTERRUPT in answer.effects) == closes


# --- the search ------------------------------------------------------------------------------------------------------

AT_LEAST = {
    "bytes": (1_500, 5_000),
    "work": (8_000, 80_000),
    "upgrades": (4_000, 35_000),
    "peer": (3_000, 20_000),
    "scopes": (20_000, 150_000),
}
"""States and transitions that a search has to see, so that it cannot become trivial unnoticed."""


@pytest.mark.parametrize("bounds", EVERYDAY, ids=lambda bounds: bounds.name)
def test_no_interleaving_breaks_the_contract(bounds: Bounds) -> None:
    found = Search(bounds).run()
    assert not found.violation, "\n".join([found.violation, *found.trace])
    states, transitions = AT_LEAST[bounds.name]
    assert found.states >= states
    assert found.transitions >= transitions


@pytest.mark.soak
@pytest.mark.parametrize("bounds", SOAK, ids=lambda bounds: bounds.name)
def test_no_interleaving_breaks_the_contract_in_a_larger_world(bounds: Bounds) -> None:
    found = Search(bounds).run()
    assert not found.violation, "\n".join([found.violation, *found.trace])
    assert found.states >= 70_000


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_the_search_catches_a_wrong_machine(mutation: Mutation) -> None:
    found = caught(mutation)
    assert found.violation
    assert len(found.trace) <= 8


def test_mutations_leave_the_machine_as_it_was() -> None:
    before = dict(TABLE)
    caught(mutations()[0])
    assert before == TABLE


# --- the drawings ----------------------------------------------------------------------------------------------------


def test_the_drawings_are_those_of_the_table() -> None:
    subprocess.run([sys.executable, "-m", "docs.draw_states", "--check"], cwd=ROOT, check=True)
