"""trionet's HTTP server and clients that nobody here has written: curl, http.client, httpx and aiohttp.

Each of them over TCP, TLS and a Unix socket. Every answer carries the number of its connection, so that a client's
belief in having used one again can be checked.
"""

import asyncio
import contextlib
import http.client
import shutil
import socket
from dataclasses import dataclass, field
from functools import partial

import aiohttp
import httpx
import pytest
import trio

import trionet
from trionet.http.server.cycle import LARGE

SIZES = [0, 1, LARGE - 1, LARGE, LARGE + 1, 65535, 65537, 1_000_003]
KINDS = ["tcp", "tls", "unix"]

# --- the server ---------------------------------------------------------------------------------------------------


def pattern(size):
    """So many bytes, none of which stand at the right place by chance."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@dataclass
class Site:
    """A server of trionet's, and how to reach it."""

    url: str
    path: str | None
    server: trionet.Server
    seen: list = field(default_factory=list)
    failures: list = field(default_factory=list)

    @property
    def connections(self):
        """How many connections there were, ever."""
        return self.server.statistics().accepted


async def application(site, numbers, exchange):
    """Answers by path."""
    site.seen.append(exchange)
    fields = [("X-Connection", str(numbers.setdefault(exchange.connection, len(numbers) + 1)))]
    match exchange.path:
        case "/hello":
            await exchange.respond(200, b"hello\n", headers=fields)
        case "/echo":
            body = await exchange.read(4_000_000)
            coding = exchange.headers.get("transfer-encoding", "none")
            await exchange.respond(200, body, headers=[*fields, ("X-Coding", coding)])
        case "/relay":
            async with exchange.stream(200, headers=fields) as stream:
                async for chunk in exchange:
                    await stream.send(chunk)
        case "/size":
            await exchange.respond(200, pattern(int(exchange.query)), headers=fields)
        case "/chunks":
            whole = pattern(int(exchange.query))
            await exchange.respond(200, (whole[at : at + 5000] for at in range(0, len(whole), 5000)), headers=fields)
        case "/trailers":
            async with exchange.stream(200, headers=fields) as stream:
                await stream.send(b"body\n")
                stream.trailers([("X-Sum", "42")])
        case "/refuse":
            await exchange.respond(413, b"too large\n", headers=fields)
        case "/nothing":
            await exchange.respond(204, headers=fields)
        case "/cut":
            async with exchange.stream(200, headers=fields, length=int(exchange.query)) as stream:
                await stream.send(b"some")
                raise RuntimeError("the handler fails in the middle of its answer")
        case path:
            raise AssertionError(f"nobody asks for {path}")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def served(kind, tmp_path, server_context):
    """A block in which the application is served; at its end the server has to drain without being forced."""

    @contextlib.asynccontextmanager
    async def serving(expected=()):
        path = str(tmp_path / "sock") if kind == "unix" else None
        context = server_context if kind == "tls" else None
        numbers = {}

        async def handler(exchange):
            await application(site, numbers, exchange)

        def on_error(exchange, error):
            site.failures.append(str(error.error))

        if kind == "unix":
            serve = partial(trionet.serve_unix, trionet.http_handler(handler, on_error=on_error), path)
        else:
            serve = partial(trionet.serve_http, handler, 0, host="127.0.0.1", ssl_context=context, on_error=on_error)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(serve)
                authority = "localhost" if kind == "unix" else f"localhost:{server.port}"
                site = Site(f"{'https' if kind == 'tls' else 'http'}://{authority}", path, server)
                yield site
                report = await server.drain(5)
                assert report.clean
                assert server.statistics().failed == len(expected)
                assert site.failures == list(expected)
                nursery.cancel_scope.cancel()

    return serving


# --- curl ---------------------------------------------------------------------------------------------------------

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed (apt-get install curl)")


@pytest.fixture
def curl(ca, tmp_path):
    """``await curl(site, *arguments)``: what curl wrote, after it has succeeded."""
    certificate = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(certificate))
    common = [CURL, "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--cacert", str(certificate)]

    async def run(site, *arguments, paths=("/hello",), version="--http1.1", status=0, stdin=b""):
        where = ["--unix-socket", site.path] if site.path else []
        command = [*common, version, *where, *arguments, *(site.url + path for path in paths)]
        result = await trio.run_process(command, check=False, stdin=stdin, capture_stdout=True, capture_stderr=True)
        assert result.returncode == status, result.stderr.decode()
        return result.stdout

    return run


@needs_curl
async def test_curl_asks_twice_on_one_connection(served, curl):
    async with served() as site:
        said = await curl(site, "--write-out", "%{http_code} %{http_version} %{num_connects}\n", paths=["/hello"] * 2)
        assert said == b"hello\n200 1.1 1\nhello\n200 1.1 0\n"
        assert site.connections == 1


@needs_curl
@pytest.mark.parametrize("path", ["/size", "/chunks"])
async def test_curl_gets_bodies_of_every_size_on_one_connection(served, curl, path):
    async with served() as site:
        said = await curl(site, paths=[f"{path}?{size}" for size in SIZES])
        assert said == b"".join(map(pattern, SIZES))
        assert site.connections == 1


@needs_curl
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coding", ["none", "chunked"])
async def test_curl_posts(served, curl, size, coding):
    fields = [] if coding == "none" else ["-H", "Transfer-Encoding: chunked"]
    async with served() as site:
        said = await curl(
            site, *fields, "--data-binary", "@-", "-D", "-", "-H", "Expect:", paths=["/echo"], stdin=pattern(size)
        )
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert f"\r\nX-Coding: {coding}\r\n".encode() in head
        assert body == pattern(size)
        assert [exchange.method for exchange in site.seen] == ["POST"]


@needs_curl
async def test_curl_waits_until_its_body_is_wanted(served, curl):
    async with served() as site:
        waiting = ["-H", "Expect: 100-continue", "--expect100-timeout", "60"]  # longer than curl has in all
        said = await curl(site, *waiting, "--data-binary", "@-", "-D", "-", paths=["/echo"], stdin=b"wanted")
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert said.endswith(b"\r\n\r\nwanted")


@needs_curl
@pytest.mark.parametrize("size", [6, 1_000_003])
@pytest.mark.parametrize("coding", ["none", "chunked"])
async def test_curl_waits_until_a_stream_wants_its_body(served, curl, size, coding):
    """The head of the stream was once held back until there was a piece, and the 100 with it: neither side moved."""
    async with served() as site:
        waiting = ["-H", "Expect: 100-continue", "--expect100-timeout", "60"]
        chunked = ["-H", "Transfer-Encoding: chunked"] if coding == "chunked" else []
        facts = ["--write-out", "\n%{num_connects}\n"]
        command = [*waiting, *chunked, *facts, "--data-binary", "@-", "-D", "-"]
        said = await curl(site, *command, paths=["/relay", "/relay"], stdin=pattern(size))
        first, second = said.split(b"\n1\n")
        for answer in (first, second.removesuffix(b"\n0\n")):
            assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\n" + pattern(size))
        assert site.connections == 1


@needs_curl
async def test_curl_does_not_send_a_body_that_is_not_wanted(served, curl):
    async with served() as site:
        waiting = ["-H", "Expect: 100-continue", "--expect100-timeout", "60"]
        facts = ["--write-out", "%{http_code} %{size_upload}"]
        said = await curl(site, *waiting, *facts, "--data-binary", "@-", paths=["/refuse"], stdin=pattern(1_000_000))
        assert said == b"too large\n413 0"


@needs_curl
@pytest.mark.parametrize("size", [1, 65536, 100_000, 8_000_000])  # what comes in a second, the server waits for
async def test_curl_reads_the_answer_that_comes_before_its_body_was_read(served, curl, size):
    async with served() as site:
        facts = ["-H", "Expect:", "--write-out", "%{http_code}"]
        said = await curl(site, *facts, "--data-binary", "@-", paths=["/refuse"], stdin=pattern(size))
        assert said == b"too large\n413"


@needs_curl
async def test_curl_asks_for_the_head_alone_and_goes_on(served, curl):
    async with served() as site:
        said = await curl(
            site, "--head", "--write-out", "%{num_connects}\n", paths=["/size?70000", "/hello", "/chunks?9"]
        )
        first, second, third, rest = said.split(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Length: 70000" in first
        assert second.startswith(b"1\nHTTP/1.1 200 OK\r\n")
        assert b"\r\nContent-Length: 6" in second
        assert third.startswith(b"0\nHTTP/1.1 200 OK\r\n")
        assert rest == b"0\n"
        assert [exchange.method for exchange in site.seen] == ["HEAD"] * 3
        assert site.connections == 1


@needs_curl
async def test_curl_speaks_http_1_0(served, curl):
    async with served() as site:
        facts = ["--write-out", " %{num_connects}\n"]
        said = await curl(site, *facts, paths=["/hello", "/chunks?3"], version="--http1.0")
        assert said == b"hello\n 1\n" + pattern(3) + b" 1\n"
        assert [exchange.http_version for exchange in site.seen] == ["1.0", "1.0"]
        assert site.connections == 2


@needs_curl
async def test_curl_keeps_an_http_1_0_connection_if_it_asks_for_that(served, curl):
    async with served() as site:
        facts = ["--write-out", " %{num_connects}\n", "-H", "Connection: keep-alive"]
        said = await curl(site, *facts, paths=["/hello", "/hello", "/chunks?3"], version="--http1.0")
        assert said == b"hello\n 1\nhello\n 0\n" + pattern(3) + b" 0\n"
        assert site.connections == 1


@needs_curl
async def test_curl_gets_trailers_and_answers_without_bodies(served, curl):
    async with served() as site:
        said = await curl(site, "-D", "-", "--write-out", "%{num_connects}\n", paths=["/trailers", "/nothing"])
        assert b"\r\n\r\nbody\n" in said
        assert b"X-Sum: 42\r\n" in said
        assert b"HTTP/1.1 204 No Content\r\n" in said
        assert said.endswith(b"\r\n\r\n0\n")


@needs_curl
async def test_curl_notices_an_answer_that_is_cut_off(served, curl):
    async with served(["the handler fails in the middle of its answer"]) as site:
        assert await curl(site, paths=["/cut?9"], status=18) == b"some"  # CURLE_PARTIAL_FILE


@needs_curl
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl_over_each_version_of_tls(nursery, server_context, curl, version):
    async def handler(exchange):
        await exchange.respond(200, b"hello\n")

    server = await nursery.start(partial(trionet.serve_http, handler, 0, ssl_context=server_context))
    site = Site(f"https://localhost:{server.port}", None, server)
    assert await curl(site, f"--tlsv{version}", "--tls-max", version) == b"hello\n"
    nursery.cancel_scope.cancel()


@needs_curl
async def test_curl_that_does_not_trust_the_certificate_gets_nothing(nursery, server_context, caplog):
    async def handler(exchange):
        raise AssertionError("there is no request")

    caplog.set_level("INFO", logger="trionet.server")
    server = await nursery.start(partial(trionet.serve_http, handler, 0, ssl_context=server_context))
    command = [CURL, "--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]
    result = await trio.run_process(
        [*command, f"https://localhost:{server.port}/"], check=False, capture_stdout=True, capture_stderr=True
    )
    assert (result.returncode, result.stdout) == (60, b"")  # CURLE_PEER_FAILED_VERIFICATION
    assert b"SSL certificate problem" in result.stderr
    with trio.fail_after(10):
        while server.statistics().open:
            await trio.lowlevel.checkpoint()
    assert server.statistics().failed == 0
    assert "TLS handshake" in caplog.text
    assert "unknown ca" in caplog.text.lower()
    nursery.cancel_scope.cancel()


# --- http.client, in a thread -------------------------------------------------------------------------------------


class UnixHTTPConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def standard_client(site, context):
    if site.path:
        return UnixHTTPConnection(site.path)
    authority = site.url.partition("//")[2]
    if site.url.startswith("https"):
        return http.client.HTTPSConnection(authority, timeout=20, context=context)
    return http.client.HTTPConnection(authority, timeout=20)


async def test_the_client_of_the_standard_library(served, client_context):
    def ask(client, method, path, body=None, **options):
        client.request(method, path, body, **options)
        with client.getresponse() as response:
            return response.status, response.headers, response.read()

    def talk(site):
        with contextlib.closing(standard_client(site, client_context)) as client:
            for size in SIZES:
                assert ask(client, "GET", f"/size?{size}")[2] == pattern(size)
                assert ask(client, "GET", f"/chunks?{size}")[2] == pattern(size)
                status, fields, body = ask(client, "POST", "/echo", pattern(size))
                assert (status, fields["x-coding"], body) == (200, "none", pattern(size))
                pieces = [pattern(size)[at : at + 999] for at in range(0, size, 999)]
                status, fields, body = ask(client, "POST", "/echo", iter(pieces), encode_chunked=True)
                assert (status, fields["x-coding"], body) == (200, "chunked", pattern(size))
            status, fields, body = ask(client, "HEAD", "/size?12345")
            assert (status, fields["content-length"], body) == (200, "12345", b"")
            assert ask(client, "GET", "/nothing")[::2] == (204, b"")
            assert ask(client, "POST", "/refuse", pattern(60_000))[::2] == (413, b"too large\n")
            assert ask(client, "GET", "/hello")[1]["x-connection"] == "1"
            with pytest.raises(http.client.IncompleteRead):
                ask(client, "GET", "/cut?9")

    async with served(["the handler fails in the middle of its answer"]) as site:
        await trio.to_thread.run_sync(talk, site)
        assert site.connections == 1


# --- httpx, on Trio -----------------------------------------------------------------------------------------------


def httpx_client(site, context):
    transport = httpx.AsyncHTTPTransport(uds=site.path, verify=context, trust_env=False)
    return httpx.AsyncClient(transport=transport, base_url=site.url, trust_env=False, timeout=20)


async def test_httpx(served, client_context):
    async def pieces(size):
        for at in range(0, size, 999):
            yield pattern(size)[at : at + 999]

    async with served(["the handler fails in the middle of its answer"]) as site:
        client = httpx_client(site, client_context)
        async with client:
            for size in SIZES:
                assert (await client.get(f"/size?{size}")).content == pattern(size)
                assert (await client.get(f"/chunks?{size}")).content == pattern(size)
                answer = await client.post("/echo", content=pattern(size))
                assert (answer.status_code, answer.headers["x-coding"]) == (200, "none")
                assert answer.content == pattern(size)
                answer = await client.post("/echo", content=pieces(size))
                assert (answer.headers["x-coding"], answer.content) == ("chunked", pattern(size))
            answer = await client.head("/size?12345")
            assert (answer.headers["content-length"], answer.content) == ("12345", b"")
            answer = await client.post("/refuse", content=pattern(60_000))
            assert (answer.status_code, answer.content) == (413, b"too large\n")
            async with client.stream("GET", "/chunks?100000") as stream:
                assert b"".join([chunk async for chunk in stream.aiter_raw()]) == pattern(100_000)
            assert (await client.get("/hello")).headers["x-connection"] == "1"
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/cut?9")
            assert (await client.get("/hello")).headers["x-connection"] == "2"


async def test_many_requests_of_httpx_at_once(served, client_context):
    async def ask(size):
        answer = await client.post("/echo", content=pattern(size))
        assert answer.content == pattern(size)
        connections.add(answer.headers["x-connection"])

    connections = set()
    async with served() as site:
        async with httpx_client(site, client_context) as client, trio.open_nursery() as nursery:
            for size in range(0, 100_000, 2500):
                nursery.start_soon(ask, size)
        assert len(site.seen) == 40
        assert len(connections) == site.connections


# --- aiohttp, on asyncio in a thread ------------------------------------------------------------------------------


def aiohttp_session(site, context):
    connector = aiohttp.UnixConnector(site.path) if site.path else aiohttp.TCPConnector(ssl=context)
    return aiohttp.ClientSession(site.url, connector=connector, timeout=aiohttp.ClientTimeout(20))


async def in_asyncio(talk, *arguments):
    """Run an async function on asyncio, in a thread."""
    await trio.to_thread.run_sync(asyncio.run, talk(*arguments))


async def test_aiohttp(served, client_context):
    async def ask(session, method, path, **options):
        async with session.request(method, path, **options) as response:
            return response.status, response.headers, await response.read()

    async def pieces(size):
        for at in range(0, size, 999):
            yield pattern(size)[at : at + 999]

    async def talk(site):
        async with aiohttp_session(site, client_context) as session:
            for size in SIZES:
                assert (await ask(session, "GET", f"/size?{size}"))[2] == pattern(size)
                assert (await ask(session, "GET", f"/chunks?{size}"))[2] == pattern(size)
                status, fields, body = await ask(session, "POST", "/echo", data=pattern(size))
                assert (status, fields["x-coding"], body) == (200, "none", pattern(size))
                status, fields, body = await ask(session, "POST", "/echo", data=pieces(size))
                assert (status, fields["x-coding"], body) == (200, "chunked", pattern(size))
            _, _, body = await ask(session, "POST", "/echo", data=b"wanted", expect100=True)
            assert body == b"wanted"
            _, fields, body = await ask(session, "HEAD", "/size?12345")
            assert (fields["content-length"], body) == ("12345", b"")
            assert (await ask(session, "GET", "/hello"))[1]["x-connection"] == "1"
            status, _, body = await ask(session, "POST", "/refuse", data=pieces(60_000))
            assert (status, body) == (413, b"too large\n")
            with pytest.raises(aiohttp.ClientPayloadError):
                await ask(session, "GET", "/cut?9")

    async with served(["the handler fails in the middle of its answer"]) as site:
        await in_asyncio(talk, site)


async def test_many_requests_of_aiohttp_at_once(served, client_context):
    async def ask(session, size):
        async with session.post("/echo", data=pattern(size)) as response:
            assert await response.read() == pattern(size)
            return response.headers["x-connection"]

    async def talk(site):
        async with aiohttp_session(site, client_context) as session:
            used.update(await asyncio.gather(*(ask(session, size) for size in range(0, 100_000, 2500))))

    used = set()
    async with served() as site:
        await in_asyncio(talk, site)
        assert len(site.seen) == 40
        assert len(used) == site.connections
