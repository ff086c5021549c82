"""The fast path for request heads has no opinion of its own: what it takes, `parse_request` reads alike."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trionet import HTTPLimits, RemoteProtocolError
from trionet.http.protocol.fast_head import fast_request
from trionet.http.protocol.head import parse_request
from trionet.http.protocol.machine import Signal
from trionet.http.protocol.server_machine import H1Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

FIELDS = [
    b"Host: example",
    b"host: example:80",
    b"HOST: example",
    b"Host:example",
    b"Host:",
    b"Host: a b",
    b"Host: a:http",
    b"Host: example:65535",
    b"Host: example:65536",
    b"Host: example:1:2",
    b"Host: [::1]:80",
    b"Host: [::1",
    b"Host: :80",
    b"Content-Length: 5",
    b"content-length:5",
    b"Content-Length: 05",
    b"Content-Length: 5x",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Upgrade: websocket",
    b"X-Host: nobody",
    b"Accept:  */* \t",
    b"Not-A-Host : x",
    b" folded: x",
]


def facts(head):
    fields = {name: getattr(head.fields, name) for name in ("length", "chunked", "options", "upgrade", "expect")}
    fields = {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in fields.items()}
    return head.method, head.target, head.http_version, head.headers.raw, fields


@given(st.sampled_from([b"GET", b"POST", b"CONNECT", b"get"]), st.lists(st.sampled_from(FIELDS), max_size=5))
def test_what_the_fast_path_takes_is_read_alike(method, fields):
    """Wherever Host stands: a client may write its fields in any order; and whatever it says."""
    head = b"%b /x HTTP/1.1\r\n%b\r\n" % (method, b"".join(field + b"\r\n" for field in fields))
    fast = fast_request(b"before" + head + b"behind", 6)
    if fast is not None:
        assert fast[1] == 6 + len(head)
        got, due = facts(fast[0]), facts(parse_request(head))
        if b"Connection: keep-alive" in fields:
            due[4]["options"] = got[4]["options"]  # says what holds anyway
        assert got == due
    else:
        hosts = [field for field in fields if field.lower().startswith(b"host")]
        plain = {b"X-Host: nobody", b"Accept:  */* \t", b"Connection: keep-alive"}
        decisive = [field for field in fields if field in (b"Content-Length: 5", b"Connection: close")]
        usable = len(decisive) < 2 and set(fields) - {*hosts, *decisive} <= plain
        assert not usable or hosts not in ([b"Host: example"], [b"host: example:80"]) or method in (b"CONNECT", b"get")


@given(
    st.sampled_from([b"GET", b"POST", b"CONNECT", b"get"]),
    st.lists(st.sampled_from(FIELDS), max_size=3),
    st.lists(st.sampled_from(FIELDS), max_size=3),
    st.sampled_from([b"/x", b"*", b"http://example/", b"/ x", b"/x HTTP/1.0\r\nA: b"]),
)
def test_fields_that_are_known_are_read_as_if_they_were_not(method, fields, others, target):
    """Whether the next head has the same fields, or others, or is none at all."""
    first = fast_request(b"GET /first HTTP/1.1\r\nHost: example\r\n%b\r\n" % b"".join(b"%b\r\n" % f for f in fields))
    if first is None:
        return
    known = first[0]._headers
    for rest in (fields, others):
        lines = b"".join(field + b"\r\n" for field in rest)
        head = b"%b %b HTTP/1.1\r\nHost: example\r\n%b\r\n" % (method, target, lines)
        got, due = fast_request(head + b"behind", 0, known), fast_request(head + b"behind")
        assert (got is None) == (due is None)
        if got is not None and due is not None:
            assert got[1] == due[1]
            assert facts(got[0]) == facts(due[0])
            assert (got[0]._headers is known) == (rest == fields)


@pytest.mark.parametrize("port", [1, 9, 10, 9999, 10000, 32768, 59999, 60000, 64999])
def test_an_ordinary_port_is_for_the_fast_path(port):
    assert fast_request(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port) is not None


# --- in a machine --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["Host", "host", "Content-Length", "content-length", "Connection", "Transfer-Encoding", "Upgrade", "Expect", "X"]
)
VALUES = st.one_of(
    st.sampled_from(["", "a", "a:80", "0", "5", "005", "5, 5", "+5", "keep-alive", "close", "Upgrade", "chunked"]),
    st.sampled_from(["100-continue", "websocket", "keep-alive, close", "\t5", "5 ", "gzip, chunked", "9" * 18]),
    st.sampled_from(["9" * 19, "9" * 30]),
    st.text(st.characters(min_codepoint=9, max_codepoint=255), max_size=12),
)
HEADS = st.builds(
    lambda method, target, version, fields, ends: "".join(
        [f"{method} {target} {version}{ends}", *(f"{name}:{gap}{value}{ends}" for name, gap, value in fields), ends]
    ).encode("latin-1"),
    st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "BREW", "get", "G T"]),
    st.sampled_from(["/", "/a?b", "/" + "x" * 40, "*", "http://a/", "a:80", "/ä", "//", "/ /"]),
    st.sampled_from(["HTTP/1.1"] * 4 + ["HTTP/1.0", "HTTP/1.2", "http/1.1"]),
    st.lists(st.tuples(NAMES, st.sampled_from([" "] * 6 + ["", "\t", "  ", " \t"]), VALUES), max_size=5).map(
        lambda fields: [("Host", " ", "a"), *fields]
    ),
    st.sampled_from(["\r\n"] * 6 + ["\n", "\r"]),
)
TIGHT = HTTPLimits(max_target=30, max_fields=4, max_head=100)


def all_that_is_read(data, limits, at):
    """Every event of these bytes, given at once or in two pieces, with the answers that the machine gives to them."""
    machine = H1Server(b"", limits)
    for piece in (data[:at], data[at:]):
        machine.receive(piece) if piece else None
        if at and piece is data[:at]:
            assert machine.next_event() is Signal.NEED_DATA
    found = []
    try:
        while True:
            event = machine.next_event()
            if event is Signal.NEED_DATA:
                return [*found, machine.buffered, machine.peer_state, machine.our_state, machine.keep_alive]
            if event is Signal.PAUSED:
                state = (machine.keep_alive, machine.upgrade, machine.awaits_continue, machine.bodiless)
                said = machine.respond(404, [("X", "y")], b"ok")  # to CONNECT too
                found.append(
                    (*state, said.partition(b"Date: ")[0], b"close" in said, machine.our_state, machine.peer_state)
                )
                if not machine.keep_alive:
                    return found
                machine.start_next_cycle()
            elif isinstance(event, bytes):
                found.append(event)
            elif hasattr(event, "target"):
                found.append((event.method, event.target, event.http_version, event.headers.raw, event.field_count))
            else:
                found.append(event)
    except RemoteProtocolError as exc:
        return [*found, str(exc), exc.status_hint, machine.peer_state, machine.our_state]


REST = st.sampled_from([b"", b"abcde", GET, b"abcde" + GET])


@given(head=HEADS, rest=REST, tight=st.booleans(), at=st.integers(1, 8))
@settings(deadline=None, max_examples=600)
def test_a_head_that_comes_whole_is_read_as_one_in_pieces(head, rest, tight, at):
    limits = TIGHT if tight else HTTPLimits()
    try:
        in_pieces = all_that_is_read(head + rest, limits, at)
    except AssertionError:  # the first bytes are refused already
        return
    except RemoteProtocolError:
        return
    assert all_that_is_read(head + rest, limits, 0) == in_pieces
