"""What comes first in a handshake: TLS, or plaintext that somebody has put in front of it.

OpenSSL would take plaintext for a broken record. What it means depends on who sent it, so it is looked at before
OpenSSL sees it: a program must not execute a command that was injected behind STARTTLS (RFC 3207 §6), and a user who
has the wrong port should read that, and not about a wrong version number.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import PlaintextInjectionError, UpgradeFailedError
from ..support.texts import shown_bytes

__all__ = ["HEAD", "UNRECOGNIZED_NAME", "check_first", "is_client_hello", "server_spoke_first"]

ALERT: Final = 21
HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\0\2\2\x70"
"""A fatal alert: there is no such name here (RFC 6066 §3)."""
MAX_CIPHERTEXT: Final = 16384 + 2048
"""Length of a record at most (RFC 5246 §6.2.3; RFC 8446 §5.2 allows less)."""

HEAD: Final = 6
"""Type, version (2), length (2) of the record, type of the handshake message: what tells TLS from plaintext."""

_COMMAND: Final = re.compile(rb"([A-Z]{1,8})[ \r\n]")


def check_first(first: bytes | bytearray, from_client: bool) -> None:
    """Raise as soon as the bytes that came first cannot be TLS (RFC 8446 §5.1, §4).

    A client's may be plaintext that somebody has pipelined behind STARTTLS. What a server sends behind the ClientHello
    is its answer: it has injected nothing, it does not speak TLS.
    """
    if _like_tls(first, from_client):
        return
    if from_client:
        raise PlaintextInjectionError(
            f"the client sent plaintext where its ClientHello had to begin{_command(first)}; it was dropped, and the "
            f"connection closed. Somebody may have injected it, or the client does not speak TLS here"
        )
    raise UpgradeFailedError(
        f"the peer does not speak TLS: it answered the ClientHello with {shown_bytes(first)}. "
        f"Is this the right port, and https:// or wss:// the right scheme for it?"
    )


def is_client_hello(first: bytes | bytearray) -> bool:
    """Whether these bytes, one at least, can be the beginning of a ClientHello. With `HEAD` of them that is sure."""
    return _like_tls(first, from_client=True)


def server_spoke_first(early: bytes | bytearray) -> PlaintextInjectionError:
    """The error for bytes that came from a server in front of the ClientHello."""
    return PlaintextInjectionError(
        f"the server sent plaintext before TLS began, which it must not: {shown_bytes(early)}; it was dropped, and the "
        f"connection closed. Somebody may have injected it. Where such bytes belong to the protocol before, receive "
        f"them before the upgrade"
    )


def _like_tls(first: bytes | bytearray, from_client: bool) -> bool:
    kinds = (HANDSHAKE,) if from_client else (HANDSHAKE, ALERT)
    return (
        first[0] in kinds
        and (len(first) < 2 or first[1] == 3)
        and (len(first) < 3 or first[2] <= 4)
        and (len(first) < 5 or 1 <= int.from_bytes(first[3:5], "big") <= MAX_CIPHERTEXT)
        and (len(first) < HEAD or not from_client or first[5] == CLIENT_HELLO)
    )


def _command(data: bytes | bytearray) -> str:
    """How plaintext of a client begins: a command without what follows it, which may be a password; or binary data."""
    if match := _COMMAND.match(data):
        return f": {match[1].decode()}..."
    return "" if data[:1].isalnum() else f": {bytes(data[:HEAD])!r}"
