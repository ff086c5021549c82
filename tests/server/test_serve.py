"""The ways to start a server, and how they end."""

import errno
import os
import signal
import socket
import stat

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet

from ..helpers.pairs import open_descriptors, receive_all
from ..helpers.served import dial, echo


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


async def test_serve_ends_when_it_has_drained():
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, echo, 0)
        await server.drain(1)


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


async def test_a_handler_that_returns_no_awaitable_is_told_so(serving, nursery, caplog):
    server = await serving(lambda connection: None)
    async with trionet.open_scope() as scope:
        assert await receive_all(await dial(scope, server)) == b""
    await wait_all_tasks_blocked()
    assert "handler must be an async function" in caplog.text
    assert server.statistics().failed == 1
    nursery.cancel_scope.cancel()


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
