"""Listeners that are in use already."""

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet

from ..helpers.served import drained, echo, served


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
