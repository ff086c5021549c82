"""A chat room: what one says, all hear, and who is slow holds up nobody. A large message is never held in memory."""

import trio

import trionet
from trionet import to_websocket_server

room: set[trionet.WebSocket] = set()


async def app(exchange: trionet.Exchange) -> None:
    if not exchange.wants_websocket:
        await exchange.respond(404)
        return
    ws = await exchange.upgrade(to_websocket_server(compression=trionet.PerMessageDeflate()))
    if exchange.path == "/size":
        size = 0
        async for part in ws.receive_fragments():
            size += len(part)
        await ws.send_message(f"{size} bytes")
        return
    room.add(ws)
    try:
        await ws.send_message("welcome")
        async for message in ws:
            trionet.broadcast(room, message, when_slow="close")
    finally:
        room.discard(ws)


async def main() -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, app, 0)
        url = f"ws://localhost:{server.port}"
        async with trionet.open_websocket(url) as ann, trionet.open_websocket(url) as bob:
            print(await ann.get_message(), "and", await bob.get_message())
            await ann.send_message("hello, all")
            print("ann hears", await ann.get_message())
            print("bob hears", await bob.get_message())
        async with trionet.open_websocket(f"{url}/size", compression=trionet.PerMessageDeflate()) as ws:
            await ws.send_fragments(bytes(100_000) for _ in range(50))
            print(await ws.get_message(), "sent as", ws.statistics().bytes_sent)
        scope.cancel()


trio.run(main)
