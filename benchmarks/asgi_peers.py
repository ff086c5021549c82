"""The servers that asgi.py compares, each with the same applications.

``python asgi_peers.py NAME APPLICATION`` listens on a free port of 127.0.0.1, prints it, and serves until it is killed.
Access logs and ``server`` fields are off everywhere, and so is the lifespan. Nothing else is tuned, but limits that
would end a connection in the middle of a measurement.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from http_peers import BACKLOG, IDLE, Workload, announce, listen
from processes import end_with_parent, raise_file_limit

WORKLOADS = {
    "hello": Workload(b"Hello, world!"),
    "starlette": Workload(b"Hello, world!"),
    "json": Workload(b'"' + b"x" * 1022 + b'"', echo=True, json=True),
}

# --- the applications -------------------------------------------------------------------------------------------


def hello() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"Hello, world!"})

    return app


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        return Response(b"Hello, world!", headers={"content-type": "text/plain"})

    return Starlette(routes=[Route("/", answer)])


def json_echo() -> Any:
    """Reads a JSON value, and answers with it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = json.dumps(json.loads(body)).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def echo() -> Any:
    """A WebSocket that sends back what it gets."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})

    return app


APPLICATIONS: dict[str, Callable[[], Any]] = {
    "hello": hello,
    "starlette": starlette,
    "json": json_echo,
    "echo": echo,
}

# --- the servers ------------------------------------------------------------------------------------------------


def serve_trionet(app: Any) -> None:
    import trio

    from trionet.asgi import serve_asgi

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(serve_asgi, host="127.0.0.1", backlog=BACKLOG, lifespan="off", server_header=False)
            server = await nursery.start(serve, app, 0)
            announce(server.port)

    trio.run(main)


def serve_uvicorn(app: Any) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=IDLE,
        backlog=BACKLOG,
    )
    uvicorn.Server(config).run(sockets=[listen()])


def serve_hypercorn(app: Any) -> None:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    listener = listen()
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.include_server_header = False
    config.accesslog = None
    config.loglevel = "ERROR"  # it would warn that the application knows no lifespan
    config.keep_alive_timeout = IDLE
    config.keep_alive_max_requests = 1 << 60
    trio.run(serve, app, config)


def serve_granian(app: Any) -> None:
    """Its embedded server, so that its threads count for this process. It makes its own listener."""
    import asyncio
    import socket

    import uvloop
    from granian.constants import Interfaces
    from granian.server.embed import Server

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def main() -> None:
        server = Server(
            app, address="127.0.0.1", port=port, interface=Interfaces.ASGINL, log_enabled=False, backlog=BACKLOG
        )
        serving = asyncio.ensure_future(server.serve())
        for _ in range(500):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
        announce(port)
        await serving

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


SERVERS = {"trionet": serve_trionet, "uvicorn": serve_uvicorn, "hypercorn": serve_hypercorn, "granian": serve_granian}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("server", choices=SERVERS)
    options.add_argument("application", choices=APPLICATIONS)
    chosen = options.parse_args()
    end_with_parent()
    raise_file_limit()
    SERVERS[chosen.server](APPLICATIONS[chosen.application]())


if __name__ == "__main__":
    main()
