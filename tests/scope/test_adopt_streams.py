"""Adopting what trionet did not open: the original ends, and what has not can be used by one owner only."""

import socket
import ssl

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase

from ..helpers.pairs import (
    memory_pair,
    tcp_sockets,
)


async def test_adopting_a_trio_socket_stream_ends_it():
    async with trionet.open_scope() as scope:
        sock, peer = tcp_sockets()
        sock.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        connection = scope.adopt(stream)
        for use in (stream.receive_some(1), stream.send_all(b"x"), stream.wait_send_all_might_not_block()):
            with pytest.raises(trio.ClosedResourceError):
                await use
        await stream.aclose()
        await connection.send_all(b"mine")
        assert peer.recv(10) == b"mine"
        peer.close()


@pytest.mark.parametrize("operation", ["receive_some", "wait_send_all_might_not_block"])
@pytest.mark.parametrize("kind", ["stream", "trio socket", "socket"])
async def test_an_original_in_use_is_refused(kind, operation):
    async with trionet.open_scope() as scope:
        sock, peer = socket.socketpair()
        sock.setblocking(False)
        trio_socket = trio.socket.from_stdlib_socket(sock)
        stream = trio.SocketStream(trio_socket)
        if operation != "receive_some":
            for chunk in (b"x" * 65536, b"x"):
                with pytest.raises(BlockingIOError):
                    while True:
                        sock.send(chunk)
        original = {"stream": stream, "trio socket": trio_socket, "socket": sock}[kind]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(stream, operation))
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="refused: a task is"):
                scope.adopt(original)
            nursery.cancel_scope.cancel()
        assert scope.adopt(original).phase is Phase.OPEN
        peer.close()


async def test_adopting_a_memory_stream_ends_it():
    async with trionet.open_scope() as scope:
        stream, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="a task is using it"):
                scope.adopt(stream)
            await far.send_all(b"x")
        connection = scope.adopt(stream)
        for use in (
            stream.receive_some(),
            stream.send_all(b"x"),
            stream.send_eof(),
            stream.wait_send_all_might_not_block(),
        ):
            with pytest.raises(trio.ClosedResourceError, match="adopted"):
                await use
        with pytest.raises(trio.ClosedResourceError, match="adopted before"):
            scope.adopt(stream)
        await stream.aclose()
        await connection.send_all(b"mine")
        assert await far.receive_some() == b"mine"


async def test_adopting_a_stream_with_slots_ends_it():
    class Slotted(trio.abc.Stream):
        __slots__ = ("inner",)

        def __init__(self, inner):
            self.inner = inner

        async def receive_some(self, max_bytes=None):
            return await self.inner.receive_some(max_bytes)

        async def send_all(self, data):
            await self.inner.send_all(data)

        async def wait_send_all_might_not_block(self):
            await self.inner.wait_send_all_might_not_block()

        async def aclose(self):
            await self.inner.aclose()

    async with trionet.open_scope() as scope:
        inner, far = trio.testing.memory_stream_pair()
        stream = Slotted(inner)
        connection = scope.adopt(stream)
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        await connection.send_all(b"mine")
        assert await far.receive_some() == b"mine"


async def test_a_stream_is_adopted_whole_however_its_slots_were_declared():
    class Private(trio.abc.Stream):
        __slots__ = "__inner"

        def __init__(self, inner):
            self.__inner = inner

        async def receive_some(self, max_bytes=None):
            return await self.__inner.receive_some(max_bytes)

        async def send_all(self, data):
            await self.__inner.send_all(data)

        async def wait_send_all_might_not_block(self):
            await self.__inner.wait_send_all_might_not_block()

        async def aclose(self):
            await self.__inner.aclose()

    async with trionet.open_scope() as scope:
        inner, far = trio.testing.memory_stream_pair()
        stream = Private(inner)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="a task is using it"):
                scope.adopt(stream)
            nursery.cancel_scope.cancel()
        connection = scope.adopt(stream)
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        await connection.send_all(b"mine")
        assert await far.receive_some() == b"mine"


@pytest.mark.parametrize("kind", ["stapled", "ssl"])
async def test_adopting_trios_own_wrappers_ends_them(kind):
    async with trionet.open_scope() as scope:
        inner, far = trio.testing.memory_stream_pair()
        if kind == "stapled":
            stream = trio.StapledStream(inner.send_stream, inner.receive_stream)
        else:
            stream = trio.SSLStream(inner, ssl.create_default_context(), server_hostname="localhost")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="a task is using it"):
                scope.adopt(stream)
            nursery.cancel_scope.cancel()
        connection = scope.adopt(stream)
        for use in (stream.receive_some(), stream.send_all(b"x"), stream.wait_send_all_might_not_block()):
            with pytest.raises(trio.ClosedResourceError, match="adopted"):
                await use
        with pytest.raises(trio.ClosedResourceError, match="adopted before"):
            scope.adopt(stream)
        if kind == "stapled":
            await connection.send_all(b"mine")
            assert await far.receive_some() == b"mine"
        connection.abort()


async def test_an_ssl_stream_may_be_adopted_before_its_handshake(server_context, client_context):
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:
        inner, far = trio.testing.memory_stream_pair()
        server = trio.SSLStream(far, server_context, server_side=True)
        nursery.start_soon(server.do_handshake)
        connection = scope.adopt(trio.SSLStream(inner, client_context, server_hostname="localhost"))
        await connection.send_all(b"hello")
        assert await server.receive_some() == b"hello"
        connection.abort()


async def test_an_ssl_socket_is_not_taken_for_a_plain_one():
    near, far = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with far, context.wrap_socket(near, server_hostname="localhost", do_handshake_on_connect=False) as secure:
        async with trionet.open_scope() as scope:
            with pytest.raises(TypeError, match="its bytes are TLS"):
                scope.adopt(secure)
        assert secure.fileno() >= 0


async def test_what_cannot_be_adopted_is_named():
    async with trionet.open_scope() as scope:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            with pytest.raises(ValueError, match="not connected"):
                scope.adopt(listener)
            listener.listen()
            with pytest.raises(ValueError, match="it listens"):
                scope.adopt(listener)
        with pytest.raises(trio.ClosedResourceError, match="closed"):
            scope.adopt(listener)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError, match="stream"):
            scope.adopt(datagrams)
        with pytest.raises(TypeError, match="not 'text'"):
            scope.adopt("text")
        one, _ = memory_pair(scope)
        with pytest.raises(TypeError, match="transfer"):
            scope.adopt(one)
