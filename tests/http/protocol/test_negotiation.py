"""Accept-Encoding: which coding is preferred, and when none is (RFC 9110 §12.5.3)."""

import pytest

from trionet.http.protocol.negotiation import preferred_coding

ALL = ("zstd", "br", "gzip")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ([], None),
        ([""], None),
        (["gzip"], "gzip"),
        (["GZip"], "gzip"),
        (["x-gzip"], "gzip"),
        (["gzip, deflate, br, zstd"], "zstd"),
        (["gzip, deflate, br"], "br"),
        (["gzip", "br"], "br"),
        (["gzip;q=1.0, br;q=0.9"], "gzip"),
        (["gzip ; q=0.5,br\t;\tq=0.501"], "br"),
        (["deflate"], None),
        (["*"], "zstd"),
        (["*;q=0"], None),
        (["gzip;q=0, *"], "zstd"),
        (["zstd;q=0, *;q=0.2"], "br"),
        (["gzip;q=0"], None),
        (["gzip;q=0.000"], None),
        (["gzip;q=0.001"], "gzip"),
        (["identity, gzip;q=0.5"], None),
        (["identity;q=0.5, gzip;q=0.5"], "gzip"),
        (["identity;q=0.4, gzip;q=0.5"], "gzip"),
        (["identity"], None),
        (["identity;q=0, *;q=0"], None),
        (["gzip;q=2"], None),
        (["gzip;q=-1"], None),
        (["gzip;q=0.1234"], None),
        (["gzip;q=nan, br"], "br"),
        (["gzip;level=9, br;q=0.1"], "br"),
        ([",, gzip ,,"], "gzip"),
        (["g zip"], None),
        (["gzip" + ", a" * 200], "gzip"),
    ],
)
def test_the_coding_that_is_preferred(accepted, coding):
    assert preferred_coding(accepted, ALL) == coding


def test_only_what_is_offered_is_chosen():
    assert preferred_coding(["zstd, br, gzip;q=0.1"], ("gzip",)) == "gzip"
    assert preferred_coding(["zstd, br"], ("gzip",)) is None


def test_where_weights_are_equal_the_order_of_the_server_counts():
    assert preferred_coding(["zstd, br, gzip"], ("gzip", "zstd")) == "gzip"
