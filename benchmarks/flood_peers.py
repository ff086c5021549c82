"""The servers that floods.py floods, with a clock inside each.

``python flood_peers.py NAME WORK`` listens on a free port of 127.0.0.1, prints it, and serves until it is killed. WORK
is ``asleep`` (WebSockets whose handler does not receive), ``reading`` (it takes every message and answers none),
``hello`` (HTTP, a small answer to every request) or ``upload`` (the handler reads the body).

What is measured: how long the loop was held in one go, as CPU time of its thread (an `Instrument` around every step of
every task, on Trio only), and how late a timer of 10 ms woke up. Whoever connects to the abstract Unix socket
``floods-PID`` is sent both as JSON, and they begin anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import threading
import time
from typing import Any

from http_peers import BACKLOG, announce, listen
from processes import end_with_parent, raise_file_limit

PERIOD = 0.01
"""Seconds that the timer sleeps for."""
WORKS = {
    "asleep": "handlers that do not receive",
    "reading": "handlers that take every message",
    "hello": "a small answer to each",
    "upload": "handlers that read the body",
}


class Clock:
    """The longest step, and the latest wake-up, in seconds, since they were asked for last."""

    def __init__(self) -> None:
        self.step: float | None = None
        self.task = ""
        self.late = 0.0
        self.due = math.inf
        threading.Thread(target=self._serve, daemon=True).start()

    def sleeps(self) -> None:
        """The timer goes to sleep, or has woken up and does so again."""
        self.late = self._late_by_now()
        self.due = time.monotonic() + PERIOD

    def _late_by_now(self) -> float:
        return max(self.late, time.monotonic() - self.due)

    def took(self, seconds: float, task: str) -> None:
        if self.step is None or seconds > self.step:
            self.step, self.task = seconds, task

    def _serve(self) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address(os.getpid()))
            listener.listen()
            while True:
                asking, _ = listener.accept()
                with asking:
                    found = {"step": self.step, "task": self.task, "late": self._late_by_now()}
                    self.step, self.late = None, 0.0
                    asking.sendall(json.dumps(found).encode())


def address(pid: int) -> str:
    """Where the figures of this process can be had."""
    return f"\0floods-{pid}"


# --- Trio -------------------------------------------------------------------------------------------------------


def run_trio(main: Any) -> None:
    """Run `main` with the clock in its loop."""
    import trio

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.began = time.thread_time()

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            clock.took(time.thread_time() - self.began, task.name)

    async def timer() -> None:
        while True:
            clock.sleeps()
            await trio.sleep(PERIOD)

    async def everything() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timer)
            nursery.start_soon(main)

    clock = Clock()
    trio.run(everything, instruments=[Steps()])


def serve_trionet(work: str) -> None:
    import trio

    import trionet

    async def websocket(connection: trionet.Connection) -> None:
        websocket = await connection.upgrade(trionet.to_websocket_server())
        if work == "asleep":
            await trio.sleep_forever()
        async for _ in websocket:
            pass

    async def http(exchange: trionet.Exchange) -> None:
        if work == "upload":
            await exchange.read()
        await exchange.respond(200, b"Hello, world!")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            if work in ("hello", "upload"):
                server = await nursery.start(trionet.serve_http, http, 0)
            else:
                server = await nursery.start(trionet.serve_tcp, websocket, 0)
            announce(server.port)

    run_trio(main)


def serve_trio_websocket(work: str) -> None:
    import trio
    from trio_websocket import ConnectionClosed, WebSocketRequest, WebSocketServer

    async def websocket(request: WebSocketRequest) -> None:
        websocket = await request.accept()
        if work == "asleep":
            await trio.sleep_forever()
        while True:
            try:
                await websocket.get_message()
            except ConnectionClosed:
                break

    async def main() -> None:
        server = WebSocketServer(websocket, [trio.SocketListener(trio.socket.from_stdlib_socket(listen()))])
        await server.run()

    run_trio(main)


# --- uvicorn ----------------------------------------------------------------------------------------------------


def serve_uvicorn(work: str) -> None:
    """As in http_peers.py; WebSockets by the websockets library. uvloop runs its steps where nobody can look."""
    import asyncio

    import uvicorn

    async def timer() -> None:
        while True:
            clock.sleeps()
            await asyncio.sleep(PERIOD)

    async def websocket(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if work == "asleep":
            await asyncio.sleep(3600)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def http(receive: Any, send: Any) -> None:
        if work == "upload":
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"13")]})
        await send({"type": "http.response.body", "body": b"Hello, world!"})

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await (websocket if scope["type"] == "websocket" else http)(receive, send)

    async def main() -> None:
        running = asyncio.create_task(timer())
        config = uvicorn.Config(
            application, lifespan="off", log_level="critical", access_log=False, ws_ping_interval=None, backlog=BACKLOG
        )
        await uvicorn.Server(config).serve(sockets=[listen()])
        running.cancel()

    import uvloop

    clock = Clock()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


SERVERS = {"trionet": serve_trionet, "trio-websocket": serve_trio_websocket, "uvicorn": serve_uvicorn}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("server", choices=SERVERS)
    options.add_argument("work", choices=WORKS)
    chosen = options.parse_args()
    end_with_parent()
    raise_file_limit()
    SERVERS[chosen.server](chosen.work)


if __name__ == "__main__":
    main()
