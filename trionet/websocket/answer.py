"""Reading an HTTP answer that is no WebSocket: head, and body within bounds, so that what follows stays readable.

A refusal leaves the connection usable only if the end of its body is certain: counted, chunked, none (RFC 9112 §6.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import LimitExceededError, RemoteProtocolError
from ..http.head import MAX_HEAD, ResponseHead, parse_response
from ..http.headers import split_list
from ..transport.protocol import MAX_RECEIVE

if TYPE_CHECKING:
    from ..wire import Wire

__all__ = ["MAX_BODY", "read_body", "read_head"]

MAX_BODY: Final = 65536
"""Bytes of a refusal's body that are read at most."""

_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")


async def read_head(wire: Wire) -> ResponseHead:
    """The head of the final answer: informational ones (but not 101) pass by (RFC 9110 §15.2).

    Cancellation: the upgrade has failed, as the request was sent.
    """
    for _ in range(16):
        data = await wire.receive_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
        if not data:
            raise RemoteProtocolError(f"the server ended the connection instead of answering{_rest(wire)}")
        head = parse_response(data)
        if head.status >= 200 or head.status == 101:
            return head
    raise RemoteProtocolError("the server sent more than 16 informational answers")


def _rest(wire: Wire) -> str:
    return f"; it sent {bytes(wire.unread[:64])!r}" if wire.unread else ""


async def read_body(wire: Wire, head: ResponseHead) -> tuple[bytes, bool]:
    """The body, and whether the connection can be used after it.

    Raises:
        RemoteProtocolError: the body's framing is malformed, or EOF came in the middle of it.
        LimitExceededError: it is longer than 64 KiB.

    Cancellation: the upgrade has failed.
    """
    lengths = head.headers.get_list("Content-Length")
    codings = head.headers.get("Transfer-Encoding")
    options = [option.lower() for option in split_list(head.headers.get_list("Connection"))]
    closes = "close" in options or head.http_version == "1.0"
    if head.status in (204, 304):
        return b"", not closes
    if codings is not None:
        if lengths or codings.lower() != "chunked":
            raise RemoteProtocolError(f"Transfer-Encoding {codings!r} with Content-Length {lengths}: framing in doubt")
        return await _read_chunks(wire), not closes
    if not lengths:
        return await _read_until_eof(wire), False
    if len(set(lengths)) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
        raise RemoteProtocolError(f"Content-Length {lengths} is not one number")
    return await _read_exactly(wire, int(lengths[0])), not closes


async def _read_exactly(wire: Wire, size: int) -> bytes:
    _check_size(size)
    while len(wire.unread) < size:
        await _fill(wire)
    return wire.take(size)


async def _fill(wire: Wire) -> None:
    data = await wire.transport.receive_some(MAX_RECEIVE)
    wire.unread += data
    if not data:
        raise RemoteProtocolError("the server ended the connection in the middle of its answer")


async def _read_until_eof(wire: Wire) -> bytes:
    body = bytearray()
    while data := await wire.receive_some():
        body += data
        _check_size(len(body))
    return bytes(body)


async def _read_chunks(wire: Wire) -> bytes:
    """RFC 9112 §7.1; trailers are read and dropped."""
    body = bytearray()
    while True:
        line = await wire.receive_until(b"\r\n", max_bytes=4096)
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise RemoteProtocolError(f"not a chunk size: {line[:64]!r}")
        size = int(match[1], 16)
        if not size:
            break
        _check_size(len(body) + size)
        chunk = await _read_exactly(wire, size + 2)
        if not chunk.endswith(b"\r\n"):
            raise RemoteProtocolError("chunk data runs over its size")
        body += chunk[:-2]
    trailers = 0
    while (line := await wire.receive_until(b"\r\n", max_bytes=4096)) != b"\r\n":
        trailers += len(line)
        if not line or trailers > MAX_HEAD:
            raise RemoteProtocolError("the server's answer ends in the middle of its trailers")
        if b"\r" in line[:-2] or b"\n" in line[:-2]:
            raise RemoteProtocolError("bare CR or LF in the trailers of the server's answer")
    return bytes(body)


def _check_size(size: int) -> None:
    if size > MAX_BODY + 2:
        raise LimitExceededError(f"the refusal has a body of {size} bytes; at most {MAX_BODY} are read")
