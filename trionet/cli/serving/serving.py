"""The life of a serving process: listeners, the handler, signals, and the exit status that tells how it ended.

0 after SIGTERM, after `--limit-max-requests`, or when it ended by itself; 130 after SIGINT; 1 if anything had to be
forced or has failed; 3 if the application has not started; 128 and its number after a second signal.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ... import HTTPLimits, Limits, http_handler, serve
from ...server.arguments import check_handler
from ...server.run import supervise
from ..mistakes import FAILED, Mistake
from .admission import Admission
from .certificates import make_context, reread
from .reload import is_child, parent_has_ended
from .sockets import open_listeners

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from ... import Connection, Exchange, Server
    from .options import Certificate, Lifetime, Responses, Where

__all__ = ["Serving", "run_serving"]

_LOG = logging.getLogger("trionet.server")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, and how: one of the two handlers is there."""

    where: Where
    certificate: Certificate
    lifetime: Lifetime
    responses: Responses
    exchanges: Callable[[], AbstractAsyncContextManager[Callable[[Exchange], Awaitable[object]]]] | None = None
    """Makes the handler of HTTP exchanges, and keeps it for the length of a block."""
    connections: Callable[[Connection], Awaitable[object]] | None = None
    """The handler of connections, for a protocol of the application's own."""


def run_serving(serving: Serving) -> int:
    """Serve until the end: the exit status.

    Raises:
        Mistake: an option cannot be right, or the application has not started.
    """
    context = make_context(serving.certificate)
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
    admission = Admission(lifetime, serving.responses, enough.set)
    async with AsyncExitStack() as stack:
        try:
            handler = await _handler(serving, admission, stack)
            limits = Limits(
                max_connections=lifetime.limit_connections or float("inf"),
                idle_grace=0.0 if is_child() else Limits().idle_grace,  # a person waits for the change
            )
        except (TypeError, ValueError) as exc:  # of a value that was passed on
            raise Mistake(str(exc)) from exc
        listeners, inherited = await open_listeners(serving.where)
        nursery = await stack.enter_async_context(_open_background())
        start = partial(serve, handler, listeners, ssl_context=context, limits=limits, inherited=inherited)

        async def drain_when(event: Callable[[], Awaitable[object]], said: str, server: Server) -> None:
            nonlocal clean
            await event()
            _LOG.log(logging.DEBUG if is_child() else logging.INFO, "ending: %s", said)
            report = await server.drain(lifetime.timeout_graceful_shutdown)
            if not report.clean:
                clean = False
                _LOG.warning("drained: %s", report)

        async with trio.open_nursery() as serving_nursery:
            server: Server = await serving_nursery.start(start)
            admission.server = server
            nursery.start_soon(drain_when, enough.wait, f"{lifetime.limit_max_requests} requests were answered", server)
            if is_child():
                nursery.start_soon(drain_when, parent_has_ended, "a file has changed, or the parent has ended", server)
            nursery.start_soon(_watch_signals, serving.certificate, context)
    return clean


async def _handler(
    serving: Serving, admission: Admission, stack: AsyncExitStack
) -> Callable[[Connection], Awaitable[object]]:
    if serving.connections is not None:
        check_handler(serving.connections)
        return serving.connections
    assert serving.exchanges is not None
    exchanges = await stack.enter_async_context(serving.exchanges())
    lifetime = serving.lifetime
    heads: dict[str, Any] = {}
    if lifetime.h11_max_incomplete_event_size is not None:
        heads["max_head"] = lifetime.h11_max_incomplete_event_size
    check_handler(exchanges)
    limits = HTTPLimits(idle_timeout=lifetime.timeout_keep_alive, **heads)
    return http_handler(admission.in_front_of(exchanges), limits=limits)


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
