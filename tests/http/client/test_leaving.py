"""How the block of a response is left: what is drained, and what becomes of the connection."""

import pytest
import trio

import trionet
from trionet import Phase, Reason
from trionet.http.protocol.limits import HTTPLimits

from ...helpers.http_by_hand import HELLO, http_pair, read_request
from ...helpers.http_client_connections import HEAD, answer, exchange


async def test_a_short_rest_is_drained_and_the_connection_used_again():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        for wire in (HELLO, HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, server, wire)
                async with http.request("GET", "/"):
                    pass
            assert http._reuse.reusable


async def test_a_rest_that_is_under_way_is_waited_for(autojump_clock):
    async def slowly(server):
        await answer(server, HELLO[:-2])
        await trio.sleep(0.5)
        await server.send_all(HELLO[-2:])

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slowly, server)
            async with http.request("GET", "/"):
                pass
        assert http._reuse.reusable


async def test_a_rest_that_does_not_come_costs_the_drain_timeout_and_the_connection(autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope, limits=HTTPLimits(drain_timeout=3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HELLO[:-2])
            before = trio.current_time()
            async with http.request("GET", "/"):
                pass
            assert trio.current_time() - before == pytest.approx(3)
        assert http.end.reason is Reason.ABORTED


async def test_a_long_rest_is_not_read_at_all():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope, limits=HTTPLimits(drain_bytes=100))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HEAD + b"Content-Length: 101\r\n\r\n" + bytes(101))
            async with http.request("GET", "/"):
                received = http.statistics().bytes_received
        assert http.end.reason is Reason.ABORTED
        assert http.statistics().bytes_received == received


async def test_an_endless_rest_is_read_up_to_the_bound():
    async def endless(server):
        await read_request(server)
        await server.send_all(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await server.send_all(b"400\r\n%b\r\n" % bytes(1024))

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope, limits=HTTPLimits(drain_bytes=5000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endless, server)
            async with http.request("GET", "/") as response:
                buffered = response.connection._io.machine.buffered
                received = http.statistics().bytes_received
        assert http.end.reason is Reason.ABORTED
        assert http.statistics().bytes_received - received <= max(0, 5000 - buffered)


async def test_leaving_by_an_exception_drains_nothing():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server)
            with pytest.raises(KeyError):
                async with http.request("GET", "/"):
                    raise KeyError
            assert http.end.reason is Reason.ABORTED


async def test_leaving_by_an_exception_after_the_body_keeps_the_connection():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx")
            with pytest.raises(
                trionet.HTTPStatusError, match="GET http://.* was answered with 404 Not Found"
            ) as caught:
                async with http.request("GET", "/") as response:
                    await response.read()
                    response.raise_for_status()
            assert caught.value.response is response
            assert (caught.value.body, caught.value.retry_safe) == (b"x", None)
        assert http._reuse.reusable


async def test_a_cancelled_drain_aborts():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HELLO[:-2])
            with trio.CancelScope() as leaving:
                async with http.request("GET", "/"):
                    leaving.cancel()
            assert http.end.reason is Reason.ABORTED


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 X\r\n"]
)
async def test_a_connection_that_may_not_go_on_closes_with_the_response(head):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, head + b"Content-Length: 2\r\n\r\nab")
            await exchange(http)
        assert http.end.reason is Reason.LOCAL


async def test_bytes_behind_the_response_close_the_connection():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, HELLO + b"HTTP/1.1 200 for the next one\r\n\r\n")
            assert (await exchange(http))[1] == b"hello"
        assert http.phase is Phase.CLOSED
