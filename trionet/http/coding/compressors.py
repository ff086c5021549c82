"""The libraries that compress, each behind the same three methods: what a server puts on a body piece by piece.

Levels and windows are chosen for responses that are made once and sent once: CPU counts more than the last percent of
size, and a stream that is open for hours must not keep megabytes. On 50 KiB of JSON and of prose, of 53 KiB each: zstd
at level 3 compresses 300 MB/s to a fifth, brotli at 3 and zlib at 4 do 130 and 80 MB/s to about the same.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from .libraries import brotli, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["available_codings", "make_compressor"]

_GZIP: Final = 16 + zlib.MAX_WBITS
_GZIP_LEVEL: Final = 4
_BROTLI_QUALITY: Final = 3
_ZSTD_LEVEL: Final = 3
_WINDOW_LOG: Final = 19
"""Half a MiB is looked back on: the window is most of what a compressor keeps, and what its client has to keep."""


class Compressor(Protocol):
    """One coding of one body, over a library."""

    def encode(self, data: bytes) -> bytes:
        """Take data; what is given may be nothing yet."""
        ...

    def flush(self) -> bytes:
        """What is missing, so that all that was taken can be decoded."""
        ...

    def finish(self) -> bytes:
        """The end of the coded body, with all that was not given yet."""
        ...


class GzipCompressor:
    """RFC 1952, by zlib."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
        self.encode = self._deflate.compress
        self.finish = self._deflate.flush

    def flush(self) -> bytes:
        return self._deflate.flush(zlib.Z_SYNC_FLUSH)


class BrotliCompressor:
    """RFC 7932."""

    def __init__(self) -> None:
        encoder = brotli().Compressor(quality=_BROTLI_QUALITY, lgwin=_WINDOW_LOG)
        self.encode: Callable[[bytes], bytes] = encoder.process
        self.flush: Callable[[], bytes] = encoder.flush
        self.finish: Callable[[], bytes] = encoder.finish


class ZstdCompressor:
    """RFC 8878, with a window that is below what each decoder has to take (RFC 9659 §3)."""

    def __init__(self) -> None:
        module = zstd()
        parameter = module.CompressionParameter
        self._encoder: Any = module.ZstdCompressor(
            options={parameter.compression_level: _ZSTD_LEVEL, parameter.window_log: _WINDOW_LOG}
        )
        self.encode: Callable[[bytes], bytes] = self._encoder.compress
        self.finish: Callable[[], bytes] = self._encoder.flush

    def flush(self) -> bytes:
        flushed: bytes = self._encoder.flush(self._encoder.FLUSH_BLOCK)
        return flushed


_COMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    "gzip": GzipCompressor,
    "br": BrotliCompressor,
    "zstd": ZstdCompressor,
}


def available_codings() -> tuple[str, ...]:
    """The codings whose libraries are installed, the cheapest first."""
    return (*(["zstd"] if zstd() else []), *(["br"] if brotli() else []), "gzip")


def make_compressor(name: str) -> Compressor:
    """A compressor for one of `available_codings`."""
    made: Compressor = _COMPRESSORS[name]()
    return made
