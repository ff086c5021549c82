"""Exchanges: what a handler says, what its client gets, and how requests follow one another."""

import contextlib
import io
import math
import tempfile

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Headers, HTTPLimits, LocalProtocolError, Phase, Reason, RemoteProtocolError
from trionet.http.server.connection import to_http_server
from trionet.http.server.exchange import LARGE
from trionet.http.server.output import MAX_HELD_BACK

from ...helpers.http_served import (
    CHUNKED,
    GET,
    POST,
    Unbuffered,
    ask,
    get,
    read_answer,
    replying,
    served,
    vanish,
)
from ...helpers.pairs import SOCKET_PAIRS, clog, receive_all, tcp_pair, unix_pair

# --- answers -----------------------------------------------------------------------------------------------------

SMALL, HUGE = b"x" * 10, bytes(range(256)) * 4096


BODIES = {
    "bytes": (lambda: SMALL, SMALL, True),
    "nothing": (lambda: b"", b"", True),
    "large": (lambda: b"x" * (LARGE + 1), b"x" * (LARGE + 1), True),
    "huge": (lambda: HUGE, HUGE, True),
    "bytearray": (lambda: bytearray(SMALL), SMALL, True),
    "memoryview": (lambda: memoryview(HUGE), HUGE, True),
    "wide memoryview": (lambda: memoryview(HUGE).cast("I"), HUGE, True),
    "memoryview without a dimension": (lambda: memoryview(b"x").cast("B", shape=[]), b"x", True),
    "file in memory": (lambda: io.BytesIO(HUGE), HUGE, True),
    "list": (lambda: [b"a", b"", bytearray(b"b")], b"ab", True),
    "generator": (lambda: (b"%d" % number for number in range(20)), b"".join(b"%d" % n for n in range(20)), False),
    "async iterable": (lambda: Unbuffered(b"a", b"", b"b"), b"ab", False),
    "empty async iterable": (lambda: Unbuffered(), b"", False),
}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(("make", "expected", "counted"), BODIES.values(), ids=BODIES)
async def test_a_body_of_every_kind_arrives_whole(make, expected, counted, version):
    async def handler(exchange):
        await exchange.respond(200, make(), headers={"X": "y"})

    async with served(handler) as it:
        answers = []

        async def read():
            for _ in range(1 if version == "1.0" and not counted else 2):
                answers.append(await read_answer(it.client))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await it.client.send_all(get("/", "Connection: keep-alive", version=version) * 2)
        for answer in answers:
            assert (answer.status, answer.body, answer.fields["x"]) == (200, expected, "y")
            assert ("content-length" in answer.fields) is counted
            assert ("transfer-encoding" in answer.fields) is (not counted and version == "1.1")
        assert it.failure is None


async def test_a_file_on_disk_is_sent_from_where_it_stands():
    with tempfile.TemporaryFile() as file:
        file.write(b"skipped" + HUGE)
        file.flush()

        async def handler(exchange):
            file.seek(7)
            await exchange.respond(200, file)

        async with served(handler) as it:
            answer = await ask(it.client, GET)
            assert answer.body == HUGE
            assert answer.fields["content-length"] == str(len(HUGE))


@pytest.mark.parametrize("body", [b"", SMALL, HUGE, [b"ab"], iter([b"ab"])], ids=["0", "10", "huge", "list", "iter"])
async def test_head_gets_the_fields_and_no_body(body):
    async with served(replying(200, body)) as it:
        answer = await ask(it.client, get("/", method="HEAD"), "HEAD")
        assert answer.status == 200
        if isinstance(body, bytes) and body:
            assert answer.fields["content-length"] == str(len(body))
        assert (await ask(it.client, get("/", method="HEAD"), "HEAD")).status == 200
        assert it.client._transport.receive_nowait(9) is None
        assert it.failure is None


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body(status):
    async def handler(exchange):
        for body in (b"x", HUGE, [b"x"]):
            with pytest.raises(LocalProtocolError, match="has no body"):
                await exchange.respond(status, body)
        assert exchange.status == 0
        await exchange.respond(status)

    async with served(handler) as it:
        for _ in range(2):
            answer = await ask(it.client, GET)
            assert answer.status == status
            assert not {"content-length", "transfer-encoding"} & {*answer.fields}
        assert it.failure is None


async def test_205_has_no_content_and_says_so():
    async def handler(exchange):
        for body in (b"x", HUGE):
            with pytest.raises(LocalProtocolError, match="205 has no content"):
                await exchange.respond(205, body)
        with pytest.raises(LocalProtocolError, match="longer than its Content-Length of 0"):
            await exchange.respond(205, iter([b"x"]))
        await exchange.respond(205)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).fields["content-length"] == "0"
        assert it.failure is None


@pytest.mark.parametrize(
    ("lines", "version", "stays"),
    [
        ([], "1.1", True),
        (["Connection: close"], "1.1", False),
        ([], "1.0", False),
        (["Connection: Keep-Alive"], "1.0", True),
    ],
)
@pytest.mark.parametrize("body", [b"ok", HUGE])
async def test_whether_the_connection_persists_is_said_and_done(lines, version, stays, body):
    async with served(replying(body=body)) as it:
        answer = await ask(it.client, get("/", *lines, version=version))
        assert answer.body == body
        assert answer.fields.get("connection") == {
            (True, "1.1"): None,
            (True, "1.0"): "keep-alive",
        }.get((stays, version), "close")
        if stays:
            assert (await ask(it.client, GET)).status == 200
        else:
            assert await it.client.receive_some() == b""
            assert (await it.ended()).reason is Reason.LOCAL
            assert it.failure is None


@pytest.mark.parametrize("body", [b"ok", HUGE])
async def test_an_answer_that_says_close_closes(body):
    async with served(replying(body=body, headers=[("Connection", "close")])) as it:
        assert (await ask(it.client, GET)).body == body
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None


async def test_what_is_pipelined_behind_the_last_request_does_not_reset_its_answer_away(autojump_clock):
    async with served(replying(headers=[("Connection", "close")])) as it:
        await it.client.send_all(GET * 2)
        assert (await read_answer(it.client)).status == 200
        assert await it.client.receive_some() == b""
        await it.client.send_all(GET)
        await wait_all_tasks_blocked()
        await it.client.send_all(GET)  # into a connection that was closed, and not half-closed, this breaks
        await it.client.aclose()
        assert (await it.ended()).reason is Reason.LOCAL
        assert len(it.exchanges) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("X", "a\r\nSet-Cookie: b")],
        [("X\r\n", "a")],
        [("X", "a\nb")],
        [("X: y", "z")],
        [("X", "\0")],
        {"X": "☃"},
        [("X", 1)],
        [("Transfer-Encoding", "chunked")],
        [("Content-Length", "-1")],
        [("Content-Length", "1"), ("Content-Length", "2")],
        [("Content-Length", "77")],
    ],
)
@pytest.mark.parametrize("body", [b"ok", b"x" * (LARGE + 1), [b"ok"]], ids=["small", "large", "list"])
async def test_a_field_that_cannot_be_sent_is_refused_before_a_byte_is(headers, body):
    async def handler(exchange):
        before = it.http.statistics().bytes_sent
        for refused in (
            lambda: exchange.respond(200, body, headers=headers),
            lambda: exchange.inform(103, headers),
            lambda: exchange.stream(200, headers=headers, length=2).__aenter__(),
        ):
            if refused == 1 and "Length" in str(headers):
                continue
            with pytest.raises((ValueError, TypeError, LocalProtocolError)):
                await refused()
        assert exchange.status == 0
        assert it.http.statistics().bytes_sent == before
        await exchange.respond(200, b"good")

    async with served(handler) as it:
        assert (await ask(it.client, GET)).body == b"good"
        assert it.failure is None


@pytest.mark.parametrize("status", [99, 100, 101, 199, 1000, -200])
async def test_a_status_that_is_none_is_refused(status):
    async def handler(exchange):
        for body in (b"", HUGE, [b""]):
            with pytest.raises(LocalProtocolError, match="must be that of a final response"):
                await exchange.respond(status, body)
        await exchange.respond(299)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).status == 299
        assert it.failure is None


async def test_an_exchange_is_answered_once():
    async def handler(exchange):
        await exchange.respond(200)
        for again in (
            lambda: exchange.respond(200),
            lambda: exchange.respond(200, HUGE),
            lambda: exchange.inform(103),
            lambda: exchange.stream(200).__aenter__(),
            lambda: exchange.upgrade(trionet.to_connection()),
            lambda: exchange.read(),
        ):
            with pytest.raises(LocalProtocolError, match="is over"):
                await again()
        assert exchange.offered_protocols == ()

    async with served(handler) as it:
        assert (await ask(it.client, GET)).status == 200
        assert (await ask(it.client, GET)).status == 200
        assert it.failure is None


async def test_an_answer_can_precede_the_reading_of_the_body():
    async def handler(exchange):
        await exchange.respond(200, b"ok")
        with pytest.raises(LocalProtocolError):
            await exchange.respond(200, b"again")
        assert it.http._cycle.exchange is exchange
        assert await exchange.read() == b"abc"
        assert it.http._cycle.exchange is None

    async with served(handler) as it:
        await it.client.send_all(POST % 3)
        assert (await read_answer(it.client)).status == 200
        await it.client.send_all(b"abc")
        assert (await ask(it.client, POST % 3 + b"abc")).status == 200
        assert it.failure is None


# --- informational answers ---------------------------------------------------------------------------------------


async def test_early_hints_precede_the_answer_but_for_http_1_0():
    async def handler(exchange):
        for status in (99, 101, 200):
            with pytest.raises(LocalProtocolError, match="must be that of an informational response"):
                await exchange.inform(status)
        await exchange.inform(103, [("Link", "</style.css>")])
        await exchange.inform(102)
        await exchange.respond(200, b"ok")

    async with served(handler) as it:
        answer = await ask(it.client, GET)
        assert (answer.status, answer.fields) == (103, {"link": "</style.css>"})
        assert (await read_answer(it.client)).status == 102
        assert (await read_answer(it.client)).body == b"ok"
        assert (await ask(it.client, get("/", version="1.0"))).status == 200
        assert it.failure is None


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


async def test_what_is_put_off_is_bounded():
    most = 0

    async def handler(exchange):
        nonlocal most
        await exchange.respond(200, b"x" * 10000)
        most = max(most, it.http._output._size)

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


# --- clients that go ---------------------------------------------------------------------------------------------


async def test_a_client_that_resets_between_two_requests_ends_the_loop_quietly():
    async with served(replying()) as it:
        await ask(it.client, GET)
        await wait_all_tasks_blocked()
        vanish(it.client)
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None
        with pytest.raises(trionet.HandleClosedError):
            await anext(it.http)


@pytest.mark.parametrize("answers", [True, False])
async def test_a_client_that_resets_while_its_body_is_dropped_ends_the_loop_quietly(answers):
    gone = trio.Event()

    async def handler(exchange):
        if answers:
            await exchange.respond(200)
        else:
            await gone.wait()

    async with served(handler) as it:
        await it.client.send_all(POST % 100)
        await wait_all_tasks_blocked()
        vanish(it.client)
        gone.set()
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None


async def test_a_client_that_resets_in_its_body_breaks_the_read():
    async def handler(exchange):
        with pytest.raises(trionet.HandleBrokenError, match="receive failed"):
            await exchange.read()
        with pytest.raises(trionet.HandleBrokenError):
            await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(POST % 100)
        await wait_all_tasks_blocked()
        vanish(it.client)
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None


@pytest.mark.parametrize("body", [b"ok", HUGE, [b"ok"]], ids=["small", "large", "list"])
async def test_a_client_that_has_reset_breaks_the_answer(body):
    async def handler(exchange):
        vanish(it.client)
        with pytest.raises(trionet.HandleBrokenError, match="send failed"):
            await exchange.respond(200, body)
        assert it.http.phase is Phase.CLOSED

    async with served(handler) as it:
        await it.client.send_all(GET)
        assert (await it.ended()).reason is Reason.PEER_RESET
        assert it.failure is None


async def test_answers_that_were_put_off_break_quietly():
    async def handler(exchange):
        await exchange.respond(200)
        if len(it.exchanges) == 2:
            vanish(it.client)
            await wait_all_tasks_blocked()
            assert it.http._life.state.reset

    async with served(handler) as it:
        await it.client.send_all(GET * 3)
        await it.over.wait()
        assert isinstance(it.failure, (trionet.HandleBrokenError, type(None)))


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


# --- nothing smuggled --------------------------------------------------------------------------------------------

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LINES = {
    "CL.TE": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE.CL": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "TE.TE": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "TE twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE listed": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE in disguise": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE with a tab": b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "TE with a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "space before the field": b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare CR": b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL": b"X: y\0\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n",
    "the same length twice": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": b"Content-Length: 0, 35\r\n\r\n",
    "signed": b"Content-Length: +0\r\n\r\n",
    "negative": b"Content-Length: -0\r\n\r\n",
    "hexadecimal": b"Content-Length: 0x0\r\n\r\n",
    "underscore": b"Content-Length: 0_0\r\n\r\n",
    "fraction": b"Content-Length: 0.0\r\n\r\n",
    "endless": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "chunk size signed": b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
    "chunk size in hex notation": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "chunk size with space": b"Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n",
    "chunk size too long": b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 17 + b"\r\n\r\n",
    "chunk ended by LF": b"Transfer-Encoding: chunked\r\n\r\n0\n\n",
    "chunk extension with LF": b"Transfer-Encoding: chunked\r\n\r\n0;x\n\r\n\r\n",
    "chunk data too long": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
    "chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n1\r\nx0\r\n\r\n",
    "length among the trailers": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 35\r\n\r\n",
    "trailers folded": b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
}


@pytest.mark.parametrize("reads", ["reads", "drops", "streams"])
@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_no_request_is_smuggled_past_the_server(lines, reads, version):
    served_targets = []

    async def handler(exchange):
        served_targets.append(exchange.target)
        if reads == "reads":
            await exchange.read()
        elif reads == "streams":
            try:
                async with exchange.stream(200):
                    await exchange.read()
                return
            except RemoteProtocolError:
                pass
        await exchange.respond(200)

    async with served(handler, limits=HTTPLimits(drain_timeout=0)) as it:
        await it.client.send_all(b"POST / HTTP/%b\r\nHost: a\r\n%b" % (version, lines) + SMUGGLED)
        await it.client.send_eof()
        data = await receive_all(it.client)
        await it.over.wait()
        assert "/smuggled" not in served_targets
        assert data.count(b"HTTP/1.1 ") == 1


async def test_the_same_with_good_framing_is_two_requests():
    async def handler(exchange):
        await exchange.read()
        await exchange.respond(200, exchange.path.encode())

    async with served(handler) as it:
        await it.client.send_all(CHUNKED + b"0\r\n\r\n" + SMUGGLED)
        assert [(await read_answer(it.client)).body for _ in range(2)] == [b"/", b"/smuggled"]


def test_fields_are_headers():
    assert Headers({"a": "b"})["A"] == "b"


# --- bodies that are text, or values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "body", "kind"),
    [
        ({"body": "grün"}, "grün".encode(), "text/plain; charset=utf-8"),
        ({"body": "x" * 20000}, b"x" * 20000, "text/plain; charset=utf-8"),
        ({"body": "<p>", "headers": [("content-type", "text/html")]}, b"<p>", "text/html"),
        ({"json": {"a": [1, None]}}, b'{"a":[1,null]}', "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"json": 5, "headers": {"Content-Type": "application/problem+json"}}, b"5", "application/problem+json"),
        ({"body": memoryview(b"abcdef")[::2]}, b"ace", None),
    ],
)
async def test_a_body_can_be_text_or_a_value(given, body, kind):
    async def handler(exchange):
        await exchange.respond(200, **given)

    async with served(handler) as it:
        answer = await ask(it.client, GET)
        assert (answer.body, answer.fields.get("content-type")) == (body, kind)


async def test_a_stream_takes_text_and_bytes_alike():
    async def handler(exchange):
        async with exchange.stream(200) as stream:
            for piece in ("grün", b"a", bytearray(b"b"), memoryview(b"xcx")[1:2], memoryview(b"d-e")[::2]):
                await stream.send(piece)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).body.decode() == "grünabcde"
