"""Mistakes that beginners make: each is told where it is made, by the right error, in one line that says what is right.

`mistakes.py` has the table: what somebody writes, and what he is told. Each is tried for real, in a place of its kind.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import math
import re
import socket
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

import trionet

from ..helpers import mistakes
from ..helpers.pairs import tcp_pair

_VARYING = re.compile(
    r"0x[0-9a-f]+"  # where an object is
    r"|(?<=127\.0\.0\.1:)\d+|(?<='127\.0\.0\.1', )\d+"  # ports
    r"|(?<=fd=)\d+|(?<=since t=)\d+\.\d+"
)
"""What is different in each run."""


async def nothing(*_):
    """An async function."""


def plain(_):
    """A function whose author has forgotten async."""


async def without_arguments():
    """A handler that could not be given anything."""


async def with_a_yield(_):
    """A handler that is a generator."""
    yield


class Recipe:
    """A recipe of somebody's own, with the methods that it is given."""

    def __init__(self, **methods):
        vars(self).update({"prepare": plain} | methods)

    def __repr__(self):
        return "Recipe(...)"


async def respond_twice(x):
    await x.respond(200)
    await x.respond(200)


async def send(x, piece, **options):
    async with x.stream(200, **options) as stream:
        await stream.send(piece)


async def send_when_over(x):
    async with x.stream(200) as stream:
        pass
    await stream.send(b"x")


WORDS = {
    function.__name__: function
    for function in (Recipe, nothing, plain, without_arguments, with_a_yield, respond_twice, send, send_when_over)
} | {"trionet": trionet, "io": io, "socket": socket, "ssl": ssl, "math": math}


async def told(code, place):
    """What somebody is told who writes `code` in this place."""
    mode = "exec" if " = " in code else "eval"
    try:
        with trio.fail_after(30):
            thing = eval(compile(code, "<mistake>", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), WORDS | place)
            if inspect.isawaitable(thing) and not hasattr(thing, "__aenter__"):
                thing = await thing
            if hasattr(thing, "__aenter__"):
                async with thing:
                    pass
    except Exception as exc:  # noqa: BLE001 - whatever it is, somebody is told it
        return f"{type(exc).__name__}: {_VARYING.sub('N', str(exc))}"
    return "nothing"


# --- the places --------------------------------------------------------------------------------------------------


async def echo(conn):
    ws = await conn.upgrade(trionet.to_websocket_server())
    async for message in ws:
        await ws.send_message(message)


async def hello(exchange):
    await exchange.respond(200, b"hello")


@asynccontextmanager
async def in_a_scope(contexts):
    """A scope with a connection, a listener, and a scope of yesterday with what was in it."""
    async with AsyncExitStack() as stack, trionet.open_scope() as scope:
        conn, _ = tcp_pair(scope)
        server = await scope.start(trionet.serve_tcp, echo, 0)
        async with trionet.open_scope(name="yesterday") as left_scope:
            left_conn, _ = tcp_pair(left_scope)
            async with left_scope.open_websocket(f"ws://127.0.0.1:{server.port}/") as left_ws:
                pass
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        unconnected = stack.enter_context(socket.socket())
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        yield contexts | {
            "scope": scope, "conn": conn, "listener": listener, "unconnected": unconnected, "datagrams": datagrams,
            "left_scope": left_scope, "left_conn": left_conn, "left_ws": left_ws,
        }  # fmt: skip
        scope.cancel()


@asynccontextmanager
async def with_a_client(contexts):
    """An HTTP client with a response."""
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, hello, 0)
        url = f"http://127.0.0.1:{server.port}/"
        async with trionet.open_http_client() as client, client.request("GET", url) as response:
            yield contexts | {"client": client, "url": url, "response": response}
        scope.cancel()


@asynccontextmanager
async def on_a_websocket(contexts):
    """A client's WebSocket, and a connection."""
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_tcp, echo, 0)
        async with scope.open_websocket(f"ws://127.0.0.1:{server.port}/") as ws:
            yield contexts | {"ws": ws, "conn": tcp_pair(scope)[0]}
        scope.cancel()


async def told_in_a_handler(code, contexts):
    """What a handler is told."""
    send, receive = trio.open_memory_channel(1)

    async def handler(exchange):
        await send.send(await told(code, contexts | {"x": exchange}))
        if not exchange.status:
            await exchange.respond(200)

    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, handler, 0)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        text = await receive.receive()
        scope.cancel()
    return text


PLACES = {"scope": in_a_scope, "client": with_a_client, "websocket": on_a_websocket}


@pytest.mark.parametrize(
    ("place", "code", "text"),
    [
        pytest.param(place, code, text, id=f"{place}: {code}")
        for place, table in mistakes.TABLES.items()
        for code, text in table
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_mistake_is_told(place, code, text, server_context, client_context):
    contexts = {"server_context": server_context, "client_context": client_context}
    if place == "exchange":
        assert await told_in_a_handler(code, contexts) == text
    else:
        async with PLACES[place](contexts) as names:
            assert await told(code, names) == text
    assert "\n" not in text


def test_every_mistake_stands_there_once():
    codes = [code for table in mistakes.TABLES.values() for code, _ in table]
    assert len(codes) >= 155
    assert len(codes) == len({*codes})


@pytest.mark.parametrize(
    ("entrance", "name"),
    [
        (lambda: trionet.open_scope(), "open_scope"),
        (lambda: trionet.open_http_client(), "open_http_client"),
        (lambda: trionet.open_tcp("localhost", 80), "open_tcp"),
        (lambda: trionet.serve_tcp(nothing, 0), "serve"),
    ],
)
def test_under_asyncio_it_says_that_trio_is_needed(entrance, name):
    async def main():
        thing = entrance()
        if inspect.isawaitable(thing) and not hasattr(thing, "__aenter__"):
            await thing
        async with thing:
            pass

    with pytest.raises(RuntimeError, match=rf"{name}\(\) needs Trio: run the program with trio.run"):
        asyncio.run(main())
