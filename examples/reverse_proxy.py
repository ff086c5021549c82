"""A reverse proxy: HTTP and WebSocket, bodies as they come, and never the whole of one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import trionet
from trionet import to_websocket_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
"""Fields about one connection: they are not for the next one (RFC 9110 §7.6.1). Those that Connection names are too."""


def onward(headers: trionet.Headers, *others: str) -> list[tuple[str, str]]:
    """The fields that go on to the other side."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    left_out = HOP_BY_HOP | named | {*others}
    return [(name, value) for name, value in headers.items() if name.lower() not in left_out]


def proxy(client: trionet.HTTPClient, backend: str) -> Callable[[trionet.Exchange], Awaitable[None]]:
    """A handler that gives every request to `backend`, such as ``"localhost:8000"``."""

    async def app(exchange: trionet.Exchange) -> None:
        # Not the target itself: that may be a whole URL, and then a client would choose whom this proxy asks.
        target = f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path
        if exchange.wants_websocket:
            await websocket(exchange, f"ws://{backend}{target}")
            return
        if exchange.method in ("CONNECT", "TRACE"):
            await exchange.respond(501, "This proxy gives no tunnels, and tells nobody what it was sent.\n")
            return
        url = f"http://{backend}{target}"
        address = exchange.connection.remote_address
        fields = [*onward(exchange.headers), ("X-Forwarded-For", address[0] if address else "unknown")]
        has_body = "content-length" in exchange.headers or "transfer-encoding" in exchange.headers
        body = exchange if has_body else b""
        try:
            async with client.request(exchange.method, url, headers=fields, content=body) as response:
                await exchange.respond(response.status, response.raw(), headers=onward(response.headers, "date"))
        except trionet.HTTPClientError as exc:
            if exchange.status:  # the answer has begun: what is raised here cuts it off, for all to see
                raise
            await exchange.respond(502, f"{exc}\n")

    return app


async def websocket(exchange: trionet.Exchange, url: str) -> None:
    """Connect to the backend first: only then it is known whether, and with which subprotocol, to accept."""
    offered = [name.strip() for name in exchange.headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
    fields = [
        (name, exchange.headers[name]) for name in ("Origin", "Cookie", "Authorization") if name in exchange.headers
    ]
    scope = exchange.connection.scope
    try:
        async with scope.open_websocket(url, subprotocols=offered, extra_headers=fields) as back:
            chosen = [back.subprotocol] if back.subprotocol else []
            front = await exchange.upgrade(to_websocket_server(subprotocols=chosen))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, front, back)
                nursery.start_soon(copy, back, front)
    except trionet.UpgradeRefusedError as exc:
        if exchange.status:  # the backend has accepted, and it is this proxy's client that has not
            raise
        await exchange.respond(exc.response.status, exc.response.body)
    except (OSError, trionet.UpgradeFailedError) as exc:
        if exchange.status:
            raise
        await exchange.respond(502, f"{exc}\n")


async def copy(source: trionet.WebSocket, target: trionet.WebSocket) -> None:
    """Give on every message, and in the end the close."""
    async for message in source:
        await target.send_message(message)
    await target.aclose()


async def backend(exchange: trionet.Exchange) -> None:
    """What stands behind the proxy in this program."""
    if exchange.wants_websocket:
        ws = await exchange.upgrade(to_websocket_server())
        async for message in ws:
            await ws.send_message(f"the backend heard {message!r}")
    else:
        await exchange.respond(200, f"{exchange.method} {exchange.target}: {len(await exchange.read())} bytes")


async def main() -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, backend, 0)
        address = f"localhost:{server.port}"
        async with scope.open_http_client(follow_redirects=False) as to_backend:
            front = await scope.start(trionet.serve_http, proxy(to_backend, address), 0)
            async with scope.open_http_client(base_url=f"http://localhost:{front.port}") as client:
                for method, body in ("GET", b""), ("POST", bytes(200_000)):
                    async with client.request(method, "/a?b=c", content=body) as response:
                        print(response.status, (await response.read()).decode())
            async with trionet.open_websocket(f"ws://localhost:{front.port}/chat") as ws:
                await ws.send_message("hello")
                print(await ws.get_message())
            print(await front.drain(5))
        scope.cancel()


if __name__ == "__main__":
    trio.run(main)
