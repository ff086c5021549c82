"""TLS as a transport, over any other transport: an `ssl.SSLObject` between two memory BIOs.

Theory of operation
-------------------

**The way of the bytes.** Ciphertext comes from the lower transport into the *incoming* BIO, OpenSSL turns it into
plaintext (`TLSReceiver`); plaintext goes into OpenSSL and comes out of the *outgoing* BIO as records for the lower
transport (`TLSSender`). Both share a `TLSEngine`. Like every transport this one has at most one receiver and one
sender, which its handle sees to, so there is no lock, task or cancel scope on that way.

**Who flushes.** OpenSSL speaks in two places: when it is asked to write, and also, unasked, when it is asked to read
(an alert, the answer to a KeyUpdate or to a renegotiation). Records must leave in the order in which it made them, as
each one has a number. So there is one rule: what is in the outgoing BIO belongs to the sender if one is at work, which
takes it along behind its own records; else the reader gives it to the lower transport at once, as far as that takes it
without waiting. What is left over goes in front of the next send. A reader never waits in order to write: two peers
that both did would wait for each other.

**Cancellation.** A receive loses nothing: what came is in a BIO before there is another checkpoint. A send is the hard
part, because OpenSSL cannot take a record back: its sequence number is used up. So nothing is encrypted before the
lower transport says that it would take something (`Transport.is_writable`, else a wait): a send that is cancelled in
that wait has not happened. Later there is no way back. If a record is torn, or a send ends between two of its records,
the sender is `torn`: nothing is sent any more, not even a close_notify, which would make a half of something look
whole. Receiving goes on. `bytes_sent` counts the plaintext of whole records, therefore `untouched` is a question of its
own.

**The end.** A close_notify ends one direction in TLS 1.3, so `send_eof` half-closes; TLS 1.2 cannot, and
`can_half_close` says so. Only the peer's close_notify is an EOF; a lower EOF without it is a `CutOffError`. A goodbye
sends close_notify and reads on for a while, because a close with input unread resets the connection, and the reset may
take away from the peer what was sent last.

**Session tickets and renegotiation.** A TLS 1.3 server's tickets come behind the handshake, with the first bytes that
are received: input that has no plaintext, so `is_silent` decrypts before it judges. Renegotiation (TLS 1.2, gone in
1.3) is answered as far as the lower transport takes the answer at once; a send during one fails. Set
``ssl.OP_NO_RENEGOTIATION``, as trionet's own client contexts do.

What was not done, and why:

* `trio.SSLStream` as it is: it takes twice as long (an echo 62 to 74 µs, 29 here), a send that is cancelled before its
  first byte breaks receiving too, it has no `send_eof`, and cannot be asked without waiting whether input is there.
* Encrypting first and waiting then, which is simpler: every send that is cancelled in a full buffer would end the
  connection.
* A lock around each call of OpenSSL with a loop on its *want read* and *want write*, as Trio does: needed to wait in
  the middle of a renegotiation, which nobody needs.
* A task that pumps ciphertext: it costs a task per connection, buffers without being asked, and its errors come out
  where nobody waits for them.
* `ssl.SSLSocket`: it owns the descriptor, so it works over sockets only, not over TLS or a memory stream, and bytes
  that were sniffed before cannot be given to it.
* Telling OpenSSL of a lower EOF (``write_eof``): see `receiver`.

The methods of the data path are the parts' own, bound once: so a part costs an attribute, and not one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from ..linger import linger
from .receiver import TLSReceiver
from .sender import TLSSender, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..protocol import Buffer, Transport
    from ..proxy_header import ProxyHeader
    from ..tls_info import TLSInfo
    from .engine import TLSEngine

__all__ = ["LINGER_BYTES", "TLSTransport"]

LINGER_BYTES: Final = 65536
"""How many bytes `TLSTransport.goodbye` throws away at most while it waits for the peer's close_notify."""


class TLSTransport:
    """Moves bytes through TLS, once the handshake is complete.

    Args:
        lower: Moves the ciphertext. It belongs to this transport from now on.
        engine: What the handshake was carried out with.
    """

    __slots__ = (
        "_parted",
        "_receiver",
        "_sender",
        "engine",
        "is_silent",
        "is_writable",
        "lower",
        "peer_gone",
        "receive_nowait",
        "receive_some",
        "send_some",
        "unread_plaintext",
        "unread_size",
        "wake_receiver",
    )

    file_sender = None

    def __init__(self, lower: Transport, engine: TLSEngine) -> None:
        self.lower = lower
        """What moves the ciphertext."""
        self.engine = engine
        self._sender = sender = TLSSender(lower, engine)
        self._receiver = receiver = TLSReceiver(lower, engine, sender)
        self._parted = False
        self.receive_some = receiver.receive_some
        self.receive_nowait = receiver.receive_nowait
        self.is_silent = receiver.is_silent
        self.unread_size = receiver.unread_size
        self.unread_plaintext = receiver.decrypt_all
        self.peer_gone = receiver.peer_gone
        self.wake_receiver = receiver.wake
        self.send_some = sender.send_some
        self.is_writable = sender.is_writable

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def tls(self) -> TLSInfo:
        return self.engine.info

    @property
    def socket(self) -> Any:
        return self.lower.socket

    @property
    def can_half_close(self) -> bool:
        """True from TLS 1.3 on: before, a close_notify ended both directions (RFC 5246 §7.2.1, RFC 8446 §6.1)."""
        return self.engine.ssl_object.version() == "TLSv1.3"

    @property
    def parting(self) -> bool:
        return not (self._parted or (self.engine.notified and self._receiver.ended)) or self.lower.parting

    @property
    def bytes_sent(self) -> int | None:
        return self._sender.bytes_sent

    @bytes_sent.setter
    def bytes_sent(self, size: int | None) -> None:
        self._sender.bytes_sent = size

    @property
    def untouched(self) -> bool:
        return self._sender.bytes_sent == 0 and not self._sender.torn

    @property
    def local_address(self) -> Any:
        return self.lower.local_address

    @property
    def remote_address(self) -> Any:
        return self.lower.remote_address

    @property
    def proxy_header(self) -> ProxyHeader | None:
        return self.lower.proxy_header

    def speak_for(self, header: ProxyHeader) -> None:
        self.lower.speak_for(header)

    def progress(self) -> object:
        lower = self.lower.progress()
        return None if lower is None else (lower, self._sender.bytes_sent, self._receiver.pieces)

    def input_waits(self) -> bool:
        return self.lower.input_waits()

    # --- sending -------------------------------------------------------------------------------------------------

    async def send_all(self, data: Buffer) -> None:
        """Encrypt and send all of `data`.

        Raises:
            trio.BrokenResourceError: the connection failed, or an earlier send was torn. The message is that of the
                peer's alert where it has left one.

        Cancellation: before anything was encrypted, nothing happened. Afterwards `bytes_sent` counts the plaintext
        whose records were given away completely, and `untouched` is False also where that is 0.
        """
        was_torn = self._sender.torn
        try:
            await self._sender.send_all(data)
        except trio.BrokenResourceError:
            if not was_torn:
                await self._receiver.look_for_alert()  # noqa: ASYNC120 - a cancellation outranks the error
            if (failure := self.engine.failure) is not None:
                raise self.engine.broken(failure) from failure
            raise

    async def send_vectored(self, parts: Sequence[Buffer]) -> None:
        """Like `send_all` of the joined parts; only what shares a record is joined."""
        sender = self._sender
        total = 0
        for piece in pieces(parts):
            try:
                await self.send_all(piece)
            except BaseException:
                sender.torn = sender.torn or total > 0
                if sender.bytes_sent is not None:
                    sender.bytes_sent += total
                raise
            total += len(piece)
        sender.bytes_sent = total

    async def wait_writable(self) -> None:
        await self.lower.wait_writable()

    # --- the end -------------------------------------------------------------------------------------------------

    async def send_eof(self) -> None:
        """Send close_notify; receiving goes on. A second call does nothing.

        Before TLS 1.3 this is for the goodbye only: the peer answers with its own and ends both directions.

        Raises:
            trio.BrokenResourceError: the connection failed, or an earlier send was torn.

        Cancellation: before anything went out, nothing happened. Afterwards `untouched` is False.
        """
        self._sender.bytes_sent = 0
        if not self.engine.notified:
            await self._sender.send_last(self._close_notify)

    def _close_notify(self) -> bytes:
        self._receiver.decrypt_all()
        return self.engine.close_notify()

    def spoil(self) -> None:
        """A close without close_notify is a failure to the peer already."""

    async def goodbye(self) -> None:
        """Send close_notify, also to a peer that sent its own, and linger for the peer's: 1 s and 64 KiB at most.

        A peer that is simply gone is not an error.

        Cancellation: the rest is left unsaid.
        """
        try:
            await self.send_eof()
            await linger(self, max_bytes=LINGER_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._parted = True
        if self.lower.parting:
            await self.lower.goodbye()

    def take_trailing(self) -> bytes:
        """The raw bytes that followed the peer's close_notify: input of whatever comes after TLS. A step."""
        return self.engine.incoming.read()

    def close(self) -> bool:
        return self.lower.close()

    async def aclose(self) -> None:
        await self.lower.aclose()
