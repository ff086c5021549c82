"""The lifespan of ASGI applications: before the server listens, and behind its drain."""

import sys
from functools import partial

import pytest
import trio

import trionet
from trionet.asgi import LifespanError, open_asgi, serve_asgi

from ..helpers.asgi_served import respond, serving
from ..helpers.http_served import GET, ask

PATIENCE = 10


class App:
    """An application that notes what happens."""

    def __init__(self, startup="lifespan.startup.complete", shutdown="lifespan.shutdown.complete", **more):
        self.startup = startup
        self.shutdown = shutdown
        self.more = more
        self.events = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
            self.events.append((await receive())["type"])
            await send({"type": self.startup, **self.more})
            self.events.append((await receive())["type"])
            await trio.sleep(0.05)
            await send({"type": self.shutdown, **self.more})
        else:
            self.events.append("request")
            await respond(send)


async def test_it_starts_before_the_first_request_and_shuts_down_behind_the_drain():
    app = App()

    async def serve(task_status):
        await serve_asgi(app, 0, host="127.0.0.1", task_status=task_status)
        ended.set()

    ended = trio.Event()
    async with trio.open_nursery() as nursery, trionet.open_scope() as scope:
        server = await nursery.start(serve)
        assert app.events == ["lifespan.startup"]
        client = await scope.connect_tcp("127.0.0.1", server.port)
        assert (await ask(client, GET)).status == 200
        await server.drain(PATIENCE)
        await ended.wait()
    assert app.events == ["lifespan.startup", "request", "lifespan.shutdown"]


async def test_a_server_that_is_cancelled_shuts_down_all_the_same():
    app = App()
    async with serving(app, lifespan="on"):
        pass
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]


async def knows_none(scope, receive, send):
    assert scope["type"] == "http", "only HTTP here"
    await respond(send)


async def returns_at_once(scope, receive, send):
    if scope["type"] == "http":
        await respond(send)


@pytest.mark.parametrize("app", [knows_none, returns_at_once])
async def test_auto_takes_an_application_that_has_no_lifespan(app):
    async with serving(app, lifespan="auto") as served:
        assert (await served.ask(GET)).status == 200


@pytest.mark.parametrize(("app", "how"), [(knows_none, "raised"), (returns_at_once, "returned")])
async def test_on_refuses_one_that_has_none(app, how):
    with pytest.raises(LifespanError, match=f"{how} in its lifespan before it was started, and lifespan='on'"):
        await serve_asgi(app, 0, host="127.0.0.1", lifespan="on")


async def test_off_does_not_ask():
    app = App()
    async with serving(app, lifespan="off") as served:
        assert (await served.ask(GET)).status == 200
    assert app.events == ["request"]


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_a_start_that_failed(mode):
    app = App("lifespan.startup.failed", message="no database")
    with pytest.raises(LifespanError, match="the application failed to start: no database"):
        await serve_asgi(app, 0, host="127.0.0.1", lifespan=mode)


async def test_a_start_that_asks_for_the_end_of_the_program_gets_it_before_the_server_listens():
    async def app(scope, receive, send):
        await receive()
        sys.exit(7)

    with pytest.raises(SystemExit) as exit:
        async with open_asgi(app):
            pytest.fail("it was served")
    assert exit.value.code == 7


async def test_a_shutdown_that_failed():
    app = App(shutdown="lifespan.shutdown.failed", message="")
    with pytest.raises(LifespanError, match="the application failed to shut down"):
        async with open_asgi(app):
            pass


async def test_an_error_between_start_and_shutdown_is_logged_when_it_happens(caplog):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await die.wait()
        raise ValueError("in the middle")

    die = trio.Event()
    with pytest.raises(LifespanError, match="failed in its lifespan: in the middle") as at_the_end:
        async with open_asgi(app) as handler, trio.open_nursery() as nursery, trionet.open_scope() as scope:
            server = await nursery.start(partial(trionet.serve_http, handler, 0, host="127.0.0.1"))
            client = await scope.connect_tcp("127.0.0.1", server.port)
            assert not caplog.records
            die.set()
            await trio.testing.wait_all_tasks_blocked()
            (record,) = caplog.records
            assert (record.levelname, record.name) == ("ERROR", "trionet.asgi")
            assert "in the middle" in record.getMessage()
            assert record.exc_info[0] is ValueError
            assert (await ask(client, GET)).status == 200
            nursery.cancel_scope.cancel()
    assert at_the_end.value.__cause__ is None, "its traceback would be printed twice"


async def test_an_error_of_the_shutdown_itself_is_raised_with_its_cause(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("at the end")

    with pytest.raises(LifespanError, match="failed in its lifespan: at the end") as at_the_end:
        async with open_asgi(app):
            await trio.testing.wait_all_tasks_blocked()
    assert isinstance(at_the_end.value.__cause__, ValueError)
    assert not caplog.records


async def test_events_that_are_not_due_are_refused():
    async def app(scope, receive, send):
        await receive()
        with pytest.raises(RuntimeError, match=r"'http.response.start' in its lifespan"):
            await send({"type": "http.response.start", "status": 200})
        await send({"type": "lifespan.startup.complete"})
        with pytest.raises(RuntimeError, match=r"'lifespan.startup.complete' in its lifespan"):
            await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async with open_asgi(app, lifespan="on"):
        pass


async def test_a_start_can_be_cancelled():
    async def app(scope, receive, send):
        await receive()
        await trio.sleep_forever()

    with trio.move_on_after(0.05) as patience:
        await serve_asgi(app, 0, host="127.0.0.1")
    assert patience.cancelled_caught


# --- open_asgi ----------------------------------------------------------------------------------------------------


async def test_an_application_beside_other_protocols_on_one_port():
    async def dispatch(connection):
        if await connection.peek(4) == b"LINE":
            line = await connection.receive_until(b"\n", max_bytes=99)
            await connection.send_all(b"you said " + line)
            return
        http = await connection.upgrade(trionet.to_http_server())
        async for exchange in http:
            await handler(exchange)

    app = App()
    async with open_asgi(app) as handler, trio.open_nursery() as nursery, trionet.open_scope() as scope:
        server = await nursery.start(partial(trionet.serve_tcp, host="127.0.0.1"), dispatch, 0)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        await client.send_all(b"LINE hello\n")
        assert await client.receive_until(b"\n", max_bytes=99) == b"you said LINE hello\n"
        client = await scope.connect_tcp("127.0.0.1", server.port)
        for _ in range(2):
            assert (await ask(client, GET)).status == 200
        client.abort()
        nursery.cancel_scope.cancel()
    assert app.events == ["lifespan.startup", "request", "request", "lifespan.shutdown"]


async def test_an_application_as_the_handler_of_serve_http_is_not_cancelled_by_its_client():
    async def app(scope, receive, send):
        begun.set()
        await trio.sleep(1.3)
        done.set()

    begun, done = trio.Event(), trio.Event()
    async with open_asgi(app, lifespan="off") as handler, trio.open_nursery() as nursery, trionet.open_scope() as scope:
        server = await nursery.start(partial(trionet.serve_http, host="127.0.0.1"), handler, 0)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        await client.send_all(GET)
        await begun.wait()
        client.abort()
        with trio.fail_after(PATIENCE):
            await done.wait()
        nursery.cancel_scope.cancel()
