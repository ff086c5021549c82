"""How a body is framed: from method, status and fields to a number of bytes, or to a way to find its end.

This is where requests are smuggled: two readers who find the end of a message in different places see different
messages. So nothing is repaired here. Whatever leaves a choice (two lengths, a length and a coding, a coding that is
not `chunked` once) is refused, also where a body could not follow anyway (RFC 9112 §6.3, §11.2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from ..errors import RemoteProtocolError

if TYPE_CHECKING:
    from .head import RequestHead, ResponseHead

__all__ = ["CHUNKED", "MAX_LENGTH", "NO_BODY", "UNTIL_EOF", "FieldSummary", "Framing", "parse_length"]

Framing: TypeAlias = int
"""How a body is framed: its length in bytes, `CHUNKED`, or `UNTIL_EOF`."""

NO_BODY: Final = 0
CHUNKED: Final = -1
UNTIL_EOF: Final = -2

MAX_LENGTH: Final = 2**63 - 1
"""The largest Content-Length that is believed: more does not fit the integers that others read it into."""

_DIGITS: Final = re.compile(rb"[0-9]+")
_KEPT: Final = {
    b"connection": 0,
    b"content-length": 1,
    b"transfer-encoding": 2,
    b"upgrade": 3,
    b"expect": 4,
}


class FieldSummary:
    """What the fields of one head say about framing and about the connection, read in one pass.

    Attributes:
        options: The connection options, lower case (RFC 9110 §7.6.1).
        upgrade: The protocols that Upgrade names, lower case (RFC 9110 §7.8).
        expect: The values of Expect, lower case (RFC 9110 §10.1.1).
        length: What Content-Length says, if it is there.
        chunked: Whether Transfer-Encoding is there, and says `chunked`.

    Raises:
        RemoteProtocolError: the fields leave the framing in doubt; `status_hint` is 400, or 501 for a coding that is
            not known here.
    """

    __slots__ = ("chunked", "expect", "length", "options", "upgrade")

    def __init__(self, raw: tuple[tuple[bytes, bytes], ...]) -> None:
        self.length: int | None = None
        self.chunked = False
        self.options: list[bytes] | tuple[()] = ()
        self.upgrade: list[bytes] | tuple[()] = ()
        self.expect: list[bytes] | tuple[()] = ()
        found: list[list[bytes]] | None = None
        for name, value in raw:
            place = _KEPT.get(name.lower())
            if place is not None:
                if found is None:
                    found = [[], [], [], [], []]
                found[place].append(value.lower())
        if found is not None:
            self._judge(*found)

    def _judge(
        self,
        options: list[bytes],
        lengths: list[bytes],
        codings: list[bytes],
        upgrade: list[bytes],
        expect: list[bytes],
    ) -> None:
        self.options = _elements(options)
        self.upgrade = _elements(upgrade)
        self.expect = _elements(expect)
        if codings:
            if lengths:
                raise RemoteProtocolError("Transfer-Encoding together with Content-Length (RFC 9112 §6.3)")
            _check_codings(codings)
            self.chunked = True
        elif lengths:
            if len(lengths) > 1:
                raise RemoteProtocolError(f"{len(lengths)} Content-Length fields (RFC 9112 §6.3)")
            self.length = parse_length(lengths[0])

    def persists(self, version: str) -> bool:
        """Whether this side of the exchange lets the connection be used again (RFC 9112 §9.3)."""
        if b"close" in self.options:
            return False
        return version == "1.1" or b"keep-alive" in self.options

    def of_request(self, head: RequestHead) -> Framing:
        """How a request's body is framed.

        Raises:
            RemoteProtocolError: Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1), or CONNECT with a body, which nobody
                could tell from the first bytes of the tunnel (RFC 9110 §9.3.6).
        """
        if self.chunked:
            _check_coding_allowed(head.http_version)
        if head.method == "CONNECT" and (self.chunked or self.length):
            raise RemoteProtocolError("CONNECT with a body (RFC 9110 §9.3.6)")
        return CHUNKED if self.chunked else self.length or NO_BODY

    def of_response(self, head: ResponseHead, method: str) -> Framing:
        """How the body of the response to `method` is framed (RFC 9112 §6.3); it is none where the tunnel begins.

        Raises:
            RemoteProtocolError: Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1).
        """
        status = head.status
        if self.chunked:
            _check_coding_allowed(head.http_version)
        if status < 200 or status in (204, 304) or method == "HEAD":
            return NO_BODY
        if method == "CONNECT" and status < 300:
            return NO_BODY
        if self.chunked:
            return CHUNKED
        return UNTIL_EOF if self.length is None else self.length


def parse_length(value: bytes) -> int:
    """What a Content-Length says: decimal digits only, at most 2**63 - 1 (RFC 9110 §8.6).

    Raises:
        RemoteProtocolError: it is something else, a list of equal numbers included.
    """
    if not _DIGITS.fullmatch(value):
        raise RemoteProtocolError(f"Content-Length {value[:64]!r} is not a number (RFC 9110 §8.6)")
    digits = value.lstrip(b"0")
    length = int(digits or b"0") if len(digits) < 20 else MAX_LENGTH + 1  # int() would refuse a very long one
    if length > MAX_LENGTH:
        raise RemoteProtocolError(f"Content-Length {value[:64]!r} is more than {MAX_LENGTH}")
    return length


def _check_codings(codings: list[bytes]) -> None:
    """Only `chunked`, once (RFC 9112 §6.1)."""
    if codings == [b"chunked"]:
        return
    names = _elements(codings)
    known = names[-1:] == [b"chunked"] and names.count(b"chunked") == 1
    raise RemoteProtocolError(
        f"Transfer-Encoding {b', '.join(codings)[:64]!r}: only chunked, once, is spoken here (RFC 9112 §6.1)",
        501 if known and len(names) > 1 else 400,
    )


def _check_coding_allowed(version: str) -> None:
    if version == "1.0":
        raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0, which has none (RFC 9112 §6.1)")


def _elements(values: list[bytes]) -> list[bytes]:
    if len(values) == 1 and b"," not in values[0]:
        return values if values[0] else []
    return [element for value in values for part in value.split(b",") if (element := part.strip(b" \t"))]
