"""The HTTP/1.1 machines: against h11 over a corpus, in every split, against each other, and by hand."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.write_http_differences import PAGE, page
from tests.helpers.http_corpus import NEXT, REQUESTS, RESPONSES
from tests.helpers.http_differences import LENIENT, STRICT
from tests.helpers.http_readers import h11_reads, read, requests, responses
from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http.protocol.body_reader import END, EndOfMessage
from trionet.http.protocol.client_machine import H1Client
from trionet.http.protocol.headers import Headers
from trionet.http.protocol.limits import HTTPLimits
from trionet.http.protocol.machine import Signal
from trionet.http.protocol.server_machine import H1Server
from trionet.http.protocol.states import H1State

ENTRIES = [(entry, False) for entry in REQUESTS.entries.values()] + [(e, True) for e in RESPONSES.entries.values()]
every_entry = pytest.mark.parametrize(("entry", "client"), ENTRIES, ids=[entry.name for entry, _ in ENTRIES])

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
HOST = [("Host", "a")]


# --- the corpus ----------------------------------------------------------------------------------------------------


def test_the_corpus_is_large():
    assert len(ENTRIES) >= 300


@every_entry
def test_the_entry_is_read_as_it_says(entry, client):
    assert read(entry, client=client).refusal == entry.refusal


@every_entry
def test_h11_agrees_or_the_difference_is_listed(entry, client):
    ours, theirs = read(entry, client=client), h11_reads(entry, client=client)
    common = min(len(ours.understood), len(theirs.understood))
    assert ours.understood[:common] == theirs.understood[:common]
    stricter = [difference for difference in STRICT if difference.covers(entry.name)]
    more_lenient = [difference for difference in LENIENT if difference.covers(entry.name)]
    if len(theirs.understood) > common:
        assert len(stricter) == 1, "trionet refuses what h11 accepts, and this is not listed"
    elif len(ours.understood) > common:
        assert len(more_lenient) == 1, "trionet accepts what h11 refuses, and this is not listed"
    elif bool(ours.refusal) != bool(theirs.refusal):
        assert len(stricter + more_lenient) == 1, "one refuses what the other does not, and this is not listed"


@pytest.mark.parametrize("difference", STRICT + LENIENT, ids=lambda difference: difference.topic)
def test_a_listed_difference_shows(difference):
    def differ(entry, client):
        ours, theirs = read(entry, client=client), h11_reads(entry, client=client)
        return ours.understood != theirs.understood or bool(ours.refusal) != bool(theirs.refusal)

    assert any(differ(entry, client) for entry, client in ENTRIES if difference.covers(entry.name))


def test_the_documentation_lists_the_differences():
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("entry", [entry for entry, client in ENTRIES if not client and entry.refusal], ids=str)
def test_what_is_hostile_is_never_read_as_two_requests(entry):
    reading = read(entry, client=False)
    assert len(reading.messages) <= 1
    assert not any(message.start[1] == "/smuggled" for message in reading.messages)


@every_entry
def test_every_split_gives_the_same_events(entry, client):
    whole = read(entry, client=client)
    size = len(entry.raw)
    places = range(1, size) if size < 600 else sorted(random.Random(1).sample(range(1, size), 40))
    for at in places:
        assert read(entry, client=client, pieces=(entry.raw[:at], entry.raw[at:])) == whole, at
    if 0 < size < 10000:
        assert read(entry, client=client, pieces=tuple(entry.raw[at : at + 1] for at in range(size))) == whole


@given(st.sampled_from(ENTRIES), st.data())
def test_any_splits_give_the_same_events(chosen, data):
    entry, client = chosen
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entry.raw)), max_size=6)))
    pieces = tuple(entry.raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(entry.raw)], strict=True))
    assert read(entry, client=client, pieces=pieces) == read(entry, client=client)


# --- fuzzing -------------------------------------------------------------------------------------------------------

PIECES = [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"0", b"1", b"\0", b"\xff", b";", b",", b"chunked", b"5\r\n",
          NEXT, b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1",
          b"Host: a\r\n", b"0\r\n\r\n"]  # fmt: skip


def mutate(raw: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(raw))
        raw = raw[:at] + rng.choice([*PIECES, rng.randbytes(2)]) + raw[at + rng.choice([0, 0, 1, 2, 9]) :]
    return raw


def fuzz(seed: int) -> None:
    """No exception but the documented ones; what is accepted, h11 accepts likewise; splits change nothing."""
    rng = random.Random(seed)
    entry, client = rng.choice(SMALL)
    raw = mutate(entry.raw, rng)
    at = rng.randint(0, len(raw))
    changed = type(entry)(entry.name, raw, None, entry.method)
    ours = read(changed, client=client)
    assert read(changed, client=client, pieces=(raw[:at], raw[at:])) == ours, raw
    theirs = h11_reads(changed, client=client)
    for mine, other in zip(ours.understood, theirs.understood, strict=False):
        assert mine == other, raw
    assert len(ours.understood) <= len(theirs.understood) or excused(raw, theirs.why), raw


def excused(raw: bytes, why: str) -> bool:
    """Whether one of the listed differences lets trionet accept more than h11 here."""
    return "no request line" in why or re.search(rb"\d{20}", raw) is not None or b"HTTP/1.0" in raw


SMALL = [(entry, client) for entry, client in ENTRIES if len(entry.raw) < 500]


@given(st.integers(0, 2**64))
@settings(max_examples=300)
def test_fuzzed_messages(seed):
    fuzz(seed)


@pytest.mark.soak
def test_fuzzed_messages_for_ten_minutes():
    seed, end = time.time_ns(), time.monotonic() + 600
    while time.monotonic() < end:
        fuzz(seed)
        seed += 1


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_bytes_of_any_kind(pieces):
    requests(*pieces)
    responses("GET", *pieces)


def test_empty_lines_are_counted_for_each_request_anew():
    """Four before the first request, in a segment of their own, and one behind it: both are within the bound."""
    machine = H1Server()
    machine.receive(b"\r\n" * 4)
    assert machine.next_event() is Signal.NEED_DATA
    machine.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"\r\n" * 4)
    assert machine.next_event().target == "/"
    machine.respond(200)
    machine.start_next_cycle()
    assert machine.next_event() is Signal.NEED_DATA


# --- the two machines with each other ------------------------------------------------------------------------------

tokens = st.text(st.sampled_from("abcXYZ09-_!~"), min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["Cc"]), max_size=8)
fields = st.lists(st.tuples(tokens.map("x-".__add__), values), max_size=3)
bodies = st.lists(st.binary(min_size=1, max_size=50), max_size=3)
messages = st.tuples(fields, bodies, st.booleans())


def drain(machine):
    """All events that are there: head, body, end."""
    head, body, end = None, b"", None
    while not isinstance(event := machine.next_event(), Signal):
        if isinstance(event, bytes):
            body += event
        elif isinstance(event, EndOfMessage):
            end = event
        else:
            head = event
    return head, body, end


def write(machine, start, extra, body, chunked, *, trailers=()):
    length = None if chunked else sum(map(len, body))
    wire = machine.send_head(*start, extra, length=length)
    wire += b"".join([bytes(machine.send_data(piece)) for piece in body])
    return wire + machine.send_end(trailers if chunked else ())


@given(st.lists(st.tuples(messages, messages), min_size=1, max_size=4))
def test_exchanges_round_trip(exchanges):
    client, server = H1Client(), H1Server()
    for (sent_fields, sent, chunked), (back_fields, back, back_chunked) in exchanges:
        wire = write(client, ("POST", "/x"), HOST + sent_fields, sent, chunked, trailers=[("T", "u")])
        server.receive(wire)
        head, body, end = drain(server)
        assert (head.method, body) == ("POST", b"".join(sent))
        assert [item for item in head.headers.items() if item[0].startswith("x-")] == sent_fields
        assert end == (EndOfMessage(Headers([("T", "u")])) if chunked else END)
        client.receive(write(server, (200,), back_fields, back, back_chunked))
        head, body, end = drain(client)
        assert (head.status, body, end) == (200, b"".join(back), END)
        assert [item for item in head.headers.items() if item[0].startswith("x-")] == back_fields
        assert client.reusable
        client.start_next_cycle()
        server.start_next_cycle()


@given(st.lists(messages, min_size=1, max_size=5))
def test_a_pipeline_is_read_in_order(pipeline):
    wire = b"".join(
        [
            write(H1Client(), ("PUT", f"/{number}"), HOST + extra, body, chunked)
            for number, (extra, body, chunked) in enumerate(pipeline)
        ]
    )
    reading = requests(wire)
    assert reading.refusal is None
    assert [message.start[1] for message in reading.messages] == [f"/{number}" for number in range(len(pipeline))]
    assert [message.body for message in reading.messages] == [b"".join(body) for _, body, _ in pipeline]


# --- the server by hand --------------------------------------------------------------------------------------------


def served(raw: bytes, **limits) -> H1Server:
    """A server that has read one request to its end."""
    machine = H1Server(limits=HTTPLimits(**limits))
    machine.receive(raw)
    drain(machine)
    return machine


def without_date(wire: bytes) -> bytes:
    wire, count = re.subn(rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n", b"", wire)
    assert count == 1
    return wire


@pytest.mark.parametrize(
    ("line", "status", "length", "expected"),
    [
        ("GET / HTTP/1.1", 200, 2, b"Content-Length: 2\r\n\r\nhi"),
        ("GET / HTTP/1.1", 200, None, b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ("GET / HTTP/1.0", 200, 2, b"Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
        ("GET / HTTP/1.0", 200, None, b"Connection: close\r\n\r\nhi"),
        ("HEAD / HTTP/1.1", 200, 2, b"Content-Length: 2\r\n\r\n"),
        ("HEAD / HTTP/1.1", 200, None, b"\r\n"),
        ("CONNECT a:1 HTTP/1.1", 403, 2, b"Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
    ],
)
def test_how_a_response_is_framed(line, status, length, expected):
    machine = served(f"{line}\r\nHost: a\r\n\r\n".encode())
    wire = machine.send_head(status, length=length, reason="") + bytes(machine.send_data(b"hi")) + machine.send_end()
    assert without_date(wire) == b"HTTP/1.1 %d \r\n%b" % (status, expected)


def test_responses_without_a_body():
    assert without_date(served(GET).respond(204)) == b"HTTP/1.1 204 No Content\r\n\r\n"
    not_modified = served(GET).respond(304, [("Content-Length", "5")])
    assert without_date(not_modified) == b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
    assert b"Content-Length: 0" in served(GET).respond(200)
    for status in (204, 304):
        with pytest.raises(LocalProtocolError, match="no body"):
            served(GET).respond(status, body=b"x")
    with pytest.raises(LocalProtocolError, match="204"):
        served(GET).respond(204, [("Content-Length", "0")])
    head = served(GET.replace(b"GET", b"HEAD"))
    assert b"Content-Length: 5" in head.respond(200, [("Content-Length", "5")])


def test_keep_alive_is_told_to_http_10():
    machine = served(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"\r\nConnection: keep-alive\r\n" in machine.respond(200)
    machine.start_next_cycle()
    machine.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    drain(machine)
    assert b"\r\nConnection: close\r\n" in machine.send_head(200)


@pytest.mark.parametrize(
    ("headers", "arguments", "error"),
    [
        ([("A", "b\r\nSet-Cookie: c")], {}, ValueError),
        ([("A\r\nB", "c")], {}, ValueError),
        ([("A", "b\0")], {}, ValueError),
        ([("A", "\u20ac")], {}, ValueError),
        ([("A", 3)], {}, TypeError),
        ([], {"reason": "O\r\nK"}, LocalProtocolError),
        ([], {"length": -1}, LocalProtocolError),
        ([("Transfer-Encoding", "chunked")], {}, LocalProtocolError),
        ([("Content-Length", "1"), ("content-length", "1")], {}, LocalProtocolError),
        ([("Content-Length", "+1")], {}, LocalProtocolError),
        ([("Content-Length", "1")], {"length": 2}, LocalProtocolError),
    ],
)
def test_what_cannot_be_sent_changes_nothing(headers, arguments, error):
    machine = served(GET)
    with pytest.raises(error):
        machine.send_head(200, headers, **arguments)
    assert machine.our_state is H1State.HEAD
    assert machine.respond(200, {"A": "b", "Content-Length": "2"}, b"hi").endswith(b"\r\n\r\nhi")


def test_only_statuses_that_fit():
    machine = served(GET)
    for status in (99, 100, 199, 1000):
        with pytest.raises(LocalProtocolError):
            machine.send_head(status)
    for status in (101, 200, 99):
        with pytest.raises(LocalProtocolError):
            machine.inform(status)
    with pytest.raises(LocalProtocolError, match="Content-Length"):
        machine.inform(103, {"Content-Length": "0"})


def test_an_answer_without_a_request_is_refused():
    machine = H1Server()
    for send in (lambda: machine.respond(200), lambda: machine.inform(102), machine.send_end, machine.start_next_cycle):
        with pytest.raises(LocalProtocolError):
            send()
    machine = served(GET)
    machine.respond(200)
    with pytest.raises(LocalProtocolError):
        machine.respond(200)
    machine.start_next_cycle()
    assert machine.next_event() is Signal.NEED_DATA


def test_a_pipelined_request_waits_for_its_turn():
    machine = served(GET + GET)
    assert machine.next_event() is Signal.PAUSED
    assert machine.buffered == len(GET)
    machine.respond(200)
    machine.start_next_cycle()
    assert drain(machine)[2] is END
    assert machine.buffered == 0


def test_after_close_nothing_more_is_read():
    machine = served(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    machine.receive(GET)
    assert b"\r\nConnection: close\r\n" in machine.respond(200)
    assert machine.next_event() is Signal.NEED_DATA
    with pytest.raises(LocalProtocolError):
        machine.start_next_cycle()
    machine.receive_eof()
    assert machine.next_event() is Signal.ENDED
    assert machine.next_event() is Signal.ENDED


def test_the_program_can_close():
    machine = served(GET + GET)
    wire = machine.respond(200, [("Connection", "Close")])
    assert wire.count(b"onnection") == 1
    assert (machine.our_state, machine.peer_state) == (H1State.MUST_CLOSE, H1State.MUST_CLOSE)


def test_a_client_that_has_ended_gets_its_last_answer():
    machine = H1Server()
    machine.receive(GET)
    machine.receive_eof()
    assert drain(machine)[2] is END
    assert b"Connection: close" in machine.respond(200)
    with pytest.raises(LocalProtocolError, match="after EOF"):
        served_eof = H1Server()
        served_eof.receive_eof()
        served_eof.receive(b"x")


def test_a_fault_can_be_answered_once():
    machine = H1Server()
    machine.receive(b"GET / HTTP/1.1\r\n\r\n")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="Host"):
            machine.next_event()
    machine.receive(GET)
    assert machine.buffered == 0
    assert b"Connection: close" in machine.respond(400, body=b"no")
    with pytest.raises(LocalProtocolError):
        machine.start_next_cycle()
    machine = H1Server()
    machine.receive(b"<")
    with pytest.raises(RemoteProtocolError):
        machine.next_event()
    assert b"chunked" not in machine.send_head(400)


def test_a_response_before_the_request_is_read():
    machine = H1Server()
    machine.receive(POST)
    machine.next_event()
    machine.respond(413)
    with pytest.raises(LocalProtocolError, match="both have to be done"):
        machine.start_next_cycle()
    machine.receive(b"abc" + GET)
    assert machine.next_event() == b"abc"
    assert machine.next_event() is END
    machine.start_next_cycle()
    assert machine.next_event().method == "GET"


def test_a_torn_response_is_never_completed():
    machine = served(GET)
    machine.send_head(200)
    machine.send_data(b"a")
    machine.abandon()
    with pytest.raises(LocalProtocolError):
        machine.send_end()
    assert not machine.keep_alive


def test_limits_are_settable():
    machine = H1Server(limits=HTTPLimits(max_target=3, max_fields=1, max_head=100, max_blank_lines=0))
    machine.receive(b"GET /abc HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match="max_target") as caught:
        machine.next_event()
    assert caught.value.status_hint == 414
    for raw, match in ((b"\r\n", "max_blank_lines"), (GET[:-2] + b"A: b\r\n\r\n", "max_fields"), (b"G" * 101, "max_t")):
        machine = H1Server(limits=HTTPLimits(max_target=3, max_fields=1, max_head=100, max_blank_lines=0))
        machine.receive(raw)
        with pytest.raises(RemoteProtocolError, match=match):
            machine.next_event()


def test_a_head_that_trickles_in_costs_no_more_than_its_length():
    machine = H1Server()
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 60000 + b"\r\n\r\n"
    start = time.process_time()
    for at in range(len(raw)):
        machine.receive(raw[at : at + 1])
        machine.next_event()
    assert machine.request is not None
    assert time.process_time() - start < 5  # quadratic reading takes a minute


# --- Expect, Upgrade, CONNECT ---------------------------------------------------------------------------------------

EXPECT = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
UPGRADE = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: Foo/2, bar\r\n\r\n")


def test_a_client_waits_for_100():
    machine = H1Server()
    machine.receive(EXPECT)
    machine.next_event()
    assert machine.awaits_continue
    assert machine.inform(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not machine.awaits_continue
    machine.receive(b"abc")
    assert drain(machine)[1:] == (b"abc", END)
    assert b"close" not in machine.respond(200)


def test_a_100_goes_ahead_of_a_head_that_is_held_back_and_never_behind_one():
    machine = H1Server()
    machine.receive(EXPECT)
    machine.next_event()
    before = machine.snapshot()
    assert b"Connection: close" in machine.send_head(200)
    with pytest.raises(LocalProtocolError, match="waits for 100"):
        machine.invite_body()
    machine.head_held = True
    assert machine.invite_body() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not machine.awaits_continue
    machine.restore(before)
    assert not machine.head_held
    assert b"close" not in machine.send_head(200)


def test_an_answer_instead_of_100_ends_the_connection():
    machine = H1Server()
    machine.receive(EXPECT)
    machine.next_event()
    assert b"Connection: close" in machine.respond(417)


@pytest.mark.parametrize("raw", [EXPECT + b"a", EXPECT.replace(b"1.1", b"1.0"), EXPECT.replace(b": 3", b": 0")])
def test_nobody_waits_for_100(raw):
    machine = H1Server()
    machine.receive(raw)
    machine.next_event()
    assert not machine.awaits_continue
    if b"1.0" in raw:
        assert machine.inform(100) == b""


def test_a_body_that_comes_anyway_ends_the_wait():
    machine = H1Server()
    machine.receive(EXPECT)
    machine.next_event()
    machine.receive(b"a")
    assert not machine.awaits_continue


def test_an_upgrade_gives_back_the_rest():
    machine = served(UPGRADE + b"\x00rest")
    assert machine.upgrade == ("foo/2", "bar")
    for headers in ([], [("Upgrade", "baz")], [("Upgrade", "bar"), ("Content-Length", "0")]):
        with pytest.raises(LocalProtocolError):
            machine.switch(headers)
    with pytest.raises(LocalProtocolError, match="leftover"):
        machine.take_leftover()
    wire = machine.switch([("Upgrade", "Bar")])
    assert wire == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: Bar\r\nConnection: Upgrade\r\n\r\n"
    assert machine.next_event() is Signal.SWITCHED
    machine.receive(b" more")
    assert machine.take_leftover() == b"\x00rest more"
    assert machine.take_leftover() == b""
    with pytest.raises(LocalProtocolError):
        machine.switch([("Upgrade", "bar")])


@pytest.mark.parametrize(
    "raw",
    [
        UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
        UPGRADE.replace(b"1.1", b"1.0"),
        UPGRADE.replace(b"Connection: Upgrade\r\n", b""),
        UPGRADE.replace(b"Upgrade\r\n", b"Upgrade, close\r\n"),
        GET,
    ],
)
def test_no_upgrade_with_a_body_or_without_an_offer(raw):
    machine = served(raw)
    assert machine.upgrade == ()
    with pytest.raises(LocalProtocolError, match="101"):
        machine.switch([("Upgrade", "bar")])
    with pytest.raises(LocalProtocolError):
        machine.switch(status=200)


def test_a_tunnel_and_a_refused_one():
    connect = b"CONNECT a:1 HTTP/1.0\r\n\r\n"
    machine = served(connect + b"\x16")
    assert machine.switch([("A", "b")], status=200) == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert machine.take_leftover() == b"\x16"
    machine = served(connect + GET)
    machine.respond(403)
    assert machine.next_event() is Signal.NEED_DATA


# --- the client by hand --------------------------------------------------------------------------------------------


def asked(method="GET", headers=(), body=b"", answer=b"") -> H1Client:
    machine = H1Client()
    machine.request(method, "/", [*HOST, *headers], body)
    machine.receive(answer)
    return machine


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_requests_are_written():
    assert H1Client().request("GET", "/", HOST) == GET
    assert H1Client().request("POST", "/", HOST) == POST.replace(b"3", b"0")
    assert H1Client().request("POST", "/", HOST, b"abc") == POST + b"abc"
    assert H1Client().request("POST", "/", [*HOST, ("Content-Length", "3")], memoryview(b"abc")) == POST + b"abc"
    assert b"Transfer-Encoding: chunked" in H1Client().send_head("GET", "/", HOST, length=None)


@pytest.mark.parametrize(
    ("arguments", "length"),
    [
        (("GET", "/a b", HOST), 0),
        (("G T", "/", HOST), 0),
        (("GET", "/\xe4", HOST), 0),
        (("GET", "/", []), 0),
        (("GET", "/", HOST * 2), 0),
        (("GET", "/", [*HOST, ("Transfer-Encoding", "chunked")]), 0),
        (("GET", "/", [*HOST, ("Content-Length", "2")]), 3),
        (("GET", "/", [*HOST, ("Content-Length", "x")]), 0),
        (("CONNECT", "a:1", HOST), 1),
    ],
)
def test_what_is_no_request(arguments, length):
    machine = H1Client()
    with pytest.raises(LocalProtocolError):
        machine.send_head(*arguments, length=length)
    assert machine.request("GET", "/", HOST) == GET


def test_one_exchange_at_a_time():
    machine = asked()
    with pytest.raises(LocalProtocolError, match="no request now"):
        machine.request("GET", "/", HOST)
    machine.receive(OK)
    drain(machine)
    assert machine.reusable
    machine.start_next_cycle()
    machine.request("GET", "/", HOST)


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"1.1", b"1.0"),
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_no_reuse_where_the_server_may_disagree(answer):
    machine = asked(answer=answer)
    drain(machine)
    assert not machine.reusable
    with pytest.raises(LocalProtocolError):
        machine.start_next_cycle()


def test_no_reuse_where_we_said_close_or_the_server_left():
    machine = asked(headers=[("Connection", "close")], answer=OK)
    drain(machine)
    assert not machine.reusable
    machine = asked(answer=OK)
    drain(machine)
    machine.receive_eof()
    assert not machine.reusable


def test_bytes_behind_a_response_are_a_fault():
    machine = asked(answer=OK + OK)
    drain(machine)
    assert not machine.reusable
    with pytest.raises(RemoteProtocolError, match="unexpected"):
        machine.start_next_cycle()
    with pytest.raises(RemoteProtocolError, match="unexpected"):
        machine.next_event()


def test_bytes_before_a_request_are_a_fault():
    for raw in (b"H", OK):
        machine = H1Client(raw)
        with pytest.raises(RemoteProtocolError, match="without a request"):
            machine.next_event()
    machine = H1Client()
    assert machine.next_event() is Signal.NEED_DATA
    machine.receive_eof()
    assert machine.next_event() is Signal.ENDED


def test_eof_instead_of_an_answer():
    machine = asked()
    machine.receive_eof()
    with pytest.raises(RemoteProtocolError, match="instead of answering"):
        machine.next_event()


def test_a_client_holds_its_body_back():
    machine = H1Client()
    machine.send_head("POST", "/", [*HOST, ("Expect", "100-Continue")], length=3)
    assert machine.awaits_continue
    machine.receive(b"HTTP/1.1 103 E\r\n\r\n")
    assert machine.next_event().status == 103
    assert machine.awaits_continue
    machine.receive(b"HTTP/1.1 100 C\r\n\r\n")
    assert machine.next_event().status == 100
    assert not machine.awaits_continue
    assert bytes(machine.send_data(b"abc")) + machine.send_end() == b"abc"
    machine.receive(OK)
    assert drain(machine)[1] == b"hi"


def test_an_early_answer_and_an_abandoned_request():
    machine = H1Client()
    machine.send_head("POST", "/", HOST, length=3)
    machine.receive(OK)
    drain(machine)
    assert not machine.reusable
    machine.abandon()
    assert machine.peer_state is H1State.MUST_CLOSE


SWITCHING = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\nrest"


def test_a_requested_101_switches():
    machine = asked(headers=[("Connection", "upgrade"), ("Upgrade", "foo, bar")], answer=SWITCHING % b"Bar")
    assert machine.next_event().status == 101
    assert machine.next_event() is Signal.SWITCHED
    assert machine.take_leftover() == b"rest"


@pytest.mark.parametrize(
    ("headers", "body"),
    [((), b""), ([("Upgrade", "foo"), ("Connection", "upgrade")], b""), ([("Upgrade", "bar")], b""),
     ([("Upgrade", "bar"), ("Connection", "upgrade")], b"body")],
)  # fmt: skip
def test_an_unrequested_101_is_a_fault(headers, body):
    machine = asked("POST", headers, body, SWITCHING % b"bar")
    with pytest.raises(RemoteProtocolError, match="101"):
        machine.next_event()


def test_a_tunnel_begins_behind_the_head():
    machine = H1Client()
    machine.request("CONNECT", "a:1", [("Host", "a:1"), ("Connection", "close")])
    machine.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes of the tunnel")
    assert machine.next_event().status == 200
    assert machine.next_event() is Signal.SWITCHED
    assert machine.take_leftover() == b"bytes of the tunnel"
