"""One exchange: what a server may answer, and when; 100 (Continue)."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason

from ...helpers.http_by_hand import HELLO, http_pair
from ...helpers.http_client_connections import HEAD, Chat, answer, exchange, wait_readable

# --- what the server may do ---------------------------------------------------------------------------------------


async def test_a_body_that_eof_ends():
    async def until_eof(server):
        await answer(server, HEAD + b"\r\nhel")
        await server.send_all(b"lo")
        await server.aclose()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_eof, server)
            assert (await exchange(http))[1] == b"hello"
        assert http.phase is Phase.CLOSED


@pytest.mark.parametrize(
    ("method", "safe"), [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)]
)
@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (HELLO[:-1], "1 of 5 bytes missing"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "EOF in the middle of a chunked body"),
        (HEAD, "EOF in the middle of a head"),
        (b"", "instead of answering"),
    ],
)
async def test_a_truncated_response_is_an_error_that_says_whether_a_retry_is_safe(method, safe, wire, message):
    async def cut(server):
        await answer(server, wire)
        await server.aclose()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut, server)
            with pytest.raises(trionet.RemoteProtocolError, match=message) as caught:
                await exchange(http, method)
        assert caught.value.retry_safe is safe
        assert ("a retry is safe" in str(caught.value)) is safe
        assert http.end.reason is Reason.PEER_EOF


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n",
    ],
)
async def test_a_malformed_response_ends_the_connection(wire):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, wire)
            with pytest.raises(trionet.RemoteProtocolError) as caught:
                await exchange(http)
            assert caught.value.retry_safe is None  # it would be answered in the same way
            assert "retry" not in str(caught.value)
        assert http.end.reason is Reason.PROTOCOL_ERROR
        with pytest.raises(trionet.HandleClosedError, match="nothing of the request was sent"):
            await exchange(http)


async def test_what_comes_unasked_is_not_taken_for_an_answer():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        await server.send_all(HELLO)
        await wait_readable(http)
        assert not http.is_silent()
        with pytest.raises(trionet.LimitExceededError):
            await http.upgrade(Chat(say=b""))
        assert http.phase is Phase.OPEN  # and what the handshake had received is unread again
        with pytest.raises(trionet.RemoteProtocolError, match="sent bytes before a request was sent") as caught:
            await exchange(http, "POST")
        assert caught.value.retry_safe is True
        assert http.end.reason is Reason.PROTOCOL_ERROR
        assert await server.receive_some() == b""


async def test_a_reset_is_told_and_ends_the_connection():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:

            async def reset():
                await wait_all_tasks_blocked()
                server.abort()  # with a request unread: the system resets the connection

            nursery.start_soon(reset)
            with pytest.raises(trionet.HandleBrokenError, match="POST is not idempotent") as caught:
                await exchange(http, "POST")
        assert caught.value.retry_safe is False
        assert http.end.reason is Reason.PEER_RESET


async def test_informational_heads_pass_by():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                answer, server, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 X\r\n\r\n" + HELLO
            )
            response, body = await exchange(http)
        assert (response.status, body) == (200, b"hello")
        assert http._reuse.reusable


async def test_a_switch_of_protocols_leaves_the_byte_stream():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nHELLO\n"
            nursery.start_soon(answer, server, switching)
            async with http.request("GET", "/", headers={"Connection": "upgrade", "Upgrade": "chat"}) as response:
                assert response.status == 101
                with pytest.raises(trionet.LocalProtocolError, match="switched"):
                    await exchange(http)
                successor = await http.upgrade(Chat(say=b""))
        assert http.end.reason is Reason.UPGRADED
        assert successor.phase is Phase.OPEN


async def test_connect_opens_a_tunnel():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, b"HTTP/1.1 200 OK\r\n\r\n220 hello")
            async with http.request("CONNECT", "host.example:25") as response:
                tunnel = scope.adopt(response.connection.detach())
        assert await tunnel.receive_exactly(9) == b"220 hello"


# --- 100 (Continue) -----------------------------------------------------------------------------------------------


async def test_the_body_waits_for_100_continue(autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, http, "POST", "/", {"content": b"abc", "expect_continue": True})
            head = await server.receive_some()
            assert b"Expect: 100-continue" in head
            assert head.endswith(b"\r\n\r\n")
            began = trio.current_time()
            await server.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await server.receive_exactly(3) == b"abc"
            assert trio.current_time() - began < 0.5
            await server.send_all(HELLO)
        assert http._reuse.reusable


async def test_the_body_waits_for_one_second_at_most(autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(exchange, http, "POST", "/", {"content": b"abc", "expect_continue": True})
            await server.receive_until(b"\r\n\r\n", max_bytes=999)
            assert await server.receive_exactly(3) == b"abc"
            assert trio.current_time() - began == pytest.approx(1)
            await server.send_all(HELLO)
        assert http._reuse.reusable


async def test_a_refusal_instead_of_100_spares_the_body():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_expectation, server)
            async with http.request("POST", "/", content=b"abc", expect_continue=True) as response:
                assert response.status == 417
                assert await response.read() == b"no"
        assert http.phase is Phase.CLOSED
        assert await server.receive_some() == b""


async def answer_expectation(server):
    await server.receive_until(b"\r\n\r\n", max_bytes=999)
    await server.send_all(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
