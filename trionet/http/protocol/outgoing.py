"""The fields of a head about to be sent: checked, written, and the few that matter to the connection picked out.

Every value is checked before a byte is made of it, so no program can split a response. Names repeat from message to
message; the checked ones are remembered.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from ...errors import LocalProtocolError, RemoteProtocolError
from ...support.texts import amount
from .framing import parse_length
from .headers import Headers, as_pairs, check_name, check_value, is_token
from .syntax import REQUEST_LINE, STATUS_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .headers import HeaderInput

__all__ = [
    "DECISIVE", "CheckedFields", "OutgoingFields", "cached_lines", "date_line", "field_lines", "request_line",
    "status_line", "write_request", "write_response",
]  # fmt: skip

_REQUEST_LINE: Final = re.compile(REQUEST_LINE)
_STATUS_LINE: Final = re.compile(STATUS_LINE)
DECISIVE: Final = frozenset([
    b"connection", b"content-length", b"date", b"expect", b"host", b"transfer-encoding", b"upgrade",
])  # fmt: skip
"""Fields that say something about the framing or the connection, and are not only passed on."""
_MAX_NAMES: Final = 512
_MAX_LINE: Final = 128
_names: dict[str | bytes, tuple[bytes, bytes | None]] = {}
_cached: dict[tuple[str, str], bytes] = {}
_date: tuple[float, bytes] = (0.0, b"")


class CheckedFields:
    """Fields of a response that the caller has checked and written already.

    Attributes:
        lines: One line a field, with its CRLF, but without Content-Length. None of them decides about the connection or
            the body's framing. None if the fields have to be judged after all.
        pairs: The program's fields as (name, value) pairs, for the careful path.
        length: What Content-Length says, if it is there; the caller compares it with the body.
        more: The server's own fields, as pairs; they come first.
    """

    __slots__ = ("length", "lines", "more", "pairs")

    def __init__(
        self,
        lines: bytes | None,
        pairs: Sequence[tuple[bytes, bytes]],
        length: bytes | None,
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.lines = lines
        self.pairs = pairs
        self.length = length
        self.more = more

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self.more  # iterated over on the careful path alone
        yield from self.pairs


class OutgoingFields:
    """Checked fields.

    Attributes:
        lines: One line a field, with its CRLF.
        picked: The values of the fields that decide about the connection, by lower-case name.

    Raises:
        ValueError, TypeError: a field cannot be sent; see `Headers`.
        LocalProtocolError: the fields try to frame the message in a way of their own.
    """

    __slots__ = ("lines", "picked")

    def __init__(self, headers: HeaderInput | Headers) -> None:
        self.lines: list[bytes] = []
        self.picked: dict[bytes, list[bytes]] = {}
        for name, value in as_pairs(headers):
            wire, lower = _names.get(name) or _check_new_name(name)
            checked = check_value(name, value)
            line = b"%b: %b\r\n" % (wire, checked)
            self.lines.append(line)
            if lower is not None:
                self.picked.setdefault(lower, []).append(checked)
            elif type(name) is str and type(value) is str and len(line) < _MAX_LINE and len(_cached) < _MAX_NAMES:
                _cached[name, value] = line
        if self.picked:
            self._judge()

    def _judge(self) -> None:
        if b"transfer-encoding" in self.picked:
            raise LocalProtocolError(
                "Transfer-Encoding cannot be given: a body is sent in chunks when its length is not given"
            )
        for once in (b"content-length", b"host", b"date"):
            if len(self.picked.get(once, ())) > 1:
                raise LocalProtocolError(
                    f"{len(self.picked[once])} fields {once.decode().title()}; at most one can be sent"
                )

    def tokens(self, name: bytes) -> list[bytes]:
        """The elements of a listed field, lower case."""
        if not self.picked:
            return []
        values = self.picked.get(name, ())
        return [token for value in values for part in value.lower().split(b",") if (token := part.strip(b" \t"))]

    def length(self, length: int | None) -> int | None:
        """The length of the body, from the argument and from Content-Length, which have to agree.

        Raises:
            LocalProtocolError: they do not, or one of them is not a length.
        """
        if length is not None and length < 0:
            raise LocalProtocolError(f"length must be at least 0, not {length}")
        values = self.picked.get(b"content-length")
        if values is None:
            return length
        try:
            given = parse_length(values[0])
        except RemoteProtocolError as exc:
            raise LocalProtocolError(str(exc)) from None
        if length is not None and given != length:
            raise LocalProtocolError(f"Content-Length is {given}, but the body has {amount(length, 'byte')}")
        return given


def _check_new_name(name: str | bytes) -> tuple[bytes, bytes | None]:
    wire = check_name(name)
    lower = wire.lower()
    entry = wire, lower if lower in DECISIVE else None
    if len(_names) < _MAX_NAMES and len(wire) < 64:
        _names[name] = entry
    return entry


def cached_lines(headers: object) -> bytes | None:
    """The lines of these fields, if all of them were sent before and none decides about the connection; else None.

    A server sends few different fields, Content-Type and its like, again and again; they need not be checked again.
    """
    if not headers:
        return b""
    if type(headers) is list or type(headers) is tuple:
        try:
            if len(headers) == 1:  # as most responses have it
                return _cached[headers[0]]
            lines = b""
            for pair in headers:
                lines += _cached[pair]
            return lines
        except (KeyError, TypeError):
            pass
    elif type(headers) is CheckedFields:
        return headers.lines
    return None


def date_line() -> bytes:
    """The field Date for now, formatted once a second (RFC 9110 §6.6.1)."""
    global _date  # noqa: PLW0603
    now = time.time()
    if not 0 <= now - _date[0] < 1:
        second = int(now)
        _date = second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
    return _date[1]


# --- whole heads --------------------------------------------------------------------------------------------------


def request_line(method: str, target: str) -> bytes:
    """The first line of an HTTP/1.1 request, with its CRLF.

    Raises:
        LocalProtocolError: method or target cannot be sent.
    """
    if not isinstance(method, str):
        raise TypeError(f"method must be a str like 'GET', not {method!r}")
    if not is_token(method.encode("latin-1", "replace")) or not method.isascii():
        raise LocalProtocolError(f"method must be a token like 'GET' (RFC 9110 §9.1), not {method!r}")
    line = b"%b %b HTTP/1.1" % (method.encode(), target.encode("ascii", "replace"))
    if not target.isascii() or not _REQUEST_LINE.fullmatch(line):
        raise LocalProtocolError(f"target must be percent-encoded ASCII without spaces, not {target!r}")
    return line + b"\r\n"


def status_line(status: int, reason: str) -> bytes:
    """The first line of an HTTP/1.1 response, with its CRLF.

    Raises:
        LocalProtocolError: status or reason cannot be sent.
    """
    line = b"HTTP/1.1 %d %b" % (status, reason.encode("latin-1", "replace"))
    if not _STATUS_LINE.fullmatch(line):
        raise LocalProtocolError(
            f"{status!r} {reason!r} cannot be a status line: three digits, and text without control characters"
        )
    return line + b"\r\n"


def write_request(method: str, target: str, headers: HeaderInput | Headers) -> bytes:
    """An HTTP/1.1 request head.

    Raises:
        LocalProtocolError: method or target cannot be sent.
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    return b"%b%b\r\n" % (request_line(method, target), field_lines(headers))


def write_response(status: int, reason: str, headers: HeaderInput | Headers) -> bytes:
    """An HTTP/1.1 response head.

    Raises:
        LocalProtocolError: status or reason cannot be sent.
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    return b"%b%b\r\n" % (status_line(status, reason), field_lines(headers))


def field_lines(headers: HeaderInput | Headers) -> bytes:
    """The fields as they go on the wire, each with its CRLF.

    Raises:
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    return b"".join(b"%b: %b\r\n" % field for field in Headers(headers).raw)
