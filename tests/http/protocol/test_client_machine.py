"""A client's machine by hand: which connections may be used again, and what comes unasked."""

from __future__ import annotations

import pytest

from tests.helpers.http_readers import drain
from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http.protocol.client_machine import H1Client
from trionet.http.protocol.machine import Signal
from trionet.http.protocol.states import H1State

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
HOST = [("Host", "a")]


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
    assert not machine.keep_alive
    with pytest.raises(LocalProtocolError):
        machine.send_end()


SWITCHING = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\nrest"


def test_a_requested_101_switches():
    machine = asked(headers=[("Connection", "upgrade"), ("Upgrade", "foo, bar")], answer=SWITCHING % b"Bar")
    assert machine.next_event().status == 101
    assert machine.next_event() is Signal.SWITCHED
    assert machine.unread() == b"rest"


@pytest.mark.parametrize(
    ("headers", "body"),
    [((), b""), ([("Upgrade", "foo"), ("Connection", "upgrade")], b""), ([("Upgrade", "bar")], b""),
     ([("Upgrade", "bar"), ("Connection", "upgrade")], b"body")],
)  # fmt: skip
def test_an_unrequested_101_is_a_fault(headers, body):
    machine = asked("POST", headers, body, SWITCHING % b"bar")
    with pytest.raises(RemoteProtocolError, match="101"):
        machine.next_event()


def test_a_tunnel_for_a_request_that_was_cut_off_is_a_fault():
    machine = H1Client()
    machine.send_head("CONNECT", "a:1", [("Host", "a:1")])
    machine.abandon()
    machine.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match="not sent to its end"):
        machine.next_event()


def test_a_tunnel_begins_behind_the_head():
    machine = H1Client()
    machine.request("CONNECT", "a:1", [("Host", "a:1"), ("Connection", "close")])
    machine.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes of the tunnel")
    assert machine.next_event().status == 200
    assert machine.next_event() is Signal.SWITCHED
    assert machine.unread() == b"bytes of the tunnel"
