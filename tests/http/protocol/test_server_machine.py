"""A server's machine by hand: what it reads, what it says, and what it refuses to say."""

from __future__ import annotations

import re
import time

import pytest

from tests.helpers.http_readers import drain
from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http.protocol.body_reader import END
from trionet.http.protocol.limits import HTTPLimits
from trionet.http.protocol.machine import Signal
from trionet.http.protocol.server_machine import H1Server
from trionet.http.protocol.states import H1State

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"


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
    machine.restore(before)
    machine.send_head(200, held=True)
    assert machine.invite_body() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not machine.awaits_continue
    machine.restore(before)
    assert not machine.head_held
    assert b"close" not in machine.send_head(200)


def test_what_arrives_beside_a_last_response_that_is_taken_back_is_not_lost():
    """A response is to end the connection, and is held back; the client pipelines; the handler fails, and says so."""
    machine = served(GET)
    before = machine.snapshot()
    assert b"Connection: close" in machine.send_head(200, [("Connection", "close")], held=True)
    machine.receive(GET)
    machine.restore(before)
    assert b"close" not in machine.respond(500)
    machine.start_next_cycle()
    assert machine.next_event().method == "GET"


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
            machine.switch_head(headers)
    wire = machine.switch_head([("Upgrade", "Bar")])
    assert wire == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: Bar\r\nConnection: Upgrade\r\n\r\n"
    machine.receive(b" more")
    assert machine.unread() == b"\x00rest more"
    machine.respond(426)
    with pytest.raises(LocalProtocolError, match="our side is done"):
        machine.switch_head([("Upgrade", "bar")])


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
        machine.switch_head([("Upgrade", "bar")])
    with pytest.raises(LocalProtocolError):
        machine.switch_head(status=200)


def test_a_tunnel_and_a_refused_one():
    connect = b"CONNECT a:1 HTTP/1.0\r\n\r\n"
    machine = served(connect + b"\x16")
    assert machine.switch_head([("A", "b")], status=200) == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert machine.unread() == b"\x16"
    machine = served(connect + GET)
    machine.respond(403)
    assert machine.next_event() is Signal.NEED_DATA


def test_fields_are_shared_with_the_next_request_until_the_connection_is_idle():
    machine = H1Server()
    heads = []
    for number in range(4):
        if number == 3:
            machine.forget_fields()
        heads.append(machine.receive_request(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n" % number))
        assert machine.next_event() is END
        machine.respond(200)
        machine.start_next_cycle()
    assert [head.target for head in heads] == ["/0", "/1", "/2", "/3"]
    assert heads[0].headers is heads[1].headers is heads[2].headers
    assert heads[3].headers is not heads[0].headers
    assert heads[3].headers == heads[0].headers


def test_fields_that_are_long_are_not_kept():
    machine = H1Server()
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"y" * 5000)
    first = machine.receive_request(head)
    assert machine.next_event() is END
    machine.respond(200)
    machine.start_next_cycle()
    assert machine.receive_request(head).headers is not first.headers
