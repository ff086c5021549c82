"""What websocket.py and upgrade.py share: servers that are looked at before they are measured, and their cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paired import Peer, open_peer, parser, pin, positive
from processes import Cores, Started, choose_cores, on_core, start
from websocket_peers import is_there, why_missing

PACKAGES = ("trio-websocket", "wsproto", "websockets", "aiohttp", "picows", "uvloop")


def available(wanted: Sequence[str]) -> list[str]:
    """Those of the servers that are there; what is missing is named. Without what makes the load nothing is."""
    if not (is_there("picows") and is_there("uvloop")):
        raise SystemExit("the load is made by picows on uvloop: python -m pip install -e '.[bench]'")
    missing = {name: why for name in wanted if (why := why_missing(name)) is not None}
    for name, why in missing.items():
        print(f"NOT MEASURED: {name}: {why}", flush=True)
    return [name for name in wanted if name not in missing]


def websocket_parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that both have."""
    options = parser(description, rounds)
    options.add_argument("--seconds", type=positive, default=1, help="how long each run takes (default: %(default)s)")
    options.add_argument("--busy", action="store_true", help="a load that never sleeps, so nobody pays for waking it")
    return options


@dataclass
class Bench:
    """The load's process, the cores, and the commands that were run."""

    cores: Cores
    load: Peer
    commands: list[str] = field(default_factory=list)

    def where(self, busy: bool) -> str:
        """The circumstances in a few words."""
        return f"{self.cores}, the load {'never sleeps' if busy else 'sleeps while nothing comes'}"

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Have the load's process do something."""
        self.load.start(function, *args)
        self.load.wait()
        return self.load.value

    @contextmanager
    def server(self, name: str, work: str = "echo") -> Iterator[Started]:
        """Start this server; it ends with the block."""
        program = str(Path(__file__).with_name("websocket_peers.py"))
        command = on_core(self.cores.measured, [sys.executable, program, name, work])
        shown = " ".join(repr(each) if " " in each else each for each in command)
        if shown not in self.commands:
            self.commands.append(shown)
        with start(command) as started:
            yield started

    def look(self, name: str, server: Started, line: bool = False) -> None:
        """Print what this server's part in a conversation is; one that says anything wrong is an error."""
        from websocket_cycle import look

        print(f"  {name}: {self.call(look, server.port, line)}", flush=True)

    def cost(self, server: Started, function: Callable[..., int], *args: Any) -> float:
        """CPU microseconds of the server for each of the things that the load counts.

        The load waits for the last answer before it returns, so everything that was asked for is on both sides.
        """
        server.settle()
        before = server.cpu_seconds()
        count: int = self.call(function, server.port, *args)
        server.settle()
        return (server.cpu_seconds() - before) / count * 1e6


@contextmanager
def open_bench(pinned: bool) -> Iterator[Bench]:
    """Start the load's process; it ends with the block."""
    cores = choose_cores(pinned)
    with open_peer() as load:
        bench = Bench(cores, load)
        if cores.load is not None:
            bench.call(pin, cores.load)
        yield bench
