"""The WebSocket handle: the vocabulary of trio-websocket, on a connection with exactly one owner.

A `WebSocket` is its public verbs and questions, and what its scope asks of it. It has an engine, which is the protocol
without I/O, and parts that move the engine's bytes: a `MessageSender`, a `MessageReceiver`, a `CloseHandshake` and a
`Keepalive`. What they all know of the end is in a `CloseState`. The parts keep no reference to the handle: it is given
to them with each call. So a WebSocket that is over is no cycle of garbage, and is freed at once.

Receiving and sending have fast paths here, for a message that is there already and for one that nothing stands in the
way of. What holds in any case is said in `MessageReceiver.next_message` and `MessageSender.send`; tests compare both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import trio
import trio_websocket
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task, enable_ki_protection
from trio_websocket import Endpoint

from ..errors import HandleBusyError, HandleMovedError, LocalProtocolError
from ..handle import Handle, refusals
from ..ownership import Event, Phase, Reason, Receive
from ..ownership.shortcuts import SEND
from ..support.generators import close_generator
from .attendance import Attendance
from .close_codes import CLEAN, CloseReason, ConnectionBroken, ConnectionClosed, check_close
from .close_handshake import TOO_SLOW, CloseHandshake
from .close_state import CloseState
from .fragments import ABANDONED, Fragments, check_parts, send_in_fragments
from .keepalive import Keepalive, WebSocketStatistics
from .protocol.frames import MAX_CONTROL, PING, PONG
from .receiving import MessageReceiver
from .sending import YIELD_EVERY, MessageSender

if TYPE_CHECKING:
    from ..custody.owner import Owner
    from ..handle.detached import Detached
    from ..handle.recipe import Recipe
    from ..http.protocol.headers import Headers
    from .fragments import Parts
    from .keepalive import KeepaliveOptions
    from .protocol.deflate import PerMessageDeflate
    from .protocol.engine import Engine
    from .protocol.reader import Message

__all__ = ["WebSocket"]

_OPEN: Final = Phase.OPEN
_MOVED: Final = Phase.MOVED


class WebSocket(Handle, trio.abc.AsyncResource):
    """A WebSocket connection, with exactly one owner; made by `to_websocket_server` and `to_websocket_client`.

    Any number of tasks may receive and send: they get their turns in the order of asking. Names and meanings are those
    of `trio_websocket.WebSocketConnection`.

    While no task receives, what has come is taken in twice a second: pings and the peer's close are answered, messages
    are kept until they have more than `max_message_size` bytes (1 MiB if that is None) or are more than 65,536. Then
    TCP makes the peer wait. On a Trio stream that trionet did not open itself this needs a task that receives.
    """

    __slots__ = ("_attendance", "_close_handshake", "_closing", "_engine", "_headers", "_keepalive_options",
                 "_path", "_receiver", "_sender", "_subprotocol")  # fmt: skip

    def __init__(
        self,
        capsule: Detached,
        engine: Engine,
        *,
        path: str,
        subprotocol: str | None,
        headers: Headers,
        keepalive: KeepaliveOptions | None = None,
    ) -> None:
        self._path = path
        self._subprotocol = subprotocol
        self._headers = headers
        self._engine = engine
        self._closing = CloseState()
        self._keepalive_options = keepalive
        super().__init__(capsule)

    def _renew(self) -> None:
        """The parts begin anew: a task that waits for its turn, or for a pong, does so on the handle before."""
        super()._renew()
        before = getattr(self, "_sender", None)
        if before is not None:
            self._closing = self._closing.renewed()
        engine, closing = self._engine, self._closing
        self._sender = sender = MessageSender(engine, closing, before)
        self._close_handshake = CloseHandshake(engine, closing, sender)
        receiver = getattr(self, "_receiver", None)
        self._receiver = MessageReceiver(engine, closing, sender, self._close_handshake, receiver)
        keepalive = Keepalive(self._keepalive_options, sender, self._receiver.pings, closing)
        attended = getattr(self, "_attendance", None)
        self._attendance = sender.attendance = Attendance(self, sender, self._receiver, keepalive, attended)

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> CloseReason | None:
        """Code and reason of the close, once it has begun on either side; None before."""
        return self._closing.reason

    @property
    def is_client(self) -> bool:
        """Whether this is the client's side."""
        return self._engine.writer.client

    @property
    def is_server(self) -> bool:
        """Whether this is the server's side."""
        return not self._engine.writer.client

    @property
    def path(self) -> str:
        """The target of the handshake's request: path and query."""
        return self._path

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on, if any."""
        return self._subprotocol

    @property
    def compression(self) -> PerMessageDeflate | None:
        """What was agreed on for the compression of messages; None if they are not compressed."""
        return self._engine.compression

    @property
    def handshake_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields of the peer's part of the handshake, in order, names in lower case."""
        return tuple((name.lower(), value) for name, value in self._headers.raw)

    @property
    def local(self) -> Endpoint | str:
        """This side's endpoint; a text for connections without host and port."""
        return self._endpoint(self._local_address)

    @property
    def remote(self) -> Endpoint | str:
        """The peer's endpoint; a text for connections without host and port."""
        return self._endpoint(self._remote_address)

    def _endpoint(self, address: Any) -> Endpoint | str:
        match address:
            case (str(host), int(port), *_):
                return Endpoint(host.partition("%")[0], port, self._transport.tls is not None)
            case _:
                return repr(self)

    # --- receiving -----------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def get_message(self) -> Message:
        """The next message: str for text, bytes for binary. Further tasks that ask wait for their turn.

        Messages that came before the peer's close are still given; those that nobody took before a close on this side
        are dropped.

        Raises:
            ConnectionClosed: the WebSocket is closed or closing, or was closed meanwhile; `reason` says by which code.
                1006 if the connection ended or failed without a close.
            RemoteProtocolError, LimitExceededError: the peer has broken the protocol, or exceeded `max_message_size`.
                Raised once. A close frame (1002, 1007 or 1009) is on its way; the handle ends (`PROTOCOL_ERROR`).
            HandleMovedError: the connection lives on in another handle.

        Cancellation: no message is lost.

        Source: RFC 6455 §5.4, §5.6, §6.2.
        """
        receiver = self._receiver
        messages = receiver.messages
        if messages and not receiver.turn.held and receiver.stream is None and self._life.state.phase is not _MOVED:
            await checkpoint_if_cancelled()
            message = messages.popleft()
            receiver.taken += 1
            if receiver.taken >= YIELD_EVERY:
                receiver.taken = 0
                await cancel_shielded_checkpoint()
            return message
        return await receiver.next_message(self)

    def __aiter__(self) -> Self:
        """Iterate over messages.

        Ends quietly when the WebSocket was moved, closed on this side, or closed by the peer with 1000, 1001 or no
        code. Raises otherwise, as `get_message`.
        """
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.get_message()
        except HandleMovedError:
            raise StopAsyncIteration from None
        except trio_websocket.ConnectionClosed as exc:  # a subclass may raise that itself
            if exc.reason is not None and (exc.reason.code in CLEAN or self._closed_here):
                raise StopAsyncIteration from None
            raise

    # --- sending -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def send_message(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: str as text, anything else as binary. It is with the operating system when this returns.

        Tasks that send at the same time get their turns in the order of asking, message by message.

        Raises:
            ConnectionClosed: the WebSocket is closed or closing, or was closed meanwhile.
            HandleBrokenError: an earlier message was abandoned half-way, or the connection failed. It is a
                `ConnectionClosed` too.
            HandleMovedError: the connection lives on in another handle.
            HandleBusyError: the task is itself in the middle of `send_fragments`, whose end it would wait for.
            TypeError: it is neither str nor bytes-like.
            LocalProtocolError: text with lone surrogates; nothing was sent.

        Cancellation: the message is whole, or was not begun. If it was cut off half-way the send side is broken: every
        later send raises `HandleBrokenError` with `bytes_sent`, so none can be swallowed by the torn frame. It is a
        schedule point unless a receive on this handle has let other tasks run since the previous send.

        Source: RFC 6455 §5.4, §6.1.
        """
        sender = self._sender
        if (
            SEND[self._life.state] is None
            or sender.frame_turn.held
            or sender.message_turn.held
            or sender.unsent
            or sender.writer.pongs
            or self._receiver.messages
        ):
            await sender.send(self, message)
            return
        await checkpoint_if_cancelled()
        frame = sender.writer.message(message)
        try:
            sent = self._transport.send_some(frame)
        except trio.BrokenResourceError as exc:
            sender.failed_at_once(self, exc)
        if sent == len(frame) and sender.yielded:
            sender.yielded = False
            self._bytes_sent += sent
        else:
            await sender.finish(self, frame, sent)

    @enable_ki_protection
    async def send_fragments(self, parts: Parts) -> None:
        """Send one message in parts: each leaves as soon as it is there, as a frame of its own.

        Other messages wait until it is complete; pings and pongs do not.

        Args:
            parts: An iterable, or asynchronous iterable, of str for a text message, or of bytes-like for a binary one;
                at least one.

        Raises:
            TypeError, ValueError: it is a single message, has no part, or parts of both kinds.
            ConnectionClosed, HandleBrokenError, HandleMovedError, HandleBusyError, LocalProtocolError: as
                `send_message`.
            Whatever `parts` raises.

        If it raises behind the first part, the WebSocket is closed with 1011: the peer never sees a valid end. So it is
        if what makes the parts calls `aclose`.

        Cancellation: the message was not begun; or, behind the first part, the WebSocket is closed as for an error.

        A generator is closed when this returns or raises, also where it was refused.

        Source: RFC 6455 §5.4.
        """
        check_parts(parts)
        try:
            await send_in_fragments(self, self._sender, self._closing, parts)
        finally:
            await close_generator(parts)  # noqa: ASYNC102 - what a generator waits for at its end is its own business

    def receive_fragments(self) -> Fragments:
        """The next message in parts, as they come: ``async for part in ws.receive_fragments()``.

        There is at least one part; where they are cut is up to chance. `max_message_size` does not count, as the
        whole message is never held; add the parts up where a limit is needed. Until the message is complete it belongs
        to the task that iterates: if that task asks for the next message, or calls `Fragments.aclose`, the rest is
        dropped; other tasks that ask for one are refused (`HandleBusyError`).

        Source: RFC 6455 §5.4.
        """
        return Fragments(self, self._receiver, self._engine.reader, self._closing)

    # --- ping and pong -------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def ping(self, payload: bytes | None = None) -> None:
        """Send a ping and wait for its pong. Where no task receives, this one does; messages that come are kept.

        A pong also answers the pings that were sent before that ping.

        Args:
            payload: At most 125 bytes, different from those of other pings under way; random by default.

        Raises:
            ConnectionClosed, HandleBrokenError, HandleMovedError: as `send_message`; the close came before the pong.
            ValueError, TypeError: the payload is too long, or under way already, or not bytes.
            LimitExceededError: messages for more than `max_message_size`, or more than 65,536 of them, wait to be
                taken, so the pong behind them cannot be read; the WebSocket is usable.

        Cancellation: as for `send_message` while it sends; later, nothing but the waiting ends.

        Source: RFC 6455 §5.5.2, §5.5.3.
        """
        pings = self._receiver.pings
        payload = pings.new_payload() if payload is None else _check_payload(payload)
        task = pings.begin(payload)
        try:
            await self._sender.send_control(self, PING, payload)
            while pings.awaits(payload, task):
                await self._read_for_pong(payload)
        finally:
            pings.end(payload, task)

    async def _read_for_pong(self, payload: bytes) -> None:
        await self._receiver.read_for_pong(self, payload)

    async def pong(self, payload: bytes | None = None) -> None:
        """Send an unsolicited pong: a one-sided heartbeat.

        Args:
            payload: At most 125 bytes; empty by default.

        Raises:
            ConnectionClosed, HandleBrokenError, HandleMovedError: as `send_message`.
            ValueError, TypeError: the payload is too long, or not bytes.

        Cancellation: as for `send_message`.

        Source: RFC 6455 §5.5.3.
        """
        await self._sender.send_control(self, PONG, b"" if payload is None else _check_payload(payload))

    # --- the end -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:
        """Close gracefully: finish a message that is being sent, send a close frame, wait for the peer's, release.

        A task that waits for a message is woken with `ConnectionClosed`; messages that nobody took are dropped. Does
        nothing on a WebSocket that has ended or moved. At the scope's ``drain_timeout`` the rest is cut off.

        Args:
            code: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: At most 123 bytes of UTF-8.

        Raises:
            LocalProtocolError: code or reason cannot be sent; nothing has changed.

        The handle is CLOSED afterwards: `LOCAL`, `DRAIN_TIMEOUT`, `PEER_RESET`, or how the peer ended it first.

        Cancellation: the handle is aborted (`ABORTED`).

        Source: RFC 6455 §7.1.2, §7.4.
        """
        check_close(code, reason)
        await self._close_with(code, reason or "")

    @enable_ki_protection
    async def _close_with(self, code: int, reason: str) -> None:
        """As `aclose`, with a code that need not be one for close frames; 1005 for a frame without a code."""
        if self._life.state.phase is _OPEN:
            self._owner.check_run(Event.ACLOSE)
            self._closing.to_say = (code, reason)
            if self._leases and self._waits_for_asker():
                self._close_from_parts()
        await super().aclose()

    def _close_from_parts(self) -> None:
        """What makes the parts of a message closes the WebSocket: that does not wait for the rest of them. A step."""
        if self._sender.unfinished:
            self._closing.to_say = ABANDONED
        self._take(Event.ACLOSE)  # first: nobody else gets the handle when the lease ends
        self._sender.posted.clear()
        self._leases[0]._give_up()

    def _waits_for_asker(self) -> bool:
        """Whether the task that asks is sending a message in parts: then it is what makes them that asks."""
        return bool(self._leases) and self._leases[0]._holder is current_task()

    @property
    def _parting(self) -> bool:
        return not (self._close_handshake.over or self._life.state.poisoned)

    async def _goodbye(self) -> None:
        await self._close_handshake.goodbye(self)

    def _phase_changed(self, before: Phase) -> None:
        phase, closing, life = self._life.state.phase, self._closing, self._life
        if closing.reason is None:
            if phase is Phase.DRAINING:
                code, reason = closing.to_say
                closing.reason = CloseReason(code, reason or None)
            elif phase is Phase.CLOSED:
                closing.broken()
        if phase is not _MOVED and closing.cause is None:
            if not life.retiring:  # else they arrived before the server began to drain
                self._receiver.messages.clear()
            self._engine.reader.parts.clear()
        if phase is _MOVED or phase is Phase.CLOSED:
            self._owner.caretaker.unwatch(self._attendance)
            self._attendance.let_go()
        super()._phase_changed(before)

    @property
    def _closed_here(self) -> bool:
        """Whether this side is closing gracefully, or has done so."""
        life = self._life
        return self._closing.cause is None and (
            life.state.phase is Phase.DRAINING or life.state.reason in (Reason.LOCAL, Reason.DRAIN_TIMEOUT)
        )

    @property
    def _ended_by_peer(self) -> Reason | None:
        if self._closing.to_say is TOO_SLOW:
            return Reason.IDLE_TIMEOUT
        if self._life.state.reset or self._closing.cause is None:
            return super()._ended_by_peer
        return Reason.PROTOCOL_ERROR if self._closing.cause is Event.PROTOCOL_ERROR else Reason.PEER_EOF

    def _closed_error(self, what: str) -> ConnectionClosed:
        reason = self._closing.reason
        if self._ended_by_peer is not None and reason is not None and reason.code == 1006:
            # Without a close frame, by whatever it came: the connection failed, to whoever catches that.
            return ConnectionBroken(reason, f"{what}{refusals.scope_left(self)}", end=self._end).with_handle(self)
        return ConnectionClosed(reason, f"{what}{refusals.scope_left(self)}", self._end).with_handle(self)

    def _broken_error(self, what: str) -> ConnectionBroken:
        text = str(super()._broken_error(what))
        return ConnectionBroken(self._closing.reason, text, self._torn).with_handle(self)

    # --- for its scope and its server ----------------------------------------------------------------------------

    @enable_ki_protection
    def _seat(self, owner: Owner, instead_of: Any = None) -> None:
        """As for every handle; what the handle before a transfer had to wait with goes out."""
        super()._seat(owner, instead_of)
        self._sender.flush(self)
        owner.caretaker.watch(self._attendance)

    @enable_ki_protection
    def _retire(self, grace: float = 0.0) -> None:
        """Close with 1001 (or another `CloseState.drain_code`), as soon as the messages that have arrived are taken.

        A step. While they are not, they can be answered, for `grace` seconds; and taken also later. Where there are
        none the peer is told at once, also while nobody is receiving. See `Handle._retire`.
        """
        self._check_run("retire")
        life = self._life
        if life.state.phase is not _OPEN or life.retiring:
            return
        self._closing.to_say = (self._closing.drain_code, "")
        more = self._receiver.attend(self)
        self._attendance.retire_by = trio.current_time() + grace
        super()._retire(grace)
        if more:
            return  # the caretaker sees to it
        if self.phase is _OPEN and life.state.receive is not Receive.BUSY and not self._receiver.messages:
            self._close_in_background()

    @enable_ki_protection
    def _handler_failed(self, error: BaseException | None = None) -> None:
        """The handler has raised: close with 1011 (internal error). A step; the close follows from the scope's end."""
        self._check_run("handler failed")
        if self._life.state.phase is _OPEN:
            self._closing.to_say = (1011, "")

    def statistics(self) -> WebSocketStatistics:
        """Figures of this WebSocket. Never raises."""
        latency = self._receiver.pings.latency
        return WebSocketStatistics(self._bytes_received, self._bytes_sent, self._opened, latency)

    # --- changes of the owner ------------------------------------------------------------------------------------

    def transfer(self, scope: Any) -> Self:
        """As `Handle.transfer`; refused while a message is received in parts. A step."""
        stream = self._receiver.stream
        if stream is not None and self._life.state.phase is _OPEN:
            raise HandleBusyError(f"transfer refused: {self!r} is in use: {stream.blocker}", (stream.blocker,))
        return super().transfer(scope)

    def detach(self) -> NoReturn:
        """Refused: what is under way on a WebSocket are frames, which a byte stream could not go on with.

        Raises:
            LocalProtocolError: always; nothing has changed. `transfer` moves a WebSocket to another scope.
        """
        raise LocalProtocolError(f"detach refused: {self!r} carries frames, not a byte stream; use transfer(scope)")

    async def detach_when_idle(self) -> NoReturn:
        """Refused, as `detach`.

        Raises:
            LocalProtocolError: always; nothing has changed.

        Cancellation: a checkpoint, nothing more.
        """
        await trio.lowlevel.checkpoint()
        self.detach()

    async def upgrade(self, recipe: Recipe[Any]) -> NoReturn:
        """Refused: nothing can be built on a WebSocket.

        Raises:
            LocalProtocolError: always; nothing has changed.

        Cancellation: a checkpoint, nothing more.
        """
        await trio.lowlevel.checkpoint()
        raise LocalProtocolError(f"upgrade refused: {self!r} is a WebSocket, on which nothing else can be built")


def _check_payload(payload: Any) -> bytes:
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise TypeError(f"payload must be bytes, not {payload!r}")
    data = bytes(payload)
    if len(data) > MAX_CONTROL:
        raise ValueError(
            f"the payload of a control frame has at most {MAX_CONTROL} bytes, not {len(data)} (RFC 6455 §5.5)"
        )
    return data
