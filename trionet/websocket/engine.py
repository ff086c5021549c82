"""The WebSocket protocol without I/O: bytes in, messages and control frames out.

Parsing is driven by who wants what. A reader wants whole messages, or one in parts; a closing side wants nothing but
the peer's close. Bytes are taken until what waits to be taken reaches a bound; then the rest stays as it came, which is
what keeps a few bytes of compressed flood from becoming a lot of memory. Of several pings only the newest is answered
(RFC 6455 §5.5.3 allows that): a flood of pings must not become a flood of pongs.

The tests hold all this against the websockets library, whose masking, close frames and header fields are used here. Its
own parser takes everything at once, so it could not keep that bound, and costs twice as much for a small message.
"""

from __future__ import annotations

import codecs
import sys
import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from ..errors import LimitExceededError, RemoteProtocolError
from .frames import BINARY, CLOSE, CONT, FIN, MASKED, MAX_CONTROL, PING, PONG, RSV1, TEXT, apply_mask
from .writer import Writer

if TYPE_CHECKING:
    from .deflate import Inflater, PerMessageDeflate

__all__ = ["MAX_KEPT", "Engine", "Message"]

Message = str | bytes
"""What is received: str for text messages, bytes for binary ones."""

MAX_KEPT: Final = 65536
"""Messages that are parsed at most before one is taken: also empty ones cost memory."""
MAX_KEPT_BYTES: Final = 2**20
"""Bytes of messages that are parsed at most where there is no `max_message_size`."""
MAX_PART: Final = 65536
"""Bytes of a message in parts that are parsed at most before one is taken."""

SLACK: Final = 1024
"""Bytes by which a compressed message may be larger than twice what it is allowed to expand to."""

_UNLIMITED: Final = sys.maxsize - 1
_SHORT: Final = 1024
"""Bytes up to which a slice is cheaper than a view."""
_WHOLE_BINARY: Final = FIN | BINARY
_WHOLE_MESSAGE: Final = frozenset({FIN | TEXT, FIN | BINARY})
_OPCODES: Final = frozenset({CONT, TEXT, BINARY, CLOSE, PING, PONG})

# What is done with the data of messages.
_WHOLE: Final = 0  # they are kept until they are whole
_PARTS: Final = 1  # the message that is coming, or comes next, is given in parts
_SKIP: Final = 2  # the rest of it is dropped
_CLOSING: Final = 3  # nothing is wanted any more


class _Offence(Exception):
    """The peer has broken the protocol, or a limit: which close code that is."""

    def __init__(self, code: int, text: str, error: Exception | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.error = error or RemoteProtocolError(f"the peer broke the WebSocket protocol: {text}")


@dataclass(slots=True)
class _Frame:
    """A frame of which parts are given before it is there as a whole."""

    left: int
    final: bool
    key: bytes
    flushed: bool = False
    """Whether the end of a compressed message was expanded."""


class Engine(Writer):
    """One side of a WebSocket whose opening handshake is done.

    Attributes:
        messages: Messages received and not taken yet.
        parts: Parts, received and not taken yet, of the message that is wanted in parts.
        parts_over: Whether these are the last ones.
        stalled: Whether there is input that was not looked at, as a bound was reached: see `go_on`.
        pong: The answer that is due to the newest ping; empty if none is.
        pongs: Payloads of the pongs received since `take_pongs`.
        peer_close: Code and reason of the peer's close frame, once it has come; the code is 1005 if it had none.
        failure: Close code and error, once the peer has broken the protocol.
    """

    __slots__ = ("_attention", "_bound", "_decoder", "_deflated", "_frame", "_given", "_inflater", "_key", "_kind",
                 "_limit", "_masked", "_mode", "_need", "_partial", "_parts_next", "_patient", "_plain", "_rest",
                 "failure", "max_message_size", "messages", "parts", "parts_over", "peer_close", "pong", "pongs",
                 "stalled")  # fmt: skip

    def __init__(
        self, *, client: bool, max_message_size: int | None, compression: PerMessageDeflate | None = None
    ) -> None:
        super().__init__(client=client, compression=compression)
        self.max_message_size = max_message_size
        self._limit = _UNLIMITED if max_message_size is None else max_message_size
        self._bound = MAX_KEPT_BYTES if max_message_size is None else max_message_size
        self._masked, self._key = (0, 0) if client else (MASKED, 4)
        self._inflater: Inflater | None = None if compression is None else compression.inflater(client=client)
        # Input that was not taken yet, and how much of it there has to be before it is worth looking at.
        self._rest = bytearray()
        self._need = 0
        self._mode = _WHOLE
        # The message that has begun: its opcode (0: none has), whether it is compressed, and what of it has come.
        # One buffer, not a list: a million fragments of one byte, or of none, must not cost more than their bytes.
        self._kind = 0
        self._deflated = False
        self._partial = bytearray()
        self._plain = True  # no message has begun, and whole ones are wanted
        self._frame: _Frame | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._given = False  # whether a part of the message was given
        self._parts_next = False  # whether the message behind the one that is dropped is wanted in parts
        self._attention = False
        self._patient = False
        self.messages: deque[Message] = deque()
        self.parts: deque[Message] = deque()
        self.parts_over = False
        self.stalled = False
        self.pong = b""
        self.pongs: list[bytes] = []
        self.peer_close: tuple[int, str] | None = None
        self.failure: tuple[int, Exception] | None = None

    @property
    def buffered(self) -> int:
        """Bytes (characters, for text) of the messages, and parts of one, that nobody has taken."""
        return sum(map(len, self.messages)) + sum(map(len, self.parts))

    @property
    def full(self) -> bool:
        """Whether what has come and was not taken has reached the bound."""
        if len(self.messages) > MAX_KEPT or (self.stalled and (self.messages or self.parts)):
            return True
        return self.buffered + len(self._partial) + len(self._rest) > self._bound

    def take_pongs(self) -> list[bytes]:
        """The payloads of the pongs that came, once."""
        pongs, self.pongs = self.pongs, []
        return pongs

    # --- what is wanted ------------------------------------------------------------------------------------------

    def want_parts(self) -> None:
        """The message that is coming, or the next one that comes, is wanted in parts."""
        self.parts_over = False
        self.parts.clear()
        if self._mode == _SKIP:
            self._parts_next = True
            return
        self._mode = _PARTS
        self._plain = self._given = False
        if self._kind:
            begun, self._partial = self._partial, bytearray()
            self._add_part(bytes(begun), last=False)

    def want_whole(self) -> None:
        """Whole messages are wanted again: what has not come yet of one in parts is dropped."""
        self.parts.clear()
        self._parts_next = False
        if self._mode == _PARTS:
            self._mode = _SKIP if self._kind else _WHOLE
            self._plain = self._mode == _WHOLE

    @property
    def between_messages(self) -> bool:
        """Whether nothing has come yet of a message that is wanted in parts."""
        return self._parts_next or (self._mode == _PARTS and not self._kind)

    def want_nothing(self) -> None:
        """Only the peer's close is still of interest. What is there already can be taken."""
        self._mode = _CLOSING
        self._plain = False
        self._partial.clear()

    # --- receiving -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, *, patient: bool = False) -> bool:
        """Take bytes from the peer: True if there is more to attend to than whole messages.

        Args:
            data: What came.
            patient: Whether a message that is too big is left for the next call to find, as it is in any case while
                others wait to be taken: that call may want the message in parts, for which there is no limit.
        """
        self._patient = patient
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._need:
                return False
            used = self._take(rest)
            if used:
                del rest[:used]
        else:
            used = self._take(data)
            if used < len(data):
                rest += data[used:]
        attention, self._attention = self._attention, False
        return attention

    def go_on(self, *, patient: bool = False) -> bool:
        """Look again at the input that was left; as `receive`."""
        return self.receive(b"", patient=patient)

    def _take(self, data: bytes | bytearray) -> int:
        """Take what can be taken of `data`: how many bytes that was."""
        self.stalled = False
        self._need = 0
        try:
            if self.peer_close is None and self.failure is None:
                return self._parse(data)
        except _Offence as exc:
            self._fail(exc.code, str(exc), exc.error)
        except UnicodeDecodeError as exc:
            text = f"text message is not UTF-8: {exc.reason} at byte {exc.start}"
            self._fail(1007, text, RemoteProtocolError(text))
        except zlib.error as exc:
            text = f"compressed message cannot be expanded: {exc}"
            self._fail(1007, text, RemoteProtocolError(text))
        return len(data)

    def _parse(self, data: bytes | bytearray) -> int:
        messages, masked, limit = self.messages, self._masked, self._limit
        size = len(data)
        kept = self.buffered if messages else 0
        at = 0 if self._frame is None else self._go_on_in_frame(data, 0, size)
        while size - at >= 2 and not self.stalled:
            first = data[at]
            length = data[at + 1] ^ masked
            start = at + 2
            if length > 125:
                start, length = self._long_head(data, at, size)
                if length < 0:
                    break
            body = start + self._key
            end = body + length
            if end <= size and self._plain and length <= limit and first in _WHOLE_MESSAGE:
                if length > _SHORT:
                    payload = _cut(data, start, body, end)
                elif masked:
                    payload = apply_mask(data[body:end], data[start:body])
                else:
                    payload = bytes(data[body:end])
                messages.append(payload if first == _WHOLE_BINARY else payload.decode())
                kept += length
                at = end
            else:
                count = len(messages)
                before, at = at, self._unusual(data, at, size, start, length)
                if at == before or self.peer_close is not None:
                    break
                if len(messages) > count:
                    kept += len(messages[-1])
            if kept > self._bound or len(messages) > MAX_KEPT:
                self.stalled = at < size
                break
        return at if self.peer_close is None else size

    def _long_head(self, data: bytes | bytearray, at: int, size: int) -> tuple[int, int]:
        """Where a head with an extended length ends, and that length; -1 if it is not there yet."""
        second = data[at + 1]
        if second & MASKED != self._masked:
            raise _Offence(1002, "a client's frame is not masked" if self._masked else "a server's frame is masked")
        start = at + (4 if second & 127 == 126 else 10)
        if start > size:
            self._need = start - at
            return start, -1
        length = int.from_bytes(data[at + 2 : start], "big")
        if length < (126 if start - at == 4 else 65536) or length >= 2**63:
            raise _Offence(1002, f"a frame's length of {length} bytes is not written as it has to be")
        return start, length

    def _unusual(self, data: bytes | bytearray, at: int, size: int, start: int, length: int) -> int:
        """A frame that is not there yet, or anything else than a whole message: where to go on; `at` for later."""
        first = data[at]
        opcode = first & 15
        self._check_head(first, opcode, length)
        body = start + self._key
        end = body + length
        if opcode > BINARY:
            if end <= size:
                self._control(opcode, _cut(data, start, body, end))
                return end
        elif self._mode != _WHOLE:
            if body <= size:
                self._begin(first, opcode)
                self._frame = _Frame(length, bool(first & FIN), bytes(data[start:body]))
                return self._go_on_in_frame(data, body, size)
            end = body
        elif self._too_big(length, bool(first & RSV1)):
            if not self._patient and not self.messages:
                raise self._too_big_offence(len(self._partial) + length)
            self.stalled = True
            return at
        elif end <= size:
            self._begin(first, opcode)
            self._add_to_whole(_cut(data, start, body, end), bool(first & FIN))
            return end
        self._need = end - at
        return at

    def _check_head(self, first: int, opcode: int, length: int) -> None:
        """Raise unless a frame may begin with this byte, and be so long, here (RFC 6455 §5.2, §5.4, §5.5)."""
        reserved = first & 0x70
        if reserved and (reserved != RSV1 or self._inflater is None or opcode not in (TEXT, BINARY)):
            raise _Offence(1002, "a frame has reserved bits set")
        if opcode not in _OPCODES:
            raise _Offence(1002, f"a frame has the reserved opcode {opcode}")
        if opcode > BINARY:
            if not first & FIN:
                raise _Offence(1002, "a control frame is fragmented")
            if length > MAX_CONTROL:
                raise _Offence(1002, f"a control frame has {length} bytes, at most {MAX_CONTROL} are allowed")
        elif opcode == CONT and not self._kind:
            raise _Offence(1002, "a continuation frame has no beginning")
        elif opcode != CONT and self._kind:
            raise _Offence(1002, "a new message begins before the one in fragments has ended")

    # --- messages ------------------------------------------------------------------------------------------------

    def _begin(self, first: int, opcode: int) -> None:
        if opcode != CONT:
            self._kind = opcode
            self._deflated = bool(first & RSV1)
            self._plain = self._given = False

    def _end(self) -> None:
        self._kind = 0
        self._decoder = None
        if self._inflater is not None and self._mode != _CLOSING:
            self._inflater.message_over()
        if self._mode != _CLOSING:
            self._mode = _PARTS if self._parts_next else _WHOLE
            self._plain = not self._parts_next
            self._parts_next = False

    def _too_big(self, length: int, deflated: bool) -> bool:
        """Whether a message is too big for sure if a frame of this length belongs to it."""
        if deflated or (self._deflated and self._kind):
            return length > 2 * self._limit + SLACK  # what does not get smaller gets larger
        return len(self._partial) + length > self._limit

    def _too_big_offence(self, size: int) -> _Offence:
        return _Offence(
            1009,
            "message too big",
            LimitExceededError(
                f"message too big: at least {size} bytes, the limit is {self._limit} bytes (max_message_size)"
            ),
        )

    def _add_to_whole(self, payload: bytes, final: bool) -> None:
        """A frame's data, as a part of a message that is to be whole."""
        partial = self._partial
        if self._deflated:
            inflater = self._inflater
            assert inflater is not None
            most = self._limit + 1
            partial += inflater.part(payload, most - len(partial))
            flushed = final and len(partial) < most
            if flushed:
                partial += inflater.last(most - len(partial))
            if len(partial) == most:
                if not self._patient and not self.messages:
                    raise self._too_big_offence(most)
                self._frame = _Frame(0, final, b"", flushed)
                self.stalled = True
                return
        else:
            partial += payload
        if final:
            kind = self._kind
            self._partial = bytearray()
            self._end()
            self.messages.append(partial.decode() if kind == TEXT else bytes(partial))

    def _go_on_in_frame(self, data: bytes | bytearray, at: int, size: int) -> int:
        """More of a frame that is given in parts, or dropped: where it, or the input, ends."""
        frame = self._frame
        assert frame is not None
        if self._mode == _WHOLE:
            if not self._patient and not self.messages:
                raise self._too_big_offence(len(self._partial))
            self.stalled = True
            return at
        if not self._expand(b"", frame):
            return at
        end = min(size, at + frame.left)
        if end > at:
            payload: bytes = bytes(data[at:end])
            if frame.key:
                payload = apply_mask(payload, frame.key)
                turn = (end - at) % 4
                frame.key = frame.key[turn:] + frame.key[:turn]
            frame.left -= end - at
            if not self._expand(payload, frame):
                return end
        if not frame.left:
            self._frame = None
            if frame.final:
                self._part_message_over()
        return end

    def _expand(self, payload: bytes, frame: _Frame) -> bool:
        """Give `payload` as parts: False if there are more of them than are wanted at once."""
        if not self._deflated or self._mode == _CLOSING:
            self._add_part(payload, last=False)
            return True
        inflater = self._inflater
        assert inflater is not None
        while payload or inflater.pending or (frame.final and not frame.left and not frame.flushed):
            if self.parts and self._mode == _PARTS and not payload:
                self.stalled = True
                return False
            if payload or inflater.pending:
                part = inflater.part(payload, MAX_PART)
            else:
                frame.flushed = True
                part = inflater.last(MAX_PART)
            payload = b""
            self._add_part(part, last=False)
        return True

    def _add_part(self, data: bytes, *, last: bool) -> None:
        if self._mode == _CLOSING:
            return
        part: Message = data
        if self._kind == TEXT:
            if self._decoder is None:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
            part = self._decoder.decode(data, last)
        if self._mode == _PARTS and (part or (last and not self._given)):
            self._given = True
            self.parts.append(part)

    def _part_message_over(self) -> None:
        self._add_part(b"", last=True)
        self.parts_over = self._mode == _PARTS
        self._end()

    # --- control frames and the end ------------------------------------------------------------------------------

    def _control(self, opcode: int, payload: bytes) -> None:
        self._attention = True
        if opcode == PING:
            self.pong = self.control(PONG, payload)
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            try:
                close = Close.parse(payload)
            except ProtocolError as exc:
                raise _Offence(1002, f"a close frame is malformed: {exc}") from None
            self.peer_close = (int(close.code), close.reason)
            if not self.closing:
                self.closing = True
                self.farewell = self.control(CLOSE, payload)

    def _fail(self, code: int, text: str, error: Exception) -> None:
        if not self.closing or self.farewell:
            self.closing = False
            self.close(code, text)
        self.failure = (code, error)
        self._attention = True
        self._partial.clear()
        self._frame = None


def _cut(data: bytes | bytearray, start: int, body: int, end: int) -> bytes:
    """The payload from `body` to `end`, whose masking key begins at `start`."""
    with memoryview(data) as whole, whole[body:end] as payload:
        if start == body:
            return bytes(payload)
        return apply_mask(payload, bytes(data[start:body]))
