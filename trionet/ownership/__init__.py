"""The contract as data: who owns a connection, and what may happen to it.

Every handle carries one `Ownership` machine and asks it before anything happens to the connection. The machine knows
neither Trio nor I/O: an event goes in, and out come either the effects that the handle has to carry out or the refusal
that it has to raise. What happens in which phase stands in one table, `TABLE`, in which every pair of phase and event
is defined. The state diagrams of the documentation are drawn from it, and the tests search it exhaustively.

A reader of trionet starts here, with `words`, `state`, `table`, `machine` and `shortcuts`, in this order: all other
modules carry out what the table says.
"""

from .machine import Ownership
from .state import State, state_of
from .table import TABLE, Check, Rule
from .words import Blocker, Effect, End, Event, Phase, Reason, Receive, Refusal, Refuse, Send

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
    "State",
    "state_of",
]
