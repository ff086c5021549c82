"""The lifespan of an application: that it can prepare before the first request, and clean up behind the last.

It is one call of the application, in a task of its own that lives from before the server listens until behind its
drain. What the application puts into ``state`` at its start is what each request finds in its own copy.

Not every application knows this protocol. With ``auto`` one that raises, or returns, before it has answered
``lifespan.startup`` is taken for one that does not, as everywhere; with ``on`` that is a start that has failed.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from ..custody.background import open_services
from ..server.running import hold
from ..support.block import block
from .errors import LifespanError, is_of_the_run
from .scope import ASGI_VERSION, LIFESPAN_SPEC_VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .options import Lifespan
    from .types import Application, Message

__all__ = ["open_lifespan"]

_LOG = logging.getLogger("trionet.asgi")

CANCELLED_SHUTDOWN: Final = 5.0
"""Seconds that an application has for its shutdown where its server was cancelled, and not drained."""


@block
async def open_lifespan(app: Application, mode: Lifespan) -> AsyncIterator[dict[str, Any]]:
    """Start the application, and shut it down when the block ends; gives the state for its requests.

    Raises:
        LifespanError: the application could not start, or its shutdown failed.

    Cancellation: while it starts, it is cancelled. Later it still has a few seconds for its shutdown.
    """
    if mode == "off":
        yield {}
        return
    call = _LifespanCall(app, required=mode == "on")
    async with open_services() as services:
        services.start_soon(call.run, name="lifespan")
        try:
            await call.startup()
            with hold():
                try:
                    yield call.state
                except BaseException:
                    with trio.move_on_after(CANCELLED_SHUTDOWN, shield=True), suppress(LifespanError):
                        await call.shutdown()  # noqa: ASYNC120 - bounded, and its own error is less than this one
                    raise
                await call.shutdown()
        finally:
            call.guard.cancel()


class _LifespanCall:
    """The application's call, and what it has answered.

    Attributes:
        state: What the application puts there is for its requests.
        guard: Keeps a cancellation of the server from the application, which is told to shut down instead.
    """

    def __init__(self, app: Application, *, required: bool) -> None:
        self.state: dict[str, Any] = {}
        self.guard = trio.CancelScope(shield=True)
        self._app = app
        self._required = required
        self._asked = 0
        self._ending = trio.Event()
        self._started = trio.Event()
        self._stopped = trio.Event()
        self._answer: dict[str, str] = {}
        self._error: BaseException | None = None
        self._over = False
        self._reported = False

    async def run(self) -> None:
        """Call the application. Without a cancellation it raises nothing."""
        asgi = {"version": ASGI_VERSION, "spec_version": LIFESPAN_SPEC_VERSION}
        try:
            with self.guard:
                await self._app({"type": "lifespan", "asgi": asgi, "state": self.state}, self._receive, self._send)
        except BaseException as exc:  # noqa: ASYNC103 - cancellations are of the run, and raised again
            if is_of_the_run(exc):
                raise
            self._error = exc
            if self._answer.get("startup") == "complete" and not self._ending.is_set():
                self._reported = True
                _LOG.error("the application failed in its lifespan, and is served without it: %s", exc, exc_info=exc)
        finally:
            self._over = True
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> Message:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        await self._ending.wait()
        if self._asked > 2:
            await trio.sleep_forever()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        part, _, result = kind.removeprefix("lifespan.").partition(".")
        event = {"startup": self._started, "shutdown": self._stopped}.get(part)
        if event is None or result not in ("complete", "failed") or event.is_set():
            raise RuntimeError(f"the application sent {kind!r} in its lifespan, where that is not due")
        self._answer[part] = f"{result}: {message.get('message', '')}" if result == "failed" else result
        event.set()

    async def startup(self) -> None:
        """Wait until the application has started.

        Raises:
            LifespanError: it could not.
            SystemExit: the application has asked for that.
        """
        await self._started.wait()
        if isinstance(self._error, SystemExit):
            raise self._error
        answer = self._answer.get("startup", "")
        if answer.startswith("failed"):
            text = answer.removeprefix("failed: ").strip()
            raise LifespanError(f"the application failed to start{': ' + text if text else ''}") from self._error
        if answer == "complete":
            return
        if self._required:
            how = "raised" if self._error is not None else "returned"
            raise LifespanError(
                f"the application {how} in its lifespan before it was started, and lifespan='on' asks for one: "
                f"{self._error or 'it knows no lifespan'}"
            ) from self._error
        _LOG.debug("the application has no lifespan", exc_info=self._error)

    async def shutdown(self) -> None:
        """Have the application shut down, and wait for that.

        Raises:
            LifespanError: it failed.
        """
        if not self._answer:
            return  # it has no lifespan
        if self._over and self._error is None:
            return
        self._ending.set()
        await self._stopped.wait()
        answer = self._answer.get("shutdown", "")
        if answer.startswith("failed"):
            text = answer.removeprefix("failed: ").strip()
            raise LifespanError(f"the application failed to shut down{': ' + text if text else ''}") from self._error
        if self._error is not None:
            cause = None if self._reported else self._error
            raise LifespanError(f"the application failed in its lifespan: {self._error}") from cause
