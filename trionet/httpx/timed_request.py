"""One request on one connection, within the times that it has, and told of in httpcore's words.

HTTPX gives a request one timeout for each piece that is written, and one for each that is read. A body in memory is
small enough to be written at once, so one deadline is enough; a `Paced` body moves the deadline with each piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import trio
from trio.lowlevel import enable_ki_protection

from ..http.content import NOTHING
from .body import Paced, Timeouts
from .errors import errors

if TYPE_CHECKING:
    from ..http.client.connection import HTTPClientConnection
    from ..http.client.response import Response
    from ..http.content import Content
    from ..http.protocol.prepared_request import PreparedRequest
    from .trace import Trace

__all__ = ["TimedRequest"]


class TimedRequest:
    """What is sent, and what is received for it.

    Args:
        request: HTTPX's, for its times.
        content: Its body.
        trace: Tells the program of it.

    Attributes:
        timeouts: Those of the request.
        body: The content, if it is sent piece by piece.
        response: The response, once that has begun.
    """

    def __init__(self, request: httpx.Request, content: Content, trace: Trace) -> None:
        self.timeouts = Timeouts.of(request)
        self.body = content if isinstance(content, Paced) else None
        self.response: Response | None = None
        self._content = content
        self._trace = trace

    @property
    def replayable(self) -> bool:
        """Whether the request can be sent again."""
        return self._content.data is not None or self._content.replayable

    @enable_ki_protection
    async def send(self, connection: HTTPClientConnection, prepared: PreparedRequest) -> None:
        """Send the request on `connection` and receive the head of the response, within its times, and tell of it.

        Raises:
            httpx.TransportError: that did not work out.

        Cancellation: as `HTTPClientConnection.request`.
        """
        if not self._trace.on:
            await self._ask(connection, prepared)
            return
        try:
            await self._ask_and_tell(connection, prepared)
        except BaseException:
            connection.abort()  # also where the program's function has raised, with the response half received
            async with self._trace.step("http11.response_closed"):  # noqa: ASYNC102 - the program's own function
                pass
            raise

    async def _ask_and_tell(self, connection: HTTPClientConnection, prepared: PreparedRequest) -> None:
        """The same, in the steps of httpcore. The head, and a small body, leave in one send, and are told of before."""
        async with self._trace.http("send_request_headers"):
            pass
        sending, receiving = self._trace.http("send_request_body"), self._trace.http("receive_response_headers")

        async def sent() -> None:
            await sending.complete()
            await receiving.begin()

        await sending.begin()
        if self.body is None:
            await sent()
        else:
            self.body.when_sent = sent
        try:
            response = await self._ask(connection, prepared)
        except BaseException as exc:
            await (receiving if receiving.begun else sending).fail(exc)  # noqa: ASYNC102 - the program's own function
            raise
        if self.body is not None:
            self.body.when_sent = None
        if not receiving.begun:  # the server has answered before the body's end
            await receiving.begin()
        receiving.return_value = (
            f"HTTP/{response.http_version}".encode("ascii"),
            response.status,
            response.reason.encode("latin-1"),
            list(response.headers.raw),
        )
        await receiving.complete()

    @enable_ki_protection
    async def _ask(self, connection: HTTPClientConnection, prepared: PreparedRequest) -> Response:
        """Send the request on `connection`, within its times."""
        times, body = self.timeouts, self.body
        seconds = times.write if self._content is not NOTHING else 0
        if body is None:
            seconds += times.read
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            if body is not None:
                body.scope = scope
            with errors(httpx.ReadError, body):
                self.response = response = await connection._exchange(prepared, self._content)
            if body is not None:
                body.scope = None
            return response
        raise self._timeout()

    def _timeout(self) -> httpx.TimeoutException:
        if self.body is not None and self.body.writing:
            return httpx.WriteTimeout(f"the server took nothing of the body for {self.timeouts.write:g} s")
        return httpx.ReadTimeout(f"the server did not answer within {self.timeouts.read:g} s")
