"""Content codings: taking gzip, deflate, brotli and zstd off a body, piece by piece (RFC 9110 §8.4).

A few kilobytes can stand for gigabytes, so nothing is decoded before it is asked for, and no more than a piece at a
time: who stops reading has paid for what he has read, in time and in memory. Libraries that cannot keep to a bound on
their output are not used.
"""

from __future__ import annotations

import zlib
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..errors import RemoteProtocolError
from .protocol.headers import split_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MAX_CODINGS", "MAX_PIECE", "Decoder", "accept_encoding", "make_decoder", "unknown_codings"]

MAX_PIECE: Final = 65536
"""Bytes of decoded body that are made at a time."""
MAX_CODINGS: Final = 2
"""How many codings a body may have, one over the other: each multiplies what the one below it has made."""

_MAX_INPUT: Final = 16384
"""Bytes that are given to a library at a time: what it does not take it copies."""
_MAX_WINDOW_LOG: Final = 23
"""A zstd window has at most 8 MiB (RFC 9659 §3)."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class Decoder(Protocol):
    """Takes codings off one body. Feed it in order; what an iterator has not been asked for, the next one gives."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """The pieces that `data` brings, each of at most 65,536 bytes, made when they are asked for.

        An empty one says that work was done and nothing came of it yet: coded data can be made to mean nothing for as
        long as one likes, and who asks may have other things to do.

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
    return ", ".join(["gzip", "deflate", *(["br"] if _brotli() else []), *(["zstd"] if _zstd() else [])])


def make_decoder(content_encoding: str | None) -> Decoder | None:
    """The decoder for a Content-Encoding; None where there is nothing to take off.

    Names that are not known here are passed over: most of them (``utf-8``, ``none``, ``aws-chunked``) name nothing that
    was done to the body. `unknown_codings` tells them.

    Raises:
        RemoteProtocolError: more than two known ones.
    """
    engines = [(name, make) for name in _names(content_encoding) if (make := _engine(name)) is not None]
    if len(engines) > MAX_CODINGS:
        raise RemoteProtocolError(f"a body with {len(engines)} content codings; at most {MAX_CODINGS} are decoded", 502)
    decoder: Decoder | None = None
    for name, make in engines:  # the last one was applied last, so it comes off first
        outer = _Single(name, make())
        decoder = outer if decoder is None else _Stacked(outer, decoder)
    return decoder


def unknown_codings(content_encoding: str | None) -> list[str]:
    """The names in a Content-Encoding that `make_decoder` passes over: unknown, or their package is not installed."""
    return [name for name in _names(content_encoding) if _engine(name) is None]


def _names(content_encoding: str | None) -> list[str]:
    if content_encoding is None:
        return []
    return [name for name in split_list([content_encoding.lower()]) if name != "identity"]


class _Engine(Protocol):
    """One coding of one body, over a library."""

    def feed(self, data: bytes) -> None:
        """Take more input, at most `_MAX_INPUT` bytes; only where `next_piece` has given nothing."""
        ...

    def next_piece(self) -> bytes:
        """The next 1 to `MAX_PIECE` bytes; nothing if more input is needed."""
        ...

    def complete(self) -> bool:
        """Whether the coded data may end here."""
        ...


class _Single:
    """One coding."""

    def __init__(self, name: str, engine: _Engine) -> None:
        self._name = name
        self._engine = engine
        self._input: list[bytes] = []
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        if data:
            self._begun = True
            self._input += [data[at : at + _MAX_INPUT] for at in range(0, len(data), _MAX_INPUT)]
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        while True:
            try:
                piece = self._engine.next_piece()
                if not piece:
                    if not self._input:
                        return
                    self._engine.feed(self._input.pop(0))
                    piece = self._engine.next_piece()
            except _library_errors() as exc:
                raise RemoteProtocolError(f"the body is not {self._name} data: {exc}", 502) from exc
            if piece or self._input:
                yield piece

    def end(self) -> None:
        if self._begun and not self._engine.complete():
            raise RemoteProtocolError(f"the body ends in the middle of its {self._name} data", 502)


class _Stacked:
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


class _GarbageError(ValueError):
    """There is something behind the end of the coded data."""


class _Inflate:
    """zlib in its three wrappings. gzip may have several members, one behind the other (RFC 1952 §2.2)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits)
        self._input = b""
        self._more = False

    def feed(self, data: bytes) -> None:
        self._input += data

    def next_piece(self) -> bytes:
        while self._input or self._more:
            if self._inflate.eof:
                self._next_member()
            piece = self._inflate.decompress(self._input, MAX_PIECE)
            self._input = self._inflate.unconsumed_tail or self._inflate.unused_data
            self._more = len(piece) == MAX_PIECE and not self._inflate.eof
            if piece:
                return piece
        return b""

    def _next_member(self) -> None:
        if self._wbits != _GZIP:
            raise _GarbageError(f"it goes on behind its end with {self._input[:16]!r}")
        self._inflate = zlib.decompressobj(self._wbits)

    def complete(self) -> bool:
        return self._inflate.eof


class _Deflate(_Inflate):
    """zlib's format (RFC 1950), or bare deflate (RFC 1951), which many send under this name: the first bytes tell."""

    def __init__(self) -> None:
        super().__init__(_RAW)
        self._known = False

    def next_piece(self) -> bytes:
        if not self._known:
            if len(self._input) < 2:
                return b""
            method, flags = self._input[0], self._input[1]
            wrapped = method & 0x0F == zlib.DEFLATED and (method << 8 | flags) % 31 == 0
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if wrapped else _RAW)
            self._known = True
        return super().next_piece()


class _Brotli:
    """RFC 7932. The library's bound is where it stops growing its output: a piece can be larger, and is cut."""

    def __init__(self, module: Any) -> None:
        self._decoder = module.Decompressor()
        self._input = b""
        self._output = b""
        self._more = False

    def feed(self, data: bytes) -> None:
        if self._decoder.is_finished():
            raise _GarbageError(f"it goes on behind its end with {data[:16]!r}")
        self._input = data

    def next_piece(self) -> bytes:
        if not self._output and (self._input or self._more):
            self._output = self._decoder.process(self._input, output_buffer_limit=MAX_PIECE // 2)
            self._input = b""
            self._more = bool(self._output)  # whether there is more only the next call tells
        piece, self._output = self._output[:MAX_PIECE], self._output[MAX_PIECE:]
        return piece

    def complete(self) -> bool:
        return bool(self._decoder.is_finished())


class _Zstd:
    """RFC 8878; frames may follow each other."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._input = b""
        self._start()

    def _start(self) -> None:
        parameter = self._module.DecompressionParameter.window_log_max
        self._decoder = self._module.ZstdDecompressor(options={parameter: _MAX_WINDOW_LOG})

    def feed(self, data: bytes) -> None:
        self._input = data

    def next_piece(self) -> bytes:
        while self._input or not (self._decoder.eof or self._decoder.needs_input):
            if self._decoder.eof:
                self._start()
            data, self._input = self._input, b""
            piece: bytes = self._decoder.decompress(data, MAX_PIECE)
            if self._decoder.eof:
                self._input = self._decoder.unused_data
            if piece:
                return piece
        return b""

    def complete(self) -> bool:
        return bool(self._decoder.eof)


def _engine(name: str) -> Callable[[], _Engine] | None:
    """What makes an engine for this coding; None if it is not known here."""
    if name in ("gzip", "x-gzip"):
        return partial(_Inflate, _GZIP)
    if name == "deflate":
        return _Deflate
    if name == "br" and (brotli := _brotli()):
        return partial(_Brotli, brotli)
    if name == "zstd" and (zstd := _zstd()):
        return partial(_Zstd, zstd)
    return None


@lru_cache
def _brotli() -> Any:
    """The module, if there is one whose output can be bounded: brotli or brotlicffi from 1.2 on."""
    for name in ("brotli", "brotlicffi"):
        module = _import(name)
        if module is not None:
            try:
                module.Decompressor().process(b"", output_buffer_limit=1)
            except (AttributeError, TypeError):
                continue
            return module
    return None


@lru_cache
def _zstd() -> Any:
    """The module: of the standard library from Python 3.14 on, else its backport."""
    return _import("compression.zstd") or _import("backports.zstd")


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@lru_cache
def _library_errors() -> tuple[type[Exception], ...]:
    """What a library raises on data that it does not understand."""
    modules: list[tuple[Any, Callable[[Any], type[Exception]]]] = [
        (_brotli(), lambda module: module.error),
        (_zstd(), lambda module: module.ZstdError),
    ]
    return (zlib.error, _GarbageError, *(of(module) for module, of in modules if module is not None))
