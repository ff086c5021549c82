"""Content codings: taking gzip, deflate, brotli and zstd off a body, piece by piece (RFC 9110 §8.4).

A few kilobytes can stand for gigabytes, so nothing is decoded before it is asked for, and no more than a piece at a
time: a program that stops reading has paid for what it has read, in time and in memory. Libraries that cannot keep to a
bound on their output are not used.

`libraries` finds them, `decompressors` gives them one face, `decoder` stacks them as Content-Encoding says.
"""

from __future__ import annotations

from .decoder import MAX_CODINGS, Decoder, accept_encoding, make_decoder, unknown_codings
from .decompressors import MAX_PIECE

__all__ = ["MAX_CODINGS", "MAX_PIECE", "Decoder", "accept_encoding", "make_decoder", "unknown_codings"]
