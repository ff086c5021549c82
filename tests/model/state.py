"""The states of the model: one endpoint, the chain of its handles and capsules, two scopes, numbered bytes.

A `World` is an immutable value, so that the search can compare worlds and put them into sets. Everything that a task
would remember between two of its steps is a field here: who waits for what, whether he was woken, what a handshake
holds.
"""

from __future__ import annotations

from typing import NamedTuple

from trionet.ownership import Event, Phase, State, state_of

Bytes = tuple[int, ...]
"""The peer numbers its bytes 0, 1, 2 ..., so that a lost, doubled or overtaking byte shows."""

Life = State
"""What the machine says of a handle."""


ENDED = tuple(phase for phase in Phase if phase.terminal)
"""The phases in which a handle has ended: asked millions of times."""


class Wire(NamedTuple):
    """What a handshake in progress holds (`trionet.handle.wire.Wire`)."""

    consumed: Bytes = ()
    unread: Bytes = ()
    sent: bool = False
    ended: bool = False
    leased: bool = False


class Handle(NamedTuple):
    """A handle and the tasks that are inside one of its methods."""

    life: Life
    scope: int
    leftover: Bytes = ()
    reader: str = ""
    """The read in flight: ``receive``, ``peek``, or ``leased`` (one that belongs to a lease)."""
    reader_woken: bool = False
    writer: str = ""
    """The write in flight: ``send``, ``leased``, or ``eof``."""
    leases: int = 0
    door: str = ""
    """The task in `detach_when_idle`: it ``waits``, or it was woken and ``runs`` next."""
    drain: str = ""
    """The task that drains: ``waits``, ``runs`` next, or says ``goodbye``."""
    by_scope: bool = False
    """The scope drains, under its own deadline; otherwise a user's `aclose` does, under one of its own."""
    event: str = ""
    """Whose event the handle's one slot for a waiter holds: ``door`` or ``drain``."""
    parting: bool = False
    """The transport has a goodbye to say (TLS) and has not said it."""
    wire: Wire | None = None

    @property
    def phase(self) -> Phase:
        return self.life.phase

    @property
    def live(self) -> bool:
        return self.life.phase not in ENDED

    @property
    def quiet(self) -> bool:
        return self.life.quiet

    @property
    def poisoned(self) -> bool:
        return self.life.poisoned

    @property
    def must_wait(self) -> bool:
        if self.phase is Phase.DRAINING:
            return not self.drained
        return self.phase is Phase.CLAIMED

    @property
    def drained(self) -> bool:
        return self.phase is Phase.DRAINING and self.quiet and not (self.parting and not self.poisoned)


class Capsule(NamedTuple):
    """A detached connection (`trionet.handle.detached.Detached`)."""

    scope: int
    leftover: Bytes
    receive_ended: bool
    send_ended: bool
    live: bool = True


Node = Handle | Capsule


class World(NamedTuple):
    """Everything at one moment between two steps."""

    nodes: tuple[Node, ...]
    """The chain: each handle or capsule after the one that it succeeds."""
    members: tuple[tuple[int, ...], ...] = ((0,), ())
    """What each scope owns, as places in the chain."""
    scopes: tuple[str, ...] = ("open", "open")
    """Each scope is ``open``, ``leaving`` or ``closed``."""
    closes: int = 0
    """How often the endpoint was closed."""
    sent: int = 0
    """How many bytes the peer has sent."""
    kernel: Bytes = ()
    log: Bytes = ()
    """What was consumed for good, by the application or by a handshake, in that order."""
    peer: str = ""
    """``eof`` once the peer has ended its direction, ``reset`` once it has reset the connection, ``cut`` once it has
    ended it where its protocol has an end of its own."""
    heard_eof: bool = False
    """A task was told of the peer's EOF."""
    shut: bool = False
    """EOF went out."""
    poison: bool = False
    """A task was told of a reset, or has abandoned a send half-way: nothing may be built on the connection."""
    injected: bool = False
    """A handshake found plaintext in front of it: nobody may receive that any more."""

    @property
    def failure(self) -> Event | None:
        """The event by which a handle learns that the connection has failed, if it has."""
        return {"reset": Event.PEER_RESET, "cut": Event.PEER_CUT_OFF}.get(self.peer)


def beginning(life: Life | None = None) -> World:
    """One open handle, owned by the first of two scopes."""
    return World((Handle(life or state_of(), scope=0),))
