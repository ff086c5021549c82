"""FastAPI, Litestar, Quart-Trio and Django on `serve_asgi`; each is skipped where it is not installed.

What all frameworks share is tested with Starlette (`test_starlette`); here is what each has of its own.
"""

import contextlib
import json
import os
import sys

import pytest
import trio

import trionet

from ..helpers.asgi_served import serving
from ..helpers.http_served import ask, get, vanish
from ..helpers.logs import logging_restored

PATIENCE = 10
JSON = "Content-Type: application/json"


def post(path, value):
    data = json.dumps(value).encode()
    return get(path, JSON, f"Content-Length: {len(data)}", method="POST") + data


@pytest.fixture(autouse=True)
def _logging_of_a_framework():
    """Litestar sets up the root logger for its program."""
    with logging_restored():
        yield


async def until(condition):
    with trio.fail_after(PATIENCE):
        while not condition():
            await trio.sleep(0.01)


# --- FastAPI ------------------------------------------------------------------------------------------------------


@pytest.fixture
def fast():
    """A FastAPI application, and what happened in it."""
    fastapi = pytest.importorskip("fastapi")
    from fastapi.responses import StreamingResponse

    events = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        events.append("start")
        yield {"database": "open"}
        events.append("stop")

    async def session():
        events.append("session")
        try:
            yield "session"
        finally:
            events.append("session closed")

    def sync_session():
        return "in a thread"

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/items/{number}")
    async def item(number: int, request: fastapi.Request, q: str = "-", used=fastapi.Depends(session)):  # noqa: B008
        return {"number": number, "q": q, "used": used, "state": request.state.database}

    @app.post("/sum")
    def add(numbers: list[int], used=fastapi.Depends(sync_session)):  # noqa: B008
        return {"sum": sum(numbers), "used": used}

    @app.get("/later")
    async def later(tasks: fastapi.BackgroundTasks):
        async def work():
            await trio.sleep(0.3)
            events.append("worked")

        tasks.add_task(work)
        return "now"

    @app.post("/upload")
    async def upload(file: fastapi.UploadFile):
        data = await file.read()
        await file.close()
        return {"name": file.filename, "size": len(data)}

    @app.get("/stream")
    async def stream():
        async def endless():
            try:
                while True:
                    yield b"data: x\n\n"
                    await trio.sleep(0.01)
            finally:
                events.append("stream over")

        return StreamingResponse(endless(), media_type="text/event-stream")

    @app.websocket("/ws/{name}")
    async def talk(websocket: fastapi.WebSocket, name: str):
        await websocket.accept()
        with contextlib.suppress(fastapi.WebSocketDisconnect):
            while True:
                await websocket.send_text(f"{name}: {await websocket.receive_text()}")
        events.append("left")

    return app, events


async def test_fastapi(fast):
    app, events = fast
    async with serving(app, lifespan="on") as served:
        client = await served.connect()
        answer = await ask(client, get("/items/7?q=x"))
        assert json.loads(answer.body) == {"number": 7, "q": "x", "used": "session", "state": "open"}
        assert (await ask(client, get("/items/no"))).status == 422
        assert json.loads((await ask(client, post("/sum", [1, 2, 3]))).body) == {"sum": 6, "used": "in a thread"}
        assert (await ask(client, post("/sum", "no"))).status == 422
        assert json.loads((await ask(client, get("/openapi.json"))).body)["paths"].keys() >= {"/sum", "/later"}
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        body = head + b"x" * 200_000 + b"\r\n--b--\r\n"
        fields = "Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(body)}"
        answer = await ask(client, get("/upload", *fields, method="POST") + body)
        assert json.loads(answer.body) == {"name": "f", "size": 200_000}
        assert (await ask(client, get("/later"))).body == b'"now"'
        assert "worked" not in events
        assert (await ask(client, get("/items/8"))).status == 200
        await until(lambda: "worked" in events)
        async with trionet.open_websocket(f"ws://127.0.0.1:{served.server.port}/ws/me") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "me: hello"
        await until(lambda: "left" in events)
        await client.send_all(get("/stream"))
        assert await client.receive_until(b"data: x", max_bytes=9999)
        vanish(client)
        await until(lambda: "stream over" in events)
    assert events[0] == "start"
    assert events[-1] == "stop"
    assert events.count("session") == events.count("session closed")


# --- Litestar -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning:litestar")  # of its own spellings, which change
@pytest.mark.filterwarnings("ignore:.*deprecated inferred style")
async def test_litestar():
    litestar = pytest.importorskip("litestar")
    from litestar.background_tasks import BackgroundTask
    from litestar.params import FromPath
    from litestar.response import ServerSentEvent, Stream

    events = []

    @litestar.get("/items/{number:int}")
    async def item(number: FromPath[int]) -> dict[str, object]:
        return {"number": number}

    @litestar.post("/sum", sync_to_thread=True)
    def add(data: list[int]) -> dict[str, int]:
        return {"sum": sum(data)}

    async def work() -> None:
        await trio.sleep(0.2)
        events.append("worked")

    @litestar.get("/later")
    async def later() -> litestar.Response[str]:
        return litestar.Response("now", background=BackgroundTask(work))

    @litestar.get("/stream")
    async def stream() -> Stream:
        async def pieces():
            for number in range(3):
                yield f"{number}"

        return Stream(pieces())

    @litestar.get("/events", sync_to_thread=False)
    def sse() -> ServerSentEvent:
        async def messages():
            for number in range(2):
                yield number

        return ServerSentEvent(messages())

    @litestar.websocket_listener("/ws")
    async def talk(data: str) -> str:
        return data.upper()

    async def start(app) -> None:
        events.append("start")

    async def stop(app) -> None:
        events.append("stop")

    app = litestar.Litestar([item, add, later, stream, sse, talk], on_startup=[start], on_shutdown=[stop])
    async with serving(app, lifespan="on") as served:
        client = await served.connect()
        assert json.loads((await ask(client, get("/items/7"))).body) == {"number": 7}
        assert json.loads((await ask(client, post("/sum", [1, 2]))).body) == {"sum": 3}
        assert (await ask(client, get("/no"))).status == 404
        assert (await ask(client, get("/stream"))).body == b"012"
        assert b"data: 1" in (await ask(client, get("/events"))).body
        assert (await ask(client, get("/later"))).status == 200
        assert (await ask(client, get("/items/8"))).status == 200
        await until(lambda: "worked" in events)
        async with trionet.open_websocket(f"ws://127.0.0.1:{served.server.port}/ws") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "HELLO"
    assert events == ["start", "worked", "stop"]


# --- Quart-Trio ---------------------------------------------------------------------------------------------------


async def test_quart_trio():
    quart_trio = pytest.importorskip("quart_trio")
    from quart import request, websocket

    events = []
    app = quart_trio.QuartTrio(__name__)

    @app.before_serving
    async def start():
        events.append("start")

    @app.after_serving
    async def stop():
        events.append("stop")

    @app.route("/items/<int:number>")
    async def item(number):
        return {"number": number, "q": request.args.get("q")}

    @app.route("/echo", methods=["POST"])
    async def echo():
        return await request.get_data()

    @app.route("/stream")
    async def stream():
        async def pieces():
            for number in range(3):
                yield f"{number}".encode()

        return pieces(), 200

    @app.websocket("/ws")
    async def talk():
        while True:
            await websocket.send((await websocket.receive()).upper())

    async with serving(app, lifespan="on") as served:
        client = await served.connect()
        assert json.loads((await ask(client, get("/items/7?q=x"))).body) == {"number": 7, "q": "x"}
        data = b"x" * 100_000
        answer = await ask(client, get("/echo", f"Content-Length: {len(data)}", method="POST") + data)
        assert answer.body == data
        assert (await ask(client, get("/stream"))).body == b"012"
        assert (await ask(client, get("/no"))).status == 404
        async with trionet.open_websocket(f"ws://127.0.0.1:{served.server.port}/ws") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "HELLO"
    assert events == ["start", "stop"]


# --- Django -------------------------------------------------------------------------------------------------------


DJANGO = """
import logging, sys
import django, trio
from django.conf import settings
settings.configure(ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"], SECRET_KEY="secret", MIDDLEWARE=[])
urlpatterns = []
django.setup()
from django.core.asgi import get_asgi_application
from trionet.asgi import serve_asgi
import trionet

async def main():
    async with trio.open_nursery() as nursery, trionet.open_scope() as scope:
        server = await nursery.start(serve_asgi, get_asgi_application(), 0)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        await client.send_all(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        print((await client.receive_until(b"\\r\\n", max_bytes=99)).decode().strip(), flush=True)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


async def test_django_gets_one_clear_line():
    """In a process of its own: its settings are global."""
    pytest.importorskip("django")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", DJANGO]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, env=environment, check=False)
    assert done.stdout == b"HTTP/1.1 500 Internal Server Error\n", done.stderr.decode()
    [line] = done.stderr.decode().splitlines()
    assert "uses asyncio" in line
    assert "Django cannot run on Trio" in line
