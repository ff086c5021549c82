"""Which bytes a Range asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet.http.protocol.ranges import MAX_RANGES, UnsatisfiableRangeError, parse_range


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=2-", [(2, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-99", [(0, 10)]),
        ("bytes=5-99999999999999999", [(5, 10)]),
        ("BYTES = 1-2", [(1, 3)]),
        ("bytes=1-2, 4-5", [(1, 3), (4, 6)]),
        ("bytes=4-5,1-2", [(4, 6), (1, 3)]),
        ("bytes=0-1,2-3", [(0, 2), (2, 4)]),
        ("bytes=4-6,1-5", [(1, 7)]),
        ("bytes=0-,0-,0-", None),
        ("bytes=0-", [(0, 10)]),
        ("bytes=", None),
        ("bytes= ,", None),
        ("bytes=1-2,99-,-0", [(1, 3)]),
        ("bytes=1-2,,", [(1, 3)]),
        ("lines=1-2", None),
        ("1-2", None),
        ("bytes=" + "0-0," * (MAX_RANGES + 1), None),
        ("bytes=" + "0-0," * MAX_RANGES, [(0, 1)]),
    ],
)
def test_parts_of_ten_bytes(text, spans):
    assert parse_range(text, 10) == spans


@pytest.mark.parametrize(
    "text",
    ["bytes=10-", "bytes=-0", "bytes=x", "bytes=-", "bytes=2-1", "bytes=1-2-3", "bytes=1-2,x",
     "bytes=0x1-2", "bytes=+1-2", "bytes=1.0-2", "bytes=" + "9" * 19 + "-"],
)  # fmt: skip
def test_what_cannot_be_satisfied(text):
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(text, 10)


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_nothing_has_no_parts(text):
    assert parse_range(text, 0) is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=MAX_RANGES), st.integers(1, 60))
def test_no_byte_is_sent_twice_and_every_one_that_is_wanted_once(pairs, size):
    pairs = [(min(pair), max(pair)) for pair in pairs]
    wanted = {byte for first, last in pairs for byte in range(first, min(last + 1, size))}
    text = "bytes=" + ",".join(f"{first}-{last}" for first, last in pairs)
    if not wanted:
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(text, size)
        return
    sent = [byte for start, end in parse_range(text, size) or [(0, size)] for byte in range(start, end)]
    assert len(sent) == len({*sent})
    assert {*sent} == wanted
