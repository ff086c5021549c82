"""What may be a credential is in no error, no answer, no line of the log, and no repr."""

from __future__ import annotations

import contextlib
import logging
import traceback
from typing import Any

import pytest
import trio
from yarl import URL

import trionet
from trionet import to_websocket_server
from trionet.http.client.proxies.choice import Proxies
from trionet.http.client.proxies.proxy import Proxy
from trionet.http.protocol.head import RequestHead
from trionet.http.protocol.headers import Headers
from trionet.http.protocol.target import without_secrets
from trionet.http.url.url import parse_url

from ..helpers.http_by_hand import serving
from ..helpers.http_served import WEBSOCKET, get

# --- what a server says about requests ----------------------------------------------------------------------------

HEAD = b"POST /path HTTP/1.1\r\nHost: a\r\n"
REQUESTS = {
    "white space in front of a colon": HEAD + b"Authorization : Bearer SECRET\r\n\r\n",
    "no colon": HEAD + b"Authorization Bearer SECRET\r\n\r\n",
    "a name that is none": HEAD + b"SECRET stuff: x\r\n\r\n",
    "a folded line": HEAD + b"Authorization: Bearer\r\n SECRET\r\n\r\n",
    "a control character": HEAD + b"Cookie: \x00SECRET\r\n\r\n",
    "a bare CR": HEAD + b"Cookie: \rSECRET\r\n\r\n",
    "a bare LF": HEAD + b"Cookie: SECRET\n\r\n\r\n",
    "no request": b"PASS SECRET\r\n\r\n",
    "no request, one word": b"SECRET\r\n\r\n",
    "two spaces": b"GET /?token=SECRET  HTTP/1.1\r\nHost: a\r\n\r\n",
    "another version": b"GET /?token=SECRET HTTP/3.0\r\nHost: a\r\n\r\n",
    "no target": b"GET token=SECRET HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a password": b"GET http://user:SECRET@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a password for somebody else": b"GET http://user:SECRET@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tunnel with a password": b"CONNECT user:SECRET@a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "a Host with a password": b"GET / HTTP/1.1\r\nHost: user:SECRET@a\r\n\r\n",
    "another Host": b"GET http://b/?token=SECRET HTTP/1.1\r\nHost: a\r\n\r\n",
    "no chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\npassword=SECRET\r\n",
    "more than a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxSECRET\r\n",
    "a bad extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;\x01SECRET\r\n",
    "bad trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nCookie : SECRET\r\n\r\n",
    "forbidden trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: SECRET\r\n\r\n",
    "a body that is too big": b"POST /?token=SECRET HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789",
    "a handler that fails": get("/fail?token=SECRET", "Cookie: SECRET"),
    "a handler that forgets": get("/forget?token=SECRET", "Authorization: SECRET"),
    "a handler that fails, whole target": b"GET http://a/fail?token=SECRET HTTP/1.1\r\nHost: a\r\n\r\n",
    "a page with a password": WEBSOCKET.replace(b"Host: a", b"Host: a\r\nOrigin: https://user:SECRET@b"),
    "a bad key": WEBSOCKET.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"SECRET"),
    "bad subprotocols": WEBSOCKET.replace(b"Host: a", b"Host: a\r\nSec-WebSocket-Protocol: a b SECRET"),
    "half a request": b"GET /?token=SECRET HTTP/1.1\r\nHost: a\r\nCook",
}


async def app(exchange: trionet.Exchange) -> None:
    if exchange.wants_websocket:
        await exchange.upgrade(to_websocket_server(origins=["https://a", None]))
    elif exchange.path == "/fail":
        raise RuntimeError("mine")
    elif exchange.path != "/forget":
        await exchange.respond(200, await exchange.read(max_bytes=5))


async def raw(connection: trionet.Connection) -> None:
    await connection.upgrade(to_websocket_server(origins=["https://a", None]))


async def line(connection: trionet.Connection) -> None:
    await connection.receive_until(b"\0\0", max_bytes=20)


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("handler", [app, raw, line], ids=["HTTP", "WebSocket on TCP", "lines"])
async def test_no_answer_and_no_line_of_the_log_quotes_a_credential(
    handler: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trionet.server")
    serve = trionet.serve_http if handler is app else trionet.serve_tcp
    async with trionet.open_scope() as scope:
        server = await scope.start(lambda **kw: serve(handler, 0, host="127.0.0.1", **kw))
        async with trionet.open_tcp("127.0.0.1", server.port) as client:
            await client.send_all(REQUESTS[what])
            await client.send_eof()
            answer = b""
            with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
                while data := await client.receive_some():
                    answer += data
        while server.statistics().open:
            await trio.lowlevel.checkpoint()
        assert b"SECRET" not in answer
        assert b"\\x" not in answer
        assert "SECRET" not in caplog.text
        assert caplog.records
        scope.cancel()


async def test_a_server_with_tls_does_not_quote_what_comes_in_plain_text(
    server_context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trionet.server")
    async with trionet.open_scope() as scope:
        server = await scope.start(lambda **kw: trionet.serve_tcp(line, 0, ssl_context=server_context, **kw))
        async with trionet.open_tcp("localhost", server.port) as client:
            await client.send_all(b"PASS SECRET\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                await client.receive_some()
        while server.statistics().open:
            await trio.lowlevel.checkpoint()
        assert caplog.records
        assert "SECRET" not in caplog.text
        scope.cancel()


async def test_an_answer_says_in_utf_8_which_section_was_broken() -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(lambda **kw: trionet.serve_http(app, 0, **kw))
        async with trionet.open_tcp("localhost", server.port) as client:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            head = await client.receive_until(b"\r\n\r\n", max_bytes=9999)
            assert b"charset=utf-8" in head
            assert "(RFC 9112 §3.2)" in (await client.receive_until(b"\n", max_bytes=999)).decode()
        scope.cancel()


async def test_what_stands_in_the_way_is_named_without_its_query() -> None:
    asked = trio.Event()
    forget = trio.Event()

    async def slow(exchange: trionet.Exchange) -> None:
        asked.set()
        await forget.wait()
        await exchange.respond(200)

    async with trionet.open_scope() as scope:
        server = await scope.start(lambda **kw: trionet.serve_http(slow, 0, **kw))
        async with trionet.open_tcp("localhost", server.port) as client:
            await client.send_all(get("/slow?token=SECRET"))
            await asked.wait()
            [http] = server.connections[0].handles
            assert "GET /slow" in str(http.blockers)
            with pytest.raises(trionet.HandleBusyError) as refused:
                http.detach()
            report = await server.drain(0)
            assert report.forced
            assert "SECRET" not in f"{http.blockers} {refused.value} {report} {http!r} {server.statistics()}"
        scope.cancel()


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/path?token=SECRET", "/path"),
        ("/path#SECRET", "/path"),
        ("/a@b", "/a@b"),
        ("http://user:SECRET@host/path?x", "http://host/path"),
        ("http://host/a@b", "http://host/a@b"),
        ("user:SECRET@host:443", "host:443"),
        ("//user:SECRET@host/", "//host/"),
        ("*", "*"),
    ],
)
def test_a_target_is_shown_without_secrets(target: str, shown: str) -> None:
    assert without_secrets(target) == shown
    assert repr(RequestHead("GET", target, "1.1", Headers())) == f"<RequestHead GET {shown!r}, 0 fields>"


def test_fields_that_carry_credentials_are_hidden_in_a_repr() -> None:
    names = ["Authorization", "Proxy-Authorization", "COOKIE", "set-cookie"]
    headers = Headers([("Host", "a"), *((name, "SECRET") for name in names)])
    assert "SECRET" not in repr(headers)
    assert "('Host', 'a'), ('Authorization', '...')" in repr(headers)
    assert headers["authorization"] == "SECRET"


@pytest.mark.parametrize("value", ["SECRET\r\n", "SECRET\u20ac", b"SECRET\0"])
def test_a_credential_that_cannot_be_sent_is_not_quoted(value: str | bytes) -> None:
    with pytest.raises(ValueError, match="'authorization'") as refused:
        Headers([("authorization", value)])
    assert "SECRET" not in told(refused.value)


# --- what a client says about URLs --------------------------------------------------------------------------------

URLS = [
    "http://user:SECRET@host:port/",
    "http://user:SECRET@host:99999/",
    "http://user:SECRET@host:0/",
    "http://user:SECRET@[::1/",
    "http://user:SECRET@[x]/",
    "http://user:SECRET@a..b/",
    "http://user:SECRET@/",
    "http://user:SECRET@host /",
    "http://user:SECRET@ho st/",
    "http://user:SECRET@host\n/",
    "http://user:SEC\tRET@host/",
    "http://user:SECRET%00@host/",
    "http://us:er%3a:SECRET@host:x/",
    "http://user:SECRET@host@other:x/",
    "http://user:SECRET@host\\/",
    "ftp://user:SECRET@host/",
    "user:SECRET@host",
    "user:SECRET@host:80",
    "//user:SECRET@host/",
    "http:user:SECRET@host/",
    "http:/user:SECRET@host/",
    "http//user:SECRET@host",
    "wss:user:SECRET@host/#x",
    "ws://user:SECRET@host/#fragment",
    "ws://user:SECRET@host:x/",
    "http://user:SECRET@b\u2100d/",
]


def told(error: BaseException) -> str:
    """The error and all that it came from, as a traceback shows them."""
    lines = []
    while True:
        lines += traceback.format_exception_only(error)
        following = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if following is None:
            return "".join(lines)
        error = following


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "use",
    [
        parse_url,
        trionet.to_websocket_client,
        Proxy.parse,
        lambda url: Proxies.from_environment({"http_proxy": url}),
        lambda url: Proxies.choose(url, trust_env=False),
        lambda url: Proxy.parse(url.encode()),
        lambda url: parse_url(url.encode()),
        lambda url: trionet.to_websocket_client(url.encode()),
    ],
    ids=["http", "ws", "proxy", "environment", "option", "proxy as bytes", "http as bytes", "ws as bytes"],
)
def test_no_error_about_a_url_has_its_password(use: Any, url: str) -> None:
    refused = None
    try:
        use(url)  # some of them are good for one of the uses
    except (ValueError, TypeError) as exc:
        refused = exc
    assert refused is None or "RET" not in told(refused)


@pytest.mark.parametrize("url", URLS)
async def test_no_error_of_a_client_has_the_password_of_a_url(url: str) -> None:
    for use in (
        lambda: send_a_request(url),
        lambda: send_a_request("/", base_url=url),
        lambda: send_a_request("http://localhost:1/", proxy=url),
        lambda: open_a_websocket(url),
    ):
        with pytest.raises((ValueError, TypeError, OSError)) as refused, trio.fail_after(5):
            await use()
        assert "SECRET" not in told(refused.value)


async def send_a_request(url: str, **options: Any) -> None:
    async with trionet.open_http_client(**options) as client, client.request("GET", url):
        pass


async def open_a_websocket(url: str) -> None:
    async with trionet.open_websocket(url):
        pass


REDIRECTS = ["http://user:SECRET@host/", "http://user:SECRET@host:x/", "ftp://user:SECRET@host/", "//user:SECRET@[x/"]


@pytest.mark.parametrize("location", REDIRECTS)
@pytest.mark.parametrize("websocket", [False, True], ids=["HTTP", "WebSocket"])
async def test_no_error_about_a_redirect_has_a_password(location: str, websocket: bool) -> None:
    async def redirects(exchange: trionet.Exchange) -> None:
        await exchange.respond(302, headers=[("Location", location)])

    async with trionet.open_scope() as scope:
        server = await scope.start(lambda **kw: trionet.serve_http(redirects, 0, **kw))
        host = f"localhost:{server.port}"
        with pytest.raises(trionet.TrionetError) as refused:
            await (open_a_websocket(f"ws://{host}/") if websocket else send_a_request(f"http://{host}/"))
        assert "SECRET" not in told(refused.value)
        scope.cancel()


async def test_no_repr_has_a_password() -> None:
    url = "http://user:SECRET@host:1/"
    async with trionet.open_http_client(base_url=url, proxy=url) as client:
        assert "SECRET" not in f"{client!r} {client.statistics()}"
    proxy = Proxy.parse(URL("socks5://user:SECRET@proxy"))
    assert "SECRET" not in f"{proxy!r} {proxy}"


async def test_no_error_of_a_client_quotes_a_query():
    """A signed URL is a password: neither the one that was asked for nor the one it leads to stands in an error."""
    there = "https://user:SECRET@b.example/there?token=SECRET#SECRET"
    moved = f"HTTP/1.1 307 Moved\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode()
    twice = moved.replace(b"Content-Length", b"Location: /x?SECRET\r\nContent-Length")
    down = moved.replace(b"Location: https", b"Location: ftp")
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    async def pieces():
        yield b"x"

    for answer, options in (
        (moved, {"max_redirects": 0}), (moved, {"content": True}), (twice, {}), (down, {}), (missing, {}),
    ):  # fmt: skip
        async with (
            serving(answer) as server,
            trionet.open_http_client(max_redirects=options.get("max_redirects", 20)) as client,
        ):
            content = pieces() if options.get("content") else None
            with pytest.raises(trionet.HTTPClientError) as caught:
                async with client.request(
                    "POST", f"{server.url}/here?token=SECRET#SECRET", content=content
                ) as response:
                    response.raise_for_status()
            assert "SECRET" not in str(caught.value)
            assert "/here" in str(caught.value) or answer is twice
