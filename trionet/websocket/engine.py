"""The WebSocket protocol without I/O: bytes in, messages and control frames out.

A thin layer over the sans-I/O core of the websockets library, which cuts frames, masks, and answers pings and closes.
What that leaves open is done here: text has to be UTF-8, fragments become messages, only the newest of several pings is
answered (RFC 6455 §5.5.3 allows that; a flood of pings must not become a flood of pongs), and errors say how the limit
that was reached is set.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from typing import Any, Final

from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State

from ..errors import LimitExceededError, LocalProtocolError, RemoteProtocolError

__all__ = ["Engine", "Message"]

Message = str | bytes
"""What is received: str for text messages, bytes for binary ones."""

_LOG: Final = logging.getLogger("trionet.websocket")
MAX_CONTROL: Final = 125
"""Bytes of a control frame's payload at most (RFC 6455 §5.5)."""

_TEXT: Final = Opcode.TEXT
_BINARY: Final = Opcode.BINARY


class Engine:
    """One side of a WebSocket whose opening handshake is done.

    Attributes:
        client: Whether this is the client's side.
        messages: Messages received and not taken yet.
        pong: The answer that is due to the newest ping; empty if none is.
        pongs: Payloads of the pongs received since `take_pongs`.
        farewell: The close frame that is due; empty if none is.
        peer_close: Code and reason of the peer's close frame, once it has come; the code is 1005 if it had none.
        failure: Close code and error, once the peer has broken the protocol.
    """

    __slots__ = ("_kind", "_limit", "_partial", "_proto", "client", "failure", "farewell", "max_message_size",
                 "messages", "peer_close", "pong", "pongs")  # fmt: skip

    def __init__(self, *, client: bool, max_message_size: int | None) -> None:
        self.client = client
        self.max_message_size = max_message_size
        side = Side.CLIENT if client else Side.SERVER
        # The library holds control frames against the limit too, so they get room of their own.
        room = None if max_message_size is None else max_message_size + MAX_CONTROL
        self._proto = Protocol(side, state=State.OPEN, max_size=room, logger=_LOG)
        self._limit = sys.maxsize if max_message_size is None else max_message_size
        self._kind = _TEXT
        # One buffer, not a list: a million fragments of one byte, or of none, must not cost more than their bytes.
        self._partial = bytearray()
        self.messages: deque[Message] = deque()
        self.pong = b""
        self.pongs: list[bytes] = []
        self.farewell = b""
        self.peer_close: tuple[int, str] | None = None
        self.failure: tuple[int, Exception] | None = None

    @property
    def buffered(self) -> int:
        """Bytes (characters, for text) of the messages that nobody has taken."""
        return sum(map(len, self.messages))

    # --- receiving -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bool:
        """Take bytes from the peer: True if there is more to attend to than whole messages."""
        proto = self._proto
        proto.receive_data(data)
        messages = self.messages
        attention = False
        frame: Any  # a Frame: opening handshakes, the other kind of event, do not come here
        for frame in proto.events_received():
            opcode = frame.opcode
            try:
                if len(frame.data) > self._limit and opcode <= _BINARY:
                    raise self._too_big(len(frame.data))
                if opcode is _TEXT and frame.fin:
                    messages.append(frame.data.decode())
                elif opcode is _BINARY and frame.fin:
                    messages.append(bytes(frame.data))
                else:
                    attention = True
                    self._other(frame)
            except UnicodeDecodeError as exc:
                self._not_text(exc)
                return True
            except LimitExceededError as exc:
                self._fail(1009, "message too big", exc)
                return True
        if proto.parser_exc is not None and self.failure is None:
            self._broken(proto.parser_exc)
        return self._sort_output() or attention

    def _other(self, frame: Any) -> None:
        """Fragments (RFC 6455 §5.4) and control frames (§5.5)."""
        if frame.opcode is Opcode.PONG:
            self.pongs.append(bytes(frame.data))
        elif frame.opcode is Opcode.CLOSE:
            self._note_close()
        elif frame.opcode is not Opcode.PING:
            if frame.opcode is not Opcode.CONT:
                self._kind = frame.opcode
            self._partial += frame.data
            if len(self._partial) > self._limit:
                raise self._too_big(len(self._partial))
            if frame.fin:
                whole, self._partial = self._partial, bytearray()
                self.messages.append(whole.decode() if self._kind is _TEXT else bytes(whole))

    def _too_big(self, size: int) -> LimitExceededError:
        return LimitExceededError(
            f"message too big: at least {size} bytes, the limit is {self._limit} bytes (max_message_size)"
        )

    def _note_close(self) -> None:
        close = self._proto.close_rcvd
        assert close is not None
        self.peer_close = (int(close.code), close.reason)

    def _sort_output(self) -> bool:
        """Keep what the library wants to send: of several pongs the newest, and a close frame."""
        output = self._proto.data_to_send()
        for frame in output:
            if frame[:1] == b"\x8a":
                self.pong = frame
            elif frame[:1] == b"\x88":
                self.farewell = frame
        return bool(output)

    def _not_text(self, exc: UnicodeDecodeError) -> None:
        text = f"text message is not UTF-8: {exc.reason} at byte {exc.start}"
        self._fail(1007, text, RemoteProtocolError(text))

    def _broken(self, exc: Exception) -> None:
        """The library's parser has given up, and has a close frame ready with the code that fits."""
        if self._proto.close_rcvd is not None:  # the peer closed in the middle of a fragmented message: it may
            self._note_close()
            return
        if isinstance(exc, PayloadTooBig):
            error: Exception = LimitExceededError(
                f"message too big: {exc}; the limit is {self._limit} bytes (max_message_size)"
            )
            self.failure = (1009, error)
        else:
            code = 1007 if isinstance(exc, UnicodeDecodeError) else 1002
            self.failure = (code, RemoteProtocolError(f"the peer broke the WebSocket protocol: {exc}"))

    def _fail(self, code: int, text: str, error: Exception) -> None:
        self._sort_output()
        if self._proto.close_sent is None or self.farewell:
            # The library may have answered a close frame behind the bad message already; this is what goes out.
            close = Frame(Opcode.CLOSE, Close(code, text).serialize())
            self.farewell = close.serialize(mask=self.client)
        if self._proto.state is State.OPEN:
            self._proto.fail(code, text)
            self._proto.data_to_send()
        self.failure = (code, error)

    def take_pongs(self) -> list[bytes]:
        """The payloads of the pongs that came, once."""
        pongs, self.pongs = self.pongs, []
        return pongs

    # --- sending -------------------------------------------------------------------------------------------------

    def message(self, message: str | bytes | bytearray | memoryview) -> bytes:
        """The frame of a whole message.

        Raises:
            TypeError: it is neither str nor bytes-like.
            LocalProtocolError: text that cannot be encoded as UTF-8.
        """
        if isinstance(message, str):
            try:
                self._proto.send_text(message.encode())
            except UnicodeEncodeError as exc:
                raise LocalProtocolError(f"text message cannot be encoded as UTF-8: {exc}; nothing was sent") from None
        elif isinstance(message, (bytes, bytearray)):
            self._proto.send_binary(message)
        elif isinstance(message, memoryview):
            self._proto.send_binary(message.cast("B") if message.c_contiguous else bytes(message))
        else:
            raise TypeError(f"a message must be str or bytes, bytearray, memoryview, not {type(message).__name__}")
        return self._proto.data_to_send()[0]

    def control(self, opcode: Opcode, payload: bytes) -> bytes:
        """A ping or pong frame; the payload has at most 125 bytes."""
        return Frame(opcode, payload).serialize(mask=self.client)

    def close(self, code: int, reason: str) -> None:
        """Make the close frame due, unless one was made before."""
        if self._proto.state is State.OPEN:
            self._proto.send_close(code, reason)
            self._sort_output()
