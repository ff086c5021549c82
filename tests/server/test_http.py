"""`serve_http`: a handler for exchanges, its failures, the hook that hears of them, and the access log."""

import logging
import socket
import ssl
import sys

import outcome
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, Phase, Reason

from ..helpers.http_served import GET, POST, ask, get, read_answer, vanish


class Oops(Exception):
    pass


async def app(exchange):
    match exchange.path:
        case "/tls":
            tls = exchange.connection.tls
            await exchange.respond(200, tls.version.encode() if tls else b"plain")
        case "/raises":
            raise Oops("mine")
        case "/raises-late":
            async with exchange.stream(200) as stream:
                await stream.send(b"begun")
                raise Oops("late")
        case "/forgets":
            return
        case "/reads":
            await exchange.respond(200, await exchange.read())
        case "/sends-nonsense":
            await exchange.respond(200, headers=[("A", "b\r\nc: d")])
        case _:
            await exchange.respond(200, b"ok")


@pytest.fixture
async def serve(nursery):
    """Start `app`, or another handler; what is given is a server."""

    async def start(handler=app, **options):
        return await nursery.start(
            lambda **kw: trionet.serve_http(handler, 0, host="127.0.0.1", **options, **kw)
        )  # fmt: skip

    yield start
    nursery.cancel_scope.cancel()


async def test_a_handler_that_raises_gives_a_500_and_the_connection_goes_on(serve, caplog):
    server = await serve()
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, get("/raises"))).status == 500
        assert (await ask(client, GET)).body == b"ok"
    assert "the handler of <Exchange GET '/raises': not answered yet> failed: mine" in caplog.text
    assert "Oops" in caplog.text
    assert server.statistics().failed == 1


async def test_a_handler_that_returns_nothing_to_await_is_told_what_it_must_be(serve, caplog):
    """A lambda may return an awaitable: that it does not is seen when it is called."""
    server = await serve(lambda exchange: None)
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, GET)).status == 500
    assert "must be an async function of one exchange, which " in caplog.text
    assert "<lambda> is not: object NoneType can't be used in 'await' expression" in caplog.text


async def test_a_type_error_of_a_handler_is_shown_as_it_is(serve, caplog):
    async def adds(exchange):
        return "1" + 1

    server = await serve(adds)
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, GET)).status == 500
    assert "failed: can only concatenate" in caplog.text


async def test_a_handler_that_does_not_answer_gives_a_500(serve):
    server = await serve()
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, get("/forgets"))).status == 500
        assert (await ask(client, GET)).body == b"ok"


async def test_an_answer_that_cannot_be_sent_gives_a_500_and_splits_no_response(serve, caplog):
    server = await serve()
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        answer = await ask(client, get("/sends-nonsense"))
        assert (answer.status, answer.fields.get("a")) == (500, None)
    assert "control character such as CR" in caplog.text


async def test_a_handler_that_raises_behind_the_beginning_of_its_answer_cuts_it_off(serve, caplog):
    server = await serve()
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all(get("/raises-late"))
        data = b""
        while chunk := await client.receive_some():
            data += chunk
        assert data.endswith(b"5\r\nbegun\r\n")  # and no last chunk
    assert "late" in caplog.text
    assert server.statistics().failed == 1


async def test_the_hook_gets_the_exchange_and_the_outcome(serve, caplog):
    told = []
    server = await serve(on_error=lambda exchange, result: told.append((exchange.path, result)))
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, get("/raises"))).status == 500
    [(path, result)] = told
    assert path == "/raises"
    assert isinstance(result, outcome.Error)
    assert isinstance(result.error, Oops)
    assert not caplog.records


async def test_a_hook_that_raises_is_logged_and_harms_nobody(serve, caplog):
    def hook(exchange, result):
        raise ValueError("the hook's own")

    server = await serve(on_error=hook)
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, get("/raises"))).status == 500
        assert (await ask(client, GET)).status == 200
    assert "on_error raised" in caplog.text


async def test_what_a_client_does_wrong_is_no_failure_of_the_handler(serve, caplog):
    caplog.set_level(logging.INFO, logger="trionet.server")
    told = []
    server = await serve(on_error=lambda *what: told.append(what))
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        chunked = b"POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        assert (await ask(client, chunked)).status == 400
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, b"NONSENSE\r\n\r\n")).status == 400
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all((POST % 9).replace(b"/ ", b"/reads ") + b"some")
        await wait_all_tasks_blocked()
        vanish(client)
        await wait_all_tasks_blocked()
    assert told == []
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert "broke the protocol" in caplog.text
    assert server.statistics().failed == 0


async def test_one_connection_that_fails_ends_no_other(serve):
    server = await serve()
    async with trionet.open_tcp("127.0.0.1", server.port) as good:
        assert (await ask(good, GET)).status == 200
        for _ in range(20):
            async with trionet.open_tcp("127.0.0.1", server.port) as bad:
                await bad.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
                vanish(bad)
        assert (await ask(good, GET)).status == 200


async def test_the_access_log(serve, caplog):
    caplog.set_level(logging.INFO, logger="trionet.access")
    server = await serve()
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await ask(client, get("/a?b"))
        await ask(client, get("/raises"))
        await client.aclose()
    lines = [record.getMessage() for record in caplog.records if record.name == "trionet.access"]
    assert lines[0].startswith('127.0.0.1 "GET /a?b HTTP/1.1" 200 0.0')
    assert lines[1].startswith('127.0.0.1 "GET /raises HTTP/1.1" 500 ')


async def test_the_access_log_has_no_status_where_nobody_was_answered(serve, caplog):
    """A client that resets the connection is no 500 of this server's."""
    caplog.set_level(logging.INFO, logger="trionet.access")
    server = await serve()
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all((POST % 9).replace(b"/", b"/reads", 1) + b"half")
        await wait_all_tasks_blocked()
        vanish(client)
    await wait_all_tasks_blocked()
    lines = [record.getMessage() for record in caplog.records if record.name == "trionet.access"]
    assert [line.split()[1:5] for line in lines] == [['"POST', "/reads", 'HTTP/1.1"', "0"]]
    figures = server.statistics()
    assert (figures.failed, figures.peer_faults["reset"], figures.open) == (0, 1, 0)


async def test_the_name_of_a_unix_client_writes_no_lines_of_the_log(nursery, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    await nursery.start(trionet.serve_unix, trionet.http_handler(app), tmp_path / "sock")
    for number, request in enumerate((GET, b"junk\r\n\r\n")):
        with trio.socket.socket(socket.AF_UNIX) as client:
            await client.bind(str(tmp_path / f"{number}\nFAKE \x1b[31m"))
            await client.connect(str(tmp_path / "sock"))
            await client.send(request)
            assert await client.recv(100)
        await wait_all_tasks_blocked()
    lines = [record.getMessage() for record in caplog.records]
    assert ["FAKE" in line and line.isprintable() for line in lines] == [True, True]
    nursery.cancel_scope.cancel()


async def test_over_tls_and_on_a_unix_socket(serve, nursery, server_context, client_context, tmp_path):
    assert isinstance(server_context, ssl.SSLContext)
    server = await serve(ssl_context=server_context)
    async with trionet.open_tcp("127.0.0.1", server.port) as plain:
        tls = await plain.upgrade(trionet.to_tls_client(server_hostname="localhost", ssl_context=client_context))
        assert (await ask(tls, get("/tls"))).body == b"TLSv1.3"
        await tls.send_all(GET * 2)
        assert [(await read_answer(tls)).status for _ in range(2)] == [200, 200]
        await tls.aclose()
    path = tmp_path / "sock"
    await nursery.start(trionet.serve_unix, trionet.http_handler(app), path)
    async with trionet.open_unix(path) as client:
        assert (await ask(client, get("/tls"))).body == b"plain"


async def test_a_large_answer_over_tls_to_a_client_that_reads_late(serve, server_context, client_context):
    body = bytes(3_000_000)

    async def large(exchange):
        await exchange.respond(200, body)

    server = await serve(large, ssl_context=server_context)
    async with trionet.open_tcp("127.0.0.1", server.port) as plain:
        tls = await plain.upgrade(trionet.to_tls_client(server_hostname="localhost", ssl_context=client_context))
        await tls.send_all(GET)
        await wait_all_tasks_blocked()
        assert (await read_answer(tls)).body == body
        await tls.aclose()


async def test_a_silent_client_is_let_go_and_a_slow_one_is_told(serve, autojump_clock):
    server = await serve(http_limits=HTTPLimits(idle_timeout=5, head_timeout=3))
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        assert (await ask(client, GET)).status == 200
        [scope] = server.connections
        [http] = scope.handles
        assert await client.receive_some() == b""
        assert http.end.reason is Reason.IDLE_TIMEOUT
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all(b"GET / HT")
        assert (await read_answer(client)).status == 408
        assert await client.receive_some() == b""
    assert server.statistics().failed == 0


async def test_a_client_that_reads_nothing_is_let_go_and_one_that_reads_slowly_is_not(serve, autojump_clock):
    async def flood(exchange):
        async with exchange.stream(200) as stream:
            while True:
                await stream.send(bytes(65536))

    server = await serve(flood, http_limits=HTTPLimits(send_timeout=4))
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all(GET)
        while not server.connections or not server.connections[0].handles:
            await trio.lowlevel.checkpoint()
        [http] = server.connections[0].handles
        if sys.platform.startswith("linux"):  # elsewhere nobody can tell
            await read_slowly(client, 30)  # the system takes more only when a good part of its buffers is empty
            assert http.phase is Phase.OPEN
        began = trio.current_time()
        assert (await http.wait_ended()).reason is Reason.IDLE_TIMEOUT
        assert trio.current_time() - began <= 5


async def read_slowly(client, seconds):
    for _ in range(seconds):
        await trio.sleep(1)
        assert await client.receive_some(40_000)


# --- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_head": 1}, ValueError, "max_head must be at least 64, not 1"),
        ({"max_fields": "9"}, TypeError, "max_fields must be an int, not '9'"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout must be at least 0 seconds"),
        ({"drain_timeout": float("nan")}, ValueError, "drain_timeout must be at least 0 seconds"),
        ({"send_timeout": None}, TypeError, "send_timeout must be a number of seconds.*not None"),
    ],
)
def test_limits_that_cannot_be(options, error, words):
    with pytest.raises(error, match=words):
        HTTPLimits(**options)


async def test_arguments_that_cannot_be_are_refused_before_anything_is_opened():
    with pytest.raises(TypeError, match="pass the function itself"):
        conversation = app(None)
        try:
            trionet.http_handler(conversation)
        finally:
            conversation.close()
    with pytest.raises(TypeError, match="must be an async function"):
        await trionet.serve_http(None, 0)
    meant = r"must be a trionet.HTTPLimits, not <class 'trionet.http.protocol.limits.HTTPLimits'>"
    with pytest.raises(TypeError, match=meant):
        trionet.to_http_server(limits=HTTPLimits)
