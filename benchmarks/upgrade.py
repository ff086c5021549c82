"""What a client costs that talks plain TCP first and WebSocket then, next to one that connects, echoes and closes.

The client connects, says a line, hears a line, upgrades to WebSocket, has one message of 64 bytes echoed, and closes;
with the other servers it connects, has its message echoed, and closes. The figure is user plus system time of the
server process, from accept to close, over such clients. The server has one core for itself, the load another.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from paired import Goal, Report, finish, positive, print_versions, run_rounds, versions
from websocket_bench import PACKAGES, available, open_bench, websocket_parser
from websocket_peers import PEERS

UPGRADED, PLAIN = "trionet, line first", "trionet, no line"
VARIANTS = {UPGRADED: ("trionet", "line"), PLAIN: ("trionet", "echo"), **{name: (name, "echo") for name in PEERS[1:]}}
GOALS = (
    Goal(UPGRADED, "trio-websocket", 0.5),
    Goal(UPGRADED, "websockets on uvloop", 0.8),
    *(Goal(UPGRADED, name) for name in ("websockets on Trio", "aiohttp on asyncio", "aiohttp on uvloop", "picows")),
    *(Goal(PLAIN, name) for name in ("trio-websocket", "websockets on uvloop")),
)


def main() -> None:
    options = websocket_parser(__doc__, rounds=11)
    options.add_argument("--clients", type=positive, default=16, help="at the same time (default: %(default)s)")
    options.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS, help="measure only these")
    chosen = options.parse_args()
    found = versions(*PACKAGES)
    servers = available([name for name in PEERS if any(VARIANTS[each][0] == name for each in chosen.only)])
    variants = {name: each for name, each in VARIANTS.items() if name in chosen.only and each[0] in servers}
    with open_bench(chosen.pin) as bench, ExitStack() as stack:
        from websocket_cycle import cycles

        print_versions(chosen, found, bench.where(chosen.busy))
        runs = {}
        for name, (server, work) in variants.items():
            started = stack.enter_context(bench.server(server, work))
            bench.look(name, started, work == "line")
            load = chosen.seconds, chosen.clients, work == "line", chosen.busy
            runs[name] = partial(bench.cost, started, cycles, *load)
        goals = [goal for goal in GOALS if {goal.variant, goal.reference} <= variants.keys()]
        title = f"From connect to close, one message of 64 bytes, {chosen.clients} clients at the same time"
        report = Report.of(title, "CPU µs a client", run_rounds(runs, chosen.rounds), goals)
        report.print()
        commands = [
            *bench.commands,
            f"websocket_cycle.cycles(PORT, {chosen.seconds}, {chosen.clients}, LINE, {chosen.busy})",
        ]
    print("\nCommands", *commands, sep="\n  ")
    finish(chosen, [report], versions=found, cores=str(bench.cores), commands=commands)


if __name__ == "__main__":
    main()
