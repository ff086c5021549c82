"""The life of a serving process: listeners, the handler, signals, and the exit status that tells how it ended.

0 after SIGTERM, after `--limit-max-requests`, or when it ended by itself; 130 after SIGINT; 1 if anything had to be
forced or has failed; 3 if the application has not started; 128 and its number after a second signal.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from ... import Limits, serve
from ...server.arguments import check_proxies
from ...server.run import supervise
from ...transport.listening import close_listener
from ..mistakes import FAILED, Mistake
from .certificates import make_context, reread
from .reload import is_child, parent_has_ended
from .sockets import open_listeners

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from ... import Connection, Server
    from .options import Certificate, Lifetime, Where

    Handler = Callable[[Connection], Awaitable[object]]

__all__ = ["Service", "Serving", "run_serving"]

_LOG = logging.getLogger("trionet.server")


class Service(Protocol):
    """What is served."""

    def open(self, enough: Callable[[], None], is_ending: Callable[[], bool]) -> AbstractAsyncContextManager[Handler]:
        """The handler of connections, for the length of a block.

        Args:
            enough: To be called when `Lifetime.limit_max_requests` have been answered.
            is_ending: Whether the server drains.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, where, and for how long."""

    service: Service
    where: Where
    certificate: Certificate
    lifetime: Lifetime


def run_serving(serving: Serving) -> int:
    """Serve until the end: the exit status.

    Raises:
        Mistake: an option cannot be right, or the application has not started.
    """
    context = make_context(serving.certificate)
    try:
        check_proxies(serving.where.proxy_protocol)
    except ValueError as exc:
        raise Mistake(f"--proxy-protocol: {exc}") from exc
    lifetime = serving.lifetime
    clean = True

    async def main() -> None:
        nonlocal clean
        clean = await _serve(serving, context)

    with _pid_file(lifetime.pid_file):
        ended = trio.run(supervise, main, lifetime.timeout_graceful_shutdown)
    if ended.cut_by:
        return 128 + ended.cut_by
    if not (clean and ended.clean):
        return FAILED
    return 128 + ended.signal if ended.signal == signal.SIGINT else 0


async def _serve(serving: Serving, context: ssl.SSLContext | None) -> bool:
    """Serve, until a drain is through: whether one that was begun here ended without force.

    Cancellation: everything is closed.
    """
    lifetime = serving.lifetime
    clean = True
    enough = trio.Event()
    server: Server | None = None
    try:
        limits = Limits(
            max_connections=lifetime.limit_connections or float("inf"),
            max_connections_per_address=lifetime.limit_connections_per_address or float("inf"),
            idle_grace=0.0 if is_child() else Limits().idle_grace,  # a person waits for the change
        )
    except (TypeError, ValueError) as exc:
        raise Mistake(str(exc)) from exc

    async def drain_when(event: Callable[[], Awaitable[object]], said: str, server: Server) -> None:
        nonlocal clean
        await event()
        _LOG.log(logging.DEBUG if is_child() else logging.INFO, "ending: %s", said)
        report = await server.drain(lifetime.timeout_graceful_shutdown)
        if not report.clean:
            clean = False
            _LOG.warning("drained: %s", report)

    listeners, inherited = await open_listeners(serving.where)
    with _closing(listeners):
        async with (
            serving.service.open(enough.set, lambda: server is not None and not server.addresses) as handler,
            _open_background() as background,
            trio.open_nursery() as nursery,
        ):
            started: Server = await nursery.start(
                partial(
                    serve,
                    handler,
                    listeners,
                    ssl_context=context,
                    proxy_protocol=serving.where.proxy_protocol,
                    limits=limits,
                    inherited=inherited,
                )
            )
            server = started
            answered = f"{lifetime.limit_max_requests} requests were answered"
            background.start_soon(drain_when, enough.wait, answered, started)
            if is_child():
                changed = "a file has changed, or the parent has ended"
                background.start_soon(drain_when, parent_has_ended, changed, started)
            background.start_soon(_watch_signals, serving.certificate, context)
    return clean


@contextmanager
def _closing(listeners: list[socket.socket]) -> Iterator[None]:
    """Close them, if the application has not started: a server that has begun closes its own."""
    try:
        yield
    finally:
        for listener in listeners:
            close_listener(listener)


@asynccontextmanager
async def _open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that end with the server."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


async def _watch_signals(options: Certificate, context: ssl.SSLContext | None) -> None:
    """SIGHUP: read the certificate anew."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if context is None:
                _LOG.info("SIGHUP: there is no certificate to be read anew")
            else:
                reread(context, options)


@contextmanager
def _pid_file(path: Path | None) -> Iterator[None]:
    """The file with this process's number, for as long as it runs.

    Raises:
        Mistake: it cannot be written.
    """
    if path is None:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as exc:
        raise Mistake(f"--pid-file {path}: {exc.strerror}", FAILED) from exc
    try:
        yield
    finally:
        try:
            if path.read_text().strip() == str(os.getpid()):  # else it is another one's by now
                path.unlink()
        except OSError as exc:
            _LOG.warning("--pid-file %s could not be removed: %s", path, exc.strerror)
