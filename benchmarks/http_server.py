"""What a request costs an HTTP server: CPU of trionet, other servers and a bare Trio loop, under the same load by wrk.

The figure is user plus system time of the server process, over the requests that wrk saw answered. The server has one
core for itself, wrk another. Before the load each server is asked what it answers, and refused if that is not the same
as the others' (see http_peers.py).
"""

from __future__ import annotations

import select
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from http_load import CLOSE, Load, Wrk, ask, dial, look, request_of
from http_peers import WORKLOADS
from paired import Goal, Report, finish, parser, positive, print_versions, run_rounds, versions
from processes import Cores, Started, choose_cores, on_core, raise_file_limit, start

PEERS = ("trionet", "uvicorn", "hypercorn", "bare loop", "aiohttp")
PACKAGES = ("uvicorn", "uvloop", "httptools", "hypercorn", "h11", "aiohttp")
ALLOWED: dict[str, set[str]] = {"aiohttp": {"server"}}
"""Fields that a server sends besides the common ones, and that cannot be switched off."""

GOALS = (
    Goal("trionet", "uvicorn", 0.75),
    Goal("trionet", "hypercorn", 1 / 12),
    Goal("trionet", "bare loop", 1.5),
    Goal("trionet", "aiohttp"),
)
TOGETHER = 16
MEMORY_ROUNDS = 3
"""At most: a round starts every server anew, and the figures hardly differ."""


# --- what is measured -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One server under one load."""

    server: str
    load: Load


@dataclass(frozen=True)
class Case:
    """One table: variants that do the same work."""

    title: str
    workload: str
    variants: Mapping[str, Variant]
    goals: Sequence[Goal]

    def among(self, servers: Sequence[str]) -> Case:
        """Only the variants of these servers, and the goals that are left."""
        variants = {name: each for name, each in self.variants.items() if each.server in servers}
        goals = [goal for goal in self.goals if goal.variant in variants and goal.reference in variants]
        return Case(self.title, self.workload, variants, goals)


def all_alike(title: str, workload: str, connections: int) -> Case:
    """Every server under the same load."""
    load = Load(connections)
    name = f"{title}, {connections} connection{'s' if connections > 1 else ''}"
    return Case(name, workload, {peer: Variant(peer, load) for peer in PEERS}, GOALS)


def pipelined() -> Case:
    """Requests that come together, beside requests that come one at a time."""
    batch = f"{TOGETHER} together"
    return Case(
        f"Hello world, {TOGETHER} requests at once, 32 connections",
        "hello",
        {
            f"trionet, {batch}": Variant("trionet", Load(32, TOGETHER)),
            "bare loop, one at a time": Variant("bare loop", Load(32)),
            "trionet, one at a time": Variant("trionet", Load(32)),
            f"uvicorn, {batch}": Variant("uvicorn", Load(32, TOGETHER)),
        },
        (
            Goal(f"trionet, {batch}", "bare loop, one at a time", 0.45),
            Goal(f"trionet, {batch}", "trionet, one at a time"),
            Goal(f"trionet, {batch}", f"uvicorn, {batch}"),
        ),
    )


def over_tls() -> Case:
    load = Load(32, over_tls=True)
    return Case(
        "Hello world over TLS 1.3, 32 connections",
        "hello",
        {peer: Variant(peer, load) for peer in ("trionet", "uvicorn", "aiohttp")},
        (Goal("trionet", "uvicorn", 0.9), Goal("trionet", "aiohttp")),
    )


def a_connection_each(*, over_tls: bool = False) -> Case:
    """Requests that come on connections of their own: what accepting, the first request and the end cost."""
    load = Load(32, over_tls=over_tls, fields=(CLOSE,))
    servers = ("trionet", "uvicorn", "aiohttp") if over_tls else ("trionet", "uvicorn", "hypercorn", "aiohttp")
    goal = Goal("trionet", "uvicorn", 1.1) if over_tls else Goal("trionet", "uvicorn", 1.0)
    return Case(
        f"Hello world, a connection per request{' over TLS 1.3' if over_tls else ''}, 32 at a time",
        "hello",
        {name: Variant(name, load) for name in servers},
        (goal, *(Goal("trionet", name) for name in servers[2:])),
    )


CASES = {
    "hello": [all_alike("Hello world, GET", "hello", connections) for connections in (1, 32, 256)],
    "large": [all_alike("Body of 10,000 bytes, GET", "large", 32)],
    "echo": [all_alike("Body of 1,024 bytes sent back, POST", "echo", 32)],
    "pipelined": [pipelined()],
    "tls": [over_tls()],
    "close": [a_connection_each(), a_connection_each(over_tls=True)],
}
MEMORY_GOALS = (Goal("trionet", "uvicorn", 1.0), Goal("trionet", "hypercorn"), Goal("trionet", "aiohttp"))


# --- measuring --------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """What all cases share."""

    cores: Cores
    wrk: Wrk
    certificate: Path
    authority: str
    commands: list[str] = field(default_factory=list)

    def server(self, name: str, workload: str, over_tls: bool = False) -> list[str]:
        """The command that starts this server."""
        program = str(Path(__file__).with_name("http_peers.py"))
        tls = [str(self.certificate)] if over_tls else []
        command = on_core(self.cores.measured, [sys.executable, program, name, workload, *tls])
        shown = " ".join(repr(each) if " " in each else each for each in command)
        if shown not in self.commands:
            self.commands.append(shown)
        return command

    def measure(self, case: Case, rounds: int) -> Report:
        """CPU microseconds that one request costs, for each variant."""
        workload = WORKLOADS[case.workload]
        with ExitStack() as stack:
            servers: dict[tuple[str, bool], tuple[Started, int]] = {}
            runs = {}
            print(f"\nFor “{case.title}”:")
            for name, variant in case.variants.items():
                load = variant.load
                key = variant.server, load.over_tls
                if key not in servers:
                    command = self.server(variant.server, case.workload, load.over_tls)
                    server = stack.enter_context(start(command))
                    authority = self.authority if load.over_tls else None
                    allowed = ALLOWED.get(variant.server, set())
                    line, size = look(variant.server, server, workload, allowed, authority, kept=load.kept)
                    print(" ", line, flush=True)
                    servers[key] = server, size
                runs[name] = partial(self.run, *servers[key], case.workload, load)
            return Report.of(case.title, "CPU µs a request", run_rounds(runs, rounds), case.goals)

    def run(self, server: Started, expected: int, workload: str, load: Load) -> float:
        """One run of wrk.

        The clock is read as soon as wrk has ended: what it has asked for by then and not seen answered is not counted
        on either side.
        """
        server.settle()
        before = server.cpu_seconds()
        requests = self.wrk.run(server.port, WORKLOADS[workload], load, expected)
        return (server.cpu_seconds() - before) / requests * 1e6

    def memory(self, servers: Sequence[str], connections: int, rounds: int) -> Report:
        """KiB that one idle connection costs, for each server."""
        raise_file_limit()
        measured = [name for name in PEERS if name in servers]
        runs = {name: partial(self.growth, name, connections) for name in measured}
        goals = [goal for goal in MEMORY_GOALS if {goal.variant, goal.reference} <= set(measured)]
        title = f"Memory of an idle connection that has had one answer, {connections} connections"
        return Report.of(title, "KiB a connection", run_rounds(runs, rounds), goals)

    def growth(self, name: str, connections: int) -> float:
        """By how much a fresh server's private memory grows."""
        workload = WORKLOADS["hello"]
        with start(self.server(name, "hello")) as server, ExitStack() as stack:
            request = request_of(workload, server.port)
            first = stack.enter_context(dial(server))
            for _ in range(100):  # whatever it loads and caches with its first requests
                ask(first, request)
            server.settle()
            before = server.private_bytes()
            socks: list[socket.socket] = []
            for _ in range(connections):
                socks.append(stack.enter_context(dial(server)))
                ask(socks[-1], request)
            server.settle()
            after = server.private_bytes()
            if lost := sum(1 for _ in ended(socks)):
                raise SystemExit(f"{name} ended {lost} of {connections} idle connections: nothing to compare")
        return (after - before) / connections / 1024


def ended(socks: Sequence[socket.socket]) -> Iterator[int]:
    """Those with something to read: nothing can be there but the end."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    for descriptor, _ in poll.poll(0):
        yield descriptor


# --- the programme ----------------------------------------------------------------------------------------------


@contextmanager
def certificate() -> Iterator[tuple[Path, str]]:
    """A file with a certificate for ``localhost`` and its key, and the PEM of the authority that signed it."""
    import trustme

    authority = trustme.CA()
    with tempfile.TemporaryDirectory(prefix="trionet-bench-") as folder:
        path = Path(folder, "localhost.pem")
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
        yield path, authority.cert_pem.bytes().decode("ascii")


def main() -> None:
    options = parser(__doc__, rounds=9)
    options.add_argument("--seconds", type=positive, default=1, help="how long wrk runs (default: %(default)s)")
    options.add_argument("--only", nargs="+", choices=(*CASES, "memory"), help="measure only these")
    options.add_argument("--servers", nargs="+", choices=PEERS, default=PEERS, help="only these servers")
    options.add_argument(
        "--connections", type=positive, default=2000, help="idle connections for the memory (default: %(default)s)"
    )
    chosen = options.parse_args()
    cores = choose_cores(chosen.pin)
    found = versions(*PACKAGES) | {"wrk": Wrk.version()}
    print_versions(chosen, found, str(cores))
    wanted = chosen.only or (*CASES, "memory")
    reports = []
    with certificate() as (path, authority):
        bench = Bench(cores, Wrk(chosen.seconds, cores.load), path, authority)
        for case in [case for name in CASES if name in wanted for case in CASES[name]]:
            reports.append(bench.measure(case.among(chosen.servers), chosen.rounds))
            reports[-1].print()
        if "memory" in wanted:
            reports.append(bench.memory(chosen.servers, chosen.connections, min(chosen.rounds, MEMORY_ROUNDS)))
            reports[-1].print()
    commands = [*bench.commands, *bench.wrk.commands]
    print("\nCommands", *commands, sep="\n  ")
    finish(chosen, reports, versions=found, cores=str(cores), commands=commands)


if __name__ == "__main__":
    main()
