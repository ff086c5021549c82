"""The server's side of an HTTP/1.1 connection: a loop over exchanges.

The connection is a handle, and has parts. Each has a module of its own, to be read in this order:

* `cycle`: the machine without I/O, and the exchange under way; all others share it
* `output`: sending, and the output buffer for what is pipelined
* `lookout`: tasks that wait for the client to go, and receive to notice that
* `input`: receiving the bodies of requests, and 100 (Continue)
* `ending`: the ends of exchanges that their handlers have left, and of the connection
* `client_watch`: what the caretaker looks at, twice a second

`exchange` and `response_stream` are what a program sees of an exchange; they call the parts. This module has the loop,
which receives the heads of requests, and answers what the scope and the server ask of a handle.

The loop's fast path stands in `__anext__` itself, since it runs with each request: nothing waits to be sent, nobody
else receives, and the connection is not about to end. Then it is one receive, and the only place where a connection
that is kept for its next request waits. Everything else is left to `_receive_carefully`, which states the same rules
for all cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ...errors import HandleBrokenError, RemoteProtocolError, errors_on
from ...handle import Handle, guards
from ...ownership import Blocker, Event, Phase, Reason, Receive
from ...ownership.shortcuts import ARRIVED_LEASE, RECEIVE, RECEIVE_ENDED
from ...transport.protocol import MAX_RECEIVE
from ..protocol.head import RequestHead
from ..protocol.machine import Signal
from ..protocol.server_machine import H1Server
from ..protocol.states import H1State
from .client_watch import ClientWatch
from .cycle import Cycle
from .ending import Ending
from .error_response import PLAIN_TEXT, status_for
from .exchange import Exchange
from .input import RequestInput
from .lookout import Lookouts
from .output import ResponseOutput

if TYPE_CHECKING:
    from ...custody.owner import Owner
    from ...handle.detached import Detached
    from ...transport.tls_info import TLSInfo
    from ..protocol.limits import HTTPLimits
    from .compression import Compression

__all__ = ["HTTPServerConnection"]

MAX_IN_A_ROW: Final = 32
"""Pipelined requests that are given out before other tasks get their turn."""

_OPEN: Final = Phase.OPEN
_CLOSED: Final = Phase.CLOSED
_MOVED: Final = Phase.MOVED
_RECEIVE_IDLE: Final = Receive.IDLE
_RECEIVE_BUSY: Final = Receive.BUSY
_NEED_DATA: Final = Signal.NEED_DATA
_QUIET: Final = frozenset({Reason.LOCAL, Reason.DRAIN_TIMEOUT, Reason.PEER_EOF, Reason.IDLE_TIMEOUT})
"""Ends of a connection that are no failure of the loop over it."""


class HTTPServerConnection(Handle):
    """An HTTP/1.1 connection, as its server sees it: ``async for exchange in connection``. Made by `to_http_server`.

    An exchange that its handler leaves without a response is answered with 500 when the next one is asked for. At most
    one exchange is under way at any time.

    Iterating ends quietly when the connection is over between two requests: the client has ended or reset it, it was
    idle for too long, it was closed or moved, or it does not persist. It raises `RemoteProtocolError` when the client
    breaks the protocol, after an error response has been sent, and `HandleClosedError` when it was aborted.
    """

    __slots__ = (
        "_compression",
        "_cycle",
        "_ending",
        "_grace_ends",
        "_in_a_row",
        "_input",
        "_limits",
        "_lookouts",
        "_machine",
        "_output",
        "_turned",
        "_watch",
    )

    def __init__(self, capsule: Detached, limits: HTTPLimits, compression: Compression | None = None) -> None:
        self._limits = limits
        self._compression = compression
        self._machine = H1Server(capsule.leftover, limits)
        if capsule.receive_ended:
            self._machine.receive_eof()
        self._machine.error_fields = PLAIN_TEXT
        self._in_a_row = 0
        self._grace_ends = 0.0  # until when a next request is waited for although the connection is to end
        super().__init__(capsule)
        self._leftover.clear()

    def _renew(self) -> None:
        super()._renew()
        self._turned: trio.Event | None = None
        self._cycle = cycle = Cycle(self, self._machine, self._limits, self._compression)
        self._output = ResponseOutput(cycle)
        self._lookouts = Lookouts(cycle)
        self._input = RequestInput(cycle, self._output, self._lookouts)
        self._ending = Ending(cycle, self._input, self._output, self._lookouts)
        self._watch = ClientWatch(cycle, self._lookouts)

    @property
    def tls(self) -> TLSInfo | None:
        """Version, cipher, ALPN and peer certificate; None where the connection is not TLS."""
        return self._transport.tls

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """The work in progress on the handle; see `Handle.blockers`."""
        found = super().blockers
        exchange = self._cycle.exchange
        if exchange is None or self._life.state.phase.terminal:
            return found
        head, handler = exchange._head, self._ending.handler
        task = "" if handler is None else handler.name
        return (*found, Blocker(task, f"exchange ({head.method} {head.shown_target})", self._reader_since))

    # --- requests ------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        """Iterate over exchanges.

        Cancellation: not one byte is lost. It is a schedule point, except where the client has pipelined requests: then
        at least each 32nd time.
        """
        return self

    @enable_ki_protection
    async def __anext__(self) -> Exchange:
        cycle, life, machine, task, head = self._cycle, self._life, self._machine, None, None
        if cycle.exchange is not None or self._in_a_row >= MAX_IN_A_ROW:
            await self._pause()
        while True:
            if life.state.phase is not _OPEN and not self._ending.has_last_request():
                await self._leave_loop()
            try:
                if head is None:
                    head = machine.next_event()
            except RemoteProtocolError as exc:
                await self._ending.refuse_request(exc)  # noqa: ASYNC102, ASYNC120 - a cancellation outranks the error
                raise
            if type(head) is RequestHead:
                break
            if head is not _NEED_DATA or not machine.keep_alive:
                await self._end_quietly()
            task, head = current_task(), None
            if life.state.unsent or life.retiring or (busy := RECEIVE[life.state]) is None:
                await self._receive_carefully()
                continue
            life.state, self._reader, self._reader_since = busy, task, self._clock.current_time()
            try:
                data = await self._transport.receive_some(MAX_RECEIVE)
            except BaseException as exc:
                await self._request_failed(exc)  # noqa: ASYNC102 - a cancellation outranks the error
                raise
            if not data or (idle := RECEIVE_ENDED[life.state]) is None:
                self._took_last(data)
                continue
            self._bytes_received += len(data)
            life.state, self._reader, cycle.has_yielded = idle, None, True
            try:
                head = machine.receive_request(data)
            except RemoteProtocolError as exc:
                await self._ending.refuse_request(exc)  # noqa: ASYNC102, ASYNC120 - as above
                raise
        if (leased := ARRIVED_LEASE[life.state]) is not None and leased.phase is _OPEN:
            life.state = leased
        else:
            self._begin_carefully()
        cycle.exchange = exchange = Exchange(self, head)
        self._ending.handler = current_task() if task is None else task
        self._in_a_row = self._in_a_row + 1 if task is None else 0
        return exchange

    @enable_ki_protection
    async def _end_quietly(self) -> NoReturn:
        """The connection is over, between two requests. Other tasks need no turn if they had one in the receive."""
        if not self._ending.end_quietly():
            await self.aclose()
        elif not self._cycle.has_yielded:
            await trio.lowlevel.checkpoint()
        raise StopAsyncIteration

    @enable_ki_protection
    def _begin_carefully(self) -> None:
        """Grant the exchange its lease, also of a connection that ends with it: then its response says so. A step."""
        self._take(Event.ARRIVED_LEASE)
        if self._life.state.phase is not _OPEN:
            self._machine.close_after_exchange()

    @enable_ki_protection
    async def _pause(self) -> None:
        """Between two requests: finish the exchange that is left, and let other tasks run where pipelining does not."""
        if self._cycle.exchange is not None:
            await self._ending.finish(self._cycle.exchange)
        if self._in_a_row >= MAX_IN_A_ROW:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def _receive_carefully(self) -> None:
        """Receive once, whatever else is going on: something waits to be sent, or the connection is to end.

        It may return without having received; whether it was called for is looked at again then.
        """
        life = self._life
        was_unsent = life.state.unsent
        self._output.flush()
        if was_unsent and not life.state.unsent:
            return  # the usual end of a row of pipelined requests
        if self._lookouts.receiving is not None:
            await self._lookouts.stand_aside()
            return  # what it has received may be a request
        if life.state.unsent:
            await self._output.flush_all(None)
        if life.state.receive is Receive.IDLE and life.state.phase in (Phase.RESERVED, Phase.CLAIMED):
            return  # the loop waits for what becomes of it
        try:
            guards.begin_receive(self, self if self._ending.has_last_request() else None)
        except trio.ClosedResourceError:
            await self._leave_loop()  # noqa: ASYNC120 - a cancellation outranks the error
            return
        try:
            if life.retiring and not self._may_wait():
                data = await guards.receive_arrived(self, MAX_RECEIVE)
            else:
                data = await self._transport.receive_some(MAX_RECEIVE)
        except BaseException as exc:
            await self._request_failed(exc)  # noqa: ASYNC102 - as above
            raise
        self._took_last(data)

    @enable_ki_protection
    def _took_last(self, data: bytes) -> None:
        """A receive between two requests brought `data`, perhaps EOF, or while the handle was being closed. A step."""
        try:
            self._cycle.received(data)
        except HandleBrokenError:
            self._take(Event.ACLOSE)
            raise StopAsyncIteration from None

    async def _request_failed(self, exc: BaseException) -> None:
        """A receive between two requests ended with `exc`."""
        try:
            guards.receive_failed(self, exc)
        except trio.ClosedResourceError:
            await self._leave_loop()  # noqa: ASYNC120 - a cancellation outranks the error
        except HandleBrokenError:
            # The client has gone between two requests, with a reset: that is not a failure of this program.
            self._take(Event.ACLOSE)
            raise StopAsyncIteration from None

    @enable_ki_protection
    async def _leave_loop(self) -> None:
        """The handle ends, or is about to: wait for what becomes of it. Returns if it is open again."""
        while self._life.state.phase in (Phase.RESERVED, Phase.CLAIMED):
            if self._turned is None:  # else a wait that was cancelled has left it
                self._turned = trio.Event()
            await self._turned.wait()
        self._lookouts.stop()
        await trio.lowlevel.checkpoint()
        state = self._life.state
        if state.phase is _OPEN:
            return
        if state.phase is Phase.CLOSED and state.reason not in _QUIET and not self._cycle.truncated:
            raise self._closed_error(f"the loop over {self!r} was interrupted")
        raise StopAsyncIteration

    # --- the end -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close gracefully: finish the exchange under way, send what waits to be sent, release.

        A request that has arrived for a loop that waits, or has begun to, is given to it first. A handler that calls it
        within its exchange gives that up: the client gets a 500 if it has no response yet. See `Handle.aclose`.

        Cancellation: the handle is aborted (`ABORTED`).
        """
        self._check_run(Event.ACLOSE)
        self._ending.begin()
        await super().aclose()

    @enable_ki_protection
    def _scope_event(self, event: Event) -> None:
        """Take an event of the scope; see `Handle._scope_event`."""
        if event is Event.SCOPE_LEFT:
            self._ending.scope_left()
        super()._scope_event(event)

    @enable_ki_protection
    def _handler_failed(self, error: BaseException | None = None) -> None:
        """The handler has raised: its request is answered, or a response that was begun is truncated. A step.

        With 500; or with what fits the client's offence, if that is what `error` tells of.
        """
        self._check_run("handler failed")
        self._ending.respond_for_handler(max((status_for(own) for own in errors_on(self, error)), default=500))

    @enable_ki_protection
    def _retire(self, grace: float = 0.0) -> None:
        """Answer the requests that have arrived, or begun to; the last response says ``Connection: close``. A step.

        A client may have sent its next request, on a connection that was kept for it, before it learns that the server
        ends (RFC 9112 §9.5): so that is waited for `grace` seconds. See `Handle._retire`.
        """
        self._check_run("retire")
        if not self._life.retiring:
            self._ending.take_arrived()
            self._machine.end_soon()
        super()._retire(grace)

    def _stop_waiting(self) -> None:
        if not self._may_wait():
            super()._stop_waiting()

    def _may_wait(self) -> bool:
        """Whether a connection that is to end may wait for input: a request has begun, or the grace is not over."""
        if self._machine.has_unread:
            return True  # the rest of a head: `head_timeout` bounds that
        now = self._clock.current_time()
        if not self._grace_ends and self._life.grace:
            self._grace_ends = now + self._life.grace
        return now < self._grace_ends

    @property
    def _parting(self) -> bool:
        return self._ending.parting

    async def _goodbye(self) -> None:
        await self._ending.goodbye()

    @property
    def _ended_by_peer(self) -> Reason | None:
        return (None if self._life.state.reset else self._ending.reason_to_come) or super()._ended_by_peer

    # --- what the handle asks of its protocol --------------------------------------------------------------------

    @enable_ki_protection
    def _seat(self, owner: Owner, instead_of: Any = None) -> None:
        """As for every handle; and the owner's caretaker looks after it."""
        super()._seat(owner, instead_of)
        owner.caretaker.watch(self._watch)

    def _phase_changed(self, before: Phase) -> None:
        phase = self._life.state.phase
        if phase is _CLOSED or phase is _MOVED:
            self._owner.caretaker.unwatch(self._watch)
            self._lookouts.end()
            self._output.clear()
            self._cycle.let_go()
        if phase is _MOVED:
            self._forget_work()
        if self._turned is not None:
            self._turned.set()
            self._turned = None
        super()._phase_changed(before)

    @enable_ki_protection
    def _forget_work(self) -> None:
        """As `Member._forget_work`: the exchange refers to this handle, so that they would be garbage together."""
        self._cycle.exchange = None
        self._watch.forget_work()

    def _waits_for_asker(self) -> bool:
        return self._cycle.exchange is not None and self._reader is None and self._ending.handler is current_task()

    def _unread(self) -> bytes:
        return self._machine.unread()

    def _set_unread(self, data: bytes | bytearray) -> None:
        self._machine.replace_unread(bytes(data))

    def _lost_size(self) -> int:
        """What comes behind the last response is not lost: that told the client so (RFC 9112 §9.6)."""
        return 0 if self._machine.our_state is H1State.MUST_CLOSE else super()._lost_size()
