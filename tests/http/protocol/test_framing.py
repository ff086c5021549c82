"""Framing and bodies, part by part: how a body is framed, and what its readers and writers do at the edges."""

import pytest

from trionet import RemoteProtocolError
from trionet.http.protocol.framing import CHUNKED, MAX_LENGTH, NO_BODY, UNTIL_EOF, FieldSummary, parse_length


def summary(**fields):
    return FieldSummary(tuple((name.replace("_", "-").encode(), value) for name, value in fields.items()))


def request_framing(method="GET", version="1.1", **fields):
    return summary(**fields).of_request(method, version)


def response_framing(status, method="GET", version="1.1", **fields):
    return summary(**fields).of_response(status, version, method)


def test_how_requests_are_framed():
    assert request_framing() == NO_BODY
    assert request_framing("POST") == NO_BODY
    assert request_framing(content_length=b"007") == 7
    assert request_framing(Transfer_Encoding=b"Chunked") == CHUNKED
    assert request_framing("CONNECT", content_length=b"0") == NO_BODY


def test_how_responses_are_framed():
    for status in (100, 103, 204, 304):
        assert response_framing(status, content_length=b"5") == NO_BODY
        assert response_framing(status, transfer_encoding=b"chunked") == NO_BODY
    assert response_framing(200, "HEAD", content_length=b"5") == NO_BODY
    assert response_framing(200, "CONNECT", transfer_encoding=b"chunked") == NO_BODY
    assert response_framing(407, "CONNECT", content_length=b"5") == 5
    assert response_framing(200) == UNTIL_EOF
    assert response_framing(200, content_length=b"0") == NO_BODY
    assert response_framing(200, transfer_encoding=b"chunked") == CHUNKED


@pytest.mark.parametrize("value", [b"+1", b"-1", b"1,1", b"1 ", b" 1", b"0x1", b"", b"1_0", b"\xb2", b"9" * 5000])
def test_what_is_no_length(value):
    with pytest.raises(RemoteProtocolError):
        parse_length(value)


def test_the_largest_length():
    assert parse_length(b"000%d" % MAX_LENGTH) == MAX_LENGTH
    with pytest.raises(RemoteProtocolError, match="more than"):
        parse_length(b"%d" % (MAX_LENGTH + 1))


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"transfer_encoding": b"chunked", "content_length": b"1"}, 400),
        ({"transfer_encoding": b"gzip, chunked"}, 501),
        ({"transfer_encoding": b"gzip"}, 400),
        ({"transfer_encoding": b"chunked, chunked"}, 400),
        ({"transfer_encoding": b"chunked", "TRANSFER_ENCODING": b"chunked"}, 400),
        ({"content_length": b"1", "Content_Length": b"1"}, 400),
    ],
)
def test_framing_in_doubt(fields, hint):
    with pytest.raises(RemoteProtocolError) as caught:
        summary(**fields)
    assert caught.value.status_hint == hint


def test_codings_in_http_10_and_bodies_of_connect():
    with pytest.raises(RemoteProtocolError, match=r"1\.0"):
        request_framing(version="1.0", transfer_encoding=b"chunked")
    with pytest.raises(RemoteProtocolError, match=r"1\.0"):
        response_framing(200, version="1.0", transfer_encoding=b"chunked")
    with pytest.raises(RemoteProtocolError, match="CONNECT"):
        request_framing("CONNECT", content_length=b"1")


def test_who_lets_the_connection_persist():
    assert summary().persists("1.1")
    assert not summary().persists("1.0")
    assert summary(connection=b"x, Keep-Alive").persists("1.0")
    assert not summary(connection=b"keep-alive, close").persists("1.1")
