"""WebSockets of ASGI applications: the handshake, the messages, and every way in which they end."""

import pytest
import trio
from websockets.frames import Opcode

import trionet
from trionet.asgi import ClientDisconnectedError

from ..helpers.asgi_served import serving
from ..helpers.http_served import GET, WEBSOCKET, ask, read_answer, vanish
from ..helpers.websockets_by_hand import close, frame, text

PATIENCE = 10


async def echo(scope, receive, send):
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def url(served, path="/chat"):
    return f"ws://127.0.0.1:{served.server.port}{path}"


class Recorder:
    """An application that accepts, and keeps what it receives."""

    def __init__(self, **accept):
        self.accept = accept
        self.messages = []
        self.scope = None
        self.over = trio.Event()

    async def __call__(self, scope, receive, send):
        self.scope = scope
        await receive()
        await send({"type": "websocket.accept", **self.accept})
        while True:
            self.messages.append(message := await receive())
            if message["type"] == "websocket.disconnect":
                break
        assert await receive() == message
        self.over.set()


async def test_text_and_bytes_there_and_back():
    async with serving(echo) as served, trionet.open_websocket(url(served)) as ws:
        for message in ("text", b"bytes", "", b"", "x" * 100_000):
            await ws.send_message(message)
            assert await ws.get_message() == message


async def test_the_scope_of_a_websocket():
    app = Recorder()
    async with serving(app) as served:
        async with trionet.open_websocket(url(served, "/a%20b?c"), subprotocols=["one", "two"]) as ws:
            assert ws.subprotocol is None
        await app.over.wait()
        port = served.server.port
    scope = app.scope
    assert {name: scope[name] for name in ("type", "scheme", "path", "raw_path", "query_string", "subprotocols")} == {
        "type": "websocket", "scheme": "ws", "path": "/a b", "raw_path": b"/a%20b", "query_string": b"c",
        "subprotocols": ["one", "two"],
    }  # fmt: skip
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert scope["server"] == ("127.0.0.1", port)
    assert "method" not in scope
    assert (b"sec-websocket-version", b"13") in scope["headers"]


async def test_subprotocol_and_headers_of_accept():
    app = Recorder(subprotocol="two", headers=[(b"x-a", b"1"), (b"set-cookie", b"b=2")])
    async with serving(app) as served, trionet.open_websocket(url(served), subprotocols=["one", "two"]) as ws:
        assert ws.subprotocol == "two"
        assert {(b"x-a", b"1"), (b"set-cookie", b"b=2"), (b"server", b"trionet")} <= {*ws.handshake_headers}


async def test_a_field_of_accept_replaces_the_servers():
    app = Recorder(headers=[(b"server", b"its own")])
    async with serving(app) as served, trionet.open_websocket(url(served)) as ws:
        assert [value for name, value in ws.handshake_headers if name.lower() == b"server"] == [b"its own"]


async def test_a_subprotocol_that_some_give_as_a_field():
    app = Recorder(headers=[(b"Sec-WebSocket-Protocol", b"one")])
    async with serving(app) as served, trionet.open_websocket(url(served), subprotocols=["one"]) as ws:
        assert ws.subprotocol == "one"


async def test_a_subprotocol_that_was_not_offered_is_the_applications_mistake(caplog):
    async with serving(Recorder(subprotocol="three")) as served:
        with pytest.raises(trionet.UpgradeRefusedError) as refused:
            async with trionet.open_websocket(url(served), subprotocols=["one"]):
                pass
    assert refused.value.response.status == 500
    assert "chose the subprotocol 'three'" in caplog.text


# --- handshakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (b"Version: 13", b"Version: 12", 426),
        (b"Key: dGhlIHNhbXBsZSBub25jZQ==", b"Key: short", 400),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
    ],
)
async def test_a_handshake_that_cannot_be_accepted_never_gets_to_the_application(before, after, status):
    async def app(scope, receive, send):
        called.append(scope)

    called = []
    async with serving(app) as served:
        answer = await served.ask(WEBSOCKET.replace(before, after))
    assert answer.status == status
    assert not called


@pytest.mark.parametrize(
    ("origin", "status"), [("https://good.example", 101), ("https://evil.example", 403), (None, 403)]
)
async def test_a_page_of_a_foreign_origin_is_refused_where_origins_are_named(origin, status):
    app = Recorder()
    field = b"" if origin is None else f"Origin: {origin}\r\n".encode()
    async with serving(app, ws_origins=["https://good.example"]) as served:
        client = await served.connect()
        answer = await ask(client, WEBSOCKET[:-2] + field + b"\r\n")
        client.abort()
    assert answer.status == status
    assert (app.scope is None) == (status == 403)


async def test_close_before_accept_is_403_and_the_connection_goes_on():
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

    async with serving(app) as served:
        client = await served.connect()
        answer = await ask(client, WEBSOCKET)
        assert (answer.status, answer.body) == (403, b"")
        assert (await ask(client, GET)).status == 200


async def test_a_denial_response():
    async def app(scope, receive, send):
        await receive()
        headers = [(b"x-why", b"because")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b" entry"})

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            answer = await ask(client, WEBSOCKET)
            assert (answer.status, answer.fields["x-why"], answer.body) == (401, "because", b"no entry")


async def test_receive_before_accept_waits_for_it():
    """Quart-Trio asks twice: one task for the connect, another for messages."""
    messages = []

    async def app(scope, receive, send):
        async def listen():
            messages.append(await receive())
            messages.append(await receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            assert messages == [{"type": "websocket.connect"}]
            await send({"type": "websocket.accept"})

    async with serving(app) as served, trionet.open_websocket(url(served)) as ws:
        await ws.send_message("hello")
        with pytest.raises(trionet.ConnectionClosed):
            await ws.get_message()
    assert messages[1] == {"type": "websocket.receive", "text": "hello"}


async def test_a_client_that_goes_before_accept():
    async def app(scope, receive, send):
        await receive()
        messages.append(await receive())
        with pytest.raises(ClientDisconnectedError):
            await send({"type": "websocket.accept"})
        over.set()

    messages, over = [], trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(WEBSOCKET)
        await trio.testing.wait_all_tasks_blocked(0.01)
        vanish(client)
        with trio.fail_after(PATIENCE):
            await over.wait()
    assert messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


# --- ends ---------------------------------------------------------------------------------------------------------


async def by_hand(served):
    """A client whose WebSocket is accepted, and who sends frames by hand."""
    client = await served.connect()
    assert (await ask(client, WEBSOCKET)).status == 101
    return client


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (close(1000, "bye"), 1000, "bye"),
        (close(4321, "mine"), 4321, "mine"),
        (close(None), 1005, ""),
        (text("x", masked=False), 1002, None),
        (frame(Opcode.TEXT, b"\xff"), 1007, None),
        (frame(Opcode.BINARY, b"x" * 2**20 + b"x"), 1009, None),
    ],
    ids=["normal", "own code", "no code", "unmasked", "not UTF-8", "too long"],
)
async def test_every_end_is_a_disconnect_with_its_code(data, code, reason, caplog):
    app = Recorder()
    async with serving(app) as served:
        client = await by_hand(served)
        await client.send_all(text("first") + data)
        with trio.fail_after(PATIENCE):
            await app.over.wait()
        client.abort()
    first, last = app.messages
    assert first == {"type": "websocket.receive", "text": "first"}
    assert (last["type"], last["code"]) == ("websocket.disconnect", code)
    assert reason in (None, last["reason"])
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_client_that_vanishes():
    app = Recorder()
    async with serving(app) as served:
        vanish(await by_hand(served))
        with trio.fail_after(PATIENCE):
            await app.over.wait()
    assert app.messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


async def test_send_to_a_client_that_has_closed_is_an_os_error(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["code"] == 1001
        try:
            await send({"type": "websocket.send", "text": "too late"})
        except OSError as exc:
            errors.append(exc)
            raise
        finally:
            over.set()

    errors, over = [], trio.Event()
    async with serving(app) as served:
        client = await by_hand(served)
        await client.send_all(close(1001))
        await over.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert isinstance(errors[0], ClientDisconnectedError)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_application_closes_with_its_code():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(app) as served, trionet.open_websocket(url(served)) as ws:
        with pytest.raises(trionet.ConnectionClosed) as closed:
            await ws.get_message()
    assert (closed.value.reason.code, closed.value.reason.reason) == (4000, "enough")


@pytest.mark.parametrize(("raises", "code"), [(None, 1000), (ValueError, 1011), (SystemExit, 1011)])
async def test_an_application_that_ends_closes_its_websocket(raises, code, caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if raises is not None:
            raise raises("the application's own")

    async with serving(app) as served, trionet.open_websocket(url(served)) as ws:
        with pytest.raises(trionet.ConnectionClosed) as closed:
            await ws.get_message()
    assert closed.value.reason.code == code
    assert ("the application's own" in caplog.text) == (raises is not None)


@pytest.mark.parametrize("raises", [False, True])
async def test_an_application_that_does_not_answer_the_handshake(raises, caplog):
    async def app(scope, receive, send):
        await receive()
        if raises:
            raise ValueError("the application's own")

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            assert (await ask(client, WEBSOCKET)).status == 500
    assert ("the application's own" if raises else "has not answered") in caplog.text


@pytest.mark.parametrize(("options", "code"), [({}, 1001), ({"ws_drain_code": 1012}, 1012)])
async def test_a_drain_closes_websockets_with_its_code_and_waits_for_the_application(options, code):
    app = Recorder()
    async with serving(app, **options) as served, trionet.open_websocket(url(served)) as ws:
        await ws.send_message("hello")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.server.drain, PATIENCE)
            with pytest.raises(trionet.ConnectionClosed) as closed:
                await ws.get_message()
    assert closed.value.reason.code == code
    assert app.messages[-1]["code"] == code


async def test_events_that_are_not_due_are_refused(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError, match=r"'websocket.accept' to a WebSocket that is open"):
            await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async with serving(app) as served, trionet.open_websocket(url(served)) as ws:
        with pytest.raises(trionet.ConnectionClosed):
            await ws.get_message()
    assert not caplog.records


async def test_messages_are_compressed_where_the_client_offers_that():
    async with serving(echo) as served:
        compression = trionet.PerMessageDeflate()
        async with trionet.open_websocket(url(served), compression=compression) as ws:
            assert ws.compression is not None
            await ws.send_message("x" * 1000)
            assert await ws.get_message() == "x" * 1000
    async with (
        serving(echo, ws_per_message_deflate=False) as served,
        trionet.open_websocket(url(served), compression=compression) as ws,
    ):
        assert ws.compression is None


async def test_limit_concurrency_counts_websockets():
    async with serving(echo, limit_concurrency=1) as served, trionet.open_websocket(url(served)):
        client = await served.connect()
        await client.send_all(WEBSOCKET)
        assert (await read_answer(client)).status == 503


async def test_a_denial_that_is_not_completed_is_cut_off(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401})
        await send({"type": "websocket.http.response.body", "body": b"half", "more_body": True})
        if scope["path"] == "/raises":
            raise ValueError("the application's own")

    async with serving(app) as served:
        for path, text in ((b"/raises", "the application's own"), (b"/returns", "has not answered")):
            client = await served.connect()
            await client.send_all(WEBSOCKET.replace(b"/chat", path))
            data = b""
            with pytest.raises(trio.BrokenResourceError):
                while piece := await client.receive_some():
                    data += piece
                raise trio.BrokenResourceError  # an EOF without the last chunk is one too
            assert data.endswith(b"4\r\nhalf\r\n")
            assert text in caplog.text


async def test_a_send_to_a_client_that_vanishes_meanwhile():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(ClientDisconnectedError):
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 65536})
        over.set()

    over = trio.Event()
    async with serving(app) as served:
        client = await by_hand(served)
        vanish(client)
        with trio.fail_after(PATIENCE):
            await over.wait()
