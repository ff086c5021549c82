"""What a request costs an HTTP client: CPU of trionet, httpx on Trio and aiohttp on uvloop, against the same server.

The figure is user plus system time of the client's process, once its connections are made. The server (`serve_fixed`
in http_peers.py) answers every request with the same bytes, faster than any of the clients can ask, from a core of
its own. Each client has a process, started once.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from http_clients import CLIENTS, WARM, measure
from http_load import ask, dial
from http_peers import WORKLOADS
from paired import Goal, Peer, Report, finish, open_peer, parser, pin, positive, print_versions, run_rounds, versions
from processes import Started, choose_cores, on_core, start

PACKAGES = ("httpx", "httpcore", "h11", "anyio", "aiohttp", "uvloop")
GOALS = {
    1: (Goal("trionet", "httpx"), Goal("trionet", "aiohttp", 0.8)),
    16: (Goal("trionet", "httpx", 1 / 12), Goal("trionet", "aiohttp", 0.8)),
}
BESIDES = (
    Goal("trionet, fail_after", "httpx"),
    Goal("trionet, fail_after", "aiohttp"),
    Goal("httpx over trionet", "httpx"),
)


def question(server: Started, path: str) -> bytes:
    """What the server says about itself, see `serve_fixed`."""
    with closing(dial(server)) as sock:
        return ask(sock, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("ascii")).body


def run(peer: Peer, server: Started, name: str, tasks: int, requests: int) -> float:
    """One run of one client; refused if it made more connections than it had tasks."""
    before = int(question(server, "/connections"))
    peer.start(measure, name, f"http://127.0.0.1:{server.port}/", tasks, requests)
    peer.wait()
    made = int(question(server, "/connections")) - before - 1  # less this one
    if made > tasks:
        raise SystemExit(f"{name} made {made} connections for {tasks} tasks: they were not kept")
    return float(peer.value)


def main() -> None:
    options = parser(__doc__, rounds=11)
    options.add_argument(
        "--requests", type=positive, default=1600, help="in a run, of all tasks together (default: %(default)s)"
    )
    options.add_argument("--only", type=int, choices=GOALS, help="only with so many requests at the same time")
    options.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS), help="only these clients")
    chosen = options.parse_args()
    cores = choose_cores(chosen.pin)
    found = versions(*PACKAGES)
    print_versions(chosen, found, str(cores))
    if cores.measured is not None:
        pin(cores.measured)
    program = str(Path(__file__).with_name("http_peers.py"))
    command = on_core(cores.load, [sys.executable, program, "fixed", "hello"])
    reports = []
    with ExitStack() as stack:
        server = stack.enter_context(start(command))
        peers = {name: stack.enter_context(open_peer()) for name in chosen.clients}
        heads = {}
        for name, peer in peers.items():
            run(peer, server, name, 1, 1)
            heads[name] = question(server, "/request").decode("latin-1")
            print(f"\n{name} asks\n  " + heads[name].strip().replace("\r\n", "\n  "))
        for tasks, goals in GOALS.items():
            if chosen.only in (None, tasks):
                runs = {name: partial(run, peer, server, name, tasks, chosen.requests) for name, peer in peers.items()}
                title = f"GET of {len(WORKLOADS['hello'].body)} bytes, {tasks} at the same time"
                wanted = [goal for goal in (*goals, *BESIDES) if {goal.variant, goal.reference} <= peers.keys()]
                reports.append(Report.of(title, "CPU µs a request", run_rounds(runs, chosen.rounds), wanted))
                reports[-1].print()
    commands = server_and_clients(command, chosen.requests)
    print("\nCommands", *commands, sep="\n  ")
    finish(chosen, reports, versions=found, cores=str(cores), commands=commands, requests=heads)


def server_and_clients(command: list[str], requests: int) -> list[str]:
    """What ran, to be run again by hand."""
    return [
        " ".join(command),
        f"http_clients.measure(NAME, URL, TASKS, {requests}), after {WARM} requests of each task",
    ]


if __name__ == "__main__":
    main()
