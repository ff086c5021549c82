"""Bytes and leases under a client's exchanges: the part of its handle that receives, sends, and ends what is over.

Everything here is done on behalf of the exchange that is under way, so it passes also while the handle is reserved or
draining. When an exchange ends the machine is asked whether the connection is fit for another one; if there is any
doubt, it closes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ...errors import HandleBrokenError, LocalProtocolError, RemoteProtocolError, unraised
from ...handle import Handle
from ...ownership import Event, Phase, Reason, Receive, Refusal, Refuse
from ...transport.protocol import MAX_RECEIVE
from ..protocol.client_machine import H1Client
from ..protocol.states import H1State
from .retry import as_client_error, mark, mark_unsent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...handle import Lease
    from ...handle.detached import Detached
    from ..protocol.body_writer import Buffer
    from ..protocol.limits import HTTPLimits

__all__ = ["ClientLink"]

_OPEN: Final = Phase.OPEN
_CHANGING: Final = frozenset({Phase.RESERVED, Phase.CLAIMED})
_RECEIVE_IDLE: Final = Receive.IDLE
_RECEIVE_BUSY: Final = Receive.BUSY


class ClientLink(Handle):
    """A handle that carries one exchange at a time. Its subclass says what an exchange is."""

    __slots__ = ("_foreign", "_host", "_limits", "_machine", "_when_ended", "answered", "idle_since", "uses")

    def __init__(self, capsule: Detached, *, host: str | None, limits: HTTPLimits) -> None:
        super().__init__(capsule)
        self._machine = H1Client(bytes(self._leftover), limits)
        self._leftover.clear()
        self._limits = limits
        self._host = host
        # What the producer of a body has raised, on its way out: it says nothing about whether a retry is safe.
        self._foreign: BaseException | None = None
        self.answered = False
        """Whether a byte has come since the present request, or the last one, was begun."""
        self.uses = 0
        """How many requests it has carried."""
        self.idle_since = self._opened
        """When its last exchange ended, on the clock of `trio.current_time`."""

    def _renew(self) -> None:
        super()._renew()
        # Told when this handle ends: the pool that it is in.
        self._when_ended: Callable[[Any], None] | None = None

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """What the Host field says of requests that have none of their own."""
        if self._host is None:
            match self._remote_address:
                case (str(host), int(port), *_):
                    bare = host.partition("%")[0]
                    self._host = f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
                case _:
                    self._host = "localhost"
        return self._host

    @property
    def limits(self) -> HTTPLimits:
        """The bounds on what the server may send."""
        return self._limits

    @property
    def reusable(self) -> bool:
        """Whether a request can be sent now, as far as this side knows: the last exchange has left no doubt."""
        life = self._life
        machine = self._machine
        return (
            life.phase is _OPEN
            and not life.leases
            and machine.our_state is H1State.IDLE
            and machine.peer_state is H1State.IDLE
            and not machine.buffered
            and not life.poisoned
        )

    @property
    def engaged(self) -> bool:
        """Whether somebody has it in hand: an exchange is under way, or it may be about to change hands."""
        life = self._life
        return life.phase in _CHANGING or (life.phase is _OPEN and not life.quiet)

    def is_silent(self) -> bool:
        """Whether the server has sent nothing since the last exchange, not even EOF: told without waiting. A step.

        What it sends then is either the end of the connection or would be taken for the answer to the next request, so
        a connection that is not silent must not be used again. False also over a stream that cannot tell, while a
        request is under way, and on a handle that is being taken away or has ended.
        """
        life = self._life
        # Else a task may be waiting for what is looked at here: over TLS, looking is taking.
        idle = life.phase is _OPEN and life.receive is _RECEIVE_IDLE and not life.leases
        return idle and self._transport.is_silent()

    @property
    def machine(self) -> H1Client:
        """What is known about the present exchange."""
        return self._machine

    @property
    def bytes_received(self) -> int:
        """Bytes that this handle has received."""
        return self._bytes_received

    def check_exchange(self) -> None:
        """Raise unless the present exchange can go on. A step."""
        if self._life.phase is not _OPEN and isinstance(refuse := self._life.decide(Event.RECEIVE_LEASED), Refuse):
            raise self._refusal(refuse, Event.RECEIVE_LEASED)

    @enable_ki_protection
    async def receive(self, lease: Lease, max_bytes: int = MAX_RECEIVE) -> None:
        """Receive once, for the exchange of this lease, and give it to the machine.

        Raises:
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for every handle.

        Cancellation: not one byte is lost.
        """
        life = self._life
        if life.phase is _OPEN and life.receive is _RECEIVE_IDLE:
            self._reader = current_task()  # first: outside of Trio it raises
            life.receive = _RECEIVE_BUSY
            self._reader_lease = lease
            self._reader_since = trio.current_time()
        else:
            self._begin_receive(lease)
        try:
            data = await self._transport.receive_some(max_bytes)
        except BaseException as exc:
            self._receive_failed(exc)
            raise
        if not data:
            self._received_eof()
            return
        self._reader = self._reader_lease = None
        self._bytes_received += len(data)
        self.answered = True
        if life.phase is _OPEN:
            life.receive = _RECEIVE_IDLE
        else:
            self._take(Event.RECEIVE_ENDED)
        self._machine.receive(data)

    def _received_eof(self) -> None:
        if self._life.reset:
            # The kernel reports a reset once, and EOF from then on: nobody may take that for the end of the data.
            self._end_receive()
            raise self._broken_error(f"receive failed: {self!r}")
        self._reader = self._reader_lease = None
        self._take(Event.PEER_EOF)
        self._machine.receive_eof()

    def _send_now(self, wire: bytes) -> int:
        """Send what the system takes at once: how much that was. A step."""
        try:
            sent = self._transport.send_some(wire)
        except trio.BrokenResourceError as exc:
            self._peer_reset(exc)
            error = HandleBrokenError(f"send failed: {self!r}: {exc}", 0)
            mark_unsent(error)
            raise error from exc
        self._bytes_sent += sent
        return sent

    def start_service(self, service: Callable[[], Awaitable[None]]) -> None:
        """Run `service`, which must not raise, as a service task of the scope that owns the connection."""
        self._owner.start_service(service)

    @enable_ki_protection
    async def send_leased(self, data: Buffer, lease: Lease) -> None:
        """Send more of the request that this lease is for.

        Raises:
            HandleBrokenError, HandleClosedError, HandleMovedError: as for every handle.

        Cancellation: the request is torn, and with it the connection.
        """
        self._begin_send(lease)
        transport = self._transport
        transport.bytes_sent = 0
        try:
            await transport.send_all(data)
        except BaseException as exc:
            self._send_failed(exc, transport.bytes_sent)
            raise
        self._bytes_sent += len(data)
        self._end_send()

    # --- the end of an exchange ----------------------------------------------------------------------------------

    @enable_ki_protection
    def exchange_done(self, lease: Lease) -> bool:
        """Both messages are complete, or will never be: the next request may come, or the connection ends. A step.

        Returns:
            Whether the exchange needs the connection no more; it does where HTTP has ended on it (101, CONNECT).
        """
        machine = self._machine
        if machine.reusable:
            machine.start_next_cycle()
            self.idle_since = trio.current_time()
            lease.end()
        elif machine.peer_state is H1State.SWITCHED:
            lease.end()
            return False
        else:
            self._close_after(lease)
        return True

    @enable_ki_protection
    def exchange_failed(self, exc: BaseException, method: str) -> None:
        """The exchange has ended with `exc`, and the connection ends with it. A step."""
        if isinstance(exc, RemoteProtocolError):
            if self._failure is None:
                self._failure = unraised(exc)
            self._take(Event.PEER_GONE if self._machine.received_eof else Event.PROTOCOL_ERROR)
        elif self._life.reset:
            self._take(Event.ACLOSE)  # PEER_RESET is its reason
        else:
            self.abort()
        if isinstance(exc, Exception) and exc is not self._foreign:
            mark(exc, method, lasts=isinstance(exc, RemoteProtocolError) and not self._machine.received_eof)
        self._foreign = None

    def _close_after(self, lease: Lease) -> None:
        """Close gracefully with the end of this lease: at once where there is nothing to say."""
        ours = self._life.phase is Phase.OPEN or self._life.phase is Phase.RESERVED
        self._take(Event.ACLOSE)
        lease.end()
        if ours and self._life.phase is Phase.DRAINING:
            if self._must_wait:
                self._owner.start_service(self._close_quietly)
            else:
                self._take(Event.DRAINED)

    @enable_ki_protection
    def _exchange_over(self, lease: Lease) -> None:
        life = self._life
        if life.phase is _OPEN:
            life.leases = 0  # as the table has it where nobody waits for the handle to be quiet
            self._leases = ()
        else:
            self._lease_ended(lease)

    def _refuse_request(self) -> NoReturn:
        """Raise what stands in the way of a request."""
        life = self._life
        for event in (Event.LEASE, Event.SEND, Event.RECEIVE):
            if isinstance(refuse := life.decide(event), Refuse):
                self._refuse(refuse)
        if life.leases:
            self._refuse(Refuse(Refusal.BUSY))
        if life.receive is Receive.EOF:
            self._refuse(Refuse(Refusal.CLOSED))
        if self._machine.peer_state is H1State.SWITCHED:
            raise LocalProtocolError(f"request refused: {self!r} has switched protocols; detach() or upgrade() it")
        error = RemoteProtocolError(f"unasked bytes in front of a response on {self!r}", 502)
        error.retry_safe = True
        as_client_error(error)
        self.exchange_failed(error, "")
        raise error

    def _refuse(self, refuse: Refuse) -> NoReturn:
        error = self._refusal(refuse, Event.LEASE)
        mark_unsent(error)
        raise error

    # --- the handle ----------------------------------------------------------------------------------------------

    def _waits_for_asker(self) -> bool:
        """Whether the task that asks is in the block of the exchange, and no other task receives for it."""
        return bool(self._leases) and self._reader is None and self._leases[0]._holder is current_task()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close gracefully: wait for the exchange under way, say goodbye, release.

        A task that calls it inside the block of its own response gives that up: nobody else would read the rest. So
        does the producer of a body, without which its request cannot be completed. See `Handle.aclose`.

        Cancellation: the handle is aborted (`ABORTED`).
        """
        self._take(Event.ACLOSE)
        self._give_up_own()
        await super().aclose()

    @enable_ki_protection
    def _scope_event(self, event: Event) -> None:
        """Take an event of the scope; see `Handle._scope_event`. The task that leaves it does not wait for itself."""
        super()._scope_event(event)
        if event is Event.SCOPE_LEFT:
            self._give_up_own()

    def _give_up_own(self) -> None:
        if self._waits_for_asker():
            self._leases[0]._give_up()
        elif self._leases and self._leases[0]._worker is current_task():
            self.abort()  # by the producer of a body, which goes no further until the connection has ended

    @enable_ki_protection
    def give_up(self, event: Event) -> None:
        """End the idle connection, for the reason that `event` gives. For the pool that it is in. A step."""
        self._take(event)

    @enable_ki_protection
    def part(self, reason: Reason) -> None:
        """End the idle connection, and say goodbye where there is one to be said, in a service task. A step."""
        self._life.reason = reason
        self._take(Event.ACLOSE)
        if self._must_wait:
            self._owner.start_service(self._close_quietly)
        else:
            self._take(Event.DRAINED)

    def when_ended(self, callback: Callable[[Any], None]) -> None:
        """Call `callback`, a step that must not raise, once this handle has ended. For the pool that it is in."""
        self._when_ended = callback

    def _phase_changed(self, before: Phase) -> None:
        super()._phase_changed(before)
        if self._life.phase.terminal and self._when_ended is not None:
            callback, self._when_ended = self._when_ended, None
            callback(self)

    def _unread(self) -> bytes:
        return self._machine.unread()

    def _set_unread(self, data: bytes | bytearray) -> None:
        self._machine = H1Client(bytes(data), self._limits)
