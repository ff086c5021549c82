"""A connection that is over leaves no cycle of garbage: reference counting frees all of it, at once.

Cycles would have to be found by the garbage collector, which costs a server more than some of its own work does.
"""

import gc
import ssl
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
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


CONVERSATIONS = {
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
        assert server.scope.owner.tree() == [server.scope.owner]  # nor does the server keep any of it
        nursery.cancel_scope.cancel()
