"""Any Trio stream as a transport: memory streams, `trio.SSLStream`, stapled pipes, streams of other libraries.

A Trio stream cannot say how much of a cancelled send went out, and it can only be closed asynchronously. This adapter
is exact about what it cannot know (`bytes_sent` is None) and cuts pending operations off in one step all the same, by a
cancel scope of its own around each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .protocol import Buffer
    from .proxy_header import ProxyHeader

__all__ = ["StreamTransport"]


class StreamTransport:
    """Moves the bytes of a `trio.abc.Stream`; half-closes if that is a `trio.abc.HalfCloseableStream`."""

    __slots__ = (
        "_closed",
        "_known_as",
        "_leaving",
        "_receiving",
        "_sending",
        "_stream",
        "bytes_sent",
        "local_address",
        "parting",
        "proxy_header",
        "remote_address",
    )

    file_sender = None
    tls = None  # where the stream is a `trio.SSLStream`, TLS is that stream's business

    def __init__(self, stream: trio.abc.Stream, known_as: trio.abc.Stream | None = None) -> None:
        """Move the bytes of `stream`, which the program knows as another object where it is given `known_as`."""
        self._stream = stream
        self._known_as = stream if known_as is None else known_as
        self.parting = True
        self._closed = False
        self._leaving: trio.CancelScope | None = None
        self._receiving: trio.CancelScope | None = None
        self._sending: trio.CancelScope | None = None
        self.bytes_sent: int | None = 0
        self.local_address: Any = None
        self.remote_address: Any = None
        self.proxy_header: ProxyHeader | None = None

    def speak_for(self, header: ProxyHeader) -> None:
        self.proxy_header = header
        if header.source is not None:
            self.remote_address = header.source

    @property
    def stream(self) -> trio.abc.Stream:
        """The stream underneath, as the program knows it."""
        return self._known_as

    @property
    def socket(self) -> Any:
        stream: Any = self._known_as
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        return stream.socket if isinstance(stream, trio.SocketStream) else None

    @property
    def can_half_close(self) -> bool:
        return isinstance(self._stream, trio.abc.HalfCloseableStream)

    @property
    def untouched(self) -> bool:
        return self.bytes_sent == 0

    async def receive_some(self, max_bytes: int) -> bytes:
        self._check_open()
        data = b""
        self._receiving = scope = trio.CancelScope()
        with scope:
            try:
                data = bytes(await self._stream.receive_some(max_bytes))
            except trio.ClosedResourceError as exc:
                self._raise_if_not_closed_here(exc)
                raise
            finally:
                self._receiving = None
        if scope.cancelled_caught:
            raise trio.ClosedResourceError("the receive was called off")
        return data

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """A Trio stream gives nothing without waiting."""
        return None

    def is_silent(self) -> bool:
        """A Trio stream cannot tell without waiting."""
        return False

    def unread_size(self) -> int:
        """A Trio stream cannot tell."""
        return 0

    def peer_gone(self) -> Literal["reset", "eof"] | None:
        """A Trio stream cannot tell."""
        return None

    def spoil(self) -> None:
        """A Trio stream has no way to do that."""

    def send_some(self, data: Buffer) -> int:
        """A Trio stream takes nothing in one step."""
        return 0

    async def send_all(self, data: Buffer) -> None:
        self.bytes_sent = None
        await self._on_send_side(lambda: self._stream.send_all(data))
        self.bytes_sent = len(data)

    async def send_vectored(self, parts: Sequence[Buffer]) -> None:
        await self.send_all(b"".join(parts))

    async def send_eof(self) -> None:
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            raise TypeError(f"{type(self._stream).__name__} cannot end sending while receiving goes on")
        self.bytes_sent = None
        await self._on_send_side(self._stream.send_eof)

    async def wait_writable(self) -> None:
        self.bytes_sent = 0
        await self._on_send_side(self._stream.wait_send_all_might_not_block)

    def is_writable(self) -> bool:
        """A Trio stream cannot tell without waiting."""
        return False

    def _check_open(self) -> None:
        # The stream itself is closed a little later, by a service task, and need not wake the tasks that wait on it.
        if self._closed:
            raise trio.ClosedResourceError("this stream was already closed")

    def _raise_if_not_closed_here(self, exc: trio.ClosedResourceError) -> None:
        # Somebody has closed the stream, or a part of it, behind its owner's back: for the handle the connection broke.
        if not self._closed:
            raise trio.BrokenResourceError(f"the stream was closed by somebody else: {exc}") from exc

    async def _on_send_side(self, operation: Callable[[], Awaitable[None]]) -> None:
        self._check_open()
        self._sending = scope = trio.CancelScope()
        with scope:
            try:
                await operation()
            except trio.ClosedResourceError as exc:
                self._raise_if_not_closed_here(exc)
                raise
            finally:
                self._sending = None
        if scope.cancelled_caught:
            raise trio.ClosedResourceError("this stream was closed during the send")

    def progress(self) -> object:
        """A Trio stream cannot tell."""
        return None

    def input_waits(self) -> bool:
        """A Trio stream cannot tell."""
        return False

    def wake_receiver(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()

    async def goodbye(self) -> None:
        """Close the stream the way it wants to be closed: that is where a foreign protocol says its own goodbye."""
        self._leaving = scope = trio.CancelScope()
        try:
            with scope:
                await self._stream.aclose()
        finally:
            self._leaving = None
        self.parting = False

    def close(self) -> bool:
        self._closed = True
        for pending in (self._receiving, self._sending, self._leaving):
            if pending is not None:
                pending.cancel()
        return not self.parting

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)
