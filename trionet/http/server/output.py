"""What a server's connection sends: responses, in the order of their requests, and the buffer in which they may wait.

No task stands behind it: the task that handles an exchange sends its response itself. The usual response goes to the
operating system within one step (`ResponseOutput.respond`), and nobody waits.

Pipelining. A client may send requests without waiting for the responses. If each response were sent alone, every one
of them would cost a system call and, at the client, a wake-up; to send 16 together takes less than half of that. So a
response behind which a further request has already arrived is *held back* in the output buffer, and `respond` returns.
What is held back leaves in one piece, at whichever of these comes first:

* the loop over the connection has to receive, since no whole request is left (`flush`);
* other tasks have had a turn since (`Caretaker.flush_soon`): a handler may well wait between two responses;
* something is sent that does not fit into the buffer, or is longer, or comes in pieces: it goes out behind what is held
  back, in one vectored send;
* the buffer has `MAX_HELD_BACK` bytes.

While something is held back, `State.unsent` is set: so the handle counts as busy, and a graceful close, a detach and an
upgrade wait until it is out. A buffer without a bound, or one that only the next receive empties, would be simpler; but
a client that does not read could fill the first, and a slow handler would keep back what is ready in the second.

A send that is cut off in the middle truncates the response that it belongs to. If it was nothing but held-back
responses whose exchanges are over, and not a byte of them is out, then they go out later.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, enable_ki_protection

from ...errors import HandleBrokenError, RemoteProtocolError
from ...handle import guards
from ...handle.turn import Turn
from ...ownership import Event, Phase, Send
from ...ownership.shortcuts import BUFFERED, LEASE_ENDED
from ..protocol.states import H1State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...handle import Handle
    from ...transport.file_region import FileRegion
    from ..protocol.body_writer import Buffer
    from ..protocol.headers import HeaderInput, Headers
    from .cycle import Cycle, ExchangeUnderWay

__all__ = ["ResponseOutput"]

MAX_HELD_BACK: Final = 65536
"""Bytes of responses that are held back; one more response may come on top of them."""

_OPEN: Final = Phase.OPEN
_SEND_IDLE: Final = Send.IDLE
_DONE: Final = H1State.DONE
_LAST: Final = H1State.MUST_CLOSE


class ResponseOutput:
    """The part of a connection that sends.

    Attributes:
        size: Bytes that are held back.
    """

    __slots__ = ("_cycle", "_held_back", "_life", "_turn", "size")

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._life = cycle.handle._life
        self._held_back: list[bytes] = []
        self.size = 0
        self._turn = Turn()  # whose turn it is to send

    # --- whole responses -----------------------------------------------------------------------------------------

    @enable_ki_protection
    def respond(
        self, exchange: ExchangeUnderWay, status: int, headers: HeaderInput | Headers, body: bytes
    ) -> tuple[bytes, int] | None:
        """Respond to the request of `exchange`, as far as that can be done at once. A step.

        This is the fast path of `finish`: for a request that is read to its end, on a connection that is not closing
        yet, where the system takes all of the response or it is held back. Then the exchange is over. The last response
        of a connection is not held back: there is no other that could go with it.

        Returns:
            What is left for `finish`: the bytes of the response, and how many of them are sent. None if nothing is.
        """
        cycle, life = self._cycle, self._life
        machine, handle = cycle.machine, cycle.handle
        try:
            data = machine.respond(status, headers, body)
        except RemoteProtocolError as exc:
            exc.handle = handle
            raise
        exchange.status = status
        goes_on, state = machine.our_state is _DONE, life.state
        if machine.peer_state is not (_DONE if goes_on else _LAST) or state.send is not _SEND_IDLE:
            return data, 0
        if state.phase is not _OPEN or state.reset or self._turn.held:
            return data, 0
        buffer = machine.buffer
        if state.unsent or (goes_on and buffer.at != len(buffer.data)):
            if self.size > MAX_HELD_BACK or not goes_on:
                return data, 0
            self.hold_back(data)
        else:
            try:
                sent = handle._transport.send_some(data)
            except trio.BrokenResourceError as exc:
                raise self._failed_at_once(handle, exchange, exc) from exc
            handle._bytes_sent += sent
            if sent < len(data):
                return data, sent
        cycle.exchange = None
        if goes_on:
            machine.start_next_cycle()
        if (quiet := LEASE_ENDED[life.state]) is not None:
            life.state = quiet
        else:
            handle._take(Event.LEASE_ENDED)
        return None

    @enable_ki_protection
    def _failed_at_once(
        self, handle: Handle, exchange: ExchangeUnderWay, exc: trio.BrokenResourceError
    ) -> HandleBrokenError:
        guards.peer_reset(handle, exc)
        error = HandleBrokenError(f"send failed: {handle}: {exc}", 0).with_handle(handle)
        self._cycle.truncate(exchange)
        return error

    @enable_ki_protection
    async def finish(self, exchange: ExchangeUnderWay, data: bytes, sent: int) -> None:
        """Send what `respond` has left of the response of `exchange`, and end that if its request is read."""
        if sent:
            await self._send_rest(exchange, data, sent)
        else:
            await self.send((data,), exchange)
        self._cycle.settle()

    @enable_ki_protection
    async def _send_rest(self, exchange: ExchangeUnderWay, data: bytes, sent: int) -> None:
        """Send what the system has not taken at once. The response has begun, so it is this or truncation."""
        handle = self._cycle.handle
        guards.begin_send(handle, exchange)
        transport = handle._transport
        transport.bytes_sent = 0
        try:
            with memoryview(data)[sent:] as rest:
                await transport.send_all(rest)
        except BaseException as exc:
            more = handle._transport.bytes_sent
            try:
                guards.send_failed(handle, exc, None if more is None else sent + more)
            finally:
                self._cycle.truncate(exchange)
            raise
        handle._bytes_sent += len(data) - sent
        guards.end_send(handle)

    @enable_ki_protection
    async def respond_in_parts(
        self, exchange: ExchangeUnderWay, status: int, headers: HeaderInput | Headers, body: Buffer
    ) -> None:
        """Respond with a body that is not worth joining to the head: the parts leave in one vectored send."""
        machine = self._cycle.machine
        try:
            head = machine.send_head(status, headers, length=len(body))
        except RemoteProtocolError as exc:
            exc.handle = self._cycle.handle
            raise
        exchange.status = status
        parts = (head, machine.send_data(body), machine.send_end())
        await self.send([part for part in parts if len(part)], exchange)
        self._cycle.settle()

    # --- anything ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def send(
        self, parts: Sequence[Buffer], exchange: ExchangeUnderWay | None, file: FileRegion | None = None
    ) -> None:
        """Send `parts`, and then a part of a file, behind what is held back. A schedule point.

        Cancellation: nothing was sent, or the response of `exchange` is truncated.
        """
        if self._turn.held:
            try:
                await self._turn.wait()
            except BaseException:
                if exchange is not None:
                    self._cycle.truncate(exchange)
                raise
        else:
            self._turn.held = True
        try:
            if self._held_back or parts:
                await self._send_together([*self._held_back, *parts], len(self._held_back), exchange)
                if file is not None:
                    await self._send_together((), 0, exchange, file)
            elif file is not None:
                await self._send_together((), 0, exchange, file)
            else:  # another task has sent what there was, and the handle may be somebody else's by now
                await trio.lowlevel.checkpoint()
        finally:
            self._turn.release()

    @enable_ki_protection
    async def _send_together(
        self,
        parts: Sequence[Buffer],
        held_back: int,
        exchange: ExchangeUnderWay | None,
        file: FileRegion | None = None,
    ) -> None:
        """Send `parts`, or `file`; so many of the parts were held back."""
        handle = self._cycle.handle
        guards.begin_send(handle, exchange or handle)
        transport = handle._transport
        transport.bytes_sent = 0
        try:
            if len(parts) == 1:
                await transport.send_all(parts[0])
            elif parts:
                await transport.send_vectored(parts)
            elif file is not None and (sender := transport.file_sender) is not None:
                await sender.send_file(file)
            await cancel_shielded_checkpoint()
        except BaseException as exc:
            self._send_failed(handle, exc, held_back, exchange)
            raise
        if self._held_back:
            self._forget(held_back)
        handle._bytes_sent += sum(map(len, parts)) if file is None else len(file)
        guards.end_send(handle)

    @enable_ki_protection
    def _send_failed(
        self, handle: Handle, exc: BaseException, held_back: int, exchange: ExchangeUnderWay | None
    ) -> None:
        """A send was cut off. The machine takes the response for said: so it is truncated, also if it was not begun.

        Held-back responses with nothing behind them go out later if not a byte of them is out. A step.
        """
        sent = handle._transport.bytes_sent
        try:
            guards.send_failed(handle, exc, sent)
        finally:
            if exchange is not None:
                self._cycle.truncate(exchange)
            elif sent != 0 or not handle._transport.untouched:
                self._forget(held_back)

    # --- the output buffer ---------------------------------------------------------------------------------------

    @enable_ki_protection
    def hold_back(self, data: bytes) -> None:
        """Send `data` with what comes behind it, or in the next scheduling turn. A step."""
        if (unsent := BUFFERED[self._life.state]) is not None:
            self._life.state = unsent
            self._cycle.handle._owner.caretaker.flush_soon(self)
        self._held_back.append(data)
        self.size += len(data)

    @enable_ki_protection
    def put_first(self, data: bytes) -> None:
        """Send `data` with whatever is sent next: the caller sees to that. A step."""
        self._held_back.append(data)
        self.size += len(data)
        self._cycle.handle._take(Event.BUFFERED)

    @enable_ki_protection
    def _forget(self, count: int) -> None:
        """The first `count` entries are sent; what has come meanwhile goes out in the next turn."""
        del self._held_back[: None if self._life.state.poisoned else count]
        self.size = sum(map(len, self._held_back))
        if self._held_back:
            self._cycle.handle._owner.caretaker.flush_soon(self)
        else:
            self._cycle.handle._take(Event.FLUSHED)

    @enable_ki_protection
    def clear(self) -> None:
        """The connection has ended: nothing is sent any more. A step."""
        self._held_back = []
        self.size = 0

    async def flush_all(self, exchange: ExchangeUnderWay | None) -> None:
        """Send what is held back; wait for who is sending it already."""
        if self._turn.held or self._held_back:
            await self.send((), exchange)

    @enable_ki_protection
    def flush(self) -> None:
        """Send what is held back, without waiting; what the system does not take is for a service task. A step."""
        state = self._life.state
        if (
            not self._held_back
            or self._turn.held
            or state.phase.terminal
            or state.send is not _SEND_IDLE
            or state.reset
        ):
            return
        handle = self._cycle.handle
        data = b"".join(self._held_back)
        try:
            sent = handle._transport.send_some(data)
        except trio.BrokenResourceError as exc:
            guards.peer_reset(handle, exc)
            sent = len(data)
        handle._bytes_sent += sent
        if sent < len(data):
            self._held_back, self.size = [data[sent:]], len(data) - sent
            handle._owner.start_service(self._flush_service, handle)
            return
        self._forget(len(self._held_back))

    async def _flush_service(self, _: Handle) -> None:
        """Send what is held back, in a task of its own. It keeps the handle alive meanwhile."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # they are on the handle's record
            await self.flush_all(None)
