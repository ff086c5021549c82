"""`Handle`: the right to use one endpoint, with the verbs that all handles have.

A handle asks its `Ownership` machine before anything happens and carries out the effects that the machine names, each
time in one *step*: code without a checkpoint and protected from `KeyboardInterrupt`. The decorator for that costs
nothing when the code runs: it marks the code object. `_take`, which stands in `taking`, is the only way in for events.

The class is its public verbs and questions, the brackets around operations, and what it answers its scope and its
server. Whatever takes more than a few lines is a function in a module of its own: `taking`, `guards`, `detaching`,
`upgrading`, `closing`, `effects`, `refusals`.

Protocol handles (`Connection`, `WebSocket`, ...) derive from it and add their operations; `inner` lists what they may
override.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import trio
from trio.lowlevel import current_clock, enable_ki_protection

from ..ownership import Blocker, End, Event, Ownership, Phase, Reason, Receive, Refuse, Send
from ..support.caller import opened_at
from ..support.checks import refuse_copy
from ..support.texts import shown_address
from . import closing, detaching, guards, refusals, taking, upgrading
from .socket_face import HandleSocket, PeerCredentials, credentials_of, socket_of
from .statistics import Statistics

if TYPE_CHECKING:
    from ..custody.owner import Owner
    from ..errors import HandleBrokenError, HandleClosedError
    from ..scope.scope import Scope
    from ..transport.protocol import Transport
    from ..transport.proxy_header import ProxyHeader
    from .detached import Detached, Watcher
    from .inner import InnerHandle
    from .lease import Lease
    from .recipe import Recipe
    from .wire import Wire

__all__ = ["Handle"]

Successor = TypeVar("Successor", bound="Handle")

# In Python 3.11 a member read off its enum class costs 70 ns, a global 4.
_OPEN: Final = Phase.OPEN
_MOVED: Final = Phase.MOVED
_CLOSED: Final = Phase.CLOSED


class Handle:
    """The right to use one endpoint: what all handles have in common.

    Derive from it for a protocol of your own, and make it in the ``commit()`` of a `Recipe`.

    Args:
        capsule: The connection, as `Wire.detach` or `Handle.detach` gives it.
    """

    __slots__ = ("__weakref__", "_bytes_received", "_bytes_sent", "_clock", "_drained_by", "_end", "_ended",
                 "_failure", "_leases", "_leftover", "_life", "_local_address", "_next", "_opened", "_owner",
                 "_quiet", "_reader", "_reader_lease", "_reader_since", "_remote_address", "_torn", "_transport",
                 "_watcher", "_wire", "_writer", "_writer_since", "opened_at")  # fmt: skip

    #: What belongs to the handle itself and not to the connection: not carried over by a transfer.
    _OWN = frozenset({"__weakref__", "_drained_by", "_end", "_ended", "_leases", "_life", "_next", "_quiet", "_wire"})

    def __init__(self, capsule: Detached) -> None:
        receive = Receive.EOF if capsule.receive_ended else Receive.IDLE
        self._life = Ownership(receive, Send.SHUT if capsule.send_ended else Send.IDLE)
        self._transport: Transport = capsule._transport
        self._leftover = bytearray(capsule.leftover)
        self._owner: Owner = None  # type: ignore[assignment]  # set in the step that opens the handle
        self._watcher: Watcher | None = capsule._watcher
        self.opened_at = capsule.opened_at
        """File, line and function that opened the handle."""
        self._clock = current_clock()  # `trio.current_time` would look for it each time
        self._opened = self._clock.current_time()
        self._local_address = self._transport.local_address
        self._remote_address = self._transport.remote_address
        self._bytes_received = self._bytes_sent = 0
        self._reader: Any = None
        self._reader_since = self._writer_since = 0.0
        self._reader_lease: object = None  # a `Lease`, or what stands for one
        self._writer: Any = None
        self._torn: int | None = None
        self._failure: BaseException | None = None
        self._renew()
        capsule._made_into(self)

    def _renew(self) -> None:
        """Begin with nothing in progress: in a new handle, and in the twin that a transfer makes of one."""
        self._end: End | None = None
        self._ended: trio.Event | None = None
        self._leases: tuple[Lease, ...] = ()
        self._quiet: trio.Event | None = None
        self._wire: Wire | None = None
        self._next: tuple[InnerHandle, Owner] | None = None
        self._drained_by: Any = None

    # --- questions: always answered, also by a handle that has ended ---------------------------------------------

    __reduce_ex__ = refuse_copy

    def __repr__(self) -> str:
        state = self.phase.value if self._end is None else f"{self.phase.value}: {self._end.reason.value}"
        here, there = shown_address(self._local_address), shown_address(self._remote_address)
        return f"<{type(self).__name__} {here} - {there} {state}>"

    @property
    def phase(self) -> Phase:
        """Where the handle stands in its life."""
        return self._life.state.phase

    @property
    def scope(self) -> Scope:
        """The scope that owns the handle; after its end, the one that did."""
        return cast("Scope", self._owner.public)

    @property
    def end(self) -> End | None:
        """How the handle ended; None while it is alive."""
        return self._end

    @property
    def local_address(self) -> Any:
        """This side's socket address; None for a stream without one."""
        return self._local_address

    @property
    def remote_address(self) -> Any:
        """The peer's socket address; None for a stream without one. Behind `to_proxied`, that of the proxy's client."""
        return self._remote_address

    @property
    def proxy_header(self) -> ProxyHeader | None:
        """What a proxy has said of its client (`to_proxied`); None if none has."""
        return self._transport.proxy_header

    @property
    def socket(self) -> HandleSocket | None:
        """The socket underneath, for its options: no I/O. None where there is none, or it is not to be had any more."""
        return socket_of(self)

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        """Who is at the other end of a Unix socket; None of any other connection, and of a handle that has ended."""
        return credentials_of(self)

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """The work in progress on the handle: what keeps it from being taken away. Empty if there is none."""
        return guards.in_progress(self)

    def statistics(self) -> Statistics:
        """Figures of this handle. Never raises."""
        return Statistics(self._bytes_received, self._bytes_sent, self._opened)

    # --- changes of the owner: all or nothing, and committed in one step -----------------------------------------

    @enable_ki_protection
    def detach(self) -> Detached:
        """Take the connection out of the handle, all or nothing. A step.

        Returns:
            The capsule; adopt it once with `Scope.adopt`. Until then the scope of this handle owns it.

        Raises:
            HandleBusyError: an operation or a lease is in progress; nothing has changed, `blockers` names it.
            HandleBrokenError: a send was abandoned half-way, or the connection failed.
            HandleMovedError, HandleClosedError: the handle has ended.

        The handle is MOVED (`DETACHED`) afterwards.
        """
        return detaching.detach(self)

    @enable_ki_protection
    async def detach_when_idle(self) -> Detached:
        """Shut the door to new work, wait until the work in progress has ended, then detach.

        Raises:
            HandleBusyError: another task waits to detach or upgrades the handle; or the task that asks is itself in the
                exchange that it would wait for. Nothing has changed.
            HandleBrokenError: a send was abandoned half-way, before or while waiting.
            HandleMovedError, HandleClosedError: the handle has ended, or was closed while waiting.

        The handle is MOVED (`DETACHED`) afterwards.

        Cancellation: before the commit the handle is OPEN again, as if nothing had been asked.
        """
        return await detaching.detach_when_idle(self)

    @enable_ki_protection
    def transfer(self, scope: Scope) -> Self:
        """Move the connection to another scope: the only way for it to outlive this one. A step.

        Args:
            scope: The `Scope` that owns it from now on; it must be open.

        Returns:
            A new handle of the same kind, owned by `scope`.

        Raises:
            ScopeClosedError: the target is closing or closed; nothing has changed.
            HandleBusyError, HandleBrokenError, HandleMovedError, HandleClosedError: as for `detach`.

        The handle is MOVED (`TRANSFERRED`) afterwards.
        """
        return detaching.transfer(self, scope)

    @enable_ki_protection
    async def upgrade(self, recipe: Recipe[Successor]) -> Successor:
        """Make the connection something else, in one atomic change of hands.

        Args:
            recipe: How, for instance `to_tls_client` or `to_websocket_server`; used once.

        Returns:
            The successor, OPEN, in the same scope.

        Raises:
            HandleBusyError: an operation or a lease is in progress; nothing has changed.
            UpgradeRefusedError: the peer declined; the handle is OPEN again, the old protocol intact.
            UpgradeFailedError: the handshake failed. If a byte had been sent the handle is CLOSED (`UPGRADE_FAILED`);
                else it is OPEN and what the handshake had received is unread again.
            PlaintextInjectionError: the handle is CLOSED (`UPGRADE_FAILED`) in any case, the bytes are dropped.
            HandleBrokenError, HandleMovedError, HandleClosedError: as for `detach`; an upgrade needs both directions.

        The handle is MOVED (`UPGRADED`) afterwards.

        Cancellation: as for a failed handshake. Once the successor exists there is no checkpoint any more.
        """
        return await upgrading.upgrade(self, recipe, Event.UPGRADE, self)

    @enable_ki_protection
    async def _upgrade(self, recipe: Recipe[Successor], event: Event, source: Any) -> Successor:
        """`upgrade` for protocol handles whose recipes start from something else, such as an exchange."""
        return await upgrading.upgrade(self, recipe, event, source)

    # --- the end -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close gracefully: refuse new work, wait for leases and for a write in flight, say goodbye, release.

        A bare pending read is woken with `HandleClosedError`. At the scope's ``drain_timeout`` the rest is cut off.
        Does nothing on a handle that is MOVED or CLOSED, so leaving an old ``async with`` cannot hurt a successor.

        The handle is CLOSED afterwards: `LOCAL`, or `DRAIN_TIMEOUT`, or `PEER_RESET`.

        Cancellation: the handle is aborted (`ABORTED`).
        """
        self._take(Event.ACLOSE)
        if self._life.state.phase is Phase.DRAINING:
            await closing.finish(self, self._owner.drain_timeout)
        await trio.lowlevel.checkpoint()

    def _close_in_background(self) -> None:
        self._take(Event.ACLOSE)
        self._owner.start_service(closing.close_quietly, self)

    @enable_ki_protection
    def abort(self) -> None:
        """Close the endpoint now; every task with work in progress on it gets an error that says so. A step.

        The handle is CLOSED (`ABORTED`) afterwards. Does nothing on a handle that has ended.
        """
        self._take(Event.ABORT)

    @enable_ki_protection
    async def wait_ended(self) -> End:
        """Wait until the handle has ended: how it did, whatever the reason. For any number of tasks.

        Cancellation: no effect on the handle.
        """
        if self._end is None:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()
        else:
            await trio.lowlevel.checkpoint()
        assert self._end is not None
        return self._end

    # --- what its protocol may override; see `inner` ---------------------------------------------------------------

    @property
    def _parting(self) -> bool:
        """Whether the goodbye has yet to be said. Protocol handles add their own."""
        return self._transport.parting and not self._life.state.poisoned

    async def _goodbye(self) -> None:
        """What the protocol says at a graceful end. Protocol handles put theirs in front of the transport's."""
        await self._transport.goodbye()

    @property
    def _ended_by_peer(self) -> Reason | None:
        """See `closing.ended_by_peer`."""
        return closing.ended_by_peer(self)

    @property
    def _eof_seen(self) -> bool:
        """Whether the peer has ended its direction, and that was received."""
        return self._life.state.receive is Receive.EOF

    def _waits_for_asker(self) -> bool:
        """As `InnerHandle._waits_for_asker`; protocol handles know it of their exchanges."""
        return False

    def _unread(self) -> bytes:
        """What was received and not delivered: the next layer's first input. Protocol handles keep it elsewhere."""
        return bytes(self._leftover)

    def _set_unread(self, data: bytes | bytearray) -> None:
        """The handle goes on, with these bytes to be read first."""
        self._leftover = bytearray(data)

    def _lost_size(self) -> int:
        """How much has arrived that nobody has received; nothing of what came before a reset counts."""
        return 0 if self._life.state.reset else len(self._unread()) + self._transport.unread_size()

    _take = taking.take

    def _check_run(self, what: object) -> None:
        """Raise in another thread: for what protocol handles do before the machine is asked."""
        if not self._life.state.phase.terminal:
            self._owner.check_run(what)

    def _phase_changed(self, before: Phase) -> None:
        if before is not _OPEN and self._quiet is not None:
            self._quiet.set()
        after = self._life.state.phase
        if after is _MOVED or after is _CLOSED:
            if self._end is None:
                taking.note_end(self)
            if self._ended is not None:
                self._ended.set()
        if self._owner.observer is not None:
            self._owner.observe(self, before, after)

    def _refusal(self, refuse: Refuse, event: Event) -> Exception:
        return refusals.refusal(self, refuse, event)

    def _closed_error(self, what: str) -> HandleClosedError:
        return refusals.closed(self, what)

    def _broken_error(self, what: str) -> HandleBrokenError:
        return refusals.broken(self, what)

    # --- for its scope and its server; see `Member` ---------------------------------------------------------------

    @enable_ki_protection
    def _seat(self, owner: Owner, instead_of: Any = None) -> None:
        """The handle belongs to `owner` from now on, in the place of `instead_of`. A step; for recipes and scopes."""
        self._owner = owner
        if not self.opened_at:
            self.opened_at = opened_at()
        owner.register(self, instead_of)
        if self._watcher is not None:
            self._watcher.moved_to(self)
        if owner.observer is not None:
            owner.observe(self, None, _OPEN)

    def _cut_loose(self, transport: Transport) -> None:
        """A recipe has made this beside the successor: it has no owner, and `transport` refuses everything. A step."""
        self._transport = transport

    @enable_ki_protection
    def _scope_event(self, event: Event) -> None:
        """Take an event of the scope, which is never refused. A step."""
        self._take(event)

    @property
    def _must_wait(self) -> bool:
        """Whether a graceful close has to wait for anything, or could be over in this step."""
        phase = self._life.state.phase
        return phase is Phase.CLAIMED or (phase is Phase.DRAINING and not self._drained)

    @property
    def _drained(self) -> bool:
        """Whether nothing but the release is left of a graceful close."""
        return self._life.state.phase is Phase.DRAINING and self._life.state.quiet and not self._parting

    async def _drain(self) -> None:
        """As `closing.drain`."""
        await closing.drain(self)

    @enable_ki_protection
    def _retire(self, grace: float = 0.0) -> None:
        """As `Member._retire`."""
        self._check_run("retire")
        life = self._life
        life.retire(grace)  # an upgrade under way passes it on
        if life.state.phase in closing.RETIRABLE and life.state.receive is Receive.BUSY and self._reader_lease is None:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        """A task waits for input: it takes what has arrived, or learns that nothing is waited for any more."""
        self._life.look()
        self._transport.wake_receiver()

    @enable_ki_protection
    def _handler_failed(self, error: BaseException | None = None) -> None:
        """The server's handler that used this handle has raised. Protocols that can tell their peer do so. A step."""
        if closing.handler_failed_for_good(self, error):
            self.abort()

    def _forget_work(self) -> None:
        """As `Member._forget_work`. Protocol handles that have such things do."""
