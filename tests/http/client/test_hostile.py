"""The HTTP client against those who mean it ill, or who are careless: servers, proxies, producers, hooks, callers."""

from __future__ import annotations

import contextlib
import contextvars
import gzip
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet.http.protocol.limits import HTTPLimits
from trionet.scope.opening import open_http_client

from ...helpers.http_by_hand import HELLO, Asked, http_pair, read_request, serving


async def get(client: trionet.HTTPClient, url: str, **options: Any) -> tuple[int, bytes]:
    async with client.request("GET", url, **options) as response:
        return response.status, await response.read()


def coded(coding: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (coding, len(body)) + body


@contextlib.asynccontextmanager
async def answering_early() -> AsyncIterator[str]:
    """A server that answers each request behind its head, and reads no body."""

    async def handle(connection: trionet.Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await connection.receive_until(b"\r\n\r\n", max_bytes=65536):
                await connection.send_all(HELLO)
                await connection.wait_ended()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handle, 0)
        yield f"http://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


# --- half a body is never taken for a whole one -----------------------------------------------------------------


async def test_what_was_drained_is_not_taken_for_an_empty_body():
    async with serving(HELLO) as server, open_http_client() as client:
        async with client.request("GET", server.url) as response:
            pass
        assert client.statistics().idle == 1
        with pytest.raises(trionet.HandleClosedError, match="inside it"):
            await response.read()
        with pytest.raises(trionet.HandleClosedError, match="inside it"):
            await anext(response)
        async with client.request("GET", server.url) as response:
            assert await response.read() == b"hello"
        assert await response.read() == b"hello"  # this one was read inside
        assert [piece async for piece in response] == []


async def test_a_block_that_is_left_while_another_task_reads_gives_that_no_short_body():
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1500 + b"0\r\n\r\n"
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        await server.send_all(wire)
        got: list[object] = []

        async def read(response: trionet.Response) -> None:
            try:
                got.append(await response.read())
            except trionet.HandleClosedError as exc:
                got.append(exc)

        async with trio.open_nursery() as nursery, http.request("GET", "/") as response:
            nursery.start_soon(read, response)
            await trio.lowlevel.checkpoint()  # it has read a part, and lets others have their turn
        assert isinstance(got[0], trionet.HandleClosedError)
        assert http._reuse.reusable  # the rest was drained


async def test_a_coded_body_that_is_cut_off_stays_an_error():
    async with (
        serving(coded(b"gzip", gzip.compress(b"x" * 1000)[:-9])) as server,
        open_http_client() as client,
        client.request("GET", server.url) as response,
    ):
        for _ in range(2):
            with pytest.raises(trionet.RemoteProtocolError, match="in the middle of its gzip data"):
                await response.read()


async def test_a_body_that_decodes_to_nothing_for_long_leaves_others_their_turns():
    backport = pytest.importorskip("backports.zstd")
    empty = backport.compress(b"")
    wire = coded(b"zstd, zstd", backport.compress(empty * 200_000))  # 100 bytes, that need a second
    assert len(wire) < 400
    async with serving(wire) as server, open_http_client() as client, client.request("GET", server.url) as response:
        with trio.move_on_after(0.05) as deadline:
            await response.read()
        assert deadline.cancelled_caught


async def test_a_body_in_tiny_chunks_costs_no_more_memory_than_its_length_and_leaves_others_their_turns():
    size = 200_000
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nab\r\n" * size + b"0\r\n\r\n"
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with serving(wire) as server, open_http_client() as client, client.request("GET", server.url) as response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            with pytest.raises(trionet.LimitExceededError):
                await response.read(2 * size - 1)
            nursery.cancel_scope.cancel()
        assert len(response._parts) < 2000
        assert turns > size / 2000
        assert await response.read() == b"ab" * size


# --- deadlines, contexts and generators around a request --------------------------------------------------------


async def endless(*first: bytes) -> AsyncIterator[bytes]:
    for piece in first:
        yield piece
    await trio.sleep_forever()


async def test_a_deadline_may_end_before_the_block_does():
    async with answering_early() as url, open_http_client() as client, contextlib.AsyncExitStack() as stack:
        with trio.fail_after(5):
            request = client.request("POST", url, content=endless(b"x"))
            response = await stack.enter_async_context(request)
        assert await response.read() == b"hello"


async def test_blocks_need_not_be_left_in_the_order_in_which_they_were_entered():
    async with answering_early() as url, open_http_client() as client:
        one, two = (client.request("POST", url, content=endless(b"x")) for _ in range(2))
        first, second = await one.__aenter__(), await two.__aenter__()
        assert await first.read() == b"hello"
        await one.__aexit__(None, None, None)
        assert await second.read() == b"hello"
        await two.__aexit__(None, None, None)
        assert client.statistics().open == 0


async def test_a_producer_has_the_context_of_the_request():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def produce() -> AsyncIterator[bytes]:
        yield variable.get().encode()

    async with serving(HELLO) as server, open_http_client() as client:
        variable.set("mine")
        async with client.request("POST", server.url, content=produce()):
            assert server.asked[0].body == b"mine"


async def test_a_producer_ends_with_the_request_that_is_cancelled():
    ended = []

    async def produce() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await trio.sleep_forever()
        finally:
            ended.append("producer")

    async def handle(connection: trionet.Connection, asked: Asked) -> None:
        raise AssertionError("the request was never complete")

    async with serving(handle) as server, open_http_client() as client:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    async with client.request("POST", server.url, content=produce()):
                        raise AssertionError

                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert ended == ["producer"]
        figures = client.statistics()
        assert (figures.open, figures.running) == (0, 0)


# --- errors are told as they are --------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [False, True])
async def test_an_error_of_trionet_that_the_producer_raised_is_the_producers(early):
    """Its source may be a connection of its own: what is safe for that says nothing about this request."""

    async def produce() -> AsyncIterator[bytes]:
        yield b"x"
        await wait_all_tasks_blocked()
        raise trionet.HandleBrokenError("the source is gone")

    async with contextlib.AsyncExitStack() as stack:
        if early:
            url = await stack.enter_async_context(answering_early())
        else:
            url = (await stack.enter_async_context(serving(HELLO))).url
        client = await stack.enter_async_context(open_http_client())
        with pytest.raises(trionet.HandleBrokenError) as caught:
            async with client.request("POST", url, content=produce()) as response:
                await response.read()
                await wait_all_tasks_blocked()
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert str(caught.value) == "the source is gone"
        assert caught.value.retry_safe is None


async def test_hooks_may_give_fields_and_urls_in_any_form():
    def change(request: trionet.HTTPRequest) -> None:
        assert isinstance(request, trionet.HTTPRequest)
        request.headers = [("X-Changed", "yes")]  # type: ignore[assignment]
        request.url = request.url.with_user("user").with_password("secret")

    async with (
        serving(HELLO) as server,
        open_http_client(event_hooks={"request": [change]}) as client,
        client.request("GET", server.url) as response,
    ):
        assert "secret" not in str(response.url)
    assert server.asked[0].fields["x-changed"] == "yes"


async def test_a_hook_may_not_split_a_request():
    def split(request: trionet.HTTPRequest) -> None:
        request.headers = [("X-A", "b\r\nX-B: c")]  # type: ignore[assignment]

    async with serving(HELLO) as server, open_http_client(event_hooks={"request": [split]}) as client:
        with pytest.raises(ValueError, match="control character"):
            await get(client, server.url)
    assert not server.asked


# --- where a request goes ---------------------------------------------------------------------------------------


async def test_a_url_below_base_url_may_have_another_url_in_its_query():
    async with serving(HELLO) as server, open_http_client(base_url=f"{server.url}/api") as client:
        await get(client, "/login?next=http://evil.example/")
        await get(client, "go/http://evil.example/")
        await get(client, f"{server.url}/else")
        assert [asked.target for asked in server.asked] == [
            "/api/login?next=http://evil.example/",
            "/api/go/http://evil.example/",
            "/else",
        ]


@pytest.mark.parametrize("url", ["//evil.example/", "@evil.example/", "\\\\evil.example/", "/../../x", ":80/x"])
async def test_what_is_appended_to_base_url_leads_nowhere_else(url):
    async with serving(HELLO) as server, open_http_client(base_url=server.url) as client:
        await get(client, url)
        assert server.asked[0].fields["host"] == f"127.0.0.1:{server.port}"


async def test_a_redirect_to_two_places_is_an_error():
    wire = b"HTTP/1.1 302 Found\r\nLocation: /one\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n"
    async with serving(wire) as server, open_http_client() as client:
        with pytest.raises(trionet.RemoteProtocolError, match="2 Location fields"):
            await get(client, server.url)
        assert len(server.asked) == 1


async def test_connect_is_for_a_connection_of_ones_own():
    async with serving(HELLO) as server, open_http_client() as client:
        with pytest.raises(trionet.LocalProtocolError, match="CONNECT"):
            async with client.request("CONNECT", server.url):
                pass
        assert not server.asked


# --- connections that somebody else has in hand -----------------------------------------------------------------


async def test_a_detach_that_was_cancelled_leaves_the_connection_in_the_pool():
    async with serving(HELLO) as server, open_http_client() as client:
        scope = trio.CancelScope()

        async def detach(http: trionet.HTTPClientConnection) -> None:
            with scope:
                await http.detach_when_idle()

        async with trio.open_nursery() as nursery:
            async with client.request("GET", server.url) as response:
                http = response.connection
                nursery.start_soon(detach, http)
                await wait_all_tasks_blocked()
                assert http.phase is trionet.Phase.RESERVED
                scope.cancel()
            assert http.phase is trionet.Phase.CLAIMED  # the rest was there, and the request is over
        assert http.phase is trionet.Phase.OPEN
        assert client.statistics().idle == client.statistics().open == 1
        await get(client, server.url)
        assert (server.accepted, client.statistics().reused) == (1, 1)


async def test_a_detach_that_goes_through_takes_the_connection_out_of_the_pool():
    async with serving(HELLO) as server, open_http_client() as client:
        async with trio.open_nursery() as nursery, client.request("GET", server.url) as response:
            http = response.connection
            nursery.start_soon(http.detach_when_idle)
            await wait_all_tasks_blocked()
            await response.read()
        assert http.phase is trionet.Phase.MOVED
        assert client.statistics().idle == client.statistics().open == 0


async def test_a_request_of_the_connections_own_is_not_killed_by_the_pool(autojump_clock):
    """Who keeps the connection of a response may use it as long as the pool does not; then the pool has to wait."""
    go_on = trio.Event()

    async def answer(connection: trionet.Connection, asked: Asked) -> None:
        if asked.target == "/slow":
            await go_on.wait()
        await connection.send_all(HELLO)

    async with serving(answer) as server, open_http_client(max_connections=2) as client:
        async with client.request("GET", server.url) as response:
            kept = response.connection
            await response.read()
        got = []

        async def ask(http: trionet.HTTPClientConnection) -> None:
            async with http.request("GET", "/slow") as slow:
                got.append(await slow.read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, kept)
            await wait_all_tasks_blocked()
            assert await get(client, server.url) == (200, b"hello")  # on another one
            await trio.sleep(3)  # the pool has looked after its connections
            await trio.sleep(200)
            go_on.set()
        assert got == [b"hello"]
        assert kept.phase is trionet.Phase.OPEN
        await get(client, server.url)
        assert server.accepted == 2


# --- TLS --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def noting_the_end(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[object]]]:
    """A TLS server that notes how each connection ends, after one request."""
    ends: list[object] = []

    async def handle(connection: trionet.Connection) -> None:
        await read_request(connection)
        await connection.send_all(HELLO)
        try:
            ends.append(await connection.receive_some())
        except trio.BrokenResourceError as exc:
            ends.append(exc)

    async def serve(*, task_status: Any) -> None:
        await trionet.serve_tcp(handle, 0, ssl_context=context, task_status=task_status)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        yield f"https://localhost:{server.port}", ends
        nursery.cancel_scope.cancel()


async def test_an_idle_tls_connection_that_expires_says_goodbye(client_context, server_context, autojump_clock):
    limits = HTTPLimits(idle_timeout=10)
    async with (
        noting_the_end(server_context) as (url, ends),
        open_http_client(ssl_context=client_context, limits=limits) as client,
    ):
        async with client.request("GET", url) as response:
            idle = response.connection
            await response.read()
        await trio.sleep(12)
        assert ends == [b""]
        assert idle.end.reason is trionet.Reason.IDLE_TIMEOUT
        assert client.statistics().open == 0


async def test_an_idle_tls_connection_that_makes_room_says_goodbye(client_context, server_context):
    async with (
        noting_the_end(server_context) as (url, ends),
        serving(HELLO) as other,
        open_http_client(ssl_context=client_context, max_connections=1) as client,
    ):
        async with client.request("GET", url) as response:
            idle = response.connection
            await response.read()
        await get(client, other.url)
        await idle.wait_ended()
        assert ends == [b""]
        assert client.statistics().open == client.statistics().idle == 1


async def test_goodbyes_are_bounded_in_number(client_context, server_context):
    """A server that never says goodbye itself could otherwise keep more and more connections for a second each."""

    async def handle(connection: trionet.Connection) -> None:
        await read_request(connection)
        await connection.send_all(HELLO)
        await connection.wait_ended()

    async def serve(*, task_status: Any) -> None:
        await trionet.serve_tcp(handle, 0, ssl_context=server_context, task_status=task_status)

    async with trio.open_nursery() as nursery:
        silent = await nursery.start(serve)
        async with serving(HELLO) as other, open_http_client(ssl_context=client_context, max_connections=1) as client:
            for _ in range(4):
                await get(client, f"https://localhost:{silent.port}")
                await get(client, other.url)
                assert client.statistics().open <= 2
            client.abort()
        nursery.cancel_scope.cancel()
