"""The body of a response as it comes, and the end of the exchange.

The body is read by the task that wants it, piece by piece, and nothing of it is kept that nobody asked for. How it is
read decides what becomes of the connection (RFC 9112 §9.3). With the end of the body the response has no claim to it:
at that moment it goes back to the pool that lent it, together with the slot, and whatever the block does then is no
concern of the connection. A block that is left before that reads a short rest and drops it; a long one costs the
connection, and so does leaving by an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ...errors import HandleClosedError, LocalProtocolError
from ...transport.protocol import MAX_RECEIVE
from ..protocol.body_reader import END, PIECES, EndOfMessage
from ..protocol.machine import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...handle import Lease
    from ..protocol.machine import H1Event
    from .connection import HTTPClientConnection
    from .upload import Upload

__all__ = ["IncomingBody"]

_NEED_DATA: Final = Signal.NEED_DATA


class IncomingBody:
    """What `Response` is built on: one exchange, from the head of its response on.

    Args:
        connection: Where it comes from.
        method: Of the request.
        lease: The exchange's.
        upload: The rest of the request, if that is still being sent.

    Attributes:
        asked: By which method it is judged whether a retry is safe: of an earlier request, if that has led to this one.
    """

    __slots__ = (
        "_connection",
        "_ended",
        "_keeps",
        "_lease",
        "_left",
        "_over",
        "_read",
        "_return",
        "_returned",
        "_seen",
        "_upload",
        "asked",
        "method",
        "trailers",
    )

    def __init__(self, connection: HTTPClientConnection, method: str, lease: Lease, upload: Upload | None) -> None:
        self.method = self.asked = method
        self.trailers = END.trailers
        self._connection = connection
        self._lease = lease
        self._upload = upload
        self._ended = False  # the body has; the request may still be on its way
        self._over = False  # both messages are complete, and HTTP goes on behind them
        self._left = False
        self._return: Callable[[], None] | None = None
        self._returned = False
        self._keeps = False
        self._read = 0
        self._seen = 0  # what the connection had received when others had their turn; never 0 behind a head

    @property
    def connection(self) -> HTTPClientConnection:
        """The `HTTPClientConnection` that the response comes from, as long as it is the response's.

        Raises:
            LocalProtocolError: the response has ended, and its connection has gone back to the pool, where it may carry
                somebody else's request by now.
        """
        if self._over and self._returned:
            raise LocalProtocolError(
                f"connection refused: {self!r} has been received to its end, and its connection has gone back to the "
                f"pool; request(..., keep_connection=True) keeps it until the block is left"
            )
        return self._connection

    @enable_ki_protection
    def lend(self, give_back: Callable[[], None], *, keep: bool) -> None:
        """The connection is a pool's: `give_back`, a step, is called once when the response needs it no more. A step.

        Args:
            give_back: Returns connection and slot.
            keep: Whether the response needs the connection until its block is left.
        """
        self._return = give_back
        self._keeps = keep
        if self._over and not keep:
            self._give_back()

    def _give_back(self) -> None:
        give_back, self._return = self._return, None
        if give_back is not None:
            self._returned = True
            give_back()

    @enable_ki_protection
    async def _next_raw(self) -> bytes | None:
        """The next piece as it comes, None at the end.

        A checkpoint; but other tasks get no turn if the connection has received something since they had one here.
        """
        if self._left:
            raise self._left_error()
        if self._ended:
            await trio.lowlevel.checkpoint()
            return None
        await checkpoint_if_cancelled()
        event = await self._next_event()
        received = self._connection.bytes_received
        if received == self._seen:
            await cancel_shielded_checkpoint()
        self._seen = received
        return event

    async def _next_quickly(self) -> bytes | None:
        """As `_next_raw`, but a checkpoint only where it has to wait."""
        if self._left:
            raise self._left_error()
        return None if self._ended else await self._next_event()

    @enable_ki_protection
    async def _next_event(self, max_bytes: int = MAX_RECEIVE) -> bytes | None:
        """The next piece, or None at the end. A checkpoint only where it has to wait."""
        connection = self._connection
        machine = connection.machine
        try:
            connection.check_exchange()
            while (event := machine.next_event()) is _NEED_DATA:
                await connection.receive(self._lease, max_bytes)
        except BaseException as exc:
            if isinstance(exc, Exception):
                self._failed(exc)
            raise
        if isinstance(event, bytes):
            self._read += len(event)
            return event
        self._finish(event)
        return None

    def _left_error(self) -> HandleClosedError:
        return HandleClosedError(f"read refused: the block of {self!r} has been left; read the body inside it")

    def _finish(self, event: H1Event) -> None:
        assert isinstance(event, EndOfMessage)
        self.trailers = event.trailers
        self._end()

    def _failed(self, exc: Exception) -> None:
        """Reading has ended with `exc`: the connection does too. A producer's error goes first."""
        if self._ended or self._left:
            return  # what failed was kept in memory, and the connection may carry somebody else's request by now
        if self._upload is not None:
            self._upload.raise_error()
        if not isinstance(exc, trio.BusyResourceError):
            self._connection.exchange_failed(exc, self.asked)
            if not self._keeps:
                self._give_back()

    # --- the end -------------------------------------------------------------------------------------------------

    def begin_empty(self) -> None:
        """There is no body: the response has ended with its head. A step."""
        event = self._connection.machine.next_event()
        assert event is END or event is Signal.SWITCHED
        self._end()

    def _end(self) -> None:
        """The response is complete; the exchange is, unless its request is still being sent."""
        self._ended = True
        if self._upload is None:
            self._exchange_over()
        elif self._upload.over:
            self._upload_over()
        else:
            self._upload.when_over = self._upload_over

    def _upload_over(self) -> None:
        """The rest of the request is sent, behind a response that was complete before. A step.

        Where its producer has raised, that is for `leave` to raise, and the connection has been aborted.
        """
        if self._upload is not None and self._upload.error is None:
            self._upload = None
            self._exchange_over()

    def _exchange_over(self) -> None:
        """Both messages are complete, or never will be: the connection is needed no more, unless it has switched."""
        if self._connection.exchange_done(self._lease):
            self._over = True
            if self._return is not None and not self._keeps:
                self._give_back()

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be done for the response when its block is left."""
        return self._ended and self._return is None and self._upload is None

    @enable_ki_protection
    async def leave(self, exc: BaseException | None, rest: list[bytes] | None = None) -> None:
        """The block ends, with `exc` or normally: the connection is settled. See `HTTPClientConnection.request`.

        Args:
            exc: What ends the block, None if nothing does.
            rest: Where to put what is drained. If there is a place for it, it is drained in spite of `exc`.

        Raises:
            Whatever the producer of the request's body has raised, if nobody has met it before.

        Cancellation: the connection is aborted.
        """
        self._left = not self._ended  # what nobody has read until now nobody will
        try:
            if not self._ended:
                if (exc is None or rest is not None) and self._upload is None:
                    await self._drain(rest)
                else:
                    self._connection.abort()
        finally:
            try:
                if self._upload is not None:
                    await self._end_upload(exc)  # noqa: ASYNC102 - shielded in there
            finally:
                self._give_back()

    async def _end_upload(self, exc: BaseException | None) -> None:
        """What the server did not wait for is not sent any more."""
        upload, self._upload = self._upload, None
        assert upload is not None
        await upload.end()
        if self._ended:
            self._exchange_over()
        if exc is None:
            upload.raise_error()

    @enable_ki_protection
    async def _drain(self, rest: list[bytes] | None) -> None:
        """Read the rest of the body, within bounds of bytes and of time; beyond them, abort.

        Beyond them too, what has arrived already is given to who wants the `rest`.
        """
        connection, machine = self._connection, self._connection.machine
        limits = connection.limits
        within = machine.keep_alive and machine.framing - self._read <= limits.drain_bytes
        end = connection.bytes_received + limits.drain_bytes - machine.buffered
        found = [] if rest is None else rest
        try:
            if within or rest is not None:
                await self._take_arrived(found)
            if within:
                await self._drain_until(end, limits.drain_timeout, found)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the connection has ended already
        except BaseException:
            connection.abort()
            raise
        if not self._ended:
            connection.abort()

    async def _drain_until(self, end: int, seconds: float, rest: list[bytes]) -> None:
        if self._to_drain(end) > 0:
            with trio.move_on_after(seconds):
                while (left := self._to_drain(end)) > 0:
                    rest.append(await self._next_event(min(left, MAX_RECEIVE)) or b"")
                    await self._take_arrived(rest)

    async def _take_arrived(self, rest: list[bytes]) -> None:
        """Take all pieces that have arrived already, some at a time."""
        pieces = 0
        while not self._ended and self._take_buffered(rest):
            pieces += 1
            if not pieces % PIECES:
                await trio.lowlevel.checkpoint()

    def _to_drain(self, end: int) -> int:
        """How many bytes may still be received for the rest of the body; none if there is no rest."""
        return 0 if self._ended else end - self._connection.bytes_received

    def _take_buffered(self, rest: list[bytes]) -> bool:
        """Take a piece that has arrived already: whether there may be more."""
        event = self._connection.machine.next_event()
        if isinstance(event, bytes):
            self._read += len(event)
            rest.append(event)
            return True
        if event is not _NEED_DATA:
            self._finish(event)
        return False
