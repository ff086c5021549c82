"""Bodies that are written: joined and in parts, they are the same bytes."""

import pytest

from trionet import LocalProtocolError
from trionet.http.protocol.body_writer import LARGE_CHUNK, DiscardingWriter, UntilEOFWriter, make_writer
from trionet.http.protocol.framing import CHUNKED

SIZES = (0, 1, LARGE_CHUNK - 1, LARGE_CHUNK, 3 * LARGE_CHUNK)
WRITERS = {
    "counted": lambda: make_writer(sum(SIZES)),
    "chunked": lambda: make_writer(CHUNKED),
    "until EOF": UntilEOFWriter,
    "discarded": DiscardingWriter,
}


@pytest.mark.parametrize("make", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_parts_are_the_same_bytes_as_the_whole(make, kind):
    joined, parted = make(), make()
    for size in SIZES:
        piece = kind(b"x" * size)
        parts = parted.parts(piece)
        assert all(len(part) for part in parts)
        assert b"".join(parts) == bytes(joined.data(piece))
    assert parted.end(()) == joined.end(())


def test_a_large_piece_is_not_copied():
    piece = b"x" * LARGE_CHUNK
    for name in ("counted", "chunked", "until EOF"):
        assert any(part is piece for part in WRITERS[name]().parts(piece))


@pytest.mark.parametrize(
    ("name", "counts"), [("counted", True), ("until EOF", True), ("chunked", False), ("discarded", False)]
)
def test_what_need_not_be_in_memory_is_counted_where_nothing_is_added(name, counts):
    assert WRITERS[name]().count(1) is counts


def test_parts_and_counts_are_held_to_the_length():
    writer = make_writer(5)
    assert writer.count(3)
    with pytest.raises(LocalProtocolError, match="longer than its Content-Length of 5: 3 bytes sent, and 3 more given"):
        writer.count(3)
    with pytest.raises(LocalProtocolError, match="longer than its Content-Length"):
        writer.parts(b"abc")
    assert writer.parts(b"ab") == (b"ab",)
    assert writer.end(()) == b""
