"""The states of an HTTP/1.1 connection as data, and everything that may change them.

A machine keeps two states: `our_state` for the messages that it writes, `peer_state` for those that it reads. They are
of one kind, since a message passes through the same stations whoever reads it; what differs between the sides is what
a machine does on the way. An exchange takes both directions from `IDLE` to `DONE`, and the connection is used again
when both are there. `TABLE` says what follows in which state, and has an entry for every pair: the next state, or None
where the transition is refused or cannot happen.

Why there are short cuts. A server goes through eight transitions for each request, and nearly all requests go the same
way, with nothing in between that anybody could observe: a head that arrives whole takes the reading direction through
BEGIN and HEAD at once, and the writing direction through BEGIN. Looking each of them up costs a method call and two
dict look-ups, which is more than the rest of the bookkeeping for such a request. So where a machine knows in which
state a direction is, it may assign the state that several transitions lead to. Such a state has a name here, and is
computed from the table by `follow`, so that it cannot contradict it. A method for each would be the plainer form, but
would bring back the call. What is left to be shown is that the direction really is in the state that the short cut
begins in: `tests/http/protocol/test_states.py` does, and refuses any other assignment to a state.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["BEGUN", "COMPLETE", "HEAD_COMPLETE", "LAST_COMPLETE", "NEXT", "TABLE", "H1State", "Transition", "follow"]


class H1State(enum.Enum):
    """Where one direction of the connection stands."""

    IDLE = "idle"
    """Between messages; not a byte of the next one is there."""
    HEAD = "head"
    """A head is due: its first bytes were read; or, in the direction that a server writes, a request waits."""
    BODY = "body"
    """The head is complete, the message is not."""
    DONE = "done"
    """The message is complete; the next one does not begin before both directions are here."""
    MUST_CLOSE = "must close"
    """The last message is complete, or there will be none: nothing follows but the end of the connection."""
    CLOSED = "closed"
    """EOF, between messages."""
    SWITCHED = "switched"
    """The connection speaks another protocol."""
    BROKEN = "broken"
    """A message is malformed, or truncated: its end cannot be found."""

    __hash__ = object.__hash__  # members are unique; the tables are asked often, and the hash of the name costs more


class Transition(enum.Enum):
    """What happens to a direction."""

    BEGIN = "first byte, or a response due"
    INFORM = "informational head"
    HEAD = "final head"
    END = "end of the message"
    NO_KEEP_ALIVE = "keep-alive disabled"
    CYCLE = "next exchange"
    SWITCH = "protocol switched"
    EOF = "eof"
    FAULT = "malformed or truncated"

    __hash__ = object.__hash__


_STATES: Final = tuple(H1State)
_IDLE, _HEAD, _BODY, _DONE, _MUST, _CLOSED, _SWITCHED, _BROKEN = _STATES

# One row a transition; the columns are the states, in their order. NO_KEEP_ALIVE lets a message that is under way
# be completed. A request may both offer to switch and ask for the end of the connection, so SWITCH leaves MUST_CLOSE.
TABLE: Final[dict[Transition, dict[H1State, H1State | None]]] = {
    transition: dict(zip(_STATES, row, strict=True))
    for transition, row in {
        Transition.BEGIN: (_HEAD, _HEAD, None, None, None, None, None, None),
        Transition.INFORM: (None, _HEAD, None, None, None, None, None, None),
        Transition.HEAD: (_BODY, _BODY, None, None, None, None, None, None),
        Transition.END: (None, None, _DONE, None, None, None, None, None),
        Transition.NO_KEEP_ALIVE: (_IDLE, _HEAD, _BODY, _MUST, _MUST, _CLOSED, _SWITCHED, _BROKEN),
        Transition.CYCLE: (None, None, None, _IDLE, None, None, None, None),
        Transition.SWITCH: (None, _SWITCHED, _SWITCHED, _SWITCHED, _SWITCHED, None, None, None),
        Transition.EOF: (_CLOSED, _BROKEN, _BROKEN, _CLOSED, _CLOSED, _CLOSED, _SWITCHED, _BROKEN),
        Transition.FAULT: (_BROKEN, _BROKEN, _BROKEN, _BROKEN, _BROKEN, _CLOSED, _SWITCHED, _BROKEN),
    }.items()
}
"""What each transition leads to in each state; None: it is refused there, or cannot happen."""


def follow(state: H1State, *transitions: Transition) -> H1State:
    """Where these transitions lead, one after the other.

    Raises:
        ValueError: the table has no entry for one of them.
    """
    for transition in transitions:
        after = TABLE[transition][state]
        if after is None:
            raise ValueError(f"{transition} does not happen in {state}")
        state = after
    return state


# Short cuts, each from the state that the one before it leads to. Between them a machine may leave stations out.
BEGUN: Final = follow(H1State.IDLE, Transition.BEGIN)
"""The first bytes of a head are there, or a response is due."""
HEAD_COMPLETE: Final = follow(BEGUN, Transition.HEAD)
"""A final head was read or written, at once."""
COMPLETE: Final = follow(HEAD_COMPLETE, Transition.END)
"""The message was read or written to its end, and the connection persists."""
LAST_COMPLETE: Final = follow(COMPLETE, Transition.NO_KEEP_ALIVE)
"""As `COMPLETE`, where the connection ends with the exchange."""
NEXT: Final = follow(COMPLETE, Transition.CYCLE)
"""The next exchange begins."""
