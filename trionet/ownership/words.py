"""The words of the contract: phases, reasons, events, effects, refusals, and the records that users see."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import outcome

__all__ = ["Blocker", "Effect", "End", "Event", "Phase", "Reason", "Receive", "Refusal", "Refuse", "Send"]


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
    """MOVED: `end.successor` speaks the next protocol."""
    DETACHED = "detached"
    """MOVED: `end.successor` is the capsule."""
    TRANSFERRED = "transferred"
    """MOVED: `end.successor` is the handle in another scope."""
    LOCAL = "local"
    """Closed gracefully by this side: by `aclose`, at the end of a block, of a handler, or of the scope."""
    ABORTED = "aborted"
    """Closed at once: by `abort`, or because a graceful close was cancelled."""
    DRAIN_TIMEOUT = "drain timeout"
    """A graceful close was not through when its time was up."""
    UPGRADE_FAILED = "upgrade failed"
    """A handshake failed, or was cancelled, and could not be undone."""
    SCOPE_EXIT = "scope exit"
    """A handshake was still under way when the time of the scope's end was up."""
    SCOPE_CANCELLED = "scope cancelled"
    """The scope was cancelled, or what ran in it raised."""
    PEER_EOF = "peer eof"
    """The peer has ended the connection: by a FIN, or as its protocol ends one, such as by a WebSocket's close."""
    PEER_RESET = "peer reset"
    """The peer has reset the connection, or it failed."""
    PROTOCOL_ERROR = "protocol error"
    """The peer broke the protocol, or exceeded a limit."""
    IDLE_TIMEOUT = "idle timeout"
    """The peer was silent for too long."""

    __hash__ = object.__hash__


class Receive(enum.Enum):
    """The receive side of a handle."""

    IDLE = "idle"
    BUSY = "busy"
    EOF = "eof"

    __hash__ = object.__hash__


class Send(enum.Enum):
    """The send side of a handle."""

    IDLE = "idle"
    BUSY = "busy"
    SHUT = "shut"
    """EOF was sent."""
    BROKEN = "broken"
    """A write was abandoned half-way: the peer cannot find the next boundary."""

    __hash__ = object.__hash__


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
    ARRIVED_LEASE = "lease granted for input that had arrived"
    LEASE_ENDED = "lease ended"
    BUFFERED = "bytes put into the output buffer"
    FLUSHED = "output buffer empty"
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
    INJECTED = "plaintext injected into the handshake"
    PEER_EOF = "peer eof"
    PEER_RESET = "peer reset"
    PEER_CUT_OFF = "peer eof in the middle"
    PEER_GONE = "peer ended the protocol"
    PROTOCOL_ERROR = "protocol error"
    IDLE_TIMEOUT = "idle timeout"
    IDLE_CLOSE = "idle timeout, closed gracefully"
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

    __hash__ = object.__hash__


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
    """`outcome.Value` of the successor (None after a clean close), or `outcome.Error` with what ended the handle: a
    copy without its traceback, which would keep the handle in a cycle of garbage."""
