"""HTTP servers that say exactly what a test tells them to, byte by byte, and note what they were asked."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet.http.client.connection import HTTPClientConnection
from trionet.http.client.recipe import to_http_client

from .pairs import tcp_pair

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Asked:
    """One request that a server has read: its first line, its fields (lower case), its body."""

    def __init__(self, head: bytes, body: bytes = b"") -> None:
        line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.fields = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
        self.head = head
        self.body = body

    def __repr__(self) -> str:
        return f"{self.method} {self.target}"


async def read_request(connection: trionet.Connection) -> Asked | None:
    """The next request; None if the client has gone."""
    try:
        head = await connection.receive_until(b"\r\n\r\n", max_bytes=65536)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return None
    asked = Asked(head)
    if "transfer-encoding" in asked.fields:
        while size := int(await connection.receive_until(b"\r\n", max_bytes=99), 16):
            asked.body += await connection.receive_exactly(size)
            await connection.receive_exactly(2)
        await connection.receive_exactly(2)
    elif length := int(asked.fields.get("content-length", "0")):
        asked.body = await connection.receive_exactly(length)
    return asked


class Server:
    """Serves `answer` for each request. Notes all requests, and how many connections there were."""

    def __init__(self) -> None:
        self.port = 0
        self.url = ""
        self.asked: list[Asked] = []
        self.accepted = 0
        self._real: trionet.Server | None = None

    def runs(self, real: trionet.Server, host: str) -> None:
        """It listens now."""
        self._real = real
        self.port = real.port
        self.url = f"{host}:{real.port}"

    async def all_gone(self) -> None:
        """Wait until no connection is open on the server's side."""
        assert self._real is not None
        await wait_all_tasks_blocked()
        while self._real.statistics().open:
            await wait_all_tasks_blocked()


Answer = Callable[[trionet.Connection, Asked], Awaitable[object]] | bytes


@contextlib.asynccontextmanager
async def serving(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that answers each request with these bytes, or by calling this with connection and request."""
    server = Server()

    async def handle(connection: trionet.Connection) -> None:
        server.accepted += 1
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while (asked := await read_request(connection)) is not None:
                server.asked.append(asked)
                if isinstance(answer, bytes):
                    await connection.send_all(answer)
                else:
                    await answer(connection, asked)

    async with trio.open_nursery() as nursery:
        it = await nursery.start(_serve, handle, context)
        server.runs(it, "http://127.0.0.1" if context is None else "https://localhost")
        yield server
        nursery.cancel_scope.cancel()


async def _serve(handle, context, *, task_status):
    await trionet.serve_tcp(handle, 0, ssl_context=context, task_status=task_status)


async def http_pair(scope: trionet.Scope, **options) -> tuple[HTTPClientConnection, trionet.Connection]:
    """A client's HTTP connection, and the server's end of it as bytes."""
    one, other = tcp_pair(scope)
    return await one.upgrade(to_http_client(**options)), other
