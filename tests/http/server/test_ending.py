"""How exchanges end that their handlers have left, and connections that are told to end between two requests."""

import contextlib
import math

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, LocalProtocolError, Phase, Reason

from ...helpers.http_served import (
    CHUNKED,
    GET,
    POST,
    WEBSOCKET,
    ask,
    get,
    read_answer,
    replying,
    served,
    vanish,
)
from ...helpers.pairs import Stingy, clog, receive_all, tcp_pair, unix_pair

# --- handlers that leave their exchange --------------------------------------------------------------------------


async def test_a_handler_that_does_not_answer_gives_a_500_and_the_connection_goes_on():
    async def handler(exchange):
        if exchange.path == "/good":
            await exchange.respond(200)

    async with served(handler) as it:
        for target in ("/bad", "/good", "/bad"):
            assert (await ask(it.client, get(target))).status == (200 if target == "/good" else 500)
        assert it.failure is None
        assert [exchange.status for exchange in it.exchanges] == [500, 200, 500]


async def test_an_answer_that_is_left_in_the_middle_is_cut_off():
    async def handler(exchange):
        stream = exchange.stream(200)
        await stream.__aenter__()
        await stream.send(b"abc")

    async with served(handler) as it:
        await it.client.send_all(GET * 2)
        assert (await receive_all(it.client)).endswith(b"\r\n3\r\nabc\r\n")
        assert (await it.ended()).reason is Reason.ABORTED
        assert it.failure is None
        assert len(it.exchanges) == 1


@pytest.mark.parametrize("size", [1000, 60000])
async def test_a_body_that_nobody_reads_is_dropped_and_the_connection_goes_on(size):
    async with served(replying()) as it:
        for _ in range(2):
            await it.client.send_all(POST % size)
            assert (await read_answer(it.client)).status == 200
            await it.client.send_all(b"x" * size)
        assert (await ask(it.client, GET)).status == 200
        assert it.failure is None


@pytest.mark.parametrize("size", [70000, 10**6, 10**7])
async def test_a_longer_one_ends_the_connection_and_the_answer_can_be_read(size, autojump_clock):
    async with served(replying(413, b"too long")) as it:
        async with trio.open_nursery() as nursery:

            async def send():
                with contextlib.suppress(trio.BrokenResourceError):
                    await it.client.send_all(POST % size + b"x" * size)

            nursery.start_soon(send)
            assert (await read_answer(it.client)).body == b"too long"
        assert (await it.ended()).reason in (Reason.LOCAL, Reason.PEER_RESET)
        assert it.failure is None


async def test_a_body_that_does_not_come_is_waited_for_a_second(autojump_clock):
    async with served(replying()) as it:
        assert (await ask(it.client, POST % 10)).status == 200
        began = trio.current_time()
        assert await it.client.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(1, abs=0.01)
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None


async def test_the_bounds_on_an_unread_body_can_be_set(autojump_clock):
    async with served(replying(), limits=HTTPLimits(drain_bytes=0, drain_timeout=math.inf)) as it:
        await it.client.send_all(CHUNKED)
        assert (await read_answer(it.client)).status == 200
        await trio.sleep(10)
        assert it.http.phase is Phase.OPEN
        await it.client.send_all(b"1\r\nx\r\n")
        assert await it.client.receive_some() == b""
    async with served(replying(), limits=HTTPLimits(drain_timeout=0)) as it:
        assert (await ask(it.client, POST % 2 + b"xx")).status == 200
        assert (await ask(it.client, POST % 2 + b"x")).status == 200
        assert await it.client.receive_some() == b""


@pytest.mark.parametrize(("size", "says"), [(100, None), (101, "close")])
async def test_an_answer_says_close_where_more_of_the_body_is_unread_than_is_dropped(size, says):
    """Its client would send the next request behind the body, and lose it."""
    async with served(replying(), limits=HTTPLimits(drain_bytes=100)) as it:
        assert (await ask(it.client, POST % size)).fields.get("connection") == says
        await it.client.send_all(bytes(size))
        if says is None:
            assert (await ask(it.client, GET)).status == 200
        else:
            assert await it.client.receive_some() == b""


async def test_an_answer_behind_a_long_body_that_was_read_does_not_end_the_connection():
    async def handler(exchange):
        if exchange.path == "/begins":
            assert await anext(exchange)
        else:
            await exchange.read()
        await exchange.respond(200)

    async with served(handler, limits=HTTPLimits(drain_bytes=100)) as it:
        begins = (POST % 150).replace(b"POST /", b"POST /begins")
        for request in (POST % 150, begins):
            await it.client.send_all(request + bytes(60))
            await wait_all_tasks_blocked()
            await it.client.send_all(bytes(90))
            assert "connection" not in (await read_answer(it.client)).fields


async def test_a_malformed_body_that_nobody_reads_is_no_request_either():
    async with served(replying()) as it:
        await it.client.send_all(CHUNKED + b"zz\r\n\r\n" + GET)
        assert (await read_answer(it.client)).status == 200
        await it.client.send_eof()
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR
        assert len(it.exchanges) == 1


# --- doors that shut between two requests ------------------------------------------------------------------------


async def test_a_connection_that_retires_between_pipelined_requests_answers_them_and_says_which_was_the_last():
    async def handler(exchange):
        await exchange.respond(200)
        it.http._retire()

    async with served(handler) as it:
        await it.client.send_all(GET * 3)
        for connection in (None, None, "close"):
            assert (await read_answer(it.client)).fields.get("connection") == connection
        await it.client.send_eof()
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None
        assert len(it.exchanges) == 3


async def test_a_connection_that_retires_behind_the_last_request_ends_the_loop():
    async def handler(exchange):
        await exchange.respond(200)
        it.http._retire()

    async with served(handler) as it:
        assert (await ask(it.client, GET)).status == 200
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None


async def test_a_connection_that_retires_after_a_body_in_two_pieces_is_not_waited_for():
    """The reader of the body was once taken for the reader of the next request, so that a drain waited for it."""

    async def handler(exchange):
        await exchange.respond(200, await exchange.read())

    async with served(handler) as it:
        await it.client.send_all(POST % 2 + b"a")
        await wait_all_tasks_blocked()
        assert (await ask(it.client, b"b")).body == b"ab"
        await wait_all_tasks_blocked()
        it.http._retire()
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None


async def test_an_answer_that_is_taken_back_while_the_connection_retires_is_the_last_all_the_same():
    async def handler(exchange):
        with pytest.raises(KeyError):
            async with exchange.stream(200):
                it.http._retire()
                raise KeyError
        await exchange.respond(503)

    async with served(handler) as it:
        answer = await ask(it.client, GET)
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        assert await it.client.receive_some() == b""


async def test_a_loop_waits_for_what_becomes_of_a_connection_that_somebody_wants():
    """It asks for the next request while its answer before is on the way and another task waits to detach."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        http = await one.upgrade(trionet.to_http_server())
        http._transport = stingy = Stingy(http._transport, 100)
        await other.send_all(GET * 2)
        async with trio.open_nursery() as nursery:
            await (await anext(http)).respond(200, b"x" * 1000)
            capsules = []

            async def detach():
                capsules.append(await http.detach_when_idle())

            async def go_on():
                with pytest.raises(StopAsyncIteration):
                    await anext(http)

            nursery.start_soon(detach)
            await wait_all_tasks_blocked()  # the flush has been taken in part
            assert http.phase is Phase.RESERVED
            nursery.start_soon(go_on)
            await wait_all_tasks_blocked()
            stingy.go_on.set()
        assert bytes(capsules[0].leftover) == GET
        assert (await read_answer(other)).status == 200
        scope.cancel()


async def test_a_loop_whose_wait_for_that_was_cancelled_can_wait_again():
    """Two requests are pipelined, and a task waits to detach; asking for the next one is given up, and asked again."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        http = await one.upgrade(trionet.to_http_server())
        http._transport = stingy = Stingy(http._transport, 100)
        await other.send_all(GET * 2)
        async with trio.open_nursery() as nursery:
            await (await anext(http)).respond(200, b"x" * 1000)
            nursery.start_soon(http.detach_when_idle)
            await wait_all_tasks_blocked()  # the flush has been taken in part
            assert http.phase is Phase.RESERVED
            with trio.CancelScope() as waiting:
                nursery.start_soon(cancel_when_blocked, waiting)
                await anext(http)
            assert waiting.cancelled_caught
            nursery.start_soon(go_on_when_blocked, stingy)
            with pytest.raises(StopAsyncIteration):
                await anext(http)
        assert http.phase is Phase.MOVED
        scope.cancel()


async def cancel_when_blocked(waiting):
    await wait_all_tasks_blocked()
    waiting.cancel()


async def go_on_when_blocked(stingy):
    await wait_all_tasks_blocked()
    stingy.go_on.set()


@pytest.mark.parametrize("called_off", [True, False])
async def test_a_loop_that_sends_what_it_put_off_meets_somebody_who_wants_the_connection(called_off):
    """It waits for its turn to send, and by then there is nothing left to send and the door is shut."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        http = await one.upgrade(trionet.to_http_server())
        http._transport = stingy = Stingy(http._transport, 100)
        await other.send_all(GET + GET[:9])
        await (await anext(http)).respond(200, b"x" * 1000)
        capsules, exchanges = [], []
        waiting = trio.CancelScope()

        async def detach():
            with waiting:
                capsules.append(await http.detach_when_idle())

        async def loop():
            async for exchange in http:
                exchanges.append(exchange)
                await exchange.respond(204)
            exchanges.append(None)

        await wait_all_tasks_blocked()  # the flush has been taken in part
        async with trio.open_nursery() as nursery:
            scope.start_soon(loop)
            await wait_all_tasks_blocked()
            nursery.start_soon(detach)
            await wait_all_tasks_blocked()
            assert http.phase is Phase.RESERVED
            if called_off:
                waiting.cancel()
                await wait_all_tasks_blocked()
                assert http.phase is Phase.OPEN
            stingy.go_on.set()
        assert (await read_answer(other)).status == 200
        if called_off:
            assert (await ask(other, GET[9:])).status == 204
        else:
            await wait_all_tasks_blocked()
            assert bytes(capsules[0].leftover) == GET[:9]
            assert exchanges == [None]
        scope.cancel()


@pytest.mark.parametrize("called_off", [True, False])
async def test_a_loop_that_comes_back_to_a_shut_door_waits_before_it(called_off):
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        http = await one.upgrade(trionet.to_http_server())
        http._transport = stingy = Stingy(http._transport, 100)
        await other.send_all(GET * 2)
        await (await anext(http)).respond(200, b"x" * 1000)
        await wait_all_tasks_blocked()
        exchanges = []

        async def loop():
            async for exchange in http:
                exchanges.append(exchange)
                await exchange.respond(204)
            exchanges.append(None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(http.detach_when_idle)
            await wait_all_tasks_blocked()
            scope.start_soon(loop)
            await wait_all_tasks_blocked()
            assert not exchanges
            stingy.go_on.set()
            if called_off:
                nursery.cancel_scope.cancel()
        assert (await read_answer(other)).status == 200
        if called_off:
            assert (await read_answer(other)).status == 204
        else:
            await wait_all_tasks_blocked()
            assert exchanges == [None]
        scope.cancel()


async def test_a_handler_that_knows_of_a_malformed_body_and_closes():
    async def handler(exchange):
        with pytest.raises(trionet.RemoteProtocolError):
            await exchange.read()
        await it.http.aclose()

    async with served(handler) as it:
        await it.client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert (await read_answer(it.client)).status == 500
        await it.client.send_eof()
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR


async def test_a_500_that_nobody_takes_ends_the_loop_quietly(autojump_clock):
    async def handler(exchange):
        clog(it.http)

    async with served(handler, limits=HTTPLimits(send_timeout=5), make_pair=unix_pair) as it:
        await it.client.send_all(GET)
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT
        assert it.failure is None


async def test_the_recipe_is_used_once_and_on_connections_only():
    with pytest.raises(TypeError, match="must be a trionet.HTTPLimits"):
        trionet.to_http_server(limits=5)
    recipe = trionet.to_http_server()
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        http = await one.upgrade(recipe)
        with pytest.raises(LocalProtocolError, match="used before"):
            await other.upgrade(recipe)
        with pytest.raises(LocalProtocolError, match="works on a Connection"):
            await http.upgrade(trionet.to_http_server())
        assert http.phase is other.phase is Phase.OPEN
        scope.cancel()


async def test_a_client_that_has_ended_its_direction_long_ago():
    """EOF was met before HTTP began."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(GET)
        await other.send_eof()
        assert await one.receive_exactly(len(GET)) == GET
        assert await one.receive_some() == b""
        with pytest.raises(trionet.HandleClosedError):
            await one.upgrade(trionet.to_http_server())
        scope.cancel()


async def test_an_answer_in_the_middle_of_a_body_that_ended_too_early():
    async def handler(exchange):
        await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(GET + POST % 5 + b"ab")
        await it.client.send_eof()
        assert (await read_answer(it.client)).status == 200
        assert (await read_answer(it.client)).status == 200
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR


async def test_an_error_answer_to_a_client_that_cannot_be_half_closed(autojump_clock):
    """A foreign stream: the close waits for its client all the same, and no longer than a second."""

    def make_pair(scope):
        one, other = trio.testing.memory_stream_pair()
        return scope.adopt(trio.StapledStream(one, _Only(one))), scope.adopt(other)

    async with served(replying(), make_pair=make_pair) as it:
        await it.client.send_all(b"GARBAGE\r\n\r\n")
        assert (await read_answer(it.client)).status == 400
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR
        assert trio.current_time() <= 1.1


class _Only(trio.abc.ReceiveStream):
    def __init__(self, inner):
        self.inner = inner

    async def receive_some(self, max_bytes=None):
        return await self.inner.receive_some(max_bytes)

    async def aclose(self):
        await self.inner.aclose()


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_connect_is_not_granted_by_an_answer(status):
    """What follows would be taken for the tunnel's bytes by the client, and for HTTP here."""

    async def handler(exchange):
        for body in (b"", b"x" * 20000, [b"x"]):
            with pytest.raises(trionet.RemoteProtocolError, match="CONNECT"):
                await exchange.respond(status, body)
        await exchange.respond(403)

    async with served(handler) as it:
        answer = await ask(it.client, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
        assert (answer.status, answer.fields["connection"]) == (403, "close")
        await it.over.wait()
        assert it.failure is None


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"]
)
async def test_an_upgrade_request_with_a_body_is_not_upgraded_also_when_that_was_read(framing):
    async def handler(exchange):
        assert not exchange.wants_websocket
        assert exchange.offered_protocols == ()
        for _ in range(2):
            for recipe in (trionet.to_websocket_server(), trionet.to_connection("websocket")):
                with pytest.raises(LocalProtocolError, match="it has a body"):
                    await exchange.upgrade(recipe)
            assert await exchange.read() in (b"x", b"")
        await exchange.respond(200, b"no")

    async with served(handler) as it:
        answer = await ask(it.client, WEBSOCKET.removesuffix(b"\r\n") + framing)
        assert answer.body == b"no"
        assert (await ask(it.client, WEBSOCKET.removesuffix(b"\r\n") + framing)).body == b"no"
        assert it.failure is None


async def test_a_client_that_resets_in_a_handshake_breaks_that_and_not_the_caretaker(autojump_clock):
    class Slow:
        def prepare(self, source):
            pass

        async def handshake(self, wire):
            await trio.sleep(10)
            await wire.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

        def commit(self):
            raise AssertionError("nobody is there")

    async def handler(exchange):
        with pytest.raises(trionet.UpgradeFailedError):
            await exchange.upgrade(Slow())
        failed.append(trio.current_time())

    failed = []
    async with served(handler) as it:
        await it.client.send_all(get("/", "Connection: upgrade", "Upgrade: a"))
        await wait_all_tasks_blocked()
        vanish(it.client)
        await it.over.wait()
        assert failed == [pytest.approx(10)]


async def test_a_close_from_outside_makes_the_answer_the_last_one():
    go_on = trio.Event()

    async def handler(exchange):
        await go_on.wait()
        await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(GET * 2)
        await wait_all_tasks_blocked()
        it.scope.start_soon(it.http.aclose)
        await wait_all_tasks_blocked()
        assert it.http.phase is Phase.DRAINING
        go_on.set()
        assert (await read_answer(it.client)).fields["connection"] == "close"
        assert await receive_all(it.client) == b""
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None
        assert len(it.exchanges) == 1


async def test_a_client_is_looked_at_only_when_its_handler_has_taken_a_tick_since_it_was_read_last(autojump_clock):
    """A handler that reads its body bit by bit is told of a reset by the read, as it should be."""

    async def handler(exchange):
        await trio.sleep(1.5)
        with pytest.raises(trionet.HandleBrokenError):
            while True:
                await exchange.__anext__()
                await trio.sleep(0.3)

    async with served(handler) as it:
        await it.client.send_all(POST % 100)
        await trio.sleep(1.9)
        for _ in range(2):
            await it.client.send_all(b"x")
            await trio.sleep(0.4)
        vanish(it.client)
        await it.over.wait()
        assert it.failure is None


# --- the end of the loop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [False, True])
async def test_the_end_behind_a_last_response_is_a_step_unless_it_has_to_let_others_run(reads):
    """They had their turn when its request was received; reading a body has used that up."""
    async with trionet.open_scope() as scope:
        client, server = tcp_pair(scope)
        connection = await server.upgrade(trionet.to_http_server())
        await client.send_all(get("/", "Connection: close"))
        exchange = await anext(connection)
        if reads:
            assert await exchange.read() == b""
        await exchange.respond(200)
        with assert_checkpoints() if reads else assert_no_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(connection)
        assert connection.end.reason is Reason.LOCAL
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):  # a loop that asks again
            await anext(connection)


async def test_an_observer_sees_both_steps_of_the_end_behind_a_last_response():
    seen = []
    async with trionet.open_scope(observer=lambda handle, before, after: seen.append((before, after))) as scope:
        client, server = tcp_pair(scope)
        connection = await server.upgrade(trionet.to_http_server())
        await client.send_all(get("/", "Connection: close"))
        await (await anext(connection)).respond(200)
        seen.clear()
        with pytest.raises(StopAsyncIteration):
            await anext(connection)
    assert seen[:2] == [(Phase.OPEN, Phase.DRAINING), (Phase.DRAINING, Phase.CLOSED)]
