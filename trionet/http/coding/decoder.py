"""Decoders: one coding, or one over the other, taken off a body piece by piece, as the pieces are asked for.

A decoder of its own for each coding gives its pieces one at a time; two of them are stacked by giving the pieces of the
outer one to the inner one, again one at a time, so that the bound on a piece is the bound on all that is in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ...errors import RemoteProtocolError
from ..protocol.headers import split_list
from .decompressors import MAX_INPUT, find_decompressor
from .libraries import brotli, library_errors, zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .decompressors import Decompressor

__all__ = ["MAX_CODINGS", "Decoder", "accept_encoding", "make_decoder", "unknown_codings"]

MAX_CODINGS: Final = 2
"""How many codings a body may have, one over the other: each multiplies what the one below it has made."""


class Decoder(Protocol):
    """Takes codings off one body. Feed it in order; what an iterator has not been asked for, the next one gives."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """The pieces that `data` brings, each of at most 65,536 bytes, made when they are asked for.

        An empty piece says that work was done and that nothing came of it yet: a peer can make coded data mean nothing
        for as long as it likes, so the caller gets a chance to let other tasks run.

        Raises (while iterating):
            RemoteProtocolError: the data is malformed, or goes on behind its end.
        """
        ...

    def end(self) -> None:
        """The body has ended; all pieces were taken.

        Raises:
            RemoteProtocolError: the coded data has not; some of it is missing.
        """
        ...


def accept_encoding() -> str:
    """The value of Accept-Encoding: what can be decoded here, with the packages that are installed."""
    return ", ".join(["gzip", "deflate", *(["br"] if brotli() else []), *(["zstd"] if zstd() else [])])


def make_decoder(content_encoding: str | None) -> Decoder | None:
    """The decoder for a Content-Encoding; None where there is nothing to take off.

    Names that are not known here are passed over: most of them (``utf-8``, ``none``, ``aws-chunked``) name nothing that
    was done to the body. `unknown_codings` lists them.

    Raises:
        RemoteProtocolError: more than two known ones.
    """
    makers = [(name, make) for name in _names(content_encoding) if (make := find_decompressor(name)) is not None]
    if len(makers) > MAX_CODINGS:
        raise RemoteProtocolError(f"a body with {len(makers)} content codings; at most {MAX_CODINGS} are decoded", 502)
    decoder: Decoder | None = None
    for name, make in makers:  # the last one was applied last, so it comes off first
        outer = SingleDecoder(name, make())
        decoder = outer if decoder is None else StackedDecoder(outer, decoder)
    return decoder


def unknown_codings(content_encoding: str | None) -> list[str]:
    """The names in a Content-Encoding that `make_decoder` passes over: unknown, or their package is not installed."""
    return [name for name in _names(content_encoding) if find_decompressor(name) is None]


def _names(content_encoding: str | None) -> list[str]:
    if content_encoding is None:
        return []
    return [name for name in split_list([content_encoding.lower()]) if name != "identity"]


class SingleDecoder:
    """One coding."""

    def __init__(self, name: str, decompressor: Decompressor) -> None:
        self._name = name
        self._decompressor = decompressor
        self._input: list[bytes] = []
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        if data:
            self._begun = True
            self._input += [data[at : at + MAX_INPUT] for at in range(0, len(data), MAX_INPUT)]
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        while True:
            try:
                piece = self._decompressor.next_piece()
                if not piece:
                    if not self._input:
                        return
                    self._decompressor.feed(self._input.pop(0))
                    piece = self._decompressor.next_piece()
            except library_errors() as exc:
                raise RemoteProtocolError(f"the body is not {self._name} data: {exc}", 502) from exc
            if piece or self._input:
                yield piece

    def end(self) -> None:
        if self._begun and not self._decompressor.complete():
            raise RemoteProtocolError(f"the body ends in the middle of its {self._name} data", 502)


class StackedDecoder:
    """One coding over another: what the outer one gives goes into the inner one, as it is asked for."""

    def __init__(self, outer: Decoder, inner: Decoder) -> None:
        self._outer = outer
        self._inner = inner

    def decode(self, data: bytes) -> Iterator[bytes]:
        return self._pieces(self._outer.decode(data))

    def _pieces(self, outer: Iterator[bytes]) -> Iterator[bytes]:
        yield from self._inner.decode(b"")
        for piece in outer:
            yield from self._inner.decode(piece)
            yield b""

    def end(self) -> None:
        self._outer.end()
        self._inner.end()
