"""How long Python's garbage collector holds a server up beside hostile connections, and what each costs it.

The clients of a crowd: 3 of 8 send the head of a request byte by byte, 3 of 8 are idle, 1 of 8 asks for 8 MiB and
hardly reads, 1 of 8 sends garbage, is sent away and comes again; and one good client asks all the time.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from collector_peers import SERVERS, address
from paired import Goal, Report, finish, parser, pin, positive, print_table, print_versions, versions
from processes import Cores, Started, choose_cores, on_core, raise_file_limit, start

TURN = 0.05
"""Seconds between two bytes of those who are slow."""
LEAST = 10
"""Requests of the good client between them."""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
GARBAGE = b"\x16\x03\x01\x02\x00\x01\x00\xfc\x03\x03 no request at all\r\n\r\n"
KINDS = {"idle": b"", "answered": GET, "slow head": HEAD, "slow reader": LARGE}
"""The kinds of connections whose objects are counted, and what they send."""


# --- the clients ------------------------------------------------------------------------------------------------


class Crowd:
    """So many hostile clients of one server."""

    def __init__(self, port: int, size: int, stack: ExitStack) -> None:
        self._port = port
        self._stack = stack
        self.idle = [self.connect() for _ in range(size * 3 // 8)]
        self.heads = [self.connect() for _ in range(size * 3 // 8)]
        self.readers = [self.connect(LARGE) for _ in range(size // 8)]
        self.garbage = [self.connect(GARBAGE) for _ in range(size // 8)]
        self._sent = 0

    def connect(self, first: bytes = b"") -> socket.socket:
        client = self._stack.enter_context(socket.create_connection(("127.0.0.1", self._port)))
        client.sendall(first)
        client.setblocking(False)
        return client

    def turn(self) -> None:
        """Everybody does its worst once more."""
        byte = HEAD[self._sent : self._sent + 1] or b"a"
        self._sent += 1
        for client in self.heads:
            client.send(byte)
        for client in self.readers:
            with suppress(BlockingIOError):
                client.recv(1024)
        self._come_again()

    def _come_again(self) -> None:
        for place, client in enumerate(self.garbage):
            gone = False
            with suppress(BlockingIOError):
                try:
                    while not gone:
                        gone = not client.recv(65536)
                except ConnectionError:
                    gone = True
            if gone:
                client.close()
                self.garbage[place] = self.connect(GARBAGE)


def attack(running: Started, size: int, seconds: float) -> dict[str, Any]:
    """Let a crowd in and have it stay for so long: what the collector did meanwhile."""
    with ExitStack() as stack:
        good = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
        crowd = Crowd(running.port, size, stack)
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            crowd.turn()
            asked = 0
            while asked < LEAST or time.monotonic() < now + TURN:
                asked += 1
                good.sendall(GET)
                if not good.recv(65536):
                    raise SystemExit("a server ended the connection of a good client")
        found: dict[str, Any] = ask(running.pid, "pauses")
        return found


# --- the figures ------------------------------------------------------------------------------------------------


def ask(pid: int, what: str) -> Any:
    with socket.socket(socket.AF_UNIX) as asking:
        while asking.connect_ex(address(pid)):  # the port may be announced a little before
            time.sleep(0.01)
        asking.sendall(what.encode())
        return json.loads(asking.makefile("rb").read())


def command(name: str, cores: Cores) -> list[str]:
    return on_core(cores.measured, [sys.executable, str(Path(__file__).with_name("collector_peers.py")), name])


def census(name: str, kind: str, cores: Cores, count: int) -> dict[str, float]:
    """Objects per connection of this kind, by type."""
    with start(command(name, cores)) as running, ExitStack() as stack:
        first = converse(running, kind, stack)  # what is made once does not count
        running.settle()
        ask(running.pid, "rest")
        before = ask(running.pid, "census")
        for _ in range(count):
            converse(running, kind, stack)
        running.settle()
        after = ask(running.pid, "census")
        first.close()
    return {each: (after[each] - before.get(each, 0)) / count for each in after}


def converse(running: Started, kind: str, stack: ExitStack) -> socket.socket:
    client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
    client.sendall(KINDS[kind])
    if kind == "answered":
        client.recv(65536)
    return client


# --- the rounds -------------------------------------------------------------------------------------------------


def pauses(name: str, size: int, cores: Cores, seconds: float) -> dict[str, float]:
    """One attack on a fresh server: the longest pause meanwhile, and that of a full collection at its end, in ms."""
    with start(command(name, cores)) as running:
        found = attack(running, size, seconds)
    longest = max(each["longest"] for each in found["generations"])
    return {"longest": longest * 1000, "full": found["full"] * 1000}


def report_pauses(size: int, cores: Cores, chosen: argparse.Namespace) -> list[Report]:
    """What a crowd of this size does to each server."""
    rounds: dict[str, list[dict[str, float]]] = {each: [] for each in chosen.servers}
    for turn in range(chosen.rounds):
        for each in chosen.servers[turn % len(chosen.servers) :] + chosen.servers[: turn % len(chosen.servers)]:
            rounds[each].append(pauses(each, size, cores, chosen.seconds))
    goals = [Goal(each, "uvicorn") for each in chosen.servers if each != "uvicorn" and "uvicorn" in chosen.servers]
    titles = {"longest": "the longest pause", "full": "a full collection at the end"}
    return [
        Report.of(
            f"{size} hostile connections: {title}",
            "CPU ms",
            {each: [found[figure] for found in rounds[each]] for each in chosen.servers},
            goals,
        )
        for figure, title in titles.items()
    ]


def print_census(cores: Cores, chosen: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """The objects of each kind of connection, and with --types which they are."""
    found = {each: {kind: census(each, kind, cores, chosen.connections) for kind in KINDS} for each in chosen.servers}
    print("\nObjects that the collector tracks for a connection")
    rows = [(each, *(f"{sum(kinds[kind].values()):.0f}" for kind in KINDS)) for each, kinds in found.items()]
    print_table(("server", *KINDS), rows)
    if chosen.types:
        for each, kinds in found.items():
            print(f"\n{each}, {chosen.types}")
            types = sorted(kinds[chosen.types].items(), key=lambda item: -item[1])
            print_table(("type", "objects"), [(name, f"{count:.0f}") for name, count in types if count > 0.5])
    return found


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), help="only these servers")
    options.add_argument("--sizes", nargs="+", type=positive, default=[800, 5000], help="hostile connections")
    options.add_argument("--seconds", type=positive, default=4, help="how long they stay (default: %(default)s)")
    options.add_argument(
        "--connections", type=positive, default=200, help="how many are counted (default: %(default)s)"
    )
    options.add_argument("--types", choices=KINDS, help="print the types of the objects of this kind of connection")
    chosen = options.parse_args()
    cores = choose_cores(chosen.pin)
    raise_file_limit()
    if cores.load is not None:
        pin(cores.load)
    print_versions(chosen, versions("uvicorn", "uvloop", "httptools", "hypercorn", "h11"), str(cores))
    objects = print_census(cores, chosen)
    found = []
    for size in chosen.sizes:
        for report in report_pauses(size, cores, chosen):
            report.print()
            found.append(report)
    finish(chosen, found, objects=objects)


if __name__ == "__main__":
    main()
