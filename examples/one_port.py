"""One port for three kinds of clients: a line protocol that turns into WebSocket, HTTP, and WebSocket over HTTP.

`sniff` consumes nothing, and each change of protocol moves the connection to a new handle in one step.
"""

import trio

import trionet
from trionet import to_http_server, to_websocket_client, to_websocket_server


async def echo(ws: trionet.WebSocket) -> None:
    async for message in ws:
        await ws.send_message(message)


async def handle(conn: trionet.Connection) -> None:
    if await trionet.sniff(conn) == "other":
        await conn.receive_until(b"\r\n", max_bytes=512)
        await conn.send_all(b"OK switching\r\n")
        await echo(await conn.upgrade(to_websocket_server()))  # raw TCP -> WebSocket
        return
    http = await conn.upgrade(to_http_server())
    async for exchange in http:  # keep-alive: one exchange after another
        if exchange.wants_websocket:
            await echo(await exchange.upgrade(to_websocket_server()))  # afterwards the loop ends: http has MOVED
        else:
            await exchange.respond(200, b"hello\n", headers=[("Content-Type", "text/plain")])


async def main() -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_tcp, handle, 0)

        chat = await scope.connect_tcp("localhost", server.port)
        await chat.send_all(b"CHAT me\r\n")
        await chat.receive_until(b"\r\n", max_bytes=512)
        ws = await chat.upgrade(to_websocket_client("ws://localhost/"))
        await ws.send_message("from a line protocol")
        print(await ws.get_message())
        await ws.aclose()

        url = f"http://localhost:{server.port}/"
        async with scope.open_http_client() as client, client.request("GET", url) as response:
            print(response.status, await response.read())

        browser = await scope.connect_tcp("localhost", server.port)
        ws = await browser.upgrade(to_websocket_client(f"ws://localhost:{server.port}/"))
        await ws.send_message("over HTTP")
        print(await ws.get_message())
        await ws.aclose()
        scope.cancel()


trio.run(main)
