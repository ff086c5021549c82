"""However a peer floods with small inputs, no step holds the loop for long: other tasks get their turns in between.

How long a step takes is counted in calls of functions: an `Instrument` switches the count on and off around every step.
Unlike seconds, calls are the same on every machine. What seconds they are, and how late timers wake up, is what
``benchmarks/floods.py`` measures.
"""

import ssl
import sys
import zlib
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from websockets.frames import Opcode

import trionet
from trionet import PerMessageDeflate, to_http_client, to_http_server, to_tls_client, to_tls_server

from ..helpers.pairs import tcp_pair, unix_pair
from ..helpers.websockets_by_hand import KEY, both, close, frame, text

CALLS = 4000
"""Calls of functions in one step at most: a millisecond or two on today's machines."""
SEGMENT = 65536
"""Bytes that one receive brings at most."""
CLIENTS = 4
"""So many that a step which took in what all of them have sent would be too long."""
MANY = 360
TAIL = b"\x00\x00\xff\xff"


class Steps(trio.abc.Instrument):
    """Counts the calls of every step of every task."""

    def __init__(self) -> None:
        self.calls = self.most = 0
        self.task = ""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.calls = 0
        sys.setprofile(self.count)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        sys.setprofile(None)
        if self.calls > self.most:
            self.most, self.task = self.calls, task.name

    def count(self, _frame: object, event: str, _arg: object) -> None:
        self.calls += event in ("call", "c_call")


@asynccontextmanager
async def short_steps():
    """No step of the block may be long."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(steps)
        sys.setprofile(None)
    assert 0 < steps.most <= CALLS, f"{steps.most} calls in one step of {steps.task}"


def fill(*pieces: bytes) -> bytes:
    """These over and over, as many as one receive brings."""
    piece = b"".join(pieces)
    return piece * (SEGMENT // len(piece))


def deflated(data: bytes) -> bytes:
    """A compressed message."""
    squeeze = zlib.compressobj(wbits=-12)
    payload = (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
    return compressed(payload)


def compressed(payload: bytes) -> bytes:
    """A message with this for its compressed data."""
    size = len(payload)
    head = bytes((0xC2, 0x80 | size)) if size < 126 else b"\xc2\xfe" + size.to_bytes(2, "big")
    return head + bytes(4) + payload


FLOODS = {
    "pings": fill(frame(Opcode.PING, b"?")),
    "pings and messages": fill(frame(Opcode.PING), text("x")),
    "pongs": fill(frame(Opcode.PONG, b"!")),
    "empty messages": fill(text("")),
    "tiny messages": fill(frame(Opcode.BINARY, b"x")),
    "tiny fragments": text("", fin=False) + fill(frame(Opcode.CONT, b"x", fin=False)) + frame(Opcode.CONT),
    "empty fragments": text("", fin=False) + fill(frame(Opcode.CONT, b"", fin=False)) + frame(Opcode.CONT),
    "compressed messages": fill(deflated(b"x")),
    "compressed zeros": fill(deflated(bytes(2**18))),
    "final blocks": compressed(b"\x03\x00" * 30_000),
}
every_flood = pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)


@asynccontextmanager
async def flooded(flood: bytes, clients: int = 1):
    """Servers whose clients send this, and a message behind it."""
    async with trionet.open_scope(drain_timeout=0) as scope, trio.open_nursery() as nursery:
        servers = []
        for _ in range(clients):
            one, other = unix_pair(scope)
            extension = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            await other.send_all(_request(extension))
            servers.append(await one.upgrade(trionet.to_websocket_server(compression=PerMessageDeflate())))
            await other.receive_until(b"\r\n\r\n", max_bytes=1000)
            nursery.start_soon(other.send_all, flood + text("last"))
            nursery.start_soon(drop, other)
        yield servers
        nursery.cancel_scope.cancel()


def _request(extra: bytes) -> bytes:
    return (
        b"GET / HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\nSec-WebSocket-Version: 13\r\n" + extra + b"\r\n"
    )


async def drop(stream: trio.abc.ReceiveStream) -> None:
    """Read and forget."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some():
            pass


@every_flood
async def test_a_handler_that_receives(flood):
    async with flooded(flood) as (server,), short_steps():
        while await server.get_message() != "last":
            pass


@every_flood
async def test_a_handler_that_receives_in_parts(flood):
    async with flooded(flood) as (server,), short_steps():
        message = [""]
        while message != ["last"]:
            message = [part async for part in server.receive_fragments()]


@every_flood
async def test_a_handler_that_drops_what_it_has_begun_to_receive_in_parts(flood):
    async with flooded(flood) as (server,), short_steps():
        part = ""
        while part != "last":
            parts = server.receive_fragments()
            part = await anext(parts, "")
            await parts.aclose()


@every_flood
async def test_a_handler_that_waits_for_a_pong(flood, autojump_clock):
    """It reads what comes, and gives up where that is too much to be kept."""
    async with flooded(flood) as (server,), short_steps():
        with trio.move_on_after(1), suppress(trionet.LimitExceededError):
            await server.ping()


@every_flood
async def test_handlers_that_do_not_receive(flood, autojump_clock):
    """The caretaker takes in what has come for all of them."""
    async with flooded(flood, CLIENTS) as servers, short_steps():
        await trio.sleep(3)
        assert all(server.statistics().bytes_received > SEGMENT // 2 for server in servers)


@every_flood
async def test_a_close_that_waits_for_the_peers(flood, autojump_clock):
    async with flooded(flood + close()) as (server,), short_steps():
        await server.aclose()
        assert server.closed.code == 1000


async def test_many_connections_that_have_something_to_send(autojump_clock):
    """The answers of a batch leave together, in the next turn: for very many connections that takes several turns."""
    async with trionet.open_scope(drain_timeout=0) as scope, trio.open_nursery() as nursery:
        pairs = [tcp_pair(scope) for _ in range(MANY)]
        https = [await one.upgrade(to_http_server()) for one, _ in pairs]
        for http, (_, other) in zip(https, pairs, strict=True):
            await other.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            nursery.start_soon(answer_one, http)
            nursery.start_soon(drop, other)
        async with short_steps():
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def answer_one(http: trionet.HTTPServerConnection) -> None:
    """Of two requests that are there."""
    async for exchange in http:
        await exchange.respond(200, b"hello")
        await trio.sleep_forever()


# --- HTTP ---------------------------------------------------------------------------------------------------------

REQUESTS = {
    "pipelined": fill(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "1-byte chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + fill(b"1\r\nx\r\n")
    + b"0\r\n\r\n",
    "tiny bodies": fill(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"),
    "empty lines": fill(b"\r\n"),
    "fields": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 16_000 + b"\r\n",
    "trailers": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a:\r\n" * 16_000 + b"\r\n",
}
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("reads", [True, False], ids=["read", "dropped"])
@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
async def test_a_server_of_http(requests, reads):
    async with trionet.open_scope(drain_timeout=0) as scope, trio.open_nursery() as nursery:
        one, other = tcp_pair(scope)
        http = await one.upgrade(to_http_server())
        nursery.start_soon(drop, other)
        async with short_steps():
            nursery.start_soon(other.send_all, requests + LAST)
            with suppress(trionet.RemoteProtocolError):
                async for exchange in http:
                    if reads:
                        await exchange.read()
                    await exchange.respond(200)
        nursery.cancel_scope.cancel()


RESPONSES = {
    "1-byte chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fill(b"1\r\nx\r\n") + b"0\r\n\r\n",
    "informational": fill(b"HTTP/1.1 103 X\r\n\r\n"),
    "fields": b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 16_000 + b"\r\n",
}


@pytest.mark.parametrize("reads", [True, False], ids=["read", "dropped"])
@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
async def test_a_client_of_http(response, reads):
    async with trionet.open_scope(drain_timeout=0) as scope, trio.open_nursery() as nursery:
        one, other = tcp_pair(scope)
        http = await one.upgrade(to_http_client())
        async with short_steps():
            nursery.start_soon(other.send_all, response)
            with suppress(trionet.RemoteProtocolError):
                async with http.request("GET", "/") as answer:
                    if reads:
                        assert await answer.read() == b"x" * (SEGMENT // 6)
        nursery.cancel_scope.cancel()


# --- TLS, lines ---------------------------------------------------------------------------------------------------


async def test_many_small_records(server_context: ssl.SSLContext, client_context: ssl.SSLContext):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server, client = await both(
            lambda: one.upgrade(to_tls_server(server_context)),
            lambda: other.upgrade(to_tls_client("localhost", ssl_context=client_context)),
        )
        tls = client._transport
        for _ in range(2800):
            tls.engine.ssl_object.write(b"x")
        tls.lower.send_some(tls.engine.take_output())
        received = 0
        async with short_steps():
            while received < 2800:
                received += len(await server.receive_some())


async def test_many_short_lines():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"\n" * 5000)
        async with short_steps():
            for _ in range(5000):
                await one.receive_until(b"\n", max_bytes=100)
