"""The end of a response: the moment at which its slot and its connection go back to the pool, and what keeps them."""

from __future__ import annotations

import contextlib
import gzip
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason

from ...helpers.http_by_hand import HELLO, Asked, http_pair, read_request, serving
from ...stories.test_cancel_everywhere import at_every_checkpoint

ENDED = {
    "length": HELLO,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "eof": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
}
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def get(client: trionet.HTTPClient, url: str, **options: Any) -> bytes:
    async with client.request("GET", url, **options) as response:
        return await response.read()


def slots(client: trionet.HTTPClient) -> tuple[int, int, int]:
    figures = client.statistics()
    return figures.running, figures.idle, figures.open


# --- the end of the body is the end of the claim ----------------------------------------------------------------


@pytest.mark.parametrize("answer", ENDED.values(), ids=ENDED)
async def test_tasks_that_ask_inside_of_another_requests_block_do_not_wait_for_each_other(answer):
    """Each holds one of 16 slots, reads its body to the end and, still in the block, asks for what that led to."""

    async def say(connection: trionet.Connection, asked: Asked) -> None:
        await connection.send_all(answer)
        if answer == ENDED["eof"]:
            await connection.aclose()

    got = []

    async def ask(url: str) -> None:
        async with client.request("GET", f"{url}/outer") as outer:
            assert await outer.read() == b"hello"
            started.append(None)
            while len(started) < 16:
                await wait_all_tasks_blocked()
            got.append(await get(client, f"{url}/inner"))

    started: list[None] = []
    async with serving(say) as server, trionet.open_http_client() as client:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(ask, server.url)
        assert got == [b"hello"] * 16
        assert client.statistics().running == 0


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", EMPTY),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", HELLO.removesuffix(b"hello")),
    ],
)
async def test_a_response_without_a_body_ends_with_its_head(method, answer):
    async with serving(answer) as server, trionet.open_http_client(max_connections=1) as client:
        async with client.request(method, server.url) as outer:
            assert slots(client) == (0, 1, 1)
            with pytest.raises(trionet.LocalProtocolError, match="keep_connection=True"):
                _ = outer.connection
            async with client.request(method, server.url) as inner:
                assert inner.status == outer.status
        assert (server.accepted, slots(client)) == (1, (0, 1, 1))


async def test_a_response_has_its_connection_until_its_end_and_no_longer():
    async with serving(HELLO) as server, trionet.open_http_client() as client:
        async with client.request("GET", server.url) as response:
            assert slots(client) == (1, 0, 1)
            assert response.connection.phase is Phase.OPEN
            assert await response.read() == b"hello"
            assert slots(client) == (0, 1, 1)
            with pytest.raises(trionet.LocalProtocolError, match="back in the pool"):
                _ = response.connection
            assert str(response.url) == f"{server.url}"
            assert await response.read() == b"hello"  # it is the response's, and not the connection's
        with pytest.raises(trionet.LocalProtocolError):
            _ = response.connection


async def test_how_a_block_is_left_behind_the_end_of_its_response_is_no_concern_of_the_connection():
    async with serving(HELLO) as server, trionet.open_http_client() as client:
        for _ in range(3):
            with pytest.raises(KeyError):
                async with client.request("GET", server.url) as response:
                    await response.read()
                    raise KeyError
        with trio.CancelScope() as scope:
            async with client.request("GET", server.url) as response:
                await response.read()
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert (server.accepted, slots(client)) == (1, (0, 1, 1))


async def test_a_block_that_is_left_late_does_not_end_the_request_that_has_its_connection_by_then():
    """One task reads its body and stays in its block; another gets the connection; the first fails in its block."""
    go_on = trio.Event()

    async def say(connection: trionet.Connection, asked: Asked) -> None:
        if asked.target == "/slow":
            await connection.send_all(HELLO[:-3])
            await go_on.wait()
            await connection.send_all(HELLO[-3:])
        else:
            await connection.send_all(HELLO)

    got = []

    async def ask(client: trionet.HTTPClient, url: str) -> None:
        got.append(await get(client, url))

    async with serving(say) as server, trionet.open_http_client() as client, trio.open_nursery() as nursery:
        with pytest.raises(KeyError):
            async with client.request("GET", server.url) as response:
                await response.read()
                nursery.start_soon(ask, client, f"{server.url}/slow")
                await wait_all_tasks_blocked()
                assert slots(client) == (1, 0, 1)
                assert await response.read(max_bytes=5) == b"hello"
                assert [piece async for piece in response] == []
                raise KeyError
        assert slots(client) == (1, 0, 1)
        go_on.set()
    assert got == [b"hello"]
    assert server.accepted == 1


async def test_what_is_malformed_in_memory_is_no_fault_of_the_connections_next_request():
    """The coded body was received to its end; that its rest cannot be decoded is found out in somebody else's time."""
    body = gzip.compress(bytes(1_000_000))[:-8] + bytes(8)
    coded = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def say(connection: trionet.Connection, asked: Asked) -> None:
        await connection.send_all(coded if asked.target == "/" else HELLO)

    async with serving(say) as server, trionet.open_http_client() as client:
        async with client.request("GET", f"{server.url}/") as response:
            await anext(response)
            async for _ in response.raw():
                pass
            async with client.request("GET", f"{server.url}/other") as other:
                with pytest.raises(trionet.RemoteProtocolError, match="not gzip data"):
                    while True:
                        await anext(response)
                assert await other.read() == b"hello"
        assert server.accepted == 1


# --- what keeps the connection ----------------------------------------------------------------------------------


async def test_a_connection_that_is_kept_is_kept_until_the_block_is_left():
    async with serving(HELLO) as server, trionet.open_http_client(max_connections=1) as client:
        async with client.request("GET", server.url, keep_connection=True) as response:
            assert await response.read() == b"hello"
            assert slots(client) == (1, 0, 1)
            assert response.connection._reuse.reusable
            async with response.connection.request("GET", "/own") as own:
                assert await own.read() == b"hello"
                assert own.connection is response.connection
        assert slots(client) == (0, 1, 1)
        with pytest.raises(trionet.LocalProtocolError):
            _ = response.connection
        with pytest.raises(KeyError):
            async with client.request("GET", server.url, keep_connection=True) as response:
                await response.read()
                raise KeyError
        assert (server.accepted, slots(client)) == (1, (0, 1, 1))
        async with client.request("GET", server.url, keep_connection=True) as response:
            capsule = response.connection.detach() if await response.read() else None
        assert capsule is not None
        assert slots(client) == (0, 0, 0)


async def test_a_connection_that_has_switched_stays_with_the_response():
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhi"
    offer = {"Connection": "upgrade", "Upgrade": "chat"}
    async with serving(switching) as server, trionet.open_http_client(max_connections=1) as client:
        async with client.request("GET", server.url, headers=offer) as response:
            assert slots(client) == (1, 0, 1)
            assert await response.read() == b""
            assert slots(client) == (1, 0, 1)
            assert response.connection.phase is Phase.OPEN
        assert response.connection.end.reason is Reason.ABORTED
        assert slots(client) == (0, 0, 0)


@pytest.mark.parametrize("answer", [HELLO + b"HTTP/1.1 200", ENDED["close"], ENDED["chunks"] + b"\r\n"])
async def test_without_proof_the_connection_ends_and_the_slot_returns(answer):
    async with serving(answer) as server, trionet.open_http_client(max_connections=1) as client:
        async with client.request("GET", server.url) as response:
            assert await response.read() == b"hello"
            assert slots(client) == (0, 0, 0)
            assert await get(client, server.url) == b"hello"
        assert server.accepted == 2


@pytest.mark.parametrize("keep", [False, True])
async def test_a_body_that_fails_gives_its_slot_back(keep):
    """What a program does about it, such as asking another server, may stand in the same block."""

    async def say(connection: trionet.Connection, asked: Asked) -> None:
        if asked.target == "/":
            await connection.send_all(HELLO)
        else:
            await connection.send_all(HELLO[:-2])
            await connection.aclose()

    async with serving(say) as server, trionet.open_http_client(max_connections=1) as client:
        async with client.request("GET", f"{server.url}/cut", keep_connection=keep) as response:
            with pytest.raises(trionet.RemoteProtocolError):
                await response.read()
            assert slots(client) == (int(keep), 0, 0)
            assert response.connection.phase is Phase.CLOSED
            if not keep:
                assert await get(client, f"{server.url}/") == b"hello"
        assert client.statistics().running == 0


# --- a request that is still on its way -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering_first() -> AsyncIterator[tuple[str, trio.Event]]:
    """A server that answers behind the head, and takes the body when it is told to; then the next request."""
    go_on = trio.Event()

    async def handle(connection: trionet.Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            head = await connection.receive_until(b"\r\n\r\n", max_bytes=65536)
            await connection.send_all(HELLO)
            await go_on.wait()
            if b"chunked" in head:
                await connection.receive_until(b"0\r\n\r\n", max_bytes=10_000_000)
            while await read_request(connection):
                await connection.send_all(HELLO)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handle, 0)
        yield f"http://127.0.0.1:{server.port}", go_on
        nursery.cancel_scope.cancel()


async def test_an_upload_keeps_the_connection_until_it_is_over():
    """The response is read while the server still wants the rest of the request: both messages have to be complete."""
    may_end = trio.Event()

    async def produce() -> AsyncIterator[bytes]:
        yield b"x" * 100
        await may_end.wait()
        yield b"y"

    async with answering_first() as (url, go_on), trionet.open_http_client(max_connections=1) as client:
        async with client.request("POST", url, content=produce()) as response:
            assert await response.read() == b"hello"
            await wait_all_tasks_blocked()
            assert slots(client) == (1, 0, 1)
            assert response.connection.blockers
            go_on.set()
            may_end.set()
            await wait_all_tasks_blocked()
            assert slots(client) == (0, 1, 1)
            with pytest.raises(trionet.LocalProtocolError):
                _ = response.connection
            assert await get(client, url) == b"hello"
        assert (client.statistics().opened, slots(client)) == (1, (0, 1, 1))


async def test_an_upload_that_is_over_first_keeps_nothing():
    async def produce() -> AsyncIterator[bytes]:
        yield b"x" * 100

    async with answering_first() as (url, go_on), trionet.open_http_client(max_connections=1) as client:
        async with client.request("POST", url, content=produce()) as response:
            await wait_all_tasks_blocked()
            go_on.set()
            assert await response.read() == b"hello"
            assert slots(client) == (0, 1, 1)
            assert await get(client, url) == b"hello"
        assert client.statistics().opened == 1


@pytest.mark.parametrize("when", ["left", "failed"])
async def test_an_upload_that_does_not_come_to_its_end_ends_the_connection(when):
    async def produce() -> AsyncIterator[bytes]:
        yield b"x" * 100
        await may_fail.wait()
        raise KeyError("producer")

    may_fail = trio.Event()
    async with answering_first() as (url, _), trionet.open_http_client(max_connections=1) as client:
        with pytest.raises(KeyError, match="producer") if when == "failed" else contextlib.nullcontext():
            async with client.request("POST", url, content=produce()) as response:
                assert await response.read() == b"hello"
                if when == "failed":
                    may_fail.set()
                    await wait_all_tasks_blocked()
                connection = response.connection
        assert connection.phase is Phase.CLOSED
        assert slots(client) == (0, 0, 0)


# --- a connection of one's own ----------------------------------------------------------------------------------


async def test_a_connection_of_ones_own_is_nobody_elses_at_the_end():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        await server.send_all(HELLO)
        async with http.request("GET", "/") as response:
            assert await response.read() == b"hello"
            assert response.connection is http
        assert response.connection is http


# --- cancelled everywhere ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
async def test_cancelled_at_every_checkpoint_of_a_request_inside_of_another(keep):
    async with serving(HELLO) as server:

        async def scenario(cancelling: Any) -> None:
            async with trionet.open_http_client(max_connections=2, max_connections_per_origin=2) as client:
                with cancelling.scope:
                    async with client.request("GET", server.url, keep_connection=keep) as outer:
                        assert await outer.read() == b"hello"
                        async with client.request("PUT", server.url, content=bytes(1_000_000)) as inner:
                            assert await inner.read() == b"hello"
                            assert await get(client, server.url) == b"hello"
                figures = client.statistics()
                assert (figures.running, figures.waiting) == (0, 0)
                assert client._pool.slots._free.value == 2
                assert figures.open == figures.idle == len(client.scope.handles)
            await server.all_gone()

        assert await at_every_checkpoint(scenario) > 5


# --- whatever happens in the blocks -------------------------------------------------------------------------------


def odd_answers(chance: random.Random) -> Any:
    """A server that names what it was asked for in its body, and sends that in every way that there is."""

    async def answer(connection: trionet.Connection, asked: Asked) -> None:
        body = f"<{asked.target}>".encode()
        wire = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        match chance.randrange(12):
            case 0:
                await connection.send_all(wire[:-3])
                await wait_all_tasks_blocked()
                await connection.send_all(wire[-3:])
            case 1:
                await connection.send_all(wire[:-3])
                connection.abort()
            case 2:
                await connection.send_all(wire + b"junk")
            case 3:
                await connection.send_all(wire.replace(b"200 OK", b"404 Not Found"))
            case 4:
                await connection.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                await connection.aclose()
            case _:
                await connection.send_all(wire)

    return answer


@pytest.mark.parametrize("seed", range(3))
async def test_no_slot_is_lost_and_no_answer_gets_to_another_whatever_happens_in_the_blocks(seed):
    """Requests inside of requests, cut off at random, in twice as many tasks as there are slots."""
    chance = random.Random(seed)
    numbers = iter(range(1, 10**6))

    async def produce() -> AsyncIterator[bytes]:
        for _ in range(chance.randrange(3)):
            await trio.lowlevel.checkpoint()
            yield bytes(chance.choice([1, 1000, 200_000]))

    async def ask(client: trionet.HTTPClient, url: str, depth: int) -> None:
        path = f"/{next(numbers)}"
        keep = chance.random() < 0.2
        body = produce() if chance.random() < 0.3 else None
        async with client.request(
            "POST" if body else "GET", url + path, content=body, keep_connection=keep
        ) as response:
            if chance.random() < 0.2:
                return
            if chance.random() < 0.2:
                response.raise_for_status()
            assert await response.read() == f"<{path}>".encode()
            if depth and not keep:  # a task that keeps a slot and waits for another one may wait for ever
                await ask(client, url, depth - 1)
            assert await response.read() == f"<{path}>".encode()
            if chance.random() < 0.1:
                raise KeyError

    async def ask_often(client: trionet.HTTPClient, url: str) -> None:
        for _ in range(20):
            with trio.move_on_after(chance.choice([chance.random() * 0.01, 60])):
                with contextlib.suppress(trionet.HTTPClientError, KeyError):
                    await ask(client, url, chance.randrange(3))

    async with (
        serving(odd_answers(chance)) as server,
        trionet.open_http_client(max_connections=4, max_connections_per_origin=4) as client,
    ):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(ask_often, client, server.url)
        figures = client.statistics()
        assert (figures.running, figures.waiting) == (0, 0)
        assert figures.reused > 50
        assert client._pool.slots._free.value == 4
        assert figures.open == figures.idle == len(client.scope.handles)
