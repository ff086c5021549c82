"""Responses of an application that are more than a head and a body in one piece: streams, trailers, files.

How far a response is (`Progress`) decides which event is due next. The usual response goes from `HEAD` to `COMPLETE`
within one call of `HTTPCycle.send`, and needs nothing of this module; all others are kept here, so that the usual one
pays nothing for them.
"""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Any, Final

import trio

from .fields import NO_DEFAULTS, read_fields

if TYPE_CHECKING:
    from ..http import Exchange
    from ..http.protocol.outgoing import CheckedFields
    from .fields import Pair
    from .types import Message

__all__ = ["Progress", "StreamedResponse", "check_body", "send_file"]


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


_BODY: Final = Progress.BODY


class StreamedResponse:
    """A response that an application sends piece by piece.

    Args:
        exchange: The request.
        status: The status.
        fields: The fields; a Content-Length among them counts.
        with_trailers: Whether the application announced trailers.
    """

    __slots__ = ("_stream", "_trailers", "_with_trailers")

    def __init__(self, exchange: Exchange, status: int, fields: CheckedFields, *, with_trailers: bool) -> None:
        self._stream = exchange.stream(status, headers=fields)
        self._with_trailers = with_trailers
        self._trailers: list[Pair] = []

    async def begin(self) -> None:
        """Make the head; it goes out with the first piece.

        Raises:
            LocalProtocolError, ValueError, TypeError: the fields do not fit, or cannot be sent.

        Cancellation: nothing is sent, and another response can be given.
        """
        await self._stream.__aenter__()  # it is left by `_end`, in another call

    async def send_piece(self, message: Message) -> Progress:
        """Send a piece of the body: how far the response is then.

        Cancellation: as for `ResponseStream.send`.
        """
        body, more = message.get("body", b""), message.get("more_body", False)
        if body or more:
            await self._stream.send(body if type(body) is bytes else check_body(body))
        if more:
            return _BODY
        return Progress.TRAILERS if self._with_trailers else await self._end()

    async def send_trailers(self, message: Message) -> Progress:
        """Take fields to be sent behind the body: how far the response is then.

        Cancellation: the response is cut off.
        """
        self._trailers += read_fields(message.get("headers", ()), NO_DEFAULTS).pairs
        return Progress.TRAILERS if message.get("more_trailers", False) else await self._end()

    async def _end(self) -> Progress:
        if self._trailers:
            self._stream.trailers(self._trailers)
        await self._stream.__aexit__(None, None, None)
        return Progress.COMPLETE

    async def give_up(self, exc: BaseException) -> None:
        """Cut the response off, so that its client sees that it is not complete.

        Cancellation: it does not wait.
        """
        await self._stream.__aexit__(type(exc), exc, exc.__traceback__)


async def send_file(exchange: Exchange, status: int, fields: CheckedFields, path: Any) -> Progress:
    """Send a file by its path (extension ``http.response.pathsend``), which is opened in a thread.

    Cancellation: as for `Exchange.respond`.
    """
    if not isinstance(path, str) or not os.path.isabs(path):
        raise ValueError(f"the path of 'http.response.pathsend' must be an absolute path as a str, not {path!r}")
    file = await trio.to_thread.run_sync(open, path, "rb")
    try:
        await exchange.respond(status, file, headers=fields)
    finally:
        file.close()
    return Progress.COMPLETE


def check_body(body: Any) -> bytes:
    """A body as bytes; the specification has them, frameworks give others too."""
    if not isinstance(body, (bytes, bytearray, memoryview)):
        remedy = "; encode it" if isinstance(body, str) else ""
        raise TypeError(f"the body of 'http.response.body' must be bytes, not {body!r}{remedy}")
    return bytes(body)
