"""What a server's connection receives: the bodies of requests; the loop over it receives their heads.

A body is read out of the machine, and only where that has no more is something received. Before that, two things are
due to the client, and neither may be waited for, so that a read that is cancelled truncates nothing:

* what is held back in the output buffer: the client may wait for it before it sends on;
* 100 (Continue), if the client asked for it and waits (RFC 9110 §10.1.1). It is sent when the body is first *read*, and
  not when the request arrives: so a handler can refuse a body that it does not want before it is sent. There is a time
  after which that cannot be made good: once the final head has left without a 100, the client need not send the body
  any more, and a read would wait for ever. It is refused, unless the client did not wait after all, and some of the
  body is there.

Both are put into the output buffer and flushed; what the system does not take at once is for a service task.

A read of what is all there need not wait, and yet a task that never lets others run is unfair. So it yields once,
unless receiving has done that since the last time (`Cycle.has_yielded`): a request and its body that arrive together
cost one schedule point and not two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trio.lowlevel import cancel_shielded_checkpoint, checkpoint, enable_ki_protection

from ...errors import LocalProtocolError, RemoteProtocolError
from ...handle import guards
from ...ownership import Phase
from ...transport.protocol import MAX_RECEIVE
from ..protocol.body_reader import PIECES, EndOfMessage
from ..protocol.headers import Headers
from ..protocol.machine import Signal

if TYPE_CHECKING:
    from .cycle import Cycle, ExchangeUnderWay
    from .lookout import Lookouts
    from .output import ResponseOutput

__all__ = ["NO_TRAILERS", "RequestInput"]

NO_TRAILERS: Final = Headers()

_OPEN: Final = Phase.OPEN
_NEED_DATA: Final = Signal.NEED_DATA


class RequestInput:
    """The part of a connection that reads the body of the request."""

    __slots__ = ("_cycle", "_lookouts", "_output")

    def __init__(self, cycle: Cycle, output: ResponseOutput, lookouts: Lookouts) -> None:
        self._cycle = cycle
        self._output = output
        self._lookouts = lookouts

    @enable_ki_protection
    def take_body(self, exchange: ExchangeUnderWay, most: int) -> bytes | None:
        """The whole body, if all of it is there and nothing of it was read; else None. A step.

        The fast path of `read_into`.
        """
        cycle = self._cycle
        if cycle.exchange is not exchange or cycle.handle._life.state.phase is not _OPEN:
            return None
        body = cycle.machine.take_body(most)
        if body is not None:
            exchange._trailers = NO_TRAILERS
        return body

    @enable_ki_protection
    async def read_into(self, gathered: bytearray, exchange: ExchangeUnderWay, most: int) -> bool:
        """Add the rest of the body to what is `gathered`: whether all of it fits into the size `most`.

        What is known to be too long is not waited for, so that its client is not told to send it either.

        Cancellation: what has come is gathered.
        """
        pieces = 0
        waited = False
        while True:
            chunk = self.next_chunk(exchange)
            if chunk:
                gathered += chunk
                pieces += 1
                if not pieces % PIECES:
                    await checkpoint()
            missing = self._cycle.machine.body_left if chunk is None else 0
            if len(gathered) + missing > most:
                return False
            if chunk is None:
                waited = await self.receive(exchange)
            elif not chunk:
                break
        if not waited:
            await self.yield_once()
        return True

    @enable_ki_protection
    def next_chunk(self, exchange: ExchangeUnderWay) -> bytes | None:
        """The next piece of the body; empty at its end; None if more has to be received first. A step."""
        if exchange._trailers is not None:
            return b""
        cycle = self._cycle
        cycle.check(exchange, "read")
        try:
            event = cycle.machine.next_event()
        except RemoteProtocolError as exc:
            exc.handle = cycle.handle
            raise
        if type(event) is bytes:
            return event
        if event is _NEED_DATA:
            return None
        # Another signal: the connection has read it to its end, and dropped it.
        exchange._trailers = event.trailers if isinstance(event, EndOfMessage) else NO_TRAILERS
        self._lookouts.go_on()
        if cycle.is_responded:
            cycle.settle()
        return b""

    @enable_ki_protection
    async def yield_once(self) -> None:
        """Let other tasks run, unless receiving has done that since the last time."""
        cycle = self._cycle
        if cycle.has_yielded:
            cycle.has_yielded = False
        else:
            await cancel_shielded_checkpoint()

    @enable_ki_protection
    async def receive(self, exchange: ExchangeUnderWay) -> bool:
        """Receive once for the body of `exchange`: whether other tasks have had a turn meanwhile.

        Cancellation: not one byte is lost.
        """
        if self._lookouts.receiving is not None:
            await self._lookouts.stand_aside()
            return True  # what it has received may be enough
        cycle = self._cycle
        handle = cycle.handle
        guards.begin_receive(handle, exchange)
        try:
            if cycle.machine.awaits_continue and (data := self._invite_body()) is not None:
                cycle.received(data)
                return False
            if handle._life.state.unsent:
                self._output.flush()
            data = await handle._transport.receive_some(MAX_RECEIVE)
        except BaseException as exc:
            guards.receive_failed(handle, exc)
            raise
        finally:
            self._lookouts.go_on()
        cycle.received(data)
        return True

    @enable_ki_protection
    def _invite_body(self) -> bytes | None:
        """Tell a client that waits for 100 (Continue); what has come of the body already, if it is too late. A step.

        Raises:
            LocalProtocolError: it is too late, and nothing has come.
        """
        cycle = self._cycle
        try:
            line = cycle.machine.invite_body()
        except LocalProtocolError:
            if (data := cycle.handle._transport.receive_nowait(MAX_RECEIVE)) is None:
                raise
            return data
        self._output.put_first(line)
        return None
