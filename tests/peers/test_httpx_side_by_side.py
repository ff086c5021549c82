"""What programs do with `httpx.AsyncHTTPTransport`, done with it and with trionet's, which has to do the same."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import trio
import trio.testing
import trustme

import trionet
from trionet.httpx import TrionetTransport
from trionet.httpx.home import Home

from ..helpers.pairs import open_descriptors
from ..stories.test_cancel_everywhere import at_every_checkpoint

Transport = Callable[..., httpx.AsyncBaseTransport]

WHO: ContextVar[str] = ContextVar("WHO")
ANSWER = b"HTTP/1.1 200 Fine\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"


@pytest.fixture(params=[httpx.AsyncHTTPTransport, partial(TrionetTransport, trust_env=False)], ids=["httpx", "trionet"])
def transport(request: pytest.FixtureRequest) -> Transport:
    make: Transport = request.param
    return make


def client(make: Transport, **options: Any) -> httpx.AsyncClient:
    options.setdefault("verify", False)  # loading certificates takes longer than most of these tests
    names = {"timeout", "follow_redirects"} & set(options)
    of_client = {"timeout": 5, **{name: options.pop(name) for name in names}}
    return httpx.AsyncClient(transport=make(**options), **of_client)


async def read_head(conn: trionet.Connection) -> bytes:
    return await conn.receive_until(b"\r\n\r\n", max_bytes=65536)


async def say_hello(conn: trionet.Connection) -> None:
    with suppress(trio.BrokenResourceError):
        while await conn.peek(1):
            await read_head(conn)
            await conn.send_all(ANSWER)


async def half(conn: trionet.Connection) -> None:
    await read_head(conn)
    await conn.send_all(HALF)
    await trio.sleep_forever()


async def silent(conn: trionet.Connection) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def serving(handler: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(partial(trionet.serve_tcp, handler, 0, ssl_context=context))
        yield f"http://127.0.0.1:{server.port}" if context is None else f"https://localhost:{server.port}"
        scope.cancel()


@pytest.fixture
def contexts(ca: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's, for localhost and other.example, and that of a client who trusts it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "other.example").configure_cert(server)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    return server, trusting


# --- open and closed -----------------------------------------------------------------------------------------------


async def test_it_works_without_being_entered_and_again_after_its_close(transport: Transport) -> None:
    async with serving(say_hello) as url:
        one = transport()
        for _ in range(2):
            for _ in range(2):
                response = await one.handle_async_request(httpx.Request("GET", url))
                assert await response.aread() == b"hello"
            await one.aclose()
            await one.aclose()


async def test_a_client_that_is_not_entered(transport: Transport) -> None:
    async with serving(say_hello) as url:
        http = client(transport)
        assert (await http.get(url)).text == "hello"
        await http.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await http.get(url)


async def test_it_is_entered_in_one_task_used_in_another_and_left_in_a_third(transport: Transport) -> None:
    """A framework calls startup and shutdown hooks from wherever it likes."""
    async with serving(say_hello) as url:
        http = client(transport)

        async def use() -> None:
            assert (await http.get(url)).text == "hello"

        for step in (http.__aenter__, use, use, partial(http.__aexit__, None, None, None)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(step)
                nursery.start_soon(trio.lowlevel.checkpoint)


async def test_they_are_closed_in_another_order_than_opened(transport: Transport) -> None:
    async with serving(say_hello) as url:
        one, other = client(transport), client(transport)
        await one.__aenter__()
        await one.get(url)
        async with trio.open_nursery() as nursery:
            await other.__aenter__()
            nursery.start_soon(other.get, url)
            await other.get(url)
            await one.__aexit__(None, None, None)
        await other.get(url)
        async with AsyncExitStack() as stack:
            third = await stack.enter_async_context(client(transport))
            await other.__aexit__(None, None, None)
            assert (await third.get(url)).text == "hello"


async def test_leaving_it_with_an_open_response_takes_no_time(
    transport: Transport, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(half) as url:
        began = trio.current_time()
        async with client(transport) as http:
            response = await http.send(http.build_request("GET", url), stream=True)
            assert response.status_code == 200
        assert trio.current_time() == began
        with pytest.raises(httpx.ReadError):
            await response.aread()


async def test_closing_it_cuts_off_another_tasks_request(transport: Transport) -> None:
    async with serving(silent) as url, trio.open_nursery() as nursery:
        http = client(transport)
        caught = []

        async def ask(content: bytes) -> None:
            with pytest.raises(httpx.ReadError) as info:
                await http.post(url, content=content)
            caught.append(info)

        nursery.start_soon(ask, b"body")
        await trio.testing.wait_all_tasks_blocked()
        await http.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(caught) == 1


async def test_whoever_waits_for_a_slot_is_told_when_it_is_closed() -> None:
    limits = httpx.Limits(max_connections=1)
    async with serving(silent) as url, trio.open_nursery() as nursery:
        http = client(TrionetTransport, limits=limits)

        async def ask(error: type[Exception]) -> None:
            with pytest.raises(error):
                await http.get(url)

        nursery.start_soon(ask, httpx.ReadError)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, httpx.ConnectError)
        await trio.testing.wait_all_tasks_blocked()
        await http.aclose()


async def test_it_can_be_closed_by_a_task_that_is_cancelled(transport: Transport) -> None:
    async with serving(say_hello) as url:
        before = open_descriptors()
        http = client(transport)
        await http.get(url)
        with trio.CancelScope() as scope:
            scope.cancel()
            await http.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert open_descriptors() == before


@pytest.mark.parametrize("size", [0, 3, 1_000_000])
async def test_cancelled_at_every_checkpoint_nothing_is_left(size: int) -> None:
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(trionet.serve_tcp, answer_all, 0)
        url = f"http://127.0.0.1:{server.port}"

        async def scenario(cancelling: Any) -> None:
            http = client(TrionetTransport, limits=httpx.Limits(max_connections=1))
            with cancelling.scope:
                async with http.stream("PUT", url, content=b"x" * size or None) as response:
                    assert await response.aread() == b"hello"
            home = http._transport._home  # type: ignore[attr-defined]
            if home is not None:
                await trio.testing.wait_all_tasks_blocked()
                figures = home.pool.statistics()
                assert (figures.running, figures.waiting) == (0, 0)
                assert figures.open == figures.idle
            await http.aclose()
            while server.statistics().open:
                await trio.testing.wait_all_tasks_blocked()

        assert await at_every_checkpoint(scenario) > 3
        scope.cancel()


def test_under_asyncio_the_error_says_what_is_missing() -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=TrionetTransport(verify=False)) as http:
            await http.get("http://127.0.0.1:1/")

    with pytest.raises(RuntimeError, match=r"needs Trio.*trio\.run"):
        asyncio.run(main())


def test_one_transport_in_two_runs(transport: Transport) -> None:
    one = transport()

    async def main() -> None:
        async with serving(say_hello) as url:
            response = await one.handle_async_request(httpx.Request("GET", url))
            assert await response.aread() == b"hello"
            await one.aclose()

    trio.run(main)
    trio.run(main)


def test_one_that_nobody_closes_ends_with_the_run() -> None:
    before = open_descriptors()
    one = TrionetTransport(trust_env=False)
    made = []

    async def main() -> None:
        async with serving(half) as url:
            response = await one.handle_async_request(httpx.Request("GET", url))
            made.append(response)
            assert one.pool.statistics().open == 1

    trio.run(main)
    assert open_descriptors() == before
    trio.run(main)
    assert open_descriptors() == before
    trio.run(one.aclose)


async def test_one_that_is_collected_ends_then() -> None:
    async with serving(say_hello) as url:
        before = trio.lowlevel.current_statistics().tasks_living
        one = TrionetTransport(trust_env=False)
        response = await one.handle_async_request(httpx.Request("GET", url))
        await response.aread()
        del response
        kept = [one]
        del one
        with pytest.warns(ResourceWarning, match="unclosed TrionetTransport"):
            kept.clear()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_task_behind_it_that_fails_is_logged_and_the_next_request_opens_it_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    async with serving(say_hello) as url:
        one = TrionetTransport(trust_env=False)
        response = await one.handle_async_request(httpx.Request("GET", url))
        await response.aread()
        home = one._home
        assert isinstance(home, Home)
        assert home._owner is not None
        with caplog.at_level(logging.ERROR, "trionet.httpx"):
            home._owner.services.start_soon(broken)
            await trio.testing.wait_all_tasks_blocked()
        (record,) = caplog.records
        assert record.exc_info is not None
        assert home.over
        caplog.clear()
        response = await one.handle_async_request(httpx.Request("GET", url))
        assert await response.aread() == b"hello"
        await one.aclose()


# --- errors --------------------------------------------------------------------------------------------------------

WRONG = [
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:65536/",
    "http://127.0.0.1:-1/",
    "ftp://127.0.0.1/",
    "http://exa mple.invalid/",
    "http://[::1%25lo]:1/",
    f"http://{'a.' * 140}b/",
]


async def error_of(http: httpx.AsyncClient, url: str) -> type[BaseException]:
    with pytest.raises(httpx.HTTPError) as info:
        await http.get(url)
    return info.type


@pytest.mark.parametrize("url", WRONG)
async def test_urls_that_lead_nowhere(url: str) -> None:
    async with client(httpx.AsyncHTTPTransport) as peer, client(TrionetTransport, trust_env=False) as ours:
        assert await error_of(ours, url) is await error_of(peer, url)


@pytest.mark.parametrize("location", [*WRONG, "http://127.0.0.1:abc/", "http://[::1/"])
async def test_redirects_that_lead_nowhere(location: str) -> None:
    async def redirect(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location.encode())

    async with (
        serving(redirect) as url,
        client(httpx.AsyncHTTPTransport, follow_redirects=True) as peer,
        client(TrionetTransport, trust_env=False, follow_redirects=True) as ours,
    ):
        assert await error_of(ours, url) is await error_of(peer, url)


async def test_a_host_that_is_none_is_a_connect_error() -> None:
    async with client(TrionetTransport, trust_env=False) as http:
        for url in ("http://a..b/", f"http://{'a' * 64}.example/"):  # UnicodeError with httpx's own
            assert await error_of(http, url) is httpx.ConnectError


# HTTPX leaves the iterator of a body that it could not send to the collector.
left_to_the_collector = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@left_to_the_collector
@pytest.mark.parametrize("size", [1, 20_000, 10_000_000])
async def test_the_write_timeout_counts_for_a_body_in_memory(
    transport: Transport, autojump_clock: trio.testing.MockClock, size: int
) -> None:
    async with serving(silent) as url, client(transport, timeout=httpx.Timeout(9, write=0.5)) as http:
        with pytest.raises(httpx.WriteTimeout if size > 1_000_000 else httpx.ReadTimeout):
            await http.post(url, content=b"x" * size)


@left_to_the_collector
async def test_only_a_write_timeout(transport: Transport, autojump_clock: trio.testing.MockClock) -> None:
    async with serving(silent) as url, client(transport, timeout=httpx.Timeout(None, write=0.5)) as http:
        began = trio.current_time()
        with pytest.raises(httpx.WriteTimeout):
            await http.post(url, content=b"x" * 10_000_000)
        assert trio.current_time() - began == pytest.approx(0.5)


async def test_a_body_in_memory_that_is_taken_slowly_is_not_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    """The time counts while nothing moves."""
    size = 20_000_000

    async def slow(conn: trionet.Connection) -> None:
        await read_head(conn)
        left = size
        while left:
            left -= len(await conn.receive_exactly(min(left, 2_000_000)))
            await trio.sleep(0.3)
        await conn.send_all(ANSWER)

    async with serving(slow) as url, client(TrionetTransport, timeout=httpx.Timeout(9, write=0.5)) as http:
        response = await http.post(url, content=b"x" * size)
        assert response.text == "hello"
        assert trio.current_time() > 2


async def test_the_producer_of_a_body_has_the_context_of_the_request(transport: Transport) -> None:
    seen = []

    async def pieces() -> AsyncIterator[bytes]:
        seen.append(WHO.get())
        yield b"x"

    async with serving(answer_all) as url, client(transport) as http:
        WHO.set("me")
        assert (await http.post(url, content=pieces())).text == "hello"
    assert seen == ["me"]


async def test_a_large_body_in_memory_is_sent_again_where_that_is_safe() -> None:
    heads = []

    async def two_halves(conn: trionet.Connection) -> None:
        with suppress(trio.BrokenResourceError):
            await read_head(conn)
            await conn.send_all(ANSWER)
            heads.append(await read_head(conn))
            if len(heads) > 1:
                await conn.receive_exactly(100_000)
                await conn.send_all(ANSWER)

    async def handler(conn: trionet.Connection) -> None:
        if heads:
            head = await read_head(conn)
            assert b"Content-Length: 100000\r\n" in head
            await conn.receive_exactly(100_000)
            await conn.send_all(ANSWER)
        else:
            await two_halves(conn)

    async with serving(handler) as url, client(TrionetTransport, trust_env=False) as http:
        await http.get(url)
        response = await http.put(url, content=b"x" * 100_000)
        assert response.text == "hello"


# --- extensions ----------------------------------------------------------------------------------------------------


def tracer(events: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    async def trace(event: str, info: dict[str, Any]) -> None:
        events.append((event, info))

    return {"trace": trace}


Ask = Callable[[httpx.AsyncClient, str, dict[str, Any]], Any]


async def twice(http: httpx.AsyncClient, url: str, extensions: dict[str, Any]) -> None:
    for _ in range(2):
        await http.get(url, extensions=extensions)


async def post(http: httpx.AsyncClient, url: str, extensions: dict[str, Any]) -> None:
    await http.post(url, content=b"x" * 3, extensions=extensions)


async def post_much(http: httpx.AsyncClient, url: str, extensions: dict[str, Any]) -> None:
    await http.post(url, content=b"x" * 50_000, extensions=extensions)


async def post_pieces(http: httpx.AsyncClient, url: str, extensions: dict[str, Any]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    await http.post(url, content=pieces(), extensions=extensions)


async def connect_in_vain(http: httpx.AsyncClient, url: str, extensions: dict[str, Any]) -> None:
    with pytest.raises(httpx.ConnectError):
        await http.get("http://127.0.0.1:1/", extensions=extensions)


async def answer_all(conn: trionet.Connection) -> None:
    with suppress(trio.BrokenResourceError):
        while await conn.peek(1):
            head = await read_head(conn)
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length: ") and line[16:] != b"0":
                    await conn.receive_exactly(int(line[16:]))
            if b"chunked" in head:
                await conn.receive_until(b"0\r\n\r\n", max_bytes=99)
            await conn.send_all(ANSWER)


@pytest.mark.parametrize("ask", [twice, post, post_much, post_pieces, connect_in_vain])
@pytest.mark.parametrize("secure", [False, True])
async def test_trace(ask: Ask, secure: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, trusting = contexts
    seen = []
    async with serving(answer_all, server if secure else None) as url:
        for make in (httpx.AsyncHTTPTransport, TrionetTransport):
            events: list[tuple[str, dict[str, Any]]] = []
            async with client(make, verify=trusting, trust_env=False, retries=1) as http:
                await ask(http, url, tracer(events))
            seen.append([(event, keys(event, info)) for event, info in events])
    assert seen[0] == seen[1]
    assert seen[0]


def keys(event: str, info: dict[str, Any]) -> Any:
    if event == "http11.receive_response_headers.complete":
        version, status, reason, headers = info["return_value"]
        return version, status, reason, sorted(headers)
    if event.startswith("connection.retry"):
        return None
    return sorted(info)


async def test_trace_tells_of_a_response_that_does_not_come(autojump_clock: trio.testing.MockClock) -> None:
    seen = []
    async with serving(silent) as url:
        for make in (httpx.AsyncHTTPTransport, TrionetTransport):
            events: list[tuple[str, dict[str, Any]]] = []
            async with client(make, trust_env=False) as http:
                with pytest.raises(httpx.ReadTimeout):
                    await http.get(url, extensions=tracer(events))
            seen.append([event for event, _ in events])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("size", [3, 50_000])
async def test_a_trace_that_raises_leaves_nothing_behind(
    size: int, secure: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, trusting = contexts
    async with serving(answer_all, server if secure else None) as url:
        failing = 0
        while True:
            left = failing

            async def trace(event: str, info: dict[str, Any]) -> None:
                nonlocal left
                left -= 1
                if left == -1:
                    raise ZeroDivisionError

            http = client(TrionetTransport, verify=trusting)
            with suppress(ZeroDivisionError):
                await http.put(url, content=b"x" * size, extensions={"trace": trace})
            home = http._transport._home  # type: ignore[attr-defined]
            figures = home.pool.statistics()
            assert (figures.running, figures.waiting) == (0, 0), failing
            assert figures.open == figures.idle == len(home._owner.members), failing
            assert (await http.get(url)).text == "hello"
            await http.aclose()
            if left >= 0:
                break
            failing += 1
        assert failing > 8


async def test_a_trace_that_is_not_async_is_refused(transport: Transport) -> None:
    async with serving(say_hello) as url, client(transport) as http:
        with pytest.raises(TypeError, match="async"):
            await http.get(url, extensions={"trace": lambda event, info: None})


async def test_sni_hostname(transport: Transport, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, trusting = contexts
    names = []
    server.sni_callback = lambda tls, name, context: names.append(name)
    async with serving(say_hello, server) as url, client(transport, verify=trusting) as http:
        address = url.replace("localhost", "127.0.0.1")
        response = await http.get(address, extensions={"sni_hostname": "other.example"})
        assert response.text == "hello"
        assert response.request.headers["host"].startswith("127.0.0.1")
    async with serving(say_hello, server) as url, client(transport, verify=trusting) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url, extensions={"sni_hostname": "third.example"})
    assert names == ["other.example", "third.example"]


async def test_a_connection_for_one_name_is_not_used_for_another(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, trusting = contexts
    names = []
    server.sni_callback = lambda tls, name, context: names.append(name)
    async with serving(say_hello, server) as url, client(TrionetTransport, verify=trusting) as http:
        for name in (None, "other.example", None, "other.example"):
            await http.get(url, extensions={"sni_hostname": name})
    assert names == ["localhost", "other.example"]


async def test_the_network_stream_knows_the_connection(
    transport: Transport, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, trusting = contexts
    for context in (None, server):
        async with serving(say_hello, context) as url, client(transport, verify=trusting) as http:
            response = await http.send(http.build_request("GET", url), stream=True)
            stream = response.extensions["network_stream"]
            assert isinstance(stream, httpcore.AsyncNetworkStream)
            tls = stream.get_extra_info("ssl_object")
            assert (tls and tls.version()) == (context and "TLSv1.3")
            port = int(url.rpartition(":")[2])
            assert stream.get_extra_info("server_addr")[:2] == ("127.0.0.1", port)
            sock = stream.get_extra_info("socket")
            assert sock.getpeername() == stream.get_extra_info("server_addr")
            assert sock.getsockname() == stream.get_extra_info("client_addr")
            assert stream.get_extra_info("is_readable") is False
            assert stream.get_extra_info("nothing") is None
            assert sock.fileno() > 0
            await response.aread()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst"
UPGRADE = {"Connection": "upgrade", "Upgrade": "echo"}


async def test_the_network_stream_behind_101(transport: Transport, autojump_clock: trio.testing.MockClock) -> None:
    ended = trio.Event()

    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(SWITCH)
        await conn.send_all(await conn.receive_exactly(4))
        assert await conn.receive_some() == b""
        ended.set()

    async with serving(handler) as url, client(transport) as http:
        async with http.stream("GET", url, headers=UPGRADE) as response:
            assert response.status_code == 101
            stream = response.extensions["network_stream"]
            assert await stream.read(3) == b"fir"
            assert await stream.read(99) == b"st"
            await stream.write(b"ping", timeout=1)
            assert await stream.read(99, timeout=1) == b"ping"
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(99, timeout=1)
        with trio.fail_after(5):
            await ended.wait()  # closing the response closes it
        with pytest.raises(httpcore.ReadError):
            await stream.read(1)


async def test_a_websocket_url_is_asked_like_any_other(transport: Transport) -> None:
    async with serving(say_hello) as url, client(transport) as http:
        assert (await http.get(url.replace("http", "ws"))).text == "hello"


async def test_the_network_stream_behind_connect_takes_tls(
    transport: Transport, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, trusting = contexts

    async def handler(conn: trionet.Connection) -> None:
        assert (await read_head(conn)).startswith(b"CONNECT localhost:443 HTTP/1.1\r\n")
        await conn.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        secure = await conn.upgrade(trionet.to_tls_server(server))
        await secure.send_all(await secure.receive_some())
        await secure.receive_some()

    async with serving(handler) as url, client(transport) as http:
        request = http.build_request("CONNECT", url, extensions={"target": b"localhost:443"})
        response = await http.send(request, stream=True)
        assert response.status_code == 200
        stream = await response.extensions["network_stream"].start_tls(trusting, "localhost", 5)
        await stream.write(b"over TLS")
        assert await stream.read(99) == b"over TLS"
        assert stream.get_extra_info("ssl_object").version() == "TLSv1.3"
        await stream.aclose()
        await response.aclose()


async def test_the_network_stream_of_a_response_like_any_other_is_not_read() -> None:
    async with (
        serving(half) as url,
        client(TrionetTransport, trust_env=False) as http,
        http.stream("GET", url) as response,
    ):
        stream = response.extensions["network_stream"]
        for act in (stream.read(1), stream.write(b"x"), stream.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "x")):
            with pytest.raises(httpcore.LocalProtocolError, match="carries HTTP"):
                await act


# --- what it is made with ------------------------------------------------------------------------------------------


async def test_socket_options(transport: Transport) -> None:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)]
    async with serving(say_hello) as url, client(transport, socket_options=options) as http:
        sock = (await http.get(url)).extensions["network_stream"].get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77


async def test_local_address(transport: Transport) -> None:
    async with serving(say_hello) as url, client(transport, local_address="127.0.0.7") as http:
        stream = (await http.get(url)).extensions["network_stream"]
        assert stream.get_extra_info("client_addr")[0] == "127.0.0.7"


async def test_uds(transport: Transport, tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    async with trionet.open_scope(drain_timeout=0) as scope:
        await scope.start(trionet.serve_unix, say_hello, path)
        async with client(transport, uds=path) as http:
            response = await http.get("http://host.example/")
            assert response.text == "hello"
            assert response.extensions["network_stream"].get_extra_info("server_addr") == path
        scope.cancel()


@pytest.mark.parametrize("kept", [0, 1, None])
@pytest.mark.parametrize("expiry", [0.0, 5.0, None])
async def test_limits(transport: Transport, kept: int | None, expiry: float | None) -> None:
    accepted = []

    async def handler(conn: trionet.Connection) -> None:
        accepted.append(conn)
        await say_hello(conn)

    limits = httpx.Limits(max_connections=2, max_keepalive_connections=kept, keepalive_expiry=expiry)
    async with serving(handler) as url, client(transport, limits=limits) as http:
        for _ in range(2):
            await http.get(url)
        assert len(accepted) == (2 if kept == 0 or expiry == 0 else 1)


@pytest.mark.filterwarnings("ignore:.*cert=:DeprecationWarning", "ignore:.*verify=:DeprecationWarning")
async def test_verify_and_cert(transport: Transport, ca: trustme.CA, tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server)
    ca.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    mine = ca.issue_cert("me@host.example")
    path = tmp_path / "me.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(path)
    context = httpx.create_ssl_context(verify=False, cert=str(path))
    async with serving(say_hello, server) as url:
        async with client(transport, verify=context) as http:
            assert (await http.get(url)).text == "hello"
        async with client(transport, verify=False, cert=str(path)) as http:
            assert (await http.get(url)).text == "hello"
        async with client(transport, verify=True) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(url)


async def test_fields_for_a_proxy(transport: Transport, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, trusting = contexts
    heads = []

    async def handler(conn: trionet.Connection) -> None:
        heads.append(await read_head(conn))
        if heads[-1].startswith(b"CONNECT"):
            await conn.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            conn = await conn.upgrade(trionet.to_tls_server(server))
            heads.append(await read_head(conn))
        await conn.send_all(ANSWER)
        await conn.receive_some()

    async with serving(handler) as url:
        proxy = httpx.Proxy(url, auth=("user", "pass"), headers={"X-For-Proxy": "yes"})
        async with client(transport, proxy=proxy, verify=trusting) as http:
            await http.get("http://host.example:81/a?")
            await http.get("https://localhost/")
    forwarded, connect, inner = heads
    assert forwarded.startswith(b"GET http://host.example:81/a")
    for head in (forwarded, connect):
        assert b"\r\nX-For-Proxy: yes\r\n" in head
        assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in head
        assert head.lower().count(b"\r\nhost:") == 1
    assert b"X-For-Proxy" not in inner
    assert b"Proxy-Authorization" not in inner


async def test_a_websocket_url_asks_a_proxy_for_a_tunnel() -> None:
    heads = []

    async def handler(conn: trionet.Connection) -> None:
        heads.append(await read_head(conn))
        await conn.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        heads.append(await read_head(conn))
        await conn.send_all(ANSWER)
        await conn.receive_some()

    async with serving(handler) as url, client(TrionetTransport, proxy=url) as http:
        assert (await http.get("ws://host.example/a")).text == "hello"
    assert heads[0].startswith(b"CONNECT host.example:80 HTTP/1.1\r\n")
    assert heads[1].startswith(b"GET /a HTTP/1.1\r\n")


async def test_tls_to_a_proxy_has_a_context_of_its_own(
    transport: Transport, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, trusting = contexts
    async with serving(say_hello, server) as url:
        async with client(transport, proxy=httpx.Proxy(url, ssl_context=trusting)) as http:
            assert (await http.get("http://host.example/")).text == "hello"
        async with client(transport, proxy=url, verify=trusting) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get("http://host.example/")


def test_it_may_be_used_in_another_thread(transport: Transport) -> None:
    """Made here, used in a run of another thread."""
    one = transport()
    seen = []

    async def main() -> None:
        async with serving(say_hello) as url, httpx.AsyncClient(transport=one) as http:
            seen.append((await http.get(url)).text)

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    thread.join()
    assert seen == ["hello"]
