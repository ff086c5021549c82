"""One state of a handle: an immutable value, of which there is one object each.

So a state can be compared by identity, remembered, and used as a key; and nobody can change a handle but by giving its
machine another state.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from .words import Phase, Reason, Receive, Send

__all__ = ["State", "state_of"]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What the table's checks look at, and its rules change. Made by `state_of` alone."""

    phase: Phase
    reason: Reason | None
    receive: Receive
    send: Send
    leases: int
    unsent: bool
    """Bytes that a returned send left in a bounded output buffer."""
    reset: bool
    """The connection has failed: the peer has reset it, or cut it off."""
    cut_off: bool
    """It failed by an EOF where the protocol has an end of its own (TLS without close_notify), not by a reset."""
    quiet: bool = field(init=False)
    """Nothing is in progress: no reader, no writer, no lease, nothing unsent."""
    poisoned: bool = field(init=False)
    """A write was abandoned half-way, or the connection has failed: no layer can be built on it."""

    def __post_init__(self) -> None:
        busy = self.receive is Receive.BUSY or self.send is Send.BUSY
        object.__setattr__(self, "quiet", not (busy or self.leases or self.unsent))
        object.__setattr__(self, "poisoned", self.send is Send.BROKEN or self.reset)


_interned = functools.cache(State)


def state_of(
    *,
    phase: Phase = Phase.OPEN,
    reason: Reason | None = None,
    receive: Receive = Receive.IDLE,
    send: Send = Send.IDLE,
    leases: int = 0,
    unsent: bool = False,
    reset: bool = False,
    cut_off: bool = False,
) -> State:
    """The one object for this state; by default that of a handle which was just opened."""
    return _interned(phase, reason, receive, send, leases, unsent, reset, cut_off)
