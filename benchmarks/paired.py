"""What the benchmarks share: a peer process, paired rounds, and tables of ratios.

A shared machine is never quiet, so absolute figures of two runs cannot be compared. Here every variant runs once in
each round, in an order that rotates, and what counts is the *median over the rounds of the ratio within one round*.
The peer (the load) is one blocking process, started once, and the same for all variants.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import socket
import ssl
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, TypeVar

Samples = dict[str, list[float]]
"""For each variant, one figure a round."""

Figure = TypeVar("Figure")


# --- the peer ---------------------------------------------------------------------------------------------------


class Peer:
    """A child process that calls functions for us: `start` one, `wait` for it, and find what it returned in `value`."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.value: Any = None

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        self._pipe.send((function, args))

    def wait(self) -> None:
        self.value = self._pipe.recv()
        if isinstance(self.value, BaseException):
            raise self.value


@contextmanager
def open_peer() -> Iterator[Peer]:
    """Start the peer process; it ends with the block. It runs on the cores that this process is pinned to."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_be_peer, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Peer(ours)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()


def _be_peer(pipe: Pipe) -> None:
    with suppress(EOFError, BrokenPipeError):  # whoever asked has gone
        while True:
            function, args = pipe.recv()
            try:
                value = function(*args)
            except Exception as exc:  # noqa: BLE001  # it is raised again by `Peer.wait`
                value = exc
            pipe.send(value)


@contextmanager
def connected(peer: Peer, function: Callable[..., Any], *args: Any) -> Iterator[socket.socket]:
    """The peer calls ``function(address, *args)``: the connection that it makes, non-blocking and with TCP_NODELAY.

    If the block ends well, so must the peer's call.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        peer.start(function, listener.getsockname(), *args)
        sock, _ = listener.accept()
    with sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock
    peer.wait()


def dial(address: tuple[str, int]) -> socket.socket:
    """The peer's end: a blocking socket with TCP_NODELAY."""
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def server_tls() -> tuple[ssl.SSLContext, str]:
    """A TLS 1.3 context for ``localhost``, and the PEM of the authority that signed its certificate."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue_cert("localhost").configure_cert(context)
    return context, authority.cert_pem.bytes().decode("ascii")


def client_tls(authority: str) -> ssl.SSLContext:
    """The peer's context: verifies ``localhost`` against this authority."""
    context = ssl.create_default_context(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


# --- the rounds -------------------------------------------------------------------------------------------------


def pin(core: int | None = None) -> None:
    """Keep this process, and those that it starts from now on, on one core; by default the last one allowed."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0)) if core is None else core})


def run_rounds(variants: Mapping[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """Call each variant once in each round, in rotating order, after one round that does not count."""
    names = list(variants)
    samples: dict[str, list[Figure]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()
            figure = variants[name]()
            if turn >= 0:
                samples[name].append(figure)
    return samples


# --- the figures ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """The ratio of `variant` to `reference` that we want: at most or at least `bound`, or any if that is None."""

    variant: str
    reference: str
    bound: float | None = None
    at_least: bool = False

    def verdict(self, ratio: float) -> str:
        if self.bound is None:
            return "-"
        return "ok" if (ratio >= self.bound if self.at_least else ratio <= self.bound) else "short"

    def __str__(self) -> str:
        if self.bound is None:
            return "-"
        return f"{'>=' if self.at_least else '<='} {self.bound:.3f}"


@dataclass(frozen=True)
class Ratio:
    """The ratio of two variants over the rounds."""

    variant: str
    reference: str
    median: float
    low: float
    high: float
    goal: str
    verdict: str


def compare(samples: Samples, goal: Goal) -> Ratio:
    """The ratios within each round, and what they say about `goal`."""
    ratios = [a / b for a, b in zip(samples[goal.variant], samples[goal.reference], strict=True)]
    median = statistics.median(ratios)
    return Ratio(goal.variant, goal.reference, median, min(ratios), max(ratios), str(goal), goal.verdict(median))


@dataclass(frozen=True)
class Report:
    """One set of paired rounds: what was measured, each variant's figures, and their ratios."""

    title: str
    unit: str
    samples: Samples
    ratios: list[Ratio]

    @classmethod
    def of(cls, title: str, unit: str, samples: Samples, goals: Sequence[Goal]) -> Report:
        return cls(title, unit, samples, [compare(samples, goal) for goal in goals])

    def print(self) -> None:
        print(f"\n{self.title}")
        figures = [
            (name, f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}")
            for name, values in self.samples.items()
        ]
        print_table(("variant", f"{self.unit}, median", "min", "max"), figures)
        if not self.ratios:
            return
        print()
        ratios = [
            (f"{r.variant} / {r.reference}", f"{r.median:.3f}", f"{r.low:.3f}", f"{r.high:.3f}", r.goal, r.verdict)
            for r in self.ratios
        ]
        print_table(("ratio", "median", "min", "max", "goal", ""), ratios)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        others = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  " + "  ".join([row[0].ljust(widths[0]), *others]).rstrip())


def versions(*others: str) -> dict[str, str]:
    """What the figures depend on; `others` are further packages."""
    found = {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION, "kernel": platform.release()}
    for package in ("trio", "trionet", *others):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "source tree" if package == "trionet" else "not installed"
    return found


# --- the command line -------------------------------------------------------------------------------------------


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    options.add_argument("--rounds", type=positive, default=rounds, help="paired rounds (default: %(default)s)")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write every figure of every round to FILE")
    options.add_argument("--no-pin", dest="pin", action="store_false", help="let both processes use all cores")
    return options


def positive(text: str) -> int:
    """The type of an option that counts something."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def finish(options: argparse.Namespace, reports: Sequence[Report], **more: Any) -> None:
    """Write the JSON file if one was asked for; `more` is added to it, or takes the place of what would be there."""
    if options.json is not None:
        settings = {name: str(value) for name, value in vars(options).items() if name != "json"}
        content = {"versions": versions(), "options": settings, "reports": [asdict(report) for report in reports]}
        options.json.write_text(json.dumps(content | more, indent=2) + "\n")


def print_versions(options: argparse.Namespace, found: Mapping[str, str] | None = None, where: str = "") -> None:
    """One line: the versions, by default those that every benchmark depends on, and where the processes run."""
    pinned = where or ("both processes pinned to one core" if options.pin else "not pinned")
    print(", ".join(f"{name} {value}" for name, value in (found or versions()).items()), f"({pinned})")
    sys.stdout.flush()
