"""The sending half of a WebSocket's protocol, without I/O: messages and control frames in, bytes out.

The writer also keeps the control frames that are due because of what the peer has sent: pongs, and the close frame.
Pings are answered one by one; of the pongs that wait to be sent only the newest `MAX_PONGS` are kept (RFC 6455 §5.5.3
allows that), as a flood of pings must not become a flood of pongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...errors import LocalProtocolError
from ...support.checks import flat_view
from .deflate import make_deflater
from .frames import BINARY, CLOSE, CONT, FIN, PONG, RSV1, TEXT, build, close_payload

if TYPE_CHECKING:
    from .deflate import PerMessageDeflate

__all__ = ["MAX_PONGS", "FrameWriter", "payload_of"]

MAX_PONGS: Final = 16
"""Pongs that wait to be sent at most."""


class FrameWriter:
    """Builds the frames of one side.

    Attributes:
        client: Whether this is the client's side, which masks.
        pongs: The frames that answer the newest pings, at most `MAX_PONGS` of them; empty if none is due.
        close_frame: The close frame that is due; empty if none is.
        closing: Whether a close frame was made.
    """

    __slots__ = ("_deflater", "_pong_count", "client", "close_frame", "closing", "pongs")

    def __init__(self, *, client: bool, compression: PerMessageDeflate | None) -> None:
        self.client = client
        self._deflater = None if compression is None else make_deflater(compression, client=client)
        self._pong_count = 0
        self.pongs = b""
        self.close_frame = b""
        self.closing = False

    def message(self, message: str | bytes | bytearray | memoryview) -> bytes:
        """The frame of a whole message. If the peer will not get it, call `forget`.

        Raises:
            TypeError: it is neither str nor bytes-like.
            LocalProtocolError: text that cannot be encoded as UTF-8.
        """
        opcode, payload = payload_of(message)
        deflater = self._deflater
        if deflater is None or len(payload) < deflater.min_size:
            return build(FIN | opcode, payload, mask=self.client)
        return build(FIN | RSV1 | opcode, deflater.message(payload), mask=self.client)

    def first(self, part: str | bytes | bytearray | memoryview) -> bytes:
        """The first frame of a message in several (RFC 6455 §5.4). Raises as `message`."""
        opcode, payload = payload_of(part)
        if self._deflater is None:
            return build(opcode, payload, mask=self.client)
        return build(RSV1 | opcode, self._deflater.part(payload), mask=self.client)

    def next(self, part: str | bytes | bytearray | memoryview) -> bytes:
        """A further frame of it. Raises as `message`."""
        _, payload = payload_of(part)
        if self._deflater is not None:
            payload = self._deflater.part(payload)
        return build(CONT, payload, mask=self.client)

    def last(self) -> bytes:
        """The end of it: a frame without data."""
        return build(FIN | CONT, b"" if self._deflater is None else self._deflater.last(), mask=self.client)

    def forget(self) -> None:
        """The peer will not get the message that was built last."""
        if self._deflater is not None:
            self._deflater.forget()

    # --- control frames ------------------------------------------------------------------------------------------

    def control(self, opcode: int, payload: bytes) -> bytes:
        """A ping, pong or close frame; the payload has at most 125 bytes."""
        return build(FIN | opcode, payload, mask=self.client)

    def answer_ping(self, payload: bytes) -> None:
        """A pong is due, behind those that wait already; of too many the oldest is left out."""
        waiting = self.pongs
        if not waiting:
            self._pong_count = 0
        elif self._pong_count == MAX_PONGS:
            self._pong_count -= 1
            waiting = waiting[2 + (4 if self.client else 0) + (waiting[1] & 127) :]
        self._pong_count += 1
        self.pongs = waiting + self.control(PONG, payload)

    def close(self, code: int, reason: str) -> None:
        """Make the close frame due, unless one was made before. Code 1005 stands for a frame without a code."""
        self.close_with(b"" if code == 1005 else close_payload(code, reason))

    def close_with(self, payload: bytes) -> None:
        """As `close`, with this payload: the peer's own, to answer its close frame (RFC 6455 §5.5.1)."""
        if not self.closing:
            self.closing = True
            self.close_frame = build(FIN | CLOSE, payload, mask=self.client)

    def close_instead(self, code: int, reason: str) -> None:
        """The connection has failed: say that, in place of a close frame that has not been sent (RFC 6455 §7.1.7)."""
        if not self.closing or self.close_frame:
            self.closing = False
            self.close(code, reason)


def payload_of(message: Any) -> tuple[int, bytes | bytearray | memoryview]:
    """Opcode and payload of a message, or of a part of one.

    Raises:
        TypeError, LocalProtocolError: as `FrameWriter.message`.
    """
    if isinstance(message, bytes):
        return BINARY, message
    if isinstance(message, str):
        try:
            return TEXT, message.encode()
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"text message cannot be encoded as UTF-8: {exc}; nothing was sent") from None
    if isinstance(message, bytearray):
        return BINARY, message
    if isinstance(message, memoryview):
        return BINARY, flat_view(message)
    remedy = "; json.dumps() makes text of it" if isinstance(message, (dict, list)) else ""
    raise TypeError(f"a message must be str or bytes, bytearray, memoryview, not {type(message).__name__}{remedy}")
