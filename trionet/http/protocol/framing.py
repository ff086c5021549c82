"""How a body is framed: from method, status and fields to a number of bytes, or to a way to find its end.

This is where requests are smuggled. Two readers that find the end of a message in different places see different
messages: what the first takes for the end of a body, the second takes for the next request, which nobody has checked.
The classic ways there are a Content-Length beside a Transfer-Encoding, of which each reader believes another one; two
different lengths; a length with a sign, a comma or a space; and a coding that only one of them recognises.

RFC 9112 §6.3 ranks the fields so that a recipient could go on in most of these cases. Here nothing is ranked. Whatever
leaves a choice is refused, also where no body could follow anyway, and the connection ends with the error: only a
sender that is broken or hostile writes such a head, and no later byte from it can be trusted. To accept two lengths
that are equal, for example, is safe only as long as every other reader compares them too.

`FieldSummary` reads all that fields say about framing and the connection, in one pass; `of_request` and `of_response`
apply the rules for one kind of message. How bodies are found in the bytes is for `body_reader`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from ...errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CHUNKED", "CLOSING_FIELDS", "MAX_LENGTH", "NO_BODY", "NO_FIELDS", "UNTIL_EOF", "FieldSummary", "Framing",
    "parse_length",
]  # fmt: skip

Framing: TypeAlias = int
"""How a body is framed: its length in bytes, `CHUNKED`, or `UNTIL_EOF`."""

NO_BODY: Final = 0
CHUNKED: Final = -1
UNTIL_EOF: Final = -2

MAX_LENGTH: Final = 2**63 - 1
"""The largest Content-Length that is believed: more does not fit the integers that others read it into."""

_DIGITS: Final = re.compile(rb"[0-9]+")
_KEPT: Final = frozenset({b"connection", b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"})
_MAX_NAMES: Final = 512
_new: Final = object.__new__
_names: dict[bytes, bytes | None] = {}
"""For each spelling of a name that was seen: its lower case if the field is kept, else None. Bounded."""


class FieldSummary:
    """What the fields of one head say about framing and about the connection, read in one pass.

    Attributes:
        hosts: The values of Host.
        options: The connection options, lower case (RFC 9110 §7.6.1).
        upgrade: The protocols that Upgrade names, lower case (RFC 9110 §7.8).
        expect: The values of Expect, lower case (RFC 9110 §10.1.1).
        length: What Content-Length says, if it is there.
        chunked: Whether Transfer-Encoding is there, and says `chunked`.

    Raises:
        RemoteProtocolError: the fields leave the framing in doubt; `status_hint` is 400, or 501 for a coding that is
            not known here.
    """

    # Most heads have none of them: what is not there costs nothing.
    hosts: Sequence[bytes] = ()
    options: Sequence[bytes] = ()
    upgrade: Sequence[bytes] = ()
    expect: Sequence[bytes] = ()
    length: int | None = None
    chunked = False

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        found: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            try:
                kept = _names[name]
            except KeyError:
                kept = _learn(name)
            if kept is not None:
                if kept in found:
                    found[kept].append(value)
                else:
                    found[kept] = [value]
        if found:
            self.hosts = found.pop(b"host", ())
            if found:
                self._judge(found)

    @classmethod
    def of_length(cls, length: int) -> FieldSummary:
        """What fields say that say nothing but a Content-Length."""
        fields = _new(cls)
        fields.length = length
        return fields

    def _judge(self, found: dict[bytes, list[bytes]]) -> None:
        self.options = _elements(found.get(b"connection", ()))
        self.upgrade = _elements(found.get(b"upgrade", ()))
        self.expect = _elements(found.get(b"expect", ()))
        codings, lengths = found.get(b"transfer-encoding"), found.get(b"content-length")
        if codings:
            if lengths:
                raise RemoteProtocolError("Transfer-Encoding together with Content-Length (RFC 9112 §6.3)")
            _check_codings([coding.lower() for coding in codings])
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

    def of_request(self, method: str, version: str) -> Framing:
        """How a request's body is framed.

        Raises:
            RemoteProtocolError: Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1), or CONNECT with a body, which nobody
                could tell from the first bytes of the tunnel (RFC 9110 §9.3.6).
        """
        if self.chunked:
            _check_coding_allowed(version)
        if method == "CONNECT" and (self.chunked or self.length):
            raise RemoteProtocolError("CONNECT cannot have a body (RFC 9110 §9.3.6)")
        return CHUNKED if self.chunked else self.length or NO_BODY

    def of_response(self, status: int, version: str, method: str) -> Framing:
        """How the body of the response to `method` is framed (RFC 9112 §6.3); it is none where the tunnel begins.

        Raises:
            RemoteProtocolError: Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1).
        """
        if self.chunked:
            _check_coding_allowed(version)
        if status < 200 or status in (204, 304) or method == "HEAD":
            return NO_BODY
        if method == "CONNECT" and status < 300:
            return NO_BODY
        if self.chunked:
            return CHUNKED
        return UNTIL_EOF if self.length is None else self.length


NO_FIELDS: Final = FieldSummary(())
"""What fields say that say nothing about framing or the connection."""


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
        f"Transfer-Encoding {b', '.join(codings)[:64]!r}: only chunked is supported, and only once (RFC 9112 §6.1)",
        501 if known and len(names) > 1 else 400,
    )


def _check_coding_allowed(version: str) -> None:
    if version == "1.0":
        raise RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding (RFC 9112 §6.1)")


def _elements(values: Sequence[bytes]) -> Sequence[bytes]:
    """The elements of a listed field, lower case."""
    if not values:
        return ()
    if len(values) == 1 and b"," not in values[0]:
        return (values[0].lower(),) if values[0] else ()
    return [element for value in values for part in value.lower().split(b",") if (element := part.strip(b" \t"))]


def _learn(name: bytes) -> bytes | None:
    """Look at a spelling for the first time, and remember it if there is room."""
    lower = name.lower()
    kept = lower if lower in _KEPT else None
    if len(_names) < _MAX_NAMES and len(name) <= 64:
        _names[name] = kept
    return kept


CLOSING_FIELDS: Final = FieldSummary([(b"connection", b"close")])
"""What fields say that say nothing but that the connection ends with this exchange."""
