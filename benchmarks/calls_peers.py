"""The operations that calls.py counts, each in a process of its own: ``python calls_peers.py OPERATION SUBJECT``.

What is counted runs in the main thread under `sys.setprofile`; the peer is a blocking client or server in another
thread, which no profiler sees. The counters are read at fixed places of the measured side: where the handler begins,
or before and behind the operation. So there is nothing of a neighbouring operation in a figure, and it is the same in
every run. Only the public face of trionet is used, so that an older checkout can be measured too.

Prints one JSON object: for each of the repetitions the `Figures` of one operation; and the way of the last one, as
(file, function) pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

WARM_UP, COUNTED = 20, 20
"""Operations that are not counted, for caches and lazy imports; and those that are."""

BODY = b"Hello, world!"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\n" + BODY
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MESSAGE = bytes(64)
MASKED_MESSAGE = b"\x82\xc0\x00\x00\x00\x00" + MESSAGE
MASKED_CLOSE = b"\x88\x82\x00\x00\x00\x00" + (1000).to_bytes(2)
ECHO_SIZE, CLOSE_SIZE = 2 + len(MESSAGE), 2 + 2

DISTANCE = 0.003
"""Seconds that a peer takes for its next move. Without them it would be there before or after the measured side looks
for it, as the scheduler likes, and there would be two ways to count."""

SYSTEM_CALLS = frozenset(
    ["_accept", "close", "connect", "poll", "recv", "recv_into", "send", "sendall", "sendmsg", "sendfile", "shutdown"]
)
YIELDS = {("_traps.py", "_real_async_yield"), ("events.py", "_run")}
"""Where a task of Trio stops, and where the loop of asyncio takes something up."""


# --- counting ---------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What one operation takes."""

    calls: int = 0
    """Frames of the subject's own that were begun."""
    resumed: int = 0
    """Its frames that were taken up again behind an `await` or `yield`: each of a chain of coroutines counts."""
    switches: int = 0
    """Calls that stand in another file than the one before."""
    files: int = 0
    """Files in which those calls are."""
    python: int = 0
    """All frames that were begun or taken up, those of Trio, asyncio and the standard library included."""
    system: int = 0
    """Calls of a socket's or epoll's method."""
    yields: int = 0
    """How often a task stopped (Trio), or the loop took something up (asyncio)."""


class Counter:
    """Counts in this thread what frames of these packages do."""

    def __init__(self, *packages: str) -> None:
        self._roots = tuple(_root(package) for package in packages)
        self._known: dict[CodeType, tuple[str | None, bytes, bool]] = {}
        self._reset()
        self.found: list[Figures] = []
        self.way: list[tuple[str, str]] = []
        sys.setprofile(self._profile)

    def _reset(self) -> None:
        self._figures = Figures()
        self._way: list[tuple[str, str]] = []

    def begin(self) -> None:
        """An operation begins; one that has begun is forgotten."""
        self._reset()

    def end(self) -> None:
        """The operation is over."""
        figures, way = self._figures, self._way
        figures.calls, figures.files = len(way), len({file for file, _ in way})
        figures.switches = sum(one[0] != other[0] for one, other in pairwise(way))
        self.found.append(figures)
        self.way = way
        self._reset()

    @property
    def enough(self) -> bool:
        return len(self.found) >= WARM_UP + COUNTED

    def print(self) -> None:
        sys.setprofile(None)
        print(json.dumps({"operations": [asdict(each) for each in self.found[WARM_UP:]], "way": self.way}))

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            code = frame.f_code
            known = self._known.get(code)
            if known is None:
                known = self._known[code] = (self._own(code), code.co_code, _is_yield(code))
            own, instructions, is_yield = known
            again = instructions[frame.f_lasti + 1] & 3  # RESUME's argument: 0 where a function begins
            figures = self._figures
            figures.python += 1
            figures.yields += is_yield and (not again or code.co_name == "_run")
            if own is None:
                pass
            elif again:
                figures.resumed += 1
            else:
                self._way.append((own, code.co_qualname))
        elif event == "c_call" and argument.__name__ in SYSTEM_CALLS:
            self._figures.system += isinstance(argument.__self__, socket.socket | select.epoll) or (
                argument.__name__ == "sendfile"
            )

    def _own(self, code: CodeType) -> str | None:
        """The file, from its package on, if it is the subject's own."""
        for root in self._roots:
            if code.co_filename.startswith(root):
                return os.path.relpath(code.co_filename, Path(root).parent)
        return None


def _root(package: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: python -m pip install -e '.[bench,test]'")
    path = Path(spec.origin)
    return f"{path.parent}{os.sep}" if path.name == "__init__.py" else str(path)


def _is_yield(code: CodeType) -> bool:
    return (Path(code.co_filename).name, code.co_name) in YIELDS


# --- peers ------------------------------------------------------------------------------------------------------


def send(sock: socket.socket, data: bytes) -> None:
    time.sleep(DISTANCE)
    sock.sendall(data)


def in_thread(work: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=work, args=args, daemon=True).start()


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(65536)
        if not piece:
            raise SystemExit("the server closed the connection")
        data += piece
    return data


def receive_head(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(sock, 1)
    return data.partition(b"\r\n\r\n")[2]


def ask(port: int) -> None:
    """Requests on one connection, for as long as the other side serves."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while True:
            send(sock, REQUEST)
            data = receive_head(sock)
            receive(sock, len(BODY) - len(data))


def chat(port: int) -> None:
    """A WebSocket on which messages go to and fro."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        send(sock, HANDSHAKE)
        receive_head(sock)
        while True:
            send(sock, MASKED_MESSAGE)
            receive(sock, ECHO_SIZE)


def be_closed(port: int) -> None:
    """WebSockets, one after the other, that answer a close frame with theirs, and wait for the end."""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            send(sock, HANDSHAKE)
            data = receive_head(sock)
            receive(sock, CLOSE_SIZE - len(data))
            send(sock, MASKED_CLOSE)
            while sock.recv(65536):
                pass
            time.sleep(DISTANCE)


def shake_hands(port: int, context: ssl.SSLContext) -> None:
    """TLS connections, one after the other, that end with their handshake."""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as sock, context.wrap_socket(sock) as tls:
            tls.recv(1)


def answer(listener: socket.socket) -> None:
    """One connection on which each request is answered."""
    sock, _ = listener.accept()
    with sock:
        while True:
            receive_head(sock)
            send(sock, RESPONSE)


@contextmanager
def fixed_server() -> Iterator[str]:
    """The URL of a server in another thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        in_thread(answer, listener)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


# --- a GET on a server ------------------------------------------------------------------------------------------


def server_get_trionet() -> Counter:
    import trio

    import trionet

    counter = Counter("trionet")
    headers = [("content-type", "text/plain")]

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def respond(exchange: trionet.Exchange) -> None:
                at_the_handler(counter, nursery.cancel_scope.cancel)
                await exchange.respond(200, BODY, headers=headers)

            server = await nursery.start(partial(trionet.serve_http, host="127.0.0.1"), respond, 0)
            in_thread(ask, server.port)

    trio.run(main)
    return counter


def server_get_uvicorn() -> Counter:
    import uvicorn

    counter = Counter("uvicorn", "h11")
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        at_the_handler(counter, lambda: setattr(server, "should_exit", True))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    listener = socket.create_server(("127.0.0.1", 0))
    in_thread(ask, listener.getsockname()[1])
    config = uvicorn.Config(
        application, loop="asyncio", http="h11", lifespan="off", access_log=False, log_level="warning"
    )
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    return counter


def at_the_handler(counter: Counter, stop: Callable[[], object]) -> None:
    """From one call of a handler to the next there is one operation."""
    if counter.enough:
        stop()
    else:
        counter.end()
        counter.begin()


# --- a message on a server --------------------------------------------------------------------------------------


def echo_trionet() -> Counter:
    import trio

    import trionet

    counter = Counter("trionet")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def serve(exchange: trionet.Exchange) -> None:
                websocket = await exchange.upgrade(trionet.to_websocket_server())
                async for message in websocket:
                    at_the_handler(counter, nursery.cancel_scope.cancel)
                    await websocket.send_message(message)

            server = await nursery.start(partial(trionet.serve_http, host="127.0.0.1"), serve, 0)
            in_thread(chat, server.port)

    trio.run(main)
    return counter


def echo_websockets_trio() -> Counter:
    import trio
    from websockets.trio.server import ServerConnection, serve

    counter = Counter("websockets")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def handler(websocket: ServerConnection) -> None:
                async for message in websocket:
                    at_the_handler(counter, nursery.cancel_scope.cancel)
                    await websocket.send(message)

            server = await nursery.start(partial(serve, handler, 0, host="127.0.0.1", **PLAIN))
            in_thread(chat, port_of(server))

    trio.run(main)
    return counter


def echo_websockets_asyncio() -> Counter:
    import asyncio

    from websockets.asyncio.server import ServerConnection, serve

    counter = Counter("websockets")

    async def main() -> None:
        stop = asyncio.Event()

        async def handler(websocket: ServerConnection) -> None:
            async for message in websocket:
                at_the_handler(counter, stop.set)
                await websocket.send(message)

        async with serve(handler, "127.0.0.1", 0, **PLAIN) as server:
            in_thread(chat, port_of(server))
            await stop.wait()

    asyncio.run(main())
    return counter


PLAIN: dict[str, Any] = {"compression": None, "ping_interval": None}


def port_of(server: Any) -> int:
    """Of a server of websockets."""
    listener = server.sockets[0] if hasattr(server, "sockets") else server.listeners[0].socket
    port: int = listener.getsockname()[1]
    return port


# --- closing a WebSocket ----------------------------------------------------------------------------------------


async def around(counter: Counter, operation: Callable[[], Awaitable[object]], stop: Callable[[], object]) -> Any:
    """One operation; the last one stops the program."""
    counter.begin()
    result = await operation()
    counter.end()
    if counter.enough:
        stop()
    return result


def close_trionet() -> Counter:
    import trio

    import trionet

    counter = Counter("trionet")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def serve(exchange: trionet.Exchange) -> None:
                websocket = await exchange.upgrade(trionet.to_websocket_server())
                await around(counter, websocket.aclose, nursery.cancel_scope.cancel)

            server = await nursery.start(partial(trionet.serve_http, host="127.0.0.1"), serve, 0)
            in_thread(be_closed, server.port)

    trio.run(main)
    return counter


def close_websockets_trio() -> Counter:
    import trio
    from websockets.trio.server import ServerConnection, serve

    counter = Counter("websockets")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def handler(websocket: ServerConnection) -> None:
                await around(counter, websocket.aclose, nursery.cancel_scope.cancel)

            server = await nursery.start(partial(serve, handler, 0, host="127.0.0.1", **PLAIN))
            in_thread(be_closed, port_of(server))

    trio.run(main)
    return counter


def close_websockets_asyncio() -> Counter:
    import asyncio

    from websockets.asyncio.server import ServerConnection, serve

    counter = Counter("websockets")

    async def main() -> None:
        stop = asyncio.Event()

        async def handler(websocket: ServerConnection) -> None:
            await around(counter, websocket.close, stop.set)

        async with serve(handler, "127.0.0.1", 0, **PLAIN) as server:
            in_thread(be_closed, port_of(server))
            await stop.wait()

    asyncio.run(main())
    return counter


# --- TLS --------------------------------------------------------------------------------------------------------


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    import trustme

    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trustme.CA().issue_cert("localhost").configure_cert(server)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for each in (server, client):
        each.minimum_version = ssl.TLSVersion.TLSv1_3
    return server, client


def tls_trionet() -> Counter:
    import trio

    import trionet

    ours, theirs = contexts()
    counter = Counter("trionet")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def serve(connection: trionet.Connection) -> None:
                upgrade = partial(connection.upgrade, trionet.to_tls_server(ours))
                (await around(counter, upgrade, nursery.cancel_scope.cancel)).abort()

            server = await nursery.start(partial(trionet.serve_tcp, host="127.0.0.1"), serve, 0)
            in_thread(shake_hands, server.port, theirs)

    trio.run(main)
    return counter


def tls_trio() -> Counter:
    import trio

    ours, theirs = contexts()
    counter = Counter("trio._ssl")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def serve(stream: trio.SocketStream) -> None:
                tls = trio.SSLStream(stream, ours, server_side=True)
                await around(counter, tls.do_handshake, nursery.cancel_scope.cancel)
                await trio.aclose_forcefully(tls)

            listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            in_thread(shake_hands, listeners[0].socket.getsockname()[1], theirs)

    trio.run(main)
    return counter


# --- a client's GET ---------------------------------------------------------------------------------------------


async def repeat(counter: Counter, operation: Callable[[], Awaitable[object]]) -> None:
    while not counter.enough:
        await around(counter, operation, bool)


def client_get_trionet() -> Counter:
    import trio

    import trionet

    counter = Counter("trionet")

    async def main() -> None:
        with fixed_server() as url:
            async with trionet.open_http_client() as client:

                async def get() -> None:
                    async with client.request("GET", url) as response:
                        assert await response.read() == BODY

                await repeat(counter, get)

    trio.run(main)
    return counter


def client_get_httpcore() -> Counter:
    import httpcore
    import trio

    counter = Counter("httpcore", "h11")

    async def main() -> None:
        with fixed_server() as url:
            async with httpcore.AsyncConnectionPool() as pool:

                async def get() -> None:
                    assert (await pool.request("GET", url)).content == BODY

                await repeat(counter, get)

    trio.run(main)
    return counter


def client_get_httpx() -> Counter:
    import httpx
    import trio

    counter = Counter("httpx", "httpcore", "h11")

    async def main() -> None:
        with fixed_server() as url:
            async with httpx.AsyncClient() as client:

                async def get() -> None:
                    assert (await client.get(url)).content == BODY

                await repeat(counter, get)

    trio.run(main)
    return counter


# --- the programme ----------------------------------------------------------------------------------------------

OPERATIONS: dict[str, dict[str, Callable[[], Counter]]] = {
    "server-get": {"trionet": server_get_trionet, "uvicorn": server_get_uvicorn},
    "echo": {
        "trionet": echo_trionet,
        "websockets-trio": echo_websockets_trio,
        "websockets-asyncio": echo_websockets_asyncio,
    },
    "close": {
        "trionet": close_trionet,
        "websockets-trio": close_websockets_trio,
        "websockets-asyncio": close_websockets_asyncio,
    },
    "tls": {"trionet": tls_trionet, "trio": tls_trio},
    "client-get": {"trionet": client_get_trionet, "httpcore": client_get_httpcore, "httpx": client_get_httpx},
}
"""By operation, then by whose; trionet's first."""

FIGURES = tuple(field.name for field in fields(Figures))


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("operation", choices=OPERATIONS)
    options.add_argument("subject")
    chosen = options.parse_args()
    OPERATIONS[chosen.operation][chosen.subject]().print()
    sys.stdout.flush()
    os._exit(0)  # the peer's thread may be blocked


if __name__ == "__main__":
    main()
