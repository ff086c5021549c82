"""Taking over a stream that a program has made, and what is left to that program: closing it.

With trio-websocket the stream under a WebSocket stays the program's own, so programs end a WebSocket by closing it:
``async with stream``, `trio.serve_tcp` behind a handler. A stream that trionet has adopted raises closed errors, and
closing it closes nothing; here it ends the WebSocket instead.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

from .connection import WebSocketConnection

if TYPE_CHECKING:
    from ...connection import Connection
    from ...handle import Handle
    from ...scope.scope import Scope

__all__ = ["take"]


async def take(scope: Scope, stream: trio.abc.Stream) -> Connection:
    """Own the stream from now on. TLS shakes hands first: Trio's does that in an object that cannot be taken over.

    Cancellation: the stream is closed.
    """
    if isinstance(stream, trio.SSLStream):
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)  # noqa: ASYNC102, ASYNC120 - it does not wait
            raise
    connection = scope.adopt(stream)
    _follow(stream, connection)
    return connection


def _follow(stream: trio.abc.Stream, connection: Connection) -> None:
    """Closing `stream` ends what `connection` has become by then."""
    ends = _Ends(connection)
    try:
        object.__setattr__(stream, "aclose", ends)
    except AttributeError:
        # It takes no attributes. The class of a stream that was ended is that stream's alone.
        type(stream).aclose = ends  # type: ignore[method-assign, assignment]


class _Ends:
    """The `aclose` of a stream that was adopted."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def __call__(self) -> None:
        handle = self._handle
        while handle.end is not None and handle.end.successor is not None:
            handle = handle.end.successor
        if isinstance(handle, WebSocketConnection):
            handle._stream_closed()
        else:
            handle.abort()
        if sys.exc_info()[1] is None:
            await trio.lowlevel.checkpoint()
        else:  # the exception that is being handled must not be lost to a cancellation
            await trio.lowlevel.cancel_shielded_checkpoint()
