"""Answers that are sent piece by piece: what the client sees of them, and what it sees where they are cut off."""

import contextlib

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trionet import LocalProtocolError, Phase, Reason

from ...helpers.http_served import GET, Unbuffered, ask, get, read_answer, served
from ...helpers.pairs import SOCKET_PAIRS, receive_all

# --- streams -----------------------------------------------------------------------------------------------------


async def test_a_stream_goes_out_piece_by_piece_with_trailers_behind():
    go_on = trio.Event()

    async def handler(exchange):
        async with exchange.stream(200, headers={"Trailer": "Digest"}) as stream:
            await stream.flush()
            await stream.flush()
            await stream.send(b"")
            await go_on.wait()
            await stream.send(b"abc")
            await stream.send(memoryview(b"def"))
            stream.trailers([("Digest", "y")])

    async with served(handler) as it:
        await it.client.send_all(GET)
        head = await it.client.receive_until(b"\r\n\r\n", max_bytes=999)
        assert b"Transfer-Encoding: chunked" in head
        go_on.set()
        assert await it.client.receive_exactly(16) == b"3\r\nabc\r\n3\r\ndef\r\n"
        assert await it.client.receive_exactly(16) == b"0\r\nDigest: y\r\n\r\n"
        answer = await ask(it.client, GET)
        assert (answer.body, answer.trailers) == (b"abcdef", b"Digest: y\r\n")


@pytest.mark.parametrize("keep", [True, False])
async def test_http_1_0_gets_a_stream_until_the_connection_ends_and_no_trailers(keep):
    async def handler(exchange):
        async with exchange.stream(200) as stream:
            await stream.send(b"abc")
            stream.trailers([("Digest", "y")])

    async with served(handler) as it:
        answer = await ask(it.client, get("/", *["Connection: keep-alive"] * keep, version="1.0"))
        assert answer.body == b"abc"
        assert answer.fields["connection"] == "close"
        assert it.failure is None


async def test_a_stream_of_a_known_length_is_held_to_it():
    async def handler(exchange):
        async with exchange.stream(200, length=3) as stream:
            await stream.send(b"ab")
            if exchange.path == "/short":
                return
            if exchange.path == "/trailers":
                stream.trailers([("Digest", "y")])
            await stream.send(b"c" if exchange.path != "/long" else b"cd")

    for target, expected in (("/", None), ("/short", "shorter"), ("/long", "longer"), ("/trailers", "trailers need")):
        async with served(handler) as it:
            await it.client.send_all(get(target))
            if expected is None:
                assert (await read_answer(it.client)).body == b"abc"
            else:
                await it.over.wait()
                assert expected in str(it.failure)
                assert (await it.http.wait_ended()).reason is Reason.ABORTED
                assert (await receive_all(it.client)).partition(b"\r\n\r\n")[2] in (b"ab", b"abc")


async def test_a_stream_to_head_sends_nothing_but_its_head():
    async def handler(exchange):
        async with exchange.stream(200) as stream:
            await stream.send(b"abc")
            await stream.send(b"abc")

    async with served(handler) as it:
        for _ in range(2):
            assert (await ask(it.client, get("/", method="HEAD"), "HEAD")).status == 200
        assert it.failure is None


async def test_one_stream_at_a_time():
    async def handler(exchange):
        async with exchange.stream(200) as stream:
            with pytest.raises(LocalProtocolError, match="no request waits for a response"):
                async with exchange.stream(200):
                    pass
            with pytest.raises(LocalProtocolError):
                await exchange.respond(200)
            with pytest.raises(LocalProtocolError):
                await exchange.inform(103)
            assert "being answered with 200" in repr(exchange)
            await stream.send(b"x")
        with pytest.raises(LocalProtocolError, match="is over"):
            await stream.send(b"y")

    async with served(handler) as it:
        assert (await ask(it.client, GET)).body == b"x"
        assert it.failure is None


async def test_a_stream_that_raises_before_a_byte_is_out_can_be_answered_otherwise():
    async def handler(exchange):
        for _ in range(2):
            with pytest.raises(KeyError):
                async with exchange.stream(200, headers={"Connection": "close"}):
                    raise KeyError
        with pytest.raises(TypeError):
            async with exchange.stream(200) as stream:
                await stream.send(5)
        assert exchange.status == 0
        await exchange.respond(404, b"not found")

    async with served(handler) as it:
        for _ in range(2):
            answer = await ask(it.client, GET)
            assert (answer.status, answer.fields.get("connection")) == (404, None)
        assert it.failure is None


class Failing(Unbuffered):
    """An async iterable that raises in the end, and notes that it was closed."""

    closed = False

    async def __anext__(self):
        if not self.parts:
            raise OSError("the disk is on fire")
        return await super().__anext__()

    async def aclose(self):
        self.closed = True


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("length", [None, 100])
async def test_a_body_whose_source_fails_is_visibly_cut_off(version, length):
    source = Failing(b"abc")

    async def handler(exchange):
        headers = [] if length is None else [("Content-Length", str(length))]
        await exchange.respond(200, source, headers=headers)

    async with served(handler) as it:
        await it.client.send_all(get("/", version=version))
        await it.over.wait()
        assert isinstance(it.failure, OSError)
        assert source.closed
        assert (await it.http.wait_ended()).reason is Reason.ABORTED
        if version == "1.0" and length is None:  # EOF would be a good end
            with pytest.raises(trio.BrokenResourceError):
                await receive_all(it.client)
        else:
            data = await receive_all(it.client)
            assert data.endswith(b"abc" if length else b"3\r\nabc\r\n")


async def test_a_source_that_fails_at_once_leaves_the_request_to_be_answered():
    async def handler(exchange):
        with pytest.raises(OSError, match="on fire"):
            await exchange.respond(200, Failing())
        await exchange.respond(503)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).status == 503
        assert it.failure is None


@pytest.mark.parametrize("make_pair", SOCKET_PAIRS.values(), ids=SOCKET_PAIRS)
async def test_an_answer_that_is_cancelled_is_cut_off_and_ends_the_connection(autojump_clock, make_pair):
    async def handler(exchange):
        with trio.move_on_after(1):
            if exchange.path == "/stream":
                async with exchange.stream(200) as stream:
                    await stream.send(b"abc")
                    await trio.sleep_forever()
            else:
                await exchange.respond(200, b"x" * 10**8)
        assert it.http.phase is Phase.CLOSED

    for target in ("/stream", "/"):
        async with served(handler, make_pair=make_pair) as it:
            await it.client.send_all(get(target))
            assert (await it.ended()).reason is Reason.ABORTED
            assert it.failure is None
            data = await receive_all(it.client)
            assert data.startswith(b"HTTP/1.1 200")
            assert not data.endswith(b"0\r\n\r\n")
            assert len(data) < 10**8


async def test_everything_that_is_sent_of_a_stream_lets_other_tasks_run():
    async def handler(exchange):
        with assert_checkpoints():
            await exchange.inform(103)
        async with exchange.stream(200) as stream:
            for size in (1, 20_000):
                with assert_checkpoints():
                    await stream.send(bytes(size))

    async with served(handler) as it:
        await it.client.send_all(GET)
        await it.client.receive_until(b"103 Early Hints\r\n\r\n", max_bytes=999)
        assert len((await read_answer(it.client)).body) == 20_001
    assert it.failure is None


async def test_what_takes_the_place_of_a_stream_that_was_given_up_ends_a_connection_that_closes():
    async def handler(exchange):
        with contextlib.suppress(ZeroDivisionError):
            async with exchange.stream(200):
                it.scope.start_soon(it.http.aclose)
                await wait_all_tasks_blocked()
                raise ZeroDivisionError
        await exchange.respond(503)

    async with served(handler) as it:
        answer = await ask(it.client, GET)
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        assert (await it.ended()).reason is Reason.LOCAL
