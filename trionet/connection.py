"""The byte-stream handle: TCP, Unix sockets, TLS, and any Trio stream that was adopted.

Bytes that were received and not yet delivered stay in the handle (its *leftover*), whatever happens to the task that
asked for them. That is what makes sniffing, line protocols and upgrades exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    enable_ki_protection,
)

from .errors import HandleBrokenError, LimitExceededError, LocalProtocolError, RemoteProtocolError
from .handle import Handle, guards
from .ownership import Event, Phase, Receive, Refuse, Send
from .ownership.shortcuts import RECEIVE, RECEIVE_ENDED, SEND
from .support.checks import check_count, flat_view
from .support.delimiter import DelimiterSearch
from .transport.protocol import MAX_RECEIVE, Buffer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .handle.detached import Detached
    from .transport.tls_info import TLSInfo

__all__ = ["Connection"]


class Connection(Handle, trio.abc.HalfCloseableStream):
    """A stream of bytes in both directions, with exactly one owner.

    A `trio.abc.HalfCloseableStream`: it can be used wherever Trio expects a stream. At most one task may receive and
    one send at any time.
    """

    __slots__ = ("_has_yielded",)

    def __init__(self, capsule: Detached) -> None:
        super().__init__(capsule)
        # Whether this handle's reader has let other tasks run since the latest send: then a send need not.
        self._has_yielded = False

    @property
    def tls(self) -> TLSInfo | None:
        """Version, cipher, ALPN and peer certificate; None where the connection is not TLS."""
        return self._transport.tls

    # --- receiving -----------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next 1 to `max_bytes` bytes (64 KiB by default); ``b""`` at the peer's EOF.

        Raises:
            HandleBusyError: another task is receiving, or an upgrade is under way.
            HandleBrokenError: the connection failed.
            HandleClosedError, HandleMovedError: the handle has ended, or was closed meanwhile.
            ValueError, TypeError: `max_bytes` is not a positive integer.

        Cancellation: not one byte is lost.
        """
        size = MAX_RECEIVE if max_bytes is None else check_count("max_bytes", max_bytes, 1)
        life = self._life
        if size > MAX_RECEIVE or self._leftover or life.retiring or (busy := RECEIVE[life.state]) is None:
            return await self._receive_carefully(size)
        self._reader = current_task()  # first: outside of Trio it raises
        life.state = busy
        self._reader_since = self._clock.current_time()
        try:
            data = await self._transport.receive_some(size)
        except BaseException as exc:
            guards.receive_failed(self, exc)
            raise
        return self._received(data)

    @enable_ki_protection
    async def _receive_carefully(self, max_bytes: int) -> bytes:
        """`receive_some` where the short way is not open: leftover, a large bound, EOF, or a refusal."""
        if self._leftover and self._life.state.phase is Phase.OPEN:
            self._refuse(Event.RECEIVE)
            await checkpoint_if_cancelled()
            return await self._deliver(max_bytes, waited=False)
        guards.begin_receive(self)
        if self._life.state.receive is Receive.EOF:
            await checkpoint()
            return b""
        try:
            data = await guards.receive(self, min(max_bytes, MAX_RECEIVE))
        except BaseException as exc:
            guards.receive_failed(self, exc)
            raise
        return self._received(data)

    @enable_ki_protection
    def _received(self, data: bytes) -> bytes:
        """A receive brought `data`. A step."""
        self._has_yielded = True
        self._reader = None
        life = self._life
        if not data and life.state.reset:
            # The kernel reports a reset once, and EOF from then on: nobody may take that for the end of the data.
            guards.end_receive(self)
            raise self._broken_error(f"receive failed: {self!r}")
        if not data:
            self._take(Event.PEER_EOF)
        elif (ended := RECEIVE_ENDED[life.state]) is not None:
            life.state = ended
            self._bytes_received += len(data)
        else:
            self._bytes_received += len(data)
            self._take(Event.RECEIVE_ENDED)
        return data

    def _take_leftover(self, size: int) -> bytes:
        data = bytes(self._leftover[:size])
        del self._leftover[:size]
        return data

    @enable_ki_protection
    async def peek(self, n: int) -> bytes:
        """The next `n` bytes, without consuming them; fewer only if EOF comes first.

        Args:
            n: How many bytes, 1 to 65,536.

        Raises:
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `receive_some`.
            LimitExceededError: `n` is larger than 65,536.

        Cancellation: not one byte is lost.
        """
        if check_count("n", n, 1) > MAX_RECEIVE:
            raise LimitExceededError(f"peek({n}) refused: at most {MAX_RECEIVE} bytes can be looked at ahead")
        waited = await self._fill(lambda: len(self._leftover) >= n)
        data = bytes(self._leftover[:n])
        if not waited:
            await cancel_shielded_checkpoint()
        return data

    @enable_ki_protection
    async def receive_exactly(self, n: int) -> bytes:
        """Exactly the next `n` bytes.

        Raises:
            RemoteProtocolError: EOF came first; the bytes that did come stay unread. Also where none did: `peek`
                tells that end, such as one between two lines, from more.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `receive_some`.

        Cancellation: not one byte is lost.
        """
        check_count("n", n, 1)
        waited = await self._fill(lambda: len(self._leftover) >= n)
        if len(self._leftover) < n:
            raise self._ended_early(f"of {n} bytes")
        return await self._deliver(n, waited)

    @enable_ki_protection
    async def receive_until(self, delimiter: bytes, *, max_bytes: int) -> bytes:
        """The bytes up to and including `delimiter`.

        Args:
            delimiter: At least one byte.
            max_bytes: How long the result may be, delimiter included.

        Raises:
            LimitExceededError: no delimiter within `max_bytes`; the bytes stay unread.
            RemoteProtocolError: EOF came first; the bytes that did come stay unread. Also where none did: `peek`
                tells that end, such as one between two lines, from more.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `receive_some`.

        Cancellation: not one byte is lost.
        """
        if not isinstance(delimiter, (bytes, bytearray, memoryview)):
            raise TypeError(f"delimiter must be bytes, not {delimiter!r}")
        delimiter = bytes(delimiter)
        if not delimiter:
            raise ValueError("delimiter must be at least one byte, not b''")
        if check_count("max_bytes", max_bytes, 1) < len(delimiter):
            raise ValueError(f"max_bytes ({max_bytes}) must have room for the delimiter {delimiter!r}")
        search = DelimiterSearch(delimiter, max_bytes)
        waited = await self._fill(lambda: search.is_over(self._leftover))
        if search.end is not None:
            return await self._deliver(search.end, waited)
        if len(self._leftover) >= max_bytes:
            raise LimitExceededError(
                f"no {delimiter!r} in the first {max_bytes} bytes (max_bytes); they are still unread: "
                f"raise max_bytes, or close the connection"
            ).with_handle(self)
        raise self._ended_early(f"bytes without {delimiter!r}")

    def _ended_early(self, what: str) -> RemoteProtocolError:
        """The stream is over before all that was asked for has come; or before anything, where it may well end."""
        if size := len(self._leftover):
            text = f"the peer ended the stream after {size} {what}; they are still unread"
        else:
            text = f"the peer ended the stream after 0 {what}; if it may end here, ask first: peek(1) returns b'' then"
        return RemoteProtocolError(text).with_handle(self)

    @enable_ki_protection
    async def _deliver(self, size: int, waited: bool) -> bytes:
        """Take the next `size` bytes of leftover, and then let other tasks run if the receive has not waited."""
        data = self._take_leftover(size)
        if not waited:
            await cancel_shielded_checkpoint()
        return data

    @enable_ki_protection
    async def _fill(self, enough: Callable[[], bool]) -> bool:
        """Receive until the leftover is `enough` or the peer's EOF: whether that took a wait. A cancellation point.

        One operation from its begin to its end: whoever waits for the handle to be idle waits for all of it.
        """
        self._refuse(Event.RECEIVE)
        if enough() or self._life.state.receive is Receive.EOF:
            await checkpoint_if_cancelled()
            return False
        guards.begin_receive(self)
        try:
            while True:
                if self._life.state.phase is Phase.DRAINING:
                    # Closed between this task's wake-up and its turn, when there was nobody to be woken.
                    raise trio.ClosedResourceError("the receive was called off")
                data = await guards.receive(self, MAX_RECEIVE)
                if not data:
                    break
                self._bytes_received += len(data)
                self._leftover += data
                if enough():
                    break
        except BaseException as exc:
            guards.receive_failed(self, exc)
            raise
        if not data:
            self._received(b"")
            return True
        self._has_yielded = True
        guards.end_receive(self)
        return True

    # --- sending -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def send_all(self, data: Buffer) -> None:
        """Send all of `data`: it has been given to the operating system when this returns.

        Raises:
            HandleBusyError: another task is sending, or an upgrade is under way.
            HandleBrokenError: the connection failed, or an earlier send was abandoned half-way.
            HandleClosedError, HandleMovedError: the handle has ended, EOF was sent, or it was closed meanwhile.

        Cancellation: if nothing had been sent, nothing happened. If some had been, the handle is broken: every later
        send raises `HandleBrokenError` with `bytes_sent`. It is a schedule point unless this handle's reader has let
        other tasks run since the previous send.
        """
        if SEND[self._life.state] is None:
            self._refuse(Event.SEND)
        if type(data) is not bytes:
            data = _as_bytes(data)
        await checkpoint_if_cancelled()
        size = len(data)
        try:
            sent = self._transport.send_some(data)
        except trio.BrokenResourceError as exc:
            guards.peer_reset(self, exc)
            raise HandleBrokenError(f"send failed: {self!r}: {exc}", 0).with_handle(self) from exc
        if sent == size and self._has_yielded:
            self._has_yielded = False
            self._bytes_sent += sent
            return
        await self._send_rest(data, sent)

    @enable_ki_protection
    async def _send_rest(self, data: Buffer, sent: int) -> None:
        """What the operating system did not take at once; and a schedule point where that is due."""
        guards.begin_send(self)
        transport = self._transport
        transport.bytes_sent = 0
        try:
            if not sent and len(data):
                await transport.send_all(data)
            elif sent < len(data):
                with memoryview(data) as whole, whole[sent:] as rest:
                    await transport.send_all(rest)
            else:
                await cancel_shielded_checkpoint()
        except BaseException as exc:
            more = self._transport.bytes_sent
            guards.send_failed(self, exc, None if more is None else sent + more)
            raise
        self._has_yielded = False
        self._bytes_sent += len(data)
        guards.end_send(self)

    @enable_ki_protection
    async def send_vectored(self, parts: Sequence[Buffer]) -> None:
        """Send all of `parts`, one behind the other, without joining them: `send_all` for a head and a large body.

        Raises and Cancellation: as for `send_all`.
        """
        if isinstance(parts, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"parts must be a sequence of bytes, not one {type(parts).__name__}; use send_all()")
        views = [_as_bytes(part) for part in parts]
        self._refuse(Event.SEND)
        await checkpoint_if_cancelled()
        await guards.send(self, self._transport.send_vectored, views)
        guards.end_send(self)
        self._bytes_sent += sum(map(len, views))
        await cancel_shielded_checkpoint()

    @enable_ki_protection
    async def wait_send_all_might_not_block(self) -> None:
        """Wait until `send_all` might not have to wait.

        Raises: as `send_all`. It counts as a send: no other send may be in progress.

        Cancellation: no effect on the handle.
        """
        self._refuse(Event.SEND)
        await checkpoint_if_cancelled()
        await guards.send(self, self._transport.wait_writable)
        guards.end_send(self)

    @enable_ki_protection
    async def send_eof(self) -> None:
        """End sending; receiving goes on. A second call does nothing.

        Raises:
            LocalProtocolError: the connection cannot half-close (TLS before 1.3, a Trio stream that cannot).
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `send_all`.

        Cancellation: as for `send_all`.
        """
        self._refuse(Event.SEND_EOF)
        if not self._transport.can_half_close:
            raise LocalProtocolError(
                f"send eof refused: {self!r} cannot end sending while receiving goes on"
                f"{' in ' + self.tls.version if self.tls else ''}; use aclose() to end both"
            )
        await checkpoint_if_cancelled()
        if self._life.state.send is not Send.SHUT:
            await guards.send(self, self._transport.send_eof)
            self._writer = None
            self._take(Event.EOF_SENT)
        await cancel_shielded_checkpoint()

    def _refuse(self, event: Event) -> None:
        """Raise what the refusal of `event` means; return where it is not refused."""
        if isinstance(refuse := self._life.decide(event), Refuse):
            raise self._refusal(refuse, event)


def _as_bytes(data: Any) -> Buffer:
    if isinstance(data, (bytes, bytearray)):
        return data
    if isinstance(data, memoryview):
        return flat_view(data)
    remedy = "; encode it" if isinstance(data, str) else ""
    raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}{remedy}")
