"""Which protocol a client begins with."""

import math

import pytest
import trio

import trionet
from trionet import HandleBusyError, to_http_server, to_tls_client, to_tls_server
from trionet.server.sniff import MOST

from ..helpers.http_served import GET
from ..helpers.pairs import memory_pair, receive_all, tcp_pair

HELLO = b"\x16\x03\x01\x00\xc8\x01"

FIRST = {
    HELLO: "tls",
    b"\x16\x03\x03\x00\x01\x01": "tls",
    b"GET / HTTP/1.1\r\n": "http",
    b"\r\nGET / HTTP/1.1\r\n": "http",
    b"OPTIONS * HTTP/1.1\r\n": "http",
    b"CONNECT host:1 HTTP/1.1\r\n": "http",
    b"GET http://host/ HTTP/1.1\r\n": "http",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "http",
    b"UPDATEREDIRECTREF /": "http",
    b"\r\nUPDATEREDIRECTREF http": "http",
    b"\x16\x03\x03\x00\x00\x01": "other",
    b"\x16\x02": "other",
    b"\x15\x03\x03\x00\x02": "other",
    b"\x80\x2e\x01": "other",
    b"CHAT me\r\n": "other",
    b"CHAT /me\r\n": "other",
    b"get /": "other",
    b"GET key\r\n": "other",
    b"GETS /": "other",
    b"GET  /": "other",
    b"OPTIONS *x": "other",
    b"POST httq": "other",
    b"EHLO host\r\n": "other",
    b"\r\n\r\nGET /": "other",
    b"\n": "other",
    b"\0\0\0\0": "other",
    b"SSH-2.0-OpenSSH\r\n": "other",
    b"PROXY TCP4 ": "other",
}


@pytest.mark.parametrize("pieces", ["at once", "one by one"])
@pytest.mark.parametrize(("first", "kind"), FIRST.items())
async def test_what_comes_first_tells_and_stays_unread(first, kind, pieces, autojump_clock):
    assert {len(one) for one in FIRST} > {MOST}
    async with trionet.open_scope() as scope:
        server, client = memory_pair(scope)
        found = []

        async def look():
            found.append(await trionet.sniff(server, timeout=math.inf))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            for piece in [first] if pieces == "at once" else [bytes([byte]) for byte in first]:
                await client.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
        assert found == [kind]
        await client.send_eof()
        assert await receive_all(server) == first


@pytest.mark.parametrize(
    "first", [b"", b"G", b"GET", b"GET ", b"GET h", b"\x16", HELLO[:5], b"\r", b"\r\n", b"OPTIONS *"]
)
async def test_a_client_that_stops_too_early_is_other_in_time_or_at_its_end(first, autojump_clock):
    async with trionet.open_scope() as scope:
        server, client = memory_pair(scope)
        if first:
            await client.send_all(first)
        began = trio.current_time()
        assert await trionet.sniff(server, timeout=3) == "other"
        assert trio.current_time() - began == pytest.approx(3)
        await client.send_eof()
        assert await trionet.sniff(server) == "other"
        assert trio.current_time() - began == pytest.approx(3)
        assert await receive_all(server) == first


async def test_one_port_for_tls_and_http(server_context, client_context, nursery):
    async def handle(conn):
        if await trionet.sniff(conn) == "tls":
            conn = await conn.upgrade(to_tls_server(server_context))
            assert await trionet.sniff(conn) == "http"
        async for exchange in await conn.upgrade(to_http_server()):
            await exchange.respond(200, b"tls" if exchange.connection.tls else b"plain")

    server = await nursery.start(trionet.serve_tcp, handle, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        for secure in (True, False):
            conn = await scope.connect_tcp("127.0.0.1", server.port)
            if secure:
                conn = await conn.upgrade(to_tls_client("localhost", ssl_context=client_context))
            await conn.send_all(GET)
            head = await conn.receive_until(b"\r\n\r\n", max_bytes=999)
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert await conn.receive_exactly(3 if secure else 5) == (b"tls" if secure else b"plain")


async def test_it_is_one_operation_and_cancelled_it_loses_nothing():
    async with trionet.open_scope() as scope:
        server, client = tcp_pair(scope)
        await client.send_all(b"GET")
        with trio.CancelScope() as cancelled:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trionet.sniff, server)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(HandleBusyError):
                    await server.receive_some()
                cancelled.cancel()
        await client.send_all(b" /")
        assert await trionet.sniff(server) == "http"
        await client.send_eof()
        assert await receive_all(server) == b"GET /"


async def test_wrong_arguments():
    async with trionet.open_scope() as scope:
        server, _ = memory_pair(scope)
        with pytest.raises(TypeError, match=r"must be a trionet.Connection, not 5"):
            await trionet.sniff(5)
        for wrong in (0, -1, "1"):
            with pytest.raises((ValueError, TypeError), match="timeout"):
                await trionet.sniff(server, timeout=wrong)
