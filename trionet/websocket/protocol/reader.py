"""From the data of frames to messages: whole ones, or one in parts (RFC 6455 §5.4, RFC 7692 §7.2.2).

Who wants what is said beforehand: a reader wants whole messages, or one in parts; a closing side wants nothing. Where
as much waits to be taken as the bound allows, or where a message is too big for the one who looked but may not be for
the next one, the assembly is *stalled*: what has come behind that stays as it is. So it is where one call has done as
much as one call may; then the assembly is *tired* too, and goes on when it is called again.
"""

from __future__ import annotations

import codecs
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ...errors import LimitExceededError, RemoteProtocolError, TrionetError
from .frames import CONT, RSV1, TEXT, apply_mask
from .writer import Writer

if TYPE_CHECKING:
    from .deflate import Inflater, PerMessageDeflate

__all__ = ["MAX_KEPT", "WHOLE", "Assembly", "Message", "Offence", "PartialFrame"]

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


class Offence(Exception):
    """The peer has broken the protocol, or a limit: which close code that is."""

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


class Assembly(Writer):
    """Puts messages together, one of which may be given before it is whole.

    Attributes:
        messages: Messages received and not taken yet.
        parts: Parts, received and not taken yet, of the message that is wanted in parts.
        parts_over: Whether these are the last ones.
        stalled: Whether there is input that was not looked at.
        tired: Whether that is only for the time that it takes: the next call goes on.
    """

    __slots__ = ("_bound", "_decoder", "_deflated", "_frame", "_given", "_inflater", "_kind", "_limit", "_mode",
                 "_partial", "_parts_next", "_patient", "_plain", "max_message_size", "messages", "parts",
                 "parts_over", "stalled", "tired")  # fmt: skip

    def __init__(self, *, client: bool, max_message_size: int | None, compression: PerMessageDeflate | None) -> None:
        super().__init__(client=client, compression=compression)
        self.max_message_size = max_message_size
        self._limit = _UNLIMITED if max_message_size is None else max_message_size
        self._bound = MAX_KEPT_BYTES if max_message_size is None else max_message_size
        self._inflater: Inflater | None = None if compression is None else compression.inflater(client=client)
        self._mode = WHOLE
        # The message that has begun: its opcode (0: none has), whether it is compressed, and what of it has come.
        # One buffer, not a list: a million fragments of one byte, or of none, must not cost more than their bytes.
        self._kind = 0
        self._deflated = False
        self._partial = bytearray()
        self._plain = True  # no message has begun, and whole ones are wanted
        self._patient = False  # whether a message that is too big is left for the next one who looks
        self._frame: PartialFrame | None = None
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
            self._mode = _SKIP if self._kind else WHOLE
            self._plain = self._mode == WHOLE

    @property
    def between_messages(self) -> bool:
        """Whether nothing has come yet of a message that is wanted in parts."""
        return self._parts_next or (self._mode == _PARTS and not self._kind)

    def want_nothing(self) -> None:
        """Only the peer's close is still of interest. What is there already can be taken."""
        self._mode = _CLOSING
        self._plain = False
        self._partial.clear()

    # --- frames ------------------------------------------------------------------------------------------------

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
            self._mode = _PARTS if self._parts_next else WHOLE
            self._plain = not self._parts_next
            self._parts_next = False

    def _too_big(self, length: int, deflated: bool) -> bool:
        """Whether a message is too big for sure if a frame of this length belongs to it."""
        if deflated or (self._deflated and self._kind):
            return length > 2 * self._limit + SLACK  # what does not get smaller gets larger
        return len(self._partial) + length > self._limit

    def _too_big_offence(self, size: int) -> Offence:
        return Offence(
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
            if not self._inflate(inflater, payload, final):
                return
            if final:
                inflater.finish()
        else:
            partial += payload
        if final:
            kind = self._kind
            self._partial = bytearray()
            self._end()
            self.messages.append(partial.decode() if kind == TEXT else bytes(partial))

    def _inflate(self, inflater: Inflater, payload: bytes, final: bool) -> bool:
        """Add what `payload` expands to, and what the one before has left: False if that has to be continued."""
        partial, most = self._partial, self._limit + 1
        partial += inflater.part(payload, most - len(partial))
        if len(partial) == most:
            if not self._patient and not self.messages:
                raise self._too_big_offence(most)
            self.stalled = True
        elif inflater.pending:
            self.stalled = self.tired = True
        else:
            return True
        self._frame = PartialFrame(0, final, b"")
        return False

    def _go_on_in_frame(self, data: bytes | bytearray, at: int, size: int) -> int:
        """More of a frame that is given in parts, or dropped: where it, or the input, ends."""
        frame = self._frame
        assert frame is not None
        if self._mode == WHOLE:
            if len(self._partial) <= self._limit:
                self._frame = None
                self._add_to_whole(b"", frame.final)
                return at
            if not self._patient and not self.messages:
                raise self._too_big_offence(len(self._partial))
            self.stalled = True
            return at
        if not self._expand(b""):
            return at
        end = min(size, at + frame.left)
        if end > at:
            payload: bytes = bytes(data[at:end])
            if frame.key:
                payload = apply_mask(payload, frame.key)
                turn = (end - at) % 4
                frame.key = frame.key[turn:] + frame.key[:turn]
            frame.left -= end - at
            if not self._expand(payload):
                return end
        if not frame.left:
            self._frame = None
            if frame.final:
                self._part_message_over()
        return end

    def _expand(self, payload: bytes) -> bool:
        """Give `payload` as parts: False if there are more of them than are wanted at once."""
        if not self._deflated or self._mode == _CLOSING:
            self._add_part(payload, last=False)
            return True
        inflater = self._inflater
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
        if self._deflated and self._mode != _CLOSING:
            assert self._inflater is not None
            self._inflater.finish()
        self._add_part(b"", last=True)
        self.parts_over = self._mode == _PARTS
        self._end()
