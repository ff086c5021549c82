"""The steps of the demonstration: in each a client of the line server finds one promise of trionet kept."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio.testing
from websockets.asyncio.client import connect as websockets_connect
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.uri import parse_uri

from ... import (
    HandleBusyError,
    HandleMovedError,
    Phase,
    Reason,
    UpgradeFailedError,
    to_http_client,
    to_tls_client,
    to_websocket_client,
)
from .promises import HOST, BrokenPromiseError, Stage, Step, expect

if TYPE_CHECKING:
    from ... import Connection, Handle, Scope, WebSocket

__all__ = ["STEPS"]

PATIENCE = 5.0
"""Seconds that the other library's client takes for a dialogue at most."""


async def chat(stage: Stage, scope: Scope) -> None:
    """Raw TCP becomes WebSocket, and the old handle ends."""
    conn = await scope.connect_tcp(HOST, stage.port)
    expect(await _ask(conn, "SING") == "ERR unknown here, try CHAT name, STARTTLS, ECHO text, QUIT", "SING is unknown")
    expect(await _ask(conn, "CHAT ada") == "OK ada", "the server agrees to CHAT")
    ws = await conn.upgrade(to_websocket_client(f"ws://localhost:{stage.port}/chat"))
    await _exchange(ws, "hello", "grüße, 你好", bytes(range(256)), "long " * 20_000)
    await _expect_moved(conn, Reason.UPGRADED, ws)
    await ws.aclose()
    expect(ws.phase is Phase.CLOSED, "the WebSocket is closed after its aclose()")


async def pipelined(stage: Stage, scope: Scope) -> None:
    """Command, handshake and first frame leave in a single send; nothing is lost on the way up."""
    conn = await scope.connect_tcp(HOST, stage.port)
    request = ClientProtocol(parse_uri(f"ws://localhost:{stage.port}/chat")).connect().serialize()
    frame = Frame(Opcode.TEXT, b"I could not wait")
    await conn.send_all(b"CHAT eve\r\n" + request + frame.serialize(mask=True))
    expect(await _line(conn) == "OK eve", "the server agrees to CHAT")
    head = await conn.receive_until(b"\r\n\r\n", max_bytes=4096)
    expect(head.startswith(b"HTTP/1.1 101 "), "the server switches to WebSocket")
    answer = frame.serialize(mask=False)
    expect(await conn.receive_exactly(len(answer)) == answer, "the early frame is the first message")
    await conn.send_all(Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True))
    goodbye = await conn.receive_some()
    expect(goodbye[:1] == b"\x88" and await conn.receive_some() == b"", "a close frame and EOF come last")


async def starttls(stage: Stage, scope: Scope) -> None:
    """Raw TCP becomes TLS, and that becomes WebSocket, on one TCP connection."""
    conn = await scope.connect_tcp(HOST, stage.port)
    expect(await _ask(conn, "ECHO in the clear") == "in the clear", "an echo in the clear")
    expect(await _ask(conn, "STARTTLS") == "OK begin TLS", "the server agrees to STARTTLS")
    tls = await conn.upgrade(to_tls_client(server_hostname="localhost", ssl_context=stage.trust))
    expect(tls.tls is not None and bool(tls.tls.peer_certificate), "the server's certificate was verified")
    await _expect_moved(conn, Reason.UPGRADED, tls)
    expect(await _ask(tls, "ECHO in secret") == "in secret", "an echo over TLS")
    expect(await _ask(tls, "CHAT bob") == "OK bob", "the server agrees to CHAT")
    ws = await tls.upgrade(to_websocket_client(f"wss://localhost:{stage.port}/chat"))
    await _exchange(ws, "hello", bytes(70_000))
    await _expect_moved(tls, Reason.UPGRADED, ws)
    expect(ws.local_address == conn.local_address, "it is still the same TCP connection")
    await ws.aclose()


async def http(stage: Stage, scope: Scope) -> None:
    """The same port answers HTTP, one request after another on one connection."""
    conn = await scope.connect_tcp(HOST, stage.port)
    client = await conn.upgrade(to_http_client())
    async with client.request("GET", "/hello") as response:
        expect(await response.read() == b"hello over HTTP\n", "a GET is answered")
    async with client.request("POST", "/", content=b"and back") as response:
        expect(await response.read() == b"and back", "a POST is answered on the same connection")
    await _expect_moved(conn, Reason.UPGRADED, client)
    await client.aclose()


async def distrust(stage: Stage, scope: Scope) -> None:
    """Verification is real: without the authority, no TLS."""
    conn = await scope.connect_tcp(HOST, stage.port)
    expect(await _ask(conn, "STARTTLS") == "OK begin TLS", "the server agrees to STARTTLS")
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        await conn.upgrade(to_tls_client(server_hostname="localhost", ssl_context=stranger))
    except UpgradeFailedError as exc:
        expect("certificate" in str(exc).lower(), f"the error tells that it is the certificate: {exc}")
    else:
        raise BrokenPromiseError("broken: a certificate of an unknown authority is refused")
    expect(conn.end is not None and conn.end.reason is Reason.UPGRADE_FAILED, "the handle says: upgrade failed")


async def injection(stage: Stage, scope: Scope) -> None:
    """Plain bytes right behind STARTTLS fail the upgrade, instead of being obeyed as if they had come over TLS."""
    conn = await scope.connect_tcp(HOST, stage.port)
    await conn.send_all(b"STARTTLS\r\nECHO smuggled\r\n")
    expect(await _line(conn) == "OK begin TLS", "the server agrees to STARTTLS")
    expect(await conn.receive_some() == b"", "the server hangs up without obeying what was smuggled in")


async def foreign_client(stage: Stage, scope: Scope) -> None:
    """The client of the websockets library, on asyncio in a thread, finds a WebSocket server there, also over TLS."""
    plain: dict[str, Any] = {"uri": f"ws://{HOST}:{stage.port}/"}
    secret: dict[str, Any] = {"uri": f"wss://{HOST}:{stage.port}/", "ssl": stage.trust, "server_hostname": "localhost"}
    for options in (plain, secret):
        await trio.to_thread.run_sync(partial(_foreign_dialogue, options), abandon_on_cancel=True)


async def refused_detach(stage: Stage, scope: Scope) -> str:
    """A handle cannot be taken away from a task that reads; afterwards it can. The error is worth showing."""
    conn = await scope.connect_tcp(HOST, stage.port)
    lines: list[str] = []

    async def reader() -> None:
        lines.append(await _line(conn))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader, name="reader")
        error = await _refusal(conn)
        await conn.send_all(b"ECHO not a byte was lost\r\n")
    expect(lines == ["not a byte was lost"], "the pending read completes, intact")
    again = scope.adopt(conn.detach())
    expect(await _ask(again, "QUIT") == "BYE", "after a detach in peace, the connection works in its new handle")
    await _expect_moved(conn, Reason.DETACHED, None)
    await again.aclose()
    return f"{type(error).__name__}: {error}"


STEPS = (
    Step(
        "chat",
        "TCP becomes a WebSocket; the old handle has MOVED and refuses all use.",
        chat,
        {"client": ["Connection", "WebSocket"], "server": ["Connection", "WebSocket"]},
    ),
    Step(
        "pipelined",
        "A frame sent right behind the CHAT line is the first message, exactly once.",
        pipelined,
        {"client": ["Connection"], "server": ["Connection", "WebSocket"]},
    ),
    Step(
        "starttls",
        "STARTTLS, verified, then WebSocket: three handles, one connection.",
        starttls,
        {
            "client": ["Connection", "TLS", "WebSocket"],
            "server": ["Connection", "TLS", "WebSocket"],
        },
    ),
    Step(
        "http",
        "The same port answers HTTP: two requests on one connection.",
        http,
        {"client": ["Connection", "HTTPClientConnection"], "server": ["Connection", "HTTPServerConnection"]},
    ),
    Step(
        "distrust",
        "A client that distrusts the certificate gets no TLS, and leaves nothing.",
        distrust,
        {"client": ["Connection"], "server": ["Connection"]},
    ),
    Step(
        "injection",
        "Plaintext smuggled in behind STARTTLS is not obeyed: the upgrade fails.",
        injection,
        {"client": ["Connection"], "server": ["Connection"]},
    ),
    Step(
        "foreign-client",
        "The client of the websockets library is answered there, over ws and wss.",
        foreign_client,
        {
            "server": [
                *("Connection", "HTTPServerConnection", "WebSocket"),
                *("Connection", "TLS", "HTTPServerConnection", "WebSocket"),
            ]
        },
    ),
    Step(
        "refused-detach",
        "Detaching under a pending read is refused, and the read completes intact.",
        refused_detach,
        {"client": ["Connection", "Connection"], "server": ["Connection"]},
    ),
)


# --- what the steps share -----------------------------------------------------------------------------------------


async def _line(conn: Connection) -> str:
    return (await conn.receive_until(b"\r\n", max_bytes=512)).decode().rstrip()


async def _ask(conn: Connection, line: str) -> str:
    await conn.send_all(line.encode() + b"\r\n")
    return await _line(conn)


async def _exchange(ws: WebSocket, *messages: str | bytes) -> None:
    """Send each message and expect it back."""
    for message in messages:
        await ws.send_message(message)
        expect(await ws.get_message() == message, f"{message[:20]!r} comes back as it was sent")


async def _expect_moved(old: Connection, reason: Reason, successor: Handle | None) -> None:
    """`old` says where the connection went, and lets nobody use it any more. Any successor will do if None is given."""
    end = old.end
    expect(old.phase is Phase.MOVED and end is not None and end.reason is reason, f"{old!r} has moved: {reason.value}")
    expect(end is not None and end.successor is (successor or end.successor), f"{old!r} knows its successor")
    for what, use in (("receive", old.receive_some), ("send", partial(old.send_all, b"too late"))):
        try:
            await use()
        except HandleMovedError as exc:
            expect(exc.end is end, f"the refusal of a late {what} tells where the connection went")
        else:
            raise BrokenPromiseError(f"broken: a late {what} is refused")


async def _refusal(conn: Connection) -> HandleBusyError:
    """The error of a detach while the task named reader waits for input."""
    await trio.testing.wait_all_tasks_blocked()
    try:
        conn.detach()
    except HandleBusyError as exc:
        held = [(blocker.task, blocker.operation) for blocker in exc.blockers]
        expect(held == [("reader", "receive")], f"the reader is named as what blocks: {held}")
        expect(conn.phase is Phase.OPEN, "a refused detach changes nothing")
        return exc
    raise BrokenPromiseError("broken: a detach under a pending read is refused")


def _foreign_dialogue(options: dict[str, Any]) -> None:
    """Runs in a thread.

    The library's blocking client would be simpler, but its two threads use one OpenSSL object at the same time: over
    TLS, about one request in a thousand never left.
    """

    async def dialogue() -> None:
        async with asyncio.timeout(PATIENCE), websockets_connect(**options, proxy=None) as ws:
            for message in ("hello", b"\x00\xff", "long " * 20_000):
                await ws.send(message)
                expect(await ws.recv() == message, f"{message[:20]!r} comes back as it was sent")

    asyncio.run(dialogue())
