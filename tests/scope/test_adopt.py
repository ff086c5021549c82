"""Adopting streams of classes of the user's own: in use or not, with a life of their own, around Trio's."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

import trionet
from tests.helpers.pairs import Wrapped, tcp_sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Mailbox(trio.abc.Stream):
    """A stream without any of Trio's conflict detectors: what arrives is put into it by whoever calls `deliver`."""

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.data = b""
        self.sent: list[bytes] = []
        self.closed = False
        self.room = trio.Event()

    def deliver(self, data: bytes) -> None:
        self.data += data  # another object each time: a copy of this one would never see it
        self.arrived.set()
        self.arrived = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.data:
            await self.arrived.wait()
        data, self.data = self.data[:max_bytes], self.data[len(self.data[:max_bytes]) :]
        return data

    async def read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += await self.receive_some(1)
        return line

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.room.wait()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


class SlottedMailbox(trio.abc.Stream):
    __slots__ = ("arrived", "closed", "data", "room", "sent")

    __init__ = Mailbox.__init__
    deliver = Mailbox.deliver

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.data:
            await self.arrived.wait()
        data, self.data = self.data, b""
        return data

    async def read_line(self) -> bytes:
        return await self.receive_some()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.room.wait()

    async def aclose(self) -> None:
        self.closed = True


every_mailbox = pytest.mark.parametrize("kind", [Mailbox, SlottedMailbox])

USES: dict[str, Callable[[Any], Awaitable[object]]] = {
    "receive_some": lambda stream: stream.receive_some(),
    "read_line": lambda stream: stream.read_line(),
    "wait": lambda stream: stream.wait_send_all_might_not_block(),
    "iteration": lambda stream: stream.__anext__(),
}


async def refused(stream: Any, use: Callable[[], Awaitable[object]]) -> None:
    """Given a task in `use`, then `stream` cannot be adopted; and it can as soon as the task has gone."""

    async def using() -> None:
        await use()

    async with trionet.open_scope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(using)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="a task is using it"):
                scope.adopt(stream)
            nursery.cancel_scope.cancel()
        scope.adopt(stream).abort()


@every_mailbox
@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_task_parked_in_a_method_uses_the_stream(kind: Any, use: Any) -> None:
    stream = kind()
    await refused(stream, lambda: use(stream))


async def test_a_task_that_began_in_an_operation_uses_the_stream_too() -> None:
    stream = Mailbox()
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            scope.adopt(stream)
        stream.deliver(b"x")


async def test_the_two_would_have_shared_the_bytes() -> None:
    """After the refusal the task that was there gets what comes, all of it."""
    stream = Mailbox()
    got: list[bytes] = []
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            got.append(await stream.read_line())

        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            scope.adopt(stream)
        stream.deliver(b"a line\n")
    assert got == [b"a line\n"]


def stapled(inner: Any) -> trio.abc.Stream:
    return trio.StapledStream(inner, inner)


def in_ssl(inner: Any) -> trio.abc.Stream:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return trio.SSLStream(inner, context, server_hostname="localhost")


@pytest.mark.parametrize("wrap", [stapled, in_ssl, Wrapped, lambda inner: Wrapped(Wrapped(inner))])
async def test_a_task_parked_in_a_stream_inside_uses_it_too(wrap: Any) -> None:
    inner = Mailbox()
    await refused(wrap(inner), inner.read_line)


@pytest.mark.parametrize("inside", ["memory", "socket"])
async def test_a_task_parked_in_trio_s_stream_inside_a_user_s_uses_it_too(inside: str) -> None:
    if inside == "memory":
        inner: Any = memory_stream_pair()[0]
        await refused(Wrapped(inner), lambda: inner.receive_some(1))
    else:
        near, far = tcp_sockets()
        near.setblocking(False)
        with far:
            inner = trio.SocketStream(trio.socket.from_stdlib_socket(near))
            await refused(Wrapped(inner), lambda: inner.socket.recv(1))


# --- the original is ended ------------------------------------------------------------------------------------------


@every_mailbox
async def test_the_original_is_shut_and_the_connection_works(kind: Any) -> None:
    stream = kind()
    stream.deliver(b"early ")
    async with trionet.open_scope() as scope:
        connection = scope.adopt(stream)
        for use in USES.values():
            with pytest.raises(trio.ClosedResourceError, match="adopted"):
                await use(stream)
        with pytest.raises(trio.ClosedResourceError, match="adopted"):
            await stream.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError, match="adopted before"):
            scope.adopt(stream)
        async with stream:
            pass
        await trio.aclose_forcefully(stream)
        await stream.aclose()
        assert not stream.closed
        stream.deliver(b"late")
        assert await connection.receive_exactly(10) == b"early late"
        await connection.send_all(b"answer")
        assert stream.sent == [b"answer"]
    assert stream.closed


# --- a life of its own ----------------------------------------------------------------------------------------------


class ReadsAhead(Wrapped):
    """A task of the stream's own reads from the stream inside, and `receive_some` gives what it has read."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.buffer = b""
        self.ended = False
        self.came = trio.Event()
        self.pongs = 0

    async def run(self) -> None:
        with suppress(trio.ClosedResourceError):
            await self.read_ahead()

    async def read_ahead(self) -> None:
        while data := await self.inner.receive_some():
            if data == b"ping":
                self.pongs += 1
                await self.send_all(b"pong")
                continue
            self.buffer += bytes(data)
            self.came.set()
            self.came = trio.Event()
        self.ended = True
        self.came.set()

    def start_in(self, nursery: trio.Nursery, how: str) -> None:
        async def pump() -> None:
            await self.run()

        nursery.start_soon(self.run if how == "method" else pump)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.buffer and not self.ended:
            await self.came.wait()
        data, self.buffer = self.buffer[:max_bytes], self.buffer[len(self.buffer[:max_bytes]) :]
        return data


@pytest.mark.parametrize("how", ["method", "closure"])
@pytest.mark.parametrize("inside", ["mailbox", "memory", "socket"])
async def test_a_stream_that_reads_ahead_loses_nothing(how: str, inside: str) -> None:
    """Its own task goes on after the adoption, with the object that it knows, and may use that."""
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:
        far: Any
        if inside == "mailbox":
            inner: Any = Mailbox()
        elif inside == "memory":
            inner, far = memory_stream_pair()
        else:
            near, other = socket.socketpair()
            near.setblocking(False)
            other.setblocking(False)
            inner, far = (trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in (near, other))

        async def send(data: bytes) -> None:
            if inside == "mailbox":
                inner.deliver(data)
            else:
                await far.send_all(data)
            await wait_all_tasks_blocked()

        stream = ReadsAhead(inner)
        stream.start_in(nursery, how)
        await send(b"before ")
        connection = scope.adopt(stream)
        await send(b"after")
        assert await connection.receive_exactly(12) == b"before after"
        await send(b"ping")
        assert stream.pongs == 1
        assert (inner.sent[0] if inside == "mailbox" else await far.receive_some()) == b"pong"
        with pytest.raises(trio.ClosedResourceError, match="adopted"):
            await stream.receive_some()
        nursery.cancel_scope.cancel()
        if inside == "socket":
            await far.aclose()


async def test_a_stream_that_reads_ahead_is_in_use_while_somebody_else_receives() -> None:
    async with trio.open_nursery() as nursery:
        stream = ReadsAhead(memory_stream_pair()[0])
        stream.start_in(nursery, "method")
        await wait_all_tasks_blocked()
        await refused(stream, stream.receive_some)
        nursery.cancel_scope.cancel()


async def test_a_stream_that_is_fed_by_callbacks_loses_nothing() -> None:
    """Whoever has the callback has the object; it fills the buffer that the connection reads from."""
    stream = Mailbox()
    callbacks = [stream.deliver]
    async with trionet.open_scope() as scope:
        connection = scope.adopt(stream)
        for callback in callbacks:
            callback(b"called back")
        assert await connection.receive_some() == b"called back"
