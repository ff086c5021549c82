"""Whose fault it was: each situation on each kind of server, by what is logged, counted, told and answered."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import outcome
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Exchange, WebSocket, to_connection, to_http_server, to_websocket_server

from ..helpers.http_served import GET, WEBSOCKET, get, read_answer, vanish
from ..helpers.pairs import receive_all, tcp_pair
from ..helpers.websockets_by_hand import Opcode, close, frame, text

Handler = Callable[[Any], Awaitable[object]]
POST = b"POST /upload?token=SECRET HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome"
CONNECT = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
OTHER = get("/", "Upgrade: other", "Connection: Upgrade")


# --- kinds of servers -------------------------------------------------------------------------------------------


@dataclass
class Kind:
    """How a server is started, how a handle comes to a handler, and how a client gets there."""

    name: str
    opening: bytes = b""
    upgrade: Callable[[Any], Awaitable[Any]] | None = None
    reset: str = "reset"
    over: str = "tcp"

    @property
    def by_exchange(self) -> bool:
        return self.over == "http"


async def raw_websocket(connection):
    return await connection.upgrade(to_websocket_server())


async def exchange_websocket(exchange):
    return await exchange.upgrade(to_websocket_server())


async def tunnel(exchange):
    return await exchange.upgrade(to_connection())


async def as_it_is(thing):
    return thing


KINDS = [
    Kind("serve_tcp"),
    Kind("serve_unix", over="unix", reset="left"),
    Kind("TLS", over="tls"),
    Kind("WebSocket on TCP", WEBSOCKET, raw_websocket),
    Kind("WebSocket on TLS", WEBSOCKET, raw_websocket, over="tls"),
    Kind("own HTTP loop", POST, over="loop"),
    Kind("serve_http", POST, over="http"),
    Kind("WebSocket of an exchange", WEBSOCKET, exchange_websocket, over="http"),
    Kind("CONNECT", CONNECT, tunnel, over="http"),
    Kind("to_connection", OTHER, tunnel, over="http"),
]


@dataclass
class Court:
    """A server of some kind, what it has logged and told, and a client."""

    server: trionet.Server
    client: trionet.Connection
    caplog: Any
    told: list = field(default_factory=list)
    waiting: trio.Event = field(default_factory=trio.Event)

    async def settled(self) -> None:
        """The handler has ended."""
        with trio.fail_after(5):
            while self.server.statistics().open:
                await trio.lowlevel.checkpoint()

    async def over(self) -> None:
        """The client hears that it is over, and goes."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.client.receive_some()
        await self.client.aclose()
        await self.settled()

    def records(self, level: int = logging.INFO) -> list[logging.LogRecord]:
        return [one for one in self.caplog.records if one.name == "trionet.server" and one.levelno >= level]

    def is_the_programs(self, error: type[BaseException]) -> None:
        [record] = self.records()
        assert record.levelno == logging.ERROR
        assert isinstance(record.exc_info[1], error)
        figures = self.server.statistics()
        assert figures.failed == 1
        assert not any(figures.peer_faults.values())

    def is_the_peers(self, kind: str) -> None:
        [record] = self.records()
        assert record.levelno == logging.INFO
        assert not record.exc_info
        assert "\n" not in record.getMessage()
        assert "SECRET" not in record.getMessage()
        figures = self.server.statistics()
        assert figures.failed == 0
        assert {name: count for name, count in figures.peer_faults.items() if count} == {kind: 1}

    def is_nobodys(self) -> None:
        assert self.records() == []
        figures = self.server.statistics()
        assert figures.failed == 0
        assert not any(figures.peer_faults.values())


@contextlib.asynccontextmanager
async def court(kind: Kind, handler: Handler, caplog, tls, tmp_path, **options) -> AsyncIterator[Court]:
    """Start a server of this kind with `handler`, and connect a client that has got as far as the handler."""
    caplog.set_level(logging.INFO, logger="trionet.server")
    server_context, client_context = tls
    upgrade = kind.upgrade or as_it_is

    async def serve_it(thing):
        await handler(await upgrade(thing))

    async def loop(connection):
        async for exchange in await connection.upgrade(to_http_server()):
            await serve_it(exchange)

    async with trionet.open_scope() as scope:
        if kind.over == "http":
            server = await scope.start(lambda **kw: trionet.serve_http(serve_it, 0, host="127.0.0.1", **options, **kw))
        elif kind.over == "unix":
            server = await scope.start(trionet.serve_unix, serve_it, tmp_path / "sock")
        else:
            context = server_context if kind.over == "tls" else None
            connected = loop if kind.over == "loop" else serve_it
            server = await scope.start(
                lambda **kw: trionet.serve_tcp(connected, 0, host="127.0.0.1", ssl_context=context, **kw)
            )
        client = await connect(scope, kind, server, tmp_path, client_context)
        with trio.fail_after(40):
            yield Court(server, client, caplog)
        scope.cancel()


async def connect(scope, kind, server, tmp_path, client_context) -> trionet.Connection:
    if kind.over == "unix":
        client = await scope.connect_unix(tmp_path / "sock")
    else:
        client = await scope.connect_tcp("127.0.0.1", server.port)
    if kind.over == "tls":
        client = await client.upgrade(trionet.to_tls_client("localhost", ssl_context=client_context))
    if kind.opening:
        await client.send_all(kind.opening)
    if kind.upgrade is not None:
        await client.receive_until(b"\r\n\r\n", max_bytes=9999)
    return client


async def use(handle: Any) -> object:
    """Wait for input of the client that does not come."""
    if isinstance(handle, Exchange):
        return await handle.read()
    if isinstance(handle, WebSocket):
        return await handle.get_message()
    return await handle.receive_exactly(9)


def reset(client: trionet.Connection) -> None:
    """Reset the connection, also under TLS."""
    transport = client._transport
    getattr(transport, "lower", transport).spoil()
    client.abort()


def of(handle: Any) -> Any:
    return handle.connection if isinstance(handle, Exchange) else handle


@pytest.fixture
def tls(server_context, client_context):
    return server_context, client_context


on_each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


# --- the program's ----------------------------------------------------------------------------------------------


async def raises(handle):
    raise RuntimeError("mine")


async def raises_from_the_clients(handle):
    try:
        raise trionet.RemoteProtocolError("the client's").with_handle(of(handle))
    except trio.BrokenResourceError as exc:
        raise RuntimeError("mine") from exc


async def raises_in_a_group_with_the_clients(handle):
    theirs = trionet.RemoteProtocolError("the client's").with_handle(of(handle))
    raise ExceptionGroup("both", [theirs, ExceptionGroup("inner", [RuntimeError("mine")])])


async def loses_its_backend(handle):
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        vanish(theirs)
        await ours.receive_some()


async def loses_its_backend_in_its_own_scope(handle):
    ours, theirs = tcp_pair(of(handle).scope)
    await theirs.send_all(b"x")
    await theirs.send_eof()
    await ours.receive_exactly(2)


async def loses_its_websocket_backend(handle):
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        scope.start_soon(theirs.upgrade, to_websocket_server())
        ws = await ours.upgrade(trionet.to_websocket_client("ws://a/"))
        await wait_all_tasks_blocked()
        scope.handles[-1].abort()
        await ws.get_message()


async def loses_its_memory_channel(handle):
    send, receive = trio.open_memory_channel(0)
    receive.close()
    await send.send(1)


async def uses_what_it_has_closed(handle):
    await of(handle).aclose()
    if isinstance(handle, Exchange):
        await handle.respond(200)
    elif isinstance(handle, WebSocket):
        await handle.send_message("x")
    else:
        await handle.send_all(b"x")


async def asks_two_at_once(handle):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, handle)
        await wait_all_tasks_blocked()
        of(handle).detach()


PROGRAMS = {
    raises: RuntimeError,
    raises_from_the_clients: RuntimeError,
    raises_in_a_group_with_the_clients: RuntimeError,
    loses_its_backend: BaseExceptionGroup,
    loses_its_backend_in_its_own_scope: trionet.RemoteProtocolError,
    loses_its_websocket_backend: BaseExceptionGroup,
    loses_its_memory_channel: trio.BrokenResourceError,
    uses_what_it_has_closed: Exception,
    asks_two_at_once: Exception,
}


@on_each_kind
@pytest.mark.parametrize("handler", PROGRAMS, ids=lambda handler: handler.__name__)
async def test_the_programs_fault_is_an_error_with_its_traceback(kind, handler, caplog, tls, tmp_path):
    async with court(kind, handler, caplog, tls, tmp_path) as it:
        await it.over()
        error = PROGRAMS[handler]
        it.is_the_programs(Exception if error is BaseExceptionGroup else error)


@pytest.mark.parametrize("handler", PROGRAMS, ids=lambda handler: handler.__name__)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.by_exchange], ids=lambda kind: kind.name)
async def test_the_hook_hears_of_it_behind_an_upgrade_too(kind, handler, caplog, tls, tmp_path):
    told = []
    async with court(kind, handler, caplog, tls, tmp_path, on_error=lambda *what: told.append(what)) as it:
        await it.over()
        [(exchange, result)] = told
        assert isinstance(exchange, Exchange)
        assert isinstance(result, outcome.Error)
        assert it.server.statistics().failed == 1
        assert it.records() == []


# --- the peer's -------------------------------------------------------------------------------------------------


async def waits(handle):
    await use(handle)


async def waits_in_a_nursery(handle):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, handle)
        nursery.start_soon(trio.lowlevel.checkpoint)


async def waits_and_raises_it_again(handle):
    try:
        await use(handle)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
        again = exc
    raise again


async def waits_beside_its_own_work(handle):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await use(handle)


waiting = pytest.mark.parametrize(
    "handler",
    [waits, waits_in_a_nursery, waits_and_raises_it_again, waits_beside_its_own_work],
    ids=lambda handler: handler.__name__,
)


@on_each_kind
@waiting
async def test_a_client_that_resets_is_one_line(kind, handler, caplog, tls, tmp_path):
    async with court(kind, handler, caplog, tls, tmp_path) as it:
        await wait_all_tasks_blocked()
        reset(it.client)
        await it.settled()
        it.is_the_peers(kind.reset)


@on_each_kind
@waiting
async def test_a_client_that_leaves_in_the_middle_is_one_line(kind, handler, caplog, tls, tmp_path):
    async with court(kind, handler, caplog, tls, tmp_path) as it:
        await wait_all_tasks_blocked()
        await it.client.aclose()
        await it.settled()
        it.is_the_peers("left")


async def test_a_client_that_leaves_without_close_notify_has_left_and_not_reset(caplog, tls, tmp_path):
    [kind] = [kind for kind in KINDS if kind.name == "WebSocket on TLS"]  # whose client has read all that was sent
    async with court(kind, waits, caplog, tls, tmp_path) as it:
        await wait_all_tasks_blocked()
        it.client.abort()
        await it.settled()
        it.is_the_peers("left")


@on_each_kind
async def test_the_documented_net_catches_a_client_that_has_gone_in_either_way(kind, caplog, tls, tmp_path):
    caught = []

    async def handler(handle):
        try:
            await use(handle)
        except trio.BrokenResourceError as exc:
            caught.append(exc)

    for end in (reset, lambda client: client.abort()):
        async with court(kind, handler, caplog, tls, tmp_path) as it:
            await wait_all_tasks_blocked()
            end(it.client)
            await it.settled()
            assert it.records(logging.WARNING) == []
            assert it.server.statistics().failed == 0
    assert len(caught) == 2


# --- what is particular to one kind of server ---------------------------------------------------------------------


WEBSOCKETS = [kind for kind in KINDS if kind.opening is WEBSOCKET]
on_each_websocket = pytest.mark.parametrize("kind", WEBSOCKETS, ids=lambda kind: kind.name)


@on_each_websocket
@pytest.mark.parametrize("close", [close(1000), close(1001), close(None)], ids=["1000", "1001", "none"])
async def test_a_websocket_that_is_closed_as_it_should_be_is_no_news(kind, close, caplog, tls, tmp_path):
    async with court(kind, waits, caplog, tls, tmp_path) as it:
        await it.client.send_all(close)
        await it.over()
        it.is_nobodys()


@on_each_websocket
@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (close(4001, "bye\nERROR forged"), "left"),
        (text("not masked", masked=False), "protocol"),
        (frame(Opcode.TEXT, b"\xff"), "protocol"),
        (frame(Opcode.BINARY, bytes(2**20 + 1)), "limit"),
    ],
    ids=["an unusual close", "not masked", "not UTF-8", "too big"],
)
async def test_what_a_websocket_client_does_wrong_is_one_line(kind, data, fault, caplog, tls, tmp_path):
    async with court(kind, waits, caplog, tls, tmp_path) as it:
        with contextlib.suppress(trio.BrokenResourceError):
            await it.client.send_all(data)
        await it.over()
        it.is_the_peers(fault)


@on_each_websocket
async def test_a_websocket_that_answers_no_ping_is_one_line(kind, caplog, tls, tmp_path, autojump_clock):
    async def upgrade(source):
        return await source.upgrade(to_websocket_server(ping_interval=1, ping_timeout=1))

    async with court(Kind(kind.name, kind.opening, upgrade, over=kind.over), waits, caplog, tls, tmp_path) as it:
        await trio.sleep(10)
        await it.settled()
        it.is_the_peers("silent")


REFUSED = {
    "a plain GET": (GET, 426),
    "a foreign page": (WEBSOCKET.replace(b"Host: a", b"Host: a\r\nOrigin: https://evil.example"), 403),
    "no Origin": (WEBSOCKET, 403),
    "a bad version": (WEBSOCKET.replace(b"Version: 13", b"Version: 12"), 426),
    "a bad key": (WEBSOCKET.replace(b"dGhl", b"===="), 400),
}


@on_each_websocket
async def test_a_peer_writes_no_lines_of_a_traceback(kind, caplog, tls, tmp_path):
    """A close's reason may have line breaks; the traceback of a handler that fails by it goes into the log too."""

    async def handler(websocket):
        try:
            await websocket.get_message()
        except trionet.ConnectionClosed as exc:
            raise RuntimeError(f"lost: {websocket.closed}") from exc

    async with court(kind, handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(close(4001, "bye\nERROR forged\r\x1b[2J\u2028ERROR"))
        await it.settled()
        it.is_the_programs(RuntimeError)
    assert "reason=bye\\nERROR forged\\r\\x1b[2J\\u2028ERROR>" in caplog.text
    assert not any(line.startswith("ERROR forged") or "\x1b" in line for line in caplog.text.splitlines())


@pytest.mark.parametrize("request_bytes", REFUSED)
@pytest.mark.parametrize("over", ["tcp", "tls", "http", "loop"])
async def test_a_refused_websocket_handshake_is_answered_and_one_line(over, request_bytes, caplog, tls, tmp_path):
    data, status = REFUSED[request_bytes]

    async def handler(source):
        await source.upgrade(to_websocket_server(origins=["https://good.example"]))

    async with court(Kind("", over=over), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(data)
        assert (await read_answer(it.client)).status == status
        await it.client.aclose()
        await it.settled()
        it.is_the_peers("refused")


@pytest.mark.parametrize(("data", "fault"), [(b"GARBAGE\r\n\r\n", "handshake"), (b"x" * 70000, "handshake")])
async def test_garbage_for_a_websocket_server_on_tcp_is_one_line(data, fault, caplog, tls, tmp_path):
    async with court(Kind("", upgrade=None), raw_websocket, caplog, tls, tmp_path) as it:
        await it.client.send_all(data)
        await it.client.send_eof()
        await it.settled()
        it.is_the_peers(fault)


async def test_what_a_function_for_origins_raises_is_the_programs(caplog, tls, tmp_path):
    send, receive = trio.open_memory_channel(1)
    receive.close()

    async def handler(source):
        await source.upgrade(to_websocket_server(origins=lambda origin: send.send_nowait(origin) or True))

    async with court(Kind(""), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(WEBSOCKET)
        await it.settled()
        it.is_the_programs(trionet.UpgradeFailedError)


@pytest.mark.parametrize("over", ["tcp", "unix", "tls"])
async def test_a_line_that_is_too_long_is_one_line_of_the_log(over, caplog, tls, tmp_path):
    async def handler(connection):
        await connection.receive_until(b"\n", max_bytes=5)

    async with court(Kind("", over=over), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(b"password")
        await it.settled()
        it.is_the_peers("limit")
        assert "password" not in caplog.text


async def test_a_client_that_leaves_before_the_upgrade_is_one_line(caplog, tls, tmp_path):
    async def handler(connection):
        assert await connection.peek(1) == b""
        await connection.upgrade(to_http_server())

    async with court(Kind(""), handler, caplog, tls, tmp_path) as it:
        await it.client.send_eof()
        await it.settled()
        it.is_the_peers("left")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b""])
async def test_a_tls_handshake_that_fails_is_one_line(data, caplog, tls, tmp_path):
    caplog.set_level(logging.INFO, logger="trionet.server")
    async with trionet.open_scope() as scope:
        server = await scope.start(lambda **kw: trionet.serve_tcp(waits, 0, ssl_context=tls[0], **kw))
        client = await scope.connect_tcp("localhost", server.port)
        await client.send_all(data)
        await client.send_eof()
        it = Court(server, client, caplog)
        await it.settled()
        it.is_the_peers("handshake")
        scope.cancel()


async def test_a_send_that_the_handler_has_torn_itself_is_its_own_fault(caplog, tls, tmp_path):
    async def handler(connection):
        with trio.move_on_after(0.01):
            await connection.send_all(bytes(50_000_000))
        await connection.send_all(b"more")

    async with court(Kind(""), handler, caplog, tls, tmp_path) as it:
        await it.settled()
        it.is_the_programs(trionet.HandleBrokenError)


@pytest.mark.parametrize("over", ["http", "loop"])
@pytest.mark.parametrize(
    ("data", "status", "fault"),
    [
        (POST + b"-what", 413, "limit"),
        (POST.replace(b"Content-Length: 9", b"Transfer-Encoding: chunked") + b"\r\n", 400, "protocol"),
    ],
)
async def test_a_body_that_cannot_be_taken_is_answered_as_the_protocol_says(
    over, data, status, fault, caplog, tls, tmp_path
):
    async def handler(exchange):
        await exchange.respond(200, await exchange.read(max_bytes=5))

    async with court(Kind("", over=over), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(data)
        assert (await read_answer(it.client)).status == status
        await it.client.aclose()
        await it.settled()
        it.is_the_peers(fault)


async def test_a_body_of_another_server_that_is_too_long_is_the_programs(caplog, tls, tmp_path):
    async def backend(exchange):
        await exchange.respond(200, bytes(100))

    async def handler(exchange):
        url = f"http://localhost:{behind.port}/"
        async with trionet.open_http_client() as client, client.request("GET", url) as response:
            await exchange.respond(200, await response.read(max_bytes=5))

    async with trionet.open_scope() as scope:
        behind = await scope.start(trionet.serve_http, backend, 0)
        async with court(Kind("", over="http"), handler, caplog, tls, tmp_path) as it:
            await it.client.send_all(GET)
            assert (await read_answer(it.client)).status == 500
            it.is_the_programs(trionet.LimitExceededError)
        scope.cancel()


async def test_a_client_that_gives_up_waiting_is_one_line(caplog, tls, tmp_path, autojump_clock):
    async def handler(exchange):
        await trio.sleep_forever()

    async with court(Kind("", over="http"), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(get("/slow?key=SECRET"))
        await wait_all_tasks_blocked()
        reset(it.client)
        await trio.sleep(5)
        await it.settled()
        it.is_the_peers("reset")


async def test_what_a_handler_raises_while_its_client_goes_is_told(caplog, tls, tmp_path, autojump_clock):
    """The client has gone, so the handler is cancelled: one of its tasks fails over that, the others are cancelled."""

    async def stumble():
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("mine")

    async def handler(exchange):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stumble)
            nursery.start_soon(trio.sleep_forever)

    told = []
    async with court(Kind("", over="http"), handler, caplog, tls, tmp_path, on_error=lambda *a: told.append(a)) as it:
        await it.client.send_all(GET)
        await wait_all_tasks_blocked()
        reset(it.client)
        await trio.sleep(5)
        await it.settled()
        [(_, result)] = told
        assert isinstance(result.error, RuntimeError)
        assert it.server.statistics().failed == 1


async def test_a_client_that_is_slow_to_ask_is_answered_and_one_line(caplog, tls, tmp_path, autojump_clock):
    async with court(Kind("", over="http"), waits, caplog, tls, tmp_path) as it:
        await it.client.send_all(b"GET / HTTP/1.1\r\nHo")
        assert (await read_answer(it.client)).status == 408
        await trio.sleep(5)
        await it.settled()
        it.is_the_peers("silent")


async def test_a_handler_can_say_that_its_client_was_too_slow(caplog, tls, tmp_path, autojump_clock):
    async def impatient(handle):
        with trio.move_on_after(9):
            await handle.read()
        raise trionet.RemoteProtocolError("no body within 9 s", status_hint=408).with_handle(of(handle))

    async with court(Kind("", over="http"), impatient, caplog, tls, tmp_path) as it:
        await it.client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        assert (await read_answer(it.client)).status == 408
        await trio.sleep(5)
        await it.settled()
        it.is_the_peers("silent")


async def test_a_connection_that_only_waits_too_long_is_no_news(caplog, tls, tmp_path, autojump_clock):
    limits = trionet.HTTPLimits(idle_timeout=3)
    async with court(Kind("", over="http"), waits, caplog, tls, tmp_path, http_limits=limits) as it:
        assert await it.client.receive_some() == b""
        await trio.sleep(5)
        await it.settled()
        it.is_nobodys()


async def test_a_connection_that_no_server_serves_is_judged_alike(caplog):
    caplog.set_level(logging.INFO, logger="trionet.server")

    async def handler(exchange):
        if exchange.path == "/fail":
            raise RuntimeError("mine")
        await exchange.read()

    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        scope.start_soon(trionet.http_handler(handler), ours)
        await theirs.send_all(get("/fail"))
        assert (await read_answer(theirs)).status == 500
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        caplog.clear()
        await theirs.send_all(POST)
        await wait_all_tasks_blocked()
        reset(theirs)
        await wait_all_tasks_blocked()
        assert [record.levelname for record in caplog.records] == ["INFO"]


# --- without an answer --------------------------------------------------------------------------------------------


async def returns_bytes(exchange):
    return b"hello"


async def forgets_an_await(exchange):
    return later()


class later:
    """Stands for the coroutine of `exchange.respond(...)`, which would complain that nobody has awaited it."""

    def __await__(self):
        raise NotImplementedError


async def forgets_a_branch(exchange):
    if exchange.method == "PUT":
        await exchange.respond(200)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (returns_bytes, "returns_bytes returned b'hello'"),
        (forgets_an_await, "is there an await missing?"),
        (forgets_a_branch, "forgets_a_branch returned None"),
    ],
)
async def test_a_handler_that_returns_without_an_answer_is_an_error(handler, words, caplog, tls, tmp_path):
    caplog.set_level(logging.INFO, logger="trionet.server")
    told: list[Any] = []
    for hook in (None, lambda *what: told.append(what)):
        told.clear()
        caplog.clear()
        async with trionet.open_scope() as scope:
            server = await scope.start(lambda hook=hook, **kw: trionet.serve_http(handler, 0, on_error=hook, **kw))
            client = await scope.connect_tcp("localhost", server.port)
            await client.send_all(get("/path?token=SECRET"))
            assert (await read_answer(client)).status == 500
            assert server.statistics().failed == 1
            if hook is None:
                [record] = caplog.records
                text = record.getMessage()
                assert record.levelno == logging.ERROR
            else:
                [(exchange, result)] = told
                text = str(result.error)
                assert exchange.path == "/path"
                assert isinstance(result.error, trionet.LocalProtocolError)
                assert not caplog.records
            assert words in text
            assert "GET '/path'" in text
            assert "SECRET" not in text
            scope.cancel()


async def test_a_loop_that_goes_on_without_an_answer_is_an_error_too(caplog, tls, tmp_path):
    async with court(Kind("", over="loop"), forgets_a_branch, caplog, tls, tmp_path) as it:
        await it.client.send_all(GET)
        assert (await read_answer(it.client)).status == 500
        it.is_the_programs(trionet.LocalProtocolError)


async def leaves_its_stream(exchange):
    stream = await exchange.stream(200).__aenter__()
    await stream.send(b"begun")


@pytest.mark.parametrize("over", ["http", "loop"])
async def test_a_handler_that_leaves_its_answer_unfinished_is_an_error_too(over, caplog, tls, tmp_path):
    async with court(Kind("", over=over), leaves_its_stream, caplog, tls, tmp_path) as it:
        await it.client.send_all(GET)
        assert (await receive_all(it.client)).endswith(b"begun\r\n")  # the chunk that ends a body is missing
        it.is_the_programs(trionet.LocalProtocolError)
        assert "unfinished: the end of the block async with exchange.stream(...) completes it" in caplog.text


@pytest.mark.parametrize("over", ["http", "loop"])
async def test_who_leaves_its_answer_unfinished_as_nobody_reads_it_has_not_failed(over, caplog, tls, tmp_path):
    async def handler(exchange):
        stream = await exchange.stream(200).__aenter__()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send(b"more")

    async with court(Kind("", over=over), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(GET)
        assert await it.client.receive_some()
        reset(it.client)
        await it.over()
        assert it.server.statistics().failed == 0
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_error_without_words_is_named(caplog):
    async def handler(exchange):
        with trio.fail_after(0):
            await trio.sleep(1)

    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        scope.start_soon(trionet.http_handler(handler), ours)
        await theirs.send_all(GET)
        assert (await read_answer(theirs)).status == 500
        [record] = caplog.records
        assert record.getMessage().endswith(" failed: TooSlowError")
        scope.cancel()


async def test_a_handler_that_aborts_has_decided_so(caplog, tls, tmp_path):
    async def handler(exchange):
        exchange.connection.abort()

    async with court(Kind("", over="http"), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(GET)
        await it.over()
        it.is_nobodys()


@pytest.mark.parametrize("data", [POST.replace(b"Content-Length: 9", b"Transfer-Encoding: chunked") + b"\r\n"])
async def test_who_catches_the_clients_error_and_returns_has_not_failed(data, caplog, tls, tmp_path):
    async def handler(exchange):
        with contextlib.suppress(trio.BrokenResourceError):
            await exchange.read()

    async with court(Kind("", over="http"), handler, caplog, tls, tmp_path) as it:
        await it.client.send_all(data)
        assert (await read_answer(it.client)).status == 400
        assert it.server.statistics().failed == 0
