"""What a handle remembers of itself: the fields that the table's checks look at and its rules change."""

from __future__ import annotations

from typing import Self

from .words import Phase, Reason, Receive, Send

__all__ = ["State"]


class State:
    """The state of one handle. Mutable, because it is read on every operation; `snapshot` gives it as a value."""

    __slots__ = (
        "cut_off", "grace", "leases", "looked", "phase", "reason", "receive", "reset", "retiring", "send", "unsent"
    )  # fmt: skip

    def __init__(self, receive: Receive = Receive.IDLE, send: Send = Send.IDLE) -> None:
        self.phase: Phase = Phase.OPEN
        self.reason: Reason | None = None
        self.receive: Receive = receive
        self.send: Send = send
        self.leases: int = 0
        self.unsent: bool = False
        """Bytes that a returned send left in a bounded output buffer."""
        self.reset: bool = False
        """The connection has failed: the peer has reset it, or cut it off."""
        self.cut_off: bool = False
        """It failed by an EOF where the protocol has an end of its own (TLS without close_notify), not by a reset."""
        self.retiring: bool = False
        """The handle closes gracefully as soon as its user waits for input: set from outside, when a server drains."""
        self.looked: bool = False
        """A handle that retires has taken what had arrived by then: that is done once."""
        self.grace: float = 0.0
        """Seconds for which a handle that retires may wait for a next request all the same."""

    def snapshot(self) -> tuple[Phase, Reason | None, Receive, Send, int, bool, bool, bool]:
        """The whole state as an immutable value."""
        return (self.phase, self.reason, self.receive, self.send, self.leases, self.unsent, self.reset, self.cut_off)

    @classmethod
    def from_snapshot(cls, snapshot: tuple[Phase, Reason | None, Receive, Send, int, bool, bool, bool]) -> Self:
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
            machine.cut_off,
        ) = snapshot
        return machine

    @property
    def quiet(self) -> bool:
        """Nothing is in progress: no reader, no writer, no lease, nothing unsent."""
        return self.receive is not Receive.BUSY and self.send is not Send.BUSY and not self.leases and not self.unsent

    @property
    def poisoned(self) -> bool:
        """A write was abandoned half-way, or the connection has failed: no layer can be built on it."""
        return self.send is Send.BROKEN or self.reset
