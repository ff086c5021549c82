"""The brackets around operations, and leases: what is in progress on a handle.

Protocol handles put ``_begin_receive`` / ``_end_receive`` and ``_begin_send`` / ``_end_send`` around their I/O or,
where microseconds count, write the same tests out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task, enable_ki_protection

from ..errors import HandleBrokenError, unraised
from ..ownership import Event, Phase, Receive, Send
from ..transport.protocol import CutOffError
from .core import Core
from .lease import Lease

__all__ = ["Operations"]

# For the brackets around operations: in Python 3.11 a member read off its enum class costs 70 ns, a global 4.
_OPEN: Final = Phase.OPEN
_RECEIVE_IDLE: Final = Receive.IDLE
_RECEIVE_BUSY: Final = Receive.BUSY
_SEND_IDLE: Final = Send.IDLE
_SEND_BUSY: Final = Send.BUSY


class Operations(Core):
    """Receives, sends and leases, as the machine sees them."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _close_in_background(self) -> None:
            """Defined by `Closing`."""

        def retire(self, grace: float = 0.0) -> None:
            """Defined by `Closing`."""

    @enable_ki_protection
    def _begin_receive(self, lease: object = None) -> None:
        task = current_task()  # first: outside of Trio it raises
        self._take(Event.RECEIVE if lease is None else Event.RECEIVE_LEASED)
        self._reader_lease = lease
        self._reader = task
        self._reader_since = trio.current_time()

    @enable_ki_protection
    def _end_receive(self) -> None:
        self._reader = self._reader_lease = None
        life = self._life
        if life.phase is _OPEN and life.receive is _RECEIVE_BUSY:
            life.receive = _RECEIVE_IDLE  # all that the table has for it where nobody waits for the handle to be quiet
        else:
            self._take(Event.RECEIVE_ENDED)

    @enable_ki_protection
    async def _receive_arrived(self, max_bytes: int) -> bytes:
        """What has arrived, on a handle that retires: its last input. In place of the transport's `receive_some`.

        Raises:
            trio.ClosedResourceError: nothing has, or it was taken before.

        Cancellation: not one byte is lost.
        """
        await checkpoint_if_cancelled()
        looked, self._life.looked = self._life.looked, True
        data = None if looked else self._transport.receive_nowait(max_bytes)
        await cancel_shielded_checkpoint()
        if data is None:
            raise trio.ClosedResourceError("nothing has arrived, and nothing is waited for any more")
        return data

    @enable_ki_protection
    def _receive_failed(self, exc: BaseException) -> None:
        """A receive ended with `exc`: raise what it means on this handle, or return for `exc` to go on."""
        if isinstance(exc, trio.BrokenResourceError):
            self._peer_reset(exc)  # first, so that nobody takes the handle away when the receive has ended
        self._end_receive()
        if isinstance(exc, trio.ClosedResourceError):
            if self._life.retiring and self._life.phase is Phase.OPEN and not self._leftover:
                self._close_in_background()
            raise self._closed_error(f"receive interrupted: {self!r}") from None
        if isinstance(exc, trio.BrokenResourceError):
            raise HandleBrokenError(f"receive failed: {self!r}: {exc}").with_handle(self) from exc

    @enable_ki_protection
    def _peer_reset(self, exc: BaseException) -> None:
        """The connection has failed, with `exc`: by a reset, or by an EOF in the middle. A step."""
        if self._failure is None:
            self._failure = unraised(exc)
        self._take(Event.PEER_CUT_OFF if isinstance(exc, CutOffError) else Event.PEER_RESET)

    @enable_ki_protection
    def _begin_send(self, lease: object = None) -> None:
        task = current_task()  # first: outside of Trio it raises
        self._take(Event.SEND if lease is None else Event.SEND_LEASED)
        self._writer = task
        self._writer_since = trio.current_time()

    @enable_ki_protection
    def _end_send(self) -> None:
        self._writer = None
        life = self._life
        if life.phase is _OPEN and life.send is _SEND_BUSY:
            life.send = _SEND_IDLE
        else:
            self._take(Event.SEND_ENDED)

    @enable_ki_protection
    def _send_failed(self, exc: BaseException, sent: int | None) -> None:
        """A send ended with `exc` after `sent` bytes: raise what it means here, or return for `exc` to go on."""
        self._writer = None
        if isinstance(exc, trio.BrokenResourceError):
            self._peer_reset(exc)  # first, so that nobody takes the handle away when the send has ended
        if sent == 0 and self._transport.untouched:
            self._take(Event.SEND_ENDED)
        else:
            self._torn = sent
            self._take(Event.SEND_TORN)
        if isinstance(exc, trio.ClosedResourceError):
            raise self._closed_error(f"send interrupted: {self!r}") from None
        if isinstance(exc, trio.BrokenResourceError):
            raise HandleBrokenError(f"send failed: {self!r}: {exc}", sent).with_handle(self) from exc

    def _waits_for_asker(self) -> bool:
        """Whether nobody but the task that asks can end what is in progress, so that it would wait for itself.

        Protocol handles know it of their exchanges. A lease of another kind may have been handed to another task.
        """
        return False

    @enable_ki_protection
    def _lease(self, name: str) -> Lease:
        """Grant a lease: until it ends, the handle cannot be taken away. A step."""
        self._take(Event.LEASE)
        lease = Lease(name, self._lease_ended)
        self._leases = (*self._leases, lease)
        return lease

    @enable_ki_protection
    def _lease_ended(self, lease: Lease) -> None:
        if lease in self._leases:
            self._owner.check_run(Event.LEASE_ENDED.value)
            self._leases = tuple(other for other in self._leases if other is not lease)
            self._take(Event.LEASE_ENDED)
