"""The extension ``trace``: a function that is told what a request is doing, in the words of httpcore.

The names of the events and their details are those of httpcore, because there are programs that measure by them.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

__all__ = ["Trace", "TracedStep"]


class Trace:
    """Tells the program's function of one request, if there is one.

    Attributes:
        on: Whether anybody does.
        connect_timeout: What the request says of it.
    """

    def __init__(self, request: httpx.Request) -> None:
        self._callback = request.extensions.get("trace")
        self._request = request
        self.on = self._callback is not None
        self.connect_timeout: float | None = request.extensions.get("timeout", {}).get("connect")

    def step(self, name: str, **info: Any) -> TracedStep:
        """One thing that a request does, for the length of a block: ``connection.connect_tcp`` and so on."""
        return TracedStep(self, name, info)

    def http(self, name: str) -> TracedStep:
        """The same, of those that httpcore calls ``http11`` and gives the request."""
        return TracedStep(self, f"http11.{name}", {"request": self._request})

    async def tell(self, event: str, info: dict[str, Any]) -> None:
        """Call the function.

        Raises:
            TypeError: it is not asynchronous, as httpcore has it.

        Cancellation: is the function's business.
        """
        if self._callback is None:
            return
        told = self._callback(event, info)
        if not inspect.isawaitable(told):
            raise TypeError(f"the callback of the trace extension must be an async function, not {self._callback!r}")
        await told


class TracedStep:
    """Tells of its beginning, and of its end or failure.

    Attributes:
        begun: Whether it has begun.
        return_value: What came of it, for the function to know.
    """

    def __init__(self, trace: Trace, name: str, info: dict[str, Any]) -> None:
        self._trace = trace
        self._name = name
        self._info = info
        self.begun = False
        self.return_value: Any = None

    async def begin(self) -> None:
        """Cancellation, here and below: is the function's business."""
        self.begun = True
        await self._trace.tell(f"{self._name}.started", self._info)

    async def complete(self) -> None:
        """It has worked out. Cancellation: as above."""
        await self._trace.tell(f"{self._name}.complete", {"return_value": self.return_value})

    async def fail(self, exc: BaseException) -> None:
        """It has not. Cancellation: as above."""
        await self._trace.tell(f"{self._name}.failed", {"exception": exc})

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            await self.complete()  # noqa: ASYNC102 - the program's own function
        else:
            await self.fail(exc)  # noqa: ASYNC102 - the program's own function
