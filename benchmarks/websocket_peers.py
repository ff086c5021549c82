"""The servers that websocket.py and upgrade.py compare, each as simple as its own documentation would write it.

``python websocket_peers.py NAME WORK`` listens on a free port of 127.0.0.1, prints it, and sends every message back
until it is killed. WORK is ``echo``; or ``line``, which only trionet can: the connection begins with a line of plain
TCP, and becomes a WebSocket afterwards.

None of them compresses, and none sends pings of its own: what websockets does by default is switched off. Nothing else
is tuned.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from http_peers import BACKLOG, announce, listen
from processes import end_with_parent, raise_file_limit

LINE, READY = b"WEBSOCKET\r\n", b"READY\r\n"
"""What the client says before its handshake, and what it hears."""

WORKS = ("echo", "line")


# --- Trio -------------------------------------------------------------------------------------------------------


def serve_trionet(work: str) -> None:
    import trio

    import trionet

    async def echo(connection: trionet.Connection) -> None:
        websocket = await connection.upgrade(trionet.to_websocket_server())
        async for message in websocket:
            await websocket.send_message(message)

    async def line_and_echo(connection: trionet.Connection) -> None:
        if await connection.receive_until(b"\r\n", max_bytes=64) != LINE:
            raise ValueError("the client said something else")
        await connection.send_all(READY)
        await echo(connection)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trionet.serve_tcp, host="127.0.0.1", backlog=BACKLOG)
            server = await nursery.start(serve, line_and_echo if work == "line" else echo, 0)
            announce(server.port)

    trio.run(main)


def serve_trio_websocket() -> None:
    import trio
    from trio_websocket import ConnectionClosed, WebSocketRequest, WebSocketServer

    async def echo(request: WebSocketRequest) -> None:
        websocket = await request.accept()
        while True:
            try:
                message = await websocket.get_message()
                await websocket.send_message(message)
            except ConnectionClosed:
                break

    async def main() -> None:
        server = WebSocketServer(echo, [trio.SocketListener(trio.socket.from_stdlib_socket(listen()))])
        await server.run()

    trio.run(main)


def serve_websockets_trio() -> None:
    import trio
    from websockets.trio.server import ServerConnection, serve

    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    async def main() -> None:
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listen()))]
        await serve(echo, listeners=listeners, compression=None, ping_interval=None)

    trio.run(main)


# --- asyncio ----------------------------------------------------------------------------------------------------


def run_uvloop(main: Callable[[], Awaitable[Any]]) -> None:
    """Start a server on uvloop, and let it serve."""
    import uvloop

    run_asyncio(main, uvloop.new_event_loop)


def run_asyncio(main: Callable[[], Awaitable[Any]], new_event_loop: Callable[[], Any] | None = None) -> None:
    """Start a server on this event loop, asyncio's own by default, and let it serve."""
    import asyncio

    async def serve() -> None:
        running = await main()
        await asyncio.Event().wait()
        del running

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())


def serve_websockets_uvloop() -> None:
    from websockets.asyncio.server import Server, ServerConnection, serve

    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    async def main() -> Server:
        return await serve(echo, sock=listen(), backlog=BACKLOG, compression=None, ping_interval=None)

    run_uvloop(main)


def serve_aiohttp(run: Callable[[Callable[[], Awaitable[Any]]], None]) -> None:
    from aiohttp import WSMsgType, web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(compress=False)
        await websocket.prepare(request)
        async for message in websocket:
            if message.type is WSMsgType.BINARY:
                await websocket.send_bytes(message.data)
        return websocket

    async def main() -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/", echo)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listen(), backlog=BACKLOG).start()
        return runner

    run(main)


def serve_picows() -> None:
    """Its core interface: callbacks, no coroutine for a connection, no messages but frames."""
    import asyncio

    import picows

    class Echo(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    async def main() -> asyncio.Server:
        return await picows.ws_create_server(lambda _request: Echo(), sock=listen(), backlog=BACKLOG)

    run_uvloop(main)


# --- the programme ----------------------------------------------------------------------------------------------

SERVERS: dict[str, tuple[Callable[[], None], str, tuple[str, ...]]] = {
    "trio-websocket": (serve_trio_websocket, "trio-websocket", ("trio_websocket",)),
    "websockets on Trio": (serve_websockets_trio, "websockets", ("websockets", "websockets.trio")),
    "websockets on uvloop": (serve_websockets_uvloop, "websockets uvloop", ("websockets.asyncio", "uvloop")),
    "aiohttp on asyncio": (partial(serve_aiohttp, run_asyncio), "aiohttp", ("aiohttp",)),
    "aiohttp on uvloop": (partial(serve_aiohttp, run_uvloop), "aiohttp uvloop", ("aiohttp", "uvloop")),
    "picows": (serve_picows, "picows uvloop", ("picows", "uvloop")),
}
"""For each of the others: how it is served, the packages to install, and the modules that it needs."""

PEERS = ("trionet", *SERVERS)


def why_missing(name: str) -> str | None:
    """Why this server cannot be measured here; None if it can be."""
    if name == "trionet":
        return None
    _, packages, modules = SERVERS[name]
    for module in modules:
        if not is_there(module):
            return f"no module {module!r}; it comes with a current version of: pip install -U {packages}"
    return None


def is_there(module: str) -> bool:
    """Whether it could be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("server", choices=PEERS)
    options.add_argument("work", choices=WORKS)
    chosen = options.parse_args()
    end_with_parent()
    raise_file_limit()
    if chosen.server == "trionet":
        serve_trionet(chosen.work)
    elif chosen.work == "echo":
        SERVERS[chosen.server][0]()
    else:
        options.error(f"{chosen.server} cannot serve {chosen.work!r}: only trionet upgrades one in use")


if __name__ == "__main__":
    main()
