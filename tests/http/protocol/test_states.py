"""The table of states, and that nothing goes round it: each short cut equals the transitions that it stands for."""

from __future__ import annotations

import ast
import re
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import trionet
from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http.protocol import states
from trionet.http.protocol.body_reader import EndOfMessage
from trionet.http.protocol.client_machine import H1Client
from trionet.http.protocol.head import RequestHead, ResponseHead
from trionet.http.protocol.limits import HTTPLimits
from trionet.http.protocol.machine import H1Machine
from trionet.http.protocol.outgoing import CheckedFields
from trionet.http.protocol.prepared_request import PreparedRequest
from trionet.http.protocol.server_machine import H1Server
from trionet.http.protocol.states import TABLE, H1State, Transition, follow

CHAIN = [Transition.BEGIN, Transition.HEAD, Transition.END, Transition.NO_KEEP_ALIVE]


def test_the_table_is_complete():
    assert set(TABLE) == set(Transition)
    assert all(set(row) == set(H1State) for row in TABLE.values())
    assert all(TABLE[step][H1State.SWITCHED] in (None, H1State.SWITCHED) for step in Transition)
    assert all(TABLE[step][H1State.BROKEN] in (None, H1State.BROKEN) for step in Transition)


def test_what_the_table_refuses_leads_nowhere():
    assert follow(H1State.IDLE, *CHAIN) is H1State.MUST_CLOSE
    with pytest.raises(ValueError, match="does not happen"):
        follow(H1State.BROKEN, Transition.CYCLE)


# --- who may write a state -----------------------------------------------------------------------------------------

SHORT_CUTS = {name for name in states.__all__ if isinstance(getattr(states, name), H1State)}
MOVES = {"__init__", "_move_ours", "_move_peer", "start_next_cycle", "restore"}
"""Methods of the machines that set a state to what the table says, or back to what it was (`restore`)."""


def assignments(tree: ast.AST, attributes: set[str]):
    """Each assignment to one of these attributes: the function that it stands in, and the names that it assigns."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            written = [part for target in targets if target is not None for part in ast.walk(target)]
            if any(isinstance(part, ast.Attribute) and part.attr in attributes for part in written):
                yield function.name, {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)} - {"self"}


def sources():
    folder = Path(trionet.__file__).parent
    for path in folder.rglob("*.py"):
        yield path.relative_to(folder).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_states_are_assigned_by_the_table_or_by_its_short_cuts():
    found = [
        (path, function, names)
        for path, tree in sources()
        for function, names in assignments(tree, {"our_state", "peer_state"})
    ]
    assert len(found) > 10
    for path, function, names in found:
        assert re.fullmatch(r"http/protocol/\w*machine\.py", path), path
        assert function in MOVES or names <= SHORT_CUTS, f"{path}: {function} assigns {names}"


def test_keep_alive_is_assigned_by_the_machines():
    found = {path for path, tree in sources() for _ in assignments(tree, {"keep_alive"})}
    assert found == {f"http/protocol/{name}.py" for name in ("machine", "server_machine", "client_machine")}


# --- the short cuts equal the table --------------------------------------------------------------------------------


def is_allowed(old: H1State, new: H1State) -> bool:
    """Whether one transition leads there, or a part of the way that a whole message goes."""
    if old is new or new in (row[old] for row in TABLE.values()):
        return True
    for first in range(len(CHAIN)):
        for last in range(first + 1, len(CHAIN) + 1):
            try:
                if follow(old, *CHAIN[first:last]) is new:
                    return True
            except ValueError:
                continue
    return False


def watched(name: str):
    """A property in place of a state's slot: each assignment has to be a way through the table."""
    slot = getattr(H1Machine, name)

    def write(machine, new):
        if not machine.restoring and hasattr(machine, "begun"):
            old = slot.__get__(machine)
            assert is_allowed(old, new), f"{name}: {old} to {new}"
        slot.__set__(machine, new)

    return property(slot.__get__, write)


class Watched:
    """Refuses ways round the table, but to take a response back."""

    restoring = False
    our_state = watched("our_state")
    peer_state = watched("peer_state")

    def __init__(self, **options):
        super().__init__(**options)
        self.begun = True

    def restore(self, before):
        self.restoring = True
        super().restore(before)
        self.restoring = False


class Server(Watched, H1Server):
    """With all its short cuts."""


class CarefulServer(Watched, H1Server):
    """Without them: it parses each head by the rule's own statement, and writes each response by it."""

    _fast = property(lambda self: False, lambda self, value: None)
    next_event = H1Machine.next_event

    def receive_request(self, data):
        self.receive(data)
        return self.next_event()


REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n" + b"x" * 30,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GARBAGE\r\n\r\n",
]
"""What a client sends: nearly all that a machine has a case for, and two that are malformed."""

RECEIVE = st.tuples(st.just("receive"), st.sampled_from(REQUESTS), st.sampled_from([0, 0, 0, 0, 1, 2, 20]))
RECEIVE_REQUEST = st.tuples(st.just("receive_request"), st.sampled_from(REQUESTS), st.sampled_from([0, 0, 0, 0, 1, 20]))
RESPOND = st.tuples(
    st.just("respond"),
    st.sampled_from([200, 200, 200, 200, 204, 304, 404, 99]),
    st.sampled_from(
        [
            (),
            (),
            (("X", "y"),),
            CheckedFields(b"X: y\r\n", [(b"X", b"y")], None),
            (("Connection", "close"),),
            (("Content-Length", "2"),),
            (("X", "\n"),),
        ]
    ),
    st.sampled_from([b"", b"hi", b"hi", memoryview(b"hi")]),
)
ANYTHING = st.one_of(
    RECEIVE,
    RECEIVE_REQUEST,
    RESPOND,
    st.tuples(st.just("rest")),
    st.tuples(st.just("take_body"), st.sampled_from([0, 3, 100])),
    st.tuples(st.just("send_head"), st.sampled_from([200, 204])),
    st.tuples(st.just("send_data"), st.just(b"data")),
    st.tuples(st.just("send_end")),
    st.tuples(st.just("inform"), st.sampled_from([100, 103, 200])),
    st.tuples(st.just("switch"), st.sampled_from([101, 200])),
    st.tuples(st.sampled_from([
        "next_event", "start_next_cycle", "snapshot", "restore", "receive_eof", "end_soon",
        "close_after_exchange", "disable_keep_alive", "fail",
    ])),
)  # fmt: skip
STREAM = [("send_head", 200), ("send_data", b"data"), ("send_end",)]
EXCHANGES = st.tuples(
    st.one_of(
        st.lists(RECEIVE, min_size=1, max_size=2).map(lambda steps: [*steps, ("rest",), ("next_event",)]),
        RECEIVE_REQUEST.map(lambda step: [step]),
        RECEIVE_REQUEST.map(lambda step: [step, ("rest",), ("next_event",)]),
    ),
    st.sampled_from([[], [], [("take_body", 100)], [("take_body", 2)], [("next_event",)] * 3, [("receive_eof",)]]),
    st.one_of(
        RESPOND.map(lambda step: [step]),
        RESPOND.map(lambda step: [("snapshot",), step, ("restore",), step]),
        st.sampled_from([STREAM, [("snapshot",), STREAM[0], ("next_event",), ("restore",), *STREAM]]),
    ),
    st.sampled_from([[], [("next_event",)] * 3]),
    st.just([("start_next_cycle",)]),
).map(lambda parts: [*chain.from_iterable(parts)])


@st.composite
def histories(draw, exchanges, anything):
    """A few exchanges as they should be, one after the other, and up to three other steps anywhere among them."""
    steps = [*chain.from_iterable(draw(st.lists(exchanges, min_size=1, max_size=4)))]
    for step in draw(st.lists(anything, max_size=3)):
        steps.insert(draw(st.integers(0, len(steps))), step)
    return steps


class ServerRun:
    """One machine, and what its user keeps: bytes yet to arrive, and what a response can be taken back to."""

    def __init__(self, kind, limits):
        self.machine = kind(limits=limits)
        self.late = b""
        self.before = None

    def take(self, step):
        """What comes of a step, errors included."""
        name, *arguments = step
        try:
            return getattr(self, name)(*arguments) if hasattr(self, name) else self.ask(name, *arguments)
        except (LocalProtocolError, RemoteProtocolError, ValueError) as exc:
            return type(exc), str(exc), getattr(exc, "status_hint", None)

    def ask(self, name, *arguments, **options):
        got = getattr(self.machine, name)(*arguments, **options)
        if isinstance(got, (bytes, memoryview)):
            return re.sub(rb"Date: [^\r]+\r\n", b"", bytes(got))
        if isinstance(got, (RequestHead, ResponseHead)):
            return [getattr(got, name, None) for name in ("method", "target", "status", "http_version", "headers")]
        return got

    def receive(self, data, held):
        if not self.machine.received_eof:
            data = self.late + data
            self.late = data[len(data) - held :]
            self.machine.receive(data[: len(data) - held])

    def receive_request(self, data, held):
        if not self.machine.received_eof:
            data = self.late + data
            self.late = data[len(data) - held :]
            return self.ask("receive_request", data[: len(data) - held])

    def rest(self):
        self.receive(b"", 0)

    def fail(self):
        self.machine.fail(RemoteProtocolError("too slow", 408))

    def switch(self, status):
        return self.ask("switch_head", [("Upgrade", "foo")] if status == 101 else [], status=status)

    def start_next_cycle(self):
        self.ask("start_next_cycle")
        self.before = None

    def snapshot(self):
        if self.machine.our_state is H1State.HEAD:
            self.before = self.machine.snapshot()

    def restore(self):
        if self.before is not None:
            self.machine.restore(self.before)
            self.before = None

    def facts(self):
        """What can be seen of the machine; of the request's body only while there is a request."""
        machine = self.machine
        names = ["our_state", "peer_state", "keep_alive", "buffered", "awaits_continue", "upgrade", "request"]
        if machine.request is not None:
            names[-1:] = ["body_left", "bodiless", "ends_with_connection"]
        return {name: getattr(machine, name) for name in names}


def whole_body(machine) -> bytes:
    """What `take_body` stands for: the events up to the end."""
    body = b""
    while not isinstance(event := machine.next_event(), EndOfMessage):
        assert isinstance(event, bytes), event
        body += event
    return body


@given(histories(EXCHANGES, ANYTHING), st.booleans())
@settings(deadline=None, max_examples=500)
def test_a_server_with_its_short_cuts_equals_one_without(steps, tight):
    """Whatever arrives, and whatever is done, in any order: the same results, the same states after each step."""
    limits = HTTPLimits(max_target=30, max_fields=2, max_head=100, drain_bytes=10) if tight else HTTPLimits()
    fast, careful = ServerRun(Server, limits), ServerRun(CarefulServer, limits)
    for step in steps:
        got = fast.take(step)
        if step[0] == "take_body":
            assert got is None or got == whole_body(careful.machine)
        else:
            assert got == careful.take(step), step
        assert fast.facts() == careful.facts(), step


MEANWHILE = st.one_of(RECEIVE, st.sampled_from([("rest",), ("next_event",), ("receive_eof",), ("fail",)]))


@given(
    st.sampled_from(REQUESTS),
    st.lists(MEANWHILE, max_size=4),
    st.one_of(RESPOND, st.sampled_from([("send_head", 200)])),
    st.integers(0, 4),
    RESPOND,
)
@settings(deadline=None, max_examples=500)
def test_a_response_that_is_taken_back_was_never_begun(request, meanwhile, response, at, later):
    """What is read beside it stays read, and has the same consequences."""
    one, other = ServerRun(Server, HTTPLimits()), ServerRun(Server, HTTPLimits())
    for run, steps in (
        (one, [("snapshot",), *meanwhile[:at], response, *meanwhile[at:], ("restore",)]),
        (other, meanwhile),
    ):
        run.take(("receive", request, 0))
        run.take(("next_event",))
        assume(run.machine.our_state is H1State.HEAD)
        for step in steps:
            run.take(step)
        if run.machine.bodiless and run.machine.peer_state is H1State.BODY:
            run.take(("next_event",))  # a whole response takes the end of an empty body for read
    assume(one.machine.buffered == other.machine.buffered)  # what comes behind a last response is dropped for good
    assert one.facts() == other.facts()
    assert one.take(later) == other.take(later)
    assert one.facts() == other.facts()


# --- the client ----------------------------------------------------------------------------------------------------


class Client(Watched, H1Client):
    """With all its short cuts."""


class CarefulClient(Watched, H1Client):
    """A whole request is written in three steps, and the next exchange begins by the table."""

    def send_request(self, prepared, body=b""):
        head = self.begin(prepared, prepared.framing(len(body)))
        return head + bytes(self.send_data(body)) + self.send_end()

    def start_next_cycle(self):
        if self.buffered and self.peer_state is H1State.DONE:
            H1Client.start_next_cycle(self)  # refuses
        H1Machine.start_next_cycle(self)


RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
    b"GARBAGE\r\n\r\n",
]
HOST = ("Host", "a")
PREPARED = [
    PreparedRequest("GET", "/", [HOST]),
    PreparedRequest("POST", "/", [HOST]),
    PreparedRequest("GET", "/", [HOST, ("Connection", "close")]),
    PreparedRequest("GET", "/", [HOST, ("Connection", "upgrade, close"), ("Upgrade", "foo")]),
    PreparedRequest("POST", "/", [HOST, ("Expect", "100-continue")]),
    PreparedRequest("HEAD", "/", [HOST]),
    PreparedRequest("CONNECT", "a:1", [HOST]),
]
SEND = st.tuples(st.just("send_request"), st.sampled_from(PREPARED), st.sampled_from([b"", b"", b"body"]))
ANSWERED = st.tuples(st.just("receive"), st.sampled_from(RESPONSES), st.sampled_from([0, 0, 0, 1, 20]))
ANYTHING_SENT = st.one_of(
    SEND,
    ANSWERED,
    st.tuples(st.just("begin"), st.sampled_from(PREPARED), st.sampled_from([0, 4, -1])),
    st.tuples(st.just("send_data"), st.just(b"data")),
    st.tuples(st.sampled_from([
        "send_end", "rest", "next_event", "start_next_cycle", "receive_eof", "abandon", "close_after_exchange",
        "disable_keep_alive", "fail",
    ])),
)  # fmt: skip
ASKED = st.tuples(
    st.one_of(
        SEND.map(lambda step: [step]),
        st.sampled_from(
            [[("begin", PREPARED[1], 4), ("send_data", b"data"), ("send_end",)], [("begin", PREPARED[1], 4)]]
        ),
    ),
    st.lists(ANSWERED, min_size=1, max_size=2),
    st.just([("rest",), *[("next_event",)] * 4, ("start_next_cycle",)]),
).map(lambda parts: [*chain.from_iterable(parts)])


class ClientRun(ServerRun):
    """As `ServerRun`, for a client."""

    def facts(self):
        machine = self.machine
        return (machine.our_state, machine.peer_state, machine.keep_alive, machine.buffered, machine.framing,
                machine.awaits_continue, machine.upgrade, machine.method, machine.reusable)  # fmt: skip


@given(histories(ASKED, ANYTHING_SENT))
@settings(deadline=None, max_examples=500)
def test_a_client_with_its_short_cuts_equals_one_without(steps):
    fast, careful = ClientRun(Client, HTTPLimits()), ClientRun(CarefulClient, HTTPLimits())
    for step in steps:
        assert fast.take(step) == careful.take(step), step
        assert fast.facts() == careful.facts(), step
