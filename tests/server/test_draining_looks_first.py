"""A drain looks first: what has reached this machine before it began is answered, not reset.

The clients here speak in one step (`say`), so nothing of the server has run between their words and the drain.
"""

import contextlib
import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HTTPLimits, Limits, Reason
from trionet.custody import leaving
from trionet.server.accepting import Accepting

from ..helpers.http_served import GET, POST, read_answer
from ..helpers.pairs import SOCKET_PAIRS, receive_all, tcp_sockets
from ..helpers.websockets_by_hand import REQUEST, close, receive_frame, server_by_hand, text

KINDS = ["tcp", "unix", "tls"]


def say(client, data):
    """Send in one step: nobody else runs meanwhile."""
    assert client._transport.send_some(data) == len(data)


class Serving:
    """A server of each kind, and clients that are connected to it."""

    def __init__(self, kind, scope, nursery, path, server_context, client_context):
        self.kind, self.scope, self.nursery, self.path = kind, scope, nursery, str(path)
        self.server_context, self.client_context = server_context, client_context

    async def start(self, handler, **options):
        async def run(task_status):
            if self.kind == "unix":
                await trionet.serve_unix(handler, self.path, task_status=task_status, **options)
            elif self.kind == "tls":
                context = self.server_context
                await trionet.serve_tcp(
                    handler, 0, host="127.0.0.1", ssl_context=context, task_status=task_status, **options
                )
            else:
                await trionet.serve_tcp(handler, 0, host="127.0.0.1", task_status=task_status, **options)

        self.server = await self.nursery.start(run)
        return self.server

    async def connect(self):
        """A client whose handler waits for input."""
        if self.kind == "unix":
            client = await self.scope.connect_unix(self.path)
        else:
            client = await self.scope.connect_tcp("127.0.0.1", self.server.port)
        if self.kind == "tls":
            client = await client.upgrade(trionet.to_tls_client("localhost", ssl_context=self.client_context))
        await wait_all_tasks_blocked()
        return client

    def knock(self):
        """A client that waits in the backlog: the server has not run since it came."""
        if self.kind == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.path)
            return self.scope.adopt(sock)
        return self.scope.adopt(socket.create_connection(("127.0.0.1", self.server.port)))


@pytest.fixture(params=KINDS)
async def serving(request, nursery, tmp_path, server_context, client_context):
    async with trionet.open_scope(drain_timeout=0) as scope:
        yield Serving(request.param, scope, nursery, tmp_path / "s", server_context, client_context)


@pytest.fixture
async def plain(nursery, tmp_path):
    async with trionet.open_scope(drain_timeout=0) as scope:
        yield Serving("tcp", scope, nursery, tmp_path / "s", None, None)


async def lines(connection):
    """A line protocol: each line is answered."""
    while True:
        line = await connection.receive_until(b"\n", max_bytes=100)
        await connection.send_all(b"you said " + line)


async def greet(exchange):
    body = await exchange.read()
    await exchange.respond(200, exchange.target.encode() + body)


def get(target):
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target


# --- byte streams -------------------------------------------------------------------------------------------------


async def test_what_has_arrived_for_a_waiting_reader_is_delivered_and_can_be_answered(serving):
    ends = []

    async def handler(connection):
        await connection.send_all(b"you said " + await connection.receive_some())
        with pytest.raises(trionet.HandleClosedError):
            await connection.receive_some()
        ends.append(connection)

    server = await serving.start(handler)
    client = await serving.connect()
    say(client, b"hello")
    report = await server.drain(30)
    assert report.clean, report
    assert await receive_all(client) == b"you said hello"
    assert (await ends[0].wait_ended()).reason is Reason.LOCAL


async def test_what_arrives_while_a_handler_is_busy_is_delivered_once(serving):
    proceed = trio.Event()
    received = []

    async def handler(connection):
        await proceed.wait()
        received.append(await connection.receive_some())
        say(client, b"more")
        with pytest.raises(trionet.HandleClosedError):
            await connection.receive_some()

    server = await serving.start(handler)
    client = await serving.connect()
    say(client, b"hello")
    serving.nursery.start_soon(wait_and_set, proceed)
    report = await server.drain(30)
    assert received == [b"hello"]
    assert report.forced == ()
    if serving.kind != "tls":  # which reads what comes until the peer has said goodbye
        assert [lost.unread for lost in report.lost] == [4]
        assert not report.clean
        assert "4 bytes had arrived" in str(report)


async def wait_and_set(event):
    await wait_all_tasks_blocked()
    event.set()


async def test_whole_lines_that_have_arrived_are_answered_and_half_a_line_stays(serving):
    rest = []

    async def handler(connection):
        with pytest.raises(trionet.HandleClosedError, match="waits for no more input"):
            await lines(connection)
        rest.append(await connection.receive_some())

    server = await serving.start(handler)
    client = await serving.connect()
    say(client, b"a\nb\nhal")
    assert (await server.drain(30)).clean
    assert await receive_all(client) == b"you said a\nyou said b\n"
    assert rest == [b"hal"]


@pytest.mark.parametrize("call", ["peek", "receive_exactly"])
async def test_kin_of_receive_until_keep_what_has_arrived(plain, call):
    rest = []

    async def handler(connection):
        with pytest.raises(trionet.HandleClosedError):
            await getattr(connection, call)(10)
        rest.append(await connection.receive_some())

    server = await plain.start(handler)
    client = await plain.connect()
    say(client, b"half")
    assert (await server.drain(30)).clean
    assert rest == [b"half"]


@pytest.mark.parametrize("make_pair", SOCKET_PAIRS.values(), ids=list(SOCKET_PAIRS))
async def test_a_close_from_another_task_leaves_a_waiting_reader_what_has_arrived(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        received = []

        @scope.start_soon
        async def read():
            received.append(await one.receive_some())
            with pytest.raises(trionet.HandleClosedError):
                await one.receive_some()

        await wait_all_tasks_blocked()
        say(other, b"last words")
        await one.aclose()
        assert received == [b"last words"]
        assert one.end.reason is Reason.LOCAL


async def test_half_a_record_that_has_arrived_is_nothing(nursery, server_context, client_context, tmp_path):
    """The reader is told to end when half a TLS record is there: it is not waited for."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        serving = Serving("tls", scope, nursery, tmp_path, server_context, client_context)
        server = await serving.start(lines)
        client = await serving.connect()
        transport = client._transport
        transport.engine.ssl_object.write(b"hello\n")
        record = transport.engine.outgoing.read()
        transport._sender._lower_send(record[:-5])
        assert (await server.drain(30)).clean


async def test_a_stream_that_cannot_be_asked_is_not_waited_for():
    async with trionet.open_scope() as scope:
        near, _far = trio.testing.memory_stream_pair()
        one = scope.adopt(near)
        one._retire()
        with pytest.raises(trionet.HandleClosedError):
            await one.receive_some()
        assert (await one.wait_ended()).reason is Reason.LOCAL


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_drain_goes_on_through_detach_and_adopt(when):
    """The connection gets another handle while its server drains: that ends as the first would have."""
    async with trionet.open_scope() as scope:
        one, other = SOCKET_PAIRS["tcp"](scope)
        if when == "before":
            one._retire()
            capsule = one.detach()
        else:
            capsule = one.detach()
            leaving.retire(scope._owner, 0.0)
        say(other, b"hello")
        again = scope.adopt(capsule)
        assert await again.receive_some() == b"hello"
        with pytest.raises(trionet.HandleClosedError):
            await again.receive_some()
        assert (await again.wait_ended()).reason is Reason.LOCAL


async def test_a_reader_is_let_go_while_another_task_waits_to_detach():
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:
        one, _other = SOCKET_PAIRS["tcp"](scope)

        @nursery.start_soon
        async def read():
            with pytest.raises(trionet.HandleClosedError):
                await one.receive_some()

        await wait_all_tasks_blocked()

        @nursery.start_soon
        async def detach():
            await one.detach_when_idle()

        await wait_all_tasks_blocked()
        one._retire()
        assert (await one.wait_ended()).reason is Reason.DETACHED


# --- HTTP -----------------------------------------------------------------------------------------------------------


async def drained(server, *clients, timeout=30, **options):
    """The report of a drain, and the answers that the clients have got by then."""
    report = await server.drain(timeout, **options)
    answers = []
    for client in clients:
        answers.append(await read_answer(client))
        assert await receive_all(client) == b""
    return report, answers


async def test_the_first_request_of_a_connection_that_has_arrived_is_answered(serving, autojump_clock):
    server = await serving.start(trionet.http_handler(greet))
    client = await serving.connect()
    say(client, get(b"/one"))
    report, (answer,) = await drained(server, client)
    assert (answer.body, answer.fields["connection"]) == (b"/one", "close")
    assert report.clean
    assert report.drained == 1


async def test_the_second_request_on_a_kept_connection_is_answered(serving, autojump_clock):
    server = await serving.start(trionet.http_handler(greet))
    client = await serving.connect()
    await client.send_all(get(b"/one"))
    assert (await read_answer(client)).fields.get("connection") is None
    await wait_all_tasks_blocked()
    say(client, get(b"/two"))
    report, (answer,) = await drained(server, client)
    assert (answer.body, answer.fields["connection"]) == (b"/two", "close")
    assert report.clean


async def test_a_request_of_which_half_the_head_has_arrived_is_answered(serving, autojump_clock):
    server = await serving.start(trionet.http_handler(greet))
    client = await serving.connect()
    say(client, (POST % 3)[:20])

    @serving.nursery.start_soon
    async def go_on():
        await trio.sleep(10)  # longer than any grace, and less than head_timeout
        await client.send_all((POST % 3)[20:] + b"abc")

    report, (answer,) = await drained(server, client)
    assert (answer.body, answer.fields["connection"]) == (b"/abc", "close")
    assert report.clean


async def test_half_a_head_that_is_never_completed_is_not_waited_for_longer_than_its_time(plain, autojump_clock):
    server = await plain.start(trionet.http_handler(greet, limits=HTTPLimits(head_timeout=3)))
    client = await plain.connect()
    say(client, GET[:20])
    report, (answer,) = await drained(server, client)
    assert answer.status == 408
    assert report.forced == ()
    assert 3 <= report.seconds < 4


async def test_half_a_head_does_not_hold_up_a_drain_beyond_its_deadline(plain, autojump_clock):
    server = await plain.start(trionet.http_handler(greet))
    client = await plain.connect()
    say(client, GET[:20])
    report = await server.drain(5)
    assert report.seconds == pytest.approx(5)
    assert len(report.forced) == 1
    assert [lost.unread for lost in report.lost] == [20]


async def test_pipelined_requests_that_have_arrived_are_all_answered_and_the_last_says_close(serving, autojump_clock):
    """Some came before the first was begun, others while it was answered: none was reset, nor told that it was."""
    begun, proceed = trio.Event(), trio.Event()

    async def handler(exchange):
        begun.set()
        await proceed.wait()
        await greet(exchange)

    server = await serving.start(trionet.http_handler(handler))
    client = await serving.connect()
    await client.send_all(get(b"/1") + get(b"/2"))
    await begun.wait()
    say(client, get(b"/3") + get(b"/4"))
    serving.nursery.start_soon(wait_and_set, proceed)
    report = await server.drain(30)
    answers = [await read_answer(client) for _ in range(4)]
    assert await receive_all(client) == b""
    assert [answer.body for answer in answers] == [b"/1", b"/2", b"/3", b"/4"]
    assert [answer.fields.get("connection") for answer in answers] == [None, None, None, "close"]
    assert report.clean


async def test_an_answer_under_way_says_close_where_nothing_has_come_behind(plain, autojump_clock):
    begun, proceed = trio.Event(), trio.Event()

    async def handler(exchange):
        begun.set()
        await proceed.wait()
        await greet(exchange)

    server = await plain.start(trionet.http_handler(handler))
    client = await plain.connect()
    say(client, POST % 3 + b"abc")
    await begun.wait()
    plain.nursery.start_soon(wait_and_set, proceed)
    report, (answer,) = await drained(server, client)
    assert (answer.body, answer.fields["connection"]) == (b"/abc", "close")
    assert report.clean


async def test_a_client_that_sends_within_the_grace_is_answered(serving, autojump_clock):
    """It could not know of the drain: its request and the end of the connection cross on the way."""
    server = await serving.start(trionet.http_handler(greet))
    early, late = await serving.connect(), await serving.connect()
    await early.send_all(GET)
    await read_answer(early)

    @serving.nursery.start_soon
    async def go_on():
        await trio.sleep(0.9)
        await early.send_all(get(b"/again"))
        await receive_all(late)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await late.aclose()

    report, (answer,) = await drained(server, early)
    assert (answer.body, answer.fields["connection"]) == (b"/again", "close")
    assert report.clean
    assert 1 <= report.seconds <= 2  # over TLS the goodbye is waited for


@pytest.mark.parametrize(
    ("timeout", "options", "limits", "seconds"),
    [
        (30, {}, Limits(), 1),
        (30, {}, Limits(idle_grace=3), 3),
        (30, {"idle_grace": 4}, Limits(idle_grace=3), 4),
        (30, {"idle_grace": 0}, Limits(), 0),
        (1, {}, Limits(), 0.5),
        (0.5, {"idle_grace": float("inf")}, Limits(), 0.25),
    ],
)
async def test_an_idle_connection_is_let_go_at_the_end_of_the_grace(
    plain, autojump_clock, timeout, options, limits, seconds
):
    server = await plain.start(trionet.http_handler(greet), limits=limits)
    client = await plain.connect()
    report = await server.drain(timeout, **options)
    assert report.seconds == pytest.approx(seconds)
    assert report.clean
    assert report.drained == 1
    assert await receive_all(client) == b""


async def test_an_answer_that_ends_late_leaves_its_client_the_grace_too(plain, autojump_clock):
    """Its head promised to keep the connection before the drain began."""

    async def handler(exchange):
        if exchange.target == "/":
            async with exchange.stream(200) as stream:
                await stream.send(b"long")
                await trio.sleep(10)
        else:
            await greet(exchange)

    server = await plain.start(trionet.http_handler(handler))
    client = await plain.connect()
    await client.send_all(GET)
    await wait_all_tasks_blocked()
    answers = []

    @plain.nursery.start_soon
    async def go_on():
        answers.append(await read_answer(client))
        await trio.sleep(0.5)
        await client.send_all(get(b"/next"))
        answers.append(await read_answer(client))

    report = await server.drain(30)
    await wait_all_tasks_blocked()
    assert [answer.body for answer in answers] == [b"long", b"/next"]
    assert answers[1].fields["connection"] == "close"
    assert report.clean


async def test_a_scope_that_is_left_has_no_grace(autojump_clock):
    """It is the server's drain that waits for a next request; what reads in a scope that ends does not."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        async with trionet.open_scope() as scope:
            one, other = SOCKET_PAIRS["tcp"](scope)
            http = await one.upgrade(trionet.to_http_server())

            @nursery.start_soon
            async def loop():
                async for _exchange in http:
                    raise AssertionError("nobody has sent a request")

            await wait_all_tasks_blocked()
        assert await receive_all_or_closed(other) is None
    assert trio.current_time() == began


async def receive_all_or_closed(connection):
    with contextlib.suppress(trio.ClosedResourceError):
        await receive_all(connection)


@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
@pytest.mark.parametrize("how", ["aclose", "scope"])
async def test_a_request_that_has_arrived_when_its_connection_is_closed_is_answered(how, half):
    """Another task closes the connection, or leaves its scope, while the loop waits: the loop gets it first."""
    async with trionet.open_scope() as clients, trio.open_nursery() as nursery:
        async with trionet.open_scope() as scope:
            one, two = tcp_sockets()
            client = clients.adopt(two)
            http = await scope.adopt(one).upgrade(trionet.to_http_server())

            @nursery.start_soon
            async def loop():
                async for exchange in http:
                    await greet(exchange)

            await wait_all_tasks_blocked()
            say(client, (POST % 3)[:10] if half else POST % 3 + b"abc")
            if half:
                nursery.start_soon(say_later, client, (POST % 3)[10:] + b"abc")
            if how == "aclose":
                await http.aclose()
        answer = await read_answer(client)
        assert answer.body == b"/abc"
        if how == "aclose":  # the tasks of a scope's end may let the loop answer before the connection is told
            assert answer.fields["connection"] == "close"
        with contextlib.suppress(trio.BrokenResourceError):
            assert await receive_all(client) == b""
        assert http.end.reason is Reason.LOCAL


async def say_later(client, data):
    await wait_all_tasks_blocked()
    say(client, data)


# --- the backlog ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(), Limits(max_connections=1)], ids=["", "above max_connections"])
async def test_requests_in_the_backlog_are_answered(nursery, tmp_path, autojump_clock, limits):
    for kind in ("tcp", "unix"):
        async with trionet.open_scope(drain_timeout=0) as scope:
            serving = Serving(kind, scope, nursery, tmp_path / "s", None, None)
            server = await serving.start(trionet.http_handler(greet), limits=limits)
            first = await serving.connect()
            others = [serving.knock() for _ in range(100)]
            for client in (first, *others):
                say(client, GET)
            report, answers = await drained(server, first, *others)
            assert {answer.status for answer in answers} == {200}
            assert {answer.fields["connection"] for answer in answers} == {"close"}
            assert report.clean
            assert report.drained == 101


async def test_an_answer_to_the_backlog_says_close_also_while_others_are_accepted(
    nursery, tmp_path, autojump_clock, monkeypatch
):
    """One at a time, so that handlers have their turns, and answer, before the drain has told all that have come."""
    monkeypatch.setattr("trionet.server.accepting._BATCH", 1)
    monkeypatch.setattr("trionet.custody.caretaker.SLICE", 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        serving = Serving("tcp", scope, nursery, tmp_path / "s", None, None)
        server = await serving.start(trionet.http_handler(greet))
        clients = [serving.knock() for _ in range(50)]
        for client in clients:
            say(client, GET)
        _, answers = await drained(server, *clients)
        assert [answer.fields.get("connection") for answer in answers] == ["close"] * 50


async def test_bytes_in_the_backlog_are_delivered(plain):
    server = await plain.start(lines)
    client = plain.knock()
    say(client, b"hello\n")
    report = await server.drain(30)
    assert await receive_all(client) == b"you said hello\n"
    assert report.clean


async def test_tls_clients_in_the_backlog_are_served(nursery, tmp_path, server_context, client_context):
    async with trionet.open_scope(drain_timeout=0) as scope:
        serving = Serving("tls", scope, nursery, tmp_path, server_context, client_context)
        server = await serving.start(trionet.http_handler(greet))
        raw = serving.knock()
        bodies = []

        @nursery.start_soon
        async def talk():
            client = await raw.upgrade(trionet.to_tls_client("localhost", ssl_context=client_context))
            await client.send_all(get(b"/tls"))
            bodies.append((await read_answer(client)).body)
            await client.aclose()

        report = await server.drain(30)
        assert report.clean
        await wait_all_tasks_blocked()
        assert bodies == [b"/tls"]


async def test_no_more_are_accepted_than_the_backlog_holds(plain):
    server = await plain.start(lines, backlog=3)
    accepted = []
    accept = server.listeners[0].accept

    class Endless(socket.socket):
        """A client connects whenever one is accepted."""

        def accept(self):
            client = plain.knock()
            say(client, b"x\n")
            accepted.append(client)
            return accept()

    endless = Endless(fileno=server.listeners[0].detach())
    accept = super(Endless, endless).accept
    server.listeners = server._accepting.listeners = (endless,)
    await server.drain(30)
    assert len(accepted) == 3


async def test_who_waits_on_a_listener_of_others_is_left_to_them(nursery):
    """Two processes share a listener, here as two descriptors of it: the one that drains takes nobody away."""
    with socket.create_server(("127.0.0.1", 0)) as listener, trionet_clients() as connect:
        port = listener.getsockname()[1]
        copy = listener.dup()

        async def run(task_status):
            await trionet.serve(lines, [copy], inherited=True, task_status=task_status)

        server = await nursery.start(run)
        client = connect(port)
        assert (await server.drain(30)).drained == 0
        sock, _ = listener.accept()
        with sock:
            client.sendall(b"hello")
            assert sock.recv(10) == b"hello"


@contextlib.contextmanager
def trionet_clients():
    with contextlib.ExitStack() as stack:
        yield lambda port: stack.enter_context(socket.create_connection(("127.0.0.1", port)))


async def test_inherited_is_yes_or_no():
    with pytest.raises(TypeError, match="inherited must be True or False, not 'no'"):
        await trionet.serve(lines, [], inherited="no")


async def test_the_socket_file_is_gone_before_the_backlog_is_accepted(nursery, tmp_path, monkeypatch):
    """Who comes later finds no server, instead of one that will reset it."""
    seen = []
    accept_batch = Accepting._batch

    def look_and_accept(*args, **options):
        seen.append((tmp_path / "s").exists())
        return accept_batch(*args, **options)

    async with trionet.open_scope(drain_timeout=0) as scope:
        serving = Serving("unix", scope, nursery, tmp_path / "s", None, None)
        server = await serving.start(lines)
        serving.knock()
        monkeypatch.setattr(Accepting, "_batch", look_and_accept)
        await server.drain(30)
    assert seen
    assert not any(seen)


async def test_what_a_client_sends_behind_the_last_response_is_not_lost(plain):
    """It was told that nothing more is answered. The flood outlasts what is dropped of it before the close."""
    proceed = trio.Event()

    async def handler(exchange):
        await proceed.wait()
        await exchange.respond(200, b"the last")

    server = await plain.start(trionet.http_handler(handler))
    client = await plain.connect()
    say(client, GET)
    await wait_all_tasks_blocked()
    plain.nursery.start_soon(wait_and_set, proceed)
    plain.nursery.start_soon(flood, client, proceed)
    report = await server.drain(30)
    assert report.clean, report


async def flood(client, begin):
    await begin.wait()
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await client.send_all(GET * 10_000)


async def test_a_drain_without_time_waits_for_none_of_this(plain):
    server = await plain.start(trionet.http_handler(greet))
    # Cut off first is what came first: a drain may take a breath behind it, in which the next request would be read.
    asking, idle = await plain.connect(), await plain.connect()
    waiting = plain.knock()
    for client in (asking, waiting):
        say(client, GET)
    report = await server.drain(0)
    assert report.seconds < 0.5
    assert server.statistics().accepted == 2
    assert len(report.forced) == 2
    assert sum(lost.unread for lost in report.lost) == len(GET)
    for client in (idle, asking, waiting):
        with contextlib.suppress(trio.BrokenResourceError):
            assert await receive_all(client) == b""


@pytest.mark.parametrize(
    ("grace", "error", "message"),
    [
        (-1, ValueError, "idle_grace must be at least 0 seconds.*-1"),
        (float("nan"), ValueError, "idle_grace must be at least 0 seconds.*nan"),
        (True, TypeError, "idle_grace must be a number of seconds.*True"),
        ("1", TypeError, "idle_grace must be a number of seconds.*'1'"),
    ],
)
async def test_a_grace_is_checked(plain, grace, error, message):
    server = await plain.start(lines)
    with pytest.raises(error, match=message):
        await server.drain(5, idle_grace=grace)
    with pytest.raises(error, match=message):
        Limits(idle_grace=grace)
    assert server.addresses  # nothing has happened


# --- WebSocket --------------------------------------------------------------------------------------------------------


async def test_messages_that_have_arrived_are_delivered_and_can_be_answered():
    async with trionet.open_scope() as scope:
        one, other = SOCKET_PAIRS["tcp"](scope)
        server = await server_by_hand(one, other)
        received = []

        @scope.start_soon
        async def loop():
            async for message in server:
                received.append(message)
                await server.send_message(message.upper())
            received.append("over")

        await wait_all_tasks_blocked()
        say(other, text("a") + text("b") + text("c")[:-1])
        server._retire(1.0)
        assert await receive_frame(other) == (0x81, b"A")
        assert await receive_frame(other) == (0x81, b"B")
        assert await receive_frame(other) == (0x88, b"\x03\xe9")
        await other.send_all(text("c")[-1:] + close(1001))
        await wait_all_tasks_blocked()
        assert received == ["a", "b", "over"]


async def test_messages_that_came_while_the_handler_was_busy_are_delivered(autojump_clock):
    """Some were taken with the one before, others are in the socket; a slow handler gets them behind the close too."""
    async with trionet.open_scope() as scope:
        one, other = SOCKET_PAIRS["tcp"](scope)
        server = await server_by_hand(one, other)
        received = []

        @scope.start_soon
        async def loop():
            async for message in server:
                received.append(message)
                await trio.sleep(10)
            received.append("over")

        say(other, text("a") + text("b"))
        await wait_all_tasks_blocked()
        say(other, text("c"))
        server._retire(1.0)
        assert await receive_frame(other) == (0x88, b"\x03\xe9")  # at the end of the grace
        assert received == ["a"]
        await other.send_all(close(1001))
        await trio.sleep(40)
        assert received == ["a", "b", "c", "over"]


async def test_messages_that_came_before_can_be_answered_within_the_grace(autojump_clock):
    """The close frame leaves behind the last answer, not before the first one of a handler that takes its time."""
    async with trionet.open_scope() as scope:
        one, other = SOCKET_PAIRS["tcp"](scope)
        server = await server_by_hand(one, other)

        @scope.start_soon
        async def loop():
            async for message in server:
                await trio.sleep(0.8)
                await server.send_message(message)

        say(other, text("a") + text("b") + text("c"))
        await wait_all_tasks_blocked()
        server._retire(3.0)
        for message in (b"a", b"b", b"c"):
            assert await receive_frame(other) == (0x81, message)
        assert await receive_frame(other) == (0x88, b"\x03\xe9")
        assert trio.current_time() < 3.0
        await other.send_all(close(1001))


async def test_a_websocket_for_which_nothing_has_arrived_is_closed_at_once():
    async with trionet.open_scope() as scope:
        server = await server_by_hand(*SOCKET_PAIRS["unix"](scope))
        server._retire(1.0)
        assert server.closed.code == 1001
        scope.cancel()


async def test_the_first_message_behind_the_handshake_is_delivered(plain, autojump_clock):
    received = []

    async def handler(exchange):
        ws = await exchange.upgrade(trionet.to_websocket_server())
        async for message in ws:
            received.append(message)
            await ws.send_message("got it")

    server = await plain.start(trionet.http_handler(handler))
    client = await plain.connect()
    say(client, REQUEST + text("early"))

    @plain.nursery.start_soon
    async def go_on():
        await client.receive_until(b"\r\n\r\n", max_bytes=1000)
        assert await receive_frame(client) == (0x81, b"got it")
        assert await receive_frame(client) == (0x88, b"\x03\xe9")
        await client.send_all(close(1001))

    assert (await server.drain(30)).clean
    assert received == ["early"]


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "reason"), [(2, Reason.SCOPE_CANCELLED), (10, Reason.DRAIN_TIMEOUT)], ids=["the drain's", "its own"]
)
async def test_a_websocket_that_does_not_answer_the_close_is_reported_once(plain, autojump_clock, timeout, reason):
    """Its handler has returned, and its scope waits for the close, when a deadline comes."""

    async def handler(exchange):
        ws = await exchange.upgrade(trionet.to_websocket_server())
        async for _message in ws:
            pass

    server = await plain.start(trionet.http_handler(handler), limits=Limits(drain_timeout=5))
    client = await plain.connect()
    await client.send_all(REQUEST)
    await client.receive_until(b"\r\n\r\n", max_bytes=1000)
    report = await server.drain(timeout)
    assert [entry.reason for entry in report.forced] == [reason]
    assert report.drained == 0


async def test_a_tls_client_that_says_no_goodbye_is_reported_once_at_most(serving, autojump_clock):
    """The same for other goodbyes: the connection's scope is being left when the drain's deadline comes."""

    async def handler(connection):
        with contextlib.suppress(trionet.HandleClosedError):
            await connection.receive_some()
        await connection.aclose()

    server = await serving.start(handler)
    client = await serving.connect()
    report = await server.drain(0.5)
    assert len(report.forced) == (1 if serving.kind == "tls" else 0)
    assert report.drained + len(report.forced) == 1
    client.abort()
