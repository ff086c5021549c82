"""Framing and bodies, part by part: how a body is framed, and what its readers and writers do at the edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http.protocol.body_reader import END, EndOfMessage, make_reader
from trionet.http.protocol.body_writer import make_writer
from trionet.http.protocol.framing import CHUNKED, MAX_LENGTH, NO_BODY, UNTIL_EOF, FieldSummary, parse_length
from trionet.http.protocol.headers import Headers
from trionet.http.protocol.receive_buffer import ReceiveBuffer


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


def test_eof_in_the_middle_says_what_is_missing():
    reader = make_reader(10)
    assert reader.read(ReceiveBuffer(b"abc")) == b"abc"
    with pytest.raises(RemoteProtocolError, match="7 of 10 bytes"):
        reader.at_eof()
    reader = make_reader(CHUNKED)
    assert reader.read(ReceiveBuffer(b"5\r\nabc")) == b"abc"
    with pytest.raises(RemoteProtocolError, match="after 3 bytes: at least 2 bytes of a chunk"):
        reader.at_eof()


@pytest.mark.parametrize("wire", [b"5\n", b"5;a=b\nhello\n", b"zz\n", b"0\r\nA: b\n\n", b"0\r\nA: b\r\nC: d\n"])
def test_a_line_that_ends_with_lf_alone_is_refused_as_soon_as_it_is_there(wire):
    """Its peer has sent all that it has: whoever waits for a CR waits for ever."""
    buffer, reader = ReceiveBuffer(), make_reader(CHUNKED)
    with pytest.raises(RemoteProtocolError, match="bare LF"):
        for at in range(len(wire)):
            buffer.feed(wire[at : at + 1])
            assert reader.read(buffer) is None


def test_a_reader_takes_nothing_that_is_not_its_own():
    for framing, wire in ((3, b"abc"), (CHUNKED, b"3\r\nabc\r\n0\r\n\r\n")):
        buffer, reader = ReceiveBuffer(wire + b"rest"), make_reader(framing)
        assert reader.read(buffer) == b"abc"
        assert reader.read(buffer) is END
        assert buffer.clear() == b"rest"


def test_ends_compare_by_their_trailers():
    assert EndOfMessage(Headers([("a", "b")])) == EndOfMessage(Headers([("A", "b")])) != END
    assert END != 3
    assert len({END, EndOfMessage(Headers())}) == 1
    assert "Headers" in repr(END)


def test_counted_bodies_are_counted():
    writer = make_writer(4)
    piece = b"abc"
    assert writer.data(piece) is piece
    with pytest.raises(LocalProtocolError, match="longer"):
        writer.data(b"de")
    with pytest.raises(LocalProtocolError, match="1 byte missing"):
        writer.end(())
    assert bytes(writer.data(memoryview(b"d"))) == b"d"
    with pytest.raises(LocalProtocolError, match="trailers"):
        writer.end([("a", "b")])
    assert writer.end(()) == b""


def test_chunks_are_written():
    writer = make_writer(CHUNKED)
    assert writer.data(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert writer.data(memoryview(b"abcd").cast("H")) == b"4\r\nabcd\r\n"
    assert writer.data(b"") == b""
    assert writer.end([("A", "b")]) == b"0\r\nA: b\r\n\r\n"
    assert writer.end(()) == b"0\r\n\r\n"
    with pytest.raises(LocalProtocolError, match="trailer"):
        writer.end([("Content-length", "3")])
    with pytest.raises(ValueError, match="control"):
        writer.end([("A", "b\r\nc: d")])


def test_a_body_until_eof_has_no_trailers():
    writer = make_writer(UNTIL_EOF)
    assert writer.data(b"a") == b"a"
    with pytest.raises(LocalProtocolError, match="EOF"):
        writer.end([("a", "b")])
    assert writer.end(()) == b""


@given(st.lists(st.binary(max_size=30), max_size=8), st.lists(st.integers(0, 300)))
def test_what_is_written_in_chunks_is_read_in_any_pieces(pieces, cuts):
    writer, reader = make_writer(CHUNKED), make_reader(CHUNKED)
    wire = b"".join([bytes(writer.data(piece)) for piece in pieces]) + writer.end([("A", "b")]) + b"rest"
    buffer, body, start = ReceiveBuffer(), b"", 0
    for cut in [*sorted(cuts), len(wire)]:
        buffer.feed(wire[start:cut])
        start = max(start, cut)
        while isinstance(got := reader.read(buffer), bytes):
            body += got
        if got is not None:
            break
    assert got == EndOfMessage(Headers([("A", "b")]))
    assert body == b"".join(pieces)
    buffer.feed(wire[start:])
    assert buffer.clear() == b"rest"
