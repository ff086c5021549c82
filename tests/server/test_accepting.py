"""Accepting: the limit of connections, and errors that pass or do not."""

import errno
import os
import resource
import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet

from ..helpers.pairs import receive_all
from ..helpers.served import dial, drained, echo, served


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
