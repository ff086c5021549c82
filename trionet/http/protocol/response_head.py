"""The heads of a server's responses: which first line, how the body is framed, and the fields that say so.

A program says what it means: a status, fields, and maybe a length. What follows from that and from the request, by
RFC 9112 §6 and RFC 9110 §8.6, is decided here and only here. Nothing here has a state: whether a response may be sent
now, and whether the connection persists behind it, is for the machine to know, which adds the fields that say so.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ...errors import LocalProtocolError, RemoteProtocolError
from .framing import CHUNKED, NO_BODY, UNTIL_EOF
from .outgoing import OutgoingFields, status_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .body_writer import Buffer
    from .framing import Framing
    from .head import RequestHead
    from .headers import HeaderInput, Headers

__all__ = ["CONTINUE", "PLAIN_LINES", "compose", "informational_head", "switching_head"]

_LINES: Final = {status.value: status_line(status.value, status.phrase) for status in HTTPStatus}
_WITHOUT_CONTENT: Final = frozenset({204, 205, 304})
PLAIN_LINES: Final = {
    status: line for status, line in _LINES.items() if status >= 200 and status not in _WITHOUT_CONTENT
}
"""First lines by status, for the statuses with which any body is framed by its Content-Length, and no other rule."""
CONTINUE: Final = _LINES[100] + b"\r\n"


def compose(
    request: RequestHead | None, status: int, headers: HeaderInput | Headers, length: int | None, reason: str | None
) -> tuple[list[Buffer], OutgoingFields, Framing]:
    """The lines of a final response's head, but those about the connection; its fields; how its body is framed.

    Args:
        request: What it responds to; None if that was malformed.
        status: 200 to 999.
        headers: Fields; a Content-Length among them counts as `length`.
        length: Bytes of the body; None if that is not known.
        reason: The reason phrase; that of the status if None.

    Raises:
        LocalProtocolError: the status is not a final one, or the fields do not fit it, or the length.
        RemoteProtocolError: 2xx, to a CONNECT.
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    if not 200 <= _checked_status(status) <= 999:
        remedy = "; inform() sends 1xx" if 100 <= status < 200 else ""
        raise LocalProtocolError(f"status must be that of a final response, 200 to 999, not {status!r}{remedy}")
    fields = OutgoingFields(headers)
    parts: list[Buffer] = [_first_line(status, reason), *fields.lines]
    framing, line = _frame(request, status, fields, length)
    if line:
        parts.append(line)
    return parts, fields, framing


def _frame(
    request: RequestHead | None, status: int, fields: OutgoingFields, length: int | None
) -> tuple[Framing, bytes]:
    """How what follows the head is framed, and the field that says so, if one has to be added (RFC 9112 §6)."""
    given = b"content-length" in fields.picked
    if request is not None and request.method == "CONNECT" and status < 300:
        # Any client can send a CONNECT, to a handler that never thought of one (RFC 9110 §9.3.6).
        raise RemoteProtocolError(
            f"CONNECT asks for a tunnel, so {status} cannot be the response to it; upgrade(to_connection()) opens one",
            501,
        )
    if status in (204, 304):
        if length or (given and status == 204):
            also = ", nor a Content-Length (RFC 9110 §8.6)" if status == 204 else ""
            raise LocalProtocolError(f"{status} has no body{also}")
        fields.length(None)  # with 304 it is the one that 200 would have had
        return NO_BODY, b""
    if status == 205:
        if fields.length(length):
            raise LocalProtocolError("205 has no content (RFC 9110 §15.3.6)")
        length = 0
    if request is not None and request.method == "HEAD":
        length = fields.length(length or None)  # an empty body may as well be one left out: its length is not told
        return NO_BODY, b"" if given or length is None else b"Content-Length: %d\r\n" % length
    length = fields.length(length)
    if length is not None:
        return length, b"" if given else b"Content-Length: %d\r\n" % length
    if request is None or request.http_version == "1.0":
        return UNTIL_EOF, b""
    return CHUNKED, b"Transfer-Encoding: chunked\r\n"


def informational_head(status: int, headers: HeaderInput | Headers) -> bytes:
    """The head of an informational response (RFC 9110 §15.2).

    Raises:
        LocalProtocolError: the status is not informational, or is 101; or there is a Content-Length (RFC 9110 §8.6).
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    if not 100 <= _checked_status(status) < 200 or status == 101:
        remedy = "; upgrade() switches protocols" if status == 101 else ""
        raise LocalProtocolError(f"status must be that of an informational response, 1xx, not {status}{remedy}")
    fields = OutgoingFields(headers)
    if b"content-length" in fields.picked:
        raise LocalProtocolError("an informational response cannot have a Content-Length (RFC 9110 §8.6)")
    return b"%b%b\r\n" % (_first_line(status, None), b"".join(fields.lines))


def switching_head(
    request: RequestHead | None, offered: Sequence[str], status: int, headers: HeaderInput | Headers
) -> bytes:
    """The head that accepts an upgrade (101) to one of the protocols that are `offered`, or a CONNECT (2xx).

    Raises:
        LocalProtocolError: the request allows no such thing, or there is a Content-Length (RFC 9110 §8.6).
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """
    fields = OutgoingFields(headers)
    parts = [_first_line(status, None), *fields.lines]
    if status == 101:
        chosen = fields.tokens(b"upgrade")
        if not chosen or not {name.decode("latin-1") for name in chosen} <= {*offered}:
            raise LocalProtocolError(
                f"101 with Upgrade {b', '.join(chosen).decode('latin-1')!r}, where the request offers "
                f"{', '.join(offered)!r}"
            )
        if b"upgrade" not in fields.tokens(b"connection"):
            parts.append(b"Connection: Upgrade\r\n")
    elif not 200 <= status < 300 or request is None or request.method != "CONNECT":
        raise LocalProtocolError(f"{status} switches no protocol here: 101 after Upgrade does, 2xx after CONNECT")
    if b"content-length" in fields.picked:
        raise LocalProtocolError("a response that switches protocols cannot have a Content-Length (RFC 9110 §8.6)")
    return b"".join([*parts, b"\r\n"])


def _checked_status(status: Any) -> int:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"status must be an int such as 200, without a reason phrase, not {status!r}")
    return status


def _first_line(status: int, reason: str | None) -> bytes:
    if reason is None:
        return _LINES.get(status) or status_line(status, "")
    return status_line(status, reason)
