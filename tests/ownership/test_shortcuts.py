"""Short cuts: each says what the table says, and nobody else writes a handle's state."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import trionet
from trionet.ownership import Event, Ownership, Phase, Receive, Refuse, Send, State, shortcuts, state_of

HOUSE = Path(trionet.__file__).parent
SHORT_CUTS = {name: cut for name, cut in vars(shortcuts).items() if isinstance(cut, shortcuts.ShortCut)}

receive_sides = st.sampled_from([Receive.IDLE, Receive.EOF])
send_sides = st.sampled_from([Send.IDLE, Send.SHUT])
lives = st.lists(st.sampled_from(Event), max_size=12)


@pytest.mark.parametrize("name", SHORT_CUTS)
@given(receive=receive_sides, send=send_sides, life=lives)
@example(Receive.IDLE, Send.IDLE, [])
def test_each_short_cut_equals_its_event_through_the_table(
    name: str, receive: Receive, send: Send, life: list[Event]
) -> None:
    """From every state that a handle can get into by events."""
    cut = SHORT_CUTS[name]
    machine = Ownership(receive, send)
    for event in life:
        machine.apply(event)
    before = machine.state
    after = cut[before]
    assert cut[before] is after, "it remembers what it has said"
    effects = machine.apply(Event[name])
    if after is not None:
        assert (machine.state, effects) == (after, ())
    else:
        assert isinstance(effects, Refuse) or effects or machine.state is before


@given(receive=receive_sides, send=send_sides, life=lives)
@example(Receive.IDLE, Send.IDLE, [])
def test_a_short_way_equals_its_events_through_the_table(receive: Receive, send: Send, life: list[Event]) -> None:
    way, machine, quick = shortcuts.CLOSE_QUIET, Ownership(receive, send), Ownership(receive, send)
    for event in life:
        machine.apply(event)
        quick.apply(event)
    before = machine.state
    found = way.take(quick)
    effects = [machine.apply(event) for event in way.events]
    if found is None:
        assert any(isinstance(each, Refuse) for each in effects)
        assert quick.state is before, "nothing has changed"
    else:
        assert quick.state is machine.state
        assert list(found) == list(dict.fromkeys(each for some in effects for each in some))


def test_short_cuts_are_named_as_their_events_and_each_is_open_on_some_way() -> None:
    assert {name: cut.event.name for name, cut in SHORT_CUTS.items()} == {name: name for name in SHORT_CUTS}
    assert set(SHORT_CUTS) < set(shortcuts.__all__)
    new = state_of()
    assert shortcuts.RECEIVE[new] is state_of(receive=Receive.BUSY)
    assert shortcuts.RECEIVE_ENDED[state_of(receive=Receive.BUSY)] is new
    assert shortcuts.SEND[new] is state_of(send=Send.BUSY)
    assert shortcuts.SEND_ENDED[state_of(send=Send.BUSY)] is new
    assert shortcuts.LEASE[new] is shortcuts.ARRIVED_LEASE[new] is state_of(leases=1)
    assert shortcuts.LEASE_ENDED[state_of(leases=1)] is new
    assert shortcuts.BUFFERED[new] is state_of(unsent=True)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("RECEIVE", state_of(receive=Receive.EOF)),  # a rule that changes nothing
        ("RECEIVE", state_of(phase=Phase.DRAINING)),  # a refusal
        ("RECEIVE_ENDED", state_of(phase=Phase.RESERVED, receive=Receive.BUSY)),  # somebody waits for it
        ("LEASE_ENDED", state_of(phase=Phase.DRAINING, leases=1)),
    ],
)
def test_a_short_cut_is_shut_where_there_is_more_to_it(name: str, state: State) -> None:
    assert SHORT_CUTS[name][state] is None


# --- who writes ------------------------------------------------------------------------------------------------------


def writes(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """What is assigned to in this code, and what to it; None where that is not a plain value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from pairs(target, node.value)
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            yield node.target, None
        elif isinstance(node, ast.NamedExpr):
            yield node.target, node.value
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            yield node.target, None
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield node.optional_vars, None


def pairs(target: ast.AST, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """The single targets of an assignment, each with its value."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from pairs(one, its)
    elif isinstance(target, (ast.Tuple, ast.List)):
        yield from ((one, None) for one in ast.walk(target) if isinstance(one, ast.expr))
    elif isinstance(target, ast.expr):
        yield target, value


def of_a_machine(target: ast.expr) -> bool:
    """Whether this is an attribute of what is called a handle's ``life``, or of its state."""
    if not isinstance(target, ast.Attribute):
        return False
    value = target.value
    if isinstance(value, ast.Attribute) and value.attr == "state":
        return of_a_machine(value)
    return (isinstance(value, ast.Name) and value.id == "life") or (
        isinstance(value, ast.Attribute) and value.attr == "_life"
    )


def is_short_cut(value: ast.expr | None) -> bool:
    """Whether this is ``SHORT_CUT[life.state]``."""
    return (
        isinstance(value, ast.Subscript)
        and isinstance(value.value, ast.Name)
        and value.value.id in SHORT_CUTS
        and isinstance(value.slice, ast.Attribute)
        and of_a_machine(value.slice)
    )


def strangers(function: ast.AST) -> list[int]:
    """The lines where something other than a short cut's answer becomes the state."""
    found = list(writes(function))
    answers = {target.id for target, value in found if isinstance(target, ast.Name) and is_short_cut(value)}
    answers -= {target.id for target, value in found if isinstance(target, ast.Name) and not is_short_cut(value)}
    return [
        target.lineno
        for target, value in found
        if of_a_machine(target)
        and not (
            isinstance(target, ast.Attribute)
            and target.attr == "state"
            and isinstance(value, ast.Name)
            and value.id in answers
        )
    ]


def functions_of(tree: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return found


@pytest.mark.parametrize(
    "path", [path for path in HOUSE.rglob("*.py") if "ownership" not in path.parts], ids=lambda path: path.stem
)
def test_nobody_writes_a_state_but_the_machine_and_its_short_cuts(path: Path) -> None:
    for function in functions_of(ast.parse(path.read_text(encoding="utf-8"))):
        assert not strangers(function), "take an event (Handle._take), or use a ShortCut"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("life.state = busy", False),
        ("if (busy := RECEIVE[life.state]) is not None:\n  life.state = busy", True),
        ("busy = RECEIVE[self._life.state]\nself._life.state = busy", True),
        ("busy = RECEIVE[life.state]\nbusy = other\nlife.state = busy", False),
        ("life.state = RECEIVE[other]", False),
        ("life.state, x = busy, 1", False),
        ("busy = RECEIVE[life.state]\nlife.state, x = busy, 1", True),
        ("busy = RECEIVE[life.state]\nx, life.state = busy, 1", False),
        ("busy = RECEIVE[life.state]\nlife.state, x = pair", False),
        ("self._life.retiring = True", False),
        ("self._life.state.leases += 1", False),
        ("machine.state = 1", True),
    ],
)
def test_the_method_notices_who_writes(code: str, allowed: bool) -> None:
    assert (not strangers(ast.parse(code))) == allowed
