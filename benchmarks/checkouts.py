"""What a change costs: two checkouts of trionet under the same load, in paired rounds.

The programs and the load are those of this checkout's other benchmarks, and use only what is public; each server and
each client gets its trionet from the checkout that it measures. For each case stands the median of the ratios within
the rounds, after / before, with a bootstrap interval of 95 %: a change that the interval does not tell from 1 costs
nothing that these rounds could see.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from http_clients import measure as measure_client
from http_load import CLOSE, Load, Wrk, look
from http_peers import WORKLOADS
from http_server import certificate
from paired import Peer, Samples, finish, open_peer, parser, pin, positive, print_table, print_versions, run_rounds
from processes import Cores, Started, choose_cores, on_core, start

GOAL = 1.03
"""The interval has to reach down to this."""

RESAMPLES = 10_000

HTTP = {
    "GET of 13 bytes, 1 connection": ("hello", Load(1)),
    "GET of 13 bytes, 32 connections": ("hello", Load(32)),
    "GET of 10,000 bytes, 32 connections": ("large", Load(32)),
    "POST of 1,024 bytes sent back, 32 connections": ("echo", Load(32)),
    "16 GETs at once, 32 connections": ("hello", Load(32, 16)),
    "GET over TLS 1.3, 32 connections": ("hello", Load(32, over_tls=True)),
    "a connection per request, 32 at a time": ("hello", Load(32, fields=(CLOSE,))),
    "a connection per request over TLS 1.3, 32 at a time": ("hello", Load(32, over_tls=True, fields=(CLOSE,))),
}
CLIENT = {"client's GET, 1 at a time": 1, "client's GET, 16 at a time": 16}
WEBSOCKET = {"WebSocket, 64 bytes, 32 connections": (32, 64), "WebSocket, 64 KiB, 8 connections": (8, 65536)}
CYCLE = "from connect to close, a line first, then WebSocket"
CASES = (*HTTP, *CLIENT, *WEBSOCKET, CYCLE)

HERE = Path(__file__).parent
WHEN = ("before", "after")


class Bench:
    """The two checkouts, and where everything runs."""

    def __init__(self, checkouts: Sequence[Path], cores: Cores, seconds: int, rounds: int) -> None:
        self.checkouts = dict(zip(WHEN, checkouts, strict=True))
        self.cores = cores
        self.seconds = seconds
        self.rounds = rounds
        self.wrk = Wrk(seconds, cores.load)

    @contextmanager
    def servers(self, program: str, *args: str) -> Iterator[dict[str, Started]]:
        """The same program once on each checkout."""
        with ExitStack() as stack:
            yield {
                when: stack.enter_context(
                    start(
                        ["env", f"PYTHONPATH={tree}", *on_core(self.cores.measured, [sys.executable, program, *args])]
                    )
                )
                for when, tree in self.checkouts.items()
            }

    def http(self, workload: str, load: Load) -> Samples:
        with certificate() as (path, authority):
            tls = [str(path)] if load.over_tls else []
            with self.servers(str(HERE / "http_peers.py"), "trionet", workload, *tls) as servers:
                runs = {}
                for when, server in servers.items():
                    trusted = authority if load.over_tls else None
                    _, size = look(when, server, WORKLOADS[workload], set(), trusted, kept=load.kept)
                    runs[when] = partial(self._http_run, server, workload, load, size)
                return run_rounds(runs, self.rounds)

    def _http_run(self, server: Started, workload: str, load: Load, size: int) -> float:
        server.settle()
        before = server.cpu_seconds()
        requests = self.wrk.run(server.port, WORKLOADS[workload], load, size)
        return (server.cpu_seconds() - before) / requests * 1e6

    def client(self, tasks: int) -> Samples:
        command = on_core(self.cores.load, [sys.executable, str(HERE / "http_peers.py"), "fixed", "hello"])
        with ExitStack() as stack:
            url = f"http://127.0.0.1:{stack.enter_context(start(command)).port}/"
            runs = {}
            for when, tree in self.checkouts.items():
                peer = stack.enter_context(open_peer())
                call(peer, use, str(tree), self.cores.measured)
                runs[when] = partial(call, peer, measure_client, "trionet", url, tasks, 1600 * self.seconds)
            return run_rounds(runs, self.rounds)

    def websocket(self, connections: int, size: int) -> Samples:
        from websocket_load import connect, echo, leave

        with self.servers(str(HERE / "websocket_peers.py"), "trionet", "echo") as servers, self.load() as load:
            runs = {}
            for when, server in servers.items():
                call(load, connect, server.port, connections, size)
                runs[when] = partial(cost, server, load, echo, self.seconds, False)
            samples = run_rounds(runs, self.rounds)
            for server in servers.values():
                call(load, leave, server.port)
        return samples

    def cycle(self) -> Samples:
        from websocket_cycle import cycles

        with self.servers(str(HERE / "websocket_peers.py"), "trionet", "line") as servers, self.load() as load:
            args = self.seconds, 16, True, False
            return run_rounds(
                {when: partial(cost, each, load, cycles, *args) for when, each in servers.items()}, self.rounds
            )

    @contextmanager
    def load(self) -> Iterator[Peer]:
        """A process that makes the load."""
        with open_peer() as peer:
            if self.cores.load is not None:
                call(peer, pin, self.cores.load)
            yield peer

    def run(self, case: str) -> Samples:
        """CPU microseconds, before and after, in each round."""
        if case in HTTP:
            return self.http(*HTTP[case])
        if case in CLIENT:
            return self.client(CLIENT[case])
        return self.websocket(*WEBSOCKET[case]) if case in WEBSOCKET else self.cycle()


def call(peer: Peer, function: Callable[..., object], *args: object) -> float:
    """Have another process do something."""
    peer.start(function, *args)
    peer.wait()
    return peer.value  # type: ignore[no-any-return]


def use(tree: str, core: int | None) -> None:
    """In a client's process: trionet comes from this checkout."""
    sys.path.insert(0, tree)
    if core is not None:
        pin(core)
    import trionet

    if not str(trionet.__file__).startswith(tree):
        raise RuntimeError(f"trionet came from {trionet.__file__}, not from {tree}")


def cost(server: Started, load: Peer, function: Callable[..., object], *args: object) -> float:
    """CPU microseconds of the server for each of the things that the load counts."""
    server.settle()
    before = server.cpu_seconds()
    count = call(load, function, server.port, *args)
    server.settle()
    return (server.cpu_seconds() - before) / count * 1e6


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The bootstrap interval of 95 % for the median of these ratios."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def row(case: str, samples: Samples) -> tuple[str, ...]:
    ratios = [after / before for before, after in zip(samples["before"], samples["after"], strict=True)]
    low, high = interval(ratios)
    medians = [f"{statistics.median(samples[when]):.2f}" for when in WHEN]
    return (
        case,
        *medians,
        f"{statistics.median(ratios):.3f}",
        f"{low:.3f}",
        f"{high:.3f}",
        "ok" if low <= GOAL else "dearer",
    )


def checkout(text: str) -> Path:
    """The type of an option: a folder with trionet in it."""
    path = Path(text).resolve()
    if not (path / "trionet" / "__init__.py").is_file():
        raise ValueError(text)
    return path


def commit(tree: Path) -> str:
    found = subprocess.run(
        ["git", "-C", str(tree), "describe", "--always", "--dirty"], check=False, capture_output=True, text=True
    )
    return found.stdout.strip() or "no commit"


def main() -> None:
    options = parser(__doc__, rounds=15)
    options.add_argument(
        "before", type=checkout, help="a checkout, for instance of `git worktree add ../before COMMIT`"
    )
    options.add_argument("after", type=checkout, nargs="?", default=HERE.parent, help="another (default: this one)")
    options.add_argument("--seconds", type=positive, default=1, help="how long each run takes (default: %(default)s)")
    options.add_argument("--only", metavar="TEXT", default="", help="only cases with this in their name")
    chosen = options.parse_args()
    os.environ.pop("PYTHONPATH", None)
    cores = choose_cores(chosen.pin)
    bench = Bench((chosen.before, chosen.after), cores, chosen.seconds, chosen.rounds)
    print_versions(chosen, where=str(cores))
    print(f"before: {commit(chosen.before)}, after: {commit(chosen.after)}, wrk {Wrk.version()}")
    rows = []
    for case in [case for case in CASES if chosen.only in case]:
        rows.append(row(case, bench.run(case)))
        print(" ", *rows[-1], sep="  ", flush=True)
    print(f"\nCPU µs a request, message or connection; after / before in {chosen.rounds} paired rounds")
    print_table(("case", *WHEN, "median", "2.5 %", "97.5 %", f"<= {GOAL}"), rows)
    finish(chosen, [], cores=str(cores), rows=rows)


if __name__ == "__main__":
    main()
