"""A Trio run that stands still between calls, so that Hypothesis can drive it step by step from ordinary code."""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio
from trio.testing import wait_all_tasks_blocked


class Guest:
    """Runs Trio as a guest of this thread; `call` runs one async function and lets all tasks come to rest."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._result: outcome.Outcome[Any] | None = None
        self._over: outcome.Outcome[Any] | None = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._todo.put,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
        )
        self._run_until(lambda: self._token is not None)

    _token: trio.lowlevel.TrioToken | None = None

    async def _main(self) -> None:
        self._send, receive = trio.open_memory_channel[Callable[[], Awaitable[Any]]](1)
        async with trio.open_nursery() as self.nursery:
            self._token = trio.lowlevel.current_trio_token()
            async for function in receive:
                result = await outcome.acapture(function)
                await wait_all_tasks_blocked()
                self._result = result

    def _done(self, result: outcome.Outcome[Any]) -> None:
        self._over = result

    def _run_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._todo.get(timeout=30)()

    def call(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run ``await function(*args)`` in the Trio run, wait until every task is blocked, and hand over its result."""
        assert self._token is not None
        self._result = None
        self._token.run_sync_soon(self._send.send_nowait, lambda: function(*args))
        self._run_until(lambda: self._result is not None or self._over is not None)
        if self._result is None:
            assert self._over is not None
            self._over.unwrap()
            raise AssertionError("the Trio run ended before its time")
        return self._result.unwrap()

    def close(self) -> None:
        """End the run: every task must be able to end by then."""
        assert self._token is not None
        self._token.run_sync_soon(self._send.close)
        self._run_until(lambda: self._over is not None)
        assert self._over is not None
        self._over.unwrap()
