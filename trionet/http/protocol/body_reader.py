"""Reading bodies: a reader for each framing, which takes slices of what has arrived and finds the end.

All have one method, `read`: bytes of the body, `EndOfMessage`, or None when more has to arrive first. A reader never
takes a byte that does not belong to its body, since the next byte may begin another request; and it holds none back, so
that a body that arrives slowly is read as it arrives.

Chunks are where readers differ most in practice: sizes with signs, white space or ``0x``, a line that ends with LF
alone, data that runs over its size. Each of them moves the end of the body for somebody, so only the grammar is taken.
What a peer may repeat without end and without bytes of the body, extensions and trailers, is bounded for each message;
and an error is raised as soon as it is certain, not when a line is complete that never will be.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from ...errors import RemoteProtocolError
from ...support.texts import amount
from .framing import CHUNKED
from .head import parse_trailers
from .headers import Headers
from .limits import MAX_FIELDS, MAX_HEAD
from .syntax import TOKEN

if TYPE_CHECKING:
    from .framing import Framing
    from .receive_buffer import ReceiveBuffer

__all__ = [
    "EMPTY",
    "END",
    "MAX_CHUNK_EXTENSIONS",
    "PIECES",
    "BodyReader",
    "CountedReader",
    "EndOfMessage",
    "is_forbidden_in_trailers",
    "make_reader",
]

MAX_CHUNK_EXTENSIONS: Final = 4096
"""Bytes of chunk extensions in one message at most: each chunk may have some, and nobody reads them."""
PIECES: Final = 64
"""Pieces that are read in one go at most: a chunk can have one byte, and 64 KiB hold 10,000 of those."""

_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
# White space around ";" and "=" is bad, says the grammar, and has to be read all the same; elsewhere it has no place.
_EXTENSION: Final = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+" % (TOKEN, TOKEN, _QUOTED)
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:%b)*+)\r\n" % _EXTENSION)
_MAX_SIZE_LINE: Final = 18  # 16 digits and CRLF

# Fields that frame, route, authorize or control: they had to be known before the body was read (RFC 9110 §6.5.1).
_FORBIDDEN: Final = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect"
    b" host http2-settings keep-alive max-forwards proxy-authenticate proxy-authorization proxy-connection range"
    b" set-cookie te trailer transfer-encoding upgrade www-authenticate".split()
)


class EndOfMessage:
    """A message is complete; `trailers` are the fields that came behind its body, mostly none."""

    __slots__ = ("trailers",)

    def __init__(self, trailers: Headers) -> None:
        self.trailers = trailers

    def __eq__(self, other: object) -> bool:
        return self.trailers == other.trailers if isinstance(other, EndOfMessage) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.trailers)

    def __repr__(self) -> str:
        return f"EndOfMessage({self.trailers!r})"


END: Final = EndOfMessage(Headers())
"""The end of a message without trailers."""


class BodyReader(Protocol):
    """What finds the end of one body."""

    def read(self, buffer: ReceiveBuffer) -> bytes | EndOfMessage | None:
        """The next bytes of the body, its end, or None if more has to arrive first.

        Raises:
            RemoteProtocolError: the framing is malformed, or one of its bounds is exceeded.
        """
        ...

    def at_eof(self) -> EndOfMessage:
        """The end of a body that EOF ends.

        Raises:
            RemoteProtocolError: EOF came too early; the message says how much is missing.
        """
        ...


def make_reader(framing: Framing, *, max_trailers: int = MAX_HEAD, max_fields: int = MAX_FIELDS) -> BodyReader:
    """The reader for this framing; `max_trailers` in bytes and `max_fields` bound the trailers."""
    if framing >= 0:
        return CountedReader(framing) if framing else EMPTY
    return _ChunkedReader(max_trailers, max_fields) if framing == CHUNKED else _UntilEOFReader()


class CountedReader:
    """A body of a known length (RFC 9112 §6.2), in bytes; `left` of them are to come."""

    __slots__ = ("left", "length")

    def __init__(self, length: int) -> None:
        self.length = self.left = length

    def read(self, buffer: ReceiveBuffer) -> bytes | EndOfMessage | None:  # noqa: D102
        if not self.left:
            return END
        data = buffer.take(self.left)
        self.left -= len(data)
        return data or None

    def at_eof(self) -> EndOfMessage:  # noqa: D102
        raise RemoteProtocolError(f"EOF in the middle of a body: {self.left} of {amount(self.length, 'byte')} missing")


EMPTY: Final = CountedReader(0)
"""The reader of no body. It has no state that could change."""


class _UntilEOFReader:
    """A body that the end of the connection ends (RFC 9112 §6.3, number 8)."""

    __slots__ = ()

    def read(self, buffer: ReceiveBuffer) -> bytes | EndOfMessage | None:
        return buffer.clear() or None

    def at_eof(self) -> EndOfMessage:
        return END


class _ChunkedReader:
    """A body in chunks (RFC 9112 §7.1). Between its parts only what the grammar says is taken.

    `_left` is what of the present chunk is still to come; nothing while a size line is due.
    """

    __slots__ = ("_ended", "_extensions", "_last", "_left", "_max_fields", "_max_trailers", "_read")

    def __init__(self, max_trailers: int, max_fields: int) -> None:
        self._left = 0
        self._last = False
        self._ended = True  # no data before the first size line, so no CRLF behind it
        self._extensions = MAX_CHUNK_EXTENSIONS
        self._max_trailers = max_trailers
        self._max_fields = max_fields
        self._read = 0

    def read(self, buffer: ReceiveBuffer) -> bytes | EndOfMessage | None:
        if not (self._last or self._left or self._read_boundary(buffer)):
            return None
        if self._last:
            return self._read_trailers(buffer)
        data = buffer.take(self._left)
        self._left -= len(data)
        self._read += len(data)
        self._ended = False
        return data or None

    def at_eof(self) -> EndOfMessage:
        rest = (
            f"at least {amount(self._left, 'byte')} of a chunk and the last chunk" if self._left else "the last chunk"
        )
        if self._last:
            rest = "the end of the trailers"
        raise RemoteProtocolError(
            f"EOF in the middle of a chunked body, after {amount(self._read, 'byte')}: {rest} missing"
        )

    def _read_boundary(self, buffer: ReceiveBuffer) -> bool:
        """From the end of one chunk's data to the start of the next one's: whether it was all there."""
        if not self._ended:
            mark = buffer.peek(2)
            if mark != b"\r\n":
                if not b"\r\n".startswith(mark):
                    raise RemoteProtocolError(f"chunk data runs over its size: {mark!r} where CRLF is due")
                return False
            buffer.take(2)
            self._ended = True
        bound = _MAX_SIZE_LINE + self._extensions
        line = buffer.cut(b"\r\n", bound)
        if line is None:
            if len(buffer) >= bound:
                raise RemoteProtocolError(f"chunk size and extensions are longer than the {bound} bytes left for them")
            _refuse_bare_newline(buffer)
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RemoteProtocolError("not a chunk size, in hexadecimal digits (RFC 9112 §7.1)")
        self._extensions -= len(match[2])
        if self._extensions < 0:
            raise RemoteProtocolError(f"more than {MAX_CHUNK_EXTENSIONS} bytes of chunk extensions in one message")
        self._left = int(match[1], 16)
        self._last = not self._left
        return True

    def _read_trailers(self, buffer: ReceiveBuffer) -> EndOfMessage | None:
        mark = buffer.peek(2)
        if mark == b"\r\n":
            buffer.take(2)
            return END
        if len(mark) < 2:
            return None
        section = buffer.cut(b"\r\n\r\n", self._max_trailers)
        if section is None:
            if len(buffer) >= self._max_trailers:
                raise RemoteProtocolError(f"the trailers have more than {self._max_trailers} bytes (max_head)", 431)
            _refuse_bare_newline(buffer)
            return None
        trailers = parse_trailers(section)
        _check_trailers(trailers, self._max_fields)
        return EndOfMessage(trailers)


def _refuse_bare_newline(buffer: ReceiveBuffer) -> None:
    """A peer that ends lines with LF alone has nothing more to send: nobody should wait for its CR."""
    if buffer.has_bare_newline():
        raise RemoteProtocolError("bare LF in the framing of a chunked body (RFC 9112 §7.1, §2.2)")


def _check_trailers(trailers: Headers, max_fields: int) -> None:
    """Refused and not dropped: a peer that sends such a field means it, and the next reader may believe it."""
    if len(trailers.raw) > max_fields:
        raise RemoteProtocolError(f"{len(trailers.raw)} trailer fields; at most {max_fields} (max_fields)", 431)
    for name, _ in trailers.raw:
        if is_forbidden_in_trailers(name):
            raise RemoteProtocolError(f"{name!r} among the trailers (RFC 9110 §6.5.1)")


def is_forbidden_in_trailers(name: bytes) -> bool:
    """Whether a field of this name means nothing, or harm, behind a body (RFC 9110 §6.5.1)."""
    return name.lower() in _FORBIDDEN
