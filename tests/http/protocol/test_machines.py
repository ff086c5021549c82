"""The HTTP/1.1 machines: against h11 over a corpus, in every split, and against each other."""

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
from tests.helpers.http_readers import drain, h11_reads, read, requests, responses
from trionet.http.protocol.body_reader import END, EndOfMessage
from trionet.http.protocol.client_machine import H1Client
from trionet.http.protocol.headers import Headers
from trionet.http.protocol.machine import Signal
from trionet.http.protocol.server_machine import H1Server

ENTRIES = [(entry, False) for entry in REQUESTS.entries.values()] + [(e, True) for e in RESPONSES.entries.values()]
every_entry = pytest.mark.parametrize(("entry", "client"), ENTRIES, ids=[entry.name for entry, _ in ENTRIES])

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
