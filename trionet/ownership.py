"""The contract as data: who owns a connection, and what may happen to it.

Every handle carries one `Ownership`, the machine of this module, and asks it before anything happens to the
connection. The machine knows neither Trio nor I/O: an event goes in, and out come either the effects that the
handle has to carry out or the refusal that it has to raise. What happens in which phase stands in one table,
`TABLE`, in which every pair of phase and event is defined. The state diagrams of the documentation are drawn from
it, and the tests search it exhaustively.

A reader of this package starts here: all other modules carry out what this table says.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import outcome

__all__ = [
    "TABLE",
    "Blocker",
    "Check",
    "Effect",
    "End",
    "Event",
    "Ownership",
    "Phase",
    "Reason",
    "Receive",
    "Refusal",
    "Refuse",
    "Rule",
    "Send",
]


class Phase(enum.Enum):
    """Where a handle stands in its life. `MOVED` and `CLOSED` are terminal."""

    OPEN = "open"
    """In use."""
    RESERVED = "reserved"
    """The door is shut to new work; somebody waits for the work in progress to end."""
    CLAIMED = "claimed"
    """Quiescent, with one exclusive change (a handshake, a detach about to commit) under way."""
    DRAINING = "draining"
    """A graceful close is under way."""
    MOVED = "moved"
    """The connection lives on in another handle or capsule."""
    CLOSED = "closed"
    """The endpoint is closed."""

    __hash__ = object.__hash__  # members are unique; the table is asked often, and the hash of the name costs more

    @property
    def terminal(self) -> bool:
        """True for `MOVED` and `CLOSED`: nothing happens to the handle any more."""
        return self is Phase.MOVED or self is Phase.CLOSED


class Reason(enum.Enum):
    """Why a handle ended. The first reason wins and never changes."""

    UPGRADED = "upgraded"
    DETACHED = "detached"
    TRANSFERRED = "transferred"
    LOCAL = "local"
    ABORTED = "aborted"
    DRAIN_TIMEOUT = "drain timeout"
    UPGRADE_FAILED = "upgrade failed"
    SCOPE_EXIT = "scope exit"
    SCOPE_CANCELLED = "scope cancelled"
    PEER_EOF = "peer eof"
    PEER_RESET = "peer reset"
    PROTOCOL_ERROR = "protocol error"
    IDLE_TIMEOUT = "idle timeout"


class Receive(enum.Enum):
    """The receive side of a handle."""

    IDLE = "idle"
    BUSY = "busy"
    EOF = "eof"


class Send(enum.Enum):
    """The send side of a handle."""

    IDLE = "idle"
    BUSY = "busy"
    SHUT = "shut"
    """EOF was sent."""
    BROKEN = "broken"
    """A write was abandoned half-way: the peer cannot find the next boundary."""


class Event(enum.Enum):
    """What may happen to a handle: commands of its users, ends of operations, acts of the peer and of the scope."""

    RECEIVE = "receive"
    RECEIVE_LEASED = "receive (of a lease)"
    RECEIVE_ENDED = "receive ended"
    SEND = "send"
    SEND_LEASED = "send (of a lease)"
    SEND_ENDED = "send ended"
    SEND_TORN = "send abandoned half-way"
    SEND_EOF = "send eof"
    EOF_SENT = "eof sent"
    LEASE = "lease granted"
    LEASE_ENDED = "lease ended"
    QUIET = "nothing in progress any more"
    DETACH = "detach"
    RESERVE = "detach when idle"
    RESERVE_CANCELLED = "detach when idle cancelled"
    DETACH_CLAIMED = "detach commits"
    TRANSFER = "transfer"
    UPGRADE = "upgrade"
    UPGRADE_LEASED = "upgrade (of a lease)"
    ACCEPTED = "handshake accepted"
    REFUSED = "handshake refused"
    RESTORED = "handshake failed, nothing sent"
    FAILED = "handshake failed"
    PEER_EOF = "peer eof"
    PEER_RESET = "peer reset"
    PEER_GONE = "peer ended the protocol"
    PROTOCOL_ERROR = "protocol error"
    IDLE_TIMEOUT = "idle timeout"
    ACLOSE = "aclose"
    DRAINED = "drain done"
    DRAIN_TIMEOUT = "drain deadline"
    DRAIN_CANCELLED = "drain cancelled"
    ABORT = "abort"
    SCOPE_LEFT = "scope left normally"
    SCOPE_DEADLINE = "scope's drain deadline"
    SCOPE_CANCELLED = "scope cancelled or failing"

    __hash__ = object.__hash__


class Effect(enum.Enum):
    """What the handle has to carry out, within the same step, when an event is taken."""

    TO_CAPSULE = "transport and leftover go into a capsule that the scope owns"
    TO_SUCCESSOR = "transport and leftover go to the successor, in the same scope"
    TO_SCOPE = "transport and leftover go to a new handle in the target scope"
    RELEASE = "the endpoint is closed"
    INTERRUPT = "every task with work in progress is woken with the reason"
    WAKE_READER = "a bare pending read is woken with a closed error"
    WAKE_WAITER = "the task that waits for the door is told how it went"
    PUT_BACK = "the bytes that the handshake received become leftover again"
    KEEP_REST = "the bytes that the handshake did not consume become leftover again"
    DRAIN = "the graceful close starts, or looks again whether it may go on"


class Refusal(enum.Enum):
    """The kinds of refusal, one for each class of error."""

    BUSY = "busy"
    MOVED = "moved"
    CLOSED = "closed"
    BROKEN = "broken"
    SHUT = "shut"
    """Sending was ended by `send_eof`; a closed error."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The event is refused and changes nothing."""

    kind: Refusal


@dataclass(frozen=True, slots=True)
class Check:
    """A condition of a rule: where it does not hold, `otherwise` is the answer (a refusal, or an empty rule)."""

    name: str
    holds: Callable[[Ownership], bool]
    otherwise: Refuse | Rule


@dataclass(frozen=True, slots=True)
class Rule:
    """The event is taken once all `checks` hold: these fields change, these effects follow. An empty rule: a no-op."""

    checks: tuple[Check, ...] = ()
    phase: Phase | None = None
    reason: Reason | None = None
    receive: Receive | None = None
    send: Send | None = None
    leases: int = 0
    reset: bool = False
    effects: tuple[Effect, ...] = ()
    settles: bool = False
    """Afterwards the handle may have become quiet: `Event.QUIET` follows if it has."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """One piece of work that keeps a handle from being taken away."""

    task: str
    """Name of the task, as Trio knows it; empty for work without a task."""
    operation: str
    """What is in progress: ``receive``, ``send``, or the name of a lease."""
    since: float
    """When it began, on the clock of `trio.current_time`, in seconds."""

    def __str__(self) -> str:
        who = f" by task {self.task}" if self.task else ""
        return f"{self.operation}{who} since t={self.since:.3f} s"


@dataclass(frozen=True, slots=True)
class End:
    """How a handle ended."""

    reason: Reason
    successor: Any = None
    """The handle or capsule that the connection lives on in, if the handle was moved."""
    outcome: outcome.Outcome[Any] | None = None
    """`outcome.Value` of the successor (None after a clean close), or `outcome.Error` with what ended the handle."""


class Ownership:
    """The state of one handle, and the only code that changes it.

    The machine is deliberately mutable: its fields are read on every operation. `snapshot` gives the state as a value.
    """

    __slots__ = ("leases", "phase", "reason", "receive", "reset", "retiring", "send", "unsent")

    def __init__(self, receive: Receive = Receive.IDLE, send: Send = Send.IDLE) -> None:
        self.phase: Phase = Phase.OPEN
        self.reason: Reason | None = None
        self.receive: Receive = receive
        self.send: Send = send
        self.leases: int = 0
        self.unsent: bool = False
        """Bytes that a returned send left in a bounded output buffer."""
        self.reset: bool = False
        """The peer has reset the connection."""
        self.retiring: bool = False
        """The handle closes gracefully as soon as its user waits for input: set from outside, when a server drains."""

    def snapshot(self) -> tuple[Phase, Reason | None, Receive, Send, int, bool, bool]:
        """The whole state as an immutable value."""
        return (self.phase, self.reason, self.receive, self.send, self.leases, self.unsent, self.reset)

    @classmethod
    def from_snapshot(cls, snapshot: tuple[Phase, Reason | None, Receive, Send, int, bool, bool]) -> Ownership:
        """The machine that was in this state."""
        machine = cls()
        (
            machine.phase,
            machine.reason,
            machine.receive,
            machine.send,
            machine.leases,
            machine.unsent,
            machine.reset,
        ) = snapshot
        return machine

    @property
    def quiet(self) -> bool:
        """Nothing is in progress: no reader, no writer, no lease, nothing unsent."""
        return self.receive is not Receive.BUSY and self.send is not Send.BUSY and not self.leases and not self.unsent

    @property
    def poisoned(self) -> bool:
        """A write was abandoned half-way, or the peer has reset the connection: no layer can be built on it."""
        return self.send is Send.BROKEN or self.reset

    def decide(self, event: Event) -> Rule | Refuse:
        """What this event would lead to now. Changes nothing."""
        answer = TABLE[self.phase, event]
        if isinstance(answer, Rule):
            for check in answer.checks:
                if not check.holds(self):
                    return check.otherwise
        return answer

    def apply(self, event: Event) -> tuple[Effect, ...] | Refuse:
        """Take the event: the effects that follow from it, or the refusal. A refused event changes nothing."""
        answer = self.decide(event)
        if isinstance(answer, Refuse):
            return answer
        if answer.phase is not None:
            self.phase = answer.phase
        if answer.reason is not None and self.reason is None:
            self.reason = answer.reason
        if answer.receive is not None:
            self.receive = answer.receive
        if answer.send is not None:
            self.send = answer.send
        self.leases += answer.leases
        self.reset = self.reset or answer.reset
        if answer.settles and self.quiet:
            more = self.apply(Event.QUIET)
            assert not isinstance(more, Refuse)
            return answer.effects + more
        return answer.effects


# --- the checks -------------------------------------------------------------------------------------------------

_BUSY: Final = Refuse(Refusal.BUSY)
_MOVED: Final = Refuse(Refusal.MOVED)
_CLOSED: Final = Refuse(Refusal.CLOSED)
_BROKEN: Final = Refuse(Refusal.BROKEN)
_NOTHING: Final = Rule()

_reader_free = Check("no reader", lambda o: o.receive is not Receive.BUSY, _BUSY)
_more_to_come = Check("no EOF yet", lambda o: o.receive is not Receive.EOF, _NOTHING)
_writer_free = Check("no writer", lambda o: o.send is not Send.BUSY, _BUSY)
_not_shut = Check("sending not ended", lambda o: o.send is not Send.SHUT, Refuse(Refusal.SHUT))
_not_yet_shut = Check("EOF not sent yet", lambda o: o.send is not Send.SHUT, _NOTHING)
_whole = Check("no write torn", lambda o: o.send is not Send.BROKEN, _BROKEN)
_not_reset = Check("not reset", lambda o: not o.reset, _BROKEN)
_sound = Check("not poisoned", lambda o: not o.poisoned, _BROKEN)
_quiet = Check("nothing in progress", lambda o: o.quiet, _BUSY)
_quiet_but_asker = Check(
    "nothing in progress but the lease that asks",
    lambda o: o.leases == 1 and o.receive is not Receive.BUSY and o.send is not Send.BUSY and not o.unsent,
    _BUSY,
)
_receiving = Check("receive side open", lambda o: o.receive is not Receive.EOF, _CLOSED)
_reading = Check("a read in flight", lambda o: o.receive is Receive.BUSY, _NOTHING)
_writing = Check("a write in flight", lambda o: o.send is Send.BUSY, _NOTHING)
_leased = Check("a lease granted", lambda o: o.leases > 0, _NOTHING)
_over = Check(
    "no operation and no lease",
    lambda o: o.receive is not Receive.BUSY and o.send is not Send.BUSY and not o.leases,
    _BUSY,
)
_unbroken_close = Check(
    "not reset by the peer",
    lambda o: not o.reset,
    Rule(phase=Phase.CLOSED, reason=Reason.PEER_RESET, effects=(Effect.RELEASE, Effect.INTERRUPT)),
)


# --- the rules --------------------------------------------------------------------------------------------------


def _close(reason: Reason) -> Rule:
    return Rule(phase=Phase.CLOSED, reason=reason, effects=(Effect.RELEASE, Effect.INTERRUPT))


def _move(reason: Reason, effect: Effect, *checks: Check) -> Rule:
    return Rule(checks=checks, phase=Phase.MOVED, reason=reason, effects=(effect,))


# Also after a reset that a send has met: the kernel may still have what the peer said before it, such as its reason.
_receive = Rule(checks=(_reader_free, _more_to_come), receive=Receive.BUSY)
_received = Rule(checks=(_reading,), receive=Receive.IDLE, settles=True)
_peer_eof = Rule(receive=Receive.EOF, settles=True)
_send = Rule(checks=(_writer_free, _not_shut, _whole, _not_reset), send=Send.BUSY)
_sent = Rule(checks=(_writing,), send=Send.IDLE, settles=True)
_torn = Rule(checks=(_writing,), send=Send.BROKEN, settles=True)
_eof_sent = Rule(checks=(_writing,), send=Send.SHUT, settles=True)
_lease_ended = Rule(checks=(_leased,), leases=-1, settles=True)
_drain = Rule(
    checks=(_unbroken_close,), phase=Phase.DRAINING, effects=(Effect.WAKE_READER, Effect.WAKE_WAITER, Effect.DRAIN)
)
_give_up_door = Rule(phase=Phase.OPEN, effects=(Effect.WAKE_WAITER,))
_torn_while_waiting = Rule(checks=(_writing,), phase=Phase.OPEN, send=Send.BROKEN, effects=(Effect.WAKE_WAITER,))
_reset_while_waiting = Rule(phase=Phase.OPEN, reset=True, effects=(Effect.WAKE_WAITER,))
_cancelled = _close(Reason.SCOPE_CANCELLED)
_aborted = _close(Reason.ABORTED)

_PHASES: Final = (Phase.OPEN, Phase.RESERVED, Phase.CLAIMED, Phase.DRAINING, Phase.MOVED, Phase.CLOSED)

# One row an event, one column a phase, in the order of `_PHASES`.
_ROWS: Final[dict[Event, tuple[Rule | Refuse, ...]]] = {
    Event.RECEIVE: (_receive, _BUSY, _BUSY, _CLOSED, _MOVED, _CLOSED),
    Event.RECEIVE_LEASED: (_receive, _receive, _BUSY, _receive, _MOVED, _CLOSED),
    Event.RECEIVE_ENDED: (_received, _received, _NOTHING, _received, _NOTHING, _NOTHING),
    Event.SEND: (_send, _BUSY, _BUSY, _CLOSED, _MOVED, _CLOSED),
    Event.SEND_LEASED: (_send, _send, _BUSY, _send, _MOVED, _CLOSED),
    Event.SEND_ENDED: (_sent, _sent, _NOTHING, _sent, _NOTHING, _NOTHING),
    Event.SEND_TORN: (_torn, _torn_while_waiting, _NOTHING, _torn, _NOTHING, _NOTHING),
    Event.SEND_EOF: (
        Rule(checks=(_writer_free, _not_yet_shut, _whole, _not_reset), send=Send.SHUT),
        _BUSY,
        _BUSY,
        _CLOSED,
        _MOVED,
        _CLOSED,
    ),
    Event.EOF_SENT: (_eof_sent, _eof_sent, _NOTHING, _eof_sent, _NOTHING, _NOTHING),
    Event.LEASE: (Rule(leases=1), _BUSY, _BUSY, _CLOSED, _MOVED, _CLOSED),
    Event.LEASE_ENDED: (_lease_ended, _lease_ended, _lease_ended, _lease_ended, _NOTHING, _NOTHING),
    Event.QUIET: (
        _NOTHING,
        Rule(checks=(_sound,), phase=Phase.CLAIMED, effects=(Effect.WAKE_WAITER,)),
        _NOTHING,
        Rule(effects=(Effect.DRAIN,)),
        _NOTHING,
        _NOTHING,
    ),
    Event.DETACH: (_move(Reason.DETACHED, Effect.TO_CAPSULE, _quiet, _sound), _BUSY, _BUSY, _CLOSED, _MOVED, _CLOSED),
    Event.RESERVE: (Rule(checks=(_sound,), phase=Phase.RESERVED, settles=True), _BUSY, _BUSY, _CLOSED, _MOVED, _CLOSED),
    Event.RESERVE_CANCELLED: (
        _NOTHING,
        Rule(phase=Phase.OPEN),
        Rule(phase=Phase.OPEN),
        _NOTHING,
        _NOTHING,
        _NOTHING,
    ),
    Event.DETACH_CLAIMED: (
        _BUSY,
        _BUSY,
        _move(Reason.DETACHED, Effect.TO_CAPSULE),
        _CLOSED,
        _MOVED,
        _CLOSED,
    ),
    Event.TRANSFER: (
        _move(Reason.TRANSFERRED, Effect.TO_SCOPE, _quiet, _sound),
        _BUSY,
        _BUSY,
        _CLOSED,
        _MOVED,
        _CLOSED,
    ),
    Event.UPGRADE: (
        Rule(checks=(_quiet, _sound, _receiving, _not_shut), phase=Phase.CLAIMED),
        _BUSY,
        _BUSY,
        _CLOSED,
        _MOVED,
        _CLOSED,
    ),
    Event.UPGRADE_LEASED: (
        Rule(checks=(_quiet_but_asker, _sound, _receiving, _not_shut), phase=Phase.CLAIMED),
        _BUSY,
        _BUSY,
        _CLOSED,
        _MOVED,
        _CLOSED,
    ),
    Event.ACCEPTED: (
        _BUSY,
        _BUSY,
        _move(Reason.UPGRADED, Effect.TO_SUCCESSOR),
        _CLOSED,
        _MOVED,
        _CLOSED,
    ),
    Event.REFUSED: (
        _NOTHING,
        _NOTHING,
        Rule(phase=Phase.OPEN, effects=(Effect.KEEP_REST,)),
        _NOTHING,
        _NOTHING,
        _NOTHING,
    ),
    Event.RESTORED: (
        _NOTHING,
        _NOTHING,
        Rule(phase=Phase.OPEN, effects=(Effect.PUT_BACK,)),
        _NOTHING,
        _NOTHING,
        _NOTHING,
    ),
    Event.FAILED: (_NOTHING, _NOTHING, _close(Reason.UPGRADE_FAILED), _NOTHING, _NOTHING, _NOTHING),
    Event.PEER_EOF: (_peer_eof, _peer_eof, _NOTHING, _peer_eof, _NOTHING, _NOTHING),
    Event.PEER_RESET: (
        Rule(reset=True),
        _reset_while_waiting,
        _NOTHING,
        _close(Reason.PEER_RESET),
        _NOTHING,
        _NOTHING,
    ),
    Event.PEER_GONE: (
        _close(Reason.PEER_EOF),
        _close(Reason.PEER_EOF),
        _NOTHING,
        _close(Reason.PEER_EOF),
        _NOTHING,
        _NOTHING,
    ),
    Event.PROTOCOL_ERROR: (
        _close(Reason.PROTOCOL_ERROR),
        _close(Reason.PROTOCOL_ERROR),
        _close(Reason.UPGRADE_FAILED),
        _close(Reason.PROTOCOL_ERROR),
        _NOTHING,
        _NOTHING,
    ),
    Event.IDLE_TIMEOUT: (
        _close(Reason.IDLE_TIMEOUT),
        _close(Reason.IDLE_TIMEOUT),
        _NOTHING,
        _NOTHING,
        _NOTHING,
        _NOTHING,
    ),
    Event.ACLOSE: (_drain, _drain, _close(Reason.LOCAL), _NOTHING, _NOTHING, _NOTHING),
    Event.DRAINED: (
        _BUSY,
        _BUSY,
        _BUSY,
        Rule(checks=(_over,), phase=Phase.CLOSED, reason=Reason.LOCAL, effects=(Effect.RELEASE, Effect.INTERRUPT)),
        _NOTHING,
        _NOTHING,
    ),
    Event.DRAIN_TIMEOUT: (_NOTHING, _NOTHING, _NOTHING, _close(Reason.DRAIN_TIMEOUT), _NOTHING, _NOTHING),
    Event.DRAIN_CANCELLED: (_NOTHING, _NOTHING, _NOTHING, _aborted, _NOTHING, _NOTHING),
    Event.ABORT: (_aborted, _aborted, _aborted, _aborted, _NOTHING, _NOTHING),
    Event.SCOPE_LEFT: (_drain, _drain, _NOTHING, _NOTHING, _NOTHING, _NOTHING),
    Event.SCOPE_DEADLINE: (
        _close(Reason.SCOPE_EXIT),
        _close(Reason.SCOPE_EXIT),
        _close(Reason.SCOPE_EXIT),
        _close(Reason.DRAIN_TIMEOUT),
        _NOTHING,
        _NOTHING,
    ),
    Event.SCOPE_CANCELLED: (_cancelled, _cancelled, _cancelled, _cancelled, _NOTHING, _NOTHING),
}


def _cells() -> Iterator[tuple[tuple[Phase, Event], Rule | Refuse]]:
    for event, row in _ROWS.items():
        for phase, answer in zip(_PHASES, row, strict=True):
            yield (phase, event), answer


TABLE: dict[tuple[Phase, Event], Rule | Refuse] = dict(_cells())
"""What each event leads to in each phase. Complete: every pair has an entry."""
