"""From trionet to the real trio-websocket: a connection moves to a stream that the other library reads from the start.

trio-websocket reads the request itself. From a raw connection it has it still before it; to one that an HTTP server has
read already, it is written again, in front of what the client has sent behind it. So not a byte is lost, and the
handshake is trio-websocket's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
import trio_websocket

from ...connection import Connection
from ...errors import LocalProtocolError, RemoteProtocolError
from ...http.protocol.head import parse_request
from ...http.protocol.limits import MAX_HEAD
from ...http.protocol.outgoing import write_request
from ...http.server.exchange import Exchange
from ...own_recipe import OwnRecipe
from ...websocket.handshake.rules import NotAcceptableError, check_request
from .options import MAX_MESSAGE_SIZE, MESSAGE_QUEUE_SIZE, RECEIVE_BYTES

if TYPE_CHECKING:
    from ...handle.detached import Detached
    from ...handle.recipe import Recipe
    from ...ownership import Phase

__all__ = ["TrioWebSocketStream", "to_trio_websocket"]


def to_trio_websocket(
    *,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> Recipe[TrioWebSocketStream]:
    """Move a `Connection` with a request before it, or an `Exchange`, to the real trio-websocket. Used once.

    ``stream = await exchange.upgrade(to_trio_websocket())``, then ``request = await stream.get_request(nursery)``: that
    is a `trio_websocket.WebSocketRequest`, to be accepted or rejected as usual. Nothing is sent or received here.

    Args:
        message_queue_size: As for `trio_websocket.wrap_server_stream`, and so are the others.
        max_message_size: See there.
        receive_buffer_size: See there.

    Raises (in the upgrade):
        LocalProtocolError: the exchange asks for no WebSocket, the source is neither, or the recipe was used before.
            Nothing has changed: respond to it otherwise.

    Cancellation: nothing has changed.
    """
    return _TrioWebSocketRecipe((message_queue_size, max_message_size, receive_buffer_size))


class TrioWebSocketStream(Connection):
    """The byte stream under a `trio_websocket.WebSocketConnection`. Its scope owns it; whoever closes either ends both.

    Close the WebSocket before the scope is left: the scope knows the stream only, and closes that.
    """

    __slots__ = ("_answered", "_head", "_options")

    def __init__(self, capsule: Detached, options: tuple[Any, ...]) -> None:
        super().__init__(capsule)
        self._options = options
        self._head = b""
        self._answered: trio.Event | None = None

    async def get_request(self, nursery: trio.Nursery) -> trio_websocket.WebSocketRequest:
        """Let trio-websocket have the request, which is read first. Once.

        Args:
            nursery: Where the task runs that reads for the WebSocket.

        Raises:
            RemoteProtocolError: the request is malformed, no handshake, or the client has ended the connection instead.
                No response was sent: close the stream.
            LimitExceededError: its head is longer than 64 KiB; the same.
            LocalProtocolError: it was called before.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `receive_some`.

        Cancellation: close the stream.
        """
        if self._answered is not None:
            raise LocalProtocolError(f"{self!r} has given its request already")
        self._answered = trio.Event()
        head = await self.receive_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
        try:
            check_request(parse_request(head))
        except NotAcceptableError as exc:
            raise RemoteProtocolError(f"no acceptable WebSocket handshake: {exc}", exc.response.status) from None
        self._head = head
        return await trio_websocket.wrap_server_stream(nursery, self, *self._options)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As `Connection.receive_some`; but what follows the request comes when that is answered.

        trio-websocket would keep frames that come with the request, or before the response, until others follow them.

        Cancellation: not one byte is lost.
        """
        if self._head:
            await trio.lowlevel.checkpoint()
            data, self._head = self._head[:max_bytes], self._head[len(self._head[:max_bytes]) :]
            return data
        if self._answered is not None:
            await self._answered.wait()
        return await super().receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As `Connection.send_all`.

        Cancellation: as `Connection.send_all`.
        """
        await super().send_all(data)
        if self._answered is not None:
            self._answered.set()

    def _phase_changed(self, before: Phase) -> None:
        super()._phase_changed(before)
        if self._answered is not None:
            self._answered.set()


class _TrioWebSocketRecipe(OwnRecipe[TrioWebSocketStream]):
    """Puts the request in front again."""

    name = "to_trio_websocket"
    sources = (Connection, Exchange)
    takes = "a Connection or an Exchange"

    def __init__(self, options: tuple[Any, ...]) -> None:
        self._options = options
        self._head = b""

    def check(self, source: Connection | Exchange) -> None:
        if isinstance(source, Exchange):
            if not source.wants_websocket:
                raise LocalProtocolError(f"upgrade refused: {source!r} does not ask for a WebSocket")
            self._head = write_request(source.method, source.target, source.headers)

    def make(self, capsule: Detached) -> TrioWebSocketStream:
        capsule.leftover = self._head + capsule.leftover
        return TrioWebSocketStream(capsule, self._options)
