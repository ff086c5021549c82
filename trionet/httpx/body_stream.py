"""The body of a response, as HTTPX reads and closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from .exchange import HTTPXExchange
    from .network_stream import NetworkStream
    from .trace import TracedStep

__all__ = ["BodyStream"]


class BodyStream(httpx.AsyncByteStream):
    """The body of a response, for HTTPX."""

    def __init__(self, exchange: HTTPXExchange, network_stream: NetworkStream) -> None:
        self._exchange = exchange
        self._network_stream = network_stream
        self._step = exchange.trace.http("receive_response_body")
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._exchange.trace.on:
            piece = await self._exchange.next_piece()
        else:
            piece = await self._next_and_tell()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def _next_and_tell(self) -> bytes | None:
        step = self._step
        if not step.begun:
            await step.begin()
        try:
            piece = await self._exchange.next_piece()
        except BaseException as exc:
            await step.fail(exc)  # noqa: ASYNC102 - the program's own function
            raise
        if piece is None:
            await step.complete()
        return piece

    async def aclose(self) -> None:
        """Drop what is unread within bounds, or end the connection.

        Cancellation: the connection ends.
        """
        if not self._closed:
            self._closed = True
            step = self._exchange.trace.step("http11.response_closed")
            try:
                await step.begin()
            finally:
                await self._end(step)  # noqa: ASYNC102 - it ends at once where the task is cancelled
            await step.complete()

    async def _end(self, step: TracedStep) -> None:
        try:
            await self._exchange.end()
            await self._network_stream.aclose()
        except BaseException as exc:
            await step.fail(exc)  # noqa: ASYNC102 - the program's own function
            raise
