"""Heads of HTTP/1.x messages, without I/O: from exactly one slice of bytes to a value, and back.

The slice ends with the blank line. llhttp (httptools) splits the fields and finds most faults; what it lets pass is
refused here, before it is asked: other versions than 1.0 and 1.1, more than one space in the request line, bare CR or
LF, obsolete folding, a missing or double Host. Two readers who understand a head differently are how requests are
smuggled, so a fault is an error and never a guess (RFC 9112 §11.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import httptools

from ..errors import LocalProtocolError, RemoteProtocolError
from .headers import Headers

if TYPE_CHECKING:
    from .headers import HeaderInput

__all__ = [
    "MAX_HEAD",
    "RequestHead",
    "ResponseHead",
    "parse_request",
    "parse_response",
    "parse_trailers",
    "request_line",
    "status_line",
    "write_request",
    "write_response",
]

MAX_HEAD: Final = 65536
"""Bytes of a head at most, for whoever reads one; more is answered with 431."""

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-\x22\x24-~]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE: Final = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://.+")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]\-]*")
_TEXT: Final = bytes({9, *range(32, 256)} - {127})
_VERSIONS: Final = {(b"1", b"0"): "1.0", (b"1", b"1"): "1.1"}


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Request line and fields of a request."""

    method: str
    target: str
    http_version: str
    """``1.0`` or ``1.1``."""
    headers: Headers


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and fields of a response."""

    status: int
    reason: str
    http_version: str
    """``1.0`` or ``1.1``."""
    headers: Headers


class _Fields:
    """What llhttp calls back: it collects the fields."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.raw.append((name, value.rstrip(b" \t")))


def parse_request(data: bytes) -> RequestHead:
    """The request head that `data` is, from its first byte to the blank line.

    Raises:
        RemoteProtocolError: it is malformed; `status_hint` is 400, 501 (a method llhttp does not know) or 505.

    Source: RFC 9112 §2 to §5, RFC 9110 §7.2.
    """
    line = _check_lines(data)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise RemoteProtocolError(f"not a request line (method, target and version, single spaces): {_shown(line)}")
    method, target, major, minor = match.groups()
    version = _check_version(major, minor)
    if target[0] != 47 or method == b"CONNECT":  # the usual target begins with a slash
        _check_target(method, target)
    fields = _Fields()
    _feed(httptools.HttpRequestParser(fields), data)
    _check_host(fields.raw, version)
    return RequestHead(method.decode(), target.decode(), version, Headers.from_wire(fields.raw))


def parse_response(data: bytes) -> ResponseHead:
    """The response head that `data` is, from its first byte to the blank line.

    Raises:
        RemoteProtocolError: it is malformed.

    Source: RFC 9112 §2, §4, §5.
    """
    line = _check_lines(data)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise RemoteProtocolError(f"not a status line (version, three digits, reason): {_shown(line)}", 502)
    major, minor, status, reason = match.groups()
    version = _check_version(major, minor)
    fields = _Fields()
    _feed(httptools.HttpResponseParser(fields), data)
    return ResponseHead(int(status), (reason or b"").decode("latin-1"), version, Headers.from_wire(fields.raw))


def parse_trailers(data: bytes) -> Headers:
    """The fields of a trailer section, from its first byte to the blank line.

    Raises:
        RemoteProtocolError: they are malformed.

    Source: RFC 9112 §7.1.2; the fields have the syntax of a head's.
    """
    whole = b"HTTP/1.1 200 OK\r\n" + data  # llhttp reads fields behind a first line only
    _check_lines(whole)
    fields = _Fields()
    _feed(httptools.HttpResponseParser(fields), whole)
    return Headers.from_wire(fields.raw)


def request_line(method: str, target: str) -> bytes:
    """The first line of an HTTP/1.1 request, with its CRLF.

    Raises:
        LocalProtocolError: method or target cannot be sent.
    """
    line = b"%b %b HTTP/1.1" % (method.encode("latin-1", "replace"), target.encode("ascii", "replace"))
    if not target.isascii() or not _REQUEST_LINE.fullmatch(line):
        raise LocalProtocolError(f"{method!r} {target!r} is no request line: percent-encode the target")
    return line + b"\r\n"


def status_line(status: int, reason: str) -> bytes:
    """The first line of an HTTP/1.1 response, with its CRLF.

    Raises:
        LocalProtocolError: status or reason cannot be sent.
    """
    line = b"HTTP/1.1 %d %b" % (status, reason.encode("latin-1", "replace"))
    if not _STATUS_LINE.fullmatch(line):
        raise LocalProtocolError(f"{status!r} {reason!r} is no status line")
    return line + b"\r\n"


def write_request(method: str, target: str, headers: HeaderInput | Headers) -> bytes:
    """An HTTP/1.1 request head.

    Raises:
        LocalProtocolError: method or target cannot be sent.
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    return b"%b%b\r\n" % (request_line(method, target), _fields(headers))


def write_response(status: int, reason: str, headers: HeaderInput | Headers) -> bytes:
    """An HTTP/1.1 response head.

    Raises:
        LocalProtocolError: status or reason cannot be sent.
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    return b"%b%b\r\n" % (status_line(status, reason), _fields(headers))


def _fields(headers: HeaderInput | Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in Headers(headers).raw)


# --- what llhttp does not check ---------------------------------------------------------------------------------


def _check_lines(data: bytes) -> bytes:
    """Check how the head is made up of lines; the first line."""
    if not data.endswith(b"\r\n\r\n"):
        raise RemoteProtocolError("a message head has to end with a blank line")
    if len(data.translate(None, _TEXT)) != 2 * data.count(b"\r\n"):
        _refuse_controls(data)
    if b"\r\n " in data or b"\r\n\t" in data:
        raise RemoteProtocolError("obsolete line folding, or whitespace before the first field (RFC 9112 §5.2)")
    if data.find(b"\r\n\r\n") != len(data) - 4:
        raise RemoteProtocolError("more than one head")
    return data[: data.index(b"\r\n")]


def _refuse_controls(data: bytes) -> NoReturn:
    if data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r"):
        raise RemoteProtocolError("control character in a message head (RFC 9110 §5.5)")
    raise RemoteProtocolError("bare CR or LF in a message head (RFC 9112 §2.2)")


def _check_version(major: bytes, minor: bytes) -> str:
    version = _VERSIONS.get((major, minor))
    if version is None:
        raise RemoteProtocolError(f"HTTP/{major.decode()}.{minor.decode()} is not spoken here; 1.0 and 1.1 are", 505)
    return version


def _check_target(method: bytes, target: bytes) -> None:
    """The four forms of RFC 9112 §3.2."""
    if method == b"CONNECT":
        good = b"/" not in target and b":" in target
    elif target == b"*":
        good = method == b"OPTIONS"
    else:
        good = _ABSOLUTE.fullmatch(target) is not None
    if not good:
        raise RemoteProtocolError(f"not a request target for {method.decode()}: {_shown(target)}")


def _check_host(raw: list[tuple[bytes, bytes]], version: str) -> None:
    hosts = [value for name, value in raw if name.lower() == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise RemoteProtocolError(f"{len(hosts)} Host fields; a request has exactly one (RFC 9112 §3.2)")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise RemoteProtocolError(f"not a host: {_shown(hosts[0])}")


def _feed(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserInvalidMethodError as exc:
        raise RemoteProtocolError(f"unknown method: {exc}", 501) from exc
    except httptools.HttpParserError as exc:
        if str(exc).startswith("Pause on "):  # a 101 that does not name Upgrade in Connection: the head is whole
            return
        raise RemoteProtocolError(f"malformed message head: {exc}") from exc


def _shown(data: bytes) -> str:
    return f"{data[:64]!r}{'...' if len(data) > 64 else ''}"
