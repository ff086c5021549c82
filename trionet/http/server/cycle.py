"""One exchange after another: the machine of a server's connection, and the exchange that is under way on it.

All parts of the connection share this one. It does no I/O. It keeps what has to be decided in one place: whether an
exchange is the one under way; when both of its messages are complete, so that the next one can begin; and how a
response that will never be completed is ended so that its client sees that.

A part refers to the connection's handle, and the handle has its parts. That is a cycle, and reference counting would
never free it. So from the handle's end on the parts know it weakly (`let_go`). Whoever can still call one of them has
the handle: by `Exchange.connection`, or as the task that is inside of one of its methods.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from trio.lowlevel import enable_ki_protection

from ...errors import LocalProtocolError
from ...handle import guards
from ...ownership import Event, Phase
from ..protocol.body_reader import EndOfMessage
from ..protocol.states import H1State

if TYPE_CHECKING:
    from ...handle import Handle
    from ..protocol.head import RequestHead
    from ..protocol.headers import Headers
    from ..protocol.limits import HTTPLimits
    from ..protocol.server_machine import H1Server
    from .compression import Compression

__all__ = ["LARGE", "Cycle", "ExchangeUnderWay"]

LARGE: Final = 16384
"""Up to how many bytes a body is sent joined to its head; of a longer one that would be a copy worth sparing."""

_OPEN: Final = Phase.OPEN
_BODY: Final = H1State.BODY
_DONE: Final = H1State.DONE
_RESPONDED: Final = frozenset({H1State.DONE, H1State.MUST_CLOSE})


class ExchangeUnderWay(Protocol):
    """What the parts of a connection need to know of its `Exchange`, which stands above them."""

    status: int
    _head: RequestHead
    _trailers: Headers | None

    @property
    def eof_is_gone(self) -> bool | None:
        """As `Exchange.eof_is_gone`."""
        ...


class Cycle:
    """The machine and the exchange under way, for all parts of a connection.

    Attributes:
        handle: The connection; a weak proxy of it from its end on.
        machine: What is said, and when, without I/O.
        limits: Bounds.
        compression: Whether responses are compressed, and which.
        at_once: Up to how many bytes a body is sent without a further look; none where it may be compressed.
        exchange: The exchange under way, if any.
        truncated: Whether a response was given up in the middle, and the connection with it.
        response_ready: Whether the response that is being sent is all there: only its client is waited for.
        has_yielded: Whether receiving has let other tasks run since a body was read last: then that need not.
    """

    __slots__ = (
        "at_once",
        "compression",
        "exchange",
        "handle",
        "has_yielded",
        "limits",
        "machine",
        "response_ready",
        "truncated",
    )

    def __init__(
        self, handle: Handle, machine: H1Server, limits: HTTPLimits, compression: Compression | None = None
    ) -> None:
        self.handle = handle
        self.machine = machine
        self.limits = limits
        self.compression = compression
        self.at_once = LARGE if compression is None else -1
        self.exchange: ExchangeUnderWay | None = None
        self.truncated = False
        self.response_ready = False
        self.has_yielded = False

    @enable_ki_protection
    def let_go(self) -> None:
        """The handle has ended: from now on its parts do not keep it alive. A step, which is taken once.

        A proxy's `repr` is its own, so the parts write a handle with `str`.
        """
        self.handle = weakref.proxy(self.handle)

    # --- the exchange under way ----------------------------------------------------------------------------------

    @enable_ki_protection
    def check(self, exchange: ExchangeUnderWay, what: str) -> None:
        """Raise unless `exchange` is the one under way on a handle that has not ended."""
        phase = self.handle._life.state.phase
        if self.exchange is not exchange or (phase is not _OPEN and phase.terminal):
            self._refuse(exchange, what)

    def _refuse(self, exchange: ExchangeUnderWay, what: str) -> NoReturn:
        if self.handle._life.state.phase.terminal:
            self.handle._take(Event.SEND_LEASED)  # raises what the end of the handle means
        raise LocalProtocolError(f"{what} refused: {exchange!r} is over")

    @property
    def peer_failed(self) -> bool:
        """Whether the client has broken the protocol, or the connection has failed."""
        return self.machine.peer_state is H1State.BROKEN or self.handle._life.state.poisoned

    @property
    def is_responded(self) -> bool:
        """Whether the response is complete, or will be without its handler."""
        return self.machine.our_state in _RESPONDED or self.response_ready

    @enable_ki_protection
    def is_request_complete(self, exchange: ExchangeUnderWay) -> bool:
        """Whether nothing of the request has to be waited for any more. A step."""
        machine = self.machine
        if exchange._trailers is None and machine.peer_state is _BODY and machine.bodiless:
            event = machine.next_event()
            assert isinstance(event, EndOfMessage)
            exchange._trailers = event.trailers
        return machine.peer_state not in (_BODY, H1State.BROKEN)

    # --- its end -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    def settle(self) -> None:
        """End the exchange if both messages are complete, also where the connection ends with it. A step."""
        exchange, machine = self.exchange, self.machine
        if exchange is None or self.handle._life.state.phase.terminal:
            return
        if not self.is_request_complete(exchange) or machine.our_state not in _RESPONDED:
            return
        if machine.our_state is _DONE:
            machine.start_next_cycle()
        self.exchange = None
        self.handle._take(Event.LEASE_ENDED)

    @enable_ki_protection
    def undo_response(self, before: tuple[Any, ...]) -> None:
        """Forget the response that was begun since the machine's snapshot `before`; not a byte of it is out. A step."""
        self.machine.restore(before)
        life = self.handle._life
        if life.retiring:
            self.machine.end_soon()
        if life.state.phase is not _OPEN:
            self.machine.close_after_exchange()

    @enable_ki_protection
    def truncate(self, exchange: ExchangeUnderWay) -> None:
        """The response is never completed: end the connection so that the client sees that it is cut off. A step.

        Where nothing but the end of the connection would end the body, that end has to look like a failure.
        """
        handle = self.handle
        if self.exchange is not exchange or handle._life.state.phase.terminal:
            return
        if self.machine.ends_with_connection:
            handle._transport.spoil()
        self.truncated = True
        if handle._life.state.reset:
            handle._take(Event.ACLOSE)
        else:
            handle.abort()

    # --- what is received ----------------------------------------------------------------------------------------

    @enable_ki_protection
    def received(self, data: bytes) -> None:
        """A receive that `guards.begin_receive` has begun brought `data`, which is empty at EOF. A step."""
        handle = self.handle
        self.has_yielded = True
        if data:
            self.machine.receive(data)
            handle._bytes_received += len(data)
            guards.end_receive(handle)
        elif handle._life.state.reset:
            guards.end_receive(handle)
            raise handle._broken_error(f"receive failed: {handle}")
        else:
            handle._reader = handle._reader_lease = None
            self.machine.receive_eof()
            handle._take(Event.PEER_EOF)
