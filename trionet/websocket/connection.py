"""The WebSocket handle: the vocabulary of trio-websocket, on a connection with exactly one owner.

`link` moves the frames and `ending` knows how it ends; here is what a program calls.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import trio
import trio_websocket
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, current_task, enable_ki_protection
from trio_websocket import Endpoint

from ..errors import HandleMovedError, LimitExceededError, LocalProtocolError
from ..ownership import Phase, Send
from .close_codes import CLEAN, CloseReason
from .fragments import InFragments
from .protocol.frames import MAX_CONTROL, PING, PONG
from .protocol.reader import MAX_KEPT
from .sending import YIELD_EVERY

if TYPE_CHECKING:
    from ..handle.detached import Detached
    from ..handle.recipe import Recipe
    from ..http.protocol.headers import Headers
    from .keepalive import Keepalive
    from .protocol.deflate import PerMessageDeflate
    from .protocol.engine import Engine
    from .protocol.reader import Message

__all__ = ["WebSocket"]

_OPEN: Final = Phase.OPEN
_IDLE: Final = Send.IDLE


class WebSocket(InFragments, trio.abc.AsyncResource):
    """A WebSocket connection, with exactly one owner; made by `to_websocket_server` and `to_websocket_client`.

    Any number of tasks may receive and send: they get their turns in the order of asking. Names and meanings are those
    of `trio_websocket.WebSocketConnection`.

    While no task receives, what has come is taken in twice a second: pings and the peer's close are answered, messages
    are kept until they have more than `max_message_size` bytes (1 MiB if that is None) or are more than 65,536. Then
    TCP makes the peer wait. On a Trio stream that trionet did not open itself this needs a task that receives.
    """

    __slots__ = ("_headers", "_path", "_subprotocol")

    def __init__(
        self,
        capsule: Detached,
        engine: Engine,
        *,
        path: str,
        subprotocol: str | None,
        headers: Headers,
        keepalive: Keepalive | None = None,
    ) -> None:
        self._path = path
        self._subprotocol = subprotocol
        self._headers = headers
        super().__init__(capsule, engine, keepalive)

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> CloseReason | None:
        """Code and reason of the close, once it has begun on either side; None before."""
        return self._close

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
        reading = self._reading
        messages = self._engine.reader.messages
        if messages and not reading.held and self._stream is None and self._life.phase is not Phase.MOVED:
            await checkpoint_if_cancelled()
            message = messages.popleft()
            self._turns += 1
            if self._turns >= YIELD_EVERY:
                self._turns = 0
                await cancel_shielded_checkpoint()
            return message
        if reading.held:
            await reading.wait()
        else:
            reading.held = True
        try:
            if self._stream is not None:
                self._settle()
            while not messages or self._life.phase is Phase.MOVED:
                if self._to_raise is not None:
                    self._raise_offence()
                await self._read_batch()
            return messages.popleft()
        finally:
            reading.release()

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
        life = self._life
        engine = self._engine
        if (
            life.phase is not _OPEN
            or life.send is not _IDLE
            or life.reset
            or self._writing.held
            or self._composing.held
            or engine.writer.pongs
            or self._unsent
        ):
            if engine.reader.messages and self._may_gather:
                await self._gather(message)
            else:
                await self._send_in_turn(message)
            return
        if engine.reader.messages:
            await self._gather(message)
            return
        await checkpoint_if_cancelled()
        frame = engine.writer.message(message)
        try:
            sent = self._transport.send_some(frame)
        except trio.BrokenResourceError as exc:
            self._send_broke(exc, 0)
        if sent == len(frame) and self._parked:
            self._parked = False
            self._bytes_sent += sent
            return
        self._writing.held = True
        try:
            await self._transmit(frame, sent)
        finally:
            self._release_writing()

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
        payload = self._new_payload() if payload is None else _check_payload(payload)
        if payload in self._pings:
            raise ValueError(f"a ping with payload {payload!r} is under way already")
        self._pings[payload] = task = current_task()
        try:
            await self._send_control_in_turn(PING, payload)
            while self._pings.get(payload) is task:  # by now it may be another ping's
                await self._read_for_ping(payload)
        finally:
            if self._pings.get(payload) is task:
                del self._pings[payload]

    async def _read_for_ping(self, payload: bytes) -> None:
        """Wait for the reading turn, or until the task that has it has read the pong; then receive once."""
        if self._reading.held:
            if not await self._reading.wait():
                return
        else:
            self._reading.held = True
        try:
            if payload in self._pings:
                self._check_room()
                await self._read_batch(patient=True)
                if self._engine.reader.stalled and not self._engine.reader.tired and payload in self._pings:
                    raise self._no_room()
        finally:
            self._reading.release()

    def _check_room(self) -> None:
        reader = self._engine.reader
        if reader.buffered > (reader.max_message_size or math.inf) or len(reader.messages) > MAX_KEPT:
            raise self._no_room()

    def _no_room(self) -> LimitExceededError:
        reader = self._engine.reader
        return LimitExceededError(
            f"ping given up: {len(reader.messages)} messages with {reader.buffered} bytes wait to be taken with "
            f"get_message(), or one that is too big; the pong comes behind them. The limit "
            f"({reader.max_message_size or math.inf:g}) is max_message_size, for at most {MAX_KEPT} messages"
        )

    async def pong(self, payload: bytes | None = None) -> None:
        """Send a pong that nobody has asked for: a one-sided heartbeat.

        Args:
            payload: At most 125 bytes; empty by default.

        Raises:
            ConnectionClosed, HandleBrokenError, HandleMovedError: as `send_message`.
            ValueError, TypeError: the payload is too long, or not bytes.

        Cancellation: as for `send_message`.

        Source: RFC 6455 §5.5.3.
        """
        await self._send_control_in_turn(PONG, b"" if payload is None else _check_payload(payload))

    # --- what a WebSocket cannot become --------------------------------------------------------------------------

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
