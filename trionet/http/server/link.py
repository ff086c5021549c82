"""Requests and answers over a transport: the part of a server's HTTP handle that receives and sends.

No task stands behind it. The task that handles an exchange receives and sends itself. What a client has pipelined is
answered in order: while a further request is already there, an answer waits in an output buffer. The buffer is bounded,
and leaves in one piece: before the next receive, or in the next scheduling turn if the handler takes longer than that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, enable_ki_protection

from ...errors import HandleBrokenError, LocalProtocolError
from ...handle import Handle
from ...handle.turn import Turn
from ...ownership import Event, Phase, Receive, Send
from ...transport.protocol import MAX_RECEIVE
from ..protocol.server_machine import H1Server
from ..protocol.states import H1State
from .lookout import Lookout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...handle.detached import Detached
    from ...transport.tls_info import TLSInfo
    from ..protocol.body_writer import Buffer
    from ..protocol.limits import HTTPLimits
    from .exchange import Exchange

__all__ = ["Link"]

MAX_UNSENT: Final = 65536
"""Bytes of answers that wait in the output buffer at most."""

_OPEN: Final = Phase.OPEN
_RECEIVE_IDLE: Final = Receive.IDLE
_SEND_IDLE: Final = Send.IDLE
_SEND_BUSY: Final = Send.BUSY
_DONE: Final = H1State.DONE


class Link(Handle):
    """A handle that moves requests and answers. Its subclasses decide what comes of their ends.

    Attributes:
        machine: What is said, and when, without I/O.
        exchange: The exchange under way, if any.
        limits: Bounds.
        parked: Whether receiving has let other tasks run since a body was read last: then that need not.
        answer_ready: Whether the answer that is being sent is all there: nothing but its client is waited for.
        lookout: Who waits for the client to go, in this exchange or behind the last one.
        looking: The lookout that is receiving, if one does.
    """

    __slots__ = (
        "_cut_off",
        "_out",
        "_out_size",
        "_sending",
        "answer_ready",
        "exchange",
        "limits",
        "looking",
        "lookout",
        "machine",
        "parked",
    )

    def __init__(self, capsule: Detached, limits: HTTPLimits) -> None:
        super().__init__(capsule)
        self.limits = limits
        self.machine = H1Server(bytes(self._leftover), limits)
        self._cut_off = False
        self.parked = False
        self._leftover.clear()
        if self._life.receive is Receive.EOF:
            self.machine.receive_eof()

    if TYPE_CHECKING:

        def tick(self, now: float) -> None:
            """Defined by `Ending`."""

    def _renew(self) -> None:
        super()._renew()
        self.exchange: Exchange | None = None
        self.answer_ready = False
        self.lookout: Lookout | None = None
        self.looking: Lookout | None = None
        # Answers that wait to be sent; whose turn it is to send them.
        self._out: list[bytes] = []
        self._out_size = 0
        self._sending = Turn()

    def _unread(self) -> bytes:
        return self.machine.unread()

    def _set_unread(self, data: bytes | bytearray) -> None:
        self.machine.replace_unread(bytes(data))

    @property
    def tls(self) -> TLSInfo | None:
        """Version, cipher, ALPN and peer certificate; None where the connection is not TLS."""
        return self._transport.tls

    @property
    def peer_failed(self) -> bool:
        """Whether the client has broken the protocol, or the connection has."""
        return self.machine.peer_state is H1State.BROKEN or self._life.poisoned

    @property
    def was_reset(self) -> bool:
        """Whether the connection has been reset, so that no answer can be sent."""
        return self._life.reset

    @enable_ki_protection
    def take_back(self, before: tuple[Any, ...]) -> None:
        """Forget the answer that was begun since the snapshot `before`; not a byte of it is out. A step."""
        self.machine.restore(before)
        if self._life.retiring:
            self.machine.end_soon()
        if self._life.phase is not _OPEN:
            self.machine.close_after_exchange()

    @enable_ki_protection
    def tear(self, exchange: Exchange) -> None:
        """The answer is never completed: end the connection so that the client sees that it is cut off. A step.

        Where nothing but the end of the connection would end the body, that has to look like a failure.
        """
        if self.exchange is not exchange or self._life.phase.terminal:
            return
        if self.machine.ends_with_connection:
            self._transport.spoil()
        self._cut_off = True
        if self._life.reset:
            self._take(Event.ACLOSE)
        else:
            self.abort()

    @enable_ki_protection
    def _took(self, data: bytes) -> None:
        """A receive brought `data`. A step."""
        self._reader = self._reader_lease = None
        self.parked = True
        life = self._life
        if data:
            self.machine.receive(data)
            self._bytes_received += len(data)
        elif life.reset:
            self._end_receive()
            raise self._broken_error(f"receive failed: {self!r}")
        else:
            self.machine.receive_eof()
            self._take(Event.PEER_EOF)
            return
        if life.phase is _OPEN:
            life.receive = _RECEIVE_IDLE
        else:
            self._take(Event.RECEIVE_ENDED)

    # --- bodies: for `Exchange` ----------------------------------------------------------------------------------

    @enable_ki_protection
    def check_exchange(self, exchange: Exchange, what: str) -> None:
        """Raise unless `exchange` is the one under way on a handle that has not ended."""
        if self._life.phase.terminal:
            self._take(Event.SEND_LEASED)  # raises
        if self.exchange is not exchange:
            raise LocalProtocolError(f"{what} refused: {exchange!r} is over")

    @enable_ki_protection
    def take_body(self, exchange: Exchange, most: int) -> bytes | None:
        """The whole body of `exchange`, if that is under way and nothing has to be waited for; else None. A step."""
        if self.exchange is not exchange or self._life.phase is not _OPEN:
            return None
        return self.machine.take_body(most)

    @enable_ki_protection
    async def receive_body(self, exchange: Exchange) -> bool:
        """Receive once for the body of `exchange`: whether other tasks have had a turn meanwhile.

        Nothing is waited for but the body. What is due before it, answers and a 100 (Continue), goes out beside that if
        the client does not take it at once: so a read can be cancelled at any time, and tears nothing.
        """
        if self.looking is not None:
            await self.looking.stand_aside()
            return True  # what it has received may be enough
        self._begin_receive(exchange)
        try:
            if self.machine.awaits_continue and (data := self._invite_body()) is not None:
                self._took(data)
                return False
            if self._life.unsent:
                self.flush()
            data = await self._transport.receive_some(MAX_RECEIVE)
        except BaseException as exc:
            self._receive_failed(exc)
            raise
        finally:
            if self.lookout is not None:
                self.lookout.go_on()
        self._took(data)
        return True

    @enable_ki_protection
    def _invite_body(self) -> bytes | None:
        """Tell a client that waits for 100 (Continue); what has come of the body already, if it is too late. A step.

        Raises:
            LocalProtocolError: it is too late, and nothing has come.
        """
        try:
            line = self.machine.invite_body()
        except LocalProtocolError:
            if (data := self._transport.receive_nowait(MAX_RECEIVE)) is None:
                raise
            return data
        self._out.append(line)
        self._out_size += len(line)
        self._life.unsent = True
        return None

    @enable_ki_protection
    def body_read(self) -> None:
        """The request is complete. A step."""
        if self.lookout is not None:
            self.lookout.go_on()
        if self.machine.our_state in (_DONE, H1State.MUST_CLOSE):
            self.settle_exchange()

    # --- answers: for `Exchange` ---------------------------------------------------------------------------------

    @enable_ki_protection
    def settle_exchange(self) -> None:
        """End the exchange if both messages are complete, also where the connection ends with it. A step."""
        exchange = self.exchange
        if exchange is None or self._life.phase.terminal:
            return
        machine = self.machine
        if not exchange.body_complete() or machine.our_state not in (_DONE, H1State.MUST_CLOSE):
            return
        if machine.our_state is _DONE:
            machine.start_next_cycle()
        self.exchange = None
        self._take(Event.LEASE_ENDED)

    # --- who waits for the client to go: for `Exchange` -----------------------------------------------------------

    @enable_ki_protection
    async def wait_client_gone(self, exchange: Exchange) -> None:
        """See `Exchange.wait_disconnected`."""
        if self._life.phase.terminal or self.exchange not in (None, exchange):
            await self.wait_ended()
            return
        lookout = self.lookout
        if lookout is None or lookout.exchange is not exchange:
            if lookout is not None:
                lookout.replace()
            self.lookout = lookout = Lookout(self, exchange)
        await lookout.wait()

    def was_told_gone(self, exchange: Exchange) -> bool:
        """Whether a task of this exchange was told that its client has gone: nobody waits for an answer."""
        lookout = self.lookout
        return lookout is not None and lookout.exchange is exchange and lookout.gone

    def is_unfinished(self, exchange: Exchange) -> bool:
        """Whether the answer of `exchange` has begun, is not complete, and there is somebody to read the rest."""
        if self.exchange is not exchange or self.machine.our_state is not H1State.BODY:
            return False
        return not (self._life.phase.terminal or self.peer_failed or self.was_told_gone(exchange))

    @enable_ki_protection
    def forget_lookout(self) -> None:
        """Keep nothing of an exchange where nobody waits any more, unless its tasks have been told. A step."""
        lookout = self.lookout
        if lookout is None or lookout.waiting:
            return
        if not (lookout.gone and lookout.exchange is self.exchange):
            self.lookout = None

    @enable_ki_protection
    def answer(self, data: bytes) -> int:
        """The answer that completes the exchange: how much is taken care of. A step; the rest is for `answer_rest`.

        If all of it is, the exchange is over: it is with the operating system or, where a further request is there
        already, in the output buffer.
        """
        life, machine = self._life, self.machine
        if life.phase is not _OPEN or life.send is not _SEND_IDLE or life.reset or self._sending.held:
            return 0
        if life.unsent or machine.has_unread:
            if self._out_size > MAX_UNSENT:
                return 0
            if not life.unsent:
                life.unsent = True
                self._owner.caretaker.flush_soon(self)
            self._out.append(data)
            self._out_size += len(data)
        else:
            try:
                sent = self._transport.send_some(data)
            except trio.BrokenResourceError as exc:
                self._peer_reset(exc)
                broken = HandleBrokenError(f"send failed: {self!r}: {exc}", 0).with_handle(self)
                assert self.exchange is not None
                self.tear(self.exchange)
                raise broken from exc
            self._bytes_sent += sent
            if sent < len(data):
                return sent
        self.exchange = None
        machine.start_next_cycle()
        life.leases -= 1
        return len(data)

    @enable_ki_protection
    async def answer_rest(self, data: bytes, sent: int, exchange: Exchange) -> None:
        """Send what `answer` has left of `data`."""
        if not sent:
            await self.send(data, exchange)
        else:
            self._begin_send(exchange)
            transport = self._transport
            transport.bytes_sent = 0
            try:
                with memoryview(data)[sent:] as rest:
                    await transport.send_all(rest)
            except BaseException as exc:
                more = self._transport.bytes_sent
                try:
                    self._send_failed(exc, None if more is None else sent + more)
                finally:
                    self.tear(exchange)
                raise
            self._bytes_sent += len(data) - sent
            self._end_send()
        self.settle_exchange()

    async def send(self, data: Buffer, exchange: Exchange | None) -> None:
        """Send `data`, behind what waits in the output buffer."""
        await self.send_parts([data] if len(data) else [], exchange)

    @enable_ki_protection
    async def send_parts(self, parts: Sequence[Buffer], exchange: Exchange | None) -> None:
        """Send `parts`, behind what waits in the output buffer. A schedule point."""
        if self._sending.held:
            try:
                await self._sending.wait()
            except BaseException:
                if exchange is not None:
                    self.tear(exchange)
                raise
        else:
            self._sending.held = True
        try:
            if self._out or parts:
                await self._send_parts([*self._out, *parts], len(self._out), exchange)
            else:  # another task has sent what there was, and the handle may be somebody else's by now
                await trio.lowlevel.checkpoint()
        finally:
            self._sending.release()

    @enable_ki_protection
    async def _send_parts(self, parts: Sequence[Buffer], waited: int, exchange: Exchange | None) -> None:
        self._begin_send(exchange or self)
        transport = self._transport
        transport.bytes_sent = 0
        try:
            if len(parts) == 1:
                await transport.send_all(parts[0])
            elif parts:
                await transport.send_vectored(parts)
            await cancel_shielded_checkpoint()
        except BaseException as exc:
            self._parts_failed(exc, waited, exchange)
            raise
        self._out_sent(waited)
        self._bytes_sent += sum(map(len, parts))
        self._end_send()

    @enable_ki_protection
    def _parts_failed(self, exc: BaseException, waited: int, exchange: Exchange | None) -> None:
        """A send was cut off. What the machine takes for said was not, so the answer is torn even if it was not begun.

        Answers that were put off, with nothing behind them, go out later if not a byte of them has. A step.
        """
        sent = self._transport.bytes_sent
        try:
            self._send_failed(exc, sent)
        finally:
            if exchange is not None:
                self.tear(exchange)
            elif sent != 0 or not self._transport.untouched:
                self._out_sent(waited)

    @enable_ki_protection
    def _out_sent(self, count: int) -> None:
        """The first `count` answers that waited are sent; what has come meanwhile goes out in the next turn."""
        del self._out[: None if self._life.poisoned else count]
        self._out_size = sum(map(len, self._out))
        self._life.unsent = bool(self._out)
        if self._out:
            self._owner.caretaker.flush_soon(self)

    async def flush_all(self, exchange: Exchange | None) -> None:
        """Send what waits in the output buffer; wait for who is sending it already."""
        if self._sending.held or self._out:
            await self.send_parts((), exchange)

    @enable_ki_protection
    def flush(self) -> None:
        """Send what waits in the output buffer, without waiting; what is not taken is for a service task. A step."""
        life = self._life
        if not self._out or self._sending.held or life.phase.terminal or life.send is not _SEND_IDLE or life.reset:
            return
        data = b"".join(self._out)
        try:
            sent = self._transport.send_some(data)
        except trio.BrokenResourceError as exc:
            self._peer_reset(exc)
            sent = len(data)
        self._bytes_sent += sent
        if sent < len(data):
            self._out, self._out_size = [data[sent:]], len(data) - sent
            self._owner.start_service(self._flush_service)
            return
        self._out_sent(len(self._out))
        life.send = _SEND_BUSY  # it was, within this step: whoever waits for the handle to be quiet is told
        self._end_send()

    async def _flush_service(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # they are on the handle's record
            await self.flush_all(None)
