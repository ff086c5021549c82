"""A detached connection on its way from one handle to the next.

`Detached` is what `Handle.detach` gives and `Scope.adopt` takes: the transport, the bytes already received and not yet
delivered, and which directions have ended. It may be taken once. Until then its scope owns it, and closes it at the
latest when the scope ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from trio.lowlevel import enable_ki_protection

from ..errors import HandleBusyError, HandleClosedError, HandleMovedError
from ..ownership import End, Event, Reason
from ..support.checks import refuse_copy

if TYPE_CHECKING:
    from ..custody.owner import Owner
    from ..transport.protocol import Transport

__all__ = ["Detached", "Watcher"]


class Watcher(Protocol):
    """Who follows an endpoint, through whichever hands it goes. Each is called within the step that it tells of."""

    def moved_to(self, member: Any) -> None:
        """The endpoint belongs to this capsule or handle now."""
        ...

    def endpoint_closed(self) -> None:
        """The endpoint is closed."""
        ...

    def left_unanswered(self, exchange: Any) -> None:
        """The handler has left this exchange without an answer that it could have, or with one that is not complete."""
        ...


class Detached:
    """A connection without a handle: adopt it with `Scope.adopt`, or let its scope close it.

    Attributes:
        leftover: Bytes that were received and not delivered. The next handle delivers them first.
        receive_ended: The peer's EOF was seen.
        send_ended: EOF was sent.
        opened_at: File, line and function that opened the connection.
        blockers: The work in progress on it: there is none.
        end: How the capsule ended; None while it can be adopted.
    """

    __slots__ = (
        "_grace",
        "_made",
        "_on_wire",
        "_owner",
        "_transport",
        "_watcher",
        "end",
        "leftover",
        "opened_at",
        "receive_ended",
        "send_ended",
    )

    def __init__(
        self,
        transport: Transport,
        leftover: bytes = b"",
        *,
        receive_ended: bool = False,
        send_ended: bool = False,
        opened_at: str = "",
        watcher: Watcher | None = None,
        on_wire: bool = False,
    ) -> None:
        self._transport = transport
        # Of a handshake, which has the connection itself: for the successor's constructor, and for nothing else.
        self._on_wire = on_wire
        self._made: tuple[Any, ...] = ()
        self._owner: Owner | None = None
        self._watcher = watcher
        self.leftover = leftover
        self.receive_ended = receive_ended
        self.send_ended = send_ended
        self.opened_at = opened_at
        self.end: End | None = None
        self._grace: float | None = None
        """With which grace it was told to retire; None if it was not. The handle that is made of it takes that over."""

    __reduce_ex__ = refuse_copy

    def __repr__(self) -> str:
        if self._on_wire:
            return f"<Detached of a handshake: {'for its successor' if self.end is None else 'over'}>"
        state = "waits to be adopted" if self.end is None else self.end.reason.value
        return f"<Detached {self._transport.local_address} - {self._transport.remote_address}: {state}>"

    def _check(self) -> None:
        """Raise unless the capsule can still be adopted.

        Raises:
            HandleMovedError: it was adopted before.
            HandleClosedError: it was closed by its scope, or by `abort`, or the handshake that it was of has failed.
            HandleBusyError: it is of a handshake, which has the connection.
        """
        if self.end is None:
            if self._on_wire:
                raise HandleBusyError(
                    f"{self!r} cannot be adopted or closed: the handshake is using the connection, and Recipe.commit "
                    f"makes the successor from this capsule"
                )
            return
        if self._on_wire and self.end.successor is None:
            raise HandleClosedError(f"{self!r} ended with its handshake", self.end)
        if self.end.successor is not None:
            raise HandleMovedError(f"{self!r} was adopted already, by {self.end.successor!r}", self.end)
        raise HandleClosedError(f"{self!r} was closed before it was adopted: {self.end.reason.value}", self.end)

    @enable_ki_protection
    def _pass_to(self, successor: Any) -> None:
        """The capsule's content lives on in `successor`. A step."""
        self.end = End(Reason.TRANSFERRED, successor)
        self._leave()

    @enable_ki_protection
    def abort(self, reason: Reason = Reason.ABORTED) -> None:
        """Close the endpoint now. No-op on a capsule that has ended. A step."""
        if self.end is not None:
            return
        self._check()
        owner = self._owner
        if owner is None:
            self._transport.close()
        else:
            owner.check_run("abort")
            if owner.drains:
                owner.note_loss(self, lambda: len(self.leftover) + self._transport.unread_size())
            owner.release(self._transport, self)
        self.end = End(reason)
        self._leave()
        if self._watcher is not None:
            self._watcher.endpoint_closed()

    @enable_ki_protection
    def _scope_event(self, event: Event) -> None:
        """A scope that ends closes a capsule that nobody adopted; there is nothing to drain. A step; for `Owner`."""
        if event is Event.SCOPE_CANCELLED:
            self.abort(Reason.SCOPE_CANCELLED)
        elif event is Event.SCOPE_DEADLINE:
            self.abort(Reason.SCOPE_EXIT)

    _must_wait = False
    _drained = False
    blockers = ()

    async def _drain(self) -> None:
        """Nothing to drain."""

    def _retire(self, grace: float = 0.0) -> None:
        """Nothing to wait for; the handle that is made of the capsule retires. A step."""
        self._grace = grace

    def _handler_failed(self, error: BaseException | None = None) -> None:
        """Close the endpoint now."""
        self.abort()

    def _forget_work(self) -> None:
        """Nobody works on a capsule."""

    def _made_into(self, handle: Any) -> None:
        """This handle was made of the capsule. A step; for `Handle`."""
        if self._on_wire:
            self._made = (*self._made, handle)

    @enable_ki_protection
    def _end_with_wire(self, transport: Transport, successor: Any) -> None:
        """The handshake is over, and with it this capsule of it; `transport` is what raises from now on. A step.

        A handle that was made of it, and is not the successor, gets that transport too: nobody owns it.
        """
        for handle in self._made:
            if handle is not successor:
                handle._cut_loose(transport)
        self._made = ()
        self._transport = transport
        self.leftover = b""
        self.end = End(Reason.UPGRADE_FAILED if successor is None else Reason.UPGRADED, successor)

    def _seat(self, owner: Owner) -> None:
        """From now on `owner` closes this capsule if nobody adopts it."""
        self._owner = owner
        if self._watcher is not None:
            self._watcher.moved_to(self)

    def _leave(self) -> None:
        if self._owner is not None:
            self._owner.unregister(self)
            self._owner = None
