"""What every transport does: move the bytes of one endpoint. A transport knows no owner.

A handle holds exactly one transport and decides who may call it, so a transport contains no guards: at most one task
receives and at most one sends at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .file_region import FileRegion
    from .proxy_header import ProxyHeader
    from .tls_info import TLSInfo

__all__ = ["MAX_RECEIVE", "Buffer", "CutOffError", "Transport"]

Buffer = bytes | bytearray | memoryview
"""What can be sent."""

MAX_RECEIVE = 65536
"""Bytes that one receive asks for at most: larger buffers cost page faults."""


class CutOffError(trio.BrokenResourceError):
    """The peer ended the connection by an EOF although its protocol has an end of its own: TLS without close_notify."""


class FileSender(Protocol):
    """Sends parts of files without copying them."""

    async def send_file(self, region: FileRegion) -> None:
        """Like `Transport.send_all`, of a part of a file.

        Raises:
            LocalProtocolError: the file has become shorter.
        """
        ...


class Transport(Protocol):
    """Moves the bytes of one endpoint.

    Errors are Trio's own: `trio.BrokenResourceError` when the peer or the network failed, `trio.ClosedResourceError`
    when this side closed the transport or called `wake_receiver`.
    """

    @property
    def bytes_sent(self) -> int | None:
        """Bytes of the latest send that the operating system took. Exact also after a send was cancelled or failed.

        None if the transport cannot tell. Callers set it to 0 before a send, which may be cancelled before it begins.
        """
        ...

    @bytes_sent.setter
    def bytes_sent(self, size: int | None) -> None: ...

    @property
    def socket(self) -> Any:
        """The socket underneath, for its options; None where there is none."""
        ...

    @property
    def tls(self) -> TLSInfo | None:
        """What the TLS handshake agreed on; None where this is not TLS. Answers also after the close."""
        ...

    @property
    def can_half_close(self) -> bool:
        """Whether `send_eof` ends sending while receiving goes on."""
        ...

    @property
    def file_sender(self) -> FileSender | None:
        """What sends files without copying them; None where their bytes have to come through this process."""
        ...

    @property
    def parting(self) -> bool:
        """Whether `goodbye` still has something to say; where not, a close needs no deadline and no waiting."""
        ...

    @property
    def untouched(self) -> bool:
        """After a send was cancelled or failed: whether nothing of it is left behind, so that another can begin.

        Not the same as ``bytes_sent == 0``: a part of a TLS record carries no whole byte of plaintext, and still
        nothing can be sent after it.
        """
        ...

    @property
    def local_address(self) -> Any:
        """The local socket address, or None."""
        ...

    @property
    def remote_address(self) -> Any:
        """The peer's socket address, or None; behind a proxy, that of its client."""
        ...

    @property
    def proxy_header(self) -> ProxyHeader | None:
        """What a proxy has said of its client; None if none has."""
        ...

    def speak_for(self, header: ProxyHeader) -> None:
        """The peer is a proxy, which speaks for this client: `remote_address` is that one's, if it is known. A step."""
        ...

    async def receive_some(self, max_bytes: int) -> bytes:
        """Between 1 and `max_bytes` bytes; ``b""`` at the peer's EOF.

        Always a checkpoint that lets other tasks run. Cancellation: not one byte is lost.
        """
        ...

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """What has arrived: between 1 and `max_bytes` bytes, ``b""`` at EOF, None if nothing has. A step.

        Only while nobody receives. None also where the transport cannot tell without waiting.
        """
        ...

    def is_silent(self) -> bool:
        """Whether the peer has sent nothing that is not received yet: no byte, no EOF, no reset. A step.

        Only while nobody receives. Over TLS, bytes of the application count; what OpenSSL keeps for itself, such as a
        session ticket, does not. False also where the transport cannot tell without waiting.
        """
        ...

    def unread_size(self) -> int:
        """Bytes that have arrived and were not received: up to 64 KiB are counted. A step, for the end.

        0 also where the transport cannot tell without waiting.
        """
        ...

    def peer_gone(self) -> Literal["reset", "eof"] | None:
        """Whether the peer has reset the connection, or ended its direction, also where nobody has received that yet.

        A step; only while nobody receives. Over TLS a close_notify counts as the end, and a fatal alert as a reset.
        None also where the transport cannot tell.
        """
        ...

    def spoil(self) -> None:
        """Make the next `close` look like a failure to the peer, where it could be taken for a good end. A step."""
        ...

    def send_some(self, data: Buffer) -> int:
        """How many bytes of `data` the operating system took at once, in one step; 0 if it would have to wait.

        If that is fewer than ``len(data)``, the caller sends the rest with `send_all`, before anything else.
        """
        ...

    async def send_all(self, data: Buffer) -> None:
        """Give all of `data` to the operating system. Need not be a checkpoint if nothing has to be waited for.

        Cancellation: `bytes_sent` tells how much of `data` was given away.
        """
        ...

    async def send_vectored(self, parts: Sequence[Buffer]) -> None:
        """Like `send_all` of the joined parts, without joining them where the system can do that."""
        ...

    async def send_eof(self) -> None:
        """End sending; receiving goes on. Called only where `can_half_close`."""
        ...

    async def wait_writable(self) -> None:
        """Wait until a send might not have to wait."""
        ...

    def is_writable(self) -> bool:
        """Whether a send would go out now, at least in part. False also where the transport cannot tell. A step."""
        ...

    def progress(self) -> object:
        """What is different when the peer has sent or taken a byte, also in the middle of a send or of a TLS record.

        None where the transport cannot tell. A step.
        """
        ...

    def input_waits(self) -> bool:
        """Whether something has come for a pending `receive_some` whose task has had no turn since. A step.

        Bytes, EOF or a reset; over TLS also records without application data. False where the transport cannot tell.
        """
        ...

    def wake_receiver(self) -> None:
        """A pending `receive_some` takes what has arrived, or raises `trio.ClosedResourceError` if nothing has. A step.

        A pending send goes on.
        """
        ...

    async def goodbye(self) -> None:
        """Say what the protocol says at a graceful end, and linger within bounds where that is needed."""
        ...

    def close(self) -> bool:
        """Release the endpoint, in one step; pending operations raise `trio.ClosedResourceError`.

        False if the release can only be finished asynchronously: then `aclose` has to be awaited, by anybody.
        """
        ...

    async def aclose(self) -> None:
        """Finish a release that `close` began. Cancellation: releases all the same."""
        ...
