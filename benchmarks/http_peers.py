"""The servers that http_server.py compares, each as simple as its own documentation would write it.

``python http_peers.py NAME WORKLOAD [CERTIFICATE]`` listens on a free port of 127.0.0.1, prints it, and serves one
workload until it is killed; over TLS 1.3 if the PEM file of a certificate and its key is given. One handler serves
one workload, so that nobody has to look at the path.

All of them answer 200 with ``content-type``, ``content-length`` and ``date``. Whatever else a server would add is
switched off (uvicorn's and hypercorn's ``server``; aiohttp's cannot be), as are access logs. Limits that would end a
connection in the middle of a measurement are raised (idle timeouts; hypercorn's 1,000 requests a connection); nothing
else is tuned.
"""

from __future__ import annotations

import argparse
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any

from processes import end_with_parent, raise_file_limit

IDLE = 75
"""Seconds for which an idle connection is kept by all servers."""
BACKLOG = 2048
RECEIVE = 65536


@dataclass(frozen=True)
class Workload:
    """What is asked, and what has to be answered. If `echo`, the request has the same body; if `json`, it is JSON."""

    body: bytes
    echo: bool = False
    json: bool = False

    @property
    def method(self) -> str:
        return "POST" if self.echo else "GET"


WORKLOADS = {
    "hello": Workload(b"Hello, world!"),
    "large": Workload(b"x" * 10_000),
    "echo": Workload(b"x" * 1024, echo=True),
}


def listen() -> socket.socket:
    """A listening socket; its port is announced, and clients may connect from now on."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    announce(listener.getsockname()[1])
    return listener


def announce(port: int) -> None:
    print(port, flush=True)


# --- trionet ----------------------------------------------------------------------------------------------------


def serve_trionet(workload: Workload, context: ssl.SSLContext | None) -> None:
    import trio

    import trionet

    async def answer(exchange: trionet.Exchange) -> None:
        await exchange.respond(200, workload.body, headers=[("content-type", "text/plain")])

    async def echo(exchange: trionet.Exchange) -> None:
        await exchange.respond(200, await exchange.read(), headers=[("content-type", "text/plain")])

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trionet.serve_http, host="127.0.0.1", backlog=BACKLOG, ssl_context=context)
            server = await nursery.start(serve, echo if workload.echo else answer, 0)
            announce(server.port)

    trio.run(main)


# --- a bare loop on Trio ----------------------------------------------------------------------------------------


def serve_bare(workload: Workload, context: ssl.SSLContext | None) -> None:
    """The least that anything on Trio can do: every piece that arrives is taken for one request."""
    import trio

    if context is not None:
        raise SystemExit("the bare loop does not speak TLS")
    head = (
        "HTTP/1.1 200 OK\r\n"
        "content-type: text/plain\r\n"
        f"content-length: {len(workload.body)}\r\n"
        f"date: {formatdate(usegmt=True)}\r\n\r\n"
    )
    answer = head.encode("ascii") + workload.body

    async def converse(sock: socket.socket) -> None:
        with sock:
            while True:
                await trio.lowlevel.wait_readable(sock)
                try:
                    if not sock.recv(RECEIVE):
                        return
                    if sock.send(answer) != len(answer):
                        raise RuntimeError("the client does not read: its buffer is full")
                except BlockingIOError:
                    continue
                except ConnectionError:
                    return

    async def main() -> None:
        listener = listen()
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener)
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                nursery.start_soon(converse, sock)

    trio.run(main)


# --- ASGI -------------------------------------------------------------------------------------------------------

Application = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def asgi(workload: Workload) -> Application:
    """The application: it reads a body only where it has to send it back."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = await read(receive) if workload.echo else workload.body
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def read(receive: Any) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body

    return application


def serve_uvicorn(workload: Workload, context: ssl.SSLContext | None) -> None:
    import uvicorn

    config = uvicorn.Config(
        asgi(workload),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=IDLE,
        backlog=BACKLOG,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
    uvicorn.Server(config).run(sockets=[listen()])


def serve_hypercorn(workload: Workload, context: ssl.SSLContext | None) -> None:
    import trio
    from hypercorn.config import Config
    from hypercorn.trio import serve

    if context is not None:
        raise SystemExit("hypercorn is not measured over TLS")
    listener = listen()
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.include_server_header = False
    config.accesslog = None
    config.loglevel = "ERROR"  # it would warn that the application knows no lifespan
    config.keep_alive_timeout = IDLE
    config.keep_alive_max_requests = 1 << 60
    trio.run(serve, asgi(workload), config)


# --- aiohttp ----------------------------------------------------------------------------------------------------


def serve_aiohttp(workload: Workload, context: ssl.SSLContext | None) -> None:
    import asyncio

    import uvloop
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        body = await request.read() if workload.echo else workload.body
        return web.Response(body=body, content_type="text/plain")

    async def main() -> None:
        application = web.Application()
        application.router.add_route(workload.method, "/", answer)
        runner = web.AppRunner(application, access_log=None, keepalive_timeout=IDLE)
        await runner.setup()
        await web.SockSite(runner, listen(), ssl_context=context, backlog=BACKLOG).start()
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# --- the server that clients are measured against ---------------------------------------------------------------


def serve_fixed(workload: Workload, context: ssl.SSLContext | None) -> None:
    """Answers every piece that it gets. ``/connections`` counts those so far, ``/request`` gives the last one back."""
    import asyncio

    import uvloop

    def answer_with(body: bytes) -> bytes:
        date = formatdate(usegmt=True)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\ndate: {date}\r\n\r\n"
        return head.encode("ascii") + body

    fixed = answer_with(workload.body)

    class Fixed(asyncio.Protocol):
        connections = 0
        request = b""

        def connection_made(self, transport: Any) -> None:
            Fixed.connections += 1
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            if data.startswith(b"GET /connections "):
                self.transport.write(answer_with(b"%d" % Fixed.connections))
            elif data.startswith(b"GET /request "):
                self.transport.write(answer_with(Fixed.request))
            else:
                Fixed.request = data
                self.transport.write(fixed)

    async def main() -> None:
        await asyncio.get_running_loop().create_server(Fixed, sock=listen(), ssl=context)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# --- the programme ----------------------------------------------------------------------------------------------

SERVERS = {
    "trionet": serve_trionet,
    "uvicorn": serve_uvicorn,
    "hypercorn": serve_hypercorn,
    "bare loop": serve_bare,
    "aiohttp": serve_aiohttp,
    "fixed": serve_fixed,
}


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("server", choices=SERVERS)
    options.add_argument("workload", choices=WORKLOADS)
    options.add_argument("certificate", nargs="?", help="PEM file of a certificate and its key: serve TLS")
    chosen = options.parse_args()
    end_with_parent()
    raise_file_limit()
    context = None
    if chosen.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(chosen.certificate)
    SERVERS[chosen.server](WORKLOADS[chosen.workload], context)


if __name__ == "__main__":
    main()
