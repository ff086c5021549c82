"""Sending over TLS: plaintext into records, records into the lower transport, each of them once and in order.

OpenSSL cannot take a record back: its sequence number is used up, so whatever was encrypted has to go out, or nothing
can follow it. Everything here comes of that. The sender encrypts only once the lower transport says that it would take
something, and little at a time (`BATCH`); it keeps what was not taken (`_unsent`); and it knows when a record has
been torn: then `torn` is set, and nothing is sent any more.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..protocol import Buffer, Transport
    from .engine import TLSEngine

__all__ = ["BATCH", "RECORD", "TLSSender", "pieces"]

RECORD: Final = 16384
"""Plaintext that one record holds at most (RFC 8446 §5.1)."""

BATCH: Final = 4 * RECORD
"""Plaintext that is encrypted at most before the lower transport has to take it."""


class TLSSender:
    """Encrypts and sends. It knows nothing of receiving.

    Args:
        lower: Moves the ciphertext.
        engine: Encrypts; its handshake is complete.
    """

    __slots__ = (
        "_ahead",
        "_engine",
        "_lower",
        "_lower_send",
        "_outgoing",
        "_tls",
        "_unsent",
        "_writing",
        "bytes_sent",
        "torn",
    )

    def __init__(self, lower: Transport, engine: TLSEngine) -> None:
        self._lower = lower
        self._lower_send = lower.send_some
        self._engine = engine
        self._tls = engine.ssl_object
        self._outgoing = engine.outgoing
        self.bytes_sent: int | None = 0
        """As `Transport.bytes_sent`: plaintext of the latest send whose records were given away completely."""
        self.torn = False
        """Whether a record was abandoned half-way, or a send between two records: nothing can be sent after it."""
        # Ciphertext that the lower transport has yet to take, and how much plaintext of the current send it holds.
        self._unsent = b""
        self._ahead = 0
        self._writing = False

    def is_writable(self) -> bool:
        """As `Transport.is_writable`."""
        return not self._unsent and self._lower.is_writable()

    def waiting(self) -> int:
        """How much of what OpenSSL has said has to wait for the lower transport: in bytes."""
        return self._outgoing.pending if self._writing else len(self._unsent)

    # --- a program's bytes ---------------------------------------------------------------------------------------

    def send_some(self, data: Buffer) -> int:
        """All of `data` if that fits into a record and the lower transport takes it at once; else 0.

        After 0 a part of the record may have gone out: `send_all`, called with the same bytes, sends the rest of it.
        """
        size = len(data)
        if self._unsent or self.torn or not 0 < size <= RECORD or not self._lower.is_writable():
            return 0
        try:
            done = self._tls.write(data)
            while done < size:  # the peer wants smaller records (RFC 8449, RFC 6066 §4)
                done += self._tls.write(memoryview(data)[done:])
        except ssl.SSLError as exc:
            raise self._engine.broken(exc) from exc
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
        """Encrypt and send all of `data`, or the rest of what `send_some` has begun.

        Raises:
            trio.BrokenResourceError: the connection failed, or an earlier send was torn.

        Cancellation: before anything was encrypted, nothing happened. Afterwards `bytes_sent` counts the plaintext
        whose records were given away completely.
        """
        self.bytes_sent = 0
        with memoryview(data) as whole, whole.cast("B") as view:
            size = len(view)
            done, self._ahead = self._ahead, 0
            self._writing = True
            try:
                if self._unsent and not self.torn:
                    await self._push([(done, len(self._unsent))] if done else [])
                while done < size:
                    await self._lower_ready()
                    marks = self._encrypt(view, done)
                    await self._push(marks)
                    done = marks[-1][0]
            except BaseException:
                # Also between two records: a close_notify there would pass a half for a whole.
                self.torn = self.torn or self.bytes_sent != 0
                raise
            finally:
                self._writing = False
                if self._outgoing.pending:
                    self.answer()

    async def _lower_ready(self) -> None:
        if self.torn:
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
            self.answer()  # the alert of a reader's failure, behind what was encrypted before it
            raise self._engine.broken(exc) from exc
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
            rest = self._lower.bytes_sent  # which the send has changed
            self.torn = self.torn or bool(marks) or rest is None or (rest == 0 and not lower.untouched)
            if rest is None:
                self.bytes_sent = None
            else:
                taken += rest
                self._unsent = records[taken:]
                for plaintext, ciphertext in marks:
                    if ciphertext <= taken:
                        self.bytes_sent = plaintext
            raise
        self._unsent = b""
        if marks:
            self.bytes_sent = marks[-1][0]

    # --- OpenSSL's own words -------------------------------------------------------------------------------------

    def answer(self) -> None:
        """Send what OpenSSL said of its own accord: an alert, the answer to a KeyUpdate. A step.

        A sender that is at work takes it along behind its own records. What the lower transport does not take now goes
        in front of the next send: early enough for a KeyUpdate, which is due "prior to sending its next application
        data record" (RFC 8446 §4.6.3).
        """
        if self._writing:
            return
        self._unsent += self._outgoing.read()
        if self.torn:
            self._unsent = b""
            return
        try:
            self._unsent = self._unsent[self._lower_send(self._unsent) :]
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._unsent = b""  # the receiver may still have something to read; the next send finds out

    async def send_last(self, make: Callable[[], bytes]) -> None:
        """Send what `make` gives, behind all else: a close_notify, made once the lower transport would take it.

        Raises:
            trio.BrokenResourceError: the connection failed, or an earlier send was torn.

        Cancellation: before `make` was called, nothing happened. Afterwards `torn` is set.
        """
        self.bytes_sent = 0
        self._writing = True
        try:
            await self._lower_ready()
            self._unsent += make()
            await self._push([(0, len(self._unsent))])
        finally:
            self._writing = False


def pieces(parts: Sequence[Buffer]) -> Iterator[Buffer]:
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
