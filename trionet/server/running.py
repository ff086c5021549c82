"""The servers of one run: which there are, and how all of them come to their end together.

`trionet.run` makes one `Running` for its run. Every server of the run joins it when it begins to listen, however deep
in the program it was started, and leaves it when it has ended. Under a plain `trio.run` there is none.
"""

from __future__ import annotations

import logging
import math
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import ParkingLot, RunVar, enable_ki_protection

from ..support.texts import shown_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .collector import Collector
    from .server import Server

__all__ = ["Running", "hold", "join", "leave", "tell"]

_LOG = logging.getLogger("trionet.server")

AFTERWARDS: Final = 1.0
"""Seconds that the program has for its own end when its last server has ended, before it is cancelled."""

_RUNNING: RunVar[Running | None] = RunVar("trionet.server.running", None)


class Running:
    """The servers of this run. All methods are steps, except `end`.

    Args:
        services: Where drains run.
        whole: What is cancelled at the end: the whole program.
        drain_timeout: Seconds for all drains together.
        collector: Settled when the first server listens.
    """

    def __init__(
        self, services: trio.Nursery, whole: trio.CancelScope, drain_timeout: float, collector: Collector
    ) -> None:
        self._services = services
        self._whole = whole
        self._drain_timeout = drain_timeout
        self._collector = collector
        self._servers: dict[Server, None] = {}
        self._deadline = math.inf
        self._idle_grace: float | None = None
        self._ending = False
        self._left = ParkingLot()
        self._held = 0
        self.clean = True
        """Whether no drain had to use force so far."""
        _RUNNING.set(self)

    @enable_ki_protection
    def join(self, server: Server, scheme: str) -> None:
        """A server has begun to listen. One that begins while the others drain, drains too."""
        self._servers[server] = None
        self._collector.settle()
        tell(f"listening on {', '.join(_shown(address, server.secure, scheme) for address in server.addresses)}")
        if self._ending:
            self._services.start_soon(self._drain, server)

    @enable_ki_protection
    def leave(self, server: Server) -> None:
        """A server has ended."""
        self._servers.pop(server, None)
        self._left.unpark_all()

    @enable_ki_protection
    def begin_end(self, idle_grace: float | None) -> int:
        """Drain all servers, and then end the program: how many connections they have."""
        self._ending, self._idle_grace = True, idle_grace
        self._deadline = trio.current_time() + self._drain_timeout
        self._services.start_soon(self._end)
        return sum(server.statistics().open for server in self._servers)

    @enable_ki_protection
    def hold(self, change: int) -> None:
        """So many more parts of the program have work to do behind their servers' end, or less."""
        self._held += change
        self._left.unpark_all()

    async def _end(self) -> None:
        for server in self._servers:
            self._services.start_soon(self._drain, server)
        if self._servers or self._held:
            while self._servers:
                await self._left.park()
            with trio.move_on_at(self._deadline) as patience:
                while self._held:
                    await self._left.park()
            if patience.cancelled_caught:
                self.clean = False
                text = "what the program does behind its servers' end was cut off: it took longer than the %g s"
                _LOG.warning(text, self._drain_timeout)
            await trio.sleep(AFTERWARDS)
        self._whole.cancel()

    async def _drain(self, server: Server) -> None:
        with trio.CancelScope(shield=True):  # the program may end as soon as the server has, and before this report
            report = await server.drain(max(0.0, self._deadline - trio.current_time()), idle_grace=self._idle_grace)
            if not report.clean:
                self.clean = False
                _LOG.warning("drained: %s", report)


@contextmanager
def hold() -> Iterator[None]:
    """While this is open, the end that a signal asks for waits for more than the servers, within its deadline."""
    running = _RUNNING.get()
    if running is None:
        yield
        return
    running.hold(1)
    try:
        yield
    finally:
        running.hold(-1)


def join(server: Server, scheme: str = "") -> None:
    """A server has begun to listen, whose handler speaks `scheme` ("http"), if that is known. A step."""
    if (running := _RUNNING.get()) is not None:
        running.join(server, scheme)


def _shown(address: Any, secure: bool, scheme: str) -> str:
    """What a person types to come there, where there is such a thing: ``http://127.0.0.1:8000``."""
    if scheme and isinstance(address, tuple):
        return f"{scheme}{'s' if secure else ''}://{shown_address(address)}"
    return f"{shown_address(address)}{' (TLS)' if secure else ''}"


def leave(server: Server) -> None:
    """A server has ended. A step."""
    if (running := _RUNNING.get()) is not None:
        running.leave(server)


def tell(text: str) -> None:
    """One line for whoever has started the program, if anybody can see it."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # it is closed
            print(text, file=sys.stderr, flush=True)
