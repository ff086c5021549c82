"""The body of a response without its content codings: gzip and the others that are known here (RFC 9110 §8.4)."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ...errors import RemoteProtocolError
from ..coding import make_decoder
from .retry import mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..coding import Decoder
    from .incoming_body import IncomingBody

__all__ = ["DecodedBody", "decode_rest", "decoded"]

MANY_PIECES: Final = 64
MAX_DECODED: Final = 65536
"""How much a status error decodes of what was drained: pieces, each of which costs work, and bytes."""


def decoded(raw: IncomingBody) -> IncomingBody | DecodedBody:
    """Where the body comes from without the codings that are known here: itself, if there are none on it. A step.

    Raises:
        RemoteProtocolError: there are more codings on it than one could want.
    """
    named = raw.head.headers.get("content-encoding")
    if named is None or raw.ended:
        return raw
    try:
        decoder = make_decoder(named)
    except RemoteProtocolError as exc:
        mark(exc, raw.asked, lasts=True)
        raise
    return raw if decoder is None else DecodedBody(raw, decoder)


class DecodedBody:
    """Pieces of a body, decoded; in the place of those of an `IncomingBody`."""

    __slots__ = ("_raw", "decoder", "pieces")

    def __init__(self, raw: IncomingBody, decoder: Decoder) -> None:
        self._raw = raw
        self.decoder = decoder
        self.pieces: Iterator[bytes] | None = None

    @enable_ki_protection
    async def next_piece(self) -> bytes | None:
        """The next piece, decoded; None at the end. A checkpoint.

        Raises and Cancellation: as `Response.read`.
        """
        while True:
            if self.pieces is not None:
                await checkpoint_if_cancelled()
                piece = self._decode()
                if piece is not None:
                    await cancel_shielded_checkpoint()
                    if not piece:
                        continue  # work was done, and nothing came of it yet
                    return piece
            data = await self._raw.next_piece()
            if data is None:
                self._check_end()
                return None
            self.pieces = self.decoder.decode(data)

    next_quickly = next_piece

    def _decode(self) -> bytes | None:
        """The next piece of what was received last; None if that is used up."""
        assert self.pieces is not None
        try:
            return next(self.pieces, None)
        except Exception as exc:
            self._raw.failed(exc)
            raise

    def _check_end(self) -> None:
        raw = self._raw
        try:
            self.decoder.end()
        except Exception as exc:
            headers = raw.head.headers
            cut_off = "content-length" not in headers and "transfer-encoding" not in headers
            mark(exc, raw.asked, lasts=not cut_off)  # a body that only EOF ends may have been cut off by it
            raise


def decode_rest(raw: IncomingBody, source: IncomingBody | DecodedBody | None, rest: bytes) -> bytes:
    """What was drained, decoded as far as that is little work, and as far as it can be. A step.

    Args:
        raw: The body.
        source: What `decoded` has said of it, if it was asked before the body was drained.
        rest: What was drained of it.
    """
    found = bytearray()
    try:
        if isinstance(source, DecodedBody):
            pieces = chain(source.pieces or (), source.decoder.decode(rest))
        elif source is None and (decoder := make_decoder(raw.head.headers.get("content-encoding"))) is not None:
            pieces = chain(decoder.decode(rest))
        else:
            return rest
        for piece in islice(pieces, MANY_PIECES):
            found += piece
            if len(found) >= MAX_DECODED:
                break
    except RemoteProtocolError:
        pass  # the error that is on its way says more
    return bytes(found[:MAX_DECODED])
