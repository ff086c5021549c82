"""Frames as bytes (RFC 6455 §5.2): how one begins, and how one is built."""

from __future__ import annotations

import os
from typing import Final

from websockets.frames import Close, Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build of websockets without its C part
    from websockets.utils import apply_mask

__all__ = [
    "BINARY",
    "CLOSE",
    "CONT",
    "FIN",
    "MASKED",
    "MAX_CONTROL",
    "MAX_REASON",
    "PING",
    "PONG",
    "RSV1",
    "TEXT",
    "Opcode",
    "apply_mask",
    "build",
    "close_payload",
]

# Opcodes as plain numbers, for comparing: an enum's members cost more than all the rest of a small frame.
CONT: Final = int(Opcode.CONT)
TEXT: Final = int(Opcode.TEXT)
BINARY: Final = int(Opcode.BINARY)
CLOSE: Final = int(Opcode.CLOSE)
PING: Final = int(Opcode.PING)
PONG: Final = int(Opcode.PONG)

FIN: Final = 0x80
RSV1: Final = 0x40
"""In the first frame of a message: it is compressed (RFC 7692 §6)."""
MASKED: Final = 0x80
"""In a frame's second byte."""
MAX_CONTROL: Final = 125
"""Bytes of a control frame's payload at most (RFC 6455 §5.5)."""
MAX_REASON: Final = MAX_CONTROL - 2
"""Bytes of a close frame's reason at most."""


def build(first: int, payload: bytes | bytearray | memoryview, *, mask: bool) -> bytes:
    """The frame with this first byte (FIN, RSV1 and opcode) and payload.

    A client's is masked, with a new key each time (RFC 6455 §5.3).
    """
    size = len(payload)
    flag = MASKED if mask else 0
    if size <= 125:
        head = bytes((first, flag | size))
    elif size < 65536:
        head = bytes((first, flag | 126, size >> 8, size & 255))
    else:
        head = bytes((first, flag | 127)) + size.to_bytes(8, "big")
    if mask:
        key = os.urandom(4)
        return b"".join((head, key, apply_mask(payload, key)))
    return head + payload


def close_payload(code: int, reason: str) -> bytes:
    """The payload of a close frame; a reason that is too long loses its end (RFC 6455 §5.5.1)."""
    if len(reason.encode()) > MAX_REASON:
        reason = reason.encode()[: MAX_REASON - 3].decode(errors="ignore") + "..."
    return Close(code, reason).serialize()
