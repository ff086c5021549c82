"""What a program says about messages and fields: checked when it is said, not when the first peer comes.

`Options` is what trionet makes of it: the settings of a handshake, and the engine of a WebSocket whose limit counts as
trio-websocket counts, by ``len()`` of the message.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from ...http.protocol.headers import Headers, checked_headers, split_list
from ...support.checks import check_count
from ...websocket.handshake.settings import Settings
from ...websocket.protocol.engine import Engine
from ...websocket.protocol.frames import TEXT
from .connection import WebSocketConnection

__all__ = [
    "CONN_TIMEOUT",
    "MAX_MESSAGE_SIZE",
    "MESSAGE_QUEUE_SIZE",
    "RECEIVE_BYTES",
    "Fields",
    "Options",
    "split_fields",
]

CONN_TIMEOUT: Final = 60
"""Seconds for the handshake, and for the close."""
MESSAGE_QUEUE_SIZE: Final = 1
MAX_MESSAGE_SIZE: Final = 2**20
RECEIVE_BYTES: Final = 4096

MAX_REFUSAL: Final = 2**24
"""Bytes of a refusal's body that are read at most; trio-websocket has no bound."""
UTF8_BYTES: Final = 4
"""Bytes that one character of text has at most."""

Fields = list[tuple[bytes, bytes]] | None
"""Additional fields, as trio-websocket takes them; str is as good as bytes."""

_OWN: Final = frozenset({b"host", b"upgrade", b"connection", b"content-length", b"transfer-encoding"})
_SUBPROTOCOL: Final = b"sec-websocket-protocol"


class InteropEngine(Engine):
    """Counts a text message in characters, so it may have four times the bytes."""

    __slots__ = ()

    def _take_frame(self, data: bytes | bytearray, at: int, size: int) -> int:
        reader = self.reader
        if (data[at] & 15 or reader.kind) != TEXT:
            return super()._take_frame(data, at, size)
        limit, count = reader.limit, len(reader.messages)
        reader.limit = UTF8_BYTES * limit
        try:
            end = super()._take_frame(data, at, size)
        finally:
            reader.limit = limit
        if len(reader.messages) > count and len(reader.messages[-1]) > limit:
            raise reader.too_big(len(reader.messages.pop()))
        return end


class Options(NamedTuple):
    """What a WebSocket is to be like."""

    queue_size: float
    """Messages that are received ahead while no task receives, and one more."""
    max_message_size: int | None

    @classmethod
    def check(cls, message_queue_size: Any, max_message_size: Any) -> Options:
        """The two arguments that have an effect.

        Raises:
            TypeError, ValueError: one of them is neither ``math.inf`` nor a number that makes sense.
        """
        if message_queue_size != math.inf:
            check_count("message_queue_size", message_queue_size, off="math.inf: no limit")
        if max_message_size == math.inf:
            return cls(message_queue_size, None)
        if isinstance(max_message_size, float) and math.isfinite(max_message_size):
            max_message_size = math.floor(max_message_size)
        return cls(message_queue_size, check_count("max_message_size", max_message_size, 1, off="math.inf: no limit"))

    def settings(self) -> Settings:
        """The settings of a handshake."""
        return Settings(
            self.max_message_size, math.inf, WebSocketConnection, engine=InteropEngine, max_refusal=MAX_REFUSAL
        )


def split_fields(fields: Fields) -> tuple[Headers, list[str]]:
    """A program's additional fields, without those that the handshake sets itself, and the subprotocols among them.

    Raises:
        TypeError, ValueError: as `Headers`.
    """
    kept: list[tuple[bytes, bytes]] = []
    subprotocols: list[str] = []
    for name, value in Headers(fields or ()).raw:
        lower = name.lower()
        if lower == _SUBPROTOCOL:
            subprotocols += split_list([value.decode("latin-1")])
        elif lower not in _OWN and not lower.startswith(b"sec-websocket-"):
            kept.append((name, value))
    return checked_headers(kept), subprotocols
