"""The WebSocket protocol without I/O: bytes in, messages and control frames out.

Bytes are taken until what waits to be taken reaches a bound; then the rest stays as it came, which is what keeps a few
bytes of compressed flood from becoming a lot of memory (`assembly`). Pings are answered one by one. Of those whose
pongs wait to be sent only the newest `MAX_PONGS` are (RFC 6455 §5.5.3 allows that): a flood of pings must not become a
flood of pongs.

One call parses `FRAMES` frames at most. A receive of 64 KiB can hold 10,000 of them, 30,000 from a server, which does
not mask. Whoever parsed all of them in one go would keep every other task waiting for as long. What is left is parsed
by the next call, behind a checkpoint.

The tests hold all this against the websockets library, whose masking, close frames and header fields are used here. Its
own parser takes everything at once, so it could not keep that bound, and costs twice as much for a small message.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from ...errors import RemoteProtocolError
from .deflate import EFFORT
from .frames import BINARY, CLOSE, CONT, FIN, MASKED, MAX_CONTROL, PING, PONG, RSV1, TEXT, apply_mask
from .reader import MAX_KEPT, WHOLE, Assembly, Offence, PartialFrame

if TYPE_CHECKING:
    from ...errors import TrionetError
    from .deflate import PerMessageDeflate

__all__ = ["Engine"]

FRAMES: Final = 256
"""Frames that one call parses at most: a few tenths of a millisecond."""
COSTLY: Final = 4
"""What is not a whole message in one frame counts as so many: a control frame, a fragment, a compressed message."""
MAX_PONGS: Final = 16
"""Pongs that wait to be sent at most."""
_SHORT: Final = 1024
"""Bytes up to which a slice is cheaper than a view."""
_WHOLE_BINARY: Final = FIN | BINARY
_WHOLE_MESSAGE: Final = frozenset({FIN | TEXT, FIN | BINARY})
_OPCODES: Final = frozenset({CONT, TEXT, BINARY, CLOSE, PING, PONG})


class Engine(Assembly):
    """One side of a WebSocket whose opening handshake is done.

    Attributes:
        pong: The answers that are due to the newest pings, at most `MAX_PONGS` frames; empty if none is.
        pongs: Payloads of the pongs received since `take_pongs`.
        peer_close: Code and reason of the peer's close frame, once it has come; the code is 1005 if it had none.
        failure: Close code and error, once the peer has broken the protocol.
    """

    __slots__ = ("_attention", "_kept", "_key", "_masked", "_need", "_pongs_due", "_rest", "failure", "peer_close",
                 "pong", "pongs")  # fmt: skip

    def __init__(
        self, *, client: bool, max_message_size: int | None, compression: PerMessageDeflate | None = None
    ) -> None:
        super().__init__(client=client, max_message_size=max_message_size, compression=compression)
        self._masked, self._key = (0, 0) if client else (MASKED, 4)
        # Input that was not taken yet, and how much of it there has to be before it is worth looking at.
        self._rest = bytearray()
        self._need = 0
        self._attention = False
        # The size of the messages that are kept, or more: what was taken is found out only when this reaches the bound.
        self._kept = 0
        self._pongs_due = 0
        self.pong = b""
        self.pongs: list[bytes] = []
        self.peer_close: tuple[int, str] | None = None
        self.failure: tuple[int, TrionetError] | None = None

    @property
    def full(self) -> bool:
        """Whether what has come and was not taken has reached the bound."""
        if len(self.messages) > MAX_KEPT or (self.stalled and not self.tired and (self.messages or self.parts)):
            return True
        # What is still to be parsed of one receive is no reason to stop: parsing it is what has to be done.
        rest = 0 if self.tired else len(self._rest)
        waiting = sum(map(len, self.parts)) + len(self._partial) + rest
        return self._kept + waiting > self._bound and self._count_kept() + waiting > self._bound

    def _count_kept(self) -> int:
        self._kept = sum(map(len, self.messages))
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
        """Take what can be taken of `data` in one go: how many bytes that was."""
        self.stalled = self.tired = False
        self._need = 0
        if self._inflater is not None:
            self._inflater.effort = EFFORT
        try:
            if self.peer_close is None and self.failure is None:
                return self._parse(data)
        except Offence as exc:
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
        kept = self._kept if messages else 0
        frames = FRAMES
        at = 0
        if self._frame is not None:
            count = len(messages)
            at = self._go_on_in_frame(data, 0, size)
            if len(messages) > count:
                kept += len(messages[-1])
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
                frames -= COSTLY - 1
                if self._inflater is not None and self._inflater.effort <= 0:
                    frames = 0
            frames -= 1
            if kept > self._bound or frames <= 0:
                if at < size and not self.stalled:
                    self._pause(kept)
                break
        self._kept = kept
        return at if self.peer_close is None else size

    def _pause(self, kept: int) -> None:
        """Stop in front of the next frame: enough waits to be taken, or enough was parsed in one go."""
        self.stalled = True
        waiting = kept if kept <= self._bound else self._count_kept()
        self.tired = waiting <= self._bound and len(self.messages) <= MAX_KEPT

    def _long_head(self, data: bytes | bytearray, at: int, size: int) -> tuple[int, int]:
        """Where a head with an extended length ends, and that length; -1 if it is not there yet."""
        second = data[at + 1]
        if second & MASKED != self._masked:
            raise Offence(1002, "a client's frame is not masked" if self._masked else "a server's frame is masked")
        self._check_head(data[at], data[at] & 15, second & 127)
        start = at + (4 if second & 127 == 126 else 10)
        if start > size:
            self._need = start - at
            return start, -1
        length = int.from_bytes(data[at + 2 : start], "big")
        if length < (126 if start - at == 4 else 65536) or length >= 2**63:
            raise Offence(1002, f"a frame's length of {length} bytes is not in its shortest form, or too large")
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
        elif self._mode != WHOLE:
            if body <= size:
                self._begin(first, opcode)
                self._frame = PartialFrame(length, bool(first & FIN), bytes(data[start:body]))
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
            raise Offence(1002, "a frame has reserved bits set")
        if opcode not in _OPCODES:
            raise Offence(1002, f"a frame has the reserved opcode {opcode}")
        if opcode > BINARY:
            if not first & FIN:
                raise Offence(1002, "a control frame is fragmented")
            if length > MAX_CONTROL:
                raise Offence(1002, f"a control frame has more than {MAX_CONTROL} bytes")
        elif opcode == CONT and not self._kind:
            raise Offence(1002, "a continuation frame has no beginning")
        elif opcode != CONT and self._kind:
            raise Offence(1002, "a new message begins before the one in fragments has ended")

    # --- control frames and the end ------------------------------------------------------------------------------

    def _control(self, opcode: int, payload: bytes) -> None:
        self._attention = True
        if opcode == PING:
            self._answer(self.control(PONG, payload))
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            try:
                close = Close.parse(payload)
            except ProtocolError as exc:
                raise Offence(1002, f"a close frame is malformed: {exc}") from None
            except UnicodeDecodeError as exc:
                raise Offence(1007, f"a close frame's reason is not UTF-8: {exc.reason} at byte {exc.start}") from None
            self.peer_close = (int(close.code), close.reason)
            if not self.closing:
                self.closing = True
                self.farewell = self.control(CLOSE, payload)

    def _answer(self, pong: bytes) -> None:
        """A pong is due, behind those that wait already; of too many the oldest is left out."""
        waiting = self.pong
        if not waiting:
            self._pongs_due = 0
        elif self._pongs_due == MAX_PONGS:
            self._pongs_due -= 1
            waiting = waiting[2 + (4 if self.client else 0) + (waiting[1] & 127) :]
        self._pongs_due += 1
        self.pong = waiting + pong

    def _fail(self, code: int, text: str, error: TrionetError) -> None:
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
