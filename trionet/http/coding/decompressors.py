"""The libraries that decompress, each behind the same three methods, and bounded in what a call may give.

`feed` takes input, `next_piece` gives at most `MAX_PIECE` bytes, `complete` says whether the data may end here. They
differ in what they call the end, in whether data may follow it, and in how one learns that there is more to come.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from .libraries import GarbageError, brotli, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_INPUT", "MAX_PIECE", "Decompressor", "find_decompressor"]

MAX_PIECE: Final = 65536
"""Bytes of decoded body that are made at a time."""
MAX_INPUT: Final = 16384
"""Bytes that are given to a library at a time: what it does not take it copies."""
_MAX_WINDOW_LOG: Final = 23
"""A zstd window has at most 8 MiB (RFC 9659 §3)."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class Decompressor(Protocol):
    """One coding of one body, over a library."""

    def feed(self, data: bytes) -> None:
        """Take more input, at most `MAX_INPUT` bytes; only where `next_piece` has given nothing."""
        ...

    def next_piece(self) -> bytes:
        """The next 1 to `MAX_PIECE` bytes; nothing if more input is needed."""
        ...

    def complete(self) -> bool:
        """Whether the coded data may end here."""
        ...


class Inflate:
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
            raise GarbageError(f"it goes on after its end with {self._input[:16]!r}")
        self._inflate = zlib.decompressobj(self._wbits)

    def complete(self) -> bool:
        return self._inflate.eof


class Deflate(Inflate):
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


class Brotli:
    """RFC 7932. The library's bound is where it stops growing its output: a piece can be larger, and is cut."""

    def __init__(self, module: Any) -> None:
        self._decoder = module.Decompressor()
        self._input = b""
        self._output = b""
        self._more = False

    def feed(self, data: bytes) -> None:
        if self._decoder.is_finished():
            raise GarbageError(f"it goes on after its end with {data[:16]!r}")
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


class Zstd:
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


def find_decompressor(name: str) -> Callable[[], Decompressor] | None:
    """What makes a decompressor for this coding; None if it is not known here."""
    if name in ("gzip", "x-gzip"):
        return partial(Inflate, _GZIP)
    if name == "deflate":
        return Deflate
    if name == "br" and (module := brotli()):
        return partial(Brotli, module)
    if name == "zstd" and (module := zstd()):
        return partial(Zstd, module)
    return None
