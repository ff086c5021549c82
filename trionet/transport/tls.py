"""TLS as a transport, over any other transport: an `ssl.SSLObject` between two memory BIOs.

Ciphertext comes from the lower transport into the *incoming* BIO, OpenSSL turns it into plaintext; plaintext goes
into OpenSSL and comes out of the *outgoing* BIO as records for the lower transport. There is no lock, task or cancel
scope on that path. Three things make it exact:

* **What is encrypted has to go out.** OpenSSL cannot take a record back: its sequence number is used up. So this
  transport encrypts only once the lower one says that it would take something (`Transport.is_writable`); a send that is
  cancelled before that has not happened. Once a record is torn, `untouched` is False and nothing is sent any more,
  while receiving goes on.
* **Records leave in the order in which OpenSSL made them.** OpenSSL also speaks when it was asked to read (alerts,
  answers to KeyUpdate). A sender that is at work takes those along; only where there is none does the reader send.
* **EOF is told from truncation.** Only the peer's close_notify is an end; a lower EOF without it is an error (RFC 8446
  §6.1). OpenSSL is never told of a lower EOF, because Python lets it pass that off as a clean end
  (``OP_IGNORE_UNEXPECTED_EOF``).

Renegotiation (TLS 1.2, gone in 1.3) is answered as far as the lower transport takes the answer at once; a send during
one fails. Set ``ssl.OP_NO_RENEGOTIATION``, as trionet's own client contexts do.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from ..errors import unraised
from .linger import linger
from .protocol import MAX_RECEIVE, CutOffError
from .tls_info import TLSInfo, broken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .protocol import Buffer, Transport

__all__ = ["LINGER_BYTES", "TLSInfo", "TLSTransport"]

LINGER_BYTES: Final = 65536
"""How many bytes `TLSTransport.goodbye` throws away at most while it waits."""

LOOK_BYTES: Final = 65536
"""How many bytes without a byte of the application `TLSTransport.is_silent` takes for silence at most."""

RECORD: Final = 16384
"""Plaintext that one record holds at most (RFC 8446 §5.1)."""

RECORDS: Final = 256
"""Records that one receive decrypts at most: 64 KiB hold 2,800 of those with one byte each."""

MAX_ANSWERS: Final = 65536
"""Bytes that OpenSSL may have said of its own accord to a peer that does not read them; more would go on for ever."""

REASON_SECONDS: Final = 0.1
"""How long a broken send looks for the alert that tells why; it is there already, or will not come."""

CUT_OFF: Final = "the peer ended the connection without close_notify: data may have been cut off"

BATCH: Final = 4 * RECORD
"""Plaintext that is encrypted at most before the lower transport has to take it."""


class TLSTransport:
    """Moves bytes through TLS. Not usable before the handshake, which `advance`, `feed` and `take_output` carry out.

    Args:
        lower: Moves the ciphertext. It belongs to this transport from now on.
        tls: The `ssl.SSLObject`.
        incoming: The BIO that it reads from.
        outgoing: The BIO that it writes to.
    """

    __slots__ = (
        "_ahead",
        "_drained",
        "_ended",
        "_failure",
        "_incoming",
        "_info",
        "_look",
        "_lower",
        "_lower_send",
        "_notified",
        "_outgoing",
        "_parted",
        "_pieces",
        "_receiving",
        "_rest",
        "_tls",
        "_torn",
        "_unsent",
        "_wakes",
        "_writing",
        "bytes_sent",
        "server_name",
    )

    def __init__(self, lower: Transport, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._lower = lower
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._lower_send = lower.send_some
        self._info: TLSInfo | None = None
        self.server_name: str | None = None
        """On a server, the name that the client has asked for."""
        self.bytes_sent: int | None = 0
        # Receiving: whether a receive might be served without the lower transport; what was decrypted ahead of it.
        self._rest = True
        self._drained = bytearray()
        self._ended = False
        self._failure: ssl.SSLError | None = None
        self._wakes = 0
        self._pieces = 0  # received, of which no plaintext has come yet
        # Who takes from the lower transport: a receive, or a failed send that looks for the reason.
        self._receiving = False
        self._look: _Look | None = None
        # Sending: ciphertext that the lower transport has yet to take, how much plaintext of the current send it holds.
        self._unsent = b""
        self._ahead = 0
        self._writing = False
        self._torn = False
        self._notified = False
        self._parted = False

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def lower(self) -> Transport:
        """What moves the ciphertext."""
        return self._lower

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """What encrypts: to be asked, and not to be used."""
        return self._tls

    @property
    def tls(self) -> TLSInfo:
        if self._info is None:
            tls = self._tls
            cipher = tls.cipher()
            self._info = TLSInfo(
                version=tls.version() or "",
                cipher=cipher[0] if cipher else "",
                alpn=tls.selected_alpn_protocol(),
                server_hostname=self.server_name or tls.server_hostname,
                peer_certificate=tls.getpeercert(),
                peer_certificate_der=tls.getpeercert(binary_form=True),
                _tls=tls,
            )
        return self._info

    @property
    def notified(self) -> bool:
        """Whether this side's close_notify was made: nothing can be sent any more, and that cannot be undone."""
        return self._notified

    @property
    def socket(self) -> Any:
        return self._lower.socket

    @property
    def can_half_close(self) -> bool:
        """True from TLS 1.3 on: before, a close_notify ended both directions (RFC 5246 §7.2.1, RFC 8446 §6.1)."""
        return self._tls.version() == "TLSv1.3"

    @property
    def parting(self) -> bool:
        return not (self._parted or (self._notified and self._ended)) or self._lower.parting

    @property
    def untouched(self) -> bool:
        return self.bytes_sent == 0 and not self._torn

    @property
    def local_address(self) -> Any:
        return self._lower.local_address

    @property
    def remote_address(self) -> Any:
        return self._lower.remote_address

    # --- the handshake: steps, for the recipes --------------------------------------------------------------------

    def advance(self) -> bool:
        """Carry the handshake on with what was fed: True when it is complete, False if it needs more input.

        Afterwards, whatever came of it, `take_output` gives what has to be sent.

        Raises:
            ssl.SSLError: it failed.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        """Input from the peer. A step."""
        self._incoming.write(data)

    def take_output(self) -> bytes:
        """What OpenSSL wants to have sent. A step."""
        return self._outgoing.read()

    # --- receiving -----------------------------------------------------------------------------------------------

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
                raise trio.ClosedResourceError("the receive was called off")
        if self._rest:
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
                    raise CutOffError(CUT_OFF)
                self._incoming.write(data)
                plain = self._take(max_bytes)
                if plain is not None:
                    return plain
                self._pieces += 1
                if wakes != self._wakes:  # called off: there may be more than this half of a record
                    if (plain := self.receive_nowait(max_bytes)) is not None:
                        return plain
                    raise trio.ClosedResourceError("the receive was called off")
        finally:
            self._receiving = False

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        if self._rest and (plain := self._take(max_bytes)) is not None:
            return plain
        while (data := self._lower.receive_nowait(MAX_RECEIVE)) is not None:
            if not data:
                raise CutOffError(CUT_OFF)
            self._incoming.write(data)
            if (plain := self._take(max_bytes)) is not None:
                return plain
            self._pieces += 1
        return None

    def is_silent(self) -> bool:
        size = 0
        try:
            while size <= LOOK_BYTES and not (self._ended or self.unread_plaintext() or self._ended):
                if self._lower.is_silent():
                    return True
                if not (data := self._lower.receive_nowait(MAX_RECEIVE)):
                    return False
                size += len(data)
                self._incoming.write(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return False

    def _take(self, max_bytes: int) -> bytes | None:
        """Plaintext without waiting; ``b""`` at the end; None if that takes more input."""
        if self._drained:
            plain = bytes(self._drained[:max_bytes])
            del self._drained[:max_bytes]
            return plain
        found = self._decrypt(max_bytes)
        if found:
            # A record is given at a time. Taking all that is there spares a bulk receiver most of its turns.
            if self._incoming.pending or len(found) == max_bytes:
                return self._gather(found, max_bytes)
            self._rest = False
            return found
        self._rest = self._ended
        if self._failure is not None:
            raise broken(self._failure) from self._failure
        return found

    def _gather(self, plain: bytes, max_bytes: int) -> bytes:
        parts = [plain]
        size = len(plain)
        while size < max_bytes and len(parts) < RECORDS and (more := self._decrypt(max_bytes - size)):
            parts.append(more)
            size += len(more)
        self._rest = self._ended or size == max_bytes or len(parts) == RECORDS
        return b"".join(parts) if len(parts) > 1 else plain

    def _decrypt(self, max_bytes: int) -> bytes | None:
        """At most one record's plaintext; ``b""`` at the end, `_failure` says whether a good one; None: needs input."""
        if self._ended:
            return b""
        plain: bytes | None
        try:
            plain = self._tls.read(max_bytes)
        except ssl.SSLWantReadError:
            plain = None
        except ssl.SSLZeroReturnError:
            plain = b""
        except ssl.SSLError as exc:
            self._failure = unraised(exc)
            plain = b""
        if self._outgoing.pending:
            self._answer()
            if (self._outgoing.pending if self._writing else len(self._unsent)) > MAX_ANSWERS and not self._failure:
                self._failure = ssl.SSLError(1, "the peer asks (key updates, renegotiations) and reads no answer")
                plain = b""
        if plain == b"":
            self._ended = True
        return plain

    def _answer(self) -> None:
        """Send what OpenSSL said of its own accord: an alert, the answer to a KeyUpdate. A step.

        What the lower transport does not take now goes in front of the next send: early enough for a KeyUpdate, which
        is due "prior to sending its next application data record" (RFC 8446 §4.6.3).
        """
        if self._writing:
            return
        self._unsent += self._outgoing.read()
        if self._torn:
            self._unsent = b""
            return
        try:
            self._unsent = self._unsent[self._lower_send(self._unsent) :]
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._unsent = b""  # the receiver may still have something to read; the next send finds out

    def unread_size(self) -> int:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if data := self._lower.receive_nowait(MAX_RECEIVE):
                self._incoming.write(data)
        return self.unread_plaintext()

    def peer_gone(self) -> Literal["reset", "eof"] | None:
        gone = self._lower.peer_gone()
        if gone is None and not self._receiving:
            self.is_silent()  # takes in what has arrived: the peer's close_notify, if that is next
            if self._ended:
                return "reset" if self._failure is not None else "eof"
        return gone

    def spoil(self) -> None:
        """A close without close_notify is no good end already."""

    # --- sending -------------------------------------------------------------------------------------------------

    def send_some(self, data: Buffer) -> int:
        """All of `data` if that fits into a record and the lower transport takes it at once; else 0.

        After 0 a part of the record may have gone out: `send_all`, called with the same bytes, sends the rest of it.
        """
        size = len(data)
        if self._unsent or self._torn or not 0 < size <= RECORD or not self._lower.is_writable():
            return 0
        try:
            done = self._tls.write(data)
            while done < size:  # the peer wants smaller records (RFC 8449, RFC 6066 §4)
                done += self._tls.write(memoryview(data)[done:])
        except ssl.SSLError as exc:
            raise broken(self._failure or exc) from exc
        records = self._outgoing.read()
        try:
            taken = self._lower_send(records)
        except trio.BrokenResourceError:
            taken = 0  # `send_all` meets it again, and looks for the peer's reason
        if taken == len(records):
            return size
        self._unsent = records[taken:]
        self._ahead = size
        return 0

    async def send_all(self, data: Buffer) -> None:
        """Encrypt and send all of `data`.

        Raises:
            trio.BrokenResourceError: the connection failed, or an earlier send was torn. The message is that of the
                peer's alert where it has left one.

        Cancellation: before anything was encrypted, nothing happened. Afterwards `bytes_sent` counts the plaintext
        whose records were given away completely, and `untouched` is False also where that is 0.
        """
        was_torn = self._torn
        try:
            await self._send_all(data)
        except trio.BrokenResourceError:
            if not was_torn:
                await self._look_for_alert()  # noqa: ASYNC120 - a cancellation outranks the error
            if self._failure is not None:
                raise broken(self._failure) from self._failure
            raise

    async def _look_for_alert(self) -> None:
        """In TLS 1.3 a client learns of a rejected certificate only after its handshake, maybe by a failing send.

        A task that is receiving will find it, and takes the look over if it comes later: two that take from the lower
        transport would take each other's bytes.
        """
        if self._receiving:
            return
        self._look = look = _Look()
        size = 0
        try:
            with look.scope, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while not self._ended and size < LINGER_BYTES and (data := await self._lower.receive_some(MAX_RECEIVE)):
                    size += len(data)
                    self._incoming.write(data)
                    self.unread_plaintext()
        finally:
            self._look = None
            look.over.set()

    async def _send_all(self, data: Buffer) -> None:
        self.bytes_sent = 0
        with memoryview(data) as whole, whole.cast("B") as view:
            size = len(view)
            done, self._ahead = self._ahead, 0
            self._writing = True
            try:
                if self._unsent and not self._torn:
                    await self._push([(done, len(self._unsent))] if done else [])
                while done < size:
                    await self._lower_ready()
                    marks = self._encrypt(view, done)
                    await self._push(marks)
                    done = marks[-1][0]
            except BaseException:
                # Also between two records: a close_notify there would pass a half for a whole.
                self._torn = self._torn or self.bytes_sent != 0
                raise
            finally:
                self._writing = False
                if self._outgoing.pending:
                    self._answer()

    async def _lower_ready(self) -> None:
        if self._torn:
            raise trio.BrokenResourceError("an earlier send was abandoned within a TLS record")
        if not self._lower.is_writable():
            await self._lower.wait_writable()

    def _encrypt(self, view: memoryview, done: int) -> list[tuple[int, int]]:
        """Encrypt the next batch of `view`, from `done` on, into `_unsent`.

        Returns:
            After each record: how much of `view` is encrypted, and how much ciphertext that is.
        """
        marks = []
        end = min(len(view), done + BATCH)
        try:
            while done < end:
                done += self._tls.write(view[done : min(done + RECORD, end)])
                marks.append((done, self._outgoing.pending))
        except ssl.SSLError as exc:
            self._writing = False
            self._answer()  # the alert of a reader's failure, behind what was encrypted before it
            raise broken(self._failure or exc) from exc
        self._unsent = self._outgoing.read()
        return marks

    async def _push(self, marks: list[tuple[int, int]]) -> None:
        """Give `_unsent` to the lower transport; `marks` say which plaintext it holds, none if there is none in it."""
        lower, records = self._lower, self._unsent
        lower.bytes_sent = taken = 0
        try:
            taken = lower.send_some(records)
            if taken < len(records):
                await lower.send_all(memoryview(records)[taken:] if taken else records)
        except BaseException:
            rest = self._lower.bytes_sent
            self._torn = self._torn or bool(marks) or rest is None or (rest == 0 and not lower.untouched)
            if rest is None:
                self.bytes_sent = None
            else:
                taken += rest
                self._unsent = records[taken:]
                self._count(marks, taken)
            raise
        self._unsent = b""
        self._count(marks, len(records))

    def _count(self, marks: list[tuple[int, int]], taken: int) -> None:
        for plaintext, ciphertext in marks:
            if ciphertext <= taken:
                self.bytes_sent = plaintext

    async def send_vectored(self, parts: Sequence[Buffer]) -> None:
        """Like `send_all` of the joined parts; only what shares a record is joined."""
        total = 0
        for piece in _pieces(parts):
            try:
                await self.send_all(piece)
            except BaseException:
                self._torn = self._torn or total > 0
                if self.bytes_sent is not None:
                    self.bytes_sent += total
                raise
            total += len(piece)
        self.bytes_sent = total

    async def send_eof(self) -> None:
        """Send close_notify; receiving goes on. A second call does nothing.

        Before TLS 1.3 this is for the goodbye only: the peer answers with its own and ends both directions.

        Raises:
            trio.BrokenResourceError: the connection failed, or an earlier send was torn.

        Cancellation: before anything went out, nothing happened. Afterwards `untouched` is False.
        """
        self.bytes_sent = 0
        if self._notified:
            return
        self._writing = True
        try:
            await self._lower_ready()
            self._notify()
            await self._push([(0, len(self._unsent))])
        finally:
            self._writing = False

    def _notify(self) -> None:
        """Put close_notify behind what is still unsent. A step.

        ``unwrap`` calls ``SSL_shutdown`` twice, and the second call looks for the peer's close_notify: it fails when it
        finds application data. So everything is decrypted first, and the BIO is empty meanwhile.
        """
        self.unread_plaintext()
        later = self._incoming.read()
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # said; the peer's has yet to come
        except ssl.SSLError as exc:
            raise broken(self._failure or exc) from exc
        finally:
            self._incoming.write(later)
        self._notified = True
        self._unsent += self._outgoing.read()

    async def wait_writable(self) -> None:
        await self._lower.wait_writable()

    def is_writable(self) -> bool:
        return not self._unsent and self._lower.is_writable()

    # --- the end -------------------------------------------------------------------------------------------------

    def progress(self) -> object:
        lower = self._lower.progress()
        return None if lower is None else (lower, self.bytes_sent, self._pieces)

    def input_waits(self) -> bool:
        return self._lower.input_waits()

    def wake_receiver(self) -> None:
        self._wakes += 1
        self._lower.wake_receiver()

    async def goodbye(self) -> None:
        """Send close_notify, also to a peer that sent its own, and linger for the peer's: 1 s and 64 KiB at most.

        Without the lingering, closing with input unread makes the system reset the connection, and the reset may take
        the last bytes that were sent away from the peer. A peer that is simply gone is not an error.

        Cancellation: the rest is left unsaid.
        """
        try:
            await self.send_eof()
            await linger(self, max_bytes=LINGER_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._parted = True
        if self._lower.parting:
            await self._lower.goodbye()

    def unread_plaintext(self) -> int:
        """Decrypt what has arrived: how many bytes of it nobody has received yet. A step."""
        while plain := self._decrypt(MAX_RECEIVE):
            self._drained += plain
        self._rest = self._ended or bool(self._drained)
        return len(self._drained)

    def take_trailing(self) -> bytes:
        """The raw bytes that followed the peer's close_notify: input of whatever comes after TLS. A step."""
        return self._incoming.read()

    def close(self) -> bool:
        return self._lower.close()

    async def aclose(self) -> None:
        await self._lower.aclose()


class _Look:
    """A failed send looks for the reason that the peer has left."""

    __slots__ = ("over", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope(deadline=trio.current_time() + REASON_SECONDS)
        self.over = trio.Event()

    async def end(self) -> None:
        """End the look, and wait until what it has taken is there for the next receive.

        Cancellation: not one byte is lost.
        """
        self.scope.cancel()
        await self.over.wait()


def _pieces(parts: Sequence[Buffer]) -> Iterator[Buffer]:
    """The parts, without empty ones, and with small ones joined to a record with what follows."""
    small = b""
    for part in parts:
        view = memoryview(part).cast("B")
        room = RECORD - len(small)
        if small or len(view) < RECORD:
            small += view[:room]
            view = view[room:]
        if len(small) == RECORD:
            yield small
            small = b""
        if len(view) >= RECORD:
            yield view
        else:
            small += view
    if small:
        yield small
