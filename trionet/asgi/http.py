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

import enum
import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from ..errors import HandleBrokenError, HandleClosedError, LocalProtocolError, RemoteProtocolError
from ..http.server.exchange import LARGE
from .errors import ClientDisconnectedError
from .fields import NO_DEFAULTS, careful, read_fields, without_length
from .http_access import client_has_gone, respond_at_once, respond_later, take_whole_body

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..http import Exchange, ResponseStream
    from ..http.protocol.outgoing import CheckedFields
    from .fields import DefaultFields, Pair
    from .types import Message

__all__ = ["HTTPCycle", "Progress"]

Given = TypeVar("Given")

MAX_PIECE: Final = 65536
"""Bytes of a body that are given in one message at most."""
FAREWELL: Final = 1.0
"""Seconds for which a client that has ended its direction still gets what is sent."""


class Progress(enum.Enum):
    """How far the response of an application is."""

    NONE = "not begun"
    HEAD = "head given"
    """`http.response.start` was sent; the head waits for the first piece of the body."""
    BODY = "body under way"
    TRAILERS = "body complete, trailers due"
    SENDING = "last piece under way"
    COMPLETE = "complete"

    __hash__ = object.__hash__


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
        "_body_left", "_defaults", "_fields", "_listening", "_status", "_stream", "_trailers", "_with_trailers",
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
        self._stream: ResponseStream | None = None

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
        try:
            with trio.CancelScope() as scope:
                piece = await self._listen(scope, anext(self.exchange, b""))
            if scope.cancelled_caught:  # the response is complete
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
                status = message["status"]
                if type(status) is not int or not 200 <= status <= 999:
                    raise ValueError(f"status must be an int from 200 to 999, of a final response, not {status!r}")
                self._fields = read_fields(message.get("headers", ()), self._defaults)
                self._status = status
                self._with_trailers = message.get("trailers", False)
                if status == 204:
                    self._drop_length()
                self.progress = _HEAD
            else:
                await self._send_on(kind, message)
        except _GONE as exc:
            self._note_gone()
            raise ClientDisconnectedError(f"the client of {self.exchange!r} has gone: {exc}") from exc
        except (LocalProtocolError, ValueError, TypeError):
            if self.progress is _SENDING and self._stream is None:
                self.progress = _HEAD  # nothing was sent: another response can be given
            raise

    def _drop_length(self) -> None:
        """Leave out what some say about a body that is not there: right, but not allowed (RFC 9110 §8.6)."""
        if self._fields.length == b"0":
            self._fields = without_length(self._fields)

    async def _send_on(self, kind: str, message: Message) -> None:
        """What is not the head, nor a whole body."""
        progress = self.progress
        if kind == "http.response.body" and progress is _HEAD:
            await self._begin_stream(message)
        elif kind == "http.response.body" and progress is Progress.BODY:
            await self._send_piece(message)
        elif kind == "http.response.trailers" and progress is Progress.TRAILERS:
            await self._send_trailers(message)
        elif kind == "http.response.pathsend" and progress is _HEAD:
            await self._send_file(message["path"])
        elif kind == "http.response.early_hint" and progress in (_NONE, _HEAD):
            await self.exchange.inform(103, [("link", link) for link in message["links"]])
        else:
            due = _DUE.get(progress, "nothing")
            raise RuntimeError(f"the application sent {kind!r}; its response is {progress.value}, so {due} is due")

    async def _begin_stream(self, message: Message) -> None:
        stream = self.exchange.stream(self._status, headers=careful(self._fields))
        await stream.__aenter__()  # it is left by `_end_stream`, in another call
        self._stream = stream
        self._trailers: list[Pair] = []
        self.progress = Progress.BODY
        await self._send_piece(message)

    async def _send_piece(self, message: Message) -> None:
        assert self._stream is not None
        body, more = message.get("body", b""), message.get("more_body", False)
        if body or more:
            await self._stream.send(body if type(body) is bytes else check_body(body))
        if more:
            return
        if self._with_trailers:
            self.progress = Progress.TRAILERS
        else:
            await self._end_stream()

    async def _send_trailers(self, message: Message) -> None:
        self._trailers += read_fields(message.get("headers", ()), NO_DEFAULTS).pairs
        if not message.get("more_trailers", False):
            await self._end_stream()

    async def _end_stream(self) -> None:
        stream = self._stream
        assert stream is not None
        self.progress = _SENDING
        if self._trailers:
            stream.trailers(self._trailers)
        await stream.__aexit__(None, None, None)
        self.progress = _COMPLETE
        self._stop_listening()

    async def _send_file(self, path: Any) -> None:
        """A file by its path (extension ``http.response.pathsend``)."""
        if not isinstance(path, str) or not os.path.isabs(path):
            raise ValueError(f"the path of 'http.response.pathsend' must be an absolute path as a str, not {path!r}")
        file = await trio.to_thread.run_sync(open, path, "rb")
        self.progress = _SENDING
        try:
            await self.exchange.respond(self._status, file, headers=careful(self._fields))
        finally:
            file.close()
        self.progress = _COMPLETE
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
            await self._stream.__aexit__(type(exc), exc, exc.__traceback__)


def check_body(body: Any) -> bytes:
    """A body as bytes; the specification has them, frameworks give others too."""
    if not isinstance(body, (bytes, bytearray, memoryview)):
        remedy = "; encode it" if isinstance(body, str) else ""
        raise TypeError(f"the body of 'http.response.body' must be bytes, not {body!r}{remedy}")
    return bytes(body)


_DUE: Final = {
    _NONE: "'http.response.start'",
    _HEAD: "'http.response.body'",
    Progress.BODY: "'http.response.body'",
    Progress.TRAILERS: "'http.response.trailers'",
}
