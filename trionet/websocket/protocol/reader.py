"""The receiving half: the data of frames in, messages out, whole or in parts (RFC 6455 §5.4, RFC 7692 §7.2.2).

The engine finds the frames; the reader puts their data together. A user says in advance what it wants: whole messages
(`want_whole`), the next message in parts as they come (`want_parts`), or, while closing, none (`want_nothing`).

*Bounds.* A few bytes of compressed input can expand to very many. So nothing is expanded beyond what may be kept:
where as much waits to be taken as the bound allows, or where a message is too big for the task that looks now but may
not be for the next one, the reader is *stalled*, and the input behind that stays as it came. It is stalled also where
one call has done as much as one call may; then it is *tired* too, and goes on when it is called again.

A message in fragments is collected in one buffer, not in a list: a million fragments of one byte, or of none, must not
cost more than their bytes.
"""

from __future__ import annotations

import codecs
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ...errors import LimitExceededError, RemoteProtocolError, TrionetError
from .deflate import make_inflater
from .frames import CONT, FIN, RSV1, TEXT, apply_mask

if TYPE_CHECKING:
    from .deflate import Inflater, PerMessageDeflate

__all__ = ["MAX_KEPT", "WHOLE", "Message", "MessageReader", "Violation"]

Message = str | bytes
"""What is received: str for text messages, bytes for binary ones."""

MAX_KEPT: Final = 65536
"""Messages that are parsed at most before one is taken: also empty ones cost memory."""
MAX_KEPT_BYTES: Final = 2**20
"""Bytes of messages that are parsed at most where there is no `max_message_size`."""
MAX_PART: Final = 65536
"""Bytes of a compressed message that are expanded at most before they are taken, if it is wanted in parts."""
SLACK: Final = 1024
"""Bytes by which a compressed message may be larger than twice what it is allowed to expand to."""

_UNLIMITED: Final = sys.maxsize - 1

# What is done with the data of messages.
WHOLE: Final = 0  # they are kept until they are whole
_PARTS: Final = 1  # the message that is coming, or comes next, is given in parts
_SKIP: Final = 2  # the rest of it is dropped
_CLOSING: Final = 3  # nothing is wanted any more


class Violation(Exception):
    """The peer has broken the protocol, or a limit: which close code that is (RFC 6455 §7.1.7)."""

    def __init__(self, code: int, text: str, error: TrionetError | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.error = error or RemoteProtocolError(f"the peer broke the WebSocket protocol: {text}")


@dataclass(slots=True)
class PartialFrame:
    """A frame of which parts are given before it is there as a whole."""

    left: int
    final: bool
    key: bytes


class MessageReader:
    """Puts messages together, one of which may be given before it is whole.

    Attributes:
        messages: Messages received and not taken yet.
        parts: Parts, received and not taken yet, of the message that is wanted in parts.
        parts_over: Whether these are the last ones.
        stalled: Whether there is input that was not looked at.
        tired: Whether that is only for the time that it takes: the next call goes on.
        patient: Whether a message that is too big is left for the next call to find.
        limit: Bytes of one message at most.
        bound: Bytes of all that waits to be taken, at most.
        mode: What is done with the data of messages: `WHOLE` if they are kept until they are whole.
        kind: Opcode of the message that has begun; 0 if none has.
        between: Whether no message has begun, and whole ones are wanted: the fast path's condition.
        frame: The frame whose data is coming in parts, if one is.
        inflater: What expands compressed messages, if that was agreed on.
    """

    __slots__ = ("_decoder", "_deflated", "_given", "_partial", "_parts_next", "between", "bound", "frame", "inflater",
                 "kind", "limit", "max_message_size", "messages", "mode", "parts", "parts_over", "patient",
                 "stalled", "tired")  # fmt: skip

    def __init__(self, *, client: bool, max_message_size: int | None, compression: PerMessageDeflate | None) -> None:
        self.max_message_size = max_message_size
        self.limit = _UNLIMITED if max_message_size is None else max_message_size
        self.bound = MAX_KEPT_BYTES if max_message_size is None else max_message_size
        self.inflater: Inflater | None = None if compression is None else make_inflater(compression, client=client)
        self.mode = WHOLE
        self.kind = 0
        self._deflated = False
        self._partial = bytearray()  # what has come of the message that has begun
        self.between = True
        self.patient = False
        self.frame: PartialFrame | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._given = False  # whether a part of the message was given
        self._parts_next = False  # whether the message behind the one that is dropped is wanted in parts
        self.messages: deque[Message] = deque()
        self.parts: deque[Message] = deque()
        self.parts_over = False
        self.stalled = self.tired = False

    @property
    def buffered(self) -> int:
        """Bytes (characters, for text) of the messages, and parts of one, that nobody has taken."""
        return sum(map(len, self.messages)) + sum(map(len, self.parts))

    @property
    def unfinished(self) -> int:
        """Bytes that have come of messages that are not whole yet, or are wanted in parts."""
        return sum(map(len, self.parts)) + len(self._partial)

    # --- what is wanted ------------------------------------------------------------------------------------------

    def want_parts(self) -> None:
        """The message that is coming, or the next one that comes, is wanted in parts."""
        self.parts_over = False
        self.parts.clear()
        if self.mode == _SKIP:
            self._parts_next = True
            return
        self.mode = _PARTS
        self.between = self._given = False
        if self.kind:
            begun, self._partial = self._partial, bytearray()
            self._add_part(bytes(begun), last=False)

    def want_whole(self) -> None:
        """Whole messages are wanted again: what has not come yet of one in parts is dropped."""
        self.parts.clear()
        self._parts_next = False
        if self.mode == _PARTS:
            self.mode = _SKIP if self.kind else WHOLE
            self.between = self.mode == WHOLE

    def want_nothing(self) -> None:
        """Only the peer's close is still of interest. What is there already can be taken."""
        self.mode = _CLOSING
        self.between = False
        self._partial.clear()

    @property
    def parts_not_begun(self) -> bool:
        """Whether nothing has come yet of a message that is wanted in parts."""
        return self._parts_next or (self.mode == _PARTS and not self.kind)

    # --- the data of frames, for the engine ----------------------------------------------------------------------

    def begin(self, first: int) -> None:
        """A frame of a message begins with this byte: the message's first one, or a continuation."""
        opcode = first & 15
        if opcode != CONT:
            self.kind = opcode
            self._deflated = bool(first & RSV1)
            self.between = self._given = False

    def check_size(self, length: int, first: int) -> bool:
        """Whether a frame of this length may belong to a message that is wanted whole; False: look again later.

        Raises:
            Violation: the message is too big for sure, and nothing waits to be taken before it.
        """
        size, most = len(self._partial) + length, self.limit
        if first & RSV1 or (self._deflated and self.kind):
            size, most = length, 2 * self.limit + SLACK  # no compressor makes its input so much larger
        if size > most:
            self._leave_too_big(len(self._partial) + length)
        return size <= most

    def _leave_too_big(self, size: int) -> None:
        """A message is too big for the task that looks now: leave it for one that wants it in parts, or raise."""
        if not self.patient and not self.messages:
            raise self.too_big(size)
        self.stalled = True

    def too_big(self, size: int) -> Violation:
        """What a message of so many bytes, or more, violates."""
        return Violation(
            1009,
            "message too big",
            LimitExceededError(
                f"message too big: at least {size} bytes, the limit is {self.limit} bytes (max_message_size)"
            ),
        )

    def add(self, payload: bytes, *, final: bool) -> None:
        """A frame's data, as a part of a message that is to be whole."""
        partial = self._partial
        if self._deflated:
            inflater = self.inflater
            assert inflater is not None
            if not self._inflate(inflater, payload, final):
                return
            if final:
                inflater.finish()
        else:
            partial += payload
        if final:
            kind = self.kind
            self._partial = bytearray()
            self._end()
            self.messages.append(partial.decode() if kind == TEXT else bytes(partial))

    def _inflate(self, inflater: Inflater, payload: bytes, final: bool) -> bool:
        """Add what `payload` expands to, and what the one before has left: False if that has to be continued."""
        partial, most = self._partial, self.limit + 1
        partial += inflater.part(payload, most - len(partial))
        if len(partial) == most:
            self._leave_too_big(most)
        elif inflater.pending:
            self.stalled = self.tired = True
        else:
            return True
        self.frame = PartialFrame(0, final, b"")
        return False

    def _end(self) -> None:
        """The message that had begun is over."""
        self.kind = 0
        self._decoder = None
        if self.mode == _CLOSING:
            return
        if self.inflater is not None:
            self.inflater.message_over()
        self.mode = _PARTS if self._parts_next else WHOLE
        self.between = not self._parts_next
        self._parts_next = False

    def abandon(self) -> None:
        """The peer has broken the protocol: nothing will come of what has begun."""
        self._partial.clear()
        self.frame = None

    # --- frames that are given in parts, or dropped ---------------------------------------------------------------

    def begin_partial(self, first: int, length: int, key: bytes) -> None:
        """A frame begins whose data is not waited for."""
        self.begin(first)
        self.frame = PartialFrame(length, bool(first & FIN), key)

    def add_partial(self, data: bytes | bytearray, at: int, size: int) -> int:
        """More of that frame, from `at` on: where it, or the input, ends."""
        frame = self.frame
        assert frame is not None
        if self.mode == WHOLE:
            self._go_on_with_whole(frame)
            return at
        if not self._expand(b""):
            return at
        end = min(size, at + frame.left)
        if end > at and not self._expand(_unmask(bytes(data[at:end]), frame)):
            return end
        if not frame.left:
            self.frame = None
            if frame.final:
                self._end_parts()
        return end

    def _go_on_with_whole(self, frame: PartialFrame) -> None:
        """A frame that has come, but could not be expanded in one go, belongs to a message that is to be whole."""
        if len(self._partial) > self.limit:
            self._leave_too_big(len(self._partial))
            return
        self.frame = None
        self.add(b"", final=frame.final)

    def _expand(self, payload: bytes) -> bool:
        """Give `payload` as parts: False if there are more of them than are wanted at once."""
        if not self._deflated or self.mode == _CLOSING:
            self._add_part(payload, last=False)
            return True
        inflater = self.inflater
        assert inflater is not None
        while payload or inflater.pending:
            if not payload and (self.parts or inflater.effort <= 0):
                self.stalled = True
                self.tired = not self.parts
                return False
            part = inflater.part(payload, MAX_PART)
            payload = b""
            self._add_part(part, last=False)
        return True

    def _add_part(self, data: bytes, *, last: bool) -> None:
        if self.mode == _CLOSING:
            return
        part: Message = data
        if self.kind == TEXT:
            if self._decoder is None:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
            part = self._decoder.decode(data, last)
        if self.mode == _PARTS and (part or (last and not self._given)):
            self._given = True
            self.parts.append(part)

    def _end_parts(self) -> None:
        if self._deflated and self.mode != _CLOSING:
            assert self.inflater is not None
            self.inflater.finish()
        self._add_part(b"", last=True)
        self.parts_over = self.mode == _PARTS
        self._end()


def _unmask(payload: bytes, frame: PartialFrame) -> bytes:
    """The next piece of a frame's payload; the key goes on behind it where the piece ends (RFC 6455 §5.3)."""
    frame.left -= len(payload)
    if frame.key:
        payload = apply_mask(payload, frame.key)
        turn = len(payload) % 4
        frame.key = frame.key[turn:] + frame.key[:turn]
    return payload
