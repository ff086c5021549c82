"""HTTP requests of ASGI applications: what they receive, what they may send, and what becomes of it."""

import asyncio
import contextvars
import logging
import ssl
import sys

import pytest
import trio
import trio.lowlevel

import trionet
from trionet.asgi import ClientDisconnectedError, open_asgi, serve_asgi

from ..helpers.asgi_served import START, body, read_all, respond, serving
from ..helpers.http_served import GET, ask, get, read_answer, vanish

POST = b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
PATIENCE = 10


# --- what an application is told ----------------------------------------------------------------------------------


async def test_the_scope_says_all_about_the_request():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    async with serving(app) as served:
        client = await served.connect()
        request = (
            b"GET /caf%C3%A9/a%2Fb?x=1&y=%20 HTTP/1.1\r\nHost: example\r\nX-Twice: one\r\nACCEPT: */*\r\n"
            b"x-twice: Two\r\n\r\n"
        )
        assert (await ask(client, request)).status == 200
        port, own = served.server.port, client.local_address[1]
    assert scopes == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/café/a/b",
            "raw_path": b"/caf%C3%A9/a%2Fb",
            "query_string": b"x=1&y=%20",
            "root_path": "",
            "headers": [(b"host", b"example"), (b"x-twice", b"one"), (b"accept", b"*/*"), (b"x-twice", b"Two")],
            "client": ("127.0.0.1", own),
            "server": ("127.0.0.1", port),
            "state": {},
            "extensions": {
                "http.response.early_hint": {}, "http.response.pathsend": {}, "http.response.trailers": {},
            },
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_line", "path", "query"),
    [
        (b"GET http://a/x?y HTTP/1.1", "/x", b"y"),
        (b"OPTIONS * HTTP/1.1", "*", b""),
        (b"GET / HTTP/1.0", "/", b""),
        (b"BREW /pot?? HTTP/1.1", "/pot", b"?"),
    ],
)
async def test_unusual_targets_and_methods(request_line, path, query):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    async with serving(app) as served:
        assert (await served.ask(request_line + b"\r\nHost: a\r\n\r\n")).status == 200
    [scope] = scopes
    method, _, version = request_line.decode().partition(" ")
    assert (scope["path"], scope["query_string"], scope["method"]) == (path, query, method)
    assert scope["http_version"] == version[-3:]


async def test_connect_is_not_for_applications():
    async with serving(respond) as served:
        answer = await served.ask(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    assert answer.status == 501


@pytest.mark.parametrize(
    ("target", "path"), [("/x", "/api/x"), ("/api/x", "/api/x"), ("/apix", "/api/apix"), ("/api", "/api")]
)
async def test_the_root_path_stands_once_in_front_of_the_path(target, path):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)
        await respond(send)

    async with serving(app, root_path="/api/") as served:
        await served.ask(get(target))
    assert (seen["root_path"], seen["path"], seen["raw_path"]) == ("/api", path, path.encode())


async def test_each_request_has_a_state_of_its_own():
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            scope["state"]["shared"] = ["from the start"]
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append(dict(scope["state"]))
        scope["state"]["mine"] = True
        scope["extensions"]["mine"] = {}
        await respond(send, b", ".join(name.encode() for name in scope["extensions"] if "mine" in name))

    seen = []
    async with serving(app, lifespan="on") as served:
        client = await served.connect()
        for _ in range(2):
            assert (await ask(client, GET)).body == b"mine"
    assert seen == [{"shared": ["from the start"]}] * 2


async def test_each_request_has_context_variables_of_its_own_also_a_pipelined_one():
    number = contextvars.ContextVar("number", default="none")
    number.set("the server's")
    seen = []

    async def app(scope, receive, send):
        seen.append(number.get())
        number.set(scope["path"])
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep, 0)
        await trio.to_thread.run_sync(lambda: seen.append(number.get()))
        await respond(send)

    async def child():
        seen.append(number.get())
        number.set("the child's")

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(get("/1") + get("/2"))
        for _ in range(2):
            assert (await read_answer(client)).status == 200
    assert seen == ["the server's", "/1", "/1", "the server's", "/2", "/2"]


# --- receive ------------------------------------------------------------------------------------------------------


async def test_a_request_without_a_body_has_an_empty_one():
    messages = []

    async def app(scope, receive, send):
        messages.append(await receive())
        await respond(send)

    async with serving(app) as served:
        await served.ask(GET)
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_a_body_that_is_there_comes_in_one_message_and_without_a_checkpoint():
    async def app(scope, receive, send):
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            messages.append(await receive())
        await respond(send)

    messages = []
    async with serving(app) as served:
        await served.ask(POST % 5 + b"12345")
    assert messages == [{"type": "http.request", "body": b"12345", "more_body": False}]


async def test_a_body_comes_in_pieces_as_they_come():
    pieces = []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            pieces.append(message["body"])
            got.set()
            if not message["more_body"]:
                break
        await respond(send)

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"one", b"two"):
            got = trio.Event()
            await client.send_all(b"3\r\n" + piece + b"\r\n")
            await got.wait()
        await client.send_all(b"0\r\n\r\n")
        assert (await read_answer(client)).status == 200
        assert (await ask(client, POST % 1 + b"x")).status == 200
    assert pieces == [b"one", b"two", b"", b"x"]


async def test_a_large_body_is_read_no_faster_than_the_application_takes_it():
    size = 2**24
    taken = trio.Event()

    async def app(scope, receive, send):
        await taken.wait()
        await respond(send, b"%d" % len(await read_all(receive)))

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(POST % size)
        sent = 0
        with trio.move_on_after(0.5):
            while sent < size:
                await client.send_all(b"x" * 65536)
                sent += 65536
        assert sent < size
    # a cancelled send has broken this client; another one, to the end
    taken.set()
    async with serving(app) as served, trio.open_nursery() as nursery:
        client = await served.connect()
        nursery.start_soon(client.send_all, POST % size + b"x" * size)
        assert (await read_answer(client)).body == b"%d" % size


async def test_a_client_that_waits_for_100_gets_it_when_the_application_reads():
    async def app(scope, receive, send):
        await respond(send, await read_all(receive) if scope["path"] == "/form" else b"unread")

    request = b"POST %b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with serving(app) as served:
        client = await served.connect()
        assert (await ask(client, request % b"/form")).status == 100
        assert (await ask(client, b"hi")).body == b"hi"
        answer = await ask(client, request % b"/else")
        assert (answer.status, answer.body, answer.fields["connection"]) == (200, b"unread", "close")


async def test_a_body_that_nobody_reads_does_not_disturb_the_next_request():
    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())

    async with serving(app) as served:
        client = await served.connect()
        assert (await ask(client, POST % 3 + b"abc" + get("/next"))).body == b"/form"
        assert (await read_answer(client)).body == b"/next"


# --- a client that goes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_receive_behind_the_body_tells_at_once_that_the_client_has_gone(how):
    reached, told, finished = trio.Event(), trio.Event(), trio.Event()

    async def app(scope, receive, send):
        await read_all(receive)
        reached.set()
        assert await receive() == {"type": "http.disconnect"}
        told.set()
        assert await receive() == {"type": "http.disconnect"}
        await trio.lowlevel.checkpoint()  # it is not cancelled
        finished.set()

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        await reached.wait()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        if how == "eof":
            await client.send_eof()
        else:
            vanish(client)
        with trio.fail_after(PATIENCE):
            await told.wait()
        assert trio.current_time() - began < 0.4  # before any tick of the caretaker counts
        await finished.wait()


async def test_is_disconnected_asks_inside_a_cancelled_scope_and_is_told():
    """So does Starlette: it calls receive in a scope that is cancelled already."""
    answers = []

    async def app(scope, receive, send):
        await receive()
        while True:
            message = {"type": "nothing"}
            with trio.CancelScope() as cancelled:
                cancelled.cancel()
                message = await receive()
            answers.append(message["type"])
            if message["type"] == "http.disconnect":
                over.set()
                return
            asked.set()
            await trio.sleep(0.01)

    asked, over = trio.Event(), trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        await asked.wait()
        await client.send_eof()
        with trio.fail_after(0.9):
            await over.wait()
    assert answers[0] == "nothing"
    assert answers[-1] == "http.disconnect"


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_an_application_in_the_middle_of_its_work_is_never_cancelled(how, caplog):
    begun, done = trio.Event(), trio.Event()
    errors = []

    async def app(scope, receive, send):
        begun.set()
        await trio.sleep(1.8)  # more than two looks of the caretaker
        try:
            await respond(send)
        except ClientDisconnectedError as exc:
            errors.append(exc)
            raise
        finally:
            done.set()

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        await begun.wait()
        if how == "eof":
            await client.send_eof()
        else:
            vanish(client)
        with trio.fail_after(PATIENCE):
            await done.wait()
        await trio.lowlevel.checkpoint()
        assert served.server.statistics().failed == 0
    assert isinstance(errors[0], OSError)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_that_half_closes_gets_what_comes_within_a_second():
    async def app(scope, receive, send):
        await read_all(receive)
        assert (await receive())["type"] == "http.disconnect"
        await respond(send, b"still")

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(POST % 1 + b"x")
        await client.send_eof()
        assert (await read_answer(client)).body == b"still"


async def test_send_raises_when_the_client_has_gone_for_more_than_a_second():
    async def app(scope, receive, send):
        await read_all(receive)
        assert (await receive())["type"] == "http.disconnect"
        await trio.sleep(1.05)
        with pytest.raises(ClientDisconnectedError):
            await respond(send)
        done.set()

    done = trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        await client.send_eof()
        with trio.fail_after(PATIENCE):
            await done.wait()


async def test_a_stream_to_a_client_that_has_gone_ends(caplog):
    async def app(scope, receive, send):
        await send(START)
        try:
            while True:
                await send(body(b"x" * 1000, more=True))
                sent.set()
                await trio.sleep(0.01)
        finally:
            over.set()

    sent, over = trio.Event(), trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        await sent.wait()
        vanish(client)
        with trio.fail_after(PATIENCE):
            await over.wait()
        await trio.lowlevel.checkpoint()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_body_that_is_cut_off_is_a_disconnect():
    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            assert message["more_body"]
        types.append(message["type"])
        over.set()

    types, over = [], trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(POST % 10 + b"123")
        await client.send_eof()
        await over.wait()
    assert types == ["http.disconnect"]


async def test_a_malformed_body_is_a_disconnect_and_answered_with_400():
    async def app(scope, receive, send):
        while (await receive())["type"] == "http.request":
            pass

    async with serving(app) as served:
        answer = await served.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n")
    assert answer.status == 400


async def test_receive_ends_with_the_response_and_the_next_request_is_read():
    """A framework listens in a task beside the response; the connection's reader is free again when that is over."""
    heard = []

    async def app(scope, receive, send):
        async def listen():
            await read_all(receive)
            listening.set()
            heard.append((await receive())["type"])

        listening = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await listening.wait()
            await trio.testing.wait_all_tasks_blocked()
            await respond(send)
        heard.append((await receive())["type"])

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(3):
            assert (await ask(client, GET)).status == 200
    assert heard == ["http.disconnect"] * 6


async def test_what_a_client_has_pipelined_is_kept_while_an_application_listens():
    async def app(scope, receive, send):
        async def listen():
            await read_all(receive)
            listening.set()
            await receive()

        listening = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await listening.wait()
            await trio.testing.wait_all_tasks_blocked()
            await respond(send, scope["path"].encode())

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(get("/1"))
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(get("/2") + POST % 3 + b"abc")
        for path in (b"/1", b"/2", b"/form"):
            assert (await read_answer(client)).body == path


# --- send ---------------------------------------------------------------------------------------------------------


async def test_a_response_of_one_piece_has_a_length_and_the_fields_of_the_application():
    async def app(scope, receive, send):
        await respond(send, b"hello", 201, (b"X-Mine", b" yes "), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"))

    async with serving(app, headers=[("x-all", "1")]) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send_all(GET)
            head = await client.receive_until(b"\r\n\r\n", max_bytes=999)
            assert await client.receive_exactly(5) == b"hello"
            lines = head.split(b"\r\n")
            assert lines[0] == b"HTTP/1.1 201 Created"
            assert lines[1:6] == [
                b"server: trionet", b"x-all: 1", b"X-Mine: yes", b"set-cookie: a=1", b"set-cookie: b=2",
            ]  # fmt: skip
            assert b"Content-Length: 5" in lines
            assert any(line.startswith(b"Date: ") for line in lines)


async def test_an_applications_own_field_replaces_the_servers():
    async def app(scope, receive, send):
        await respond(send, b"", 200, (b"Server", b"mine"), (b"X-All", b"2"))

    async with serving(app, headers=[("x-all", "1")]) as served:
        answer = await served.ask(GET)
    assert (answer.fields["server"], answer.fields["x-all"]) == ("mine", "2")


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
async def test_a_field_that_each_response_decides_about_cannot_be_given_for_all(name):
    with pytest.raises(ValueError, match=f"headers has '{name.lower()}', which each response decides about by itself"):
        await serve_asgi(fails, 0, headers=[(name, "3")])


async def test_a_date_that_is_given_for_all_responses_stands_there_once():
    async def app(scope, receive, send):
        await respond(send)

    async with serving(app, headers=[("Date", "Thu, 01 Jan 1970 00:00:00 GMT")]) as served:
        answer = await served.ask(GET)
    assert answer.fields["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"  # `ask` refuses a field that comes twice


async def test_server_and_date_can_be_left_out():
    async def app(scope, receive, send):
        if scope["path"] == "/stream":
            await send(START)
            await send(body(b"x", more=True))
            await send(body())
        else:
            await respond(send)

    async with serving(app, server_header=False, date_header=False) as served:
        client = await served.connect()
        for path in ("/", "/stream", "/"):
            answer = await ask(client, get(path))
            assert answer.status == 200
            assert not {"server", "date"} & answer.fields.keys()


async def test_responses_that_no_application_has_made_have_the_fields_of_each(autojump_clock):
    async def app(scope, receive, send):
        if scope["path"] == "/busy":
            busy.set()
            await trio.sleep_forever()
        await receive()
        if scope["path"] != "/silent":
            raise ValueError("no luck")

    busy = trio.Event()
    headers = [("X-Frame-Options", "DENY"), ("Content-Type", "text/html")]
    for date_header in (True, False):
        async with serving(app, headers=headers, date_header=date_header, limit_concurrency=2) as served:
            for request, status in (
                (get("/raises"), 500),
                (get("/silent"), 500),
                (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
                (b"no request\r\n\r\n", 400),
                (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
                (b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 100_000), 431),
                (b"GET / HTTP/1.1\r\nHos", 408),
                (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 426),
            ):
                answer = await served.ask(request)
                assert answer.status == status, request[:40]
                assert answer.fields["x-frame-options"] == "DENY", request[:40]
                assert answer.fields["server"] == "trionet", request[:40]
                assert ("date" in answer.fields) is date_header, request[:40]
                assert answer.fields["content-type"].startswith("text/plain"), request[:40]
            for _ in range(2):
                await (await served.connect()).send_all(get("/busy"))
            await trio.testing.wait_all_tasks_blocked()
            assert busy.is_set()
            answer = await served.ask(get("/raises"))
            assert (answer.status, answer.fields["x-frame-options"]) == (503, "DENY")


async def test_a_stream_is_sent_in_chunks_as_it_comes():
    async def app(scope, receive, send):
        await send(START)
        for piece in (b"", b"one", b"two"):
            await send(body(piece, more=True))
            await go.wait()
        await send(body(b"three"))

    go = trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        head = await client.receive_until(b"\r\n\r\n", max_bytes=999)  # also without a byte of the body
        assert b"Transfer-Encoding: chunked\r\n" in head
        go.set()
        assert (
            await client.receive_until(b"0\r\n\r\n", max_bytes=99) == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
        )
        assert (await ask(client, GET)).body == b"onetwothree"


async def test_a_stream_with_a_length_is_sent_as_it_is():
    async def app(scope, receive, send):
        await send({**START, "headers": [(b"content-length", b"6")]})
        await send(body(b"one", more=True))
        await send(body(b"two"))

    async with serving(app) as served:
        answer = await served.ask(GET)
    assert (answer.fields["content-length"], answer.body) == ("6", b"onetwo")


async def test_a_stream_waits_for_a_client_that_does_not_read():
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send(START)
        for _ in range(1000):
            await send(body(b"x" * 65536, more=True))
            sent += 1
        await send(body(b"end"))

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        await trio.sleep(0.3)
        before = sent
        await trio.sleep(0.1)
        assert 0 < before == sent < 1000
        total, last = 0, b""
        while not last.endswith(b"3\r\nend\r\n0\r\n\r\n"):
            last = last[-20:] + (piece := await client.receive_some())
            total += len(piece)
    assert total > 65536 * 1000


@pytest.mark.parametrize(
    ("method", "status", "headers", "length"),
    [
        ("HEAD", 200, [(b"content-length", b"7")], "7"),
        ("HEAD", 200, [], None),
        ("GET", 304, [(b"content-length", b"7")], "7"),
        ("GET", 204, [(b"content-length", b"0")], None),
        ("GET", 204, [], None),
    ],
)
async def test_responses_without_a_body(method, status, headers, length):
    async def app(scope, receive, send):
        await respond(send, b"", status, *headers)

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            answer = await ask(client, get("/", method=method), method)
            assert (answer.status, answer.fields.get("content-length"), answer.body) == (status, length, b"")


async def test_the_body_of_a_response_to_head_is_not_sent():
    async def app(scope, receive, send):
        if scope["path"] == "/stream":
            await send(START)
            await send(body(b"1234", more=True))
            await send(body(b"567"))
        else:
            await respond(send, b"1234567")

    async with serving(app) as served:
        client = await served.connect()
        answer = await ask(client, get("/", method="HEAD"), "HEAD")
        assert (answer.fields["content-length"], answer.body) == ("7", b"")
        assert (await ask(client, get("/stream", method="HEAD"), "HEAD")).status == 200
        assert (await ask(client, get("/"))).body == b"1234567"


async def test_the_applications_transfer_encoding_is_ignored_and_its_connection_field_is_not():
    async def app(scope, receive, send):
        await respond(send, b"x", 200, (b"Transfer-Encoding", b"chunked"), (b"Connection", b"close"))

    async with serving(app) as served:
        client = await served.connect()
        answer = await ask(client, GET)
        assert (answer.fields["content-length"], answer.fields["connection"]) == ("1", "close")
        assert "transfer-encoding" not in answer.fields
        assert await client.receive_some() == b""


async def test_bytes_like_bodies_are_taken():
    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": bytearray(b"abc"), "more_body": True})
        await send({"type": "http.response.body", "body": memoryview(b"def")})

    async with serving(app) as served:
        assert (await served.ask(GET)).body == b"abcdef"


async def test_http_1_0_gets_no_chunks():
    async def app(scope, receive, send):
        await send(START)
        await send(body(b"one", more=True))
        await send(body(b"two"))

    async with serving(app) as served:
        answer = await served.ask(get("/", version="1.0"))
    assert "transfer-encoding" not in answer.fields
    assert answer.body == b"onetwo"


# --- extensions ---------------------------------------------------------------------------------------------------


async def test_early_hints_go_ahead_of_the_response():
    async def app(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b>"]})
        await respond(send)

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        head = await client.receive_until(b"\r\n\r\n", max_bytes=999)
        assert head == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b>\r\n\r\n"
        assert (await read_answer(client)).status == 200


async def test_trailers_come_behind_the_body():
    async def app(scope, receive, send):
        await send({**START, "trailers": True})
        await send(body(b"data"))
        await send({"type": "http.response.trailers", "headers": [(b"x-one", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-two", b"2")]})

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            answer = await ask(client, GET)
            assert (answer.body, answer.trailers) == (b"data", b"x-one: 1\r\nx-two: 2\r\n")


async def test_a_path_is_sent_as_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 200_000)

    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.pathsend", "path": scope["path"]})

    async with serving(app) as served:
        client = await served.connect()
        answer = await ask(client, get(str(tmp_path / "file")))
        assert (answer.fields["content-length"], answer.body) == ("200000", b"x" * 200_000)
        assert (await ask(client, get(str(tmp_path / "missing")))).status == 500
        assert (await ask(client, get(str(tmp_path / "file"), method="HEAD"), "HEAD")).status == 200


async def test_the_tls_extension(server_context, client_context):
    extensions = []

    async def app(scope, receive, send):
        extensions.append((scope["scheme"], scope["extensions"]["tls"]))
        await respond(send)

    async with serving(app, ssl_context=server_context) as served:
        client = await served.connect()
        client = await client.upgrade(trionet.to_tls_client("localhost", ssl_context=client_context))
        assert (await ask(client, GET)).status == 200
        cipher = client.tls.cipher
    [(scheme, tls)] = extensions
    assert scheme == "https"
    suites = {
        "TLS_AES_256_GCM_SHA384": 0x1302,
        "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
        "TLS_AES_128_GCM_SHA256": 0x1301,
    }
    assert tls == {
        "server_cert": None, "client_cert_chain": [], "client_cert_name": None, "client_cert_error": None,
        "tls_version": 0x0304, "cipher_suite": suites[cipher],
    }  # fmt: skip


async def test_the_tls_extension_has_the_clients_certificate(ca):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["extensions"]["tls"])
        await respond(send)

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server)
    ca.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    ca.issue_cert("client@example.org", common_name="A client, with a comma").configure_cert(context)
    async with serving(app, ssl_context=server) as served:
        client = await served.connect()
        client = await client.upgrade(trionet.to_tls_client("localhost", ssl_context=context))
        assert (await ask(client, GET)).status == 200
    [tls] = seen
    [certificate] = tls["client_cert_chain"]
    assert certificate.startswith("-----BEGIN CERTIFICATE-----\n")
    assert tls["client_cert_name"].startswith(r"CN=A client\, with a comma,OU=")


# --- mistakes of applications -------------------------------------------------------------------------------------


async def fails(scope, receive, send):
    raise ValueError("the application's own")


async def exits(scope, receive, send):
    sys.exit("the application's exit")


async def raises_what_only_asyncio_understands(scope, receive, send):
    raise asyncio.CancelledError("the application's own")


async def exits_in_a_task(scope, receive, send):
    async def exits():
        sys.exit("the application's exit")

    async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - that it is a task is the point
        nursery.start_soon(exits)


async def fails_behind_its_head(scope, receive, send):
    await send(START)
    raise ValueError("the application's own")


async def says_nothing(scope, receive, send):
    pass


async def injects(scope, receive, send):
    await respond(send, b"x", 200, (b"x-a", b"1\r\nset-cookie: evil=1"))


async def injects_a_name(scope, receive, send):
    await respond(send, b"x", 200, (b"x-a: b\r\nc", b"1"))


async def gives_str_headers(scope, receive, send):
    await respond(send, b"x", 200, ("x-a", "1"))


async def gives_str_body(scope, receive, send):
    await respond(send, "text")


async def sends_the_body_first(scope, receive, send):
    await send(body(b"x"))


async def has_a_bad_status(scope, receive, send):
    await respond(send, b"x", 99)


async def promises_more(scope, receive, send):
    await respond(send, b"x", 200, (b"content-length", b"2"))


async def has_two_lengths(scope, receive, send):
    await respond(send, b"x", 200, (b"content-length", b"1"), (b"Content-Length", b"1"))


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (fails, "the application's own"),
        (exits, "the application's exit"),
        (raises_what_only_asyncio_understands, "the application's own"),
        (exits_in_a_task, "the application's exit"),
        (fails_behind_its_head, "the application's own"),
        (says_nothing, "has not answered"),
        (injects, "control character"),
        (injects_a_name, "not a token"),
        (gives_str_headers, "must be bytes, not 'x-a'; write b'x-a'"),
        (gives_str_body, "must be bytes, not 'text'; encode it"),
        (sends_the_body_first, "'http.response.start' is due"),
        (has_a_bad_status, "200 to 999"),
        (promises_more, "Content-Length is 2, but the body has 1 byte"),
        (has_two_lengths, "2 fields Content-Length; at most one can be sent"),
    ],
)
async def test_an_application_that_fails_gives_a_500_and_the_connection_goes_on(app, text, caplog):
    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            answer = await ask(client, GET)
            assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
            assert "evil" not in str(answer.fields)
        assert served.server.statistics().failed == 2
    assert [record.name for record in caplog.records] == ["trionet.asgi"] * 2
    assert text in caplog.text


async def test_a_response_that_was_begun_is_visibly_cut_off(caplog):
    async def app(scope, receive, send):
        await send(START)
        await send(body(b"half", more=True))
        if scope["path"] == "/raises":
            raise ValueError("behind the half")

    async with serving(app) as served:
        for path, text in (("/raises", "behind the half"), ("/returns", "has not completed")):
            client = await served.connect()
            await client.send_all(get(path))
            data = b""
            with pytest.raises(trio.BrokenResourceError):
                while piece := await client.receive_some():
                    data += piece
                raise trio.BrokenResourceError  # an EOF without the last chunk is one too
            assert data.endswith(b"4\r\nhalf\r\n")
            assert text in caplog.text


async def test_a_body_longer_than_its_length_does_not_spill_into_the_next_response(caplog):
    async def app(scope, receive, send):
        await send({**START, "headers": [(b"content-length", b"3")]})
        await send(body(b"abc", more=True))
        await send(body(b"HTTP/1.1 200 OK\r\n\r\n"))

    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET + GET)
        data = b""
        with pytest.raises(trio.BrokenResourceError):
            while piece := await client.receive_some():
                data += piece
            raise trio.BrokenResourceError
    assert data.count(b"HTTP/1.1") == 1
    assert "longer than its Content-Length" in caplog.text


async def test_events_behind_the_end_of_a_response_are_refused():
    async def app(scope, receive, send):
        await respond(send)
        with pytest.raises(RuntimeError, match="its response is complete, so nothing is due"):
            await respond(send)
        done.set()

    done = trio.Event()
    async with serving(app) as served:
        await served.ask(GET)
        await done.wait()


async def test_a_response_that_was_refused_can_be_given_otherwise():
    async def app(scope, receive, send):
        with pytest.raises(trionet.LocalProtocolError):
            await respond(send, b"x", 200, (b"content-length", b"2"))
        await send(body(b"xx"))

    async with serving(app) as served:
        assert (await served.ask(GET)).body == b"xx"


async def test_an_application_for_asyncio_gets_a_500_and_the_log_one_clear_line(caplog):
    import asyncio

    async def app(scope, receive, send):
        asyncio.get_running_loop()

    async with serving(app) as served:
        assert (await served.ask(GET)).status == 500
    [record] = caplog.records
    assert "this server runs on Trio: serve it with an asyncio server such as uvicorn" in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (1, "must be an ASGI application, async def app"),
        (lambda environ, start_response: [], "WSGI application"),
        (lambda: respond, "--factory"),
        (lambda scope: respond, "guarantee_single_callable"),
    ],
)
async def test_what_is_not_an_application_is_refused_before_anything_is_opened(app, text):
    with pytest.raises(TypeError, match=text):
        await serve_asgi(app, 0)


# --- work behind the response -------------------------------------------------------------------------------------


async def test_work_behind_the_response_does_not_hold_up_the_next_request():
    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())
        if scope["path"] == "/slow":
            await release.wait()
            finished.set()

    release, finished = trio.Event(), trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        with trio.fail_after(PATIENCE):
            for path in ("/slow", "/quick", "/slow", "/quick"):
                assert (await ask(client, get(path))).body == path.encode()
        release.set()
        await finished.wait()
        assert (await ask(client, get("/quick"))).status == 200


async def test_work_behind_the_response_to_a_request_whose_body_is_unread():
    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())
        if scope["path"] == "/form":
            await release.wait()

    release = trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        assert (await ask(client, POST % 3 + b"ab")).body == b"/form"
        await client.send_all(b"c")
        assert (await ask(client, get("/next"))).body == b"/next"
        release.set()


async def test_a_short_checkpoint_behind_the_response_starts_no_second_loop():
    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())
        await trio.lowlevel.checkpoint()

    async with serving(app) as served:
        client = await served.connect()
        for number in range(50):
            assert (await ask(client, get(f"/{number}"))).body == b"/%d" % number
        await client.send_all(b"".join(get(f"/{number}") for number in range(20)))
        for number in range(20):
            assert (await read_answer(client)).body == b"/%d" % number


async def test_work_behind_the_response_is_not_cancelled_by_a_client_that_goes_and_a_drain_waits_for_it():
    async def app(scope, receive, send):
        await respond(send)
        await trio.sleep(0.5)
        finished.set()

    finished = trio.Event()
    async with serving(app) as served:
        await served.ask(GET)
        report = await served.server.drain(PATIENCE)
        assert finished.is_set()
        assert report.clean


async def test_an_error_behind_the_response_is_logged_and_the_connection_goes_on(caplog):
    async def app(scope, receive, send):
        await respond(send)
        await trio.lowlevel.checkpoint()
        raise ValueError("in the background")

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            assert (await ask(client, GET)).status == 200
    assert "in the background" in caplog.text


# --- limits -------------------------------------------------------------------------------------------------------


async def test_more_than_limit_concurrency_are_answered_with_503():
    async def app(scope, receive, send):
        if scope["path"] == "/wait":
            begun.set()
            await release.wait()
        await respond(send)

    begun, release = trio.Event(), trio.Event()
    async with serving(app, limit_concurrency=1) as served:
        first, second = await served.connect(), await served.connect()
        await first.send_all(get("/wait"))
        await begun.wait()
        assert (await ask(second, GET)).status == 503
        release.set()
        assert (await read_answer(first)).status == 200
        assert (await ask(second, GET)).status == 200


async def test_the_server_drains_after_limit_max_requests():
    async def app(scope, receive, send):
        await respond(send)

    async def serve(task_status):
        await serve_asgi(app, 0, host="127.0.0.1", lifespan="off", limit_max_requests=2, task_status=task_status)
        ended.set()

    ended = trio.Event()
    async with trio.open_nursery() as nursery, trionet.open_scope() as scope:
        server = await nursery.start(serve)
        client = await scope.connect_tcp("127.0.0.1", server.port)
        assert (await ask(client, GET)).status == 200
        assert not ended.is_set()
        assert (await ask(client, GET)).status == 200
        with trio.fail_after(PATIENCE):
            await ended.wait()


# --- ends ---------------------------------------------------------------------------------------------------------


async def test_a_drain_waits_for_the_work_and_at_most_for_its_deadline():
    async def app(scope, receive, send):
        begun.set()
        await trio.sleep(0.3 if scope["path"] == "/work" else 999)
        await respond(send)

    for path, clean in (("/work", True), ("/never", False)):
        begun = trio.Event()
        async with serving(app) as served:
            client = await served.connect()
            await client.send_all(get(path))
            await begun.wait()
            report = await served.server.drain(0.8)
            assert report.clean is clean
            assert (0.2 if clean else 0.7) < report.seconds < 5
            if clean:
                answer = await read_answer(client)
                assert (answer.status, answer.fields["connection"]) == (200, "close")


async def test_an_event_stream_ends_a_drain_at_its_deadline():
    async def app(scope, receive, send):
        await send(START)
        await send(body(b"data: x\n\n", more=True))
        begun.set()
        assert (await receive())["type"] == "http.request"
        await receive()

    begun = trio.Event()
    async with serving(app) as served:
        client = await served.connect()
        await client.send_all(GET)
        await begun.wait()
        report = await served.server.drain(0.5)
        assert not report.clean


async def test_over_a_unix_socket(tmp_path):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    path = str(tmp_path / "a.sock")
    async with open_asgi(app, lifespan="off", forwarded_allow_ips="unix:") as handler, trionet.open_scope() as scope:
        await scope.start(trionet.serve_unix, trionet.http_handler(handler), path)
        client = await scope.connect_unix(path)
        for fields in ((), ("X-Forwarded-For: 1.2.3.4",)):
            assert (await ask(client, get("/", *fields))).status == 200
        scope.cancel()
    assert [scope["client"] for scope in scopes] == [None, ("1.2.3.4", 0)]
    assert [scope["server"] for scope in scopes] == [(path, None)] * 2
