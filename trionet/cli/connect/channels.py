"""What a session talks to: items go in, items come out, and after the last one there is an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from ... import ConnectionClosed, LocalProtocolError
from .lines import PING, Item

if TYPE_CHECKING:
    from collections.abc import Callable

    from ... import Connection, WebSocket

__all__ = ["Channel", "Note", "StreamChannel", "WebSocketChannel"]

EOL = {"crlf": "\r\n", "lf": "\n", "none": ""}


class Note(str):
    """Something about the connection, and not from the peer's text."""

    __slots__ = ()


class Channel(Protocol):
    """A connection, as a session sees it."""

    framed: bool
    """Whether what comes is messages, and not pieces of a stream."""
    passes_end: bool
    """Whether `finish` tells the peer that nothing more is coming."""
    farewell: str
    """What is said when the peer has ended."""

    async def send(self, item: Item) -> None:
        """Send an item."""
        ...

    async def receive(self) -> Item | Note | None:
        """The next one of the peer's; None when it has ended."""
        ...

    async def finish(self) -> None:
        """There is nothing more to send."""
        ...


class StreamChannel:
    """A stream of bytes: lines get their ends."""

    framed = False
    passes_end = True
    farewell = "the peer has ended the connection"

    def __init__(self, conn: Connection, eol: str) -> None:
        self._conn = conn
        self._eol = EOL[eol]

    async def send(self, item: Item) -> None:
        """Send a line with its end, or bytes without one."""
        if item is PING:
            return
        if isinstance(item, str):
            item = "".join(f"{line}{self._eol}" for line in item.split("\n")).encode("utf-8", "surrogateescape")
        await self._conn.send_all(item)

    async def receive(self) -> Item | Note | None:
        """The next bytes."""
        return await self._conn.receive_some() or None

    async def finish(self) -> None:
        """End this direction."""
        try:
            await self._conn.send_eof()
        except LocalProtocolError:
            await trio.lowlevel.checkpoint()  # TLS 1.2 can only end both directions; the silence behind will tell


class WebSocketChannel:
    """A WebSocket: a line is a text message, bytes are a binary one."""

    framed = True
    passes_end = False
    farewell = "the peer has closed the WebSocket"

    def __init__(self, ws: WebSocket, note: Callable[[str], None]) -> None:
        self._ws = ws
        self._note = note

    async def send(self, item: Item) -> None:
        """Send a message, or a ping."""
        if item is PING:
            began = trio.current_time()
            await self._ws.ping()
            self._note(f"pong after {(trio.current_time() - began) * 1000:.1f} ms")
        else:
            await self._ws.send_message(item)

    async def receive(self) -> Item | Note | None:
        """The next message."""
        try:
            return await self._ws.get_message()
        except ConnectionClosed as exc:
            if exc.reason is None or exc.reason.code in (1000, 1001):
                return None
            raise

    async def finish(self) -> None:
        """Nothing yet: a close now would cut off the answer."""
        await trio.lowlevel.checkpoint()
