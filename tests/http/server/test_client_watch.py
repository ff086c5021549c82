"""The caretaker's look at clients: silent ones, slow ones, and those that have gone."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, Phase, Reason, RemoteProtocolError
from trionet.http.server.recipe import to_http_server

from ...helpers.http_served import (
    GET,
    POST,
    ask,
    get,
    read_answer,
    replying,
    served,
)
from ...helpers.pairs import SOCKET_PAIRS, clog, tcp_pair, unix_pair

# --- the caretaker -----------------------------------------------------------------------------------------------


async def test_an_idle_connection_is_closed(autojump_clock):
    async with served(replying(), limits=HTTPLimits(idle_timeout=10)) as it:
        for _ in range(3):
            await trio.sleep(8)
            assert (await ask(it.client, GET)).status == 200
        began = trio.current_time()
        assert await it.client.receive_some() == b""
        assert 10 <= trio.current_time() - began <= 11.1
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT
        assert it.failure is None


def send_now(transport, data, receiver):
    """Send in one step, at whose end the data is in the receiver's socket."""
    assert transport.send_some(data) == len(data)
    while not receiver._transport.input_waits():
        pass  # the system may be a moment late


@pytest.mark.parametrize("data", [GET[9:], b"x"], ids=["head", "body"])
@pytest.mark.parametrize("pair", SOCKET_PAIRS.values(), ids=SOCKET_PAIRS)
async def test_what_has_come_by_the_time_is_not_reset_away(pair, data):
    """Something has held the program up, so that nobody had a turn to take it before the caretaker looked."""
    begin = POST % 1 if data == b"x" else GET[:9]

    async def handler(exchange):
        await exchange.respond(200, await exchange.read())

    async with served(handler, make_pair=pair) as it:
        for start in (b"", begin):  # between two requests, and within one
            await it.client.send_all(start)
            await wait_all_tasks_blocked()
            send_now(it.client._transport, data if start else GET, it.http)
            it.http._watch.tick(trio.current_time() + 80)
            assert (await read_answer(it.client)).status == 200
            assert it.http.phase is Phase.OPEN


async def test_half_a_record_that_has_come_by_the_time_is_no_request(server_context, client_context, autojump_clock):
    """A TLS client that sends some bytes at each tick is given one tick, and not one more each time."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.upgrade, trionet.to_tls_client("localhost", ssl_context=client_context))
            tls = await one.upgrade(trionet.to_tls_server(server_context))
        http = await tls.upgrade(to_http_server())
        nursery.cancel_scope.cancel()

        async def loop():
            async for _ in http:
                pass

        scope.start_soon(loop)
        await wait_all_tasks_blocked()
        raw = other.end.successor._transport.lower
        for phase in (Phase.OPEN, Phase.CLOSED):
            send_now(raw, b"\x17" if phase is Phase.OPEN else b"\x03", http)
            http._watch.tick(trio.current_time() + 80)
            assert http.phase is phase
            await wait_all_tasks_blocked()
        assert http.end.reason is Reason.IDLE_TIMEOUT


async def test_a_body_that_does_not_go_on_is_given_up(autojump_clock):
    async def handler(exchange):
        with pytest.raises(trionet.HandleClosedError):
            await exchange.read()

    async with served(handler, limits=HTTPLimits(idle_timeout=10)) as it:
        await it.client.send_all(POST % 3)
        for _ in range(2):
            await trio.sleep(9)
            await it.client.send_all(b"x")
        assert await it.client.receive_some() == b""
        assert trio.current_time() == pytest.approx(28.5, abs=1.5)
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT


async def test_a_head_that_trickles_in_gets_a_408(autojump_clock):
    async with served(replying(), limits=HTTPLimits(head_timeout=5)) as it:
        assert (await ask(it.client, GET)).status == 200
        began = trio.current_time()

        async def trickle():
            for byte in get("/" + "x" * 100):
                await it.client.send_all(bytes([byte]))
                await trio.sleep(0.3)

        it.scope.start_soon(trickle)
        answer = await read_answer(it.client)
        assert answer.status == 408
        assert answer.fields["connection"] == "close"
        assert b"head_timeout" in answer.body
        assert 5 <= trio.current_time() - began <= 7.1
        end = await it.ended()
        assert end.reason is Reason.IDLE_TIMEOUT
        assert it.failure is None
        it.scope.cancel()


async def test_a_head_is_timed_and_not_the_heads_before_it(autojump_clock):
    """Each look finds half a request, but each time another one: once that counted as one late request."""
    async with served(replying(), limits=HTTPLimits(head_timeout=5)) as it:
        await it.client.send_all(GET[:9])
        for _ in range(20):
            await trio.sleep(1)
            assert (await ask(it.client, GET[9:] + GET[:9])).status == 200
        assert it.http.phase is Phase.OPEN


async def test_a_head_that_does_not_come_to_its_end_holds_up_no_close(autojump_clock, caplog):
    """A close waits for the request that has begun, as long as the head may take: its drain deadline may be far."""
    async with served(replying(), limits=HTTPLimits(head_timeout=5), drain_timeout=300) as it:
        await it.client.send_all(GET[:9])
        await wait_all_tasks_blocked()
        await it.http.aclose()
        assert 5 <= trio.current_time() <= 7.1
        answer = await read_answer(it.client)
        assert answer.status == 408
        assert answer.fields["connection"] == "close"
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT
        assert it.failure is None
        assert not caplog.records


async def test_a_body_that_does_not_go_on_holds_up_no_close(autojump_clock):
    async def handler(exchange):
        with pytest.raises(trionet.HandleClosedError):
            await exchange.read()

    async with served(handler, limits=HTTPLimits(idle_timeout=10), drain_timeout=300) as it:
        await it.client.send_all(POST % 3)
        await wait_all_tasks_blocked()
        await it.http.aclose()
        assert 10 <= trio.current_time() <= 11.1
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT


async def test_limits_can_be_switched_off(autojump_clock):
    limits = HTTPLimits(idle_timeout=math.inf, head_timeout=math.inf, send_timeout=math.inf)
    async with served(replying(), limits=limits) as it:
        await it.client.send_all(GET[:5])
        await trio.sleep(10000)
        assert (await ask(it.client, GET[5:])).status == 200


async def test_a_client_that_takes_nothing_is_given_up(autojump_clock):
    async def handler(exchange):
        with pytest.raises(trionet.HandleClosedError):
            await exchange.respond(200, b"x" * 10**8)

    async with served(handler, limits=HTTPLimits(send_timeout=10), make_pair=unix_pair) as it:
        await it.client.send_all(GET)
        await trio.sleep(9)
        assert it.http.phase is Phase.OPEN
        await it.client.receive_exactly(10**6)
        await trio.sleep(8)
        assert it.http.phase is Phase.OPEN
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT
        assert 19 <= trio.current_time() <= 21.1
        assert it.failure is None


async def test_an_error_answer_that_nobody_takes_is_given_up_too(autojump_clock):
    async with served(replying(), limits=HTTPLimits(send_timeout=10), make_pair=unix_pair) as it:
        clog(it.http)
        await it.client.send_all(b"GARBAGE\r\n\r\n")
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT
        assert isinstance(it.failure, RemoteProtocolError)


async def test_a_handler_may_take_its_time_while_its_client_waits(autojump_clock):
    async def handler(exchange):
        await trio.sleep(1000)
        await exchange.respond(200)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).status == 200


@pytest.mark.parametrize("gone", [True, False])
async def test_a_client_that_has_ended_its_direction_is_gone_only_if_that_is_meant(autojump_clock, gone):
    async def handler(exchange):
        await trio.sleep(30)
        if gone:
            with pytest.raises(trionet.HandleClosedError):
                await exchange.respond(200)
        else:
            await exchange.respond(200)

    async with served(handler, limits=HTTPLimits(eof_is_gone=gone)) as it:
        await it.client.send_all(GET)
        await it.client.send_eof()
        if gone:
            assert await it.client.receive_some() == b""
            assert trio.current_time() <= 3
        else:
            assert (await read_answer(it.client)).status == 200
            assert trio.current_time() >= 30
        assert (await it.ended()).reason is Reason.PEER_EOF
        assert it.failure is None


# --- the rate at which a request comes ---------------------------------------------------------------------------


async def test_a_head_that_comes_too_slowly(autojump_clock):
    async with served(replying(), limits=HTTPLimits(min_receive_rate=10, head_timeout=math.inf)) as it:
        began = trio.current_time()
        it.scope.start_soon(send_slowly, it.client, b"GET / HTTP/1.1\r\nHost: " + b"a" * 500, 2)
        answer = await read_answer(it.client)
        assert answer.status == 408
        assert b"came at less than 10 bytes per second (min_receive_rate)" in answer.body
        assert 5 <= trio.current_time() - began <= 7
        assert (await it.ended()).reason is Reason.IDLE_TIMEOUT


@pytest.mark.parametrize(("size", "comes"), [(4, False), (6, True)])
async def test_a_body_has_to_come_at_the_rate(size, comes, autojump_clock):
    async def handler(exchange):
        await exchange.respond(200, await exchange.read())

    async with served(handler, limits=HTTPLimits(min_receive_rate=10)) as it:
        await it.client.send_all(POST % 120)
        it.scope.start_soon(send_slowly, it.client, b"b" * 120, size)
        if comes:
            assert (await read_answer(it.client)).status == 200
            assert it.http.phase is Phase.OPEN
        else:
            assert (await it.ended()).reason is Reason.IDLE_TIMEOUT
            assert trio.current_time() < 20


async def test_a_handler_that_reads_slowly_is_not_the_clients_fault(autojump_clock):
    async def handler(exchange):
        size = 0
        async for piece in exchange:
            size += len(piece)
            await trio.sleep(10)
        await exchange.respond(200, b"%d" % size)

    async with served(handler, limits=HTTPLimits(min_receive_rate=10)) as it:
        await it.client.send_all(POST % 5)
        for _ in range(5):
            await it.client.send_all(b"b")
            await trio.sleep(10.1)
        assert (await read_answer(it.client)).body == b"5"


async def send_slowly(client, data, size):
    """So many bytes each half second."""
    try:
        for at in range(0, len(data), size):
            await client.send_all(data[at : at + size])
            await trio.sleep(0.5)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@pytest.mark.parametrize("rate", [-1, math.inf, math.nan, "5", True])
def test_a_rate_that_cannot_be_right(rate):
    with pytest.raises((ValueError, TypeError), match="min_receive_rate must be a .*bytes per second"):
        HTTPLimits(min_receive_rate=rate)
