"""What is sent: responses that are held back while requests are pipelined, and sends that are taken in part."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason, RemoteProtocolError
from trionet.http.server.output import MAX_HELD_BACK

from ...helpers.http_served import (
    GET,
    ask,
    get,
    read_answer,
    replying,
    served,
    vanish,
)
from ...helpers.pairs import Stingy, clog, receive_all, unix_pair

# --- pipelining --------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order_each_once():
    async def handler(exchange):
        if exchange.path == "/3":
            await trio.lowlevel.checkpoint()
        body = await exchange.read()
        await exchange.respond(200, exchange.path.encode() + body)

    async with served(handler) as it:
        requests = [get(f"/{number}") for number in range(100)]
        requests[5] = b"POST /5 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        requests[6] = b"POST /6 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        await it.client.send_all(b"".join(requests))
        answers = [await read_answer(it.client) for _ in requests]
        expected = [b"/%d" % number for number in range(100)]
        expected[5] += b"abc"
        expected[6] += b"x"
        assert [answer.body for answer in answers] == expected
        await wait_all_tasks_blocked()
        assert it.client._transport.receive_nowait(9) is None


async def test_pipelined_requests_keep_no_other_task_waiting():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def handler(exchange):
        await exchange.respond(200)
        seen.append(turns)

    seen = []
    async with served(handler) as it:
        await it.client.send_all(GET * 200)
        it.scope.start_soon(count)
        while len(seen) < 200:
            await trio.lowlevel.checkpoint()
        assert seen[-1] - seen[0] >= 200 // 32 - 1


async def test_an_answer_is_put_off_while_the_next_request_is_there_but_not_while_that_is_slow():
    go_on = trio.Event()

    async def handler(exchange):
        if exchange.path == "/slow":
            await go_on.wait()
        await exchange.respond(200, exchange.path.encode())

    async with served(handler) as it:
        await it.client.send_all(get("/quick") + get("/quick") + get("/slow") + get("/quick"))
        assert [(await read_answer(it.client)).body for _ in range(2)] == [b"/quick"] * 2
        assert not go_on.is_set()
        go_on.set()
        assert [(await read_answer(it.client)).body for _ in range(2)] == [b"/slow", b"/quick"]


async def test_an_answer_goes_behind_what_has_the_turn_to_be_sent_and_has_not_run_yet():
    async def handler(exchange):
        turn = it.http._output._turn
        turn.held = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.respond, 200)
            await wait_all_tasks_blocked()
            sent.append(it.http.statistics().bytes_sent)
            turn.release()

    sent = []
    async with served(handler) as it:
        assert (await ask(it.client, GET)).status == 200
        assert sent == [0]


async def test_what_is_put_off_is_bounded():
    most = 0

    async def handler(exchange):
        nonlocal most
        await exchange.respond(200, b"x" * 10000)
        most = max(most, it.http._output.size)

    async with served(handler) as it:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.client.send_all, GET * 30)
            for _ in range(30):
                assert len((await read_answer(it.client)).body) == 10000
        assert 0 < most <= MAX_HELD_BACK + 11000


async def test_an_error_answer_waits_behind_good_ones():
    async with served(replying()) as it:
        await it.client.send_all(GET * 3 + b"GARBAGE\r\n\r\n" + GET)
        for _ in range(3):
            assert (await read_answer(it.client)).status == 200
        answer = await read_answer(it.client)
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        await it.client.send_eof()
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR
        assert isinstance(it.failure, RemoteProtocolError)
        assert len(it.exchanges) == 3


async def test_an_answer_whose_turn_to_be_sent_never_came_is_not_forgotten(autojump_clock):
    """The answers before it clog the connection; once, when it was given up, the next one was sent in its place."""

    async def handler(exchange):
        number = int(exchange.path[1:])
        if number < 10:
            await exchange.respond(200, b"%d" % number * 10)
            return
        await trio.sleep(1)  # the answers before this one are being sent by a service task, and nobody reads them
        assert it.http._output._turn.held
        with trio.move_on_after(1):
            await exchange.respond(200, b"given up")

    async with served(handler, make_pair=unix_pair) as it:
        clog(it.http)
        await it.client.send_all(b"".join(get(f"/{number}") for number in range(12)))
        await it.over.wait()
        assert len(it.exchanges) == 11
        assert it.http.end.reason is Reason.ABORTED


async def test_a_send_that_was_given_up_spares_the_answers_that_waited(autojump_clock):
    """A loop that is left for a while, and its answers with it: whole or not begun."""
    async with served(replying(body=b"x" * 100), make_pair=unix_pair) as it:
        await wait_all_tasks_blocked()
        it.scope.cancel()
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        http = await one.upgrade(trionet.to_http_server())
        filler = clog(http)
        await other.send_all(GET * 3)
        for _ in range(3):
            await (await anext(http)).respond(200, b"x" * 100)
        with trio.move_on_after(1) as giving_up:
            await anext(http)
        assert giving_up.cancelled_caught
        assert http.phase is Phase.OPEN
        await other.receive_exactly(filler)
        for _ in range(3):
            assert (await read_answer(other)).body == b"x" * 100


# --- sends that are taken in part --------------------------------------------------------------------------------


async def test_the_rest_of_a_small_answer_follows_when_the_system_takes_it():
    async with served(replying(body=b"x" * 1000)) as it:
        it.http._transport = stingy = Stingy(it.http._transport, 500)
        await it.client.send_all(GET)
        await wait_all_tasks_blocked()
        with pytest.raises(trionet.HandleBusyError, match="send by task"):
            it.http.detach()
        stingy.go_on.set()
        assert (await read_answer(it.client)).body == b"x" * 1000
        assert (await ask(it.client, GET)).body == b"x" * 1000
        assert it.http.statistics().bytes_sent == it.client.statistics().bytes_received


async def test_a_small_answer_that_is_cancelled_half_way_ends_the_connection(autojump_clock):
    """It was once left open: its client waited for the rest, and the next handler answered in vain."""

    async def handler(exchange):
        with trio.move_on_after(1):
            await exchange.respond(200, b"x" * 1000)
        assert it.http.phase is Phase.CLOSED

    async with served(handler) as it:
        it.http._transport = Stingy(it.http._transport, 500)
        await it.client.send_all(GET)
        assert len(await receive_all(it.client)) == 500
        assert (await it.ended()).reason is Reason.ABORTED
        assert it.failure is None
        assert len(it.exchanges) == 1


async def test_a_client_that_resets_in_the_middle_of_a_small_answer_breaks_it():
    async def handler(exchange):
        with pytest.raises(trionet.HandleBrokenError) as caught:
            await exchange.respond(200, b"x" * 1000)
        assert caught.value.bytes_sent == 500

    async with served(handler) as it:
        it.http._transport = Stingy(it.http._transport, 500, trio.BrokenResourceError("reset"))
        it.http._transport.inner.bytes_sent = 0
        await it.client.send_all(GET)
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None


async def test_answers_that_were_put_off_and_taken_in_part_are_sent_by_a_service_task():
    go_on = trio.Event()

    async def handler(exchange):
        if exchange.path == "/slow":
            await go_on.wait()
        await exchange.respond(200, b"x" * 1000)

    async with served(handler) as it:
        it.http._transport = stingy = Stingy(it.http._transport, 100)
        await it.client.send_all(GET * 2 + get("/slow"))
        await wait_all_tasks_blocked()
        assert it.http._output._turn.held
        stingy.go_on.set()
        assert [len((await read_answer(it.client)).body) for _ in range(2)] == [1000, 1000]
        go_on.set()
        assert (await read_answer(it.client)).status == 200


async def test_a_500_for_a_handler_that_closes_comes_behind_what_is_being_sent():
    """The 500 was once lost if it came while a service task was sending the answers before it."""

    async def handler(exchange):
        if exchange.path == "/close":
            await wait_all_tasks_blocked()
            assert it.http._output._turn.held
            it.scope.start_soon(later)
            await it.http.aclose()
        else:
            await exchange.respond(200, b"x" * 1000)

    async def later():
        await wait_all_tasks_blocked()
        stingy.go_on.set()

    async with served(handler) as it:
        it.http._transport = stingy = Stingy(it.http._transport, 100)
        await it.client.send_all(GET + get("/close"))
        assert (await read_answer(it.client)).status == 200
        answer = await read_answer(it.client)
        assert (answer.status, answer.fields["connection"]) == (500, "close")
        assert (await it.ended()).reason is Reason.LOCAL


async def test_answers_that_nobody_takes_any_more_are_dropped_with_the_connection():
    async def handler(exchange):
        await exchange.respond(200)
        if exchange.path == "/last":
            vanish(it.client)

    async with served(handler) as it:
        await it.client.send_all(GET + get("/last") + GET[:5])
        await it.over.wait()
        assert it.http.end.reason is Reason.PEER_RESET
