"""The call of an application: in a context of its own, and observed in what it does behind its response.

The application runs in the task of its connection, and two things would go wrong there if it was just awaited.

*Context variables.* What one request sets, the next one on the connection would see. A task of its own would keep them
apart, at half as much again of the whole request's CPU. So each step of the application is run in a copy of the
server's context instead; tasks and threads that it starts inherit from that copy, as they would from a task's.

Nearly all requests are answered without a wait, in a single step (`begin`), and need nothing else of this module.

*Work behind the response.* A framework runs background tasks behind the last piece of the body, and the next request
on the connection must not wait for them. The application that does so shows it: it gives the control back to Trio
although its response is complete. That is the moment at which `on_lingering` is called, once. An application that
returns without that, as nearly all do, costs no check.

Both need to stand between Trio and a coroutine that waits. `Call` is that: an awaitable whose `send` passes each
step on. It looks like a coroutine (`cr_frame`, `cr_await`) to whoever walks the stack of a task.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Self

from .response import Progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context
    from types import FrameType

    from .http import HTTPCycle
    from .types import Application, Receive, Scope, Send
    from .websocket import WebSocketCycle

__all__ = ["Call", "begin"]

_COMPLETE: Final = Progress.COMPLETE


def begin(app: Application, scope: Scope, receive: Receive, send: Send) -> tuple[Any, Any] | None:
    """Call an application, up to where it waits for the first time. To be run in its context. A step.

    Returns:
        Its coroutine, and what that asks Trio for; None if it has returned without waiting, as most do.
    """
    coroutine: Any = app(scope, receive, send)
    if type(coroutine) is not CoroutineType:
        coroutine = _as_coroutine(coroutine)
    try:
        return coroutine, coroutine.send(None)
    except StopIteration:
        return None


class Call:
    """The rest of a call that has waited, to be awaited once.

    Args:
        begun: What `begin` gave.
        cycle: Its request.
        context: Where it was begun, and runs on; nobody else does.
        on_lingering: Called when the application goes on behind its response.

    Attributes:
        done: Whether the application has ended, as whoever awaits it says.
        left: Whether the loop over the connection has moved to another task meanwhile.
    """

    __slots__ = ("_context", "_coroutine", "_cycle", "_on_lingering", "_trap", "done", "left")

    def __init__(
        self,
        begun: tuple[Any, Any],
        cycle: HTTPCycle | WebSocketCycle,
        context: Context,
        on_lingering: Callable[[Call], None],
    ) -> None:
        self.done = False
        self.left = False
        self._coroutine, self._trap = begun
        self._context = context
        self._cycle = cycle
        self._on_lingering: Callable[[Call], None] | None = on_lingering

    def __await__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        trap, self._trap = self._trap, None
        if self._cycle.progress is _COMPLETE:
            self._linger()
        return trap

    def send(self, value: Any) -> Any:
        """Run the application's next step; what Trio is asked for."""
        trap = self._context.run(self._coroutine.send, value)
        if self._cycle.progress is _COMPLETE:
            self._linger()
        return trap

    def throw(self, *error: Any) -> Any:
        """As `send`, with an error in the place of a value."""
        return self._context.run(self._coroutine.throw, *error)

    def close(self) -> None:
        """End the application where it is."""
        self._coroutine.close()

    def _linger(self) -> None:
        """The application goes on behind its response."""
        on_lingering, self._on_lingering = self._on_lingering, None
        if on_lingering is not None:
            on_lingering(self)

    @property
    def cr_frame(self) -> FrameType | None:
        """As a coroutine has it."""
        frame: FrameType | None = self._coroutine.cr_frame
        return frame

    @property
    def cr_await(self) -> Any:
        """As a coroutine has it."""
        return self._coroutine.cr_await


def _as_coroutine(returned: Any) -> Any:
    """What an application returned, as a coroutine."""
    if hasattr(returned, "cr_frame"):
        return returned
    if hasattr(returned, "__await__"):
        return _awaited(returned)
    raise TypeError(
        f"an ASGI application must be an async function of scope, receive and send; this one returned {returned!r}"
    )


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable
