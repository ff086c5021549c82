"""trionet's HTTP client and servers that nobody here has written: nginx, uvicorn (both of its parsers) and aiohttp.

Each of them over TCP, TLS and a Unix socket.
"""

import io
import random
from functools import partial

import pytest
import trio
from aiohttp import web

import trionet
from trionet.http.client import exchange as client_exchange

from ..helpers.http_peers import KINDS, aiohttp_serves, nginx_serves, uvicorn_serves

SIZES = [0, 1, 16383, 16385, 65535, 65537, 1_000_003]

ENDED = (trionet.RemoteProtocolError, trionet.HandleBrokenError)
"""The server has ended the connection: over TLS in the rude way, without saying so."""


def pattern(size):
    """So many bytes, none of which stand at the right place by chance."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def pieces(size, step=9973):
    whole = pattern(size)
    for at in range(0, size, step):
        yield whole[at : at + step]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def open_client(client_context):
    """``async with open_client(peer, **options) as client``."""

    def opening(peer, **options):
        options.setdefault("ssl_context", client_context)
        return trionet.open_http_client(base_url=peer.url, unix_path=peer.unix_path, trust_env=False, **options)

    return opening


async def ask(client, path, method="GET", **options):
    """Send a request: status and body of its response."""
    async with client.request(method, path, **options) as response:
        return response.status, await response.read()


# --- applications: the same for uvicorn and for aiohttp -----------------------------------------------------------
#
# /hello, /echo (POST), /size?n (counted), /chunks?n (chunked), /refuse (413, and the body is not read), /away (307 to
# /echo), /bye (ends the connection), /none (204), /cut?n (counted, and ends too early), /fail (500).


class ASGI:
    """The application for uvicorn with this parser of HTTP. It notes what it was asked."""

    def __init__(self, parser):
        self.parser = parser
        self.asked = []

    async def __call__(self, scope, receive, send):
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], fields))
        size = int(scope["query_string"] or 0)

        async def answer(status, body=b"", **more):
            given = {"content-length": str(len(body)), **more} if status != 204 else more
            raw = [(name.encode(), value.encode()) for name, value in given.items()]
            await send({"type": "http.response.start", "status": status, "headers": raw})
            await send({"type": "http.response.body", "body": body})

        match scope["path"]:
            case "/hello":
                await answer(200, b"hello")
            case "/echo":
                body, more = b"", True
                while more:
                    message = await receive()
                    body += message["body"]
                    more = message.get("more_body", False)
                await answer(200, body, **{"x-coding": fields.get("transfer-encoding", "none")})
            case "/size":
                await answer(200, pattern(size))
            case "/chunks":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                async for piece in pieces(size):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            case "/refuse":
                await answer(413, b"too large")
            case "/away":
                await answer(307, b"over there", location="/echo")
            case "/bye":
                await answer(200, b"bye", connection="close")
            case "/none":
                await answer(204)
            case "/cut":
                head = [(b"content-length", b"%d" % size)]
                await send({"type": "http.response.start", "status": 200, "headers": head})
                await send({"type": "http.response.body", "body": b"some", "more_body": True})
            case "/fail":
                await answer(500, b"sorry")


class Aiohttp:
    """The application for aiohttp. It notes what it was asked."""

    def __init__(self):
        self.asked = []
        self.app = web.Application(client_max_size=10_000_000)
        self.app.router.add_route("*", "/{name}", self.handle)

    async def handle(self, request):
        fields = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.method, request.path, fields))
        query = request.query_string
        size = int(query) if query.isdigit() else 0
        match request.path:
            case "/hello":
                return web.Response(body=b"hello")
            case "/echo":
                body = await request.read()
                return web.Response(body=body, headers={"x-coding": fields.get("transfer-encoding", "none")})
            case "/size":
                return web.Response(body=pattern(size))
            case "/chunks":
                response = web.StreamResponse()
                response.enable_chunked_encoding()
                await response.prepare(request)
                async for piece in pieces(size):
                    await response.write(piece)
                await response.write_eof()
                return response
            case "/refuse":
                return web.Response(status=413, body=b"too large")
            case "/away":
                return web.Response(status=307, body=b"over there", headers={"Location": "/echo"})
            case "/bye":
                response = web.Response(body=b"bye")
                response.force_close()
                return response
            case "/none":
                return web.Response(status=204)
            case "/cut":
                response = web.StreamResponse(headers={"Content-Length": str(size)})
                await response.prepare(request)
                await response.write(b"some")
                request.transport.close()
                return response
            case "/fail":
                return web.Response(status=500, body=b"sorry")
            case "/packed":
                response = web.Response(body=pattern(100_000))
                response.enable_compression(web.ContentCoding[query])
                return response


@pytest.fixture(params=["h11", "httptools", "aiohttp"])
def application(request):
    return Aiohttp() if request.param == "aiohttp" else ASGI(request.param)


@pytest.fixture
def peer_serves(application, kind, tmp_path, ca):
    """``async with peer_serves() as peer``: the application is served."""
    if isinstance(application, Aiohttp):
        return partial(aiohttp_serves, application.app, kind, tmp_path, ca)
    return partial(uvicorn_serves, application, kind, tmp_path, ca, parser=application.parser)


# --- uvicorn and aiohttp ------------------------------------------------------------------------------------------


async def test_bodies_of_every_size_and_framing_on_one_connection(peer_serves, open_client):
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            for size in SIZES:
                assert await ask(client, f"/size?{size}") == (200, pattern(size))
                assert await ask(client, f"/chunks?{size}") == (200, pattern(size))
                for content, coding in (
                    (pattern(size), "none"),
                    (io.BytesIO(pattern(size)), "none"),
                    (pieces(size), "chunked"),
                ):
                    async with client.request("POST", "/echo", content=content) as response:
                        assert await response.read() == pattern(size)
                        assert response.headers["x-coding"] == coding
            figures = client.statistics()
            assert (figures.opened, figures.reused) == (1, 5 * len(SIZES) - 1)
            assert (figures.open, figures.idle, figures.retried) == (1, 1, 0)


async def test_answers_without_bodies(application, peer_serves, open_client):
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            async with client.request("HEAD", "/size?70000") as response:
                assert response.headers["content-length"] == "70000"
                assert await response.read() == b""
            assert await ask(client, "/none") == (204, b"")
            assert await ask(client, "/hello", "HEAD") == (200, b"")
            assert await ask(client, "/hello") == (200, b"hello")
            assert client.statistics().opened == 1
            assert [method for method, *_ in application.asked] == ["HEAD", "GET", "HEAD", "GET"]


async def test_a_body_that_the_server_is_asked_about_first(application, peer_serves, open_client, monkeypatch):
    monkeypatch.setattr(client_exchange, "CONTINUE_SECONDS", 60.0)  # longer than this test lasts
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            for sent in (pattern(100_000), pieces(100_000)):
                options = {"content": sent, "expect_continue": True}
                assert await ask(client, "/echo", "POST", **options) == (200, pattern(100_000))
            assert await ask(client, "/hello") == (200, b"hello")
            assert client.statistics().opened == 1
            assert [fields.get("expect") for *_, fields in application.asked] == ["100-continue"] * 2 + [None]


async def test_an_answer_that_comes_before_the_body_was_read(peer_serves, open_client):
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            for size in (1000, 5_000_000):
                assert await ask(client, "/refuse", "POST", content=pattern(size)) == (413, b"too large")
                assert await ask(client, "/refuse", "POST", content=pieces(size)) == (413, b"too large")
            assert await ask(client, "/hello") == (200, b"hello")
            assert client.statistics().retried == 0


async def test_a_redirect_takes_the_body_along_on_the_same_connection(peer_serves, open_client):
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            async with client.request("POST", "/away", json=[1, 2]) as response:
                assert await response.json() == [1, 2]
                assert [past.status for past in response.history] == [307]
                assert response.url.path == "/echo"
            assert await ask(client, "/away", follow_redirects=False) == (307, b"over there")
            assert client.statistics().opened == 1
            with pytest.raises(trionet.BodyNotReplayableError):
                await ask(client, "/away", "POST", content=pieces(10))


async def test_errors_that_are_answers(peer_serves, open_client):
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            async with client.request("GET", "/fail") as response:
                with pytest.raises(trionet.HTTPStatusError, match="/fail was answered with 500"):
                    response.raise_for_status()
                assert await response.read() == b"sorry"
            assert await ask(client, "/hello") == (200, b"hello")
            assert client.statistics().opened == 1


async def test_a_server_that_ends_its_connections(peer_serves, open_client):
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            assert await ask(client, "/bye") == (200, b"bye")
            assert client.statistics().idle == 0
            with pytest.raises(trionet.RemoteProtocolError):
                await ask(client, "/cut?9")
            assert client.statistics().idle == 0
            assert await ask(client, "/hello") == (200, b"hello")
            assert client.statistics().opened == 3


async def test_bodies_that_nobody_reads_cost_the_connection_only_if_they_are_long(peer_serves, open_client):
    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer) as client:
            for path, connections in (("/size?60000", 1), ("/chunks?50000", 1), ("/size?2000000", 1), ("/hello", 2)):
                async with client.request("GET", path) as response:
                    assert response.status == 200
                assert client.statistics().opened == connections


async def test_many_requests_at_once_on_few_connections(peer_serves, open_client):
    async def echo(size):
        assert await ask(client, "/echo", "POST", content=pattern(size)) == (200, pattern(size))

    with trio.fail_after(30):
        async with peer_serves() as peer, open_client(peer, max_connections_per_origin=4) as client:
            async with trio.open_nursery() as nursery:
                for size in random.Random(1).sample(range(100_000), 40):
                    nursery.start_soon(echo, size)
            figures = client.statistics()
            assert figures.opened <= 4
            assert figures.opened + figures.reused == 40
            assert figures.open == figures.idle


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_what_aiohttp_compresses(kind, tmp_path, ca, open_client, coding):
    with trio.fail_after(30):
        async with aiohttp_serves(Aiohttp().app, kind, tmp_path, ca) as peer, open_client(peer) as client:
            for _ in range(2):
                async with client.request("GET", f"/packed?{coding}") as response:
                    assert response.headers["content-encoding"] == coding
                    assert await response.read() == pattern(100_000)
            assert client.statistics().opened == 1


# --- nginx --------------------------------------------------------------------------------------------------------

SERVER = """
        root {folder}/files;
        client_max_body_size 100k;
        gzip_types text/plain;
        location /packed/ { alias {folder}/files/; gzip on; gzip_min_length 1; default_type text/plain; }
        location /twice/ { alias {folder}/files/; keepalive_requests 2; }
        location = /away { return 302 /hello; }
        location = /keep { return 307 /count; }
        location = /secure { return 301 https://localhost:{secure}/hello; }
        location = /hang-up { return 444; }
        location = /none { return 204; }
        location = /count { proxy_pass http://unix:{folder}/sock:/counted; }
        location = /counted { return 200 "$content_length"; }
        location = /half { proxy_pass http://unix:{folder}/sock:/hang-up; }
"""


@pytest.fixture(scope="module")
def nginx_peers(ca, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nginx")
    files = folder / "files"
    files.mkdir()
    (files / "hello").write_bytes(b"hello")
    for size in SIZES:
        (files / str(size)).write_bytes(pattern(size))
    with nginx_serves(SERVER, folder, ca) as peers:
        yield peers


@pytest.fixture
def nginx(nginx_peers, kind):
    return nginx_peers[kind]


async def test_files_of_nginx_on_one_connection(nginx, open_client):
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            for size in SIZES:
                assert await ask(client, f"/{size}") == (200, pattern(size))
                async with client.request("HEAD", f"/{size}") as response:
                    assert response.headers["content-length"] == str(size)
            assert await ask(client, "/65537", headers={"Range": "bytes=65535-"}) == (206, pattern(65537)[65535:])
            assert await ask(client, "/none") == (204, b"")
            status, page = await ask(client, "/missing")
            assert status == 404
            assert b"404 Not Found" in page
            assert client.statistics().opened == 1


async def test_files_that_are_not_modified(nginx, open_client):
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            async with client.request("GET", "/hello") as response:
                tag = response.headers["etag"]
            assert await ask(client, "/hello", headers={"If-None-Match": tag}) == (304, b"")
            assert await ask(client, "/hello") == (200, b"hello")
            assert client.statistics().opened == 1


async def test_what_nginx_compresses(nginx, open_client):
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            for size in SIZES[1:]:
                async with client.request("GET", f"/packed/{size}") as response:
                    assert response.headers["content-encoding"] == "gzip"
                    assert await response.read() == pattern(size)
            async with client.request("GET", "/packed/65537", headers={"Accept-Encoding": "gzip"}) as response:
                assert await response.read() == pattern(65537)  # whoever has asked for the coding
            assert client.statistics().opened == 1


async def test_nginx_ends_its_connections_after_two_requests_each(nginx, open_client):
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            for asked in range(1, 8):
                assert await ask(client, "/twice/hello") == (200, b"hello")
                assert client.statistics().opened == (asked + 1) // 2
            assert client.statistics().retried == 0


async def test_redirects_of_nginx(nginx, open_client):
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            async with client.request("GET", "/away") as response:
                assert await response.read() == b"hello"
                assert [past.status for past in response.history] == [302]
            assert await ask(client, "/away", "POST", content=b"dropped") == (200, b"hello")
            assert await ask(client, "/keep", "POST", content=pattern(5000)) == (200, b"5000")


async def test_a_redirect_of_nginx_to_https(nginx_peers, open_client):
    with trio.fail_after(30):
        async with open_client(nginx_peers["tcp"]) as client:
            async with client.request("GET", "/secure") as response:
                assert await response.read() == b"hello"
                assert str(response.url) == nginx_peers["tls"].url + "/hello"
            assert client.statistics().opened == 2


async def test_nginx_counts_the_bytes_of_a_body(nginx, open_client, monkeypatch):
    monkeypatch.setattr(client_exchange, "CONTINUE_SECONDS", 60.0)  # longer than this test lasts
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            for size in (1, 16385, 65537, 102_400):
                for expect in (False, True):
                    options = {"expect_continue": expect}
                    said = (200, str(size).encode())
                    assert await ask(client, "/count", "POST", content=pattern(size), **options) == said
                    assert await ask(client, "/count", "POST", content=pieces(size), **options) == said
            assert client.statistics().opened == 1


@pytest.mark.parametrize("expect", [False, True])
@pytest.mark.parametrize("size", [102_401, 5_000_000])
async def test_nginx_refuses_a_body_that_is_too_large(nginx, open_client, monkeypatch, size, expect):
    monkeypatch.setattr(client_exchange, "CONTINUE_SECONDS", 60.0)  # longer than this test lasts
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            for content in (pattern(size), pieces(size)):
                status, page = await ask(client, "/count", "POST", content=content, expect_continue=expect)
                assert status == 413
                assert b"413 Request Entity Too Large" in page
            assert await ask(client, "/hello") == (200, b"hello")
            assert client.statistics().retried == 0


async def test_nginx_hangs_up_instead_of_answering(nginx, open_client):
    with trio.fail_after(30):
        async with open_client(nginx) as client:
            with pytest.raises(ENDED) as fresh:
                await ask(client, "/hang-up")
            assert fresh.value.retry_safe
            assert client.statistics().retried == 0
            assert await ask(client, "/hello") == (200, b"hello")
            with pytest.raises(ENDED) as posted:
                await ask(client, "/hang-up", "POST", content=b"x")
            assert not posted.value.retry_safe
            assert client.statistics().retried == 0
            assert await ask(client, "/hello") == (200, b"hello")
            with pytest.raises(ENDED):
                await ask(client, "/hang-up")
            assert client.statistics().retried == 1
            assert client.statistics().idle == 0
            status, _page = await ask(client, "/half")
            assert status == 502


async def test_nginx_is_not_trusted_without_its_authority(nginx_peers, open_client):
    with trio.fail_after(30):
        async with open_client(nginx_peers["tls"], ssl_context=None) as client:
            with pytest.raises(trionet.UpgradeFailedError, match="certificate"):
                await ask(client, "/hello")


async def test_http_on_the_port_for_https(nginx_peers, open_client):
    with trio.fail_after(30):
        async with open_client(nginx_peers["tls"]) as client:
            url = nginx_peers["tls"].url.replace("https", "http") + "/hello"
            status, page = await ask(client, url)
            assert status == 400
            assert b"plain HTTP request was sent to HTTPS port" in page
