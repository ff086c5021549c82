"""The sending half of a WebSocket's protocol, without I/O: messages and control frames in, bytes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import LocalProtocolError
from ...support.checks import flat_view
from .frames import BINARY, CLOSE, CONT, FIN, RSV1, TEXT, build, close_payload

if TYPE_CHECKING:
    from .deflate import Deflater, PerMessageDeflate

__all__ = ["Writer", "payload_of"]


class Writer:
    """Builds the frames of one side.

    Attributes:
        client: Whether this is the client's side, which masks.
        compression: What was agreed on; None for no compression.
        farewell: The close frame that is due; empty if none is.
        closing: Whether a close frame was made.
    """

    __slots__ = ("_deflater", "client", "closing", "compression", "farewell")

    def __init__(self, *, client: bool, compression: PerMessageDeflate | None) -> None:
        self.client = client
        self.compression = compression
        self._deflater: Deflater | None = None if compression is None else compression.deflater(client=client)
        self.farewell = b""
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

    def control(self, opcode: int, payload: bytes) -> bytes:
        """A ping, pong or close frame; the payload has at most 125 bytes."""
        return build(FIN | opcode, payload, mask=self.client)

    def close(self, code: int, reason: str) -> None:
        """Make the close frame due, unless one was made before."""
        if not self.closing:
            self.closing = True
            self.farewell = self.control(CLOSE, close_payload(code, reason))


def payload_of(message: Any) -> tuple[int, bytes | bytearray | memoryview]:
    """Opcode and payload of a message, or of a part of one.

    Raises:
        TypeError, LocalProtocolError: as `Writer.message`.
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
