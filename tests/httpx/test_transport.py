"""HTTPX over trionet: `httpx.AsyncClient` with a transport of ours, against servers made by hand."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trustme

import trionet
from trionet.httpx import TrionetTransport

Handler = Callable[[trionet.Connection], Awaitable[None]]

ANSWER = b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello"


@asynccontextmanager
async def serving(handler: Handler, **options: Any) -> AsyncIterator[str]:
    """A server for the length of a block: its URL."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(trionet.serve_tcp, handler, 0)
        yield f"http://127.0.0.1:{server.port}"
        scope.cancel()


def client(**options: Any) -> httpx.AsyncClient:
    timeout = options.pop("timeout", 5)
    follow = options.pop("follow_redirects", False)
    return httpx.AsyncClient(
        transport=TrionetTransport(**{"trust_env": False, **options}), timeout=timeout, follow_redirects=follow
    )


def pool_of(http: httpx.AsyncClient) -> Any:
    transport = http._transport
    assert isinstance(transport, TrionetTransport)
    return transport.pool


async def read_head(conn: trionet.Connection) -> bytes:
    return await conn.receive_until(b"\r\n\r\n", max_bytes=65536)


async def read_chunked(conn: trionet.Connection) -> bytes:
    body = b""
    while size := int(await conn.receive_until(b"\r\n", max_bytes=20), 16):
        body += await conn.receive_exactly(size)
        await conn.receive_exactly(2)
    await conn.receive_exactly(2)
    return body


async def say_hello(conn: trionet.Connection) -> None:
    while await conn.peek(1):
        await read_head(conn)
        await conn.send_all(ANSWER)


async def test_a_request_and_its_response() -> None:
    heads = []

    async def handler(conn: trionet.Connection) -> None:
        heads.append(await read_head(conn))
        await conn.send_all(ANSWER)

    async with serving(handler) as url, client() as http:
        response = await http.get(f"{url}/a b?q=1", headers={"X-Mine": "yes"})
    assert (response.status_code, response.reason_phrase, response.text) == (200, "Fine", "hello")
    assert response.http_version == "HTTP/1.1"
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"GET /a%20b?q=1 HTTP/1.1"
    assert b"X-Mine: yes" in lines
    assert b"Host: " + url.removeprefix("http://").encode() in lines
    assert sum(line.lower().startswith(b"accept-encoding:") for line in lines) == 1


async def test_a_connection_is_used_again() -> None:
    async with serving(say_hello) as url, client() as http:
        for _ in range(3):
            response = await http.get(url)
            assert response.text == "hello"
        stream = response.extensions["network_stream"]
        assert stream.get_extra_info("server_addr")[1] == int(url.rpartition(":")[2])
        assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
        assert stream.get_extra_info("ssl_object") is None
        figures = pool_of(http).statistics()
        assert (figures.opened, figures.reused, figures.idle, figures.running) == (1, 2, 1, 0)


async def test_no_more_connections_are_kept_than_allowed() -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0, keepalive_expiry=None)
    async with serving(say_hello) as url, client(limits=limits) as http:
        await http.get(url)
        assert pool_of(http).statistics().idle == 0
        await http.get(url)
        assert pool_of(http).statistics().opened == 2


@pytest.mark.parametrize("size", [3, 3_000_000])
async def test_a_body_in_memory(size: int) -> None:
    async def handler(conn: trionet.Connection) -> None:
        while await conn.peek(1):
            head = await read_head(conn)
            assert f"Content-Length: {size}\r\n".encode() in head
            body = await conn.receive_exactly(size)
            await conn.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%07d" % body.count(b"x"))

    async with serving(handler) as url, client() as http:
        for _ in range(2):
            response = await http.post(url, content=b"x" * size)
            assert int(response.text) == size
        assert pool_of(http).statistics().opened == 1


async def test_a_body_that_is_made_as_it_is_sent() -> None:
    async def handler(conn: trionet.Connection) -> None:
        while await conn.peek(1):
            head = await read_head(conn)
            assert head.lower().count(b"transfer-encoding: chunked") == 1
            assert await read_chunked(conn) == b"onetwothree"
            await conn.send_all(ANSWER)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two", b"three"):
            await trio.lowlevel.checkpoint()
            yield piece

    async with serving(handler) as url, client() as http:
        for _ in range(2):
            assert (await http.post(url, content=pieces())).text == "hello"
        assert pool_of(http).statistics().opened == 1


async def test_a_response_before_the_body_has_ended() -> None:
    """The server refuses at once and reads no more; whoever only sends would wait for ever."""

    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await trio.sleep_forever()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await trio.lowlevel.checkpoint()

    async with serving(handler) as url:
        async with client() as http, http.stream("POST", url, content=endless()) as response:
            assert response.status_code == 413
            assert await response.aread() == b"no"
        async with client() as http:  # also where nobody closes the response before the client is left
            response = await http.send(http.build_request("POST", url, content=endless()), stream=True)
            assert response.status_code == 413


async def test_closing_a_response_can_be_cancelled() -> None:
    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        await trio.sleep_forever()

    async with serving(handler) as url, client() as http:
        for content in (None, b"body"):
            response = await http.send(http.build_request("POST", url, content=content), stream=True)
            with trio.CancelScope() as scope:
                scope.cancel()
                await response.aclose()
            await trio.testing.wait_all_tasks_blocked()
            figures = pool_of(http).statistics()
            assert (figures.open, figures.running) == (0, 0)


async def test_a_producer_that_fails_behind_the_head_of_the_response() -> None:
    class MineError(Exception):
        pass

    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await trio.sleep_forever()

    async def broken(proceed: trio.Event) -> AsyncIterator[bytes]:
        yield b"one"
        await proceed.wait()
        raise MineError

    async with serving(handler) as url, client() as http:
        proceed = trio.Event()
        with pytest.raises(MineError):
            async with http.stream("POST", url, content=broken(proceed)) as response:
                assert response.status_code == 200
                proceed.set()
                await response.aread()
        proceed = trio.Event()
        response = await http.send(http.build_request("POST", url, content=broken(proceed)), stream=True)
        proceed.set()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(MineError):
            await response.aclose()
        assert pool_of(http).statistics().running == 0


async def test_what_the_producer_of_a_body_raises_arrives_as_it_is() -> None:
    class MineError(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise MineError

    async with serving(say_hello) as url, client() as http:
        with pytest.raises(MineError):
            await http.post(url, content=broken())
        assert pool_of(http).statistics().open == 0
        assert (await http.get(url)).text == "hello"


async def test_a_response_is_read_as_it_comes() -> None:
    proceed = trio.Event()

    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await proceed.wait()
        await conn.send_all(b"3\r\ntwo\r\n0\r\n\r\n")
        await conn.receive_some()

    async with serving(handler) as url, client() as http:
        async with http.stream("GET", url) as response:
            chunks = response.aiter_bytes()
            assert await anext(chunks) == b"one"
            proceed.set()
            assert [chunk async for chunk in chunks] == [b"two"]
        assert pool_of(http).statistics().idle == 1


async def test_a_response_that_is_left_half_read_costs_its_connection() -> None:
    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nstart")
        await conn.receive_some()

    async with serving(handler) as url, client() as http:
        async with http.stream("GET", url) as response:
            assert response.status_code == 200
        assert pool_of(http).statistics().open == 0


async def test_a_response_may_be_closed_by_another_task_and_outside_of_a_cancel_scope() -> None:
    async with serving(say_hello) as url, client() as http:
        for content in (None, b"body", b"x" * 3_000_000):
            with trio.move_on_after(5):
                request = http.build_request("POST", url, content=content)
                response = await http.send(request, stream=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(response.aclose)
                nursery.start_soon(trio.lowlevel.checkpoint)
        await response.aclose()
        assert pool_of(http).statistics().running == 0


async def test_httpx_decodes_itself() -> None:
    body = gzip.compress(b"hello " * 1000)

    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
        await conn.send_all(head + body)

    async with serving(handler) as url, client() as http:
        assert (await http.get(url)).text == "hello " * 1000


async def test_httpx_follows_redirects_on_the_same_connection() -> None:
    async def handler(conn: trionet.Connection) -> None:
        while await conn.peek(1):
            if (await read_head(conn)).startswith(b"GET /first "):
                await conn.send_all(b"HTTP/1.1 302 Found\r\nLocation: /second\r\nContent-Length: 3\r\n\r\n...")
            else:
                await conn.send_all(ANSWER)

    async with serving(handler) as url, client(follow_redirects=True) as http:
        response = await http.get(f"{url}/first")
        assert response.url.path == "/second"
        assert [past.status_code for past in response.history] == [302]
        assert pool_of(http).statistics().opened == 1


async def test_a_connection_that_died_while_it_was_idle_is_replaced() -> None:
    async def one_each(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(ANSWER)

    async with serving(one_each) as url, client() as http:
        for _ in range(3):
            assert (await http.get(url)).text == "hello"
            await trio.testing.wait_all_tasks_blocked()
        assert pool_of(http).statistics().opened == 3


async def test_a_connection_that_dies_under_the_request_is_replaced_once_if_that_is_safe() -> None:
    """The server takes the second request and hangs up: that looks as if it had timed out while it was idle."""

    async def two_halves(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(ANSWER)
        await read_head(conn)

    async with serving(two_halves) as url, client() as http:
        await http.get(url)
        assert (await http.get(url)).text == "hello"
        assert pool_of(http).statistics().retried == 1
        with pytest.raises(httpx.RemoteProtocolError, match="instead of answering"):
            await http.post(url)


# --- what does not work out ----------------------------------------------------------------------------------------


async def silent(conn: trionet.Connection) -> None:
    await trio.sleep_forever()


async def test_timeouts(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(silent) as url:
        async with client(timeout=httpx.Timeout(7, read=3)) as http:
            began = trio.current_time()
            with pytest.raises(httpx.ReadTimeout, match="within 3 s"):
                await http.get(url)
            assert trio.current_time() - began == pytest.approx(3)
            assert pool_of(http).statistics().open == 0

            async def stuck() -> AsyncIterator[bytes]:
                await trio.sleep(100)  # the program's own time does not count
                while True:
                    yield b"x" * 65536

            began = trio.current_time()
            async with aclosing(stuck()) as body:
                with pytest.raises(httpx.WriteTimeout, match="for 7 s"):
                    await http.post(url, content=body)
            assert trio.current_time() - began == pytest.approx(107)

        limits = httpx.Limits(max_connections=1)
        async with client(timeout=httpx.Timeout(None, pool=2), limits=limits) as http, trio.open_nursery() as nursery:
            nursery.start_soon(http.get, url)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(httpx.PoolTimeout):
                await http.get(url)
            nursery.cancel_scope.cancel()


async def test_a_body_that_stops_coming(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await trio.sleep_forever()

    async with serving(handler) as url, client(timeout=4) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get(url)
        assert pool_of(http).statistics().open == 0


async def test_connecting_takes_too_long(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*args: Any, **kwargs: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    async with client(timeout=httpx.Timeout(9, connect=2), retries=2) as http:
        began = trio.current_time()
        with pytest.raises(httpx.ConnectTimeout):
            await http.get("http://127.0.0.1:1/")
        assert trio.current_time() - began == pytest.approx(3 * 2 + 0 + 0.5)


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_errors_are_those_of_httpx() -> None:
    async def garbage(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"SSH-2.0-x\r\n\r\n")

    async def short(conn: trionet.Connection) -> None:
        await read_head(conn)
        await conn.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with client() as http:
        with pytest.raises(httpx.ConnectError, match="cannot connect to 127.0.0.1"):
            await http.get(f"http://127.0.0.1:{free_port()}/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.get("ftp://127.0.0.1/")
        async with serving(garbage) as url:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(url)
            with pytest.raises(httpx.LocalProtocolError):
                await http.get(url, headers={"X": "a\r\nb"})
            with pytest.raises((httpx.LocalProtocolError, RuntimeError), match="sync"):
                await http.post(url, content=iter([b"x"]))
        async with serving(short) as url:
            with pytest.raises(httpx.RemoteProtocolError, match="6 of 10 bytes missing"):
                await http.get(url)
        assert pool_of(http).statistics().running == 0


async def test_a_cancelled_request_leaves_no_connection_behind() -> None:
    async with serving(silent) as url, client() as http:
        for content in (None, b"body"):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def ask(content: bytes | None = content) -> None:
                        await http.post(url, content=content)

                    nursery.start_soon(ask)
                    await trio.testing.wait_all_tasks_blocked()
                    assert pool_of(http).statistics().open == 1
                    scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            figures = pool_of(http).statistics()
            assert (figures.open, figures.running) == (0, 0)


async def test_leaving_the_client_cuts_off_what_is_running() -> None:
    async with serving(silent) as url, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(httpx.ReadError):
                await http.post(url, content=b"body")

        async with client() as http:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()


async def test_the_programs_own_error_leaves_the_client_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with client():
            raise KeyError


async def test_closing_the_client_within_its_block() -> None:
    async with serving(say_hello) as url, client() as http:
        await http.get(url)
        pool = pool_of(http)
        await http.aclose()
        assert pool.statistics().open == 0


# --- TLS, proxies, other ways --------------------------------------------------------------------------------------


async def test_over_tls(ca: trustme.CA) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)

    async def handler(conn: trionet.Connection) -> None:
        with suppress(trionet.UpgradeFailedError):  # of the client that does not trust us
            await say_hello(await conn.upgrade(trionet.to_tls_server(server)))

    async with serving(handler) as url:
        url = url.replace("http://127.0.0.1", "https://localhost")
        async with client(verify=trusting) as http:
            assert (await http.get(url)).text == "hello"
        async with client() as http:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await http.get(url)


async def test_a_trace_function_that_raises_at_an_early_answer_stops_the_body() -> None:
    """Nobody asks for more of it, but its producer was waited for all the same, in a task that nobody knew of."""
    events = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            await trio.sleep_forever()
        finally:
            events.append("closed")

    async def trace(name: str, info: dict[str, Any]) -> None:
        if name == "http11.receive_response_headers.complete":
            raise KeyError(name)

    async with serving(say_hello) as url, client() as http:
        with pytest.raises(KeyError):
            await http.post(url, content=body(), extensions={"trace": trace})
        assert events == ["closed"]
        figures = pool_of(http).statistics()
        assert (figures.open, figures.running) == (0, 0)


async def test_the_producer_of_a_body_closes_the_transport_without_waiting_for_itself() -> None:
    """It runs in a task of the transport, which waited for all of those to end, shielded."""
    transport = TrionetTransport(trust_env=False)

    async def silent(conn: trionet.Connection) -> None:
        while await conn.receive_some():
            pass

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - another task closes it
            nursery.start_soon(transport.aclose)
        yield b"b"

    with trio.move_on_after(5) as deadline:
        async with serving(silent) as url, httpx.AsyncClient(transport=transport) as http:
            with pytest.raises(httpx.ReadError):
                await http.post(url, content=body())
    assert not deadline.cancelled_caught
    with pytest.raises(RuntimeError, match="from its first request to its close"):
        _ = transport.pool


@pytest.mark.parametrize("how", ["refused", "cut off", "cancelled", "sent"])
async def test_a_generator_is_closed_when_its_body_is_not_wanted_any_more(how: str) -> None:
    events = []

    async def body() -> AsyncIterator[bytes]:
        try:
            for _ in range(3):
                yield bytes(100)
            while how != "sent":
                await trio.lowlevel.checkpoint()
                yield bytes(100_000)
        finally:
            events.append("closed")

    async def answer(conn: trionet.Connection) -> None:
        await read_head(conn)
        if how == "refused":
            await conn.send_all(b"HTTP/1.1 413 No\r\nContent-Length: 5\r\n\r\nlarge")
        elif how == "sent":
            await read_chunked(conn)
            await conn.send_all(ANSWER)
        elif how == "cancelled":
            scope.cancel()
            await trio.sleep_forever()

    async with serving(answer) as url, client() as http:
        # Closing with unread data is a reset, without it EOF: what the server had received is a matter of chance.
        with trio.CancelScope() as scope, suppress(httpx.ReadError, httpx.RemoteProtocolError):
            await http.post(url, content=body())
            events.append("answered")
        assert events in (["closed"], ["closed", "answered"])


async def test_a_generator_that_was_sent_is_not_sent_again_as_an_empty_body() -> None:
    bodies = []

    async def handler(conn: trionet.Connection) -> None:
        while await conn.peek(1):
            await read_head(conn)
            bodies.append(await read_chunked(conn))
            await conn.send_all(ANSWER)

    async def several() -> AsyncIterator[bytes]:
        yield b"abc"

    body = several()
    async with serving(handler) as url, client() as http:
        with pytest.raises(httpx.ConnectError):
            await http.post("http://127.0.0.1:1/", content=body)
        await http.post(url, content=body)  # nothing of it had been asked for
        with pytest.raises(httpx.StreamConsumed):
            await http.post(url, content=body)
    assert bodies == [b"abc"]


async def test_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = []

    async def proxy(conn: trionet.Connection) -> None:
        heads.append(await read_head(conn))
        if heads[-1].startswith(b"CONNECT"):
            await conn.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        else:
            await conn.send_all(ANSWER)

    async with serving(proxy) as url:
        with_user = url.replace("http://", "http://user:pass@")
        async with client(proxy=with_user) as http:
            assert (await http.get("http://host.example:81/x?y")).text == "hello"
            with pytest.raises(httpx.ProxyError, match="403 Forbidden"):
                await http.get("https://host.example/")
        assert heads[0].startswith(b"GET http://host.example:81/x?y HTTP/1.1\r\n")
        assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in heads[0]
        assert heads[1].startswith(b"CONNECT host.example:443 HTTP/1.1\r\n")
        for name in ("http_proxy", "all_proxy", "no_proxy", "NO_PROXY", "REQUEST_METHOD"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", url)
        async with client(trust_env=True) as http:
            assert (await http.get("http://other.example/")).text == "hello"
        assert heads[2].startswith(b"GET http://other.example/ HTTP/1.1\r\n")


async def test_through_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "server"
    async with trionet.open_scope(drain_timeout=0) as scope:
        await scope.start(trionet.serve_unix, say_hello, path)
        async with client(uds=str(path)) as http:
            assert (await http.get("http://host.example/")).text == "hello"
        scope.cancel()


def test_arguments_that_cannot_be_right() -> None:
    with pytest.raises(ValueError, match="http1"):
        TrionetTransport(http1=False)
    with pytest.raises(ValueError, match="retries"):
        TrionetTransport(retries=-1)
    with pytest.raises(ValueError, match="http2=True.*leave it out"):
        TrionetTransport(http2=True)
    with pytest.raises(ValueError, match="max_connections"):
        TrionetTransport(limits=httpx.Limits(max_connections=0))
    with pytest.raises(ValueError, match="proxy"):
        TrionetTransport(proxy="http://proxy.example:99999")


def test_without_httpx_the_import_says_what_is_missing() -> None:
    program = "import sys; sys.modules['httpx'] = None; import trionet.httpx"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: trionet.httpx needs HTTPX" in done.stderr
