"""The fields of a message behind a proxy: which go on, and what is added."""

import socket

import pytest

import trionet
from trionet import Headers, forwarded_request_headers, forwarded_response_headers

from ...helpers.http_served import get, read_answer


async def seen_for(request, family="tcp", **options):
    """What `forwarded_request_headers` makes of a request, as a list of pairs."""
    found = []

    async def app(exchange):
        found.append(forwarded_request_headers(exchange, **options))
        await exchange.respond(200)

    async with trionet.open_scope(drain_timeout=0) as scope:
        if family == "unix":
            one, other = socket.socketpair()
            client, server = scope.adopt(one), scope.adopt(other)
            scope.nursery.start_soon(serve_one, server, app)
        else:
            host = {"tcp": "127.0.0.1", "tcp6": "::1"}[family]
            server = await scope.start(lambda **kw: trionet.serve_http(app, 0, host=host, **kw))
            client = await scope.connect_tcp(host, server.port)
        await client.send_all(request)
        assert (await read_answer(client)).status == 200
        scope.cancel()
    return found[0].items()


async def serve_one(conn, app):
    async for exchange in await conn.upgrade(trionet.to_http_server()):
        await app(exchange)


ADDED = [
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-Host", "a"),
    ("X-Forwarded-Proto", "http"),
    ("Via", "1.1 trionet"),
]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["Accept: */*", "X: 1", "X: 2"], [("Accept", "*/*"), ("X", "1"), ("X", "2")]),
        (["Connection: close, X-One", "x-one: 1", "X-Two: 2"], [("X-Two", "2")]),
        (["Connection: X-One", "Connection: x-two", "X-One: 1", "X-Two: 2"], []),
        (["Keep-Alive: 5", "TE: trailers", "Proxy-Connection: x", "Trailer: a", "Upgrade: h2c"], []),
        (["Proxy-Authorization: Basic x", "Authorization: Basic y"], [("Authorization", "Basic y")]),
        (["Expect: 100-continue"], []),
        (["Connection: X-Forwarded-For, Via"], []),
        (["X-Forwarded-For: 6.6.6.6", "X-FORWARDED-PORT: 1", "Forwarded: for=x", "X-Real-IP: y"], []),
        (["X_Forwarded_For: 6.6.6.6", "x-forwarded_host: evil", "X-Client-IP: 1", "X_Real_IP: y"], []),
        (["X-Forwardedness: stays"], [("X-Forwardedness", "stays")]),
        (["Via: 1.0 before"], [("Via", "1.0 before")]),
    ],
)
async def test_fields_of_one_connection_end_and_those_of_strangers_are_not_believed(lines, kept):
    assert await seen_for(get("/", *lines)) == [("Host", "a"), *kept, *ADDED]


async def test_a_trusted_proxy_before_this_one_is_continued():
    before = ("X-Forwarded-For: 6.6.6.6", "Forwarded: for=x", "Via: 1.0 before")
    found = await seen_for(get("/", *before), trust_client=True)
    assert [value for name, value in found if name == "X-Forwarded-For"] == ["6.6.6.6", "127.0.0.1"]
    assert Headers(found)["via"] == "1.0 before, 1.1 trionet"
    assert ("Forwarded", "for=x") in found


@pytest.mark.parametrize(
    ("family", "style", "added"),
    [
        ("tcp", "forwarded", [("Forwarded", 'for=127.0.0.1;host="a";proto=http')]),
        ("tcp6", "forwarded", [("Forwarded", 'for="[::1]";host="a";proto=http')]),
        ("tcp6", "x-forwarded", [("X-Forwarded-For", "::1"), *ADDED[1:3]]),
        ("unix", "forwarded", [("Forwarded", 'for=unknown;host="a";proto=http')]),
        ("unix", "x-forwarded", [("X-Forwarded-For", "unknown"), *ADDED[1:3]]),
        ("tcp", "none", []),
    ],
)
async def test_each_style_from_each_kind_of_address(family, style, added):
    assert await seen_for(get("/"), family, style=style, via=None) == [("Host", "a"), *added]


async def test_via_says_what_the_client_spoke():
    request = b"GET / HTTP/1.0\r\n\r\n"
    assert await seen_for(request, style="none", via="edge:8080") == [("Via", "1.0 edge:8080")]


@pytest.mark.parametrize(
    ("offered", "asked"), [("websocket", "websocket"), ("h2c, WebSocket", "websocket"), ("h2c", None)]
)
async def test_only_the_protocol_that_is_named_is_offered_on(offered, asked):
    found = await seen_for(
        get("/", f"Upgrade: {offered}", "Connection: Upgrade"), style="none", via=None, upgrade="websocket"
    )
    assert found == [("Host", "a"), *([("Connection", "Upgrade"), ("Upgrade", asked)] if asked else [])]


def test_a_response_goes_on_without_what_is_about_its_connection():
    fields = [
        ("Date", "Mon"), ("date", "Tue"), ("Connection", "close, X-One"),
        ("x-one", "1"), ("Transfer-Encoding", "chunked"),
        ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "5"), ("Proxy-Authenticate", "Basic"),
    ]  # fmt: skip
    kept = [("Date", "Mon"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "5")]
    assert forwarded_response_headers(fields).items() == kept
    assert forwarded_response_headers(Headers(fields), via="edge").items() == [*kept, ("Via", "1.1 edge")]


async def test_what_cannot_be_right_is_refused():
    with pytest.raises(TypeError, match=r"exchange must be a trionet.Exchange, not 5"):
        forwarded_request_headers(5)
    with pytest.raises(ValueError, match="via must be a token or host:port, .* not 'two words'"):
        forwarded_response_headers({}, via="two words")
    with pytest.raises(ValueError, match="not 'edge:http'"):
        forwarded_response_headers({}, via="edge:http")
    for options in ({"style": "both"}, {"trust_client": 1}):
        with pytest.raises((ValueError, TypeError), match=next(iter(options))):
            await ask_with(**options)


async def ask_with(**options):
    """As `seen_for`, with what the handler raises."""
    raised = []

    async def app(exchange):
        try:
            forwarded_request_headers(exchange, **options)
        except (ValueError, TypeError) as exc:
            raised.append(exc)
        await exchange.respond(200)

    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(trionet.serve_http, app, 0)
        async with scope.open_http_client() as client, client.request("GET", f"http://localhost:{server.port}/"):
            pass
        scope.cancel()
    raise raised[0]
