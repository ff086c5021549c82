"""What an echoed message costs a WebSocket server: CPU of trionet and other servers, under the same load by picows.

The figure is user plus system time of the server process, over the messages that came back, on connections that were
made before. The server has one core for itself, the load another. No compression, no keepalive. Before the load each
server is asked what it says, and refused if it does anything else than the others (see websocket_cycle.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from paired import Goal, Report, finish, positive, print_versions, run_rounds, versions
from websocket_bench import PACKAGES, Bench, available, open_bench, websocket_parser
from websocket_peers import PEERS

MEMORY_ROUNDS = 3
"""At most: a round starts every server anew, and the figures hardly differ."""
MEMORY_GOAL = 13.0
"""KiB that an idle WebSocket may cost."""
WARM = 100
"""Messages that a server has echoed before its memory is looked at."""
SIZE = 64
"""Bytes of a small message."""


@dataclass(frozen=True)
class Case:
    """One table: all servers under the same load."""

    connections: int
    size: int
    goals: Sequence[Goal]

    @property
    def title(self) -> str:
        size = f"{self.size} bytes" if self.size < 1024 else f"{self.size // 1024} KiB"
        return f"Messages of {size}, {self.connections:,} connections"


BESIDE = tuple(Goal("trionet", name) for name in ("aiohttp on asyncio", "aiohttp on uvloop", "picows"))
SMALL = (
    Goal("trionet", "trio-websocket", 0.40),
    Goal("trionet", "websockets on Trio", 0.40),
    Goal("trionet", "websockets on uvloop", 1.0),
    *BESIDE,
)
LARGE = (
    Goal("trionet", "trio-websocket", 0.20),
    Goal("trionet", "websockets on Trio", 0.70),
    Goal("trionet", "websockets on uvloop"),
    *BESIDE,
)
CASES = {
    "small": Case(32, SIZE, SMALL),
    "large": Case(8, 65536, LARGE),
    "many": Case(1000, SIZE, SMALL),
}


def among(goals: Sequence[Goal], servers: Sequence[str]) -> list[Goal]:
    """Those between servers that are measured."""
    return [goal for goal in goals if {goal.variant, goal.reference} <= set(servers)]


def messages(bench: Bench, case: Case, servers: Sequence[str], rounds: int, load: Sequence[Any]) -> Report:
    """CPU microseconds that one message costs, for each server."""
    from websocket_load import connect, echo, leave

    print(f"\nFor “{case.title}”:")
    with ExitStack() as stack:
        runs = {}
        for name in servers:
            server = stack.enter_context(bench.server(name))
            bench.look(name, server)
            bench.call(connect, server.port, case.connections, case.size)
            stack.callback(bench.call, leave, server.port)
            runs[name] = partial(bench.cost, server, echo, *load)
        samples = run_rounds(runs, rounds)
    return Report.of(case.title, "CPU µs a message", samples, among(case.goals, servers))


def memory(bench: Bench, servers: Sequence[str], connections: int, rounds: int) -> Report:
    """KiB that one idle WebSocket costs, for each server."""
    samples = run_rounds({name: partial(growth, bench, name, connections) for name in servers}, rounds)
    goals = [Goal("trionet", name) for name in PEERS[1:]]
    goal = f"{MEMORY_GOAL:g} KiB"
    samples[goal] = [MEMORY_GOAL] * rounds
    title = f"Memory of an idle WebSocket that has had one message, {connections:,} connections"
    return Report.of(title, "KiB a WebSocket", samples, among([Goal("trionet", goal, 1.0), *goals], [*servers, goal]))


def growth(bench: Bench, name: str, connections: int) -> float:
    """By how much a fresh server's private memory grows. That they are all alive is seen when they leave."""
    from websocket_load import connect, leave, once

    with bench.server(name) as server:
        bench.call(connect, server.port, 1, SIZE)
        for _ in range(WARM):  # whatever it loads and caches with its first messages
            bench.call(once, server.port)
        bench.call(leave, server.port)
        server.settle()
        before = server.private_bytes()
        bench.call(connect, server.port, connections, SIZE)
        server.settle()
        after = server.private_bytes()
        bench.call(leave, server.port)
    return (after - before) / connections / 1024


def main() -> None:
    options = websocket_parser(__doc__, rounds=9)
    options.add_argument("--only", nargs="+", choices=(*CASES, "memory"), help="measure only these")
    options.add_argument("--servers", nargs="+", choices=PEERS, default=PEERS, help="only these servers")
    options.add_argument(
        "--connections", type=positive, default=2000, help="idle WebSockets for the memory (default: %(default)s)"
    )
    chosen = options.parse_args()
    found = versions(*PACKAGES)
    servers = available([name for name in PEERS if name in chosen.servers])
    wanted = chosen.only or (*CASES, "memory")
    reports = []
    with open_bench(chosen.pin) as bench:
        print_versions(chosen, found, bench.where(chosen.busy))
        for case in [case for name, case in CASES.items() if name in wanted]:
            reports.append(messages(bench, case, servers, chosen.rounds, (chosen.seconds, chosen.busy)))
            reports[-1].print()
        if "memory" in wanted:
            reports.append(memory(bench, servers, chosen.connections, min(chosen.rounds, MEMORY_ROUNDS)))
            reports[-1].print()
        load = [
            "websocket_load.connect(PORT, CONNECTIONS, SIZE)",
            f"websocket_load.echo(PORT, {chosen.seconds}, {chosen.busy}) in every round",
            "websocket_load.leave(PORT)",
        ]
        commands = [*bench.commands, *load]
    print("\nCommands", *commands, sep="\n  ")
    finish(chosen, reports, versions=found, cores=str(bench.cores), commands=commands)


if __name__ == "__main__":
    main()
