"""Whether a connection may carry another request: the proof, the probe, and the end of one that may not.

Theory of operation. A client that sends a request on a connection which the server is about to close loses it, and
cannot tell whether it was carried out; one that sends it where bytes of an earlier response are left takes them for the
answer. So a connection is used again only

1. with a *proof* by the exchange before: both messages complete, nothing received behind them, keep-alive agreed by
   both sides, no send torn (RFC 9112 §9.3, §9.6). The machine has it, and it is there as soon as the body has been read
   to its end: `reusable`;
2. after a *probe* right before the request, without waiting: the socket has neither EOF nor a byte to give (over TLS:
   records without data may have come, such as session tickets). `is_silent`.

What remains is the race with a close that is still on its way. That is what the one retry of `hop` is for.

A pool is not the only user of its connections. A task that got one from a response may send a request of its own on
it, or wait to detach it. Then it is *engaged*: the pool neither uses it nor ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trio.lowlevel import enable_ki_protection

from ...ownership import Event, Phase, Reason, Receive
from ..protocol.states import H1State
from .ending import finish_closing

if TYPE_CHECKING:
    from collections.abc import Callable

    from .io import ClientIO

__all__ = ["Reuse"]

_OPEN: Final = Phase.OPEN
_CHANGING: Final = frozenset({Phase.RESERVED, Phase.CLAIMED})
_RECEIVE_IDLE: Final = Receive.IDLE
_IDLE: Final = H1State.IDLE


class Reuse:
    """What a pool asks of a connection, and does to it, between two exchanges."""

    __slots__ = ("_io", "_on_end")

    def __init__(self, io: ClientIO) -> None:
        self._io = io
        self._on_end: Callable[[Any], None] | None = None

    @property
    def reusable(self) -> bool:
        """Whether a request can be sent now, as far as this side knows: the last exchange has left no doubt."""
        life, machine = self._io.handle._life, self._io.machine
        return (
            life.state.phase is _OPEN
            and not life.state.leases
            and machine.our_state is _IDLE
            and machine.peer_state is _IDLE
            and not machine.has_unread
            and not life.state.poisoned
        )

    @property
    def engaged(self) -> bool:
        """Whether somebody has it in hand: an exchange is under way, or it may be about to change hands."""
        life = self._io.handle._life
        return life.state.phase in _CHANGING or (life.state.phase is _OPEN and not life.state.quiet)

    @property
    def idle_since(self) -> float:
        """When the last exchange ended, on the clock of `trio.current_time`."""
        return self._io.idle_since

    def is_silent(self) -> bool:
        """See `HTTPClientConnection.is_silent`. A step."""
        handle = self._io.handle
        life = handle._life
        # Else a task may be waiting for what is looked at here: over TLS, looking is taking.
        idle = life.state.phase is _OPEN and life.state.receive is _RECEIVE_IDLE and not life.state.leases
        return idle and handle._transport.is_silent()

    def fit(self) -> bool:
        """Whether the next request can go out on it: it is reusable, and silent. A step."""
        return self.reusable and self._io.handle._transport.is_silent()

    # --- the end of an idle connection ---------------------------------------------------------------------------

    @enable_ki_protection
    def give_up(self, event: Event) -> None:
        """End the connection at once, for the reason that `event` gives. A step."""
        self._io.handle._take(event)

    @enable_ki_protection
    def part(self, reason: Reason) -> None:
        """End the connection, and say goodbye where there is one to be said, in a service task. A step."""
        handle = self._io.handle
        handle._take(Event.IDLE_CLOSE if reason is Reason.IDLE_TIMEOUT else Event.ACLOSE)
        finish_closing(self._io)

    def when_ended(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with the connection, a step that must not raise, once that has ended or moved."""
        self._on_end = callback

    def ended(self) -> None:
        """The connection has ended or moved. A step."""
        callback, self._on_end = self._on_end, None
        if callback is not None:
            callback(self._io.handle)
