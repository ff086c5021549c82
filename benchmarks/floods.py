"""How long a flood of small inputs holds a server's loop: trionet, trio-websocket and uvicorn under the same flood.

40 clients send the same bytes over and over, as fast as the server takes them, and read what comes back. Two figures
for each kind of flood and each server: the longest step, and the latest wake-up of a 10 ms timer (see flood_peers.py).
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flood_peers import SERVERS, WORKS, address
from paired import Goal, Report, finish, parser, pin, positive, print_versions, versions
from processes import Cores, Started, choose_cores, on_core, start

STEP_GOAL = 5.0
"""Milliseconds that one step may take."""
LIMIT = f"{STEP_GOAL:g} ms"
SEGMENT = 65536
"""Bytes that a client sends at once, about."""
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
UPLOAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
KEY = bytes(4)
"""A masking key that leaves everything as it is."""


def frame(first: int, payload: bytes = b"") -> bytes:
    """A client's frame."""
    return bytes((first, 0x80 | len(payload))) + KEY + payload


@dataclass(frozen=True)
class Flood:
    """What a client sends first, and what it repeats."""

    first: bytes
    again: bytes
    works: Sequence[str]
    servers: Sequence[str]


WEBSOCKET = partial(Flood, HANDSHAKE, works=("asleep", "reading"), servers=tuple(SERVERS))
HTTP = partial(Flood, servers=("trionet", "uvicorn"))
FLOODS = {
    "pings": WEBSOCKET(again=frame(0x89, b"ping")),
    "pongs": WEBSOCKET(again=frame(0x8A, b"pong")),
    "empty messages": WEBSOCKET(again=frame(0x81)),
    "tiny fragments": WEBSOCKET(again=frame(0x02, b"x") + frame(0x00, b"x") * 100 + frame(0x80)),
    "pipelined requests": HTTP(b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", works=("hello",)),
    "1-byte chunks": HTTP(UPLOAD, b"1\r\nx\r\n", works=("upload",)),
}


# --- the load ---------------------------------------------------------------------------------------------------


def flood(running: Started, kind: Flood, clients: int, seconds: float) -> dict[str, Any]:
    """Flood this server for so long: its figures."""
    segment = kind.again * (SEGMENT // len(kind.again))
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(clients):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            client.sendall(kind.first)
            if kind.first == HANDSHAKE:
                client.recv(SEGMENT)
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, [segment])
        figures(running.pid)  # the handshakes, and what was loaded for the first one, do not count
        _send(selector, segment, time.monotonic() + seconds)
        return figures(running.pid)


def _send(selector: selectors.BaseSelector, segment: bytes, until: float) -> None:
    while time.monotonic() < until:
        for key, events in selector.select(0.1):
            client: socket.socket = key.fileobj  # type: ignore[assignment]
            if events & selectors.EVENT_READ and not client.recv(SEGMENT):
                raise SystemExit("a server ended a connection that was flooded")
            if events & selectors.EVENT_WRITE:
                sent = client.send(key.data[0])
                key.data[0] = key.data[0][sent:] or segment  # never out of step, whatever was taken


def figures(pid: int) -> dict[str, Any]:
    """The longest step and the latest wake-up since the last time."""
    with socket.socket(socket.AF_UNIX) as asking:
        while asking.connect_ex(address(pid)):  # the port is announced a little before
            time.sleep(0.01)
        found: dict[str, Any] = json.loads(asking.makefile("rb").read())
        return found


# --- the rounds -------------------------------------------------------------------------------------------------


def run(name: str, work: str, kind: Flood, cores: Cores, chosen: argparse.Namespace) -> dict[str, float | None]:
    """One flood of a fresh server: its figures in milliseconds."""
    program = str(Path(__file__).with_name("flood_peers.py"))
    with start(on_core(cores.measured, [sys.executable, program, name, work])) as running:
        found = flood(running, kind, chosen.clients, chosen.seconds)
    return {figure: None if found[figure] is None else found[figure] * 1000 for figure in ("step", "late")}


def reports(name: str, work: str, cores: Cores, chosen: argparse.Namespace) -> list[Report]:
    """What one kind of flood does to each server whose handlers do this."""
    kind = FLOODS[name]
    servers = [each for each in kind.servers if each in chosen.servers]
    rounds: dict[str, list[dict[str, float | None]]] = {each: [] for each in servers}
    for turn in range(chosen.rounds):
        for each in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
            rounds[each].append(run(each, work, kind, cores, chosen))
    late = {each: [found["late"] for found in rounds[each]] for each in servers}
    steps = {each: [found["step"] for found in rounds[each]] for each in servers if each != "uvicorn"}
    goals = []
    if "trionet" in steps:
        steps[LIMIT] = [STEP_GOAL] * chosen.rounds
        goals = [Goal("trionet", LIMIT, 1.0)]
    beside = [Goal("trionet", each) for each in servers if each != "trionet" and "trionet" in servers]
    title = f"{name.capitalize()}, {WORKS[work]}, {chosen.clients} clients"
    return [
        Report.of(f"{title}: the longest step", "CPU ms", steps, goals),
        Report.of(f"{title}: the latest wake-up of a timer", "ms", late, beside),
    ]


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--only", nargs="+", choices=FLOODS, default=tuple(FLOODS), help="only these floods")
    options.add_argument("--servers", nargs="+", choices=SERVERS, default=tuple(SERVERS), help="only these servers")
    options.add_argument("--clients", type=positive, default=40, help="how many flood (default: %(default)s)")
    options.add_argument("--seconds", type=positive, default=3, help="how long each flood takes (default: %(default)s)")
    chosen = options.parse_args()
    cores = choose_cores(chosen.pin)
    if cores.load is not None:
        pin(cores.load)
    print_versions(chosen, versions("trio-websocket", "uvicorn", "websockets", "uvloop"), str(cores))
    found = []
    for name in chosen.only:
        for work in FLOODS[name].works:
            for report in reports(name, work, cores, chosen):
                report.print()
                found.append(report)
    finish(chosen, found)


if __name__ == "__main__":
    main()
