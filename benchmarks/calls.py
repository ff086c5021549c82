"""How many Python calls an operation takes, and how often they go from one file to another; beside peers.

Calls are counted, not timed: so the figures are the same on every machine and in every run, and say how long the way is
that a reader, a debugger and the interpreter have to go. ``--tree`` measures another checkout, ``--base`` an older one
beside it: no operation should take more calls than there, nor more switches of file. ``--way OPERATION`` prints the
calls one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__:  # python -m benchmarks.calls
    sys.path.insert(0, str(Path(__file__).parent))

from calls_peers import FIGURES, OPERATIONS
from paired import print_table

HERE = Path(__file__).resolve().parent
TITLES = {
    "server-get": "a GET on a kept connection, the server's side",
    "echo": "a WebSocket message received and sent back, the server's side",
    "close": "aclose() of a WebSocket, the server's side",
    "tls": "upgrade(to_tls_server(...)); trio: SSLStream.do_handshake()",
    "client-get": "a GET on a kept connection, the client's side",
}


@dataclass(frozen=True)
class Measured:
    """What one subject needs for an operation: the median of each figure, and the calls of one operation."""

    name: str
    figures: dict[str, float]
    way: list[tuple[str, str]]

    def row(self) -> tuple[str, ...]:
        return (self.name, *(f"{self.figures[each]:g}" for each in FIGURES))


def measure(operation: str, subject: str, tree: Path, name: str) -> Measured:
    command = [sys.executable, str(HERE / "calls_peers.py"), operation, subject]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    if found.returncode:
        raise SystemExit(f"{operation}, {name}: {found.stderr}")
    printed: dict[str, Any] = json.loads(found.stdout)
    medians = {each: statistics.median(one[each] for one in printed["operations"]) for each in FIGURES}
    return Measured(name, medians, [(file, function) for file, function in printed["way"]])


def verdict(ours: Measured, base: Measured) -> str:
    """What the goals say of an operation, beside an older checkout."""
    return "ok" if all(ours.figures[each] <= base.figures[each] for each in ("calls", "switches")) else "short"


def measure_all(operation: str, chosen: argparse.Namespace) -> list[Measured]:
    found = []
    for subject in OPERATIONS[operation]:
        if subject == "trionet":
            found.append(measure(operation, subject, chosen.tree, "trionet"))
            if chosen.base is not None:
                found.append(measure(operation, subject, chosen.base, f"trionet in {chosen.base.name}"))
        elif chosen.peers:
            found.append(measure(operation, subject, chosen.tree, subject))
    return found


def print_operation(operation: str, found: list[Measured], base: bool) -> None:
    print(f"\n{TITLES[operation]}")
    print_table(("", *FIGURES), [each.row() for each in found])
    if base:
        print(f"  beside the base: {verdict(*found[:2])}")


def print_way(operation: str, chosen: argparse.Namespace) -> None:
    before = ""
    for file, function in measure(operation, "trionet", chosen.tree, "trionet").way:
        print(f"{'' if file == before else file:44} {function}")
        before = file


def directory(text: str) -> Path:
    """The type of an option that names a checkout."""
    path = Path(text).resolve()
    if not (path / "trionet").is_dir():
        raise argparse.ArgumentTypeError(f"there is no trionet in {path}")
    return path


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("operations", nargs="*", metavar="OPERATION", help=f"only these: {', '.join(OPERATIONS)}")
    options.add_argument("--tree", type=directory, default=HERE.parent, help="the checkout to measure")
    options.add_argument("--base", type=directory, help="also an older checkout, to compare with")
    options.add_argument("--no-peers", dest="peers", action="store_false", help="leave the other libraries out")
    options.add_argument("--way", choices=OPERATIONS, help="print trionet's calls of one operation, and nothing else")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    chosen = options.parse_args()
    if unknown := set(chosen.operations) - set(OPERATIONS):
        options.error(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(OPERATIONS)})")
    if chosen.way:
        print_way(chosen.way, chosen)
        return
    everything = {}
    for operation in chosen.operations or OPERATIONS:
        found = measure_all(operation, chosen)
        everything[operation] = {each.name: each.figures for each in found}
        print_operation(operation, found, chosen.base is not None)
        sys.stdout.flush()
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
