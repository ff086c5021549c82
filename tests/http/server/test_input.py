"""100 (Continue): a client that waits for it, and a handler that waits for the body, never wait for each other.

Every way to read a body times every way to answer, with a client that sends nothing before it was told to
(RFC 9110 §10.1.1), and with one that does not care. Two that wait for each other are found after a minute, before any
of the server's limits; on a clock that jumps this costs nothing.
"""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, LocalProtocolError, Phase

from ...helpers.http_served import GET, Unbuffered, ask, get, read_answer, replying, served
from ...helpers.pairs import PAIRS, clog, memory_pair, receive_all, unix_pair

BODY = bytes(range(256)) * 40
COUNTED = b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n"
FRAMINGS = {"counted": (COUNTED, BODY), "chunked": (CHUNKED, b"%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(BODY), BODY))}
HEAD_OF_100 = b"HTTP/1.1 100 Continue\r\n\r\n"

every_framing = pytest.mark.parametrize("framing", FRAMINGS)
every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


async def patient(client, framing):
    """A client that sends its body only when it was told to: whether it was."""
    head, body = FRAMINGS[framing]
    await client.send_all(head)
    with trio.fail_after(60):
        first = await read_answer(client)
        if first.status != 100:
            return False, first
        assert first.head == HEAD_OF_100
        await client.send_all(body)
        return True, await read_answer(client)


# --- ways to read ------------------------------------------------------------------------------------------------


async def by_read(exchange):
    return await exchange.read()


async def by_iterating(exchange):
    return b"".join([chunk async for chunk in exchange])


async def by_another_task(exchange):
    said = []

    async def read():
        said.append(await exchange.read())

    async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - another task is what this is about
        nursery.start_soon(read)
    return said[0]


async def by_trying_again(exchange):
    with trio.move_on_after(1):
        return await exchange.read()
    return await exchange.read()


WAYS_TO_READ = [by_read, by_iterating, by_another_task, by_trying_again]
every_way_to_read = pytest.mark.parametrize("read", WAYS_TO_READ, ids=lambda way: way.__name__)


# --- ways to answer ----------------------------------------------------------------------------------------------


async def answers_at_once(exchange, read):
    await exchange.respond(200, await read(exchange))


async def answers_at_length(exchange, read):
    await exchange.respond(200, (await read(exchange)) + b"x" * 20000)


async def answers_by_a_generator(exchange, read):
    async def parts():
        yield await read(exchange)

    await exchange.respond(200, parts())


async def answers_by_a_counted_generator(exchange, read):
    async def parts():
        yield await read(exchange)

    await exchange.respond(200, parts(), headers=[("Content-Length", str(len(BODY)))])


async def streams(exchange, read):
    async with exchange.stream(200) as stream:
        await stream.send(await read(exchange))


async def streams_with_fields_that_come_once(exchange, read):
    async with exchange.stream(200, headers=iter([("X-Once", "yes")])) as stream:
        await stream.send(await read(exchange))


async def streams_behind_an_empty_block(exchange, read):
    with pytest.raises(KeyError):
        async with exchange.stream(500):
            raise KeyError
    async with exchange.stream(200) as stream:
        await stream.send(await read(exchange))


async def streams_behind_a_block_that_read(exchange, read):
    with pytest.raises(KeyError):
        async with exchange.stream(500):
            body = await read(exchange)
            raise KeyError
    await exchange.respond(200, body)


WAYS_TO_ANSWER = [
    answers_at_once,
    answers_at_length,
    answers_by_a_generator,
    answers_by_a_counted_generator,
    streams,
    streams_with_fields_that_come_once,
    streams_behind_an_empty_block,
    streams_behind_a_block_that_read,
]
every_way_to_answer = pytest.mark.parametrize("answer", WAYS_TO_ANSWER, ids=lambda way: way.__name__)


@every_pair
@every_framing
@every_way_to_answer
@every_way_to_read
async def test_a_body_that_is_waited_for_is_asked_for(autojump_clock, make_pair, framing, answer, read):
    """A held-back head once kept the 100 back: client and handler waited for each other until the idle timeout."""

    async def handler(exchange):
        if exchange.method == "POST":
            await answer(exchange, read)
            assert exchange.trailers.get("x-sum") == ("1" if framing == "chunked" else None)
        else:
            await exchange.respond(204)

    async with served(handler, make_pair=make_pair) as it:
        told, said = await patient(it.client, framing)
        assert told
        assert (said.status, said.body[: len(BODY)]) == (200, BODY)
        assert said.fields.get("connection") is None  # the client was told, so where its body ends is certain
        assert said.fields.get("x-once") == ("yes" if answer is streams_with_fields_that_come_once else None)
        assert (await ask(it.client, GET)).status == 204
        assert it.failure is None


@every_framing
@every_way_to_answer
@every_way_to_read
@pytest.mark.parametrize("sends", ["together", "at once", "late", "in two pieces"])
async def test_a_client_that_does_not_wait_is_read_all_the_same(autojump_clock, framing, answer, read, sends):
    async def handler(exchange):
        if exchange.method == "POST":
            await answer(exchange, read)
        else:
            await exchange.respond(204)

    head, body = FRAMINGS[framing]
    async with served(handler) as it:
        first = head + body[: {"together": len(body), "in two pieces": 9}.get(sends, 0)]
        await it.client.send_all(first)
        if sends != "at once":
            await wait_all_tasks_blocked()
        await it.client.send_all((head + body)[len(first) :])
        said = await read_answer(it.client)
        if said.status == 100:
            assert sends in ("at once", "late")
            said = await read_answer(it.client)
        assert (said.status, said.body[: len(BODY)]) == (200, BODY)
        assert (await ask(it.client, GET)).status == 204
        assert it.failure is None


async def reads_behind_its_answer(exchange, read):
    await exchange.respond(403, b"no")
    await read(exchange)


async def reads_behind_a_long_answer(exchange, read):
    await exchange.respond(403, b"no" * 20000)
    await read(exchange)


async def reads_behind_a_flush(exchange, read):
    async with exchange.stream(403) as stream:
        await stream.flush()
        await read(exchange)


async def reads_behind_a_piece(exchange, read):
    async with exchange.stream(403) as stream:
        await stream.send(b"no")
        await read(exchange)


async def reads_behind_a_stream(exchange, read):
    async with exchange.stream(403) as stream:
        await stream.send(b"no")
    await read(exchange)


async def reads_in_a_late_piece(exchange, read):
    async def parts():
        yield b"no"
        yield await read(exchange)

    await exchange.respond(403, parts())


TOO_LATE = [
    reads_behind_its_answer,
    reads_behind_a_long_answer,
    reads_behind_a_flush,
    reads_behind_a_piece,
    reads_behind_a_stream,
    reads_in_a_late_piece,
]
every_late_way = pytest.mark.parametrize("answer", TOO_LATE, ids=lambda way: way.__name__)


@every_framing
@every_late_way
@pytest.mark.parametrize("read", [by_read, by_iterating, by_another_task], ids=lambda way: way.__name__)
async def test_a_body_that_nobody_asked_for_is_not_waited_for(autojump_clock, framing, answer, read):
    """Once the head has left without a 100 the client need not send its body: a 100 behind it would help nobody."""

    async def handler(exchange):
        failed = (
            pytest.RaisesGroup(LocalProtocolError) if read is by_another_task else pytest.raises(LocalProtocolError)
        )
        with failed:
            await answer(exchange, read)
        refused.append(exchange)

    refused = []
    async with served(handler) as it:
        await it.client.send_all(FRAMINGS[framing][0])
        with trio.fail_after(60):
            said = await receive_all(it.client)
            await it.over.wait()
        assert said.startswith(b"HTTP/1.1 403 ")
        assert b"\r\nConnection: close\r\n" in said
        assert b"100" not in said
        assert len(refused) == 1
        assert it.http.phase is Phase.CLOSED
        assert it.failure is None


@every_framing
@every_late_way
@pytest.mark.parametrize("read", [by_read, by_iterating], ids=lambda way: way.__name__)
@pytest.mark.parametrize("seen", [True, False])
async def test_a_body_that_came_unasked_is_read_behind_the_head_too(autojump_clock, framing, answer, read, seen):
    """It is here already, or on its way from a client that does not wait: where it ends is certain."""

    async def handler(exchange):
        nonlocal body
        if not seen:
            await arrived.wait()

        async def reading(exchange):
            nonlocal body
            body = await read(exchange)
            return body

        await answer(exchange, reading)

    body = None
    arrived = trio.Event()
    head, sent = FRAMINGS[framing]
    async with served(handler) as it:
        await it.client.send_all(head + (sent if seen else b""))
        if not seen:
            await wait_all_tasks_blocked()
            await it.client.send_all(sent)
            arrived.set()
        assert (await read_answer(it.client)).status == 403
        await it.over.wait() if not seen else await wait_all_tasks_blocked()
        assert body == BODY
        assert it.failure is None


async def test_a_head_that_waits_in_another_task_is_overtaken_by_the_100(autojump_clock):
    """One task reads, another streams what it gets: whichever comes first."""

    async def handler(exchange):
        send, receive = trio.open_memory_channel(math.inf)

        async def read():
            await wait_all_tasks_blocked()  # the head is made, and held back
            async with send:
                async for chunk in exchange:
                    await send.send(chunk)

        async with exchange.stream(200) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async for chunk in receive:
                await stream.send(chunk)

    async with served(handler) as it:
        told, said = await patient(it.client, "counted")
        assert told
        assert said.body == BODY
        assert it.failure is None


async def test_a_stream_that_is_left_while_its_body_is_being_read_is_complete_when_that_is(autojump_clock):
    async def handler(exchange):
        async with trio.open_nursery() as nursery:
            async with exchange.stream(200) as stream:
                nursery.start_soon(by_iterating, exchange)
                await wait_all_tasks_blocked()
                await stream.send(b"early")
            assert it.http._cycle.exchange is exchange
        assert it.http._cycle.exchange is None

    async with served(handler) as it:
        await it.client.send_all(COUNTED)
        assert (await read_answer(it.client)).status == 100
        answer = await read_answer(it.client)
        assert (answer.body, answer.fields.get("connection")) == (b"early", None)
        await it.client.send_all(BODY)
        await wait_all_tasks_blocked()
        assert it.failure is None
        assert it.http.phase is Phase.OPEN


async def test_a_second_answer_is_refused_and_the_first_one_stands(autojump_clock):
    async def nothing(exchange):
        return b"second"

    async def handler(exchange):
        await exchange.respond(200, b"first")
        for answer in (answers_at_once, streams):
            with pytest.raises(LocalProtocolError):
                await answer(exchange, nothing)

    async with served(handler) as it:
        await it.client.send_all(COUNTED + BODY)
        assert (await read_answer(it.client)).body == b"first"
        await it.client.send_eof()
        assert await receive_all(it.client) == b""


async def test_a_100_stands_behind_the_answers_before_it_and_ahead_of_its_own(autojump_clock):
    async def handler(exchange):
        if exchange.path == "/p":
            await streams(exchange, by_read)
        else:
            await exchange.respond(200, exchange.path.encode())

    async with served(handler) as it:
        await it.client.send_all(get("/1") + get("/2") + COUNTED)
        assert [(await read_answer(it.client)).body for _ in range(2)] == [b"/1", b"/2"]
        assert (await read_answer(it.client)).status == 100
        await it.client.send_all(BODY + get("/3"))
        assert [(await read_answer(it.client)).body for _ in range(2)] == [BODY, b"/3"]
        assert it.failure is None


@every_framing
async def test_a_client_is_told_once(autojump_clock, framing):
    head, body = FRAMINGS[framing]

    async def handler(exchange):
        for _ in range(3):
            with trio.move_on_after(1):
                await exchange.read()
        await exchange.inform(103)
        await answers_at_once(exchange, by_read)

    async with served(handler) as it:
        await it.client.send_all(head)
        assert (await read_answer(it.client)).status == 100
        assert (await read_answer(it.client)).status == 103
        await it.client.send_all(body)
        assert (await read_answer(it.client)).body == BODY


async def test_a_handler_that_has_told_the_client_itself_does_not_do_it_again(autojump_clock):
    async def handler(exchange):
        await exchange.inform(100)
        await streams(exchange, by_read)

    async with served(handler) as it:
        told, said = await patient(it.client, "counted")
        assert told
        assert said.body == BODY


async def test_http_1_0_is_told_nothing(autojump_clock):
    async def handler(exchange):
        await streams(exchange, by_read)

    async with served(handler) as it:
        await it.client.send_all(COUNTED.replace(b"HTTP/1.1", b"HTTP/1.0"))
        await wait_all_tasks_blocked()
        assert it.client._transport.is_silent()
        await it.client.send_all(BODY)
        assert (await read_answer(it.client)).body == BODY


async def test_a_head_request_with_a_body(autojump_clock):
    async def handler(exchange):
        await streams(exchange, by_read)

    async with served(handler) as it:
        await it.client.send_all(COUNTED.replace(b"POST", b"HEAD"))
        assert (await read_answer(it.client)).status == 100
        await it.client.send_all(BODY)
        assert (await read_answer(it.client, "HEAD")).status == 200
        assert (await ask(it.client, GET.replace(b"GET", b"HEAD"), "HEAD")).status == 200


@every_framing
@pytest.mark.parametrize("status", [204, 413])
async def test_a_body_that_is_not_wanted_is_not_asked_for(autojump_clock, framing, status):
    async with served(replying(status, b"")) as it:
        told, said = await patient(it.client, framing)
        assert not told
        assert (said.status, said.fields["connection"]) == (status, "close")
        assert await receive_all(it.client) == b""


async def test_a_handler_that_leaves_without_an_answer_is_not_waited_for(autojump_clock):
    async def handler(exchange):
        pass

    async with served(handler) as it:
        told, said = await patient(it.client, "counted")
        assert not told
        assert said.status == 500


async def test_a_handler_that_fails_in_its_held_back_stream_is_answered_for(autojump_clock):
    async def handler(exchange):
        async with exchange.stream(200):
            raise KeyError

    async with trionet.open_scope() as scope:
        one, client = unix_pair(scope)
        scope.start_soon(trionet.http_handler(handler, on_error=lambda *_: None), one)
        told, said = await patient(client, "counted")
        assert not told
        assert (said.status, said.fields["connection"]) == (500, "close")
        scope.cancel()


async def test_a_body_that_is_known_to_be_too_long_is_not_asked_for(autojump_clock):
    async def handler(exchange):
        with pytest.raises(trionet.LimitExceededError):
            await exchange.read(max_bytes=100)
        await exchange.respond(413)

    async with served(handler) as it:
        told, said = await patient(it.client, "counted")
        assert not told
        assert (said.status, said.fields["connection"]) == (413, "close")


async def test_a_body_that_turns_out_to_be_too_long_was_asked_for(autojump_clock):
    async def handler(exchange):
        try:
            await exchange.respond(200, await exchange.read(max_bytes=100))
        except trionet.LimitExceededError:
            await exchange.respond(413)

    async with served(handler) as it:
        told, said = await patient(it.client, "chunked")
        assert told
        assert said.status == 413
        assert (await ask(it.client, GET)).status == 200  # the rest of the body was dropped


async def test_a_body_that_never_comes_is_given_up(autojump_clock):
    async def handler(exchange):
        with pytest.raises(trionet.HandleClosedError):
            await streams(exchange, by_read)

    async with served(handler, limits=HTTPLimits(idle_timeout=10)) as it:
        await it.client.send_all(COUNTED)
        assert await receive_all(it.client) == HEAD_OF_100
        await it.over.wait()
        assert it.failure is None


@pytest.mark.parametrize("before", ["nothing", "answers"])
async def test_a_read_that_is_cancelled_while_its_100_cannot_be_sent_tears_nothing(autojump_clock, before):
    """The client reads nothing, so the 100 waits for room. The read was once torn with it, and the connection too."""

    async def handler(exchange):
        if exchange.path != "/p":
            await exchange.respond(200, b"early")
            return
        clogged.append(clog(it.http))
        with trio.move_on_after(5) as waiting:
            await exchange.read()
        assert waiting.cancelled_caught
        assert it.http.phase is Phase.OPEN
        cancelled.set()
        await answers_at_once(exchange, by_read)

    clogged, cancelled = [], trio.Event()
    async with served(handler, make_pair=unix_pair) as it:
        it.scope.nursery.cancel_scope.deadline = trio.current_time() + 60
        await it.client.send_all((get("/1") if before == "answers" else b"") + COUNTED)
        await cancelled.wait()
        # In the pipelined case the answer had not left when the system was full.
        assert await it.client.receive_exactly(clogged[0]) == b"x" * clogged[0]
        if before == "answers":
            assert (await read_answer(it.client)).body == b"early"
        assert (await read_answer(it.client)).status == 100
        await it.client.send_all(BODY)
        assert (await read_answer(it.client)).body == BODY
        assert (await ask(it.client, get("/2"))).body == b"early"
        assert it.failure is None


async def test_a_100_over_a_stream_that_takes_nothing_at_once(autojump_clock):
    """An adopted stream sends in its own time, while the handler waits for the body already."""

    async def handler(exchange):
        await exchange.respond(200, Unbuffered(b"<", await by_trying_again(exchange), b">"))

    async with served(handler, make_pair=memory_pair) as it:
        told, said = await patient(it.client, "chunked")
        assert told
        assert said.body == b"<" + BODY + b">"


async def test_a_client_that_ends_instead_of_sending_its_body(autojump_clock):
    async def handler(exchange):
        with pytest.raises(trionet.RemoteProtocolError, match="EOF in the middle"):
            await streams(exchange, by_read)
        await exchange.respond(400)

    async with served(handler) as it:
        await it.client.send_all(COUNTED)
        await it.client.send_eof()
        assert (await read_answer(it.client)).status == 100
        assert (await read_answer(it.client)).status == 400
