"""WebSockets for tests: both sides of trionet's, or one of them against bytes written by hand."""

from __future__ import annotations

import trio
from websockets.frames import Close, Frame, Opcode

import trionet
from trionet import to_websocket_client, to_websocket_server
from trionet.http.protocol.head import parse_request
from trionet.websocket.handshake.rules import accept_token

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # for KEY, from RFC 6455 §1.3
REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def text(message: str, *, masked: bool = True, fin: bool = True) -> bytes:
    return Frame(Opcode.TEXT, message.encode(), fin).serialize(mask=masked)


def frame(opcode: Opcode, data: bytes = b"", *, masked: bool = True, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=masked)


def close(code: int | None = 1000, reason: str = "", *, masked: bool = True) -> bytes:
    data = b"" if code is None else Close(code, reason).serialize()
    return Frame(Opcode.CLOSE, data).serialize(mask=masked)


async def both(*functions):
    """What these async functions return, run at the same time."""
    results = [None] * len(functions)

    async def run(index, function):
        results[index] = await function()

    async with trio.open_nursery() as nursery:
        for index, function in enumerate(functions):
            nursery.start_soon(run, index, function)
    return results


async def two_websockets(one, other, **options):
    """Server and client on two connected handles."""
    return await both(
        lambda: one.upgrade(to_websocket_server(**options)),
        lambda: other.upgrade(to_websocket_client("ws://example/chat")),
    )


async def server_by_hand(one, other, behind=b"", **options):
    """A server on `one`; its client is `other`, which goes on sending bytes."""
    await other.send_all(REQUEST + behind)
    websocket = await one.upgrade(to_websocket_server(**options))
    head = await other.receive_until(b"\r\n\r\n", max_bytes=1000)
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert f"Sec-WebSocket-Accept: {ACCEPT}\r\n".encode() in head
    return websocket


async def answer_by_hand(other, behind=b"", extra=b"", pause=None):
    """Accept the handshake that comes on `other`: the request."""
    head = await other.receive_until(b"\r\n\r\n", max_bytes=2000)
    request = parse_request(head)
    accept = accept_token(request.headers["sec-websocket-key"]).encode()
    if pause is not None:
        await pause()
        await other.send_all(b"HTTP/1.1 1")
        await pause()
    head = b"HTTP/1.1 101 S\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n"
    await other.send_all(head[10 if pause is not None else 0 :] + extra + b"\r\n" + behind)
    return request


async def client_by_hand(one, other, behind=b"", extra=b"", **options):
    """A client on `one`; its server is `other`, which goes on sending bytes."""
    websocket, _ = await both(
        lambda: one.upgrade(to_websocket_client("ws://example/chat", **options)),
        lambda: answer_by_hand(other, behind, extra),
    )
    return websocket


async def receive_frame(connection: trionet.Connection) -> tuple[int, bytes]:
    """The next frame that arrives: opcode and unmasked payload."""
    first, second = await connection.receive_exactly(2)
    size = second & 127
    if size == 126:
        size = int.from_bytes(await connection.receive_exactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await connection.receive_exactly(8), "big")
    mask = await connection.receive_exactly(4) if second & 128 else bytes(4)
    data = await connection.receive_exactly(size) if size else b""
    return first, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


async def until_closed(websocket):
    async for _ in websocket:
        pass
