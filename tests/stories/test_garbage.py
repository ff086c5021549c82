"""A connection that is over leaves no cycle of garbage: reference counting frees all of it, at once.

Cycles would have to be found by the garbage collector, which costs a server more than some of its own work does.
"""

import gc
import socket
import ssl
import struct
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet.asgi import serve_asgi
from trionet.http import Exchange

CONNECTIONS = 3


@asynccontextmanager
async def cycles():
    """Collects what the block leaves to the garbage collector alone: names of trionet's classes."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("trionet")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def echo_line(connection: trionet.Connection) -> None:
    await connection.send_all(await connection.receive_until(b"\n", max_bytes=99))


async def echo_messages(connection: trionet.Connection) -> None:
    websocket = await connection.upgrade(trionet.to_websocket_server())
    async for message in websocket:
        await websocket.send_message(message)


async def echo_body(exchange: Exchange) -> None:
    await exchange.respond(200, await exchange.read())


async def talk_line(port: int) -> None:
    async with trionet.open_tcp("127.0.0.1", port) as connection:
        await connection.send_all(b"hello\n")
        assert await connection.receive_until(b"\n", max_bytes=99) == b"hello\n"
        assert await connection.receive_some() == b""


async def talk_line_over_tls(port: int, context: ssl.SSLContext) -> None:
    async with trionet.open_tcp("127.0.0.1", port) as plain:
        connection = await plain.upgrade(trionet.to_tls_client("localhost", ssl_context=context))
        await connection.send_all(b"hello\n")
        assert await connection.receive_until(b"\n", max_bytes=99) == b"hello\n"
        assert await connection.receive_some() == b""


async def talk_messages(port: int) -> None:
    async with trionet.open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
        await websocket.send_message("hello")
        assert await websocket.get_message() == "hello"


async def talk_http(port: int) -> None:
    async with trionet.open_http_client() as client:
        for _ in range(2):
            async with client.request("POST", f"http://127.0.0.1:{port}/", content=b"hello") as response:
                assert await response.read() == b"hello"


async def application(scope, receive, send):
    """ASGI: it says back what it gets, and works behind its response; it streams, and fails, where it is told to."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        return
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200})
    if body == b"stream":
        await send({"type": "http.response.body", "body": b"str", "more_body": True})
    await send({"type": "http.response.body", "body": b"eam" if body == b"stream" else body})
    for _ in range(5):
        await trio.lowlevel.checkpoint()


async def talk_asgi(port: int) -> None:
    await talk_http(port)
    await talk_messages(port)
    async with (
        trionet.open_http_client() as client,
        client.request("POST", f"http://127.0.0.1:{port}/", content=b"stream") as response,
    ):
        assert await response.read() == b"stream"


CONVERSATIONS = {
    "ASGI": (partial(serve_asgi, lifespan="off"), application, talk_asgi),
    "TCP": (trionet.serve_tcp, echo_line, talk_line),
    "WebSocket": (trionet.serve_tcp, echo_messages, talk_messages),
    "HTTP": (trionet.serve_http, echo_body, talk_http),
}


@pytest.mark.parametrize("conversation", [*CONVERSATIONS, "TLS"])
async def test_a_connection_that_is_over_leaves_no_cycle(conversation, server_context, client_context):
    if conversation == "TLS":
        serve, handler = partial(trionet.serve_tcp, ssl_context=server_context), echo_line
        talk = partial(talk_line_over_tls, context=client_context)
    else:
        serve, handler, talk = CONVERSATIONS[conversation]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, handler, 0)

        async def some() -> None:
            for _ in range(CONNECTIONS):
                await talk(server.port)
            while server.statistics().open:
                await wait_all_tasks_blocked()

        await some()  # what is made once, and kept
        async with cycles() as found:
            await some()
        assert found == []
        assert server.scope._owner.tree() == [server.scope._owner]  # nor does the server keep any of it
        nursery.cancel_scope.cancel()


# --- WebSockets, however they end ---------------------------------------------------------------------------------

ASKS = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BEHIND = {"close": b"\x88\x82\0\0\0\0\x03\xe8", "EOF": None, "offence": b"\x8f\x80\0\0\0\0"}


async def until_told(websocket: trionet.WebSocket) -> None:
    async for message in websocket:
        if message == "close":
            await websocket.aclose(1000)
        elif message == "abort":
            websocket.abort()
        elif message == "return":
            return


async def on_a_connection(connection: trionet.Connection) -> None:
    await until_told(await connection.upgrade(trionet.to_websocket_server()))


async def on_an_exchange(exchange: Exchange) -> None:
    await until_told(await exchange.upgrade(trionet.to_websocket_server()))


async def by_a_client(port: int, how: str) -> None:
    async with trionet.open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
        if how == "client aborts":
            websocket.abort()
        elif how == "client is cancelled":
            with trio.CancelScope() as scope:
                scope.cancel()
                await websocket.aclose()
        else:
            await websocket.send_message(how)
            with suppress(trionet.ConnectionClosed):
                await websocket.get_message()


async def by_hand(port: int, how: str) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as client:
        await client.send_all(ASKS if how != "refused" else b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.receive_some()
        if behind := BEHIND.get(how):
            await client.send_all(behind)
            while await client.receive_some():
                pass


ENDS = [(how, by_hand) for how in (*BEHIND, "refused")]
ENDS += [(how, by_a_client) for how in ("close", "abort", "return", "client aborts", "client is cancelled")]


@pytest.mark.parametrize("serve", [trionet.serve_tcp, trionet.serve_http])
@pytest.mark.parametrize(("how", "talk"), ENDS)
async def test_a_websocket_that_is_over_leaves_no_cycle(how, talk, serve):
    async with trio.open_nursery() as nursery:
        handler = on_a_connection if serve is trionet.serve_tcp else on_an_exchange
        server = await nursery.start(serve, handler, 0)

        async def some() -> None:
            for _ in range(CONNECTIONS):
                await talk(server.port, how)
            while server.statistics().open:
                await wait_all_tasks_blocked()

        await some()
        async with cycles() as found:
            await some()
        assert found == []
        nursery.cancel_scope.cancel()


# --- clients that do what they should not -------------------------------------------------------------------------


async def answer(exchange: Exchange) -> None:
    match exchange.target:
        case "/fail":
            raise ValueError("the program's own mistake")
        case "/cancel":
            exchange.connection.scope.cancel()
            await trio.sleep_forever()
        case "/large":
            await exchange.respond(200, bytes(1 << 24))  # more than the system's buffers hold
        case "/left":
            return
    await exchange.respond(200, await exchange.read(max_bytes=9))


HOSTILE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03 no request at all\r\n\r\n",
    "half a head": b"GET / HTTP/1.1\r\nHo",
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhel",
    "a body that is too large": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1234567890",
    "no chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
    "nothing": b"",
} | {path: b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() for path in ("fail", "cancel", "large", "left", "")}


async def ask(port: int, request: bytes, end: str, context: ssl.SSLContext | None) -> None:
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    stream: trio.abc.Stream = plain
    if context is not None:
        stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
    await stream.send_all(request)
    await wait_all_tasks_blocked()
    if end == "reset":
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif context is None:
        await plain.send_eof()
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
    await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("secure", [False, True], ids=["TCP", "TLS"])
@pytest.mark.parametrize("end", ["EOF", "reset"])
@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_client_leaves_no_cycle(what, end, secure, server_context, client_context, autojump_clock):
    """An error that its handle kept referred to it by its traceback; so did the exchange that was under way."""
    async with trio.open_nursery() as nursery:
        serve = partial(trionet.serve_http, ssl_context=server_context if secure else None)
        server = await nursery.start(serve, answer, 0)

        async def some() -> None:
            for _ in range(CONNECTIONS):
                await ask(server.port, HOSTILE[what], end, client_context if secure else None)
                while server.statistics().open:
                    await trio.sleep(1)

        await some()
        async with cycles() as found:
            await some()
        assert found == []
        nursery.cancel_scope.cancel()


async def test_no_handshake_leaves_no_cycle(server_context):
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trionet.serve_tcp, ssl_context=server_context), echo_line, 0)

        async def some() -> None:
            for _ in range(CONNECTIONS):
                await ask(server.port, HOSTILE[""], "EOF", None)
                while server.statistics().open:
                    await wait_all_tasks_blocked()

        await some()
        async with cycles() as found:
            await some()
        assert found == []
        nursery.cancel_scope.cancel()
