"""Draining: what is waited for, what is cut off, and what is reported of it."""

import itertools
import logging
import math
import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Reason
from trionet.custody import leaving
from trionet.server import draining
from trionet.transport.listening import Acceptor

from ..helpers.pairs import receive_all
from ..helpers.served import echo, open_websocket


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
            server._accepting._batch(Acceptor(listener))
    return client


@pytest.mark.parametrize("timeout", [0, 60])
@pytest.mark.parametrize("handler", [echo, trionet.http_handler(echo)], ids=["bytes", "HTTP"])
async def test_a_connection_whose_handler_has_not_begun_is_drained(nursery, handler, timeout, caplog):
    """It was accepted in the very tick of the drain: it is closed like one that waits for input, and nothing hangs."""
    server = await nursery.start(trionet.serve_tcp, handler, 0)
    with begun_and_not_run(server) as client:
        assert server.connections == ()
        assert server.statistics().open == 1
        report = await server.drain(timeout, idle_grace=0)
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


async def test_serve_ends_when_it_drains_at_its_limit():
    """The accept loops wait for room, on listeners that the drain closes: they end, and quietly."""
    async with trio.open_nursery() as nursery:
        server = await serve_stubborn(nursery, 1, echo, limits=trionet.Limits(max_connections=1))
        with trio.fail_after(5):
            assert (await server.drain(4)).clean


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
        assert "test_draining.py" in report.forced[0].opened_at
        assert "accept() for" in report.forced[1].opened_at
    nursery.cancel_scope.cancel()
