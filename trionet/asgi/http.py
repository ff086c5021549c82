"""One HTTP request of an application: `receive` and `send` over an exchange.

No task, no channel and no cancel scope stands between the application and the connection: the connection's own task
awaits the application, `receive` reads from the exchange, and a response of one piece leaves with its head in one send.

What the specification asks for beyond that:

* The application is never cancelled because its client has gone: it is told (``http.disconnect``), and `send` raises
  `ClientDisconnectedError`. A client that has only ended its direction may be one that half-closes and waits, so for a
  second it still gets what is sent.
* `receive` that has its answer does not checkpoint: frameworks ask for a disconnect inside a scope that is cancelled
  already, and would never see the answer.
* Behind the body, `receive` waits for the client to go. It ends at the latest with the response, and gives the role of
  the connection's reader back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import trio

from ..errors import HandleBrokenError, HandleClosedError, LocalProtocolError, RemoteProtocolError
from ..http.server.cycle import LARGE
from .errors import ClientDisconnectedError
from .fields import careful, read_fields, without_length
from .http_access import client_has_gone, respond_at_once, respond_later, take_whole_body
from .response import Progress, StreamedResponse, check_body, send_file

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..http import Exchange
    from ..http.protocol.outgoing import CheckedFields
    from .fields import DefaultFields
    from .types import Message

__all__ = ["HTTPCycle"]

Given = TypeVar("Given")

MAX_PIECE: Final = 65536
"""Bytes of a body that are given in one message at most."""
FAREWELL: Final = 1.0
"""Seconds for which a client that has ended its direction still gets what is sent."""


_NONE: Final = Progress.NONE
_HEAD: Final = Progress.HEAD
_SENDING: Final = Progress.SENDING
_COMPLETE: Final = Progress.COMPLETE
_GONE: Final = (HandleBrokenError, HandleClosedError)


class HTTPCycle:
    """A request of an application, and what it has answered so far.

    Args:
        exchange: The request.
        defaults: Fields that each response gets.

    Attributes:
        exchange: The request.
        progress: How far the response is.
        gone_at: When the client was found to have gone (`trio.current_time`); None while it has not.
        offence: What was wrong with the request's body, if it was.
    """

    __slots__ = (
        "_body_left", "_defaults", "_fields", "_listening", "_status", "_stream", "_with_trailers",
        "exchange", "gone_at", "offence", "progress",
    )  # fmt: skip

    # What `http.response.start` has said.
    _status: int
    _fields: CheckedFields
    _with_trailers: bool

    def __init__(self, exchange: Exchange, defaults: DefaultFields) -> None:
        self.exchange = exchange
        self.progress = _NONE
        self.gone_at: float | None = None
        self.offence: RemoteProtocolError | None = None
        self._defaults = defaults
        self._body_left = True
        self._listening: list[trio.CancelScope] = []
        self._stream: StreamedResponse | None = None

    # --- receive -------------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next event: a piece of the request's body; behind it, that the client has gone.

        Cancellation: nothing is lost.
        """
        if self.progress is not _COMPLETE and self._body_left and self.gone_at is None:
            body = take_whole_body(self.exchange, MAX_PIECE)
            if body is None:
                return await self._receive_piece()
            self._body_left = False
            return {"type": "http.request", "body": body, "more_body": False}
        await self._wait_disconnected()
        return {"type": "http.disconnect"}

    async def _receive_piece(self) -> Message:
        """The next piece of a body that is not all there; its end is an empty one."""
        piece = None
        try:
            with trio.CancelScope() as scope:
                piece = await self._listen(scope, anext(self.exchange, b""))
            if piece is None:  # the response is complete
                return {"type": "http.disconnect"}
            self._body_left = bool(piece)
        except (*_GONE, RemoteProtocolError) as exc:
            self._body_left = False
            if isinstance(exc, RemoteProtocolError):
                self.offence = exc
            self._note_gone()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": self._body_left}

    async def _wait_disconnected(self) -> None:
        """Wait until the client has gone, or the response is complete. It does not checkpoint where that is so."""
        if self.progress is _COMPLETE or self.gone_at is not None:
            return
        if client_has_gone(self.exchange) is None:
            with trio.CancelScope() as scope:
                await self._listen(scope, self.exchange.wait_disconnected())
            if scope.cancelled_caught:
                return
        self._note_gone()

    async def _listen(self, scope: trio.CancelScope, news: Awaitable[Given]) -> Given:
        """Wait for something from the client, until the response is complete: then `scope` is cancelled."""
        self._listening.append(scope)
        try:
            return await news
        finally:
            self._listening.remove(scope)

    def _note_gone(self) -> None:
        if self.gone_at is None:
            self.gone_at = trio.current_time()

    # --- send ----------------------------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Take an event of the response.

        Raises:
            ClientDisconnectedError: the client has gone.
            RuntimeError: this event is not due.
            ValueError, TypeError: it is malformed.
            LocalProtocolError: it does not fit what was sent before, such as a body longer than its Content-Length.

        Cancellation: as for `Exchange.respond` and `ResponseStream.send`.
        """
        kind = message["type"]
        progress = self.progress
        if self.gone_at is not None:
            self._check_there()
        try:
            if progress is _HEAD and kind == "http.response.body" and not message.get("more_body"):
                fields, body = self._fields, message.get("body", b"")
                if self._with_trailers:
                    await self._begin_stream(message)
                    return
                if type(body) is not bytes:
                    body = check_body(body)
                if fields.length is not None and fields.length != b"%d" % len(body):
                    fields.lines = None  # whoever frames the response judges: it is right for HEAD, say
                self.progress = _SENDING
                if len(body) > LARGE:
                    await self.exchange.respond(self._status, body, headers=careful(fields))
                elif (rest := respond_at_once(self.exchange, self._status, fields, body)) is not None:
                    await respond_later(self.exchange, rest)
                self.progress = _COMPLETE
                if self._listening:
                    self._stop_listening()
            elif progress is _NONE and kind == "http.response.start":
                self._take_start(message)
            else:
                await self._send_on(kind, message)
        except _GONE as exc:
            self._note_gone()
            raise ClientDisconnectedError(f"the client of {self.exchange!r} has gone: {exc}") from exc
        except (LocalProtocolError, ValueError, TypeError):
            if self.progress is _SENDING and self._stream is None:
                self.progress = _HEAD  # nothing was sent: another response can be given
            raise

    def _take_start(self, message: Message) -> None:
        """The head, which is sent with the first piece of the body."""
        status = message["status"]
        if type(status) is not int or not 200 <= status <= 999:
            raise ValueError(f"status must be an int from 200 to 999, of a final response, not {status!r}")
        fields = read_fields(message.get("headers", ()), self._defaults)
        if status == 204 and fields.length == b"0":  # said by some, and right, but not allowed (RFC 9110 §8.6)
            fields = without_length(fields)
        self._fields = fields
        self._status = status
        self._with_trailers = message.get("trailers", False)
        self.progress = _HEAD

    async def _send_on(self, kind: str, message: Message) -> None:
        """What is not the head, nor a whole body."""
        progress = self.progress
        if kind == "http.response.body" and progress is _HEAD:
            await self._begin_stream(message)
        elif kind == "http.response.body" and progress is Progress.BODY:
            assert self._stream is not None
            self._go_on(await self._stream.send_piece(message))
        elif kind == "http.response.trailers" and progress is Progress.TRAILERS:
            assert self._stream is not None
            self._go_on(await self._stream.send_trailers(message))
        elif kind == "http.response.pathsend" and progress is _HEAD:
            self._go_on(await send_file(self.exchange, self._status, careful(self._fields), message["path"]))
        elif kind == "http.response.early_hint" and progress in (_NONE, _HEAD):
            await self.exchange.inform(103, [("link", link) for link in message["links"]])
        else:
            due = _DUE.get(progress, "nothing")
            raise RuntimeError(f"the application sent {kind!r}; its response is {progress.value}, so {due} is due")

    async def _begin_stream(self, message: Message) -> None:
        self._stream = stream = StreamedResponse(
            self.exchange, self._status, careful(self._fields), with_trailers=self._with_trailers
        )
        await stream.begin()
        self.progress = Progress.BODY
        self._go_on(await stream.send_piece(message))

    def _go_on(self, progress: Progress) -> None:
        """A part of the response is sent; it may have been the last."""
        self.progress = progress
        if progress is _COMPLETE:
            self._stop_listening()

    def _stop_listening(self) -> None:
        """The response is complete: who waits for news of the client is told so."""
        for scope in self._listening:
            scope.cancel()

    def _check_there(self) -> None:
        """The client has gone: raise if that is longer ago than for which one that half-closes gets its response."""
        assert self.gone_at is not None
        if trio.current_time() - self.gone_at > FAREWELL:
            raise ClientDisconnectedError(f"the client of {self.exchange!r} has gone")

    async def give_up(self, exc: BaseException) -> None:
        """The application has failed: cut off the response that it has begun, so that the client sees that.

        Cancellation: it does not wait.
        """
        if self._stream is not None and self.progress is not _COMPLETE:
            await self._stream.give_up(exc)


_DUE: Final = {
    _NONE: "'http.response.start'",
    _HEAD: "'http.response.body'",
    Progress.BODY: "'http.response.body'",
    Progress.TRAILERS: "'http.response.trailers'",
}
