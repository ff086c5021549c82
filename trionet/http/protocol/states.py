"""The states of an HTTP/1.1 connection as data.

Each machine keeps two of them: one for the messages that it reads, one for those that it writes. An exchange is a turn
of both from `IDLE` to `DONE`; the connection is used again when both are there. What happens in which state stands in
`TABLE`, in which every pair has an entry: the state that follows, or None where it cannot be.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["TABLE", "H1State", "Transition"]


class H1State(enum.Enum):
    """Where one direction of the connection stands."""

    IDLE = "idle"
    """Between messages; not a byte of the next one is there."""
    HEAD = "head"
    """A head is due: its first bytes were read; or, in the direction that a server writes, a request waits."""
    BODY = "body"
    """The head is through, the end is not."""
    DONE = "done"
    """The message is complete; the next one is not begun before both directions are here."""
    MUST_CLOSE = "must close"
    """The last message is complete, or there will be none: nothing but the end of the connection follows."""
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

# One row a transition; the columns are the states, in their order. NO_KEEP_ALIVE lets a message that is under way be
# completed.
TABLE: Final[dict[Transition, dict[H1State, H1State | None]]] = {
    transition: dict(zip(_STATES, row, strict=True))
    for transition, row in {
        Transition.BEGIN: (_HEAD, _HEAD, None, None, None, None, None, None),
        Transition.INFORM: (None, _HEAD, None, None, None, None, None, None),
        Transition.HEAD: (_BODY, _BODY, None, None, None, None, None, None),
        Transition.END: (None, None, _DONE, None, None, None, None, None),
        Transition.NO_KEEP_ALIVE: (_IDLE, _HEAD, _BODY, _MUST, _MUST, _CLOSED, _SWITCHED, _BROKEN),
        Transition.CYCLE: (None, None, None, _IDLE, None, None, None, None),
        Transition.SWITCH: (None, _SWITCHED, _SWITCHED, _SWITCHED, None, None, None, None),
        Transition.EOF: (_CLOSED, _BROKEN, _BROKEN, _CLOSED, _CLOSED, _CLOSED, _SWITCHED, _BROKEN),
        Transition.FAULT: (_BROKEN, _BROKEN, _BROKEN, _BROKEN, _BROKEN, _CLOSED, _SWITCHED, _BROKEN),
    }.items()
}
"""What each transition leads to in each state; None: it is refused there, or cannot happen."""
