"""Bodies: what their readers and writers do at the edges, and with each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http.protocol.body_reader import END, EndOfMessage, make_reader
from trionet.http.protocol.body_writer import make_writer
from trionet.http.protocol.framing import CHUNKED, UNTIL_EOF
from trionet.http.protocol.headers import Headers
from trionet.http.protocol.receive_buffer import ReceiveBuffer


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
