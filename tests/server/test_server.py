"""Serving: one scope per connection, failures that end nothing else, draining, and accept errors."""

import errno
import itertools
import logging
import math
import os
import resource
import signal
import socket
import ssl
import stat

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.custody import leaving
from trionet.server import draining

from ..helpers.pairs import open_descriptors, receive_all, tcp_sockets


async def echo(connection):
    while data := await connection.receive_some():
        await connection.send_all(data)


@pytest.fixture
def serving(nursery):
    """Start a server on a loopback port: ``await serving(handler, **options)`` gives the `Server`."""

    async def start(handler, *, port=0, host="127.0.0.1", **options):
        async def run(task_status):
            await trionet.serve_tcp(handler, port, host=host, task_status=task_status, **options)

        return await nursery.start(run)

    return start


async def dial(scope, server):
    return await scope.connect_tcp("127.0.0.1", server.port)


async def test_every_connection_has_its_own_scope_and_task(serving, nursery):
    seen = []

    async def handler(connection):
        seen.append(connection)
        connection.scope.start_soon(echo, connection)

    server = await serving(handler)
    async with trionet.open_scope() as scope:
        clients = [await dial(scope, server) for _ in range(3)]
        for number, client in enumerate(clients):
            await client.send_all(b"%d" % number)
            assert await client.receive_some() == b"%d" % number
        assert len({connection.scope for connection in seen}) == 3
        assert {connection.scope for connection in seen} == set(server.connections)
        assert all(connection.scope.parent is server.scope for connection in seen)
        assert server.statistics().open == 3
    nursery.cancel_scope.cancel()


async def test_a_handler_that_returns_closes_its_connection(serving, nursery):
    async def handler(connection):
        await connection.send_all(b"bye")

    server = await serving(handler)
    async with trionet.open_scope() as scope:
        assert await receive_all(await dial(scope, server)) == b"bye"
    await wait_all_tasks_blocked()
    assert server.statistics().open == 0
    assert server.connections == ()
    nursery.cancel_scope.cancel()


async def test_a_failing_handler_ends_no_other(serving, nursery, caplog):
    ends = []

    async def handler(connection):
        try:
            if await connection.receive_some() == b"fail":
                raise ZeroDivisionError("handler's own fault")
            await echo(connection)
        finally:
            ends.append(connection)

    server = await serving(handler)
    async with trionet.open_scope() as scope:
        good, bad = await dial(scope, server), await dial(scope, server)
        await good.send_all(b"good")
        await bad.send_all(b"fail")
        assert await receive_all(bad) == b""
        await wait_all_tasks_blocked()
        assert ends[0].end.reason is Reason.ABORTED
        await good.send_all(b"unharmed")
        assert await good.receive_some() == b"unharmed"
        await (third := await dial(scope, server)).send_all(b"x")
        assert third.phase is Phase.OPEN
        assert server.statistics().failed == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info[0] is ZeroDivisionError  # the error itself, not a group around it
    nursery.cancel_scope.cancel()


async def test_a_failing_child_of_a_connection_ends_only_that_connection(serving, nursery, caplog):
    async def handler(connection):
        @connection.scope.start_soon
        async def child():
            await connection.receive_some()
            raise ZeroDivisionError

        await trio.sleep_forever()

    server = await serving(handler)
    async with trionet.open_scope() as scope:
        one, two = await dial(scope, server), await dial(scope, server)
        await one.send_all(b"x")
        assert await receive_all(one) == b""
        assert server.statistics().open == 1
        await two.send_all(b"x")
        assert await receive_all(two) == b""
    nursery.cancel_scope.cancel()


async def test_cancelling_the_server_closes_everything(nursery):
    before = open_descriptors()
    async with trionet.open_scope() as scope:
        async with trio.open_nursery() as inner:
            server = await inner.start(trionet.serve_tcp, echo, 0)
            client = await scope.connect_tcp("localhost", server.port)
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
            inner.cancel_scope.cancel()
        assert await receive_all(client) == b""
        assert server.addresses == ()
        with pytest.raises(ValueError, match="no TCP port"):
            _ = server.port
        with pytest.raises(OSError, match="cannot connect"):
            await scope.connect_tcp("127.0.0.1", int(client.remote_address[1]))
    assert open_descriptors() == before


# --- drain --------------------------------------------------------------------------------------------------------


async def test_drain_lets_answers_finish_and_waits_for_no_input(nursery, caplog):
    """One handler waits for input, one works on its answer and will then wait for input: neither holds up the drain."""
    caplog.set_level(logging.INFO)
    may_answer = trio.Event()

    async def handler(connection):
        while line := await connection.receive_until(b"\n", max_bytes=100):
            if line == b"work\n":
                await may_answer.wait()
            await connection.send_all(b"done " + line)

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_scope() as scope:
        idle, working = [await scope.connect_tcp("localhost", server.port) for _ in range(2)]
        await idle.send_all(b"hello\n")
        assert await idle.receive_some() == b"done hello\n"
        await working.send_all(b"work\n")
        await wait_all_tasks_blocked()
        reports = []

        @nursery.start_soon
        async def drain():
            reports.append(await server.drain(60))

        await wait_all_tasks_blocked()
        assert await receive_all(idle) == b""
        assert all(connection.draining.is_set() for connection in server.connections)
        assert not reports
        may_answer.set()
        assert await receive_all(working) == b"done work\n"
        await wait_all_tasks_blocked()
        assert reports[0].clean
        assert reports[0].drained == 2
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]
    assert server.statistics().failed == 0


async def test_drain_forces_what_is_left_at_the_deadline(nursery, autojump_clock):
    async def handler(connection):
        await trio.sleep_forever()

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_scope() as scope:
        client = await scope.connect_tcp("localhost", server.port)
        while not server.connections:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        report = await server.drain(4)
        assert report.seconds == pytest.approx(4)
        assert not report.clean
        assert "accept() for" in report.forced[0].opened_at
        assert await receive_all(client) == b""
    with pytest.raises(ValueError, match="timeout must be at least 0"):
        await server.drain(-1)
    with pytest.raises(TypeError, match="timeout must be a number of seconds.*not '5'"):
        await server.drain("5")


async def test_drain_counts_a_connection_that_was_moved_out_of_the_servers_tree(nursery, autojump_clock):
    async with trionet.open_scope() as elsewhere:
        moved = []

        async def handler(connection):
            moved.append(connection.transfer(elsewhere))

        server = await nursery.start(trionet.serve_tcp, handler, 0)
        client = await elsewhere.connect_tcp("localhost", server.port)
        await wait_all_tasks_blocked()
        assert server.statistics().open == 1

        @nursery.start_soon
        async def drain():
            assert (await server.drain(100)).clean
            drained.set()

        drained = trio.Event()
        await wait_all_tasks_blocked()
        await moved[0].send_all(b"still served")
        assert await client.receive_some() == b"still served"
        assert not drained.is_set()
        await moved[0].aclose()
        await drained.wait()
        assert server.statistics().open == 0


async def test_serve_ends_when_it_has_drained():
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, echo, 0)
        await server.drain(1)


# --- accepting ------------------------------------------------------------------------------------------------------


async def test_running_out_of_descriptors_is_survived(serving, nursery, caplog):
    server = await serving(echo)
    async with trionet.open_scope() as scope:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.socket()
        client.setblocking(False)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            assert client.connect_ex(("127.0.0.1", server.port)) in (0, errno.EINPROGRESS)
            with trio.fail_after(10):
                while not server.statistics().accept_errors:
                    await trio.lowlevel.checkpoint()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        connection = scope.adopt(client)
        await connection.send_all(b"served in the end")
        assert await connection.receive_some() == b"served in the end"
    assert "trying again" in caplog.text
    nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_the_queue_is_no_error(serving, nursery):
    server = await serving(echo)
    async with trionet.open_scope() as scope:
        for _ in range(5):
            with socket.socket() as client:
                client.connect(("127.0.0.1", server.port))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection = await dial(scope, server)
        await connection.send_all(b"x")
        assert await connection.receive_some() == b"x"
    nursery.cancel_scope.cancel()


async def test_max_connections_makes_others_wait_in_the_backlog(serving, nursery):
    server = await serving(echo, limits=trionet.Limits(max_connections=1))
    async with trionet.open_scope() as scope:
        first, second = await dial(scope, server), await dial(scope, server)
        await second.send_all(b"waits")
        await first.send_all(b"served")
        assert await first.receive_some() == b"served"
        await wait_all_tasks_blocked()
        assert server.statistics().accepted == 1
        await first.aclose()
        assert await second.receive_some() == b"waits"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_connections": 0}, "max_connections must be at least 1.*0"),
        ({"drain_timeout": -1}, "drain_timeout must be at least 0.*-1"),
        ({"handshake_timeout": float("nan")}, "handshake_timeout must be more than 0.*nan"),
        ({"max_connections": "5"}, "max_connections must be an int.*not '5'"),
    ],
)
def test_limits_are_checked(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        trionet.Limits(**options)


# --- listening ------------------------------------------------------------------------------------------------------


async def test_port_zero_is_one_port_on_every_address(nursery):
    server = await nursery.start(trionet.serve_tcp, echo, 0)
    assert len({address[1] for address in server.addresses}) == 1
    assert {address[0] for address in server.addresses} == {"0.0.0.0", "::"}
    nursery.cancel_scope.cancel()


async def test_an_address_in_use_is_named(nursery):
    server = await nursery.start(trionet.serve_tcp, echo, 0)
    with pytest.raises(OSError, match=rf"cannot listen on \*:{server.port}.*in use") as caught:
        await trionet.serve_tcp(echo, server.port)
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(ValueError, match="port must be 0 to 65535, not -1"):
        await trionet.serve_tcp(echo, -1)
    nursery.cancel_scope.cancel()


async def test_unix_sockets_are_made_and_removed(nursery, tmp_path):
    path = tmp_path / "sock"
    async with trio.open_nursery() as inner:
        await inner.start(lambda task_status: trionet.serve_unix(echo, path, mode=0o600, task_status=task_status))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        async with trionet.open_unix(path) as client:
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        with pytest.raises(OSError, match="another process listens there"):
            await trionet.serve_unix(echo, path)
        inner.cancel_scope.cancel()
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced_and_nothing_else(tmp_path, nursery):
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    await nursery.start(trionet.serve_unix, echo, path)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match="something other than a socket"):
        await trionet.serve_unix(echo, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(OSError, match="cannot listen on /nowhere/sock"):
        await trionet.serve_unix(echo, "/nowhere/sock")
    nursery.cancel_scope.cancel()


async def test_serve_takes_listeners_of_all_kinds(nursery):
    plain = socket.create_server(("127.0.0.1", 0))
    trios = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = await nursery.start(trionet.serve, echo, [plain, *trios])
    async with trionet.open_scope() as scope:
        for address in server.addresses:
            client = await scope.connect_tcp(*address)
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
    nursery.cancel_scope.cancel()


async def test_serve_names_what_does_not_listen():
    with pytest.raises(ValueError, match="at least one listener"):
        await trionet.serve(echo, [])
    with pytest.raises(TypeError, match="must be a listening socket, not 8080"):
        await trionet.serve(echo, [8080])
    one, other = tcp_sockets()
    with one, other, pytest.raises(ValueError, match="does not listen"):
        await trionet.serve(echo, [one])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": 5}, "limits must be a trionet.Limits, not 5"),
        ({"ssl_context": True}, "ssl_context.*True"),
        ({"ssl_context": ssl.create_default_context()}, "PROTOCOL_TLS_CLIENT|client"),
    ],
)
async def test_serve_checks_its_arguments_before_it_takes_the_listeners(options, message):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises((TypeError, ValueError), match=message):
            await trionet.serve(echo, [listener], **options)
        assert listener.fileno() >= 0
    before = open_descriptors()
    with pytest.raises((TypeError, ValueError), match=message):
        await trionet.serve_tcp(echo, 0, **options)
    assert open_descriptors() == before


async def test_a_listener_that_does_not_listen_leaves_the_others_alone():
    (good,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    one, other = tcp_sockets()
    with one, other, pytest.raises(ValueError, match="does not listen"):
        await trionet.serve(echo, [good, one])
    assert good.socket.fileno() >= 0
    await good.aclose()
    with pytest.raises(ValueError, match="is closed"):
        await trionet.serve(echo, [good])


async def test_a_handler_that_was_called_too_early_is_refused():
    coroutine = echo(None)
    with pytest.raises(TypeError, match="pass the function itself, without calling it"):
        await trionet.serve_tcp(coroutine, 0)
    coroutine.close()
    with pytest.raises(TypeError, match="handler must be an async function, not 8080"):
        await trionet.serve_tcp(8080, echo)


async def test_a_handler_that_returns_no_awaitable_is_told_so(serving, nursery, caplog):
    server = await serving(lambda connection: None)
    async with trionet.open_scope() as scope:
        assert await receive_all(await dial(scope, server)) == b""
    await wait_all_tasks_blocked()
    assert "handler must be an async function" in caplog.text
    assert server.statistics().failed == 1
    nursery.cancel_scope.cancel()


# --- handlers that fail, in every way -------------------------------------------------------------------------------


async def test_what_a_handler_raises_while_the_server_is_cancelled_is_logged(caplog):
    """Two tasks of one connection: one fails as it is cancelled, the other one just ends. The server ends quietly."""

    async def handler(connection):
        connection.scope.start_soon(trio.sleep_forever)
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError("while cancelled")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handler, 0)
        async with trionet.open_tcp("localhost", server.port):
            while not server.connections:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert "while cancelled" in caplog.text
    assert server.statistics().failed == 1
    assert server.statistics().open == 0


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_what_ends_a_program_ends_the_server(error, caplog):
    before = open_descriptors()

    async def handler(connection):
        raise error

    with pytest.RaisesGroup(error, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trionet.serve_tcp, handler, 0)
            async with trionet.open_tcp("localhost", server.port) as client:
                await receive_all(client)
                await trio.sleep_forever()
    assert open_descriptors() == before


async def test_a_server_that_is_cancelled_says_no_last_words():
    """They are for a handler that failed; what is cancelled is closed at once, without a close frame."""
    upgraded = trio.Event()

    async def handler(connection):
        await connection.upgrade(trionet.to_websocket_server())
        upgraded.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handler, 0)
        async with trionet.open_websocket(f"ws://127.0.0.1:{server.port}/") as websocket:
            await upgraded.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True), pytest.raises(trionet.ConnectionClosed) as closed:
                await websocket.get_message()
            assert closed.value.reason.code == 1006


async def test_last_words_that_fail_leave_nothing_open(serving, caplog):
    class Speechless(trionet.Connection):
        def _handler_failed(self, error):
            raise ValueError("lost for words")

    async def handler(connection):
        capsule = connection.detach()
        handle = Speechless(capsule)
        handle._seat(connection.scope._owner, instead_of=capsule)
        capsule._pass_to(handle)
        raise RuntimeError("failed")

    server = await serving(handler)
    async with trionet.open_scope() as scope:
        client = await dial(scope, server)
        assert await receive_all(client) == b""
        await wait_all_tasks_blocked()
        assert server.statistics().open == 0
    assert "lost for words" in caplog.text


async def test_of_a_mixed_group_the_failure_is_logged_and_the_rest_goes_on(caplog):
    async def handler(connection):
        raise BaseExceptionGroup("both", [ValueError("logged"), SystemExit(3)])

    with pytest.RaisesGroup(SystemExit, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trionet.serve_tcp, handler, 0)
            async with trionet.open_tcp("localhost", server.port):
                await trio.sleep_forever()
    assert "logged" in caplog.text


async def test_a_handler_that_swallows_cancellation_ends_all_the_same(nursery, autojump_clock):
    async def handler(connection):
        with pytest.raises(trio.Cancelled):
            await trio.sleep_forever()
        with pytest.raises(trionet.HandleClosedError):
            await connection.send_all(b"too late")

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_scope() as scope:
        client = await scope.connect_tcp("localhost", server.port)
        while not server.connections:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        report = await server.drain(3)
        assert len(report.forced) == 1
        assert await receive_all(client) == b""
    await wait_all_tasks_blocked()
    assert server.statistics().open == 0
    assert server.statistics().failed == 0


async def test_several_tasks_that_notice_the_drain_are_no_failure(nursery, caplog):
    """A handler has two tasks that wait for input, each on a connection of its scope: the drain wakes both."""

    async def handler(connection):
        other = await connection.scope.connect_tcp("127.0.0.1", backend.port)
        connection.scope.start_soon(other.receive_some)
        await connection.receive_some()

    async def silent(connection):
        await trio.sleep_forever()

    backend = await nursery.start(trionet.serve_tcp, silent, 0)
    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_scope() as scope:
        await scope.connect_tcp("localhost", server.port)
        while not backend.connections:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert (await server.drain(10)).clean
    assert not caplog.records
    assert server.statistics().failed == 0
    nursery.cancel_scope.cancel()


# --- drain, in every situation --------------------------------------------------------------------------------------


async def stubborn(connection):
    await trio.sleep_forever()


async def serve_stubborn(nursery, clients, handler=stubborn, **options):
    server = await nursery.start(lambda task_status: trionet.serve_tcp(handler, 0, task_status=task_status, **options))
    for _ in range(clients):
        await nursery.start(hold_open, server.port)
    while len(server.connections) < clients:
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    return server


async def hold_open(port, task_status):
    """A client that stays until the server ends the connection."""
    async with trionet.open_tcp("localhost", port) as client:
        task_status.started()
        await receive_all(client)


async def test_two_drains_end_together(nursery, autojump_clock):
    """The first drain waits without a deadline, the second cuts off what is left: that is the end of the first too."""
    server = await serve_stubborn(nursery, 2)
    reports = []

    @nursery.start_soon
    async def patient():
        reports.append(await server.drain(float("inf")))

    await wait_all_tasks_blocked()
    reports.append(await server.drain(3))
    await wait_all_tasks_blocked()
    assert len(reports) == 2
    assert [len(report.forced) for report in reports] == [2, 2]
    assert [report.drained for report in reports] == [0, 0]
    again = await server.drain(0)
    assert (again.drained, again.forced) == (0, ())


async def test_what_was_cut_off_once_is_not_reported_again(nursery, autojump_clock):
    """Its handler does not let itself be cancelled, so it is there still when the next drains end."""

    async def handler(connection):
        with trio.CancelScope(shield=True):
            await trio.sleep(10)

    server = await serve_stubborn(nursery, 1, handler)
    for _ in range(3):
        report = await server.drain(1)
        assert [entry.reason for entry in report.forced] == [Reason.SCOPE_CANCELLED]
    assert server.statistics().open == 1


@pytest.mark.parametrize(
    ("timeout", "kind", "method"), [(60, leaving, "retire"), (0, draining, "_cut_off")], ids=["told", "cut off"]
)
async def test_a_drain_of_many_connections_lets_other_tasks_run(nursery, timeout, kind, method, monkeypatch):
    """Telling thousands, or cutting them off, in one step would hold up everything else in the program."""
    monkeypatch.setattr("trionet.custody.caretaker.SLICE", 0)
    turns = []
    original = getattr(kind, method)

    def noted(self, *args):
        turns.append("drain")
        original(self, *args)

    monkeypatch.setattr(kind, method, noted)
    server = await serve_stubborn(nursery, 6, echo)

    async def other():
        while True:
            turns.append("other")
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    report = await server.drain(timeout, idle_grace=0)
    assert report.drained + len(report.forced) == 6
    at = [index for index, turn in enumerate(turns) if turn == "drain"]
    assert len(at) >= 6
    assert all("other" in turns[first:second] for first, second in itertools.pairwise(at[::2]))  # Trio shuffles a round


async def test_a_cancelled_drain_cuts_off_what_is_left(nursery):
    server = await serve_stubborn(nursery, 1)
    with trio.CancelScope() as cancel:
        nursery.start_soon(wait_and_cancel, cancel)
        await server.drain(float("inf"))
    assert cancel.cancelled_caught
    await wait_all_tasks_blocked()
    assert server.statistics().open == 0


async def wait_and_cancel(cancel):
    await wait_all_tasks_blocked()
    cancel.cancel()


async def test_a_drain_while_the_server_is_cancelled_ends(nursery):
    server = await nursery.start(trionet.serve_tcp, echo, 0)
    server.scope.cancel()
    assert (await server.drain(float("inf"))).clean


def begun_and_not_run(server):
    """Accept a client by hand, so that its handler's task has not run yet."""
    client = socket.create_connection(("127.0.0.1", server.port))
    while not server.statistics().open:
        for listener in server.listeners:
            server._accepting._batch(listener)
    return client


@pytest.mark.parametrize("timeout", [0, 60])
async def test_a_connection_whose_handler_has_not_begun_is_drained(nursery, timeout, caplog):
    """It was accepted in the very tick of the drain: it is closed like one that waits for input, and nothing hangs."""
    server = await nursery.start(trionet.serve_tcp, echo, 0)
    with begun_and_not_run(server) as client:
        assert server.connections == ()
        assert server.statistics().open == 1
        report = await server.drain(timeout)
        assert report.seconds < 30
        assert report.clean is (timeout > 0)
        await wait_all_tasks_blocked()
        client.settimeout(5)
        assert client.recv(1) == b""
    assert not caplog.records
    figures = server.statistics()
    assert (figures.accepted, figures.open, figures.failed, figures.accept_errors) == (1, 0, 0, 0)


async def test_a_handler_without_a_connection_is_reported_when_it_is_cut_off(nursery, autojump_clock):
    """It has closed its connection and goes on working: the drain waits for it, and says when it was cut off."""

    async def handler(connection):
        await connection.aclose()
        await trio.sleep_forever()

    server = await serve_stubborn(nursery, 1, handler)
    report = await server.drain(3)
    assert not report.clean
    assert report.drained == 0
    assert "handler" in report.forced[0].handle


async def test_a_moved_connection_that_outlives_the_drain_is_closed_and_reported(nursery, autojump_clock):
    async with trionet.open_scope() as elsewhere:

        async def handler(connection):
            moved.append(elsewhere.adopt(connection.transfer(elsewhere).detach()))

        moved = []
        server = await nursery.start(trionet.serve_tcp, handler, 0)
        client = await elsewhere.connect_tcp("localhost", server.port)
        while not moved:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        report = await server.drain(3)
        assert report.seconds == pytest.approx(3)
        assert [entry.reason for entry in report.forced] == [Reason.ABORTED]
        assert "open>" in report.forced[0].handle
        assert report.drained == 0
        assert moved[0].end.reason is Reason.ABORTED
        assert await receive_all(client) == b""
        assert server.statistics().open == 0


async def test_a_moved_connection_is_closed_at_the_deadline_also_if_its_handler_holds_another(nursery, autojump_clock):
    async with trionet.open_scope() as elsewhere:

        async def handler(connection):
            await connection.scope.connect_tcp("localhost", backend.port)
            moved.append(connection.transfer(elsewhere))
            await trio.sleep_forever()

        moved = []
        backend = await nursery.start(trionet.serve_tcp, echo, 0)
        server = await nursery.start(trionet.serve_tcp, handler, 0)
        await elsewhere.connect_tcp("localhost", server.port)
        while not moved:
            await trio.lowlevel.checkpoint()
        report = await server.drain(3)
        assert [entry.reason for entry in report.forced] == [Reason.SCOPE_CANCELLED, Reason.ABORTED]
        assert moved[0].end.reason is Reason.ABORTED
        await wait_all_tasks_blocked()
        assert server.statistics().open == 0


async def test_a_capsule_that_nobody_adopted_is_drained_too(nursery, autojump_clock):
    async def handler(connection):
        connection.detach()
        await trio.sleep_forever()

    server = await serve_stubborn(nursery, 1, handler)
    report = await server.drain(1)
    assert len(report.forced) == 1
    assert "Detached" in report.forced[0].handle


# --- accepting, when it goes wrong ----------------------------------------------------------------------------------


async def test_two_listeners_share_the_limit_of_connections(nursery):
    """Both loops wait for room; when there is some, neither has been forgotten."""
    listeners = [
        *await trio.open_tcp_listeners(0, host="127.0.0.1"),
        *await trio.open_tcp_listeners(0, host="127.0.0.1"),
    ]
    ports = [listener.socket.getsockname()[1] for listener in listeners]

    async def run(task_status):
        await trionet.serve(echo, listeners, limits=trionet.Limits(max_connections=1), task_status=task_status)

    server = await nursery.start(run)
    async with trionet.open_scope() as scope:
        first = await scope.connect_tcp("127.0.0.1", ports[0])
        await first.send_all(b"x")
        await first.receive_some()
        others = [await scope.connect_tcp("127.0.0.1", port) for port in ports]
        await wait_all_tasks_blocked()
        assert server.statistics().accepted == 1
        await first.aclose()
        with trio.fail_after(5):
            for client in others:
                await client.send_all(b"x")

            async def use(client):
                assert await client.receive_some() == b"x"
                await client.aclose()

            for client in others:
                scope.start_soon(use, client)
    assert server.statistics().accepted == 3
    nursery.cancel_scope.cancel()


async def test_serve_ends_when_it_drains_at_its_limit():
    """The accept loops wait for room, on listeners that the drain closes: they end, and quietly."""
    async with trio.open_nursery() as nursery:
        server = await serve_stubborn(nursery, 1, echo, limits=trionet.Limits(max_connections=1))
        with trio.fail_after(5):
            assert (await server.drain(4)).clean


async def test_a_listener_that_fails_for_good_ends_the_server():
    """Somebody shut the listening socket down: no accept can succeed any more, so this must not be tried for ever."""
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="accept on .*failed"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trionet.serve_tcp, echo, 0)
            server.listeners[0].shutdown(socket.SHUT_RDWR)
            await trio.sleep_forever()
    assert server.addresses == ()


async def test_a_listener_that_is_closed_under_its_loop_ends_it_quietly(nursery):
    async with trio.open_nursery() as inner:
        server = await inner.start(trionet.serve_tcp, echo, 0)
        for listener in server.listeners:
            trio.lowlevel.notify_closing(listener)
            listener.close()


async def test_descriptors_run_out_at_the_limit_and_the_server_is_drained(nursery, caplog):
    """The drain comes while the accept loop waits for descriptors."""
    async with trio.open_nursery() as inner:
        server = await inner.start(trionet.serve_tcp, echo, 0)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        with socket.socket() as client:
            client.setblocking(False)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                client.connect_ex(("127.0.0.1", server.port))
                while not server.statistics().accept_errors:
                    await trio.lowlevel.checkpoint()
                await server.drain(1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- TLS ------------------------------------------------------------------------------------------------------------


async def test_a_handshake_that_never_ends_holds_its_place_for_so_long_and_no_other_up(
    nursery, server_context, client_context, mock_clock
):
    limits = trionet.Limits(max_connections=2, handshake_timeout=7)
    server = await nursery.start(
        lambda task_status: trionet.serve_tcp(
            echo, 0, ssl_context=server_context, limits=limits, task_status=task_status
        )
    )
    async with trionet.open_scope() as scope:
        silent = await scope.connect_tcp("localhost", server.port)
        busy = await (await scope.connect_tcp("localhost", server.port)).upgrade(
            trionet.to_tls_client("localhost", ssl_context=client_context)
        )
        await busy.send_all(b"x")
        assert await busy.receive_some() == b"x"
        mock_clock.jump(6.9)
        await wait_all_tasks_blocked()
        assert server.statistics().open == 2
        mock_clock.jump(0.2)
        assert await receive_all(silent) == b""
        scope.start_soon(busy.aclose)
        while server.connections:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        figures = server.statistics()
        assert (figures.accepted, figures.open, figures.failed, figures.peer_faults["handshake"]) == (2, 0, 0, 1)
    nursery.cancel_scope.cancel()


async def test_a_drain_during_handshakes(nursery, server_context, client_context, caplog):
    """One handshake goes on while the server drains, and its client is let go afterwards; a stuck one is cut off."""
    server = await nursery.start(
        lambda task_status: trionet.serve_tcp(echo, 0, ssl_context=server_context, task_status=task_status)
    )
    async with trionet.open_scope() as scope:
        client = await scope.connect_tcp("localhost", server.port)
        while not server.connections:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        reports = []

        @nursery.start_soon
        async def drain():
            reports.append(await server.drain(60))

        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            tls = await client.upgrade(trionet.to_tls_client("localhost", ssl_context=client_context))
            assert await receive_all(tls) == b""
            await tls.aclose()
        await wait_all_tasks_blocked()
        assert reports[0].clean
    assert server.statistics().failed == 0
    assert not caplog.records
    nursery.cancel_scope.cancel()


async def test_a_drain_cuts_off_a_handshake_that_never_ends(nursery, server_context, autojump_clock, caplog):
    server = await nursery.start(
        lambda task_status: trionet.serve_tcp(echo, 0, ssl_context=server_context, task_status=task_status)
    )
    async with trionet.open_scope() as scope:
        client = await scope.connect_tcp("localhost", server.port)
        while not server.connections:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        report = await server.drain(3)
        assert report.seconds == pytest.approx(3)
        assert len(report.forced) == 1
        assert await receive_all(client) == b""
    assert server.statistics().failed == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- WebSocket ------------------------------------------------------------------------------------------------------


async def open_websocket(scope, server):
    connection = await scope.connect_tcp("localhost", server.port)
    return await connection.upgrade(trionet.to_websocket_client("ws://localhost/"))


@pytest.mark.parametrize("loop", ["iterates", "gets"])
async def test_a_drained_websocket_is_told_1001(nursery, caplog, loop):
    async def handler(connection):
        websocket = await connection.upgrade(trionet.to_websocket_server())
        if loop == "iterates":
            async for message in websocket:
                await websocket.send_message(message)
        while True:
            await websocket.send_message(await websocket.get_message())

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_scope() as scope:
        websocket = await open_websocket(scope, server)
        await websocket.send_message("x")
        assert await websocket.get_message() == "x"

        @nursery.start_soon
        async def drain():
            assert (await server.drain(10)).clean

        with pytest.raises(trionet.ConnectionClosed) as caught:
            await websocket.get_message()
        assert caught.value.reason.code == 1001
    await wait_all_tasks_blocked()
    assert server.statistics().open == 0
    assert server.statistics().failed == 0
    assert not caplog.records


async def test_a_websocket_whose_handler_raises_is_told_1011(nursery, caplog):
    async def handler(connection):
        websocket = await connection.upgrade(trionet.to_websocket_server())
        await websocket.get_message()
        raise ZeroDivisionError

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_scope() as scope:
        websocket = await open_websocket(scope, server)
        await websocket.send_message("x")
        with pytest.raises(trionet.ConnectionClosed) as caught:
            await websocket.get_message()
        assert caught.value.reason.code == 1011
    await wait_all_tasks_blocked()
    assert server.statistics().open == 0
    assert server.statistics().failed == 1
    nursery.cancel_scope.cancel()


async def test_a_close_that_its_handler_notices_stays_graceful(nursery, server_context, client_context):
    """Another task closes the connection; its handler fails by that, which cuts nothing off."""
    connections = []

    async def handler(connection):
        connections.append(connection)
        await connection.receive_some()

    server = await nursery.start(
        lambda task_status: trionet.serve_tcp(handler, 0, ssl_context=server_context, task_status=task_status)
    )
    async with trionet.open_scope() as scope:
        client = await scope.connect_tcp("localhost", server.port)
        tls = await client.upgrade(trionet.to_tls_client("localhost", ssl_context=client_context))
        await wait_all_tasks_blocked()
        (connection,) = connections
        nursery.start_soon(connection.aclose)
        await wait_all_tasks_blocked()
        assert connection.phase is Phase.DRAINING
        assert await receive_all(tls) == b""
        await tls.aclose()
        assert (await connection.wait_ended()).reason is Reason.LOCAL
        await wait_all_tasks_blocked()
    assert server.statistics().failed == 1
    nursery.cancel_scope.cancel()


async def test_a_refused_upgrade_that_its_handler_does_not_catch_is_answered(nursery):
    """What the client has sent is unread: to abort the connection would reset the answer away."""
    connections = []

    async def handler(connection):
        connections.append(connection)
        await connection.upgrade(trionet.to_websocket_server())

    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await receive_all(client)).startswith(b"HTTP/1.1 426 ")
    assert (await connections[0].wait_ended()).reason is Reason.LOCAL
    assert server.statistics().peer_faults["refused"] == 1
    nursery.cancel_scope.cancel()


async def test_an_idle_tls_client_is_told_of_the_drain(nursery, server_context, client_context, caplog):
    """Its handler waits for input and is woken by the drain: the client sees a proper end, and no truncation."""
    server = await nursery.start(
        lambda task_status: trionet.serve_tcp(echo, 0, ssl_context=server_context, task_status=task_status)
    )
    async with trionet.open_scope() as scope:
        client = await scope.connect_tcp("localhost", server.port)
        tls = await client.upgrade(trionet.to_tls_client("localhost", ssl_context=client_context))
        await tls.send_all(b"x")
        assert await tls.receive_some() == b"x"

        @nursery.start_soon
        async def drain():
            assert (await server.drain(60)).clean

        with trio.fail_after(5):
            assert await receive_all(tls) == b""
            await tls.aclose()
    assert not caplog.records
    nursery.cancel_scope.cancel()


async def test_a_drain_reaches_the_scopes_that_a_handler_has_opened(nursery):
    """A handler dials a backend in a scope of its own and waits for it: the drain tells that connection too."""
    ends = []

    async def handler(connection):
        async with connection.scope.open_scope(name="inner") as inner:
            backend = await inner.connect_tcp("127.0.0.1", silent.port)
            with pytest.raises(trionet.HandleClosedError):
                await backend.receive_some()
            assert inner.draining.is_set()
            ends.append(backend)

    async def say_nothing(connection):
        await connection.receive_some()

    silent = await nursery.start(trionet.serve_tcp, say_nothing, 0)
    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_tcp("localhost", server.port) as client:
        with trio.fail_after(20):
            while silent.statistics().open == 0:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            assert (await server.drain(math.inf)).clean
        assert await receive_all(client) == b""
    assert ends[0].end.reason is Reason.LOCAL
    nursery.cancel_scope.cancel()


async def test_what_is_forced_in_a_scope_that_a_handler_has_opened_is_reported(nursery, autojump_clock):
    async def handler(connection):
        async with connection.scope.open_scope(name="inner") as inner:
            inner.adopt(trio.testing.memory_stream_pair()[0])
            ready.set()
            await trio.sleep_forever()

    ready = trio.Event()
    server = await nursery.start(trionet.serve_tcp, handler, 0)
    async with trionet.open_tcp("localhost", server.port):
        await ready.wait()
        report = await server.drain(1)
        assert len(report.forced) == 2
        assert "test_server.py" in report.forced[0].opened_at
        assert "accept() for" in report.forced[1].opened_at
    nursery.cancel_scope.cancel()


async def test_a_single_error_leaves_serve_as_it_is():
    listener = socket.create_server(("127.0.0.1", 0))

    async def shut_it_down():
        await wait_all_tasks_blocked()
        listener.shutdown(socket.SHUT_RDWR)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shut_it_down)
        with pytest.raises(OSError, match="accept on .*failed"):
            await trionet.serve(echo, [listener])


def test_ctrl_c_leaves_serve_as_it_is():
    class Started:
        def started(self, server):
            signal.raise_signal(signal.SIGINT)

    async def main():
        await trionet.serve_tcp(echo, 0, task_status=Started())

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


# --- listeners that are in use ----------------------------------------------------------------------------------------


async def served(nursery, listeners):
    async def run(task_status):
        await trionet.serve(echo, listeners, task_status=task_status)

    server = await nursery.start(run)
    assert isinstance(server, trionet.Server)
    return server


async def answers(port):
    async with trionet.open_tcp("127.0.0.1", port) as client:
        await client.send_all(b"x")
        return await client.receive_some()


@pytest.mark.parametrize("again", ["the same", "another object", "Trio's"])
async def test_a_listener_that_is_served_is_refused_and_goes_on(nursery, again):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = await served(nursery, [listener])
        other = listener
        if again == "another object":
            other = socket.socket(fileno=listener.fileno())
        elif again == "Trio's":
            other = trio.SocketListener(trio.socket.from_stdlib_socket(socket.socket(fileno=listener.fileno())))
        with pytest.raises(ValueError, match="is in use: a server or a task accepts on it"):
            await trionet.serve(echo, [other])
        with pytest.raises(ValueError, match="it listens"):
            server.scope.adopt(listener)
        assert await answers(port) == b"x"
        assert (await server.drain(5)).clean
        for sock in (other, getattr(other, "socket", other)):
            if sock is not listener and hasattr(sock, "detach"):
                sock.detach()


async def test_a_listener_twice_in_one_server_is_refused(nursery):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(ValueError, match="was given twice"):
            await trionet.serve(echo, [listener, listener])
        assert await drained(await served(nursery, [listener]))


async def drained(server):
    return (await server.drain(5)).clean


async def test_a_listener_on_which_trio_serves_is_refused_and_goes_on(nursery):
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def handler(stream):
        await stream.send_all(await stream.receive_some())

    nursery.start_soon(trio.serve_listeners, handler, [listener])
    await wait_all_tasks_blocked()
    with pytest.raises(ValueError, match="is in use"):
        await trionet.serve(echo, [listener])
    assert await answers(port) == b"x"
    nursery.cancel_scope.cancel()


async def test_two_descriptors_of_one_listener_share_its_connections(nursery):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        first, second = [await served(nursery, [copy]) for copy in (listener.dup(), listener.dup())]
        assert await drained(first)
        assert await answers(port) == b"x"
        assert await drained(second)


async def test_a_listener_is_free_again_when_its_server_has_ended(nursery):
    """Also its number: the next socket that gets it is another one."""
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = await served(nursery, [listener])
            assert await answers(server.port) == b"x"
            assert await drained(server)
            await wait_all_tasks_blocked()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = await served(nursery, [listener])
        number = listener.fileno()
        trio.lowlevel.notify_closing(listener)
        listener.close()
        with socket.create_server(("127.0.0.1", 0)) as next_one:
            assert next_one.fileno() == number
            await wait_all_tasks_blocked()
            assert await drained(await served(nursery, [next_one]))


# --- when descriptors run out -----------------------------------------------------------------------------------------


async def test_exhausted_descriptors_are_told_once_a_second_and_waited_out(nursery, autojump_clock, caplog):
    """Two listeners meet it for three seconds, ten times a second each; then accepting goes on."""

    class Exhausted(socket.socket):
        tries = 0
        broken = True

        def accept(self):
            if self.broken:
                Exhausted.tries += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    listeners = [Exhausted(fileno=socket.create_server(("127.0.0.1", 0)).detach()) for _ in range(2)]
    server = await served(nursery, listeners)
    clients = [socket.create_connection(listener.getsockname()) for listener in listeners]
    await trio.sleep(2.95)
    assert 40 <= Exhausted.tries <= 62  # it does not spin
    assert len(caplog.records) == 3
    assert server.statistics().accept_errors == Exhausted.tries
    Exhausted.broken = False
    await trio.sleep(0.2)
    assert server.statistics().accepted == 2
    for client in clients:
        client.close()
    assert await drained(server)


async def test_a_drain_waits_for_descriptors_to_accept_who_is_in_the_backlog(nursery, autojump_clock):
    """Each connection that ends frees one. Without any connection nothing is waited for."""

    class Tight(socket.socket):
        def accept(self):
            if server is not None and server.statistics().open >= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    async def handler(exchange):
        await exchange.respond(200, b"yes")

    server = None
    listener = Tight(fileno=socket.create_server(("127.0.0.1", 0)).detach())
    server = await nursery.start(trionet.serve, trionet.http_handler(handler), [listener])
    async with trionet.open_scope() as scope:
        clients = [await dial(scope, server) for _ in range(6)]
        for client in clients:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await wait_all_tasks_blocked()
        assert server.statistics().accepted == 2
        report = await server.drain(60)
        assert report.clean
        assert report.seconds < 10
        assert [(await receive_all(client)).endswith(b"yes") for client in clients] == [True] * 6
