"""Receiving over TLS: ciphertext from the lower transport, plaintext out of OpenSSL, and what the peer's end means.

EOF is told from truncation. Only the peer's close_notify is an end; a lower EOF without it is an error (RFC 8446 §6.1).
OpenSSL is never told of a lower EOF, because Python lets it pass that off as a clean end
(``OP_IGNORE_UNEXPECTED_EOF``).

Only one task takes from the lower transport at any time: a receive, or a failed send that looks for the peer's reason
(`TLSReceiver.look_for_alert`). A receive that comes meanwhile ends the look, and goes on with what that has taken.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from ...errors import unraised
from ..protocol import MAX_RECEIVE, CutOffError

if TYPE_CHECKING:
    from ..protocol import Transport
    from .engine import TLSEngine
    from .sender import TLSSender

__all__ = ["TLSReceiver"]

RECORDS: Final = 256
"""Records that one receive decrypts at most: 64 KiB hold 2,800 of those with one byte each."""

LOOK_BYTES: Final = 65536
"""How many bytes without a byte of the application `TLSReceiver.is_silent` takes for silence at most."""

MAX_ANSWERS: Final = 65536
"""Bytes that OpenSSL may have said of its own accord to a peer that does not read them; more would go on for ever."""

ALERT_SECONDS: Final = 0.1
"""How long a broken send looks for the alert that tells why; it is there already, or will not come."""

ALERT_BYTES: Final = 65536
"""How many bytes are decrypted at most in front of that alert."""

_CUT_OFF: Final = "the peer ended the connection without close_notify: data may have been cut off"
_CALLED_OFF: Final = "the receive was called off"


class TLSReceiver:
    """Receives and decrypts.

    Args:
        lower: Moves the ciphertext.
        engine: Decrypts; its handshake is complete.
        sender: Sends what OpenSSL answers.
    """

    __slots__ = (
        "_ahead",
        "_engine",
        "_incoming",
        "_look",
        "_lower",
        "_outgoing",
        "_ready",
        "_receiving",
        "_sender",
        "_tls",
        "_wakes",
        "ended",
        "pieces",
    )

    def __init__(self, lower: Transport, engine: TLSEngine, sender: TLSSender) -> None:
        self._lower = lower
        self._engine = engine
        self._sender = sender
        self._tls = engine.ssl_object
        self._incoming = engine.incoming
        self._outgoing = engine.outgoing
        self.ended = False
        """Whether nothing more can be decrypted: a close_notify has come or, with `TLSEngine.failure`, an error."""
        self.pieces = 0
        """Pieces of ciphertext received that brought no plaintext of their own: the middle of a record."""
        # Whether a receive might be served without the lower transport; what was decrypted ahead of any receive.
        self._ready = True
        self._ahead = bytearray()
        self._wakes = 0
        self._receiving = False
        self._look: _Look | None = None

    # --- for the program -----------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int) -> bytes:
        """Between 1 and `max_bytes` bytes; ``b""`` after the peer's close_notify.

        Raises:
            trio.BrokenResourceError: a fatal alert came, the peer broke the protocol, or it ended the connection
                without close_notify.

        Cancellation: not one byte is lost.
        """
        wakes = self._wakes
        if self._look is not None:
            await self._look.end()
            if wakes != self._wakes:
                raise trio.ClosedResourceError(_CALLED_OFF)
        if self._ready:
            await checkpoint_if_cancelled()
            plain = self._take(max_bytes)
            if plain is not None:
                await cancel_shielded_checkpoint()
                return plain
        self._receiving = True
        try:
            while True:
                data = await self._lower.receive_some(MAX_RECEIVE)
                if not data:
                    raise CutOffError(_CUT_OFF)
                self._incoming.write(data)
                plain = self._take(max_bytes)
                if plain is not None:
                    return plain
                self.pieces += 1
                if wakes != self._wakes:  # called off: there may be more than this half of a record
                    if (plain := self.receive_nowait(max_bytes)) is not None:
                        return plain
                    raise trio.ClosedResourceError(_CALLED_OFF)
        finally:
            self._receiving = False

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """As `Transport.receive_nowait`."""
        if self._ready and (plain := self._take(max_bytes)) is not None:
            return plain
        while (data := self._lower.receive_nowait(MAX_RECEIVE)) is not None:
            if not data:
                raise CutOffError(_CUT_OFF)
            self._incoming.write(data)
            if (plain := self._take(max_bytes)) is not None:
                return plain
            self.pieces += 1
        return None

    def wake(self) -> None:
        """As `Transport.wake_receiver`."""
        self._wakes += 1
        self._lower.wake_receiver()

    # --- questions about what has arrived ------------------------------------------------------------------------

    def is_silent(self) -> bool:
        """As `Transport.is_silent`."""
        size = 0
        try:
            while size <= LOOK_BYTES and not (self.ended or self.decrypt_all() or self.ended):
                if self._lower.is_silent():
                    return True
                if not (data := self._lower.receive_nowait(MAX_RECEIVE)):
                    return False
                size += len(data)
                self._incoming.write(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return False

    def unread_size(self) -> int:
        """As `Transport.unread_size`."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if data := self._lower.receive_nowait(MAX_RECEIVE):
                self._incoming.write(data)
        return self.decrypt_all()

    def peer_gone(self) -> Literal["reset", "eof"] | None:
        """As `Transport.peer_gone`."""
        gone = self._lower.peer_gone()
        if gone is None and not self._receiving:
            self.is_silent()  # takes in what has arrived: the peer's close_notify, if that is next
            if self.ended:
                return "reset" if self._engine.failure is not None else "eof"
        return gone

    # --- decrypting ----------------------------------------------------------------------------------------------

    def decrypt_all(self) -> int:
        """Decrypt what has arrived: how many bytes of it nobody has received yet. A step."""
        while plain := self._decrypt(MAX_RECEIVE):
            self._ahead += plain
        self._ready = self.ended or bool(self._ahead)
        return len(self._ahead)

    def _take(self, max_bytes: int) -> bytes | None:
        """Plaintext without waiting; ``b""`` at the end; None if that takes more input."""
        if self._ahead:
            plain = bytes(self._ahead[:max_bytes])
            del self._ahead[:max_bytes]
            return plain
        found = self._decrypt(max_bytes)
        if found:
            # A record is given at a time. Taking all that is there spares a bulk receiver most of its turns.
            if self._incoming.pending or len(found) == max_bytes:
                return self._gather(found, max_bytes)
            self._ready = False
            return found
        self._ready = self.ended
        failure = self._engine.failure
        if failure is not None:
            raise self._engine.broken(failure) from failure
        return found

    def _gather(self, plain: bytes, max_bytes: int) -> bytes:
        parts = [plain]
        size = len(plain)
        while size < max_bytes and len(parts) < RECORDS and (more := self._decrypt(max_bytes - size)):
            parts.append(more)
            size += len(more)
        self._ready = self.ended or size == max_bytes or len(parts) == RECORDS
        return b"".join(parts) if len(parts) > 1 else plain

    def _decrypt(self, max_bytes: int) -> bytes | None:
        """At most one record's plaintext; ``b""`` at the end, good or not; None if it needs more input."""
        if self.ended:
            return b""
        plain: bytes | None
        try:
            plain = self._tls.read(max_bytes)
        except ssl.SSLWantReadError:
            plain = None
        except ssl.SSLZeroReturnError:
            plain = b""
        except ssl.SSLError as exc:
            self._engine.failure = unraised(exc)
            plain = b""
        if self._outgoing.pending:
            self._sender.answer()
            if self._sender.waiting() > MAX_ANSWERS and not self._engine.failure:
                self._engine.failure = ssl.SSLError(
                    1, "the peer sends requests (key updates, renegotiations) and does not read the answers"
                )
                plain = b""
        if plain == b"":
            self.ended = True
        return plain

    # --- for a send that failed ----------------------------------------------------------------------------------

    async def look_for_alert(self) -> None:
        """Look whether the peer has left an alert that says why a send has failed: `TLSEngine.failure`.

        In TLS 1.3 a client learns of a rejected certificate only after its handshake, maybe by a failing send. A task
        that is receiving will find the alert, and takes the look over if it comes later: two that take from the lower
        transport would take each other's bytes.

        Cancellation: not one byte is lost.
        """
        if self._receiving:
            return
        self._look = look = _Look()
        size = 0
        try:
            with look.scope, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while not self.ended and size < ALERT_BYTES and (data := await self._lower.receive_some(MAX_RECEIVE)):
                    size += len(data)
                    self._incoming.write(data)
                    self.decrypt_all()
        finally:
            self._look = None
            look.over.set()


class _Look:
    """A failed send looks for the reason that the peer has left."""

    __slots__ = ("over", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope(deadline=trio.current_time() + ALERT_SECONDS)
        self.over = trio.Event()

    async def end(self) -> None:
        """End the look, and wait until what it has taken is there for the next receive.

        Cancellation: not one byte is lost.
        """
        self.scope.cancel()
        await self.over.wait()
