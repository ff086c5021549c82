"""Heads of HTTP messages: what is accepted means the same to h11, what is odd is an error."""

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http import Headers
from trionet.http.protocol.authority import COMMON, is_authority
from trionet.http.protocol.head import (
    fast_request,
    parse_request,
    parse_response,
    write_request,
    write_response,
)

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
def test_the_short_way_for_usual_requests_leads_to_the_same(method, fields):
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
        plain = {b"X-Host: nobody", b"Accept:  */* \t", b"Content-Length: 5", b"Connection: keep-alive"}
        usable = fields.count(b"Content-Length: 5") < 2 and set(fields) - set(hosts) <= plain
        assert not usable or hosts not in ([b"Host: example"], [b"host: example:80"]) or method in (b"CONNECT", b"get")


names = st.text(st.sampled_from("abcXYZ019!#$%&'*+-.^_`|~"), min_size=1)
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cc"]))


@given(st.lists(st.tuples(names, values)))
def test_what_is_written_is_read(fields):
    written = write_request("GET", "/", [("Host", "a"), *((f"x-{name}", value) for name, value in fields)])
    expected = [("Host", "a"), *((f"x-{name}", value.strip(" \t")) for name, value in fields)]
    assert parse_request(written).headers.items() == expected
    answered = write_response(200, "OK", Headers([(f"x-{name}", value) for name, value in fields]))
    assert parse_response(answered).headers.items() == expected[1:]


@pytest.mark.parametrize("target", ["/a b", "/\r\n", "/\xe4", "", "/#a"])
def test_a_target_that_cannot_be_sent_is_not_written(target):
    with pytest.raises(LocalProtocolError):
        write_request("GET", target, [])
    with pytest.raises(LocalProtocolError):
        write_response(200, f"OK\r\n{target}", [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b", ""),
        ("", ""),
        ("a:", ""),
        ("ä", ""),
        ("a\r\n", ""),
        ("a", "b\r\nc: d"),
        ("a", "b\n"),
        ("a", "\0"),
        ("a", "€"),
    ],
)
def test_fields_that_would_split_a_message_are_refused(name, value):
    with pytest.raises(ValueError, match="header"):
        Headers([(name, value)])


def test_headers_are_ordered_repeated_and_blind_to_case():
    headers = Headers([("Set-Cookie", "a"), ("Host", " x\t"), (b"set-cookie", b"b")])
    assert headers.raw == ((b"Set-Cookie", b"a"), (b"Host", b"x"), (b"set-cookie", b"b"))
    assert headers.get("SET-COOKIE") == headers["set-cookie"] == "a, b"
    assert headers.get_list("set-cookie") == ["a", "b"]
    assert headers.get("other") is None
    assert headers.get("other", "c") == "c"
    assert "host" in headers
    assert "other" not in headers
    assert b"host" not in headers
    assert list(headers) == ["Set-Cookie", "Host"]
    assert len(headers) == 2
    assert headers == Headers([("host", "x"), ("set-cookie", "a"), ("set-cookie", "b")])
    assert headers != Headers([("host", "x"), ("set-cookie", "b"), ("set-cookie", "a")])
    assert hash(headers) == hash(Headers([("host", "x"), ("set-cookie", "a"), ("set-cookie", "b")]))
    assert headers != "a"
    assert Headers(headers) == headers
    assert repr(Headers({"a": "b"})) == "Headers([('a', 'b')])"
    with pytest.raises(KeyError):
        headers["other"]
    with pytest.raises(TypeError):
        Headers({"Content-Length": 5})


@given(st.lists(st.sampled_from([*b"a0.-_:[]%25@/ ", 0x40, 0xE4]), max_size=8).map(bytes))
def test_the_common_pattern_takes_nothing_that_is_not_an_authority(value):
    assert not re.fullmatch(COMMON, value) or is_authority(value)


@pytest.mark.parametrize("port", [1, 9, 10, 9999, 10000, 32768, 59999, 60000, 64999])
def test_an_ordinary_port_takes_the_short_way(port):
    assert fast_request(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port) is not None


@pytest.mark.parametrize("line", ["GET http://me:secret@a/ HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: me:secret@a"])
def test_credentials_are_not_quoted(line):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_request(f"{line}\r\n\r\n".encode())
    assert "secret" not in str(caught.value)
