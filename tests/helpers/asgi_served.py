"""ASGI applications for tests, served to clients that say exactly what a test tells them to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import trio

import trionet
from trionet.asgi import serve_asgi

from .http_served import Answer, ask

Send = Callable[[Any], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def respond(
    send: Callable[[Any], Awaitable[None]], data: bytes = b"ok", status: int = 200, *headers: Any
) -> None:
    """A whole response."""
    await send({"type": "http.response.start", "status": status, "headers": [*headers]})
    await send({"type": "http.response.body", "body": data})


async def read_all(receive: Callable[[], Awaitable[Any]]) -> bytes:
    """The request's body."""
    data, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        data += message.get("body", b"")
        more = message.get("more_body", False)
    return data


class ServedApp:
    """A server, and clients of it."""

    def __init__(self, server: trionet.Server, scope: trionet.Scope, nursery: trio.Nursery) -> None:
        self.server = server
        self.scope = scope
        self.nursery = nursery

    async def connect(self) -> trionet.Connection:
        return await self.scope.connect_tcp("127.0.0.1", self.server.port)

    async def ask(self, request: bytes, method: str = "GET") -> Answer:
        """One request on a connection of its own."""
        client = await self.connect()
        answer = await ask(client, request, method)
        client.abort()
        return answer


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[ServedApp]:
    """Serve `app` on a port of this machine until the block ends, without a lifespan unless that is asked for."""
    async with trio.open_nursery() as nursery, trionet.open_scope(drain_timeout=0) as scope:
        serve = partial(serve_asgi, host="127.0.0.1", **{"lifespan": "off", **options})
        server = await nursery.start(serve, app, 0)
        yield ServedApp(server, scope, nursery)
        nursery.cancel_scope.cancel()
