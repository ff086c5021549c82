"""Clients that go away while they are being answered: who is cancelled, who is told, and who finishes.

Over real sockets, TCP, TLS and Unix. The clock jumps, so a handler may work for minutes.
"""

import contextlib
import io
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, Phase, Reason
from trionet.http.server.lookout import MAX_AHEAD

from ...helpers.http_served import CHUNKED, GET, POST, ask, get, read_answer, served, vanish
from ...helpers.pairs import PAIRS, receive_all, unix_pair

SAFE = ["GET", "HEAD", "OPTIONS", "TRACE"]
UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]
LATE = 30.0


def req(method):
    return get("/", method=method)


class Site:
    """A server whose handler is recorded: how each of its runs has ended, and when."""

    def __init__(self, handler):
        self.handler = handler
        self.ends = []
        self.connections = []
        self.begun = trio.Event()
        self.over = trio.Event()

    async def __call__(self, exchange):
        self.connections.append(exchange.connection)
        self.begun.set()
        try:
            await self.handler(exchange)
        except BaseException as exc:
            self.ends.append((type(exc), trio.current_time()))
            raise
        else:
            self.ends.append((None, trio.current_time()))
        finally:
            self.over.set()

    async def ended(self):
        """How the handler ended, and how long ago that was."""
        await self.over.wait()
        return self.ends[-1]


@pytest.fixture(params=["tcp", "tls", "unix"])
def visit(request, tmp_path, server_context, client_context):
    """``async with visit(handler) as (site, client)``: a server, and a client on a connection to it."""

    @contextlib.asynccontextmanager
    async def visiting(handler, **limits):
        site = Site(handler)
        serving = trionet.http_handler(site, limits=HTTPLimits(**limits), on_error=lambda *_: None)
        async with trionet.open_scope() as scope:
            if request.param == "unix":
                path = str(tmp_path / "sock")
                await scope.start(partial(trionet.serve_unix, serving, path))
                client = await scope.connect_unix(path)
            else:
                tls = server_context if request.param == "tls" else None
                serve = partial(trionet.serve_tcp, serving, 0, host="127.0.0.1", ssl_context=tls)
                server = await scope.start(serve)
                client = await scope.connect_tcp("127.0.0.1", server.port)
                if tls is not None:
                    client = await client.upgrade(trionet.to_tls_client("127.0.0.1", ssl_context=client_context))
            with trio.fail_after(600):
                yield site, client
            scope.cancel()

    return visiting


async def waits(exchange):
    await trio.sleep_forever()


async def waits_in_a_stream(exchange):
    async with exchange.stream(200) as stream:
        await stream.flush()
        await trio.sleep_forever()


async def waits_before_the_first_piece(exchange):
    async with exchange.stream(200):
        await trio.sleep_forever()


async def waits_in_a_generator(exchange):
    async def parts():
        yield b"first"
        await trio.sleep_forever()

    await exchange.respond(200, parts())


async def takes_its_time(exchange):
    await trio.sleep(LATE)
    await exchange.respond(200, b"late")


async def leave(client):
    """End the client's direction: over TLS by a close_notify, behind which the TCP connection stays open."""
    await client.send_eof()
    return trio.current_time()


# --- who is cancelled --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SAFE)
async def test_a_long_poll_ends_within_a_second_when_its_client_leaves(autojump_clock, visit, method):
    """A browser leaves by FIN. A handler that waits for news was once never told of that."""
    async with visit(waits) as (site, client):
        await client.send_all(req(method))
        await site.begun.wait()
        left = await leave(client)
        how, when = await site.ended()
        assert how is trio.Cancelled
        assert when - left <= 1.05
        assert (await site.connections[0].wait_ended()).reason is Reason.PEER_EOF


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("handler", [waits_in_a_stream, waits_before_the_first_piece, waits_in_a_generator])
async def test_a_quiet_stream_ends_whatever_the_method(autojump_clock, visit, method, handler):
    async with visit(handler) as (site, client):
        await client.send_all(req(method))
        await site.begun.wait()
        await wait_all_tasks_blocked()
        left = await leave(client)
        how, when = await site.ended()
        assert how is trio.Cancelled
        assert when - left <= 1.05


@pytest.mark.parametrize("method", UNSAFE)
async def test_a_handler_of_another_method_finishes(autojump_clock, visit, method):
    async with visit(takes_its_time) as (site, client):
        await client.send_all(req(method))
        await leave(client)
        assert (await read_answer(client)).body == b"late"
        assert (await site.ended())[0] is None
        assert (await site.connections[0].wait_ended()).reason is Reason.PEER_EOF


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("visit", "handler"),
    [
        ("tcp", takes_its_time), ("tls", takes_its_time),
        ("tcp", waits_in_a_stream), ("tls", waits_in_a_stream), ("unix", waits_in_a_stream),
    ],
    indirect=["visit"],
)  # fmt: skip
async def test_a_reset_cancels_whatever_the_method(autojump_clock, visit, method, handler):
    """The close of a Unix socket is a reset only where there was something to read."""
    async with visit(handler, eof_is_gone=False) as (site, client):
        await client.send_all(req(method))
        await site.begun.wait()
        await wait_all_tasks_blocked()
        left = trio.current_time()
        vanish_below(client)
        how, when = await site.ended()
        assert (how, when - left <= 1.05) == (trio.Cancelled, True)
        assert (await site.connections[0].wait_ended()).reason is Reason.PEER_RESET


async def test_a_unix_client_that_closes_has_ended_and_not_reset(autojump_clock):
    """The system says that it hung up, as it does of a TCP connection that was reset."""
    async with trionet.open_scope() as scope:
        site = Site(waits)
        one, client = unix_pair(scope)
        scope.start_soon(trionet.http_handler(site), one)
        await client.send_all(req("POST"))
        await site.begun.wait()
        client.abort()
        await trio.sleep(LATE)
        assert not site.ends
        assert one.end.successor.phase is Phase.OPEN
        scope.cancel()


def vanish_below(client):
    """Reset the connection, also that below TLS."""
    transport = client._transport
    getattr(transport, "lower", transport).spoil()
    client.abort()


@pytest.mark.parametrize("where", ["limits", "exchange"])
async def test_eof_cancels_always_if_that_is_wanted(autojump_clock, visit, where):
    async def handler(exchange):
        if where == "exchange":
            exchange.eof_is_gone = True
        assert exchange.eof_is_gone is True
        await trio.sleep_forever()

    async with visit(handler, eof_is_gone=True if where == "limits" else None) as (site, client):
        await client.send_all(req("POST"))
        await site.begun.wait()
        left = await leave(client)
        how, when = await site.ended()
        assert how is trio.Cancelled
        assert when - left <= 1.05


@pytest.mark.parametrize("where", ["limits", "exchange"])
@pytest.mark.parametrize("streams", [True, False])
async def test_eof_cancels_never_if_that_is_wanted(autojump_clock, visit, where, streams):
    async def handler(exchange):
        if where == "exchange":
            exchange.eof_is_gone = False
        assert exchange.eof_is_gone is False
        if streams:
            async with exchange.stream(200) as stream:
                await trio.sleep(LATE)
                await stream.send(b"late")
        else:
            await takes_its_time(exchange)

    async with visit(handler, eof_is_gone=False if where == "limits" else None) as (_, client):
        await client.send_all(GET)
        await leave(client)
        assert (await read_answer(client)).body == b"late"


async def test_an_exchange_may_go_back_to_the_rule(autojump_clock):
    async def handler(exchange):
        assert exchange.eof_is_gone is True
        exchange.eof_is_gone = None
        assert exchange.eof_is_gone is None
        for wrong in ("no", 0, 1.0):
            with pytest.raises(TypeError, match="eof_is_gone must be True or False"):
                exchange.eof_is_gone = wrong
        await takes_its_time(exchange)

    async with served(handler, limits=HTTPLimits(eof_is_gone=True)) as it:
        await it.client.send_all(req("POST"))
        await it.client.send_eof()
        assert (await read_answer(it.client)).body == b"late"
        assert it.failure is None


def test_the_limit_is_checked():
    assert HTTPLimits().eof_is_gone is None
    with pytest.raises(TypeError, match="eof_is_gone must be True or False, not 'no'"):
        HTTPLimits(eof_is_gone="no")


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.49])
@pytest.mark.parametrize("early", [True, False])
async def test_a_client_that_half_closes_gets_what_is_ready_within_a_tick(autojump_clock, visit, offset, early):
    """Wherever the ticks of the server fall, and however long the handler has been at work."""

    async def handler(exchange):
        await trio.sleep(0 if early else 5)
        await go_on.wait()
        await trio.sleep(0.45)
        await exchange.respond(200, b"ready")

    go_on = trio.Event()
    async with visit(handler) as (site, client):
        await trio.sleep(offset)
        await client.send_all(GET)
        await site.begun.wait()
        await trio.sleep(0 if early else 5)
        await leave(client)
        go_on.set()
        assert (await read_answer(client)).body == b"ready"


# --- behind what the end stands ------------------------------------------------------------------------------------


async def test_an_end_behind_a_pipelined_request_is_seen(autojump_clock):
    async with trionet.open_scope() as scope:
        site = Site(waits)
        server = await scope.start(trionet.serve_http, site, 0)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        await client.send_all(GET)
        await site.begun.wait()
        await client.send_all(get("/next") * 3)  # they stay in the system's buffer
        left = await leave(client)
        how, when = await site.ended()
        assert (how, when - left <= 1.05) == (trio.Cancelled, True)
        assert len(site.connections) == 1
        scope.cancel()


async def test_an_end_behind_an_unread_body_is_seen(autojump_clock):
    async with trionet.open_scope() as scope:
        site = Site(waits_in_a_stream)
        server = await scope.start(trionet.serve_http, site, 0)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        await client.send_all(POST % 300_000 + b"x" * 100_000)
        await site.begun.wait()
        left = await leave(client)
        how, when = await site.ended()
        assert (how, when - left <= 1.05) == (trio.Cancelled, True)
        scope.cancel()


async def test_pipelined_requests_in_front_of_an_end_are_answered(autojump_clock, visit):
    async def handler(exchange):
        await trio.sleep(0.1)
        await exchange.respond(200, exchange.path.encode())

    async with visit(handler) as (_, client):
        await client.send_all(b"".join(get(f"/{number}") for number in range(20)))
        await leave(client)
        for number in range(20):
            assert (await read_answer(client)).body == b"/%d" % number
        assert await client.receive_some() == b""


async def test_a_body_that_is_being_read_ends_at_once(autojump_clock, visit):
    async def handler(exchange):
        with pytest.raises(trionet.RemoteProtocolError, match="EOF in the middle"):
            await exchange.read()
        ended.append(trio.current_time())
        await exchange.respond(400)

    ended = []
    async with visit(handler) as (site, client):
        await client.send_all(CHUNKED + b"3\r\nabc\r\n")
        await site.begun.wait()
        await wait_all_tasks_blocked()
        left = await leave(client)
        assert (await read_answer(client)).status == 400
        assert ended == [left]


@pytest.mark.parametrize("make", [lambda: b"x" * 5_000_000, lambda: io.BytesIO(b"x" * 5_000_000), lambda: [b"x"] * 9])
async def test_an_answer_that_is_all_there_is_sent_to_a_client_that_has_half_closed(autojump_clock, visit, make):
    """It reads slowly; the handler waits for nothing but that."""
    async with visit(lambda exchange: exchange.respond(200, make())) as (site, client):
        await client.send_all(GET)
        await leave(client)
        await trio.sleep(10)
        assert set((await read_answer(client)).body) == {120}
        assert (await site.ended())[0] is None


@pytest.mark.parametrize("gone", ["eof", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_goes_on_behind_a_complete_answer_is_not_cancelled(autojump_clock, visit, gone, method):
    async def handler(exchange):
        await exchange.respond(200, b"ok")
        await trio.sleep(LATE)

    async with visit(handler) as (site, client):
        # With a body that is not read, so that the exchange is not over.
        await client.send_all(POST % 200_000 if method == "POST" else GET)
        assert (await read_answer(client)).body == b"ok"
        await leave(client) if gone == "eof" else vanish_below(client)
        assert (await site.ended())[0] is None


async def test_background_tasks_of_an_answered_request_are_not_cancelled(autojump_clock, visit):
    async def background():
        await trio.sleep(LATE)
        done.append(trio.current_time())

    async def handler(exchange):
        exchange.connection.scope.start_soon(background)
        await exchange.respond(200, b"ok")

    done = []
    async with visit(handler) as (site, client):
        assert (await ask(client, GET)).body == b"ok"
        await leave(client)
        while not done:
            await trio.sleep(1)
        assert site.ends[0][0] is None


async def test_a_connection_that_is_nobodys_scope_is_closed_and_its_handler_told_by_its_next_call(autojump_clock):
    async def handler(exchange):
        await trio.sleep(LATE)
        with pytest.raises(trionet.HandleClosedError):
            await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(GET)
        await it.client.send_eof()
        assert await it.client.receive_some() == b""
        assert trio.current_time() <= 1.05
        assert (await it.ended()).reason is Reason.PEER_EOF
        assert it.failure is None


# --- who is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_task_that_waits_for_it_is_told_at_once_and_nobody_is_cancelled(autojump_clock, visit, method):
    async def handler(exchange):
        await exchange.wait_disconnected()
        told.append(trio.current_time())
        await trio.sleep(LATE)
        await exchange.respond(200, b"all the same")

    told = []
    async with visit(handler) as (site, client):
        await client.send_all(req(method))
        await site.begun.wait()
        await trio.sleep(100)  # longer than any limit
        left = await leave(client)
        assert (await read_answer(client)).body == b"all the same"
        assert told == [left]
        assert (await site.ended())[0] is None


async def test_a_stream_whose_client_is_waited_for_ends_as_its_handler_likes(autojump_clock, visit):
    async def handler(exchange):
        async with exchange.stream(200) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await stream.send(b"news")
            await exchange.wait_disconnected()
            await stream.send(b"bye")
            nursery.cancel_scope.cancel()

    async with visit(handler) as (_, client):
        await client.send_all(GET)
        await trio.sleep(LATE)
        await leave(client)
        assert (await read_answer(client)).body == b"newsbye"


@pytest.mark.parametrize("visit", ["tcp", "tls"], indirect=True)
@pytest.mark.parametrize("rule", [None, True, False])
async def test_a_reset_is_told_too(autojump_clock, visit, rule):
    async def handler(exchange):
        await exchange.wait_disconnected()
        told.append(trio.current_time())
        await trio.sleep(LATE)

    told = []
    async with visit(handler, eof_is_gone=rule) as (site, client):
        await client.send_all(GET)
        await site.begun.wait()
        await wait_all_tasks_blocked()
        left = trio.current_time()
        vanish_below(client)
        assert (await site.ended())[0] is None
        assert told == [left]


async def test_eof_is_not_told_where_it_does_not_count_and_a_reset_behind_it_is(autojump_clock):
    async def handler(exchange):
        await exchange.wait_disconnected()
        told.append(trio.current_time())

    told = []
    async with served(handler, limits=HTTPLimits(eof_is_gone=False)) as it:
        await it.client.send_all(GET)
        await it.client.send_eof()
        await trio.sleep(100)
        assert not told
        vanish(it.client)
        await it.over.wait()
        assert 100 <= told[0] <= 101.1


@pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)
async def test_what_comes_meanwhile_is_kept_for_whoever_reads_next(autojump_clock, make_pair):
    async def handler(exchange):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.wait_disconnected)
            nursery.start_soon(exchange.wait_disconnected)
            await trio.sleep(5)
            first = await anext(exchange)
            await trio.sleep(5)
            body = first + await exchange.read()
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        await exchange.respond(200, body)

    async with served(handler, make_pair=make_pair) as it:
        await it.client.send_all(POST % 9)
        for piece in (b"abc", b"def", b"ghi" + POST % 3 + b"jkl"):
            await trio.sleep(4)
            await it.client.send_all(piece)
        assert (await read_answer(it.client)).body == b"abcdefghi"
        assert (await read_answer(it.client)).body == b"jkl"
        assert it.failure is None


async def test_a_reader_takes_the_turn_of_those_who_wait_and_gives_it_back(autojump_clock):
    async def handler(exchange):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, exchange)
            await wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await exchange.read()
            assert [chunk async for chunk in exchange] == [b"abc"]
            await exchange.respond(200)

    async def tell(exchange):
        await exchange.wait_disconnected()
        told.append(trio.current_time())

    told = []
    async with served(handler) as it:
        await it.client.send_all(POST % 3)
        await trio.sleep(2)
        await it.client.send_all(b"abc")
        assert (await read_answer(it.client)).status == 200
        await trio.sleep(0.1)
        await it.client.send_eof()
        await it.over.wait()
        assert told == [trio.current_time()]
        assert it.failure is None


async def test_a_client_that_ends_in_its_body_is_told_to_the_reader_and_to_who_waits(autojump_clock):
    async def handler(exchange):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.wait_disconnected)
            await wait_all_tasks_blocked()
            with pytest.raises(trionet.RemoteProtocolError):
                await exchange.read()
        done.append(trio.current_time())

    done = []
    async with served(handler) as it:
        await it.client.send_all(POST % 3)
        await wait_all_tasks_blocked()
        await it.client.send_eof()
        await it.over.wait()
        assert done[0] <= 1.05


async def test_waiting_again_and_again_keeps_to_the_bound(autojump_clock):
    async def handler(exchange):
        if not kept:
            for _ in range(20):
                with trio.move_on_after(0.01):
                    await exchange.wait_disconnected()
            kept.append(it.http._machine.buffered)
            assert it.http._lookouts.current is None
        await exchange.respond(200)

    kept = []
    many = get("/" + "x" * 1000) * 90
    async with served(handler) as it:
        await it.client.send_all(GET)
        await wait_all_tasks_blocked()
        await it.client.send_all(many)
        assert (await read_answer(it.client)).status == 200
        assert 0 < kept[0] <= MAX_AHEAD
        for _ in range(90):
            assert (await read_answer(it.client)).status == 200


async def test_what_comes_behind_the_last_request_is_not_read_for_ever(autojump_clock):
    async def handler(exchange):
        await exchange.wait_disconnected()
        told.append(it.http.statistics().bytes_received)

    told = []
    async with served(handler) as it:
        await it.client.send_all(get("/", "Connection: close"))
        await wait_all_tasks_blocked()
        await it.client.send_all(b"x" * 90_000)
        await it.client.send_eof()
        await it.over.wait()
        assert told[0] <= MAX_AHEAD + 100


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stream_that_its_client_does_not_read_ends_too(autojump_clock, visit, method):
    async def handler(exchange):
        async with exchange.stream(200) as stream:
            while True:
                await stream.send(b"x" * 65536)

    async with visit(handler) as (site, client):
        await client.send_all(req(method))
        await site.begun.wait()
        await wait_all_tasks_blocked()
        left = await leave(client)
        how, when = await site.ended()
        assert how in (trio.Cancelled, trionet.HandleClosedError)  # it was in the middle of a send
        assert when - left <= 1.05


async def test_a_client_that_pipelines_on_and_on_is_read_to_a_bound(autojump_clock):
    async def handler(exchange):
        if not told:
            await exchange.wait_disconnected()
            told.append(it.http._machine.buffered)
        await exchange.respond(200)

    told = []
    async with served(handler) as it:
        await it.client.send_all(GET)
        await wait_all_tasks_blocked()
        many = get("/" + "x" * 1000) * 90  # the rest stays in the system, and the end of it too
        await it.client.send_all(many)
        left = trio.current_time()
        await it.client.send_eof()
        answers = await receive_all(it.client)
        assert told[0] <= MAX_AHEAD
        assert trio.current_time() - left <= 1.05
        assert answers.count(b"HTTP/1.1 200 OK") == 91
        assert it.failure is None


async def test_an_answer_gives_the_readers_role_back(autojump_clock):
    """A task that waits outlives its exchange: the connection goes on, and it is told when that has ended."""

    async def handler(exchange):
        if not it.exchanges[1:]:
            it.scope.start_soon(tell, exchange)
            await wait_all_tasks_blocked()
        await exchange.respond(200, exchange.path.encode())

    async def tell(exchange):
        await exchange.wait_disconnected()
        told.append(it.http.phase)

    told = []
    async with served(handler) as it:
        for path in ("/1", "/2", "/3"):
            assert (await ask(it.client, get(path))).body == path.encode()
        await it.client.send_all(get("/4") + get("/5"))
        assert [(await read_answer(it.client)).body for _ in range(2)] == [b"/4", b"/5"]
        assert not told
        await it.client.send_eof()
        await it.over.wait()
        await wait_all_tasks_blocked()
        assert told == [Phase.CLOSED]
        assert it.failure is None


async def test_a_request_that_came_while_somebody_waited_is_not_waited_for_again(autojump_clock):
    """The next request came into the hands of the task that waited, in the turn in which the exchange ended."""

    async def handler(exchange):
        if exchange.path == "/1":
            it.scope.start_soon(exchange.wait_disconnected)
            await wait_all_tasks_blocked()
            assert it.client._transport.send_some(get("/2"))  # nobody has a turn in between
        await exchange.respond(200, exchange.path.encode())

    async with served(handler) as it:
        await it.client.send_all(get("/1"))
        with trio.fail_after(60):
            assert [(await read_answer(it.client)).body for _ in range(2)] == [b"/1", b"/2"]


async def test_a_body_that_came_while_somebody_waited_is_not_waited_for_again(autojump_clock):
    """All of it came into the hands of the task that waited, in the turn in which it stood aside for the reader."""

    async def handler(exchange):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.wait_disconnected)
            await wait_all_tasks_blocked()
            assert it.client._transport.send_some(b"abc")
            body = await exchange.read()
            nursery.cancel_scope.cancel()
        await exchange.respond(200, body)

    async with served(handler) as it:
        await it.client.send_all(POST % 3)
        with trio.fail_after(60):
            assert (await read_answer(it.client)).body == b"abc"


async def test_a_wait_behind_the_answer_is_told_at_once_too(autojump_clock, visit):
    async def handler(exchange):
        await exchange.respond(200)
        await exchange.wait_disconnected()
        told.append(trio.current_time())

    told = []
    async with visit(handler) as (site, client):
        assert (await ask(client, GET)).status == 200
        await trio.sleep(100)
        left = await leave(client)
        await site.over.wait()
        assert told == [left]


async def test_a_wait_on_a_connection_that_has_ended_is_over(autojump_clock):
    async def handler(exchange):
        await exchange.respond(200)

    async with served(handler) as it:
        for _ in range(2):
            assert (await ask(it.client, GET)).status == 200
        it.http.abort()
        await it.over.wait()
        with trio.fail_after(1):
            await it.exchanges[0].wait_disconnected()


async def test_those_who_wait_behind_an_exchange_protect_not_the_next_one(autojump_clock):
    async with trionet.open_scope() as scope:

        async def first_or_second(exchange):
            if exchange.path == "/1":
                scope.start_soon(tell, exchange)
                await exchange.respond(200)
            else:
                await waits(exchange)

        async def tell(exchange):
            await exchange.wait_disconnected()
            told.append(trio.current_time())

        told = []
        site = Site(first_or_second)
        server = await scope.start(trionet.serve_http, site, 0)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        assert (await ask(client, get("/1"))).status == 200
        await client.send_all(get("/2"))
        await trio.sleep(5)
        left = await leave(client)
        while len(site.ends) < 2:
            await trio.sleep(0.1)
        assert site.ends[1][0] is trio.Cancelled
        assert 0 <= told[0] - left <= 1.05
        scope.cancel()


async def test_a_wait_that_was_cancelled_protects_nobody(autojump_clock, visit):
    async def handler(exchange):
        with trio.move_on_after(5):
            await exchange.wait_disconnected()
        await trio.sleep_forever()

    async with visit(handler) as (site, client):
        await client.send_all(GET)
        await trio.sleep(6)
        left = await leave(client)
        how, when = await site.ended()
        assert (how, when - left <= 1.05) == (trio.Cancelled, True)


async def test_an_upgrade_takes_the_turn_of_those_who_wait(autojump_clock):
    async def handler(exchange):
        it.scope.start_soon(tell, exchange)
        await wait_all_tasks_blocked()
        conn = await exchange.upgrade(trionet.to_connection())
        await conn.send_all(await conn.receive_some())

    async def tell(exchange):
        await exchange.wait_disconnected()
        told.append(it.http.phase)

    told = []
    async with served(handler) as it:
        await it.client.send_all(get("/", "Connection: upgrade", "Upgrade: echo"))
        assert (await read_answer(it.client)).status == 101
        await it.client.send_all(b"hello")
        assert await it.client.receive_some() == b"hello"
        assert told == [Phase.MOVED]


async def test_an_upgrade_that_comes_to_nothing_gives_the_turn_back(autojump_clock):
    async def handler(exchange):
        it.scope.start_soon(tell, exchange)
        await wait_all_tasks_blocked()
        with pytest.raises(trionet.LocalProtocolError, match="offers"):
            await exchange.upgrade(trionet.to_connection("foo"))
        await trio.sleep(LATE)
        await exchange.respond(200)

    async def tell(exchange):
        await exchange.wait_disconnected()
        told.append(trio.current_time())

    told = []
    async with served(handler) as it:
        await it.client.send_all(get("/", "Connection: upgrade", "Upgrade: echo"))
        await trio.sleep(1)
        left = await leave(it.client)
        assert (await read_answer(it.client)).status == 200
        assert told == [left]


async def test_a_wait_ends_with_the_connection(autojump_clock):
    async def handler(exchange):
        it.scope.start_soon(end)
        await exchange.wait_disconnected()
        ended.append(it.http.phase)

    async def end():
        await wait_all_tasks_blocked()
        it.http.abort()

    ended = []
    async with served(handler, make_pair=unix_pair) as it:
        await it.client.send_all(GET)
        await it.over.wait()
        assert ended == [Phase.CLOSED]


async def test_a_handler_that_leaves_because_its_client_has_left_is_not_blamed(autojump_clock, nursery, caplog):
    async def handler(exchange):
        await exchange.wait_disconnected()

    def on_error(exchange, error):
        raise AssertionError(error)

    server = await nursery.start(partial(trionet.serve_http, handler, 0, on_error=on_error))
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all(GET)
        await client.send_eof()
        assert (await read_answer(client)).status == 500
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert server.statistics().failed == 0
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("closes", ["client", "another task"])
async def test_a_task_that_goes_on_to_watch_does_not_hold_up_the_end(autojump_clock, closes):
    """It receives, and that nobody else does would keep the connection busy until the drain deadline."""
    told = trio.Event()

    async def watch(exchange):
        await exchange.wait_disconnected()
        told.set()

    async def handler(exchange):
        it.scope.start_soon(watch, exchange)
        await wait_all_tasks_blocked()
        if closes == "another task":
            it.scope.start_soon(it.http.aclose)
            await wait_all_tasks_blocked()
        await exchange.respond(200, b"ok")

    async with served(handler) as it:
        before = trio.current_time()
        await it.client.send_all(get("/", "Connection: close") if closes == "client" else GET)
        assert (await receive_all(it.client)).endswith(b"ok")
        assert (await it.http.wait_ended()).reason is Reason.LOCAL
        await told.wait()
        assert trio.current_time() == before


@pytest.mark.parametrize("leave", [False, True])
async def test_a_task_that_goes_on_to_watch_without_a_loop_does_not_hold_up_the_end_either(autojump_clock, leave):
    async with trionet.open_scope() as scope:
        one, client = unix_pair(scope)
        inner = trionet.open_scope()
        owner = await inner.__aenter__()
        http = await one.transfer(owner).upgrade(trionet.to_http_server())
        await client.send_all(GET)
        exchange = await http.__anext__()
        scope.start_soon(exchange.wait_disconnected)
        await exchange.respond(200, b"ok")
        await wait_all_tasks_blocked()
        before = trio.current_time()
        if not leave:
            await http.aclose()
        await inner.__aexit__(None, None, None)
        assert http.end.reason is Reason.LOCAL
        assert trio.current_time() == before
