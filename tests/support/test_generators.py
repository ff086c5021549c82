"""A generator that a program gives to be sent is closed with the call: sent, failed, cancelled, refused, not needed.

Those of `WebSocket.send_fragments` are in ``tests/websocket/test_fragments.py``.
"""

from contextlib import suppress

import pytest
import trio

import trionet
from trionet import LocalProtocolError, to_http_client, to_http_server

from ..helpers.pairs import tcp_pair


class Source:
    """Generators that count how many of them were begun, and how many have come to their end."""

    def __init__(self, *, fails=False, blocks=False):
        self.fails, self.blocks = fails, blocks
        self.opened = self.closed = 0

    async def awaits(self):
        self.opened += 1
        try:
            yield b"first"
            if self.blocks:
                await trio.sleep_forever()
            if self.fails:
                raise ValueError("of its own")
            yield b"last"
        finally:
            self.closed += 1

    def plain(self):
        self.opened += 1
        try:
            yield b"first"
            if self.fails:
                raise ValueError("of its own")
            yield b"last"
        finally:
            self.closed += 1

    async def begun(self, kind):
        """One of which a piece was taken already: nobody else would close it."""
        if kind == "plain":
            generator = self.plain()
            next(generator)
        else:
            generator = self.awaits()
            await anext(generator)
        return generator


kinds = pytest.mark.parametrize("kind", ["awaits", "plain"])


@kinds
@pytest.mark.parametrize("how", ["sent", "fails", "cancelled", "HEAD", "bad field", "answered already"])
async def test_of_an_answer(kind, how, autojump_clock):
    source = Source(fails=how == "fails", blocks=how == "cancelled" and kind == "awaits")
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = tcp_pair(scope)
        await other.send_all(b"%b / HTTP/1.1\r\nHost: x\r\n\r\n" % (b"HEAD" if how == "HEAD" else b"GET"))
        http = await one.upgrade(to_http_server())
        exchange = await anext(http)
        if how == "answered already":
            await exchange.respond(200)
        headers = [("x", "a\nb")] if how == "bad field" else []
        with suppress(ValueError, LocalProtocolError), trio.move_on_after(1):
            await exchange.respond(200, await source.begun(kind), headers=headers)
        assert source.opened == source.closed == 1


@kinds
@pytest.mark.parametrize("how", ["sent", "fails", "bad field", "json too", "busy", "server gone", "not wanted"])
async def test_of_a_request_on_a_connection(kind, how, autojump_clock):
    source = Source(fails=how == "fails")
    async with trionet.open_scope(drain_timeout=0) as scope, trio.open_nursery() as nursery:
        one, other = tcp_pair(scope)
        http = await one.upgrade(to_http_client(host="x"))
        generator = await source.begun(kind)

        async def request():
            with suppress(ValueError, trio.BusyResourceError, trio.BrokenResourceError, trio.ClosedResourceError):
                async with http.request(
                    "POST",
                    "/",
                    content=generator,
                    json={} if how == "json too" else None,
                    headers=[("x", "a\nb")] if how == "bad field" else [],
                    expect_continue=how == "not wanted",
                ):
                    pass

        if how == "busy":
            nursery.start_soon(in_block, http)
            await trio.testing.wait_all_tasks_blocked()
        elif how == "server gone":
            other.abort()
        else:
            nursery.start_soon(answer, other)
        await request()
        assert source.opened == source.closed == 1
        nursery.cancel_scope.cancel()


async def in_block(http):
    async with http.request("GET", "/"):
        await trio.sleep_forever()


async def answer(other):
    await other.receive_until(b"\r\n\r\n", max_bytes=1000)
    await other.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@kinds
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense://x/", "http://x:99999/"])
async def test_of_a_request_that_reaches_nobody(kind, url):
    source = Source()
    async with trionet.open_http_client() as client:
        with pytest.raises((OSError, ValueError, trionet.TrionetError)):
            async with client.request("POST", url, content=await source.begun(kind)):
                pass
    assert source.opened == source.closed == 1


@kinds
async def test_of_a_request_whose_body_is_not_wanted(kind):
    """Answered before the 100 that it waits for."""
    source = Source()

    async def refuse(exchange):
        await exchange.respond(403)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_http, refuse, 0)
        async with trionet.open_http_client() as client:
            url = f"http://127.0.0.1:{server.port}/"
            generator = await source.begun(kind)
            async with client.request("POST", url, content=generator, expect_continue=True) as response:
                assert response.status == 403
            assert source.opened == source.closed == 1
        nursery.cancel_scope.cancel()
