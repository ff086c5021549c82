"""What is done with each connection: a scope and a task of its own, TLS, and handlers that fail."""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason

from ..helpers.pairs import receive_all
from ..helpers.served import dial, echo, open_websocket


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
