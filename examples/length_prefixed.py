"""A protocol of one's own: messages behind a four-byte length, on a handle of their own.

``to_messages()`` upgrades a connection: each side says which version it speaks, and afterwards there are no bytes any
more, but messages. The program at the end is a server that turns messages round, and its client.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import trio

import trionet
from trionet import Connection, LimitExceededError, UpgradeFailedError, UpgradeRefusedError

if TYPE_CHECKING:
    from trionet import Detached, Wire

HELLO = b"MSG/1\n"
NO = b"NO\n"
LENGTH = struct.Struct("!I")


class MessageStream(Connection):
    """Messages instead of bytes. A `Connection` otherwise, so every verb works on it: detach, transfer, upgrade ..."""

    __slots__ = ("max_size",)

    def __init__(self, capsule: Detached, max_size: int) -> None:
        super().__init__(capsule)
        self.max_size = max_size

    async def get_message(self) -> bytes | None:
        """The next message; None at the end of the stream.

        Raises:
            LimitExceededError: the peer announces a message of more than `max_size` bytes.
            RemoteProtocolError: the stream ended inside a message.

        Cancellation: not one byte is lost. The length is only looked at until the whole message is there.
        """
        head = await self.peek(LENGTH.size)
        if not head:
            return None
        if len(head) == LENGTH.size and (size := LENGTH.unpack(head)[0]) > self.max_size:
            error = LimitExceededError(f"a message of {size} bytes was announced, and max_size is {self.max_size}")
            raise error.with_handle(self)  # so a server knows that its client did that, and not its handler
        size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
        return (await self.receive_exactly(LENGTH.size + size))[LENGTH.size :]

    async def send_message(self, message: bytes) -> None:
        """Send one message.

        Cancellation: as for `send_all`: whole, not begun, or the handle is broken.
        """
        await self.send_all(LENGTH.pack(len(message)) + message)


class to_messages:  # noqa: N801 - named for the way it reads: conn.upgrade(to_messages())
    """Upgrade a `Connection` to a `MessageStream`; the same recipe on both sides. An instance is used once.

    Args:
        max_size: Bytes of a message at most, 0 to 65,536; larger ones are an error.
        timeout: Seconds for the handshake.
    """

    def __init__(self, *, max_size: int = 65536, timeout: float = 10.0) -> None:
        if not 0 <= max_size <= 65536:
            raise ValueError(f"max_size must be 0 to 65536 bytes, not {max_size!r}")
        self._max_size = max_size
        self._timeout = timeout

    def prepare(self, source: object) -> None:
        """Check the source. Unread bytes are no obstacle: they are what the peer has sent already."""
        if type(source) is not Connection:
            raise TypeError(f"to_messages() upgrades a Connection, not {source!r}")

    async def handshake(self, wire: Wire) -> None:
        """Say hello, and wait for the peer's."""
        self._wire = wire
        wire.set_deadline(self._timeout, "the handshake of to_messages()", "timeout")
        await wire.send_all(HELLO)
        answer = await wire.receive_until(b"\n", max_bytes=64)
        if answer == NO:
            raise UpgradeRefusedError("the peer does not speak MSG/1", answer)
        if answer != HELLO:
            raise UpgradeFailedError(f"the peer should have said {HELLO!r} or {NO!r}, not {answer!r}")

    def commit(self) -> MessageStream:
        """The new handle; it begins with what the peer has sent behind its hello."""
        return MessageStream(self._wire.detach(), self._max_size)


async def handle(connection: Connection) -> None:
    """Send every message back, turned round."""
    stream = await connection.upgrade(to_messages())
    while (message := await stream.get_message()) is not None:
        await stream.send_message(message[::-1])


async def main() -> None:
    """The server, and one client."""
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_tcp, handle, 0)
        connection = await scope.connect_tcp("localhost", server.port)
        stream = await connection.upgrade(to_messages())
        await stream.send_message(b"desserts")
        print(await stream.get_message())
        await stream.aclose()
        print(await server.drain(5))


if __name__ == "__main__":
    trio.run(main)
