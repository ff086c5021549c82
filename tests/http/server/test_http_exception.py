"""A response that a handler raises."""

import pytest
import trio

import trionet
from trionet import HTTPException

from ...helpers.http_served import GET, POST, get, read_answer

CASES = {
    "a status alone": (lambda: HTTPException(404), 404, b"404 Not Found\n", "text/plain; charset=utf-8"),
    "text": (lambda: HTTPException(400, "nö"), 400, "nö".encode(), "text/plain; charset=utf-8"),
    "bytes": (lambda: HTTPException(400, b"\0"), 400, b"\0", None),
    "JSON": (lambda: HTTPException(422, json={"a": None}), 422, b'{"a":null}', "application/json"),
    "null": (lambda: HTTPException(422, json=None), 422, b"null", "application/json"),
    "a type of its own": (
        lambda: HTTPException(400, "<p>", headers={"content-type": "text/html"}), 400, b"<p>", "text/html"
    ),
    "no body": (lambda: HTTPException(304, headers={"ETag": '"x"'}), 304, b"", None),
    "a success": (lambda: HTTPException(201, "made"), 201, b"made", "text/plain; charset=utf-8"),
}  # fmt: skip


@pytest.fixture
async def client(nursery):
    """A connection to a server whose handler raises what the test says."""
    handlers = []

    async def handler(exchange):
        await handlers[0](exchange)

    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await nursery.start(trionet.serve_http, handler, 0)
        connection = await scope.connect_tcp("127.0.0.1", server.port)
        yield handlers, connection, server
        scope.cancel()


@pytest.mark.parametrize(("make", "status", "body", "kind"), CASES.values(), ids=CASES)
async def test_it_is_the_response_and_no_failure(client, caplog, make, status, body, kind):
    handlers, connection, server = client

    async def handler(exchange):
        raise make()

    handlers.append(handler)
    for _ in range(2):
        await connection.send_all(GET)
        answer = await read_answer(connection)
        assert (answer.status, answer.body, answer.fields.get("content-type")) == (status, body, kind)
    assert not caplog.records
    statistics = server.statistics()
    assert (statistics.failed, *statistics.peer_faults.values()) == (0,) * (1 + len(statistics.peer_faults))


async def test_it_comes_out_of_nurseries(client, caplog):
    handlers, connection, _ = client

    async def refuse():
        raise HTTPException(409)

    async def handler(exchange):
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(trio.sleep_forever)
            inner.start_soon(refuse)

    handlers.append(handler)
    await connection.send_all(GET)
    assert (await read_answer(connection)).status == 409
    assert not caplog.records


async def test_beside_another_error_it_is_that_error_which_counts(client, caplog):
    handlers, connection, _ = client

    async def handler(exchange):
        raise ExceptionGroup("two", [HTTPException(409), ValueError("mine")])

    handlers.append(handler)
    await connection.send_all(GET)
    assert (await read_answer(connection)).status == 500
    assert "mine" in caplog.text


async def test_the_body_that_is_not_read_is_dropped_and_the_connection_goes_on(client):
    handlers, connection, _ = client

    async def handler(exchange):
        raise HTTPException(403)

    handlers.append(handler)
    for _ in range(2):
        await connection.send_all(POST % 1000 + b"x" * 1000)
        assert (await read_answer(connection)).status == 403


async def test_behind_a_begun_response_it_truncates_that(client, caplog):
    handlers, connection, _ = client

    async def handler(exchange):
        async with exchange.stream(200, length=10) as stream:
            await stream.send(b"begun")
            raise HTTPException(500)

    handlers.append(handler)
    await connection.send_all(GET)
    head = await connection.receive_until(b"\r\n\r\n", max_bytes=999)
    assert b"Content-Length: 10" in head
    assert await connection.receive_exactly(5) == b"begun"
    with pytest.raises((trio.BrokenResourceError, AssertionError)):
        assert await connection.receive_some() != b""
    assert not caplog.records


async def test_behind_a_complete_response_it_does_nothing(client, caplog):
    handlers, connection, _ = client

    async def handler(exchange):
        await exchange.respond(200)
        raise HTTPException(500)

    handlers.append(handler)
    for _ in range(2):
        await connection.send_all(GET)
        assert (await read_answer(connection)).status == 200
    assert not caplog.records


async def test_one_that_cannot_be_sent_is_a_failure(client, caplog):
    handlers, connection, _ = client

    async def handler(exchange):
        raise HTTPException(304, b"with a body")

    handlers.append(handler)
    await connection.send_all(get("/"))
    assert (await read_answer(connection)).status == 500
    assert "304" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((100,), {}, ValueError, "from 200 to 999.*100"),
        ((1000,), {}, ValueError, "from 200 to 999"),
        (("404",), {}, TypeError, "must be an int"),
        ((True,), {}, TypeError, "must be an int"),
        ((404, 5), {}, TypeError, "must be bytes or str, not 5"),
        ((404, "x"), {"json": 1}, TypeError, "body or json, not both"),
        ((404,), {"json": object()}, TypeError, "json cannot be sent"),
        ((404,), {"headers": [("A", "b\r\nc: d")]}, ValueError, "A"),
    ],
)
def test_what_it_cannot_be(arguments, options, error, message):
    with pytest.raises(error, match=message):
        HTTPException(*arguments, **options)


async def test_the_error_of_a_client_that_escapes_stays_a_failure(client, caplog):
    handlers, connection, server = client

    async def handler(exchange):
        if exchange.path == "/upstream":
            raise HTTPException(404)
        url = f"http://127.0.0.1:{server.port}/upstream"
        async with trionet.open_http_client() as upstream, upstream.request("GET", url) as response:
            response.raise_for_status()

    handlers.append(handler)
    await connection.send_all(GET)
    assert (await read_answer(connection)).status == 500
    assert "HTTPStatusError" in caplog.text
