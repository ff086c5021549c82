"""Reading one HTTP response from a wire during a handshake: head, and body within bounds.

A refusal leaves the connection usable only if the end of its body is certain: counted, chunked, or no body (RFC 9112
§6.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ...errors import LimitExceededError, RemoteProtocolError
from ..protocol.body_reader import make_reader
from ..protocol.framing import UNTIL_EOF, FieldSummary
from ..protocol.head import ResponseHead, parse_response
from ..protocol.limits import MAX_HEAD
from ..protocol.receive_buffer import ReceiveBuffer

if TYPE_CHECKING:
    from ...handle.wire import Wire
    from ..protocol.headers import Headers

__all__ = ["MAX_BODY", "HandshakeResponse", "read_body", "read_head"]

MAX_BODY: Final = 65536
"""Bytes of a refusal's body that are read at most."""
_MAX_INFORMATIONAL: Final = 16


@dataclass(frozen=True, slots=True)
class HandshakeResponse:
    """A whole response."""

    status: int
    reason: str
    headers: Headers
    body: bytes


async def read_head(wire: Wire, who: str) -> ResponseHead:
    """The head of the final response; informational ones (but not 101) pass by (RFC 9110 §15.2).

    Raises:
        RemoteProtocolError: it is malformed, or EOF came instead; `who` says whose in the message.
        LimitExceededError: it is longer than 64 KiB.

    Cancellation: the bytes read are lost to the connection; the handshake has failed if it had sent anything.
    """
    for _ in range(_MAX_INFORMATIONAL):
        data = await wire.receive_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
        if not data:
            rest = f"; it sent {bytes(wire.unread[:64])!r}" if wire.unread else ""
            raise RemoteProtocolError(f"{who} ended the connection instead of answering{rest}") from EOFError()
        head = parse_response(data)
        if head.status >= 200 or head.status == 101:
            return head
    raise RemoteProtocolError(f"{who} sent more than {_MAX_INFORMATIONAL} informational responses")


async def read_body(wire: Wire, head: ResponseHead, max_bytes: int = MAX_BODY) -> tuple[bytes, bool]:
    """The body, and whether the connection can be used after it. Trailers are dropped.

    Raises:
        RemoteProtocolError: the body's framing is malformed, or EOF came in the middle of it.
        LimitExceededError: it is longer than `max_bytes`.

    Cancellation: as for `read_head`.
    """
    fields = FieldSummary(head.headers.raw)
    framing = fields.of_response(head.status, head.http_version, "GET")
    _check_size(framing, max_bytes)
    reader, buffer, body = make_reader(framing), ReceiveBuffer(), bytearray()
    while True:
        got = reader.read(buffer)
        if got is None:
            data = await wire.receive_some()
            buffer.feed(data)
            got = reader.at_eof() if not data else b""
        if not isinstance(got, bytes):
            break
        body += got
        _check_size(len(body), max_bytes)
    wire._put_back(buffer.clear())
    return bytes(body), framing != UNTIL_EOF and fields.persists(head.http_version)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise LimitExceededError(f"the refusal has a body of {size} bytes; at most {most} are read")
