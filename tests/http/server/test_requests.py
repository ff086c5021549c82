"""Exchanges: what a handler reads of a request, and what is no request."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, LocalProtocolError, Reason, RemoteProtocolError

from ...helpers.http_served import CHUNKED, GET, POST, ask, get, read_answer, replying, served
from ...helpers.pairs import memory_pair

# --- what a request says -----------------------------------------------------------------------------------------


async def test_a_request_is_read_to_the_letter():
    async def handler(exchange):
        assert exchange.connection is it.http
        assert (exchange.method, exchange.target, exchange.http_version) == ("GET", "/a%20b?c=d?e", "1.1")
        assert (exchange.path, exchange.query) == ("/a%20b", "c=d?e")
        assert exchange.headers["x-y"] == "z"
        assert exchange.offered_protocols == ()
        assert not exchange.wants_websocket
        assert exchange.status == 0
        assert "not answered yet" in repr(exchange)
        await exchange.respond(204)
        assert exchange.status == 204
        assert repr(exchange) == "<Exchange GET '/a%20b': answered with 204>"

    async with served(handler) as it:
        assert (await ask(it.client, get("/a%20b?c=d?e", "X-Y: z"))).status == 204


@pytest.mark.parametrize(
    ("method", "target", "path", "query"),
    [
        ("GET", "http://a", "/", ""),
        ("GET", "http://a?q", "/", "q"),
        ("GET", "http://a/b?q/r", "/b", "q/r"),
        ("OPTIONS", "*", "", ""),
        ("CONNECT", "a:80", "", ""),
        ("GET", "//a//b", "//a//b", ""),
    ],
)
async def test_the_path_of_every_form_of_target(method, target, path, query):
    async def handler(exchange):
        assert (exchange.path, exchange.query) == (path, query)
        await exchange.respond(404)

    async with served(handler) as it:
        host = "Host: a:80" if method == "CONNECT" else "Host: a"
        answer = await ask(it.client, f"{method} {target} HTTP/1.1\r\n{host}\r\n\r\n".encode())
        assert answer.status == 404


# --- the request's body ------------------------------------------------------------------------------------------


async def test_a_body_is_read_whole_or_in_pieces_and_the_connection_goes_on():
    bodies = []

    async def handler(exchange):
        if exchange.path == "/pieces":
            bodies.append([chunk async for chunk in exchange])
            assert [chunk async for chunk in exchange] == []
        else:
            bodies.append(await exchange.read())
            assert await exchange.read() == b""
        await exchange.respond(200)

    async with served(handler) as it:
        assert (await ask(it.client, POST % 3 + b"abc")).status == 200
        for target in (b"/pieces", b"/"):
            await it.client.send_all((CHUNKED.replace(b"/", target, 1)) + b"2\r\nab\r\n")
            await wait_all_tasks_blocked()
            assert (await ask(it.client, b"1;x=y\r\nc\r\n0\r\n\r\n")).status == 200
        assert (await ask(it.client, GET)).status == 200
        assert bodies == [b"abc", [b"ab", b"c"], b"abc", b""]


async def test_a_body_that_is_there_in_one_piece_and_one_that_trickles_in_read_alike():
    bodies = []

    async def handler(exchange):
        bodies.append(await exchange.read(5))
        await exchange.respond(200)

    async with served(handler) as it:
        await ask(it.client, POST % 5 + b"abcde")
        await it.client.send_all(POST % 5)
        for byte in b"abcde":
            await wait_all_tasks_blocked()
            await it.client.send_all(bytes([byte]))
        assert (await read_answer(it.client)).status == 200
        assert bodies == [b"abcde"] * 2


@pytest.mark.parametrize("request_", [POST % 100 + b"x" * 100, CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n"])
async def test_a_body_that_is_too_long_is_kept_and_can_be_taken_with_a_larger_bound(request_):
    async def handler(exchange):
        for _ in range(3):
            with pytest.raises(trionet.LimitExceededError, match="more than 10 bytes .max_bytes."):
                await exchange.read(10)
        assert await exchange.read(100) == b"x" * 100
        await exchange.respond(200)

    async with served(handler) as it:
        assert (await ask(it.client, request_)).status == 200
        assert it.failure is None


async def test_what_read_has_gathered_is_the_first_piece_of_the_iteration():
    async def handler(exchange):
        with pytest.raises(trionet.LimitExceededError):
            await exchange.read(2)
        assert b"".join([chunk async for chunk in exchange]) == b"abcdef"
        await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(POST % 6 + b"abc")
        await wait_all_tasks_blocked()
        assert (await ask(it.client, b"def")).status == 200
        assert it.failure is None


async def test_a_read_that_is_cancelled_loses_nothing(autojump_clock):
    async def handler(exchange):
        for _ in range(2):
            with trio.move_on_after(1) as scope:
                await exchange.read()
            assert scope.cancelled_caught
        assert await exchange.read() == b"abcd"
        await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(CHUNKED)
        for piece in (b"4\r\na", b"bcd\r\n0\r\n\r\n"):
            await trio.sleep(0.9)
            await it.client.send_all(piece)
            await trio.sleep(0.9)
        assert (await read_answer(it.client)).status == 200
        assert it.failure is None


async def test_trailers_come_behind_the_body():
    async def handler(exchange):
        with pytest.raises(LocalProtocolError, match="trailers follow the body"):
            _ = exchange.trailers
        await exchange.read()
        await exchange.respond(200, exchange.trailers.get("Digest", "none").encode())

    async with served(handler) as it:
        assert (await ask(it.client, CHUNKED + b"1\r\nx\r\n0\r\nDigest: y\r\n\r\n")).body == b"y"
        assert (await ask(it.client, CHUNKED + b"0\r\n\r\n")).body == b"none"
        assert (await ask(it.client, GET)).body == b"none"
        assert (await ask(it.client, POST % 1 + b"x")).body == b"none"


async def test_reading_lets_other_tasks_run():
    async def handler(exchange):
        exchange.connection._cycle.has_yielded = False  # as if the request had come with the one before it
        with assert_checkpoints():
            await exchange.read()
        with assert_checkpoints():
            await exchange.read()
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await exchange.__anext__()
        await exchange.respond(200)

    async with served(handler) as it:
        assert (await ask(it.client, CHUNKED + b"1\r\nx\r\n0\r\n\r\n")).status == 200
        assert (await ask(it.client, POST % 1 + b"x")).status == 200
        assert it.failure is None


@pytest.mark.parametrize(
    ("rest", "what"), [(b"zz\r\n", "not a chunk size"), (b"3\r\nab", "EOF in the middle"), (b"1\r\nabc", "runs over")]
)
@pytest.mark.parametrize("answers", [True, False])
async def test_a_malformed_body_is_an_error_and_the_connection_ends(rest, what, answers):
    async def handler(exchange):
        with pytest.raises(RemoteProtocolError, match=what):
            await exchange.read()
        with pytest.raises(RemoteProtocolError, match=what):
            await exchange.read()
        if answers:
            await exchange.respond(400, b"malformed")

    async with served(handler) as it:
        await it.client.send_all(CHUNKED + rest + (GET if rest != b"3\r\nab" else b""))
        await it.client.send_eof()
        answer = await read_answer(it.client)
        assert answer.status == (400 if answers else 500)
        assert answer.fields["connection"] == "close"
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR
        assert isinstance(it.failure, RemoteProtocolError)
        assert len(it.exchanges) == 1


async def test_a_malformed_body_is_not_forgotten_with_an_answer_that_was_taken_back():
    """What comes behind it was once served as a request of its own: the way to smuggle one."""

    async def handler(exchange):
        with pytest.raises(RemoteProtocolError):
            async with exchange.stream(200):
                await exchange.read()
        await exchange.respond(400, b"malformed")

    async with served(handler) as it:
        await it.client.send_all(CHUNKED + b"zz\r\n0\r\n\r\n" + get("/smuggled"))
        answer = await read_answer(it.client)
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        await it.client.send_eof()
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR
        assert len(it.exchanges) == 1


@pytest.mark.parametrize("headers", [[], [("Connection", "close")]], ids=["goes on", "would have closed"])
async def test_a_body_that_was_read_stays_read_when_the_answer_is_taken_back(headers):
    async def handler(exchange):
        if exchange.method == "POST":
            with pytest.raises(KeyError):
                async with exchange.stream(200, headers=headers):
                    assert await exchange.read() == b"x"
                    raise KeyError
            assert exchange.status == 0
        await exchange.respond(404)

    async with served(handler) as it:
        await it.client.send_all(CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + GET)
        for _ in range(2):
            answer = await read_answer(it.client)
            assert (answer.status, answer.fields.get("connection")) == (404, None)
        assert it.failure is None


# --- 100 (Continue) ----------------------------------------------------------------------------------------------

EXPECTING = b"POST / HTTP/%b\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n"


async def test_a_client_that_waits_for_100_gets_it_when_the_body_is_first_read():
    go_on = trio.Event()

    async def handler(exchange):
        await go_on.wait()
        await exchange.respond(200, await exchange.read())

    async with served(handler) as it:
        await it.client.send_all(EXPECTING % b"1.1")
        await wait_all_tasks_blocked()
        assert it.client._transport.receive_nowait(99) is None
        go_on.set()
        assert (await read_answer(it.client)).status == 100
        assert (await ask(it.client, b"abc")).body == b"abc"
        assert (await ask(it.client, POST % 2 + b"de")).body == b"de"


@pytest.mark.parametrize(
    "request_",
    [
        EXPECTING % b"1.0",
        (EXPECTING % b"1.1").replace(b"Content-Length: 3\r\n", b""),
        (EXPECTING % b"1.1").replace(b"100-Continue", b"200-ok"),
    ],
)
async def test_nobody_else_gets_100(request_):
    async def handler(exchange):
        await exchange.respond(200, await exchange.read())

    async with served(handler) as it:
        await it.client.send_all(request_)
        await wait_all_tasks_blocked()
        assert (await ask(it.client, b"abc" if b"Content-Length" in request_ else b"")).status == 200


async def test_a_client_that_sends_without_waiting_gets_no_100():
    async def handler(exchange):
        await exchange.respond(200, await exchange.read())

    async with served(handler) as it:
        answer = await ask(it.client, EXPECTING % b"1.1" + b"abc")
        assert (answer.status, answer.body) == (200, b"abc")


async def test_a_final_answer_in_place_of_100_ends_the_connection_for_the_body_may_come_or_not():
    async with served(replying(413)) as it:
        answer = await ask(it.client, EXPECTING % b"1.1")
        assert (answer.status, answer.fields["connection"]) == (413, "close")
        await it.client.aclose()
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None


# --- what is no request ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/" + "x" * 200), 414),
        (b"GET /" + b"x" * 600, 414),
        (get("/", "X: " + "y" * 900), 431),
        (get("/", *["X: y"] * 9), 431),
        (get("/", method="BREW"), 501),
        (get("/", version="2.0"), 505),
        (get("/", "Transfer-Encoding: gzip, chunked"), 501),
        (get("/", "Host: b"), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (get("/", "X : y"), 400),
        (get("/", "X: y", " z"), 400),
        (b"\r\n" * 9 + GET, 400),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2])
async def test_what_breaks_the_rules_or_a_bound_is_told_so(request_, status, pieces):
    limits = HTTPLimits(max_head=512, max_fields=8, max_target=100)
    async with served(replying(), limits=limits) as it:
        middle = len(request_) // pieces
        await it.client.send_all(request_[:middle])
        await wait_all_tasks_blocked()
        if pieces == 2:
            await it.client.send_all(request_[middle:])
        answer = await read_answer(it.client)
        assert answer.status == status
        assert answer.fields["connection"] == "close"
        assert answer.body.endswith(b"\n")
        await it.client.send_eof()
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PROTOCOL_ERROR
        assert it.failure.status_hint == status
        assert not it.exchanges


async def test_any_method_can_be_allowed():
    async def handler(exchange):
        await exchange.respond(418, exchange.method.encode())

    async with served(handler, limits=HTTPLimits(any_method=True)) as it:
        assert (await ask(it.client, get("/", method="BREW"))).body == b"BREW"


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"GET / HT"])
async def test_a_client_that_ends_its_direction_gets_its_answers_first(rest):
    async with served(replying()) as it:
        await it.client.send_all(GET * 2 + rest)
        await it.client.send_eof()
        assert (await read_answer(it.client)).status == 200
        assert (await read_answer(it.client)).status == 200
        if rest == b"GET / HT":
            assert (await read_answer(it.client)).status == 400
        assert await it.client.receive_some() == b""
        end = await it.ended()
        assert end.reason is (Reason.PROTOCOL_ERROR if rest == b"GET / HT" else Reason.PEER_EOF)
        assert (it.failure is None) is (rest != b"GET / HT")


async def test_a_client_that_has_ended_its_direction_while_being_answered_is_told_the_end():
    async def handler(exchange):
        if exchange.method == "POST":
            await exchange.read()
        await exchange.respond(200)

    async with served(handler) as it:
        await it.client.send_all(POST % 1)
        await wait_all_tasks_blocked()
        await it.client.send_all(b"x")
        await it.client.send_eof()
        assert (await read_answer(it.client)).status == 200
        assert await it.client.receive_some() == b""
        assert (await it.ended()).reason is Reason.PEER_EOF


@pytest.mark.parametrize("make_pair", [memory_pair])
async def test_any_stream_can_be_served(make_pair):
    async with served(replying(), make_pair=make_pair) as it:
        await it.client.send_all(GET * 3)
        for _ in range(3):
            assert (await read_answer(it.client)).status == 200
        assert (await ask(it.client, get("/", "Connection: close"))).status == 200
        assert await it.client.receive_some() == b""
        await it.client.aclose()
        assert (await it.ended()).reason is Reason.LOCAL
