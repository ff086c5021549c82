"""Bytes that were received: a place that moves, a search that is resumed."""

from trionet.http.protocol.receive_buffer import ReceiveBuffer


def test_a_buffer_keeps_its_place():
    buffer = ReceiveBuffer(b"ab\r\ncd")
    assert buffer.cut(b"\r\n", 100) == b"ab\r\n"
    assert buffer.cut(b"\r\n", 100) is None
    buffer.feed(b"\r")
    assert buffer.cut(b"\r\n", 100) is None
    buffer.feed(b"\nef")
    assert buffer.cut(b"\r\n", 3) is None
    assert buffer.cut(b"\r\n", 4) == b"cd\r\n"
    assert buffer.take(1) == b"e"
    buffer.feed(b"\r\n\n")
    assert buffer.has_bare_newline()
    assert buffer.peek(2) == b"f\r"
    assert len(buffer) == 4
    assert buffer.clear() == b"f\r\n\n"
    assert not buffer.has_bare_newline()


def test_what_came_whole_is_not_copied():
    data = b"x" * 1000
    buffer = ReceiveBuffer()
    buffer.feed(data)
    assert buffer.clear() is data
