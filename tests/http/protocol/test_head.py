"""Heads of HTTP messages: what is accepted means the same to h11, what is odd is an error."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import RemoteProtocolError
from trionet.http.protocol.head import parse_request, parse_response

GOOD = b"GET /a?b=c HTTP/1.1\r\nHost: example\r\nX-One: 1\r\nx-one:  \t2 \t\r\nEmpty:\r\n\r\n"


def test_a_request_head_is_taken_apart():
    head = parse_request(GOOD)
    assert (head.method, head.target, head.http_version) == ("GET", "/a?b=c", "1.1")
    assert head.headers.items() == [("Host", "example"), ("X-One", "1"), ("x-one", "2"), ("Empty", "")]


def test_a_response_head_is_taken_apart():
    head = parse_response(b"HTTP/1.0 404 Not \xe4\r\nA: \xff\r\n\r\n")
    assert (head.status, head.reason, head.http_version) == (404, "Not \xe4", "1.0")
    assert head.headers["a"] == "\xff"
    assert parse_response(b"HTTP/1.1 200\r\n\r\n").reason == ""
    assert parse_response(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").status == 101


def test_a_body_is_announced_and_not_waited_for():
    assert parse_request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").headers["content-length"] == "4"
    assert parse_request(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n").target == "a:80"
    assert parse_request(b"OPTIONS * HTTP/1.0\r\n\r\n").target == "*"
    assert parse_request(b"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n").target == "http://a/b"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        (b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\tb: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rB: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nB: \0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nB: \x7f\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nB\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nB\xe4: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ],
)
def test_odd_requests_are_errors(head, status):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_request(head)
    assert caught.value.status_hint == status


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\nK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    ],
)
def test_odd_responses_are_errors(head):
    with pytest.raises(RemoteProtocolError):
        parse_response(head)


def h11_reads(data):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    return connection.next_event()


PIECES = [
    b"GET",
    b"POST",
    b" ",
    b"/",
    b"HTTP/1.1",
    b"\r\n",
    b"\n",
    b"\r",
    b"Host",
    b":",
    b"a",
    b"\t",
    b"\0",
    b"\xff",
    b",",
]


@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=16).map(b"".join), st.binary(max_size=40)), st.data())
def test_what_is_accepted_h11_accepts_with_the_same_meaning(inserted, data):
    at = data.draw(st.integers(0, len(GOOD)))
    skip = data.draw(st.integers(0, 3))
    odd = GOOD[:at] + inserted + GOOD[at + skip :]
    try:
        head = parse_request(odd)
    except RemoteProtocolError:
        return
    event = h11_reads(odd)
    assert isinstance(event, h11.Request)
    assert event.method.decode() == head.method
    assert event.target.decode() == head.target
    assert event.http_version.decode() == head.http_version
    assert list(event.headers.raw_items()) == list(head.headers.raw)


@pytest.mark.parametrize("line", ["GET http://me:secret@a/ HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: me:secret@a"])
def test_credentials_are_not_quoted(line):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_request(f"{line}\r\n\r\n".encode())
    assert "secret" not in str(caught.value)
