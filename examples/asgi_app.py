"""An ASGI application beside a protocol of one's own, on one port.

The application is plain ASGI, so that the example needs no framework; one of Starlette, FastAPI, Litestar or Quart-Trio
takes its place as it is. A connection that does not begin like HTTP is somebody who speaks lines.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

import trionet
from trionet.asgi import open_asgi

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
    """Count requests and say so; send back what a WebSocket says."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["count"] = [0]  # each request gets a copy of the state, with this list in it
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down after", scope["state"]["count"][0])
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"you said {message['text']}"})
    else:
        scope["state"]["count"][0] += 1
        body = f"request {scope['state']['count'][0]} for {scope['path']}\n".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})


async def main() -> None:
    async with open_asgi(app) as handler, trionet.open_scope() as scope:

        async def dispatch(connection: trionet.Connection) -> None:
            if await trionet.sniff(connection) == "other":
                line = await connection.receive_until(b"\n", max_bytes=1000)
                await connection.send_all(b"a line: " + line)
                return
            http = await connection.upgrade(trionet.to_http_server())
            async for exchange in http:
                await handler(exchange)

        server = await scope.start(partial(trionet.serve_tcp, host="127.0.0.1"), dispatch, 0)

        async with trionet.open_http_client(base_url=f"http://127.0.0.1:{server.port}") as client:
            for path in ("/one", "/two"):
                async with client.request("GET", path) as response:
                    print((await response.read()).decode(), end="")
        async with trionet.open_websocket(f"ws://127.0.0.1:{server.port}/") as websocket:
            await websocket.send_message("hello")
            print(await websocket.get_message())
        async with trionet.open_tcp("127.0.0.1", server.port) as connection:
            await connection.send_all(b"no HTTP at all\n")
            print((await connection.receive_until(b"\n", max_bytes=1000)).decode(), end="")
        scope.cancel()


if __name__ == "__main__":
    trio.run(main)
