"""Pairs of connections over TLS, and what is under them."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
import trio

from trionet import (
    Connection,
    Scope,
    open_scope,
    to_tls_client,
    to_tls_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

LIMIT = 20  # seconds: only against a test that hangs


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A test that waits for ever fails in the end."""
    timer = threading.Timer(LIMIT, os._exit, (70,))
    timer.start()
    yield
    timer.cancel()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    return one, two


@asynccontextmanager
async def two_handles(*, tcp: bool = False) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two plain connections, one to the other."""
    one, two = tcp_pair() if tcp else socket.socketpair()
    async with open_scope() as scope:
        yield scope.adopt(one), scope.adopt(two)


async def both(*operations: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Run the operations together: what each returned, or the exception it raised."""
    results: list[Any] = [None] * len(operations)

    async def run(index: int, operation: Callable[[], Awaitable[Any]]) -> None:
        try:
            results[index] = await operation()
        except Exception as exc:  # noqa: BLE001 - the test looks at it
            results[index] = exc

    async with trio.open_nursery() as nursery:
        for index, operation in enumerate(operations):
            nursery.start_soon(run, index, operation)
    return results


async def upgrade_both(
    client: Connection, server: Connection, to_client: Any, to_server: Any
) -> tuple[Connection, Connection]:
    results = await both(lambda: client.upgrade(to_client), lambda: server.upgrade(to_server))
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results[0], results[1]


@pytest.fixture
def secure(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> Callable[..., Any]:
    """A context manager of two connections over TLS, client and server."""

    @asynccontextmanager
    async def open_pair(*, tcp: bool = False, tls12: bool = False) -> AsyncIterator[tuple[Connection, Connection]]:
        if tls12:
            client_context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with two_handles(tcp=tcp) as (client, server):
            yield await upgrade_both(
                client, server, to_tls_client("localhost", client_context), to_tls_server(server_context)
            )

    return open_pair


def choke(connection: Connection) -> int:
    """Fill the socket under `connection`, from below TLS, until it is not writable: how many bytes that took.

    The peer sees garbage: only for tests in which it takes these bytes away itself.
    """
    return fill(socket_of(connection))


def socket_of(connection: Connection) -> socket.socket:
    transport: Any = connection._transport
    while hasattr(transport, "lower"):
        transport = transport.lower
    sock: socket.socket = transport.socket
    return sock


def fill(sock: socket.socket) -> int:
    total = 0
    while True:
        try:
            total += sock.send(bytes(65536))
        except BlockingIOError:
            return total


def empty(sock: socket.socket, size: int) -> None:
    while size:
        try:
            size -= len(sock.recv(min(size, 65536)))
        except BlockingIOError:
            raise AssertionError(f"{size} bytes less than were sent") from None


def client_hello(context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return tls, incoming, outgoing


async def finish(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, plain: Connection) -> None:
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            if outgoing.pending:
                await plain.send_all(outgoing.read())
            incoming.write(await plain.receive_some())
    await plain.send_all(outgoing.read())


async def secured(
    scope: Scope,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    name: str = "localhost",
    **options: Any,
) -> tuple[Connection, Connection]:
    """Both sides of a connection in `scope`, with TLS on it."""
    client, server = map(scope.adopt, tcp_pair())
    return await upgrade_both(
        client, server, to_tls_client(name, client_context, **options), to_tls_server(server_context)
    )
