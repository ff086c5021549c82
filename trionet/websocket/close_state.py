"""How a WebSocket closes, as far as it does: the record that its handle and its parts have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from .close_codes import CloseReason

if TYPE_CHECKING:
    from ..errors import TrionetError
    from ..handle import Handle
    from ..ownership import Event

__all__ = ["CloseState"]


class CloseState:
    """Code and reason, from the first moment of a close on, and who began it.

    Attributes:
        reason: Code and reason of the close, once it has begun on either side; None before.
        to_say: Code and reason that this side's close frame has, unless it answers the peer's.
        cause: What ended the WebSocket, where that was not this side's own decision.
        violation: What the peer has done wrong, until it is raised.
        drain_code: The code of a close at a server's drain: 1001 (going away), or 1012 (service restart).
    """

    __slots__ = ("cause", "drain_code", "reason", "to_say", "violation")

    def __init__(self) -> None:
        self.reason: CloseReason | None = None
        self.to_say: tuple[int, str] = (1000, "")
        self.cause: Event | None = None
        self.violation: TrionetError | None = None
        self.drain_code = 1001

    def renewed(self) -> CloseState:
        """The record of the handle that a transfer makes: what becomes of that is not told of the one before."""
        state = CloseState()
        state.reason, state.to_say, state.cause, state.violation = self.reason, self.to_say, self.cause, self.violation
        state.drain_code = self.drain_code
        return state

    def broken(self) -> CloseReason:
        """The connection has failed or ended; without a close frame before, that is 1006 (RFC 6455 §7.1.5)."""
        if self.reason is None:
            self.reason = CloseReason(1006, None)
        return self.reason

    def raise_violation(self, handle: Handle) -> NoReturn:
        """Raise what the peer has done wrong, which is done once."""
        error, self.violation = self.violation, None
        assert error is not None
        try:
            raise error.with_handle(handle)
        finally:
            del error  # the frame must not keep its own traceback alive
