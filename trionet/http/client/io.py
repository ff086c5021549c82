"""Bytes and leases under a client's exchanges: what stands between a connection's handle and its HTTP machine.

One direction of calls: `HTTPClientConnection` has a `ClientIO`, and so have the parts of an exchange (`exchange`,
`Upload`, `Claim`, `IncomingBody`); it alone feeds the machine and moves bytes through the transport, inside the
brackets that `Handle` has for operations. Everything here is done on behalf of the exchange that is under way, so it
passes also while the handle is reserved or draining.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ...errors import HandleBrokenError
from ...handle import Lease, guards
from ...ownership import Event, Phase, Receive, Refuse
from ...ownership.shortcuts import LEASE, LEASE_ENDED, RECEIVE, RECEIVE_ENDED
from ...transport.protocol import MAX_RECEIVE
from ..protocol.states import H1State
from .retry import mark_unsent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...handle import Handle
    from ..protocol.body_writer import Buffer
    from ..protocol.client_machine import H1Client

__all__ = ["ClientIO"]

_OPEN: Final = Phase.OPEN
_RECEIVE_IDLE: Final = Receive.IDLE
_RECEIVE_BUSY: Final = Receive.BUSY


class ClientIO:
    """Receives and sends for the exchanges of one connection.

    Args:
        handle: The connection, for its ownership and its transport.
        machine: What is known about HTTP on it.

    Attributes:
        handle: As above; a weak proxy of it from its end on.
        machine: As above.
        response_begun: Whether a byte was received since the present request, or the last one, was begun.
        received: Whether a byte has come since `IncomingBody.next_piece` has let other tasks run.
        failing: What the producer of a body has raised, on its way out: it says nothing about whether a retry is safe.
        idle_since: When the last exchange ended, on the clock of `trio.current_time`.
    """

    __slots__ = ("failing", "handle", "idle_since", "machine", "received", "response_begun")

    def __init__(self, handle: Handle, machine: H1Client) -> None:
        self.handle = handle
        self.machine = machine
        self.response_begun = False
        self.received = False
        self.failing: BaseException | None = None
        self.idle_since = trio.current_time()

    @enable_ki_protection
    def let_go(self) -> None:
        """The handle has ended: from now on its parts do not keep it alive. A step, which is taken once.

        Handle and parts refer to each other, and reference counting would never free them. Whoever can still use a part
        has the handle too: a response does. A proxy's `repr` is its own, so the parts write a handle with `str`.
        """
        self.handle = weakref.proxy(self.handle)

    # --- the beginning of an exchange ----------------------------------------------------------------------------

    def grant(self, name: str) -> Lease:
        """The lease of a new exchange, on a connection that is free for it. A step."""
        handle = self.handle
        lease = Lease(name, self._lease_ended)
        if (leased := LEASE[handle._life.state]) is not None:
            handle._life.state = leased
        else:
            handle._take(Event.LEASE)
        handle._leases = (*handle._leases, lease)
        self.response_begun = False
        return lease

    def _lease_ended(self, lease: Lease) -> None:
        handle = self.handle
        if (ended := LEASE_ENDED[handle._life.state]) is not None:
            handle._life.state = ended
            handle._leases = ()
        else:
            guards.end_lease(handle, lease)

    # --- bytes ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise unless the present exchange can go on. A step."""
        handle = self.handle
        life = handle._life
        if life.state.phase is not _OPEN and isinstance(refuse := life.decide(Event.RECEIVE_LEASED), Refuse):
            raise handle._refusal(refuse, Event.RECEIVE_LEASED)

    @enable_ki_protection
    async def receive(self, lease: Lease, max_bytes: int = MAX_RECEIVE) -> None:
        """Receive once, for the exchange of this lease, and give it to the machine.

        Raises:
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for every handle.

        Cancellation: not one byte is lost.
        """
        handle = self.handle
        life = handle._life
        if (busy := RECEIVE[life.state]) is not None:
            handle._reader = current_task()  # first: outside of Trio it raises
            life.state = busy
            handle._reader_lease = lease
            handle._reader_since = handle._clock.current_time()
        else:
            guards.begin_receive(handle, lease)
        try:
            data = await handle._transport.receive_some(max_bytes)
        except BaseException as exc:
            guards.receive_failed(handle, exc)
            raise
        if not data:
            self._received_eof()
            return
        handle._reader = handle._reader_lease = None
        handle._bytes_received += len(data)
        self.response_begun = self.received = True
        if (ended := RECEIVE_ENDED[life.state]) is not None:
            life.state = ended
        else:
            handle._take(Event.RECEIVE_ENDED)
        self.machine.receive(data)

    def _received_eof(self) -> None:
        handle = self.handle
        if handle._life.state.reset:
            # The kernel reports a reset once, and EOF from then on: nobody may take that for the end of the data.
            guards.end_receive(handle)
            raise handle._broken_error(f"receive failed: {handle}")
        handle._reader = handle._reader_lease = None
        handle._take(Event.PEER_EOF)
        self.machine.receive_eof()

    @property
    def bytes_received(self) -> int:
        """Bytes that the connection has received."""
        return self.handle._bytes_received

    def send_now(self, data: bytes) -> int:
        """Send what the system takes at once: how much that was. A step.

        Raises:
            HandleBrokenError: the connection has failed; nothing was sent.
        """
        handle = self.handle
        try:
            sent = handle._transport.send_some(data)
        except trio.BrokenResourceError as exc:
            guards.peer_reset(handle, exc)
            error = HandleBrokenError(f"send failed: {handle}: {exc}", 0)
            mark_unsent(error)
            raise error from exc
        handle._bytes_sent += sent
        return sent

    @enable_ki_protection
    async def send(self, data: Buffer, lease: Lease) -> None:
        """Send more of the request that this lease is for.

        Raises:
            HandleBrokenError, HandleClosedError, HandleMovedError: as for every handle.

        Cancellation: the request is torn, and with it the connection.
        """
        handle = self.handle
        guards.begin_send(handle, lease)
        transport = handle._transport
        transport.bytes_sent = 0
        try:
            await transport.send_all(data)
        except BaseException as exc:
            guards.send_failed(handle, exc, transport.bytes_sent)
            raise
        handle._bytes_sent += len(data)
        guards.end_send(handle)

    def start_service(self, service: Callable[[], Awaitable[None]]) -> None:
        """Run `service`, which must not raise, as a service task of the scope that owns the connection. A step."""
        self.handle._owner.start_service(service)

    @property
    def switched(self) -> bool:
        """Whether HTTP has ended on the connection, and another protocol begun (101, CONNECT)."""
        return self.machine.peer_state is H1State.SWITCHED

    def abort(self) -> None:
        """Close the connection at once. A step."""
        self.handle.abort()
