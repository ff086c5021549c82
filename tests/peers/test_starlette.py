"""Starlette applications on `serve_asgi`: the ordinary features, over real sockets."""

import contextlib
import gzip
import json
import logging

import anyio
import anyio.lowlevel
import pytest
import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

import trionet

from ..helpers.asgi_served import serving
from ..helpers.http_served import WEBSOCKET, ask, get, read_answer, vanish

PATIENCE = 10


class Pages:
    """What the endpoints share with the tests."""

    def __init__(self):
        self.background = trio.Event()
        self.release = trio.Event()
        self.over = trio.Event()
        self.begun = trio.Event()
        self.left = []

    def routes(self, folder):
        return [
            Route("/hello/{name:str}", self.hello, methods=["GET", "POST"]),
            Route("/sync", self.sync),
            Route("/json", self.json, methods=["POST"]),
            Route("/form", self.form, methods=["POST"]),
            Route("/stream", self.stream),
            Route("/events", self.events),
            Route("/poll", self.poll),
            Route("/background", self.in_background),
            Route("/file", lambda request: FileResponse(folder / "large")),
            Route("/session", self.session),
            Route("/state", self.state),
            Route("/redirect", lambda request: RedirectResponse("/sync")),
            Route("/fails", self.fails),
            Route("/teapot", self.teapot),
            WebSocketRoute("/ws", self.websocket),
            WebSocketRoute("/denied", self.denied),
            Mount("/static", StaticFiles(directory=folder)),
        ]

    async def hello(self, request):
        return PlainTextResponse(f"{request.method} {request.path_params['name']} {request.query_params.get('q')}")

    def sync(self, request):
        return PlainTextResponse("from a thread")

    async def json(self, request):
        return JSONResponse({"got": await request.json()})

    async def form(self, request):
        async with request.form() as form:
            data = await form["file"].read()
            return JSONResponse({"name": form["file"].filename, "size": len(data), "field": form["field"]})

    async def stream(self, request):
        async def pieces():
            for number in range(5):
                yield f"{number}\n"
                await anyio.lowlevel.checkpoint()

        return StreamingResponse(pieces(), media_type="text/plain")

    async def events(self, request):
        async def endless():
            try:
                yield "data: first\n\n"
                self.begun.set()
                await anyio.sleep_forever()
            finally:
                self.over.set()

        return StreamingResponse(endless(), media_type="text/event-stream")

    async def poll(self, request):
        self.begun.set()
        while not await request.is_disconnected():
            await anyio.sleep(0.02)
        self.over.set()
        return PlainTextResponse("nobody reads this")

    async def in_background(self, request):
        async def work():
            await self.release.wait()
            self.background.set()

        return PlainTextResponse("done", background=BackgroundTask(work))

    async def session(self, request):
        request.session["count"] = request.session.get("count", 0) + 1
        return PlainTextResponse(str(request.session["count"]))

    async def state(self, request):
        return PlainTextResponse(request.state.database)

    async def fails(self, request):
        raise ValueError("the endpoint's own")

    async def teapot(self, request):
        raise HTTPException(418, "short and stout")

    async def websocket(self, websocket):
        await websocket.accept(subprotocol="chat" if "chat" in websocket.scope["subprotocols"] else None)
        try:
            while True:
                await websocket.send_json({"echo": await websocket.receive_text()})
        except WebSocketDisconnect as exc:
            self.left.append(exc.code)
            self.over.set()

    async def denied(self, websocket):
        await websocket.send_denial_response(JSONResponse({"why": "not today"}, status_code=401))


class Header(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-middle"] = "ware"
        return response


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"database": "open"}
    app.state.closed = True


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "large").write_bytes(b"0123456789" * 20_000)
    (tmp_path / "page.html").write_text("<p>page")
    return tmp_path


class Client:
    """A client that keeps its connections, and reads responses to their ends."""

    def __init__(self, client, base):
        self.client = client
        self.base = base

    async def __call__(self, method, path, **options):
        async with self.client.request(method, self.base + path, **options) as response:
            return response.status, response.headers, await response.read(max_bytes=2**24)


@contextlib.asynccontextmanager
async def site(folder, *middleware):
    """An application with all of the above: the pages, what serves it, and a client."""
    pages = Pages()
    app = Starlette(routes=pages.routes(folder), lifespan=lifespan, middleware=list(middleware))
    async with serving(app, lifespan="on") as served, trionet.open_http_client() as client:
        yield pages, served, Client(client, f"http://127.0.0.1:{served.server.port}")
    assert app.state.closed


MIDDLEWARE = {
    "none": [],
    "base": [Middleware(Header)],
    "twice": [Middleware(Header), Middleware(Header)],
    "all": [
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(SessionMiddleware, secret_key="secret"),
        Middleware(GZipMiddleware, minimum_size=100),
        Middleware(Header),
    ],
}


@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
async def test_requests_of_all_kinds(folder, middleware):
    async with site(folder, *middleware) as (_, _, ask_for):
        for _ in range(2):
            status, headers, body = await ask_for("GET", "/hello/w%C3%B6rld?q=1")
            assert (status, body.decode()) == (200, "GET wörld 1")
            assert ("x-middle" in headers) == bool(middleware)
            value = {"text": "ü" * 5000, "list": [1, None]}
            for method, path, options, expected in [
                ("POST", "/hello/x", {"content": b"unread" * 1000}, b"POST x None"),
                ("GET", "/sync", {}, b"from a thread"),
                ("POST", "/json", {"content": json.dumps(value).encode()}, value),
                ("GET", "/stream", {}, b"0\n1\n2\n3\n4\n"),
                ("GET", "/state", {}, b"open"),
                ("GET", "/redirect", {}, b"from a thread"),
            ]:
                status, _, body = await ask_for(method, path, **options)
                assert status == 200
                assert body == expected or json.loads(body) == {"got": expected}
            for method, path, expected in [("GET", "/no", 404), ("GET", "/teapot", 418), ("DELETE", "/sync", 405)]:
                assert (await ask_for(method, path))[0] == expected


@pytest.mark.parametrize("middleware", [[], [Middleware(Header)]], ids=["plain", "middleware"])
async def test_files_and_their_parts(folder, middleware):
    data = (folder / "large").read_bytes()
    async with site(folder, *middleware) as (_, served, ask_for):
        for path in ("/file", "/static/large"):
            for _ in range(3):
                assert (await ask_for("GET", path))[2] == data
        status, _, body = await ask_for("GET", "/file", headers=[("range", "bytes=10-19")])
        assert (status, body) == (206, b"0123456789")
        _, headers, _ = await ask_for("GET", "/static/page.html")
        assert headers["content-type"].startswith("text/html")
        fields = [("if-none-match", headers["etag"])]
        assert (await ask_for("GET", "/static/page.html", headers=fields))[0] == 304
        status, headers, _ = await ask_for("HEAD", "/static/large")
        assert (status, headers["content-length"]) == (200, str(len(data)))
        assert (await served.ask(get("/static/../secret"))).status == 404


async def test_an_upload(folder):
    boundary = "b0undary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'.encode(),
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'.encode(),
        b"x" * 3_000_000,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    async with site(folder) as (_, _, ask_for):
        fields = [("content-type", f"multipart/form-data; boundary={boundary}")]
        _, _, body = await ask_for("POST", "/form", content=b"".join(parts), headers=fields)
        assert json.loads(body) == {"name": "a.bin", "size": 3_000_000, "field": "value"}


async def test_gzip(folder):
    async with site(folder, Middleware(GZipMiddleware)) as (_, served, _):
        for path, expected in (
            ("/stream", b"0\n1\n2\n3\n4\n"),
            ("/hello/" + "x" * 1000, b"GET " + b"x" * 1000 + b" None"),
        ):
            answer = await served.ask(get(path, "Accept-Encoding: gzip"))
            assert answer.fields["content-encoding"] == "gzip"
            assert gzip.decompress(answer.body) == expected


async def test_a_session(folder):
    async with site(folder, Middleware(SessionMiddleware, secret_key="secret")) as (_, served, _):
        first = await served.ask(get("/session"))
        cookie = first.fields["set-cookie"].partition(";")[0]
        assert (await served.ask(get("/session", f"Cookie: {cookie}"))).body == b"2"


@pytest.mark.parametrize("how", ["eof", "reset"])
@pytest.mark.parametrize(("path", "middleware"), [("/events", []), ("/events", [Middleware(Header)]), ("/poll", [])])
async def test_an_idle_stream_and_a_long_poll_end_at_once_when_the_client_goes(folder, middleware, how, path):
    """A poll behind BaseHTTPMiddleware is not told on Trio: it asks in a nursery, inside the cancelled scope."""
    async with site(folder, *middleware) as (pages, served, _):
        client = await served.connect()
        await client.send_all(get(path))
        with trio.fail_after(PATIENCE):
            await pages.begun.wait()
            await trio.sleep(0.05)
            if how == "eof":
                await client.send_eof()
            else:
                vanish(client)
            began = trio.current_time()
            await pages.over.wait()
        assert trio.current_time() - began < 0.4


@pytest.mark.parametrize("middleware", [[], [Middleware(Header)]], ids=["plain", "middleware"])
async def test_a_background_task_does_not_hold_up_the_next_request(folder, middleware):
    async with site(folder, *middleware) as (pages, served, _):
        client = await served.connect()
        with trio.fail_after(PATIENCE):
            assert (await ask(client, get("/background"))).body == b"done"
            assert (await ask(client, get("/hello/next"))).status == 200
        assert not pages.background.is_set()
        pages.release.set()
        await pages.background.wait()


async def test_a_drain_takes_as_long_as_the_work(folder):
    async with site(folder) as (pages, served, _):
        client, other = await served.connect(), await served.connect()
        assert (await ask(client, get("/background"))).status == 200
        await other.send_all(get("/poll"))
        await pages.begun.wait()
        async with trio.open_nursery() as nursery:
            reports = []

            async def drain():
                reports.append(await served.server.drain(PATIENCE))

            nursery.start_soon(drain)
            await trio.sleep(0.1)
            assert not reports
            pages.release.set()
            await other.send_eof()
        assert reports[0].clean
        assert pages.background.is_set()


async def test_an_endpoint_that_fails(folder, caplog):
    async with site(folder) as (_, served, _):
        answer = await served.ask(get("/fails"))
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the endpoint's own" in record.getMessage()


@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
async def test_websockets(folder, middleware):
    async with site(folder, *middleware) as (pages, served, _):
        url = f"ws://127.0.0.1:{served.server.port}"
        async with trionet.open_websocket(f"{url}/ws", subprotocols=["chat"]) as ws:
            assert ws.subprotocol == "chat"
            await ws.send_message("hello")
            assert await ws.get_message() == '{"echo":"hello"}'
            await ws.aclose(3001)
        await pages.over.wait()
        assert pages.left == [3001]
        client = await served.connect()
        answer = await ask(client, WEBSOCKET.replace(b"/chat", b"/denied"))
        assert (answer.status, answer.body) == (401, b'{"why":"not today"}')
        assert (await ask(client, WEBSOCKET.replace(b"/chat", b"/missing"))).status in (403, 404)
        await client.send_all(get("/hello/x"))
        assert (await read_answer(client)).status == 200


async def test_context_variables_of_requests_do_not_meet():
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)

    async def endpoint(request):
        before = variable.get()
        variable.set(before + 1)
        return Response(str(before))

    async with serving(Starlette(routes=[Route("/", endpoint)])) as served:
        client = await served.connect()
        for _ in range(3):
            assert (await ask(client, get("/"))).body == b"0"
