"""Serving: one scope per connection, failures that end nothing else, draining, and accept errors."""

import errno
import logging
import os
import resource
import socket
import stat

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason

from .pairs import open_descriptors, receive_all, tcp_sockets


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
        ({"handshake_timeout": float("nan")}, "handshake_timeout must be at least 0.*nan"),
    ],
)
def test_limits_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
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
    with pytest.raises(OSError, match="something else than a socket"):
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
