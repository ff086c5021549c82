"""Content codings: taken off in pieces, only as far as somebody asks."""

from __future__ import annotations

import gzip
import importlib
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from trionet import RemoteProtocolError
from trionet.http.coding import MAX_PIECE, Decoder, accept_encoding, libraries, make_decoder, unknown_codings

TEXT = b"".join(b"%d bottles of beer\n" % n for n in range(20_000))
ZEROS = 65_000_000


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush()


def module(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip(f"none of {', '.join(names)} is installed")


def brotli(data: bytes) -> bytes:
    return bytes(module("brotli", "brotlicffi").compress(data))


def zstd(data: bytes) -> bytes:
    return bytes(module("compression.zstd", "backports.zstd").compress(data))


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate, as it is meant": ("deflate", zlib.compress),
    "deflate, as many send it": ("deflate", raw_deflate),
    "br": ("br", brotli),
    "zstd": ("zstd", zstd),
}
every_coding = pytest.mark.parametrize("kind", CODINGS)


def encoded(kind: str, data: bytes) -> tuple[Decoder, bytes]:
    """A decoder, and what it makes `data` of."""
    name, encode = CODINGS[kind]
    body = encode(data)
    decoder = make_decoder(name)
    assert decoder is not None
    return decoder, body


@every_coding
@pytest.mark.parametrize("size", [1, 2, 3, 1000, 1_000_000])
def test_a_body_in_parts_of_every_size(kind: str, size: int) -> None:
    decoder, body = encoded(kind, TEXT)
    pieces = [piece for at in range(0, len(body), size) for piece in decoder.decode(body[at : at + size])]
    decoder.end()
    assert b"".join(pieces) == TEXT
    assert all(0 < len(piece) <= MAX_PIECE for piece in pieces)


@every_coding
@pytest.mark.parametrize("size", [0, 1, MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE])
def test_a_body_that_fills_its_pieces_or_does_not(kind: str, size: int) -> None:
    decoder, body = encoded(kind, bytes(size))
    assert b"".join(decoder.decode(body)) == bytes(size)
    decoder.end()


@every_coding
def test_a_flood_costs_no_more_than_was_asked_for(kind: str) -> None:
    decoder, body = encoded(kind, bytes(ZEROS))
    assert len(body) < 80_000
    tracemalloc.start()
    try:
        pieces = decoder.decode(body)
        assert len(next(pieces)) <= MAX_PIECE
        assert tracemalloc.get_traced_memory()[1] < 10 * MAX_PIECE
        total = MAX_PIECE + sum(map(len, pieces))
        assert tracemalloc.get_traced_memory()[1] < 10 * MAX_PIECE
    finally:
        tracemalloc.stop()
    assert ZEROS <= total < ZEROS + MAX_PIECE
    decoder.end()


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    decoder = make_decoder("gzip")
    assert decoder is not None
    pieces = decoder.decode(b"this is no gzip data")  # nobody has looked
    with pytest.raises(RemoteProtocolError, match="not gzip data"):
        next(pieces)


@pytest.mark.parametrize("name", ["gzip", "gzip, deflate"])
def test_what_one_iterator_was_not_asked_for_the_next_one_gives(name: str) -> None:
    decoder = make_decoder(name)
    assert decoder is not None
    body = gzip.compress(TEXT) if name == "gzip" else zlib.compress(gzip.compress(TEXT))
    got = next(decoder.decode(body[:-10]))
    got += b"".join(decoder.decode(body[-10:]))
    decoder.end()
    assert got == TEXT


@every_coding
def test_a_body_that_is_cut_off(kind: str) -> None:
    decoder, body = encoded(kind, TEXT)
    for _ in decoder.decode(body[:-1]):
        pass
    with pytest.raises(RemoteProtocolError, match="ends in the middle") as fault:
        decoder.end()
    assert fault.value.status_hint == 502


@every_coding
@pytest.mark.parametrize("at_once", [True, False])
def test_a_body_that_goes_on_behind_its_end(kind: str, at_once: bool) -> None:
    decoder, body = encoded(kind, b"hello")
    rest = b"some bytes behind"
    with pytest.raises(RemoteProtocolError, match="the body is not"):
        for part in [body + rest] if at_once else [body, rest]:
            for _ in decoder.decode(part):
                pass


@every_coding
def test_a_body_that_is_something_else(kind: str) -> None:
    decoder, _ = encoded(kind, b"")
    with pytest.raises(RemoteProtocolError, match="the body is not"):
        for _ in decoder.decode(b"\xff" * 300):
            pass


@every_coding
def test_no_body_at_all_is_an_empty_one(kind: str) -> None:
    decoder, _ = encoded(kind, b"")
    assert list(decoder.decode(b"")) == []
    decoder.end()


def test_half_of_a_first_byte_is_not_enough_to_tell_deflate() -> None:
    decoder = make_decoder("deflate")
    assert decoder is not None
    assert list(decoder.decode(b"\x78")) == []
    with pytest.raises(RemoteProtocolError, match="ends in the middle"):
        decoder.end()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_members_and_frames_follow_each_other(kind: str, size: int) -> None:
    decoder, one = encoded(kind, b"one")
    body = one + CODINGS[kind][1](b"") + CODINGS[kind][1](b"two")
    got = b"".join(piece for at in range(0, len(body), size) for piece in decoder.decode(body[at : at + size]))
    decoder.end()
    assert got == b"onetwo"


def test_codings_one_over_the_other_come_off_in_the_reverse_order() -> None:
    decoder = make_decoder("Deflate,  GZIP")
    assert decoder is not None
    body = gzip.compress(zlib.compress(TEXT))
    assert b"".join(piece for at in range(0, len(body), 100) for piece in decoder.decode(body[at : at + 100])) == TEXT
    decoder.end()


def test_each_of_two_codings_has_to_be_complete() -> None:
    decoder = make_decoder("deflate, gzip")
    assert decoder is not None
    list(decoder.decode(gzip.compress(zlib.compress(TEXT)[:-1])))
    with pytest.raises(RemoteProtocolError, match="middle of its deflate data"):
        decoder.end()


@pytest.mark.parametrize("value", [None, "", "identity", " Identity , "])
def test_identity_needs_no_decoder(value: str | None) -> None:
    assert make_decoder(value) is None


def test_too_many_codings_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="3 content codings; at most 2"):
        make_decoder("gzip, gzip, utf-8, gzip")
    assert make_decoder("gzip, none, aws-chunked, gzip") is not None


def test_unknown_codings_are_passed_over_and_told() -> None:
    assert make_decoder("compress") is None
    assert unknown_codings("gzip, Compress,, identity, UTF-8") == ["compress", "utf-8"]
    assert unknown_codings(None) == []


@pytest.fixture
def forgotten() -> Any:
    """What is known of installed packages is forgotten before and after the test."""
    caches = (libraries.brotli, libraries.zstd, libraries.library_errors)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_what_is_installed_is_offered(monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    monkeypatch.setattr(libraries, "_import", lambda name: None)
    assert accept_encoding() == "gzip, deflate"
    assert make_decoder("br, zstd") is None
    assert unknown_codings("br, zstd, gzip") == ["br", "zstd"]
    decoder = make_decoder("gzip")
    assert decoder is not None
    with pytest.raises(RemoteProtocolError):
        list(decoder.decode(b"no"))


def test_a_brotli_that_knows_no_bound_is_not_used(monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    class Old:
        class Decompressor:
            def process(self, data: bytes) -> bytes:
                raise AssertionError("called without a bound")

    monkeypatch.setattr(libraries, "_import", lambda name: Old if name == "brotli" else None)
    assert accept_encoding() == "gzip, deflate"


def test_zstd_keeps_to_the_window_that_browsers_allow() -> None:
    library = module("compression.zstd", "backports.zstd")
    options = {
        library.CompressionParameter.window_log: 24,
        library.CompressionParameter.enable_long_distance_matching: 1,
    }
    body = library.compress(bytes(2**25), options=options)
    decoder = make_decoder("zstd")
    assert decoder is not None
    with pytest.raises(RemoteProtocolError, match="not zstd data"):
        list(decoder.decode(body))
