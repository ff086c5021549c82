"""HTTP served to clients that say exactly what a test tells them to, byte by byte."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import trio

import trionet
from trionet.http.server.connection import HTTPServerConnection
from trionet.http.server.recipe import to_http_server

from .pairs import tcp_pair

HUGE = bytes(range(256)) * 4096
"""1 MiB of a body."""

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
WEBSOCKET = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Unbuffered:
    """An async iterable of bytes, and the only kind that needs no closing."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self.parts:
            raise StopAsyncIteration
        return self.parts.pop(0)


def get(target: str, *lines: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    return "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/{version}", "Host: a", *lines, "")).encode()


@dataclass
class Answer:
    """What a client has read: status, fields (lower case), body and trailers."""

    status: int
    fields: dict[str, str]
    body: bytes = b""
    trailers: bytes = b""
    head: bytes = field(default=b"", repr=False)


async def read_answer(client: trionet.Connection, method: str = "GET") -> Answer:
    """The next answer, and nothing behind it; one without a length ends with the connection."""
    head = await client.receive_until(b"\r\n\r\n", max_bytes=65536)
    assert head, "EOF instead of an answer"
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert len(fields) == len(lines), f"a field came twice: {lines}"
    answer = Answer(int(line.split(" ")[1]), fields, head=head)
    if answer.status < 200 or answer.status in (204, 304) or method == "HEAD":
        return answer
    if "transfer-encoding" in fields:
        while size := int(await client.receive_until(b"\r\n", max_bytes=99), 16):
            answer.body += await client.receive_exactly(size)
            assert await client.receive_exactly(2) == b"\r\n"
        while (line := await client.receive_until(b"\r\n", max_bytes=999)) != b"\r\n":
            answer.trailers += line
    elif "content-length" in fields:
        size = int(fields["content-length"])
        answer.body = await client.receive_exactly(size) if size else b""
    else:
        while data := await client.receive_some():
            answer.body += data
    return answer


async def ask(client: trionet.Connection, request: bytes, method: str = "GET") -> Answer:
    """Send a request, read its answer."""
    await client.send_all(request)
    return await read_answer(client, method)


def vanish(client: trionet.Connection) -> None:
    """Reset the connection."""
    client._transport.spoil()
    client.abort()


Handler = Callable[[trionet.http.Exchange], Awaitable[object]]


@dataclass
class Served:
    """A connection that is served, its client's end, and how the loop over it has ended."""

    http: HTTPServerConnection
    client: trionet.Connection
    scope: trionet.Scope
    failure: BaseException | None = None
    over: trio.Event = field(default_factory=trio.Event)
    exchanges: list = field(default_factory=list)

    async def run(self, handler: Handler) -> None:
        """The loop; what it raises ends the connection, as it does in a server."""
        try:
            async for exchange in self.http:
                self.exchanges.append(exchange)
                await handler(exchange)
        except Exception as exc:  # noqa: BLE001
            self.failure = exc
            self.http._handler_failed()
            await self.http.aclose()
            self.http._handler_failed()
        finally:
            self.over.set()
        await self.http.aclose()

    async def ended(self) -> trionet.End:
        """How the connection ended, when the loop has too."""
        await self.over.wait()
        return await self.http.wait_ended()


@contextlib.asynccontextmanager
async def served(
    handler: Handler, *, limits: trionet.HTTPLimits | None = None, make_pair=tcp_pair, **options
) -> AsyncIterator[Served]:
    """Serve one connection with `handler`, in a scope and a task of its own, until the block ends."""
    async with trionet.open_scope(**options) as scope:
        one, other = make_pair(scope)
        http = await one.upgrade(to_http_server(limits=limits or trionet.HTTPLimits()))
        it = Served(http, other, scope)
        scope.start_soon(it.run, handler)
        try:
            yield it
        finally:
            if isinstance(it.failure, AssertionError):  # more telling than what the client noticed
                raise it.failure
        scope.cancel()


def replying(status: int = 200, body: bytes = b"ok", **options) -> Handler:
    """A handler that always says the same."""

    async def handler(exchange: trionet.http.Exchange) -> None:
        await exchange.respond(status, body, **options)

    return handler
