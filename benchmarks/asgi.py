"""What a request costs an ASGI server: CPU of trionet, uvicorn, hypercorn on Trio and granian, under the same load.

The figure is user plus system time of the server process, over the requests that wrk saw answered; the server has one
core for itself, the load another (see http_server.py). For the WebSocket it is the time over the messages that came
back. Before the load each server is asked what it answers, and refused if that is not the same as the others'.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from asgi_peers import WORKLOADS
from http_load import Load, Wrk, look
from paired import Goal, Report, finish, parser, positive, print_versions, run_rounds, versions
from processes import Cores, Started, choose_cores, on_core, start

PEERS = ("trionet", "uvicorn", "hypercorn", "granian")
PACKAGES = ("uvicorn", "uvloop", "httptools", "hypercorn", "h11", "granian", "starlette", "websockets")
ALLOWED = {"granian": {"server"}}
"""Fields that a server sends besides the common ones, and that cannot be switched off."""
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: http://127.0.0.1/elsewhere",
    "Cookie: session=0123456789abcdef; theme=dark",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0, i",
)
"""The eleven fields, besides Host, that a browser sends."""


@dataclass(frozen=True)
class Case:
    """One table."""

    title: str
    application: str
    load: Load
    limit: float = 1.0
    """What trionet may cost at most, as a part of uvicorn."""

    def goals(self, servers: Sequence[str]) -> list[Goal]:
        goals = [
            Goal("trionet", "uvicorn", self.limit),
            Goal("trionet", "hypercorn", 0.09),
            Goal("trionet", "granian"),
        ]
        return [goal for goal in goals if goal.reference in servers and goal.variant in servers]


CASES = {
    "hello": [Case(f"Hello world, GET, connections: {many}", "hello", Load(many)) for many in (1, 32, 256)],
    "browser": [
        Case("Hello world, GET with 11 fields of a browser, 32 connections", "hello", Load(32, fields=BROWSER))
    ],
    "starlette": [Case("Hello world by Starlette, GET, 32 connections", "starlette", Load(32))],
    "json": [Case("1 kB of JSON read and answered with, POST, 32 connections", "json", Load(32))],
}


@dataclass
class Bench:
    """What all cases share."""

    cores: Cores
    wrk: Wrk
    commands: list[str] = field(default_factory=list)

    def server(self, name: str, application: str) -> list[str]:
        program = str(Path(__file__).with_name("asgi_peers.py"))
        command = on_core(self.cores.measured, [sys.executable, program, name, application])
        self.commands.append(" ".join(command))
        return command

    def measure(self, case: Case, servers: Sequence[str], rounds: int) -> Report:
        """CPU microseconds that one request costs, for each server."""
        workload = WORKLOADS[case.application]
        with ExitStack() as stack:
            runs = {}
            print(f"\nFor “{case.title}”:")
            for name in servers:
                server = stack.enter_context(start(self.server(name, case.application)))
                line, size = look(name, server, workload, ALLOWED.get(name, set()))
                print(" ", line, flush=True)
                runs[name] = partial(self.run, server, size, case)
            return Report.of(case.title, "CPU µs a request", run_rounds(runs, rounds), case.goals(servers))

    def run(self, server: Started, expected: int, case: Case) -> float:
        server.settle()
        before = server.cpu_seconds()
        requests = self.wrk.run(server.port, WORKLOADS[case.application], case.load, expected)
        return (server.cpu_seconds() - before) / requests * 1e6

    def measure_websocket(self, servers: Sequence[str], rounds: int) -> Report:
        """CPU microseconds that one message there and back costs, for each server that speaks WebSocket."""
        title = "WebSocket echo of 64 bytes through an application, 32 connections"
        with ExitStack() as stack:
            runs = {}
            for name in servers:
                server = stack.enter_context(start(self.server(name, "echo")))
                runs[name] = partial(self.run_websocket, server)
            goals = [goal for goal in Case(title, "echo", Load(32)).goals(servers) if goal.reference != "hypercorn"]
            return Report.of(title, "CPU µs a message", run_rounds(runs, rounds), goals)

    def run_websocket(self, server: Started) -> float:
        server.settle()
        before = server.cpu_seconds()
        program = str(Path(__file__).with_name("asgi_websocket_load.py"))
        command = on_core(self.cores.load, [sys.executable, program, str(server.port), str(self.wrk.seconds)])
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return (server.cpu_seconds() - before) / found["messages"] * 1e6


def main() -> None:
    options = parser(__doc__, rounds=9)
    options.add_argument("--seconds", type=positive, default=1, help="how long the load runs (default: %(default)s)")
    options.add_argument("--only", nargs="+", choices=(*CASES, "websocket"), help="measure only these")
    options.add_argument("--servers", nargs="+", choices=PEERS, default=PEERS, help="only these servers")
    chosen = options.parse_args()
    cores = choose_cores(chosen.pin)
    found = versions(*PACKAGES) | {"wrk": Wrk.version()}
    print_versions(chosen, found, str(cores))
    wanted = chosen.only or (*CASES, "websocket")
    bench = Bench(cores, Wrk(chosen.seconds, cores.load))
    reports = []
    for case in [case for name in CASES if name in wanted for case in CASES[name]]:
        reports.append(bench.measure(case, chosen.servers, chosen.rounds))
        reports[-1].print()
    if "websocket" in wanted:
        reports.append(bench.measure_websocket(chosen.servers, chosen.rounds))
        reports[-1].print()
    commands = [*bench.commands, *bench.wrk.commands]
    print("\nCommands", *commands, sep="\n  ")
    finish(chosen, reports, versions=found, cores=str(cores), commands=commands)


if __name__ == "__main__":
    main()
