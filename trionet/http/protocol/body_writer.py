"""Writing bodies: a writer for each framing, which turns data into bytes for the wire and keeps count.

`data` gives the bytes of a piece, `end` those that complete the body. If the producer of a body fails, nobody calls
`end`, and the peer sees that the body is truncated: no writer completes one by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ...errors import LocalProtocolError
from ...support.texts import amount
from .body_reader import is_forbidden_in_trailers
from .framing import CHUNKED
from .headers import Headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .framing import Framing
    from .headers import HeaderInput

__all__ = ["BodyWriter", "Buffer", "DiscardingWriter", "UntilEOFWriter", "make_writer"]

Buffer = bytes | bytearray | memoryview
"""What is taken for the data of a body."""


LARGE_CHUNK: Final = 8192
"""Bytes from which on a chunk is not worth copying, to be joined to the lines around it."""


class BodyWriter(Protocol):
    """What writes one body."""

    def data(self, data: Buffer) -> Buffer:
        """The bytes to send for this piece; the piece itself where nothing has to be added.

        Raises:
            LocalProtocolError: the body is longer than its head has said.
        """
        ...

    def parts(self, data: Buffer) -> Sequence[Buffer]:
        """As `data`, without joining what is better sent in one vectored send; nothing for an empty piece."""
        ...

    def count(self, size: int) -> bool:
        """As `data`, of so many bytes that are sent as they are, and that nobody has to see.

        False, and nothing is counted, if something has to be added or left out.

        Raises:
            LocalProtocolError: the body is longer than its head has said.
        """
        ...

    def end(self, trailers: HeaderInput | Headers) -> bytes:
        """The bytes that complete the body.

        Raises:
            LocalProtocolError: the body is shorter than its head has said, or cannot have these trailers.
        """
        ...


def make_writer(framing: Framing) -> BodyWriter:
    """The writer for this framing."""
    if framing >= 0:
        return _CountedWriter(framing)
    return _ChunkedWriter() if framing == CHUNKED else UntilEOFWriter()


class _CountedWriter:
    """A body of a known length (RFC 9112 §6.2)."""

    __slots__ = ("_left", "_length")

    def __init__(self, length: int) -> None:
        self._length = self._left = length

    def data(self, data: Buffer) -> Buffer:
        self.count(_size(data))
        return data

    def parts(self, data: Buffer) -> Sequence[Buffer]:
        self.count(_size(data))
        return (data,) if len(data) else ()

    def count(self, size: int) -> bool:
        if size > self._left:
            raise LocalProtocolError(
                f"the body is longer than its Content-Length of {self._length}: "
                f"{amount(self._length - self._left, 'byte')} sent, and {size} more given"
            )
        self._left -= size
        return True

    def end(self, trailers: HeaderInput | Headers) -> bytes:
        if self._left:
            raise LocalProtocolError(
                f"the body is shorter than its Content-Length of {self._length}: {amount(self._left, 'byte')} missing"
            )
        _refuse_trailers(trailers, "has a Content-Length")
        return b""


class UntilEOFWriter:
    """A body that the end of the connection ends (RFC 9112 §6.3)."""

    __slots__ = ()

    def data(self, data: Buffer) -> Buffer:  # noqa: D102
        return data

    def parts(self, data: Buffer) -> Sequence[Buffer]:  # noqa: D102
        return (data,) if len(data) else ()

    def count(self, size: int) -> bool:  # noqa: D102
        return True

    def end(self, trailers: HeaderInput | Headers) -> bytes:  # noqa: D102
        _refuse_trailers(trailers, "is ended by EOF")
        return b""


class DiscardingWriter:
    """The body of a response to HEAD: what GET would have sent is taken, and not sent (RFC 9110 §9.3.2)."""

    __slots__ = ()

    def data(self, data: Buffer) -> Buffer:  # noqa: D102
        return b""

    def parts(self, data: Buffer) -> Sequence[Buffer]:  # noqa: D102
        return ()

    def count(self, size: int) -> bool:  # noqa: D102
        return False

    def end(self, trailers: HeaderInput | Headers) -> bytes:  # noqa: D102
        return b""


class _ChunkedWriter:
    """A body in chunks (RFC 9112 §7.1)."""

    __slots__ = ()

    def data(self, data: Buffer) -> Buffer:
        size = _size(data)
        return b"".join((b"%x\r\n" % size, data, b"\r\n")) if size else b""  # an empty chunk would be the last one

    def parts(self, data: Buffer) -> Sequence[Buffer]:
        size = _size(data)
        if size < LARGE_CHUNK:
            return (self.data(data),) if size else ()
        return (b"%x\r\n" % size, data, b"\r\n")

    def count(self, size: int) -> bool:
        return False

    def end(self, trailers: HeaderInput | Headers) -> bytes:
        if trailers == ():
            return b"0\r\n\r\n"
        fields = Headers(trailers).raw
        for name, _ in fields:
            if is_forbidden_in_trailers(name):
                raise LocalProtocolError(f"{name.decode()} cannot be a trailer (RFC 9110 §6.5.1)")
        return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in fields)


def _size(data: Buffer) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)


def _refuse_trailers(trailers: HeaderInput | Headers, why: str) -> None:
    if trailers != () and Headers(trailers).raw:
        raise LocalProtocolError(f"trailers need a chunked body, and this one {why} (RFC 9112 §7.1.2)")
