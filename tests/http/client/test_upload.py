"""Bodies of requests that are sent while the response is read."""

import io
import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason

from ...helpers.http_by_hand import HELLO, http_pair, read_request
from ...helpers.http_client_connections import HEAD, exchange, pieces


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: b"abcdef", "content-length"),
        (lambda: [b"abc", b"def"], "content-length"),
        (lambda: io.BytesIO(b"abcdef"), "content-length"),
        (lambda: pieces(b"abc", b"def"), "transfer-encoding"),
        (lambda: iter([b"abc", b"def"]), "transfer-encoding"),
    ],
)
@pytest.mark.parametrize("expect_continue", [False, True])
async def test_every_kind_of_body_arrives(make, field, expect_continue, autojump_clock):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange, http, "POST", "/", {"content": make(), "expect_continue": expect_continue})
                asked = await read_request(server)
                await server.send_all(HELLO)
            assert asked.body == b"abcdef"
            assert field in asked.fields
            assert http._reuse.reusable


async def test_a_body_larger_than_all_buffers_arrives():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        body = random.Random(1).randbytes(5_000_000)
        for content in (body, pieces(body[:4_000_000], body[4_000_000:])):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange, http, "PUT", "/", {"content": content})
                assert (await read_request(server)).body == body
                await server.send_all(HELLO)
            assert http._reuse.reusable


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_early_refusal_stops_the_upload_and_closes_the_connection_afterwards(streaming):
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        stopped = trio.Event()

        async def endless():
            try:
                while True:
                    yield bytes(65536)
            finally:
                stopped.set()

        async with trio.open_nursery() as nursery:

            async def refuse():
                await server.receive_until(b"\r\n\r\n", max_bytes=9999)  # and reads no further
                await wait_all_tasks_blocked()
                await server.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")

            nursery.start_soon(refuse)
            content = endless() if streaming else bytes(20_000_000)
            async with http.request("POST", "/", content=content) as response:
                assert response.status == 413
                assert stopped.is_set() is streaming
                assert await response.read() == b"no!"
        assert http.phase is Phase.CLOSED


async def test_a_server_that_answers_as_it_reads_is_read_while_the_body_is_sent():
    async def echo(server):
        await server.receive_until(b"\r\n\r\n", max_bytes=9999)
        await server.send_all(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while size := int(await server.receive_until(b"\r\n", max_bytes=9), 16):
            data = await server.receive_exactly(size + 2)
            await server.send_all(b"%x\r\n%b" % (size, data))
        await server.receive_exactly(2)
        await server.send_all(b"0\r\n\r\n")

    heard = trio.Event()

    async def talk():
        yield b"one"
        await heard.wait()
        yield b"two"

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, server)
            got = []
            async with http.request("POST", "/", content=talk()) as response:
                async for piece in response:
                    got.append(piece)
                    heard.set()
        assert got == [b"one", b"two"]
        assert http._reuse.reusable


async def test_an_upload_that_the_server_does_not_wait_for_ends_with_the_block():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)

        async def never():
            yield b"some"
            await trio.sleep_forever()

        for read in (True, False):
            http, server = await http_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(early, server)
                async with http.request("POST", "/", content=never()) as response:
                    if read:
                        assert await response.read() == b"hello"
                assert http.phase is Phase.CLOSED


async def early(server):
    await server.receive_until(b"some\r\n", max_bytes=9999)
    await server.send_all(HELLO)


@pytest.mark.parametrize("known_length", [False, True])
async def test_a_producer_that_raises_tears_the_message_and_the_connection(known_length):
    async def failing():
        yield b"some"
        raise KeyError("the producer's own")

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        async with trio.open_nursery() as nursery:
            seen = bytearray()

            async def watch():
                with pytest.raises(trio.BrokenResourceError):
                    while data := await server.receive_some():
                        seen.extend(data)
                    raise trio.BrokenResourceError

            nursery.start_soon(watch)
            options = {"content": failing()}
            if known_length:
                options["headers"] = {"Content-Length": "9"}
            with pytest.raises(KeyError, match="the producer's own"):
                await exchange(http, "POST", "/", options)
        assert http.end.reason is Reason.ABORTED
        assert b"some" in seen
        assert not seen.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("content", [[b"abc"], [b"abcdefghi"]])
async def test_a_producer_that_breaks_its_promise_of_length_tears_the_message(content):
    async with trionet.open_scope() as scope:
        http, _ = await http_pair(scope)
        with pytest.raises(trionet.LocalProtocolError, match="Content-Length of 5"):
            await exchange(http, "POST", "/", {"content": pieces(*content), "headers": {"Content-Length": "5"}})
        assert http.end.reason is Reason.ABORTED


async def test_a_producer_that_raises_behind_an_early_answer_is_heard():
    async def failing(go_on):
        yield b"some"
        await go_on.wait()
        raise KeyError

    for read in (True, False):
        go_on = trio.Event()
        async with trionet.open_scope() as scope:
            http, server = await http_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer_head, server)
                with pytest.raises(KeyError):
                    async with http.request("POST", "/", content=failing(go_on)) as response:
                        assert response.status == 200
                        go_on.set()
                        await wait_all_tasks_blocked()
                        if read:
                            await response.read()


async def answer_head(server):
    await server.receive_until(b"some\r\n", max_bytes=9999)
    await server.send_all(HELLO[:-5])


async def test_a_cancelled_upload_tears_the_message():
    async def never():
        yield b"some"
        await trio.sleep_forever()

    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        with trio.CancelScope() as uploading:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange, http, "POST", "/", {"content": never()})
                await wait_all_tasks_blocked()
                uploading.cancel()
        assert http.end.reason is Reason.ABORTED
        with pytest.raises(trionet.RemoteProtocolError):
            await read_request_strictly(server)


async def read_request_strictly(server):
    await server.receive_until(b"some\r\n", max_bytes=9999)
    await server.receive_exactly(1)
