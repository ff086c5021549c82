"""What a handler says in an exchange, and what its client gets."""

import io
import tempfile

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import LocalProtocolError, Reason
from trionet.http.server.cycle import LARGE

from ...helpers.http_served import (
    GET,
    HUGE,
    POST,
    Unbuffered,
    ask,
    get,
    read_answer,
    replying,
    served,
)

# --- responses ---------------------------------------------------------------------------------------------------


SMALL = b"x" * 10


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


# --- informational responses -------------------------------------------------------------------------------------


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


# --- JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b' {"a": [1, 2.5, true]} ', {"a": [1, 2.5, True]}),
        ('"ä"'.encode(), "ä"),
        (b'["\\ud83d\\ude00\\u00e4", 1e3]', ["\U0001f600ä", 1000.0]),
        (b"\xef\xbb\xbf1", 1),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
async def test_json_is_read(body, value):
    async def handler(exchange):
        found.append(await exchange.json())
        await exchange.respond(200)

    found = []
    async with served(handler) as it:
        assert (await ask(it.client, POST % len(body) + body)).status == 200
    assert found == [value]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "it is empty"),
        (b"{", "line 1, column 2"),
        (b"[1,]", "not JSON"),
        (b"\xff\xfe1\x00", "byte 0 is not UTF-8"),
        (b"NaN", "NaN is none"),
        (b"[-Infinity]", "-Infinity is none"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 5000, "number that cannot be read"),
        (b"[1e999]", "1e999 is beyond"),
        (b'["\\ud800"]', "half a surrogate pair"),
    ],
)
async def test_what_is_no_json_is_the_clients_fault(body, message, nursery, caplog):
    caplog.set_level("INFO", "trionet.server")

    async def handler(exchange):
        await exchange.respond(200, json=await exchange.json())

    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        client = await scope.connect_tcp("127.0.0.1", server.port)
        for _ in range(2):
            assert (await ask(client, POST % len(body) + body)).status == 400
        assert (await ask(client, POST % 1 + b"1")).body == b"1"
    assert message in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}


async def test_json_that_is_too_long_is_a_413(nursery):
    async def handler(exchange):
        await exchange.respond(200, json=await exchange.json(max_bytes=3))

    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        client = await scope.connect_tcp("127.0.0.1", server.port)
        assert (await ask(client, POST % 4 + b"1234")).status == 413
