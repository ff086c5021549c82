"""Processes that a benchmark starts, pins to a core, and measures from outside.

CPU time is read from the process's own CPU clock (`clock_getcpuclockid(3)`). It counts nanoseconds of all threads,
also of those that have ended; ``/proc/PID/schedstat`` knows only the main thread, ``/proc/PID/stat`` only ticks of
10 ms. Of a process that is running at that moment on another core, the clock shows the last scheduler tick (4 ms at
250 Hz): read it when the process is idle, or over runs that are long against a tick.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

# --- cores ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cores:
    """Where the measured process runs, and where its load does; None: wherever it likes."""

    measured: int | None = None
    load: int | None = None

    def __str__(self) -> str:
        if self.measured is None:
            return "not pinned"
        return f"measured process on core {self.measured}, load on core {self.load}"


def choose_cores(pin: bool) -> Cores:
    """The last allowed core for what is measured, the first for the load: the same one if there is only one."""
    if not sys.platform.startswith("linux"):
        raise SystemExit("this benchmark reads /proc and CPU clocks of other processes: it needs Linux")
    allowed = os.sched_getaffinity(0)
    return Cores(max(allowed), min(allowed)) if pin else Cores()


def on_core(core: int | None, command: Sequence[str]) -> list[str]:
    """The command, pinned."""
    return list(command) if core is None else ["taskset", "-c", str(core), *command]


# --- starting ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """A server that is running."""

    command: list[str]
    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """User plus system time of all its threads so far."""
        return time.clock_gettime(~self.pid << 3 | 2)  # as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of a process

    def private_bytes(self) -> int:
        """Memory that nobody shares with it: what would be free without it."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as lines:
            return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))

    def settle(self, within: float = 10.0) -> None:
        """Wait until it does next to nothing, so that the last run's rest is not charged to the next."""
        give_up = time.monotonic() + within
        before, pause = self.cpu_seconds(), 0.05
        while time.monotonic() < give_up:
            time.sleep(pause)
            after = self.cpu_seconds()
            if after - before < pause / 20:
                return
            before = after
        raise RuntimeError(f"still busy {within} s after its last request: {' '.join(self.command)}")


@contextmanager
def start(command: Sequence[str]) -> Iterator[Started]:
    """Start a server that prints its port as soon as it listens; it ends with the block."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line.strip().isdigit():
                raise SystemExit(
                    f"did not start (it printed {line!r} where its port was due): {' '.join(command)}\n"
                    "the servers and clients to compare with come with: python -m pip install -e '.[bench,test]'"
                )
            yield Started(list(command), process.pid, int(line))
        finally:
            process.kill()


# --- in the process that was started ----------------------------------------------------------------------------


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone, however that came about."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def raise_file_limit() -> None:
    """Allow as many open files as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
