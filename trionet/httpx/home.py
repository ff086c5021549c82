"""Where a transport's connections live: in a system task, which no task of the program's has to outlast.

HTTPX's own transport works without being entered. It may be entered in one task and left in another, as frameworks do
in their startup and shutdown hooks, and transports may be closed in any order. A nursery that stayed open across that
would corrupt Trio's stack of nurseries, which belongs to one task. So the nursery for the connections' service tasks is
opened by a system task. It ends when the transport is closed or collected, and at the latest with the run: then Trio
cancels it, and it closes what is still open.

A system task that raises would end the run with an internal error, so what goes wrong here is logged, and the
connections are closed; the next request opens others.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import current_task, current_trio_token, enable_ki_protection, spawn_system_task

from ..custody import leaving
from ..custody.background import open_services
from ..custody.owner import Owner
from ..http.client.pool import Pool
from ..scope.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.lowlevel import Task

    from ..http.client.connection import HTTPClientConnection

__all__ = ["Home"]

_LOG = logging.getLogger("trionet.httpx")


class Home:
    """The pool of one transport, from its first request to its close, in one run.

    Args:
        connect: Opens a connection for an owner: what `Pool` calls, behind the owner.
        idle_timeout: Of the pool.
        most: Connections that it may have, to one origin as well as to all.
    """

    def __init__(self, connect: Callable[..., Awaitable[HTTPClientConnection]], idle_timeout: float, most: int) -> None:
        self._connect = connect
        self._idle_timeout = idle_timeout
        self._most = most
        self._scope = trio.CancelScope()
        self._opened = trio.Event()
        self._ended = trio.Event()
        self._token = current_trio_token()
        self._owner: Owner | None = None
        self._pool: Pool | None = None
        self._task = spawn_system_task(self._run, name="trionet.httpx")

    @property
    def over(self) -> bool:
        """Whether it cannot be used any more: it was closed, or its run has ended."""
        return self._scope.cancel_called or self._ended.is_set() or self._token is not current_trio_token()

    @property
    def pool(self) -> Pool:
        """The connections."""
        assert self._pool is not None
        return self._pool

    async def wait_opened(self) -> None:
        """Wait until there is a pool. Cancellation: nothing has changed; it opens all the same."""
        await self._opened.wait()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close every connection, at once, and wait until the tasks behind them have ended.

        The producer of a request's body runs in one of them. If it calls this it is not waited for, nor does it wait.

        Cancellation: not a cancellation point; a producer of a body is cancelled, and should heed that.
        """
        with trio.CancelScope(shield=True):
            await self._opened.wait()
            self.pool.shut()
            self._scope.cancel()
            if not self._is_own(current_task()):
                await self._ended.wait()

    def _is_own(self, task: Task) -> bool:
        """Whether this task is behind the connections, or below one that is."""
        while task is not self._task and task.parent_nursery is not None:
            task = task.parent_nursery.parent_task
        return task is self._task

    def abandon(self) -> None:
        """The transport was collected without being closed. May be called in any thread, as finalizers are."""
        if self._ended.is_set():
            return
        try:
            self._token.run_sync_soon(self._scope.cancel)
        except trio.RunFinishedError:
            return
        warnings.warn("unclosed TrionetTransport: await its aclose(), or that of its client", ResourceWarning, 2)

    @enable_ki_protection
    async def _run(self) -> None:
        try:
            with self._scope:
                await self._hold()
        except trio.Cancelled:
            raise
        except BaseException:  # noqa: BLE001, ASYNC103 - a system task that raises ends the run with an internal error
            _LOG.exception("the connections of a TrionetTransport are closed, because a task behind them failed")
        finally:
            self._opened.set()
            self._ended.set()

    @enable_ki_protection
    async def _hold(self) -> None:
        async with open_services() as services:
            self._owner = owner = Owner("TrionetTransport", services=services)
            Scope(owner)
            self._pool = Pool(owner, self._open, self._idle_timeout, self._most, self._most)
            try:
                self._opened.set()
                await trio.sleep_forever()
            except BaseException as exc:
                self._pool.shut()
                await leaving.let_go(owner, exc)  # noqa: ASYNC102, ASYNC120 - it closes all at once, and waits for releases only
                raise

    async def _open(self, *args: Any) -> HTTPClientConnection:
        assert self._owner is not None
        return await self._connect(self._owner, *args)
