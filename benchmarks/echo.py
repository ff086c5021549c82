"""What an echo costs the server: CPU per round trip of `Connection`, Trio's own streams and a bare loop.

The figure is user plus system time of the process that runs Trio, from the established connection to the peer's EOF.
The peer is a blocking client: it sends a message, waits until all of it has come back, sends the next.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio
from paired import (
    Goal,
    Peer,
    Report,
    Samples,
    client_tls,
    connected,
    dial,
    finish,
    open_peer,
    parser,
    pin,
    positive,
    print_versions,
    run_rounds,
    server_tls,
)

import trionet

SMALL, LARGE = 64, 65536
RECEIVE = 65536
"""What the bare loop asks for at most: as much as Trio's stream and trionet's."""

Server = Callable[[socket.socket], Awaitable[float]]
"""Echoes until EOF: the CPU seconds that it took."""


# --- the variants -----------------------------------------------------------------------------------------------


async def echo(stream: trio.abc.Stream) -> float:
    """The loop of all variants but the bare one."""
    begin = time.process_time()
    while data := await stream.receive_some():
        await stream.send_all(data)
    return time.process_time() - begin


async def serve_bare(sock: socket.socket) -> float:
    """The least that a correct echo on Trio can do."""
    begin = time.process_time()
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            data = sock.recv(RECEIVE)
        except BlockingIOError:
            continue
        if not data:
            return time.process_time() - begin
        sent = sock.send(data)
        if sent != len(data):
            await send_rest(sock, memoryview(data)[sent:])


async def send_rest(sock: socket.socket, rest: memoryview) -> None:
    while rest:
        await trio.lowlevel.wait_writable(sock)
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            continue


async def serve_socket_stream(sock: socket.socket) -> float:
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
        return await echo(stream)


async def serve_connection(sock: socket.socket) -> float:
    async with trionet.open_scope() as scope:
        return await echo(scope.adopt(sock))


async def serve_ssl_stream(context: ssl.SSLContext, sock: socket.socket) -> float:
    lower = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    async with trio.SSLStream(lower, context, server_side=True) as stream:
        await stream.do_handshake()
        return await echo(stream)


async def serve_connection_tls(context: ssl.SSLContext, sock: socket.socket) -> float:
    async with trionet.open_scope() as scope:
        conn = await scope.adopt(sock).upgrade(trionet.to_tls_server(context))
        return await echo(conn)


# --- the load ---------------------------------------------------------------------------------------------------


def load(address: tuple[str, int], size: int, messages: int, authority: str | None) -> None:
    """The peer: `messages` round trips of `size` bytes, over TLS if there is an authority."""
    message = bytes(size)
    with dial(address) as plain:
        sock = plain
        if authority is not None:
            sock = client_tls(authority).wrap_socket(plain, server_hostname="localhost")
        for _ in range(messages):
            sock.sendall(message)
            missing = size
            while missing:
                data = sock.recv(missing)
                if not data:
                    raise EOFError(f"the server ended the connection with {missing} bytes to come")
                missing -= len(data)
        if isinstance(sock, ssl.SSLSocket):
            sock = sock.unwrap()
        sock.close()


def measure(peer: Peer, server: Server, size: int, messages: int, authority: str | None = None) -> float:
    """CPU microseconds that one round trip costs the server."""
    with connected(peer, load, size, messages, authority) as sock:
        return trio.run(server, sock) / messages * 1e6


# --- the programme ----------------------------------------------------------------------------------------------


def main() -> None:
    options = parser(__doc__, rounds=41)
    options.add_argument(
        "--messages", type=positive, default=1500, help="64-byte round trips in a run (default: %(default)s)"
    )
    options.add_argument("--only", choices=("plain", "tls"), help="measure only one of the two")
    chosen = options.parse_args()
    if chosen.pin:
        pin()
    print_versions(chosen)
    context, authority = server_tls()
    reports: list[Report] = []
    with open_peer() as peer:

        def rounds(servers: Mapping[str, Server], size: int, authority: str | None = None) -> Samples:
            messages = chosen.messages if size == SMALL else max(1, chosen.messages // 8)
            runs = {name: partial(measure, peer, server, size, messages, authority) for name, server in servers.items()}
            return run_rounds(runs, chosen.rounds)

        def report(title: str, samples: Samples, *goals: Goal) -> None:
            reports.append(Report.of(title, "CPU µs a round trip", samples, goals))
            reports[-1].print()

        plain = {"Connection": serve_connection, "SocketStream": serve_socket_stream, "bare loop": serve_bare}
        tls: dict[str, Server] = {
            "Connection": partial(serve_connection_tls, context),
            "SSLStream": partial(serve_ssl_stream, context),
        }
        if chosen.only != "tls":
            for size, bound in ((SMALL, 0.80), (LARGE, 0.95)):
                report(
                    f"Echo of {size} bytes, plain TCP",
                    rounds(plain, size),
                    Goal("Connection", "SocketStream", bound),
                    Goal("Connection", "bare loop", 1.20),
                )
        if chosen.only != "plain":
            for size, tls_bound in ((SMALL, 0.55), (LARGE, None)):
                report(
                    f"Echo of {size} bytes, TLS 1.3",
                    rounds(tls, size, authority),
                    Goal("Connection", "SSLStream", tls_bound),
                )
    finish(chosen, reports)


if __name__ == "__main__":
    main()
