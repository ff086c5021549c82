"""The transition table: for each event, what it leads to in each phase.

The problem it solves: several tasks, the peer and the scope may want something of one connection at any time, and each
pair of wishes has to have an answer that somebody has thought about. So every pair of event and phase has an entry
(`TABLE` is complete), which is one of three: a refusal, with the kind of error that it becomes; a rule, which changes
fields of the state and names effects; or an empty rule, where the event is fine and there is nothing to do.

How to read it. A row is an event, a column a phase. The phase is what matters to nearly all events; what else matters
stands in the *checks* of a rule, which are asked in order, and each says what the answer is where it does not hold.
Three kinds of events differ in what is refused:

* commands of a user's task (receive, detach, upgrade ...) are refused with an error that tells why;
* ends of operations and leases are never refused: they have happened. Where nothing of the kind is in progress any more
  (the handle has ended meanwhile) they do nothing;
* acts of the peer and of the scope are never refused either, and do nothing once the handle has ended.

Three ideas keep it small. *Quiet*: whoever waits for the work in progress to end (a detach, a close) is not told by
each end of an operation but by one event, `QUIET`, which follows by itself where a rule `settles`. *First reason wins*:
a rule that closes a handle which has a reason already does not change it, so nobody has to ask before. *Effects are
named and not done here*: the table needs no Trio and can be searched, which the tests do exhaustively; and the handle
carries all effects of one event out in one step, so that nobody sees a state between two rows.

Rejected: guards at each verb (each knew some pairs, and the two that nobody knew were the bugs); a phase for each
combination of sides and leases (hundreds of columns that say the same).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from .words import Effect, Event, Phase, Reason, Receive, Refusal, Refuse, Send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .state import State

__all__ = ["TABLE", "Check", "Rule"]


@dataclass(frozen=True, slots=True)
class Check:
    """A condition of a rule: where it does not hold, `otherwise` is the answer (a refusal, or an empty rule)."""

    name: str
    holds: Callable[[State], bool]
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
    unsent: bool | None = None
    reset: bool = False
    cut_off: bool = False
    effects: tuple[Effect, ...] = ()
    settles: bool = False
    """Afterwards the handle may have become quiet: `Event.QUIET` follows if it has."""


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
_still_whole = Check("not failed before", lambda o: not o.reset, _NOTHING)
_whole_close = Check(
    "not cut off by the peer",
    lambda o: not o.cut_off,
    Rule(phase=Phase.CLOSED, reason=Reason.PEER_EOF, effects=(Effect.RELEASE, Effect.INTERRUPT)),
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
_lease = Rule(leases=1)
_lease_ended = Rule(checks=(_leased,), leases=-1, settles=True)
_buffered = Rule(unsent=True)
_flushed = Rule(unsent=False, settles=True)
_drain = Rule(
    checks=(_whole_close, _unbroken_close),
    phase=Phase.DRAINING,
    effects=(Effect.WAKE_READER, Effect.WAKE_WAITER, Effect.DRAIN),
)
_drain_idle = replace(_drain, reason=Reason.IDLE_TIMEOUT)
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
    Event.LEASE: (_lease, _BUSY, _BUSY, _CLOSED, _MOVED, _CLOSED),
    # What came before a graceful close began is still worked on: a server's last request.
    Event.ARRIVED_LEASE: (_lease, _BUSY, _BUSY, _lease, _MOVED, _CLOSED),
    Event.LEASE_ENDED: (_lease_ended, _lease_ended, _lease_ended, _lease_ended, _NOTHING, _NOTHING),
    Event.BUFFERED: (_buffered, _buffered, _buffered, _buffered, _NOTHING, _NOTHING),
    Event.FLUSHED: (_flushed, _flushed, _flushed, _flushed, _NOTHING, _NOTHING),
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
    # Whether anything was sent or not: a program that catches the error and goes on must not find the injected command.
    Event.INJECTED: (_NOTHING, _NOTHING, _close(Reason.UPGRADE_FAILED), _NOTHING, _NOTHING, _NOTHING),
    Event.PEER_EOF: (_peer_eof, _peer_eof, _NOTHING, _peer_eof, _NOTHING, _NOTHING),
    Event.PEER_RESET: (
        Rule(reset=True),
        _reset_while_waiting,
        _NOTHING,
        _close(Reason.PEER_RESET),
        _NOTHING,
        _NOTHING,
    ),
    Event.PEER_CUT_OFF: (
        Rule(checks=(_still_whole,), reset=True, cut_off=True),
        Rule(checks=(_still_whole,), phase=Phase.OPEN, reset=True, cut_off=True, effects=(Effect.WAKE_WAITER,)),
        _NOTHING,
        _close(Reason.PEER_EOF),
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
        _close(Reason.IDLE_TIMEOUT),
        _NOTHING,
        _NOTHING,
    ),
    Event.IDLE_CLOSE: (_drain_idle, _drain_idle, _close(Reason.IDLE_TIMEOUT), _NOTHING, _NOTHING, _NOTHING),
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
