"""A handle's state, the questions it answers, and the hands of its machine: the lowest of its layers.

A handle asks its `Ownership` machine before anything happens and carries out the effects that the machine names, each
time in one *step*: code without a checkpoint and protected from `KeyboardInterrupt`. The decorator for that costs
nothing when the code runs: it marks the code object.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio
from trio.lowlevel import enable_ki_protection

from ..custody.owner import opened_at
from ..errors import HandleBrokenError, HandleBusyError, HandleClosedError, HandleMovedError
from ..ownership import Blocker, Effect, End, Event, Ownership, Phase, Reason, Receive, Refusal, Refuse, Send
from ..support.checks import refuse_copy
from ..support.texts import amount, shown_address
from .detached import Detached
from .socket_face import HandleSocket, PeerCredentials, credentials_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..custody.owner import Owner
    from ..scope.scope import Scope
    from ..transport.protocol import Transport
    from .lease import Lease
    from .wire import Wire

__all__ = ["Core", "Statistics", "attributes"]

_BY_FORCE: Final = frozenset({Reason.DRAIN_TIMEOUT, Reason.SCOPE_EXIT, Reason.SCOPE_CANCELLED})
_PEERS: Final = (Reason.PEER_EOF, Reason.PEER_RESET, Reason.PROTOCOL_ERROR, Reason.IDLE_TIMEOUT)
"""Reasons of an end that the peer has brought about."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of one handle."""

    bytes_received: int
    bytes_sent: int
    opened: float
    """When the handle was opened, on the clock of `trio.current_time`, in seconds."""


# In Python 3.11 a member read off its enum class costs 70 ns, a global 4.
_MOVED: Final = Phase.MOVED
_CLOSED: Final = Phase.CLOSED
_INSIDE: Final = (
    Event.SEND_LEASED, Event.LEASE_ENDED, Event.ACCEPTED, Event.DRAINED, Event.SEND_ENDED, Event.RECEIVE_ENDED,
)  # fmt: skip
"""Events of work that has passed a check of the run when it began: nobody takes them from another thread."""


class Core:
    """The state of a handle, and the effects that its machine names, carried out.

    Args:
        capsule: The connection, as `Wire.detach` or `Handle.detach` gives it.
    """

    __slots__ = (
        "__weakref__",
        "_bytes_received",
        "_bytes_sent",
        "_drained_by",
        "_end",
        "_ended",
        "_failure",
        "_leases",
        "_leftover",
        "_life",
        "_local_address",
        "_next",
        "_opened",
        "_owner",
        "_quiet",
        "_reader",
        "_reader_lease",
        "_reader_since",
        "_remote_address",
        "_torn",
        "_transport",
        "_watcher",
        "_wire",
        "_writer",
        "_writer_since",
        "opened_at",
    )

    #: What belongs to the handle itself and not to the connection: not carried over by a transfer.
    _OWN: Final = frozenset(
        {"__weakref__", "_drained_by", "_end", "_ended", "_leases", "_life", "_next", "_quiet", "_wire"}
    )

    def __init__(self, capsule: Detached) -> None:
        self._life = Ownership(
            Receive.EOF if capsule.receive_ended else Receive.IDLE,
            Send.SHUT if capsule.send_ended else Send.IDLE,
        )
        self._transport: Transport = capsule.transport
        self._leftover = bytearray(capsule.leftover)
        self._owner: Owner = None  # type: ignore[assignment]  # set in the step that opens the handle
        self._watcher = capsule.watcher
        self.opened_at = capsule.opened_at
        """File, line and function that opened the handle."""
        self._opened = trio.current_time()
        self._local_address = capsule.transport.local_address
        self._remote_address = capsule.transport.remote_address
        self._bytes_received = 0
        self._bytes_sent = 0
        self._reader: Any = None
        self._reader_since = 0.0
        self._reader_lease: object = None  # a `Lease`, or what stands for one
        self._writer: Any = None
        self._writer_since = 0.0
        self._torn: int | None = None
        self._failure: BaseException | None = None
        self._renew()
        capsule.made(self)

    def _renew(self) -> None:
        self._end: End | None = None
        self._ended: trio.Event | None = None
        self._leases: tuple[Lease, ...] = ()
        self._quiet: trio.Event | None = None
        self._wire: Wire | None = None
        self._next: tuple[Core, Owner] | None = None
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
        return self._life.phase

    @property
    def scope(self) -> Scope:
        """The scope that owns the handle; after its end, the one that did."""
        scope: Scope = self._owner.public
        return scope

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
        """The peer's socket address; None for a stream without one."""
        return self._remote_address

    @property
    def socket(self) -> HandleSocket | None:
        """The socket underneath, for its options: no I/O. None where there is none, or it is not to be had any more."""
        return None if self._open_socket() is None else HandleSocket(self, self._open_socket)

    def _open_socket(self) -> Any:
        return None if self._life.phase.terminal else self._transport.socket

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        """Who is at the other end of a Unix socket; None of any other connection, and of a handle that has ended."""
        return credentials_of(self._open_socket())

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """The work in progress on the handle: what keeps it from being taken away. Empty if there is none."""
        found = []
        if self._life.receive is Receive.BUSY and not self._life.phase.terminal:
            found.append(Blocker(_task_name(self._reader), "receive", self._reader_since))
        if self._life.send is Send.BUSY and not self._life.phase.terminal:
            found.append(Blocker(_task_name(self._writer), "send", self._writer_since))
        found.extend(Blocker(lease.task, lease.name, lease.since) for lease in self._leases)
        return tuple(found)

    def statistics(self) -> Statistics:
        """Figures of this handle. Never raises."""
        return Statistics(self._bytes_received, self._bytes_sent, self._opened)

    @property
    def _ended_by_peer(self) -> Reason | None:
        """The reason of the end, if it is the peer's doing; also of one that is about to come. None if it is not."""
        life = self._life
        if life.reset:
            return Reason.PEER_EOF if life.cut_off else Reason.PEER_RESET
        return life.reason if life.reason in _PEERS else None

    # --- the machine's hands -------------------------------------------------------------------------------------

    @enable_ki_protection
    def _take(self, event: Event) -> None:
        """Take `event` and carry out its effects, in one step; raise what its refusal means."""
        before = self._life.phase
        owner = self._owner
        if owner is None:
            raise HandleClosedError(f"{event.value} refused: {self!r} was made beside a successor, and has no owner")
        if before is not _MOVED and before is not _CLOSED and event not in _INSIDE:
            owner.check_run(event)
        answer = self._life.apply(event)
        if isinstance(answer, Refuse):
            raise self._refusal(answer, event)
        for effect in answer:
            _CARRY_OUT[effect](self)
        if self._life.phase is not before:
            self._phase_changed(before)

    def _check_run(self, what: object) -> None:
        """Raise in another thread. What protocol handles do before the machine is asked comes behind this."""
        if not self._life.phase.terminal:
            self._owner.check_run(what)

    def _phase_changed(self, before: Phase) -> None:
        if before is not Phase.OPEN:
            self._wake_waiter()
        after = self._life.phase
        if after is _MOVED or after is _CLOSED:
            if self._end is None:
                assert self._life.reason is not None
                result = outcome.Value(None) if self._failure is None else outcome.Error(self._failure)
                self._end = End(self._life.reason, None, result)
            if self._ended is not None:
                self._ended.set()
        if self._owner.observer is not None:
            self._owner.observe(self, before, after)

    def _release(self) -> None:
        if self._life.retiring or self._life.reason in _BY_FORCE:
            self._owner.note_loss(self, self._unread_size)
        failure = self._owner.release(self._transport, self)
        if self._failure is None:
            self._failure = failure
        self._owner.unregister(self)
        if self._watcher is not None:
            self._watcher.endpoint_closed()
        self._leftover.clear()

    def _interrupt(self) -> None:
        """Wake what the transport's close does not: a handshake. Who waits at the door wakes by the change of phase."""
        if self._wire is not None:
            self._wire.scope.cancel()
        self._leases = ()

    def _wake_waiter(self) -> None:
        if self._quiet is not None:
            self._quiet.set()

    def _wake_reader(self) -> None:
        if self._life.receive is Receive.BUSY and self._reader_lease is None:
            self._transport.wake_receiver()

    def _hand_over(self) -> None:
        assert self._next is not None
        (successor, owner), self._next = self._next, None
        if owner is not self._owner:
            self._owner.unregister(self)
        successor.seat(owner, instead_of=self)
        self._move_to(successor)

    def _put_back(self) -> None:
        assert self._wire is not None
        self._set_unread(self._wire.received())

    def _keep_rest(self) -> None:
        assert self._wire is not None
        self._set_unread(self._wire.unread)

    def _unread_size(self) -> int:
        """How much has arrived that nobody has received; nothing of what came before a reset counts."""
        return 0 if self._life.reset else len(self._unread()) + self._transport.unread_size()

    def _unread(self) -> bytes:
        """What was received and not delivered: the next layer's first input. Protocol handles keep it elsewhere."""
        return bytes(self._leftover)

    def _set_unread(self, data: bytes | bytearray) -> None:
        """The handle goes on, with these bytes to be read first."""
        self._leftover = bytearray(data)

    def _into_capsule(self) -> None:
        capsule = Detached(
            self._transport,
            self._unread(),
            receive_ended=self._life.receive is Receive.EOF,
            send_ended=self._life.send is Send.SHUT,
            opened_at=self.opened_at,
            watcher=self._watcher,
        )
        if self._life.retiring:
            capsule.retire(self._life.grace)
        capsule.seat(self._owner)
        self._owner.register(capsule, instead_of=self)
        self._move_to(capsule)

    def _move_to(self, successor: Any) -> None:
        assert self._life.reason is not None
        self._end = End(self._life.reason, successor, outcome.Value(successor))
        self._leftover = bytearray()
        self._leases = ()

    def cut_loose(self, transport: Transport) -> None:
        """A recipe has made this beside the successor: it has no owner, and `transport` refuses everything. A step."""
        self._transport = transport

    @enable_ki_protection
    def seat(self, owner: Owner, instead_of: Any = None) -> None:
        """The handle belongs to `owner` from now on, in the place of `instead_of`. A step; for recipes and scopes."""
        self._owner = owner
        if not self.opened_at:
            self.opened_at = opened_at()
        owner.register(self, instead_of)
        if self._watcher is not None:
            self._watcher.moved_to(self)
        if owner.observer is not None:
            owner.observe(self, None, Phase.OPEN)

    # --- refusals ------------------------------------------------------------------------------------------------

    def _refusal(self, refuse: Refuse, event: Event) -> Exception:
        """The error that this refusal means, with all that the reader of a log needs."""
        what = f"{event.value} refused: {self!r}"
        match refuse.kind:
            case Refusal.MOVED:
                assert self._end is not None
                return HandleMovedError(
                    f"{what} ended; the connection lives on in {self._end.successor!r}: use that", self._end
                )
            case Refusal.CLOSED:
                return self._closed_error(what)
            case Refusal.SHUT:
                return HandleClosedError(f"{what} has sent EOF already; nothing can be sent after it")
            case Refusal.BROKEN:
                return self._broken_error(what)
        blockers = self.blockers
        if self._life.phase is Phase.CLAIMED:
            return HandleBusyError(f"{what}: an upgrade is under way; wait for its outcome", blockers)
        if self._life.phase is Phase.RESERVED:
            return HandleBusyError(f"{what}: a task waits to detach it, nothing new can begin", blockers)
        held = "; ".join(map(str, blockers)) or "bytes that are not sent yet"
        remedy = " (or detach_when_idle())" if event is Event.DETACH else ""
        return HandleBusyError(f"{what} is in use: {held}. Wait for it, or cancel it{remedy}", blockers)

    def _self_wait_error(self, event: Event) -> HandleBusyError:
        held = "; ".join(map(str, self.blockers))
        return HandleBusyError(
            f"{event.value} refused: {self!r} waits for the task that asks: {held}. End that first",
            self.blockers,
        )

    def _closed_error(self, what: str) -> HandleClosedError:
        if self._end is not None:
            return HandleClosedError(f"{what}{self._left}", self._end).with_handle(self)
        if self._life.receive is Receive.EOF and self._life.phase is Phase.OPEN:
            why = "the peer has ended its direction (EOF); an upgrade needs both"
        elif self._life.retiring and self._life.phase is Phase.OPEN:
            why = "it is to end, and waits for no more input; what it has stays unread"
        else:
            why = "it is being closed"
        return HandleClosedError(f"{what}: {why}").with_handle(self)

    @property
    def _left(self) -> str:
        """Where a handle that is used after its scope has gone, for its refusals: the usual cause of them."""
        if self._end is None or self._end.successor is not None or not self._owner.closed:
            return ""
        return f": its scope {self._owner.name or '(unnamed)'} was left; use it inside of the block that opened it"

    def _broken_error(self, what: str) -> HandleBrokenError:
        if self._life.reset:
            why = f"the connection failed before ({self._failure}); close it"
        else:
            sent = "an unknown number of bytes" if self._torn is None else amount(self._torn, "byte")
            why = f"a send was abandoned after {sent}, so the peer cannot find the next boundary; close it"
        return HandleBrokenError(f"{what}: {why}", self._torn).with_handle(self)


def attributes(thing: object) -> dict[str, Any]:
    """All that `thing` is made of, by name: what is in its slots, however they were declared, and in its dict."""
    found: dict[str, Any] = {}
    for cls in type(thing).__mro__:
        for name, member in vars(cls).items():
            if inspect.ismemberdescriptor(member) and hasattr(thing, name):
                found[name] = getattr(thing, name)
    return found | getattr(thing, "__dict__", {})


def _task_name(task: Any) -> str:
    return "" if task is None else task.name


_CARRY_OUT: Final[dict[Effect, Callable[[Core], None]]] = {
    Effect.TO_CAPSULE: Core._into_capsule,
    Effect.TO_SUCCESSOR: Core._hand_over,
    Effect.TO_SCOPE: Core._hand_over,
    Effect.RELEASE: Core._release,
    Effect.INTERRUPT: Core._interrupt,
    Effect.WAKE_READER: Core._wake_reader,
    Effect.WAKE_WAITER: Core._wake_waiter,
    Effect.PUT_BACK: Core._put_back,
    Effect.KEEP_REST: Core._keep_rest,
    Effect.DRAIN: Core._wake_waiter,
}
