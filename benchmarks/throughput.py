"""Bulk data through `Connection` and `trio.SocketStream`, plain all the way, and with TLS put on and taken off again.

The Trio side sends back what it receives. The peer sends and receives at the same time and hashes both directions, so
hashing costs every variant the same and the Trio side nothing; unequal hashes are an error. A connection that is
upgraded twice carries a third of the bytes as plain TCP, a third over TLS 1.3 and the rest as plain TCP again; its
peer is the same done with `trio.SSLStream` and its `unwrap`.
"""

from __future__ import annotations

import hashlib
import random
import select
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio
from paired import (
    Goal,
    Peer,
    Report,
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

MIB = 1 << 20
CHUNK = 65536
PATTERN = 1_000_003
"""Length of the random block that is sent over and over: a prime, so that no chunk equals its neighbours."""

Server = Callable[[socket.socket], Awaitable[None]]
Argument = TypeVar("Argument")
Result = TypeVar("Result")


# --- the variants -----------------------------------------------------------------------------------------------


async def relay(stream: trio.abc.Stream, count: int) -> None:
    """Send back the next `count` bytes."""
    while count:
        data = await stream.receive_some()
        if not data:
            raise EOFError(f"the peer ended the connection with {count} bytes to come")
        await stream.send_all(data)
        count -= len(data)


async def serve_socket_stream(count: int, sock: socket.socket) -> None:
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
        await relay(stream, count)


async def serve_connection(count: int, sock: socket.socket) -> None:
    async with trionet.open_scope() as scope:
        await relay(scope.adopt(sock), count)


async def serve_upgraded(legs: Sequence[int], context: ssl.SSLContext, sock: socket.socket) -> None:
    async with trionet.open_scope() as scope:
        conn = scope.adopt(sock)
        await relay(conn, legs[0])
        conn = await conn.upgrade(trionet.to_tls_server(context))
        await relay(conn, legs[1])
        conn = await conn.upgrade(trionet.to_plaintext())
        await relay(conn, legs[2])


async def serve_ssl_stream(legs: Sequence[int], context: ssl.SSLContext, sock: socket.socket) -> None:
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as plain:
        await relay(plain, legs[0])
        tls = trio.SSLStream(plain, context, server_side=True)
        await relay(tls, legs[1])
        _, trailing = await tls.unwrap()
        if trailing:
            await plain.send_all(trailing)
        await relay(plain, legs[2] - len(trailing))


# --- the load ---------------------------------------------------------------------------------------------------


def load(address: tuple[str, int], legs: Sequence[int], authority: str) -> tuple[float, int, bool]:
    """The peer: sends and receives each leg's bytes, every second leg over TLS.

    Returns:
        Seconds, bytes received, whether these were exactly the bytes sent.
    """
    sent, received = hashlib.sha256(), hashlib.sha256()
    block = random.Random(0).randbytes(PATTERN)
    pattern = memoryview(block + block[:CHUNK])
    context = client_tls(authority)
    total = 0
    with dial(address) as plain:
        begin = time.perf_counter()
        sock = plain
        for number, count in enumerate(legs):
            over_tls = number % 2 == 1
            if over_tls:
                sock = context.wrap_socket(sock, server_hostname="localhost")
            total += exchange(sock, pattern, count, sent, received)
            if isinstance(sock, ssl.SSLSocket) and over_tls:
                sock.unwrap()  # from here on this object sends and receives as it is
        seconds = time.perf_counter() - begin
        sock.close()
    return seconds, total, sent.digest() == received.digest()


def exchange(sock: socket.socket, pattern: memoryview, count: int, sent: hashlib._Hash, received: hashlib._Hash) -> int:
    """Send `count` bytes and receive as many, both as they can be: how many were received."""
    sock.setblocking(False)
    to_send = to_receive = count
    at = 0
    while to_receive:
        readable, writable = ready(sock, to_send > 0)
        if writable:
            chunk = pattern[at : at + min(CHUNK, to_send)]
            size = nonblocking(sock.send, chunk) or 0
            sent.update(chunk[:size])
            at = (at + size) % PATTERN
            to_send -= size
        if readable:
            data = nonblocking(sock.recv, CHUNK)
            if data == b"":
                raise EOFError(f"the server ended the connection with {to_receive} bytes to come")
            if data is not None:
                received.update(data)
                to_receive -= len(data)
    sock.setblocking(True)
    return count - to_receive


def ready(sock: socket.socket, sending: bool) -> tuple[bool, bool]:
    """Wait until the socket can be read, or written if `sending`: which of the two."""
    decrypted = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
    readable, writable, _ = select.select([sock], [sock] if sending else [], [], 0 if decrypted else None)
    return decrypted or bool(readable), bool(writable)


def nonblocking(call: Callable[[Argument], Result], argument: Argument) -> Result | None:
    """What the call returns; None if it would have to wait."""
    try:
        return call(argument)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None


# --- the programme ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One transfer."""

    speed: float
    """MiB a second, from the connection to the last byte."""
    cpu: float
    """CPU microseconds of the Trio side for each MiB."""


def measure(peer: Peer, server: Server, legs: Sequence[int], authority: str) -> Run:
    """One transfer; raises unless every byte came back as it was sent."""
    with connected(peer, load, legs, authority) as sock:
        begin = time.process_time()
        trio.run(server, sock)
        cpu = time.process_time() - begin
    seconds, received, exact = peer.value
    if received != sum(legs) or not exact:
        raise ValueError(f"{received} of {sum(legs)} bytes came back, and not as they were sent")
    mib = received / MIB
    return Run(mib / seconds, cpu / mib * 1e6)


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("--mib", type=positive, default=1024, help="MiB a run (default: %(default)s)")
    chosen = options.parse_args()
    if chosen.pin:
        pin()
    print_versions(chosen)
    context, authority = server_tls()
    count = chosen.mib * MIB
    legs = [count // 3, count // 3, count - 2 * (count // 3)]
    with open_peer() as peer:

        def run(server: Server, legs: Sequence[int]) -> Callable[[], Run]:
            return partial(measure, peer, server, legs, authority)

        runs = run_rounds(
            {
                "Connection": run(partial(serve_connection, count), [count]),
                "SocketStream": run(partial(serve_socket_stream, count), [count]),
                "upgraded twice": run(partial(serve_upgraded, legs, context), legs),
                "SSLStream between": run(partial(serve_ssl_stream, legs, context), legs),
            },
            chosen.rounds,
        )
    speeds = {name: [run.speed for run in made] for name, made in runs.items()}
    costs = {name: [run.cpu for run in made] for name, made in runs.items()}
    plain = Goal("upgraded twice", "SocketStream")
    upgraded = Goal("upgraded twice", "SSLStream between")
    reports = [
        Report.of(
            f"{chosen.mib} MiB there and back, hashes equal",
            "MiB/s",
            speeds,
            [
                Goal("Connection", "SocketStream", 1.0, at_least=True),
                Goal("upgraded twice", "SSLStream between", 1.0, at_least=True),
                plain,
            ],
        ),
        Report.of(
            "The Trio side's share of it", "CPU µs/MiB", costs, [Goal("Connection", "SocketStream"), upgraded, plain]
        ),
    ]
    for report in reports:
        report.print()
    finish(chosen, reports)


if __name__ == "__main__":
    main()
