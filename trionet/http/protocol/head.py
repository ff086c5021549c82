"""Heads of HTTP/1.x messages: from exactly one slice of bytes, which ends with the blank line, to a value.

Why it is so strict. A proxy and the server behind it read the same bytes. Where they come to different opinions of a
head, one of them sees a request that the other one does not, and whatever the first was there to check is passed by
(request smuggling, RFC 9112 §11.2). RFC 9112 permits leniency in many places: a bare LF as the end of a line, white
space in the request line, folded fields. Each such place is one where the neighbour may have chosen otherwise. So
nothing is repaired: a head either matches the grammar, or it is an error.

How. One pattern matches a whole head, each byte of it, and takes the first line apart. What it does not match is an
error, never a guess: versions other than 1.0 and 1.1, more than one space in the request line, bare CR or LF, folding,
control characters, white space before a colon. Only after the match has failed does `_fault` look at the lines one by
one, to say why. It has no say in what is accepted, so a mistake in it costs a wrong explanation and nothing else.

Rejected: a parser in C. The calls into one and back cost more than the match (benchmarks/h1.py), and the strictest of
them accepts what has to be refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ...errors import RemoteProtocolError
from ...support.texts import amount, shown_bytes
from .authority import COMMON
from .field_lines import FieldLines
from .framing import NO_BODY, FieldSummary
from .headers import Headers, checked_headers, split_lines
from .syntax import FIELD, FIELD_LINES, REQUEST_LINE, STATUS_LINE
from .target import check_host, check_target, without_secrets

__all__ = ["METHODS", "RequestHead", "ResponseHead", "parse_request", "parse_response", "parse_trailers"]

_REQUEST_HEAD: Final = re.compile(rb"%b\r\n%b" % (REQUEST_LINE, FIELD_LINES))
_RESPONSE_HEAD: Final = re.compile(rb"%b\r\n%b" % (STATUS_LINE, FIELD_LINES))
_TRAILERS: Final = re.compile(FIELD_LINES)
_REQUEST_LINE: Final = re.compile(REQUEST_LINE)
_STATUS_LINE: Final = re.compile(STATUS_LINE)
_FIELD_LINE: Final = re.compile(FIELD)
_COMMON_HOST: Final = re.compile(COMMON)
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VERSIONS: Final = {(b"1", b"0"): "1.0", (b"1", b"1"): "1.1"}
METHODS: Final = {
    name.encode(): name
    for names in (
        "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL",
        "LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH",
        "QUERY REBIND REPORT SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL",
    )
    for name in names.split()
}
"""The methods of the IANA registry, without HTTP/2's PRI."""


class RequestHead:
    """Request line and fields of a request.

    Attributes:
        method: The method, as it was written.
        target: The request target.
        http_version: ``1.0`` or ``1.1``.
        fields: What the fields say about framing and connection; None in a head that was not parsed.
    """

    __slots__ = ("_headers", "fields", "http_version", "method", "target")

    def __init__(
        self,
        method: str,
        target: str,
        http_version: str,
        headers: Headers | FieldLines,
        fields: FieldSummary | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.fields = fields
        self._headers = headers

    @property
    def headers(self) -> Headers:
        """The fields."""
        headers = self._headers
        return headers.headers if isinstance(headers, FieldLines) else headers

    @property
    def has_body(self) -> bool:
        """Whether the fields announce a body.

        Raises:
            RemoteProtocolError: as `FieldSummary.of_request`.
        """
        return self.fields is not None and self.fields.of_request(self.method, self.http_version) != NO_BODY

    @property
    def field_count(self) -> int:
        """How many fields there are."""
        headers = self._headers
        return len(headers) if isinstance(headers, FieldLines) else len(headers.raw)

    @property
    def shown_target(self) -> str:
        """The target for logs and errors: neither the query, nor user name and password, which may be secrets."""
        return without_secrets(self.target)[:64]

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.shown_target!r}, {amount(self.field_count, 'field')}>"


@dataclass(slots=True)
class ResponseHead:
    """Status line and fields of a response."""

    status: int
    reason: str
    http_version: str
    """``1.0`` or ``1.1``."""
    headers: Headers
    fields: FieldSummary | None = None
    """As in `RequestHead`."""


def parse_request(data: bytes, *, any_method: bool = False) -> RequestHead:
    """The request head that `data` is, from its first byte to the blank line.

    Args:
        data: The head.
        any_method: Whether a method that is not registered is taken.

    Raises:
        RemoteProtocolError: it is malformed; `status_hint` is 400, 501 (a method that is not registered) or 505.

    Source: RFC 9112 §2 to §5, RFC 9110 §7.2.
    """
    match = _REQUEST_HEAD.fullmatch(data)
    if match is None:
        raise _fault(data, _REQUEST_LINE, "request line (method, target and version, single spaces)", 400)
    name, target, major, minor, lines = match.groups()
    version = _VERSIONS.get((major, minor))
    if version is None:
        raise _unspoken(major, minor)
    method = METHODS.get(name)
    if method is None:
        if not any_method:
            raise RemoteProtocolError(f"unknown method: {shown_bytes(name, 64)}", 501)
        method = name.decode()
    if target[0] != ord("/") or method == "CONNECT":
        check_target(method, target)
    raw = split_lines(lines)
    fields = FieldSummary(raw)
    hosts = fields.hosts
    if len(hosts) != 1 or not _COMMON_HOST.fullmatch(hosts[0]):
        check_host(hosts, version)
    return RequestHead(method, target.decode(), version, checked_headers(raw), fields)


def parse_response(data: bytes) -> ResponseHead:
    """The response head that `data` is, from its first byte to the blank line.

    Raises:
        RemoteProtocolError: it is malformed.

    Source: RFC 9112 §2, §4, §5.
    """
    match = _RESPONSE_HEAD.fullmatch(data)
    if match is None:
        raise _fault(data, _STATUS_LINE, "status line (version, three digits, reason)", 502)
    major, minor, status, reason, lines = match.groups()
    version = _VERSIONS.get((major, minor))
    if version is None:
        raise _unspoken(major, minor)
    raw = split_lines(lines)
    text = (reason or b"").decode("latin-1")
    return ResponseHead(int(status), text, version, checked_headers(raw), FieldSummary(raw))


def parse_trailers(data: bytes) -> Headers:
    """The fields of a trailer section, from its first byte to the blank line.

    Raises:
        RemoteProtocolError: they are malformed.

    Source: RFC 9112 §7.1.2; the fields have the syntax of a head's.
    """
    match = _TRAILERS.fullmatch(data)
    if match is None:
        raise _fault(b"\r\n" + data, None, "", 400)
    return checked_headers(split_lines(match[1]))


# --- what is wrong ----------------------------------------------------------------------------------------------


def _fault(data: bytes, first: re.Pattern[bytes] | None, what: str, status: int) -> RemoteProtocolError:
    """Why a head does not match its pattern."""
    lines = data.split(b"\r\n")
    if lines[-2:] != [b"", b""] or len(lines) < 3:
        return RemoteProtocolError("a message head has to end with a blank line")
    if data.count(b"\r") != len(lines) - 1 or data.count(b"\n") != len(lines) - 1:
        return RemoteProtocolError("bare CR or LF in a message head (RFC 9112 §2.2)")
    if b"" in lines[1:-2]:
        return RemoteProtocolError("the bytes are more than one head")
    if first is not None and not first.fullmatch(lines[0]):
        return RemoteProtocolError(f"not a {what}", status)
    if _CONTROLS.search(data):
        return RemoteProtocolError("control character in a message head (RFC 9110 §5.5)")
    line = next(line for line in lines[1:] if not _FIELD_LINE.fullmatch(line))
    if line[:1] in (b" ", b"\t"):
        return RemoteProtocolError("obsolete line folding, or whitespace before the first field (RFC 9112 §5.2)")
    return RemoteProtocolError(f"not a field (a name, a colon without whitespace before it, a value){_name_of(line)}")


def _unspoken(major: bytes, minor: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(f"HTTP/{major.decode()}.{minor.decode()} is not supported; 1.0 and 1.1 are", 505)


def _name_of(line: bytes) -> str:
    """The name in a malformed field line, and nothing else of it: what follows may be a password."""
    name, colon, _ = line.partition(b":")
    return f": {name!r}" if colon and _FIELD_LINE.fullmatch(name.rstrip(b" \t") + b":") and len(name) <= 64 else ""
