"""`run`: a program that serves, from its start to the signal that ends it."""

from __future__ import annotations

import functools
import inspect
import logging
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import trio
from trio.lowlevel import current_trio_token

from ..custody.background import open_services
from ..support.checks import check_seconds
from ..support.texts import amount
from .collector import Collector
from .running import Running, tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

__all__ = ["Ended", "run", "supervise"]

Result = TypeVar("Result")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run(
    main: Callable[..., Awaitable[Result]], *args: Any, drain_timeout: float = 30.0, **kwargs: Any
) -> Result | None:
    """`trio.run` for servers: ``trionet.run(trionet.serve_http, app, 8080)``.

    It says on stderr where each server of the run listens, however deep in the program it is started. At SIGTERM, or
    SIGINT (Ctrl-C), all of them drain: see `Server.drain`. When the last one has ended the program has one second to
    end by itself; then what is left of it is cancelled. A second signal cuts everything off, a third one ends the
    process on the spot. None of this shows a traceback. If the program has set up no logging, what the servers log from
    INFO on is shown on stderr, but for a line for each request.

    When the first server listens, Python's garbage collector goes through what there is, and is then kept from it
    (`gc.freeze`): it would hold up the loop for longer each time. Its generation 2, which goes through everything, runs
    a tenth as often: cycles of garbage that live for longer than a request are freed later. Both is undone at the end.
    A program that has called `gc.freeze` or `gc.disable` before is left alone.

    Ctrl-C on a terminal waits for no next request of idle connections (`Limits.idle_grace`): there a person waits.

    Args:
        main: The async function to run, such as `serve_tcp`, or one that starts servers. It needs no `task_status`.
        *args: Its positional arguments.
        drain_timeout: Seconds for all drains together, at least 0; ``math.inf`` waits for every connection.
        **kwargs: Its keyword arguments. One that is called ``drain_timeout`` goes in with `functools.partial`.

    Returns:
        What `main` has returned; None if it was cancelled at the end.

    Raises:
        SystemExit: a second signal has cut everything off: 128 and the number of the signal.
        RuntimeError: this is not the main thread, which signals need.
        TypeError, ValueError: an argument cannot be right.
        What `main` raises.
    """
    check_seconds("drain_timeout", drain_timeout)
    _check_main(main)
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("trionet.run needs the main thread, as signals do; elsewhere use trio.run and Server.drain")
    try:
        with _logging_of_its_own():
            ended = trio.run(supervise, functools.partial(main, *args, **kwargs), drain_timeout)
    except KeyboardInterrupt:  # before the signals were listened to, or behind that
        raise SystemExit(128 + signal.SIGINT) from None
    if ended.cut_by:
        raise SystemExit(128 + ended.cut_by)
    return ended.result


@contextmanager
def _logging_of_its_own() -> Iterator[None]:
    """Show what servers log on stderr, if the program has set up no logging: Python itself shows warnings alone.

    Requests are left out (logger ``trionet.access``): a line for each is for programs that ask for it.
    """
    logger, access = logging.getLogger("trionet"), logging.getLogger("trionet.access")
    if logger.hasHandlers() or sys.stderr is None:
        yield
        return
    before = logger.level, access.level
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logger.level or logging.INFO)
    access.setLevel(access.level or logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        access.setLevel(before[1])


def _check_main(main: Any) -> None:
    if inspect.iscoroutine(main):
        main.close()
        raise TypeError("main must be an async function, not what it has returned: trionet.run(serve_http, app, 8080)")
    if not callable(main):
        raise TypeError(f"main must be an async function, not {main!r}")


@dataclass(frozen=True, slots=True)
class Ended(Generic[Result]):
    """How a program that serves came to its end."""

    result: Result | None
    """What it has returned; None if it was cancelled at the end."""
    signal: int
    """The first signal that has told it to end; 0 if it has ended by itself."""
    cut_by: int
    """The second signal, which has cut everything off; 0 if there was none."""
    clean: bool
    """Whether every drain that a signal has begun ended what it had to end without force."""


async def supervise(main: Callable[[], Awaitable[Result]], drain_timeout: float) -> Ended[Result]:
    """Run `main` until it ends, or the signals have ended it. The signal handlers need the main thread.

    Cancellation: `main` is cancelled.
    """
    result = None
    async with open_services() as services:
        whole = trio.CancelScope()
        with Collector() as collector:
            running = Running(services, whole, drain_timeout, collector)
            end = _SignalHandling(running, whole, drain_timeout)
            with whole, end.on_signals():
                result = await main()
        return Ended(result, end.first, end.forced, running.clean)
    raise AssertionError("unreachable: open_services hands every exception on")


class _SignalHandling:
    """What each signal leads to: the drain, the cut, and the end of the process."""

    def __init__(self, running: Running, whole: trio.CancelScope, drain_timeout: float) -> None:
        self._running = running
        self._whole = whole
        self._drain_timeout = drain_timeout
        self._token = current_trio_token()
        self._received = 0
        self.first = 0
        """The first signal; 0 if there was none."""
        self.forced = 0
        """The signal that has cut everything off; 0 if none has."""

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler itself, which also a program that never comes back to Trio cannot keep from running."""
        self._received += 1
        if self._received > 2:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._token.run_sync_soon(self._drain if self._received == 1 else self._force, number)

    def _drain(self, number: int) -> None:
        self.first = number
        on_terminal = number == signal.SIGINT and _on_terminal()
        open_now = amount(self._running.begin_end(0.0 if on_terminal else None), "connection")
        tell(
            f"{signal.Signals(number).name}: ending, with {open_now}, within {self._drain_timeout:g} s; "
            f"a second signal cuts off what is left"
        )

    def _force(self, number: int) -> None:
        self.forced = number
        self._whole.cancel()


def _on_terminal() -> bool:
    """Whether a person has typed Ctrl-C."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
