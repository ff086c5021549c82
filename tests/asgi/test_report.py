"""What the logs say of requests, whatever a client writes into them."""

import logging

import pytest
import trio

from ..helpers.asgi_served import respond, serving
from ..helpers.http_served import WEBSOCKET, ask, get


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
    elif scope["path"] == "/fails":
        raise ValueError("its own")
    else:
        await respond(send)


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "trionet.access")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "trionet.access"]


async def test_one_line_for_each_request_as_uvicorn_writes_it(lines, caplog):
    async with serving(app) as served:
        client = await served.connect()
        port = client.local_address[1]
        for request in (get("/a%0d%0aINFO?q=1"), get("/fails"), WEBSOCKET):
            await ask(client, request)
    assert lines() == [
        f'127.0.0.1:{port} - "GET /a%0d%0aINFO?q=1 HTTP/1.1" 200',
        f'127.0.0.1:{port} - "GET /fails HTTP/1.1" 500',
        f'127.0.0.1:{port} - "GET /chat HTTP/1.1" 403',
    ]
    record = next(record for record in caplog.records if record.name == "trionet.access")
    assert len(record.args) == 5
    assert 0 <= record.access["seconds"] < 60


async def test_requests_that_never_reach_the_application_have_a_line_too(lines):
    async def waits(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            begun.set()

    begun = trio.Event()
    async with serving(waits, limit_concurrency=1) as served:
        await served.ask(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        await served.ask(WEBSOCKET.replace(b"Version: 13", b"Version: 9"))
        busy = await served.connect()
        await busy.send_all(get("/first"))
        await begun.wait()
        await served.ask(get("/second"))
        await served.ask(WEBSOCKET)
        shown = [line.partition(" - ")[2] for line in lines()]
    assert shown == [
        '"CONNECT a:1 HTTP/1.1" 501',
        '"GET /chat HTTP/1.1" 426',
        '"GET /second HTTP/1.1" 503',
        '"GET /chat HTTP/1.1" 503',
    ]


async def test_nobody_forges_a_line(lines):
    """White space and control characters are refused in a request line; a quotation mark is escaped."""
    async with serving(app) as served:
        client = await served.connect()
        await ask(client, get('/x"-200-"'))
        for target in ("/a\tb", "/a\x0bb", "/\x85", "/a\u2028b"):
            await served.ask(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    [line] = lines()
    assert '"GET /x%22-200-%22 HTTP/1.1" 200' in line


async def test_a_forwarded_client_is_an_address_or_nothing(lines):
    async with serving(app) as served:
        for value in ("1.2.3.4", '1.2.3.4"\tfake', "evil"):
            await served.ask(get("/", f"X-Forwarded-For: {value}"))
    assert [line.partition(":")[0] for line in lines()] == ["1.2.3.4", "127.0.0.1", "127.0.0.1"]


async def test_without_queries(lines):
    async with serving(app, access_log_query=False) as served:
        await served.ask(get("/a?token=secret"))
    assert lines()[0].endswith('"GET /a HTTP/1.1" 200')
