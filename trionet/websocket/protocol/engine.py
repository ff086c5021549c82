"""The WebSocket protocol without I/O: bytes in, messages and control frames out.

The engine has a `MessageReader`, which makes messages of the data of frames, and a `FrameWriter`, which builds frames;
here the frames of the input are found, and the control frames among them are attended to.

Bytes are taken until what waits to be taken reaches a bound; then the rest stays as it came, which is what keeps a few
bytes of compressed flood from becoming a lot of memory (`reader`).

One call parses `FRAMES` frames at most. A receive of 64 KiB can hold 10,000 of them, 30,000 from a server, which does
not mask. Parsing all of them in one go would keep every other task waiting for as long. What is left is parsed by the
next call, behind a checkpoint.

Messages that came whole in one frame, one behind the other, are nearly all of what is received: `_take_messages` is
the fast path for them. What any frame means, these too, is said in `_take_frame`; a test compares the two.

The tests hold all this against the websockets library, whose masking, close frames and header fields are used here. Its
own parser takes everything at once, so it could not keep the bound, and costs twice as much for a small message.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from ...errors import RemoteProtocolError
from .deflate import EFFORT
from .frames import BINARY, CLOSE, CONT, FIN, MASKED, MAX_CONTROL, PING, PONG, RSV1, TEXT, apply_mask
from .reader import MAX_KEPT, WHOLE, MessageReader, Violation
from .writer import FrameWriter

if TYPE_CHECKING:
    from ...errors import TrionetError
    from .deflate import PerMessageDeflate

__all__ = ["Engine"]

FRAMES: Final = 256
"""Frames that one call parses at most: a few tenths of a millisecond."""
COSTLY: Final = 4
"""What is not a whole message in one frame counts as so many: a control frame, a fragment, a compressed message."""
_SHORT: Final = 1024
"""Bytes up to which a slice is cheaper than a view."""
_WHOLE_BINARY: Final = FIN | BINARY
_WHOLE_MESSAGE: Final = frozenset({FIN | TEXT, FIN | BINARY})
_OPCODES: Final = frozenset({CONT, TEXT, BINARY, CLOSE, PING, PONG})


class Engine:
    """One side of a WebSocket whose opening handshake is done.

    Attributes:
        compression: What was agreed on; None for no compression.
        reader: The messages that came.
        writer: What goes out.
        pongs: Payloads of the pongs received since `take_pongs`.
        peer_close: Code and reason of the peer's close frame, once it has come; the code is 1005 if it had none.
        failure: Close code and error, once the peer has broken the protocol.
    """

    __slots__ = ("_attention", "_budget", "_kept", "_key", "_masked", "_need", "_rest", "compression", "failure",
                 "peer_close", "pongs", "reader", "writer")  # fmt: skip

    def __init__(
        self, *, client: bool, max_message_size: int | None, compression: PerMessageDeflate | None = None
    ) -> None:
        self.compression = compression
        self.reader = MessageReader(client=client, max_message_size=max_message_size, compression=compression)
        self.writer = FrameWriter(client=client, compression=compression)
        self._masked, self._key = (0, 0) if client else (MASKED, 4)
        # Input that was not taken yet, and how much of it there has to be before it is worth looking at.
        self._rest = bytearray()
        self._need = 0
        self._attention = False
        # The size of the messages that are kept, or more: what was taken is found out only when this reaches the bound.
        self._kept = 0
        self._budget = FRAMES
        self.pongs: list[bytes] = []
        self.peer_close: tuple[int, str] | None = None
        self.failure: tuple[int, TrionetError] | None = None

    @property
    def full(self) -> bool:
        """Whether what has come and was not taken has reached the bound."""
        reader = self.reader
        left_for_bound = reader.stalled and not reader.tired and (reader.messages or reader.parts)
        if len(reader.messages) > MAX_KEPT or left_for_bound:
            return True
        # What is still to be parsed of one receive is no reason to stop: parsing it is what has to be done.
        waiting = reader.unfinished + (0 if reader.tired else len(self._rest))
        return self._kept + waiting > reader.bound and self._count_kept() + waiting > reader.bound

    def _count_kept(self) -> int:
        self._kept = sum(map(len, self.reader.messages))
        return self._kept

    def take_pongs(self) -> list[bytes]:
        """The payloads of the pongs that came, once."""
        pongs, self.pongs = self.pongs, []
        return pongs

    # --- receiving -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, *, patient: bool = False) -> bool:
        """Take bytes from the peer: True if there is more to attend to than whole messages.

        Args:
            data: What came.
            patient: Whether a message that is too big is left for the next call to find, as it is in any case while
                others wait to be taken: that call may want the message in parts, for which there is no limit.
        """
        self.reader.patient = patient
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
        """Take what can be taken of `data` in one go, frame by frame: how many bytes that was."""
        reader = self.reader
        messages, inflater, size = reader.messages, reader.inflater, len(data)
        reader.stalled = reader.tired = False
        if self.peer_close is not None or self.failure is not None:
            return size
        self._need = at = 0
        self._budget = FRAMES
        if inflater is not None:
            inflater.effort = EFFORT
        if not messages:
            self._kept = 0
        try:
            if reader.frame is not None:
                at = self._take_rest_of_frame(data, size)
            while size - at >= 2 and not reader.stalled:
                before = at
                if reader.between and data[at] in _WHOLE_MESSAGE:
                    at = self._take_messages(data, at, size)
                    if at == size:
                        break
                if at == before:
                    count = len(messages)
                    at = self._take_frame(data, at, size)
                    if at == before:
                        break
                    if len(messages) > count:
                        self._kept += len(messages[-1])
                if self._kept > reader.bound or self._budget <= 0 or (inflater and inflater.effort <= 0):
                    if at < size and not reader.stalled:
                        self._pause()
                    break
        except (Violation, UnicodeDecodeError, zlib.error) as exc:
            self._fail(exc)
            return size
        return at

    def _pause(self) -> None:
        """Stop in front of the next frame: enough waits to be taken, or enough was parsed in one go."""
        reader = self.reader
        reader.stalled = True
        waiting = self._kept if self._kept <= reader.bound else self._count_kept()
        reader.tired = waiting <= reader.bound and len(reader.messages) <= MAX_KEPT

    # --- frames ------------------------------------------------------------------------------------------------

    def _take_messages(self, data: bytes | bytearray, at: int, size: int) -> int:
        """The fast path: whole messages in one frame each, while they follow each other. Where they end.

        It takes what `_take_frame` would, in the same way; the first frame that needs more care is left to that.
        """
        reader = self.reader
        masked = self._masked
        messages = reader.messages
        kept = self._kept
        budget = self._budget
        while size - at >= 2 and budget > 0 and kept <= reader.bound:
            first = data[at]
            length = data[at + 1] ^ masked
            start = at + 2
            if length > 125:
                start, length = self._long_head(data, at, size)
            body = start + self._key
            end = body + length
            if end > size or length > reader.limit or length < 0 or first not in _WHOLE_MESSAGE:
                break
            if length > _SHORT:
                payload = _cut(data, start, body, end)
            elif masked:
                payload = apply_mask(data[body:end], data[start:body])
            else:
                payload = bytes(data[body:end])
            messages.append(payload if first == _WHOLE_BINARY else payload.decode())
            kept += length
            budget -= 1
            at = end
        self._kept = kept
        self._budget = budget
        return at

    def _take_frame(self, data: bytes | bytearray, at: int, size: int) -> int:
        """The frame at `at`, whatever it is: where it ends, or how much of it is there; `at` if it has to wait."""
        start, length = at + 2, data[at + 1] ^ self._masked
        if length > 125:
            start, length = self._long_head(data, at, size)
            if length < 0:
                return at
        first = data[at]
        self._check_head(first, length)
        self._budget -= COSTLY
        body = start + self._key
        end = body + length
        if first & 15 > BINARY:
            if end <= size:
                self._take_control(first & 15, _cut(data, start, body, end))
                return end if self.peer_close is None else size  # nothing counts behind it (RFC 6455 §5.5.1)
        elif self.reader.mode != WHOLE:
            if body <= size:
                self.reader.begin_partial(first, length, bytes(data[start:body]))
                return self.reader.add_partial(data, body, size)
            end = body
        elif not self.reader.check_size(length, first):
            return at
        elif end <= size:
            self.reader.begin(first)
            self.reader.add(_cut(data, start, body, end), final=bool(first & FIN))
            return end
        self._need = end - at
        return at

    def _take_rest_of_frame(self, data: bytes | bytearray, size: int) -> int:
        """More of a frame whose data is given as it comes: where it, or the input, ends."""
        messages = self.reader.messages
        count = len(messages)
        at = self.reader.add_partial(data, 0, size)
        if len(messages) > count:
            self._kept += len(messages[-1])
        return at

    def _long_head(self, data: bytes | bytearray, at: int, size: int) -> tuple[int, int]:
        """Where a head with an extended length ends, and that length; -1 if it is not there yet."""
        second = data[at + 1]
        if second & MASKED != self._masked:
            raise Violation(1002, "a client's frame is not masked" if self._masked else "a server's frame is masked")
        self._check_head(data[at], second & 127)
        start = at + (4 if second & 127 == 126 else 10)
        if start > size:
            self._need = start - at
            return start, -1
        length = int.from_bytes(data[at + 2 : start], "big")
        if length < (126 if start - at == 4 else 65536) or length >= 2**63:
            raise Violation(1002, f"a frame's length of {length} bytes is not in its shortest form, or too large")
        return start, length

    def _check_head(self, first: int, length: int) -> None:
        """Raise unless a frame may begin with this byte, and be so long, here (RFC 6455 §5.2, §5.4, §5.5)."""
        opcode, reserved = first & 15, first & 0x70
        if reserved and (reserved != RSV1 or self.compression is None or opcode not in (TEXT, BINARY)):
            raise Violation(1002, "a frame has reserved bits set")
        if opcode not in _OPCODES:
            raise Violation(1002, f"a frame has the reserved opcode {opcode}")
        if opcode > BINARY:
            if not first & FIN:
                raise Violation(1002, "a control frame is fragmented")
            if length > MAX_CONTROL:
                raise Violation(1002, f"a control frame has more than {MAX_CONTROL} bytes")
        elif opcode == CONT and not self.reader.kind:
            raise Violation(1002, "a continuation frame has no beginning")
        elif opcode != CONT and self.reader.kind:
            raise Violation(1002, "a new message begins before the one in fragments has ended")

    # --- control frames and the end ------------------------------------------------------------------------------

    def _take_control(self, opcode: int, payload: bytes) -> None:
        self._attention = True
        if opcode == PING:
            self.writer.answer_ping(payload)
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            try:
                close = Close.parse(payload)
            except ProtocolError as exc:
                raise Violation(1002, f"a close frame is malformed: {exc}") from None
            except UnicodeDecodeError as exc:
                text = f"a close frame's reason is not UTF-8: {exc.reason} at byte {exc.start}"
                raise Violation(1007, text) from None
            self.peer_close = (int(close.code), close.reason)
            if not self.writer.closing:
                self.writer.close_with(payload)

    def _fail(self, exc: Violation | UnicodeDecodeError | zlib.error) -> None:
        """The peer has broken the protocol: the close frame says so, and no more is taken (RFC 6455 §7.1.7)."""
        match exc:
            case Violation():
                code, text, error = exc.code, str(exc), exc.error
            case UnicodeDecodeError():
                code, text, error = _not_consistent(f"text message is not UTF-8: {exc.reason} at byte {exc.start}")
            case _:
                code, text, error = _not_consistent(f"compressed message cannot be expanded: {exc}")
        self.writer.close_instead(code, text)
        self.failure = (code, error)
        self._attention = True
        self.reader.abandon()


def _not_consistent(text: str) -> tuple[int, str, TrionetError]:
    """Close code, reason and error for data that is not what the message's type says (RFC 6455 §7.4.1)."""
    return 1007, text, RemoteProtocolError(text)


def _cut(data: bytes | bytearray, start: int, body: int, end: int) -> bytes:
    """The payload from `body` to `end`, whose masking key begins at `start`."""
    with memoryview(data) as whole, whole[body:end] as payload:
        if start == body:
            return bytes(payload)
        return apply_mask(payload, bytes(data[start:body]))
