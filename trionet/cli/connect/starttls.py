"""What is said before TLS begins, in each protocol that has a word for it.

The server's last word is read to its end, and not a byte further: what somebody may have put behind it is found by the
upgrade, which refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..mistakes import FAILED, Mistake
from .screen import visible

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ... import Connection

__all__ = ["DIALOGUES"]

LINE: Final = 4096
LINES: Final = 100
_OID: Final = b"1.3.6.1.4.1.1466.20037"
_LDAP_REQUEST: Final = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + _OID
"""An ExtendedRequest, in BER (RFC 4511 §4.14.1)."""
_LDAP_SUCCESS: Final = b"\x0a\x01\x00"
_POSTGRES_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""SSLRequest: its length, and the code 80877103."""


async def _line(conn: Connection) -> bytes:
    return await conn.receive_until(b"\n", max_bytes=LINE)


def _declined(answer: bytes) -> Mistake:
    shown = visible(answer.decode("utf-8", "backslashreplace").strip(), keep="")
    return Mistake(f"the server does not begin TLS: it answered {shown!r}", FAILED)


async def _smtp_reply(conn: Connection) -> bytes:
    """All lines of one reply (RFC 5321 §4.2.1)."""
    reply = b""
    for _ in range(LINES):
        line = await _line(conn)
        reply += line
        if line[3:4] != b"-":
            return reply
    raise _declined(reply[:80])


async def _smtp(conn: Connection) -> None:
    """RFC 3207 §4."""
    for command, code in ((b"", b"220"), (b"EHLO localhost\r\n", b"250"), (b"STARTTLS\r\n", b"220")):
        if command:
            await conn.send_all(command)
        if not (reply := await _smtp_reply(conn)).startswith(code):
            raise _declined(reply)


async def _imap(conn: Connection) -> None:
    """RFC 9051 §6.2.1."""
    if not (greeting := await _line(conn)).startswith(b"* OK"):
        raise _declined(greeting)
    await conn.send_all(b"a1 STARTTLS\r\n")
    answer = b""
    for _ in range(LINES):
        answer = await _line(conn)
        if not answer.startswith(b"* "):
            break
    if not answer.upper().startswith(b"A1 OK"):
        raise _declined(answer)


async def _pop3(conn: Connection) -> None:
    """RFC 2595 §4."""
    for command in (b"", b"STLS\r\n"):
        if command:
            await conn.send_all(command)
        if not (answer := await _line(conn)).startswith(b"+OK"):
            raise _declined(answer)


async def _ldap(conn: Connection) -> None:
    """RFC 4511 §4.14."""
    await conn.send_all(_LDAP_REQUEST)
    head = await conn.receive_exactly(2)
    size = head[1]
    if size & 0x80:  # so many bytes of length follow (X.690 §8.1.3.5)
        size = int.from_bytes(await conn.receive_exactly(min(size & 0x7F, 4) or 1), "big")
    if head[0] != 0x30 or not 0 < size <= LINE:
        raise _declined(head)
    answer = await conn.receive_exactly(size)
    if _LDAP_SUCCESS not in answer[:16]:
        raise _declined(answer)


async def _postgres(conn: Connection) -> None:
    """PostgreSQL, Frontend/Backend Protocol, §53.2.11."""
    await conn.send_all(_POSTGRES_REQUEST)
    if (answer := await conn.receive_exactly(1)) != b"S":
        raise _declined(answer)


DIALOGUES: Final[dict[str, Callable[[Connection], Awaitable[None]]]] = {
    "smtp": _smtp,
    "imap": _imap,
    "pop3": _pop3,
    "ldap": _ldap,
    "postgres": _postgres,
}
