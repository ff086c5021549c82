"""Pairs of connected things, for tests: loopback TCP, Unix sockets, memory streams."""

from __future__ import annotations

import gc
import os
import socket

import trio
import trio.testing

import trionet


def tcp_sockets() -> tuple[socket.socket, socket.socket]:
    """Two connected loopback TCP sockets."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        one = socket.socket()
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    return one, other


def tcp_pair(scope: trionet.Scope) -> tuple[trionet.Connection, trionet.Connection]:
    one, other = tcp_sockets()
    return scope.adopt(one), scope.adopt(other)


def unix_pair(scope: trionet.Scope) -> tuple[trionet.Connection, trionet.Connection]:
    one, other = socket.socketpair()
    return scope.adopt(one), scope.adopt(other)


def memory_pair(scope: trionet.Scope) -> tuple[trionet.Connection, trionet.Connection]:
    one, other = trio.testing.memory_stream_pair()
    return scope.adopt(one), scope.adopt(other)


def lockstep_pair(scope: trionet.Scope) -> tuple[trionet.Connection, trionet.Connection]:
    """Memory streams whose sends wait until everything was received."""
    one, other = trio.testing.lockstep_stream_pair()
    return scope.adopt(one), scope.adopt(other)


class Wrapped(trio.abc.HalfCloseableStream):
    """A stream of somebody else's around another one; tests override what they want to be odd."""

    def __init__(self, inner: trio.abc.HalfCloseableStream) -> None:
        self.inner = inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.inner.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.inner.aclose()


PAIRS = {"tcp": tcp_pair, "unix": unix_pair, "memory": memory_pair}
SOCKET_PAIRS = {"tcp": tcp_pair, "unix": unix_pair}


def clog(connection: trionet.Connection) -> int:
    """Send on a Unix socket until the system takes nothing more, behind the handle's back: how many bytes that were."""
    total = 0
    for chunk in (b"x" * 65536, b"x"):
        while sent := connection._transport.send_some(chunk):
            total += sent
    return total


def open_descriptors() -> int:
    """How many file descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def receive_all(connection: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    while chunk := await connection.receive_some():
        data += chunk
    return bytes(data)


class Stingy:
    """A transport that takes only so many bytes at once, and lets nobody send the rest before `go_on`."""

    def __init__(self, inner, most, fails=None):
        self.inner, self.most, self.fails = inner, most, fails
        self.go_on = trio.Event()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __setattr__(self, name, value):
        if name == "bytes_sent":
            self.inner.bytes_sent = value
        else:
            object.__setattr__(self, name, value)

    def send_some(self, data):
        return self.inner.send_some(data[: self.most])

    async def send_all(self, data):
        if self.fails:
            raise self.fails
        await self.go_on.wait()
        await self.inner.send_all(data)
