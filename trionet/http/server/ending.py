"""How a server's HTTP connection ends, and how an exchange does that its handler has left.

Whatever ends it, the client is told if that can still be done: a response is completed or visibly truncated, an error
response stays readable, and every request that has arrived gets a response.

What is hard about it is the order. A close while input is unread makes the system reset the connection, and the reset
may take the last response away from the client. So:

* **An exchange** is finished in the order response, rest of the body, next request. The rest of a body is dropped
  within bounds (``drain_bytes``, ``drain_timeout``); beyond them the connection ends with this exchange, and lingers.
* **A graceful close** lets the exchange under way come to its end, and a request that has arrived for a loop that waits
  is given to it first: its client has every reason to expect a response. `Ending.begin` makes that response the last.
* **A server that drains** (`Handle._retire`) *looks first*: it takes what has arrived behind the present request before
  that is responded to. If there is another request, the present response must not say ``Connection: close``, or the
  client would take the other one for not received (RFC 9112 §9.6); if there is none, it has to say so. Looking later,
  between two requests, would be simpler, but then the last response has already promised that the connection goes on.
* **After an error response**, to something that is no request, the connection lingers: it ends its own direction, and
  drops what comes until the client ends its own (`transport.linger`).
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import checkpoint_if_cancelled, current_task, enable_ki_protection

from ...errors import HandleBrokenError, HandleClosedError, RemoteProtocolError, unraised
from ...handle import guards
from ...handle.taking import close_quiet
from ...ownership import Event, Phase, Reason, Receive, Refusal, Refuse
from ...transport.linger import linger
from ...transport.protocol import MAX_RECEIVE
from ..protocol.body_reader import PIECES, EndOfMessage
from ..protocol.states import H1State
from .error_response import error_text

if TYPE_CHECKING:
    from .cycle import Cycle, ExchangeUnderWay
    from .input import RequestInput
    from .lookout import Lookouts
    from .output import ResponseOutput

__all__ = ["Ending"]

_OPEN: Final = Phase.OPEN
_NOT_ANSWERED: Final = b"the request was not answered\n"
_REASONS: Final = {Event.PROTOCOL_ERROR: Reason.PROTOCOL_ERROR, Event.PEER_GONE: Reason.PEER_EOF}


class Ending:
    """The part of a connection that ends exchanges, and the connection.

    Attributes:
        handler: The task that works on the exchange under way.
    """

    __slots__ = ("_cycle", "_final", "_input", "_lingers", "_lookouts", "_output", "handler")

    def __init__(self, cycle: Cycle, input: RequestInput, output: ResponseOutput, lookouts: Lookouts) -> None:
        self._cycle = cycle
        self._input = input
        self._output = output
        self._lookouts = lookouts
        self.handler: Any = None
        # What ended the connection, where that was not this side's own decision; whether to wait for the client then.
        self._final: Event | None = None
        self._lingers = False

    # --- an exchange that its handler has left -------------------------------------------------------------------

    def handler_has_left(self) -> bool:
        """Whether the task of the exchange has ended, or is the one that asks."""
        task = self.handler
        return task is current_task() or inspect.getcoroutinestate(task.coro) == inspect.CORO_CLOSED

    def is_unfinished(self, exchange: ExchangeUnderWay) -> bool:
        """Whether the response has begun, is not complete, and there is somebody to read the rest."""
        cycle = self._cycle
        if cycle.exchange is not exchange or cycle.machine.our_state is not H1State.BODY:
            return False
        return not (cycle.handle._life.state.phase.terminal or cycle.peer_failed or self._lookouts.was_told(exchange))

    @enable_ki_protection
    async def finish(self, exchange: ExchangeUnderWay) -> None:
        """The handler asks for the next request: see this exchange to its end.

        Raises:
            HandleBusyError: another task works on the exchange.
            StopAsyncIteration: the client has gone.

        Cancellation: the exchange is under way as before, or its response is truncated.
        """
        handle = self._cycle.handle
        if handle._life.state.phase.terminal:
            return
        if not self.handler_has_left():
            raise handle._refusal(Refuse(Refusal.BUSY), Event.LEASE)
        try:
            await self._complete(exchange)
        except HandleBrokenError:  # the client has gone
            self._cycle.truncate(exchange)
            raise StopAsyncIteration from None
        except HandleClosedError:  # or is not waited for any more
            if not handle._life.state.phase.terminal:
                raise

    @enable_ki_protection
    async def _complete(self, exchange: ExchangeUnderWay) -> None:
        """Do what the handler has left undone."""
        cycle, output = self._cycle, self._output
        machine = cycle.machine
        if machine.our_state is H1State.HEAD:
            self._report_unanswered(exchange)
            await checkpoint_if_cancelled()
            rest = output.respond(exchange, 500, cycle.machine.error_fields, _NOT_ANSWERED)
            if rest is not None:
                await output.finish(exchange, *rest)
        elif machine.our_state is H1State.BODY:
            if self.is_unfinished(exchange):
                self._report_unanswered(exchange)
            cycle.truncate(exchange)
        if cycle.exchange is exchange and not cycle.handle._life.state.phase.terminal:
            await self._drop_body(exchange)

    @enable_ki_protection
    async def _drop_body(self, exchange: ExchangeUnderWay) -> None:
        """Read what is left of the request, within bounds; beyond them the connection ends with this exchange."""
        cycle = self._cycle
        if cycle.machine.keep_alive:
            await self._output.flush_all(exchange)
            with trio.move_on_after(cycle.limits.drain_timeout), suppress(RemoteProtocolError):
                await self._read_off(exchange)
        cycle.settle()
        if cycle.exchange is exchange:
            self._end_early()

    @enable_ki_protection
    async def _read_off(self, exchange: ExchangeUnderWay) -> None:
        """Read and drop the body until its end, or until there was too much of it."""
        cycle = self._cycle
        size = pieces = 0
        while size <= cycle.limits.drain_bytes and not cycle.is_request_complete(exchange):
            event = cycle.machine.next_event()
            if type(event) is bytes:
                size += len(event)
                pieces += 1
                if not pieces % PIECES:
                    await trio.lowlevel.checkpoint()
            elif not isinstance(event, EndOfMessage):
                await self._input.receive(exchange)

    @enable_ki_protection
    def _end_early(self) -> None:
        """The exchange is over although the request is not: the connection ends with it. A step."""
        machine = self._cycle.machine
        machine.disable_keep_alive()
        self._lingers = True
        if machine.peer_state is H1State.BROKEN:
            self._final = Event.PROTOCOL_ERROR
        self._cycle.exchange = None
        self._cycle.handle._take(Event.LEASE_ENDED)

    def _report_unanswered(self, exchange: ExchangeUnderWay) -> None:
        watcher = self._cycle.handle._watcher
        if watcher is not None and not self._cycle.peer_failed:
            watcher.left_unanswered(exchange)

    @enable_ki_protection
    def respond_for_handler(self, status: int = 500) -> None:
        """Nobody goes on with the exchange: respond in the place of its handler, or truncate what it began. A step."""
        cycle = self._cycle
        exchange, machine = cycle.exchange, cycle.machine
        if exchange is None or cycle.handle._life.state.phase.terminal:
            return
        if machine.our_state is H1State.BODY:
            cycle.truncate(exchange)
            return
        if machine.our_state is H1State.HEAD:
            machine.close_after_exchange()
            text = _NOT_ANSWERED if status == 500 else error_text(status)
            self._output.hold_back(machine.respond(status, cycle.machine.error_fields, text))
            exchange.status = status
        cycle.settle()
        if cycle.exchange is exchange:
            self._end_early()

    # --- the beginning of the connection's end -------------------------------------------------------------------

    @enable_ki_protection
    def begin(self) -> None:
        """No request follows the one under way, or the one that has arrived for a loop that waits. A step."""
        cycle = self._cycle
        if cycle.exchange is None:
            self._begin_between()
        else:
            if self.handler_has_left():
                self.respond_for_handler()
            cycle.machine.close_after_exchange()
        if not cycle.exchange:
            self._lookouts.stop()

    @enable_ki_protection
    def _begin_between(self) -> None:
        handle, machine = self._cycle.handle, self._cycle.machine
        machine.end_soon()
        if machine.has_unread and handle._life.state.receive is Receive.BUSY:
            handle._reader_lease = self  # whoever waits for the rest of a request is not called off

    @enable_ki_protection
    def scope_left(self) -> None:
        """The scope is left: as `begin`, and a handler that is responsible is named. A step."""
        exchange = self._cycle.exchange
        if exchange is not None and self._cycle.machine.our_state is H1State.HEAD and self.handler_has_left():
            self._report_unanswered(exchange)
        self.begin()

    @enable_ki_protection
    def take_arrived(self) -> None:
        """Take the requests that came behind the one under way, so that its response does not end the connection."""
        cycle = self._cycle
        handle, state, exchange = cycle.handle, cycle.handle._life.state, cycle.exchange
        if exchange is None or state.phase is not Phase.OPEN or state.receive is not Receive.IDLE or state.reset:
            return
        if not cycle.is_request_complete(exchange):
            return
        handle._life.look()
        try:
            data = handle._transport.receive_nowait(MAX_RECEIVE)
        except trio.BrokenResourceError as exc:
            guards.peer_reset(handle, exc)
            return
        if data:
            cycle.machine.receive(data)
            handle._bytes_received += len(data)

    def has_last_request(self) -> bool:
        """Whether a request, or the beginning of one, was taken by a loop that was told to end while it waited."""
        machine = self._cycle.machine
        return self._cycle.handle._life.state.phase is Phase.DRAINING and machine.ending and machine.has_unread

    # --- the end of the connection -------------------------------------------------------------------------------

    @enable_ki_protection
    async def refuse_request(self, exc: RemoteProtocolError) -> None:
        """Respond to what is no request, behind the responses that are due before it, and end the connection."""
        handle, machine = self._cycle.handle, self._cycle.machine
        handle._failure = unraised(exc)
        self._final = Event.PROTOCOL_ERROR
        self._lingers = True
        if machine.our_state is H1State.HEAD:
            text = f"{exc}\n".encode("utf-8", "backslashreplace")
            with suppress(HandleBrokenError, HandleClosedError):  # the client has gone, or takes nothing
                await self._output.send((machine.respond(exc.status_hint, machine.error_fields, text),), None)
        await handle.aclose()
        exc.handle = handle

    @enable_ki_protection
    def end_quietly(self) -> bool:
        """The connection is over, between two requests: whether it has ended; else it is for `aclose`. A step."""
        handle, machine = self._cycle.handle, self._cycle.machine
        if machine.peer_state is H1State.CLOSED:
            if not handle._life.state.unsent and not handle._transport.parting:
                handle._take(Event.PEER_GONE)
            else:
                self._final = Event.PEER_GONE
        else:
            self._lingers = self._client_sends_on()
        return self._close_at_once()

    @enable_ki_protection
    def _close_at_once(self) -> bool:
        """The fast path of `aclose`: nothing is in progress, and nothing is left to be said or waited for. A step."""
        handle = self._cycle.handle
        state = handle._life.state
        if state.phase is not _OPEN:
            return state.phase.terminal
        if not state.quiet or self.parting:
            return False
        close_quiet(handle)
        return True

    @enable_ki_protection
    def _client_sends_on(self) -> bool:
        """Whether there is input behind the last request: a close that leaves it unread resets the response away.

        It is received here, and dropped. EOF is no such input: then the client has nothing more to send. A step.
        """
        handle = self._cycle.handle
        if self._cycle.machine.has_unread:
            return True
        transport = handle._transport
        try:
            data = transport.receive_nowait(MAX_RECEIVE)
        except trio.BrokenResourceError as exc:
            guards.peer_reset(handle, exc)
            return False
        if data is None:
            return transport.parting and not transport.is_silent()  # a foreign stream cannot tell, so it lingers
        return bool(data)

    @property
    def parting(self) -> bool:
        """Whether the goodbye has yet to be said."""
        handle = self._cycle.handle
        return (self._lingers or handle._transport.parting) and not handle._life.state.poisoned

    async def goodbye(self) -> None:
        """Let a client that is still sending read the response; then what the transport says at its end."""
        handle = self._cycle.handle
        if self._lingers:
            await linger(handle._transport, end_sending=True)
            self._lingers = False
        if handle._transport.parting:
            await handle._transport.goodbye()
        if self._final is not None:
            handle._take(self._final)

    @property
    def reason_to_come(self) -> Reason | None:
        """The reason of an end that the client has brought about, and that is about to come; None if it is not."""
        return None if self._final is None else _REASONS.get(self._final)
