"""Heads of HTTP/1.x messages, without I/O: from exactly one slice of bytes to a value, and back.

The slice ends with the blank line. One pattern matches a whole head, each byte of it, and takes the first line apart;
what it does not match is an error, and never a guess: other versions than 1.0 and 1.1, more than one space in the
request line, bare CR or LF, obsolete folding, control characters, white space before a colon. Two readers who
understand a head differently are how requests are smuggled (RFC 9112 §11.2). Only an error looks again, for the reason.

Regular expressions, and no parser in C: the calls into one and back cost more than the match (benchmarks/h1.py), and
the strictest of them lets pass what has to be refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ...errors import LocalProtocolError, RemoteProtocolError
from ...support.texts import amount, shown_bytes
from .authority import COMMON, is_authority, is_tunnel_target
from .framing import NO_BODY, NO_FIELDS, FieldSummary
from .headers import Headers, is_token, split_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .headers import HeaderInput

__all__ = [
    "MAX_HEAD",
    "RequestHead",
    "ResponseHead",
    "fast_request",
    "field_lines",
    "parse_request",
    "parse_response",
    "parse_trailers",
    "request_line",
    "status_line",
    "without_secrets",
    "write_request",
    "write_response",
]

MAX_HEAD: Final = 65536
"""Bytes of a head at most, for whoever reads one; more is answered with 431."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
_FIELD_LINES: Final = rb"((?:%b:%b\r\n)*+)\r\n" % (_TOKEN, _TEXT)
_REQUEST: Final = rb"(%b) ([!-\x22\x24-~]++) HTTP/([0-9])\.([0-9])" % _TOKEN
_STATUS: Final = rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: (%b))?+" % _TEXT
_REQUEST_HEAD: Final = re.compile(rb"%b\r\n%b" % (_REQUEST, _FIELD_LINES))
_RESPONSE_HEAD: Final = re.compile(rb"%b\r\n%b" % (_STATUS, _FIELD_LINES))
_TRAILERS: Final = re.compile(_FIELD_LINES)
_REQUEST_LINE: Final = re.compile(_REQUEST)
_STATUS_LINE: Final = re.compile(_STATUS)
_FIELD_LINE: Final = re.compile(rb"%b:%b" % (_TOKEN, _TEXT))
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?]*+).*+")
_COMMON_HOST: Final = re.compile(COMMON)
_FAST_LINE: Final = rb"(%b) (/[!-\x22\x24-~]*+) HTTP/1\.1\r\n" % _TOKEN
_FAST_HOST: Final = rb"[Hh]ost: %b\r\n((?:%b:%b\r\n)*+)" % (COMMON, _TOKEN, _TEXT)
_HOST_FIRST: Final = re.compile(rb"%b(%b)\r\n" % (_FAST_LINE, _FAST_HOST))
_HOST_LATER: Final = re.compile(rb"%b(((?:(?![Hh]ost:)%b:%b\r\n)++)%b)\r\n" % (_FAST_LINE, _TOKEN, _TEXT, _FAST_HOST))
_DECIDES: Final = re.compile(
    rb"\n(?:connection:(?! keep-alive\r)|host:|transfer-encoding:|upgrade:|expect:"
    rb"|content-length:(?: ([0-9]{1,18})\r)?+)"
)
_USERINFO: Final = re.compile(r"^((?:[^/]*//)?)[^/]*@")
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VERSIONS: Final = {(b"1", b"0"): "1.0", (b"1", b"1"): "1.1"}
_METHODS: Final = {
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
        headers: Headers | bytes,
        fields: FieldSummary | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.fields = fields
        self._headers = headers  # field lines that were checked, until somebody looks at them

    @property
    def headers(self) -> Headers:
        """The fields."""
        headers = self._headers
        if isinstance(headers, bytes):
            self._headers = headers = Headers.from_wire(split_lines(headers))
        return headers

    @property
    def has_body(self) -> bool:
        """Whether the fields announce a body.

        Raises:
            RemoteProtocolError: as `FieldSummary.of_request`.
        """
        return self.fields is not None and self.fields.of_request(self) != NO_BODY

    @property
    def field_count(self) -> int:
        """How many fields there are."""
        headers = self._headers
        return headers.count(b"\n") if isinstance(headers, bytes) else len(headers.raw)

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
    method = _METHODS.get(name)
    if method is None:
        if not any_method:
            raise RemoteProtocolError(f"unknown method: {shown_bytes(name, 64)}", 501)
        method = name.decode()
    if target[0] != 47 or method == "CONNECT":  # most targets begin with a slash
        _check_target(method, target)
    raw = split_lines(lines)
    fields = FieldSummary(raw)
    hosts = fields.hosts
    if len(hosts) != 1 or not _COMMON_HOST.fullmatch(hosts[0]):
        _check_host(hosts, version)
    return RequestHead(method, target.decode(), version, Headers.from_wire(raw), fields)


def fast_request(data: bytes, at: int = 0) -> tuple[RequestHead, int] | None:
    """What `parse_request` would make of the head that begins at `at`, and where it ends, for a fifth of the time.

    For the head of nearly every request: HTTP/1.1, a path, and a Host. None if it is anything else, is not all there,
    has a field that decides about framing or the connection, apart from a Content-Length, or a method that is not
    registered: then it is for `parse_request`.
    """
    match = _HOST_FIRST.match(data, at)
    if match is not None:
        name, target, lines, rest = match.groups()
    elif (match := _HOST_LATER.match(data, at)) is not None:
        name, target, lines, before, after = match.groups()
        rest = before + after
    else:
        return None
    method = _METHODS.get(name)
    if method is None or method == "CONNECT":
        return None
    fields = NO_FIELDS
    if rest and (found := _DECIDES.findall(b"\n" + rest.lower())):
        if len(found) > 1 or not found[0]:
            return None
        fields = FieldSummary.of_length(int(found[0]))
    return RequestHead(method, target.decode(), "1.1", lines, fields), match.end()


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
    return ResponseHead(int(status), text, version, Headers.from_wire(raw), FieldSummary(raw))


def parse_trailers(data: bytes) -> Headers:
    """The fields of a trailer section, from its first byte to the blank line.

    Raises:
        RemoteProtocolError: they are malformed.

    Source: RFC 9112 §7.1.2; the fields have the syntax of a head's.
    """
    match = _TRAILERS.fullmatch(data)
    if match is None:
        raise _fault(b"\r\n" + data, None, "", 400)
    return Headers.from_wire(split_lines(match[1]))


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


# --- what is wrong ----------------------------------------------------------------------------------------------


def _fault(data: bytes, first: re.Pattern[bytes] | None, what: str, status: int) -> RemoteProtocolError:
    """Why a head does not match its pattern."""
    lines = data.split(b"\r\n")
    if lines[-2:] != [b"", b""] or len(lines) < 3:
        return RemoteProtocolError("a message head has to end with a blank line")
    if data.count(b"\r") != len(lines) - 1 or data.count(b"\n") != len(lines) - 1:
        return RemoteProtocolError("bare CR or LF in a message head (RFC 9112 §2.2)")
    if b"" in lines[1:-2]:
        return RemoteProtocolError("more than one head")
    if first is not None and not first.fullmatch(lines[0]):
        return RemoteProtocolError(f"not a {what}", status)
    if _CONTROLS.search(data):
        return RemoteProtocolError("control character in a message head (RFC 9110 §5.5)")
    line = next(line for line in lines[1:] if not _FIELD_LINE.fullmatch(line))
    if line[:1] in (b" ", b"\t"):
        return RemoteProtocolError("obsolete line folding, or whitespace before the first field (RFC 9112 §5.2)")
    return RemoteProtocolError(f"not a field (a name, a colon without whitespace before it, a value){_name_of(line)}")


def _unspoken(major: bytes, minor: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(f"HTTP/{major.decode()}.{minor.decode()} is not spoken here; 1.0 and 1.1 are", 505)


def _check_target(method: str, target: bytes) -> None:
    """The four forms of RFC 9112 §3.2."""
    if method == "CONNECT":
        good = is_tunnel_target(target)
    elif target == b"*":
        good = method == "OPTIONS"
    else:
        good = (match := _ABSOLUTE.fullmatch(target)) is not None and _check_absolute(match[1], match[2])
    if not good:
        raise RemoteProtocolError(f"not a request target for {method} (RFC 9112 §3.2)")


def _check_absolute(scheme: bytes, authority: bytes) -> bool:
    """Whether an absolute target names a host as its scheme wants it (RFC 9110 §4.2.1)."""
    if b"@" in authority:  # and it is not quoted: it may be a password
        raise RemoteProtocolError("a user name in a request target (RFC 9110 §4.2.4)")
    return is_authority(authority, may_be_empty=scheme.lower() not in (b"http", b"https"))


def _check_host(hosts: Sequence[bytes], version: str) -> None:
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise RemoteProtocolError(f"{len(hosts)} Host fields; a request has exactly one (RFC 9112 §3.2)")
    if hosts and not is_authority(hosts[0]):
        shown = "it has a user name" if b"@" in hosts[0] else shown_bytes(hosts[0], 64)
        raise RemoteProtocolError(f"Host is not a host with or without a port: {shown} (RFC 9110 §7.2)")


def _name_of(line: bytes) -> str:
    """Which field a line that is none was meant to be, and nothing else of it: what follows may be a password."""
    name, colon, _ = line.partition(b":")
    return f": {name!r}" if colon and _FIELD_LINE.fullmatch(name.rstrip(b" \t") + b":") and len(name) <= 64 else ""


def without_secrets(target: str) -> str:
    """A request target for logs and errors: without the query, and without user name and password."""
    return _USERINFO.sub(r"\1", re.split("[?#]", target, maxsplit=1)[0])
