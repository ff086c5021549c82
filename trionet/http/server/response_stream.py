"""A response that a handler sends piece by piece, and what becomes of it when the handler does not come to its end.

The head is made when the block is entered, so that what is wrong with it is raised there, but it leaves with the first
piece. Until then the response can be undone: a handler that fails before it has sent anything can respond with an
error. For that the machine's snapshot of before the head is kept.

A request that waits for 100 (Continue) makes a difference to the head: if the body was not asked for, nobody knows
whether it comes, so the response ends the connection, and says so. The handler may read the body behind the head that
is made and not out yet. Then the client is told to send it, and the head is made once more (`_look_at_head`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self

from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from ...errors import LocalProtocolError, RemoteProtocolError
from ..content import as_piece
from ..protocol.headers import Headers

if TYPE_CHECKING:
    from types import TracebackType

    from ...transport.file_region import FileRegion
    from ..protocol.body_writer import Buffer
    from ..protocol.headers import HeaderInput
    from .compression import CodedBody
    from .cycle import Cycle, ExchangeUnderWay
    from .output import ResponseOutput

__all__ = ["ResponseStream"]


class ResponseStream:
    """A response that is sent piece by piece; see `Exchange.stream`."""

    __slots__ = (
        "_before",
        "_coded",
        "_cycle",
        "_exchange",
        "_head",
        "_headers",
        "_invited",
        "_length",
        "_output",
        "_status",
        "_trailers",
    )

    def __init__(
        self,
        exchange: ExchangeUnderWay,
        cycle: Cycle,
        output: ResponseOutput,
        *,
        status: int,
        headers: HeaderInput | Headers,
        length: int | None,
    ) -> None:
        self._exchange = exchange
        self._cycle = cycle
        self._output = output
        self._status = status
        self._headers = headers
        self._length = length
        self._head = b""
        self._before: Any = None
        self._invited = True
        self._coded: CodedBody | None = None
        self._trailers: HeaderInput | Headers = ()

    def __await__(self) -> NoReturn:
        raise TypeError("a stream is a block: write `async with exchange.stream(...) as stream`")

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        self._cycle.check(self._exchange, "stream")
        await checkpoint_if_cancelled()
        if (compression := self._cycle.compression) is not None:
            self._headers, self._length, self._coded = compression._begin(
                self._cycle.machine, self._status, self._headers, self._length
            )
        if self._cycle.machine.awaits_continue:
            self._invited = False
            self._headers = Headers(self._headers)  # they are looked at again
        self._make_head()
        self._exchange.status = self._status
        return self

    @enable_ki_protection
    def _make_head(self) -> None:
        machine = self._cycle.machine
        self._before = machine.snapshot()
        try:
            self._head = machine.send_head(self._status, self._headers, length=self._length, held=True)
        except RemoteProtocolError as exc:
            exc.handle = self._cycle.handle
            raise

    @enable_ki_protection
    def _look_at_head(self) -> None:
        """Before the head goes out: it was to end the connection if its client waited for 100, and got it since."""
        if self._head and not self._invited and not self._cycle.machine.awaits_continue:
            self._invited = True
            self._cycle.undo_response(self._before)
            self._make_head()

    @enable_ki_protection
    def _take_head(self) -> bytes:
        """The head, if it is not out yet; from here on it is. A step."""
        head, self._head = self._head, b""
        if head:
            self._cycle.machine.head_leaves()
        return head

    @enable_ki_protection
    async def send(self, chunk: Buffer | str) -> None:
        """Send the next piece of the body, a str as UTF-8. An empty one is nothing.

        Raises:
            LocalProtocolError: this would be more than the Content-Length; or the exchange is over; or the block was
                not entered yet.
            TypeError, ValueError: the chunk is neither bytes nor text that UTF-8 can carry. Nothing of it was sent.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.send_all`.

        Cancellation: the piece is sent, or not begun, or the response is truncated and the connection is broken. It is
        a schedule point.
        """
        cycle = self._cycle
        cycle.check(self._exchange, "send")
        if self._before is None:
            raise LocalProtocolError(
                "send refused: the stream is not open yet; write `async with exchange.stream(...) as stream`"
            )
        await checkpoint_if_cancelled()
        self._look_at_head()
        piece = chunk if isinstance(chunk, bytes) else as_piece(chunk)
        if self._coded is None:
            await self._send_piece(piece)
        else:
            await self._send_coded(self._coded, piece)

    @enable_ki_protection
    async def _send_piece(self, piece: Buffer) -> None:
        parts = self._cycle.machine.send_parts(piece)
        head = self._take_head()
        await self._output.send((head, *parts) if head else parts, self._exchange)

    @enable_ki_protection
    async def _send_coded(self, coded: CodedBody, piece: Buffer) -> None:
        """Compress a piece, and send it. What the compressor has taken has to be sent, or the response is truncated."""
        if coded.turn.held:
            await coded.turn.wait()
        else:
            coded.turn.held = True
        try:
            self._cycle.check(self._exchange, "send")
            coded.count(piece)
            try:
                for each in coded.pieces(piece):
                    await self._send_piece(each)
            except BaseException:
                self._cycle.truncate(self._exchange)
                raise
        finally:
            coded.turn.release()

    @property
    def _sends_files(self) -> bool:
        """Whether a part of a file can be sent as it is: its bytes are those of the body, and of the connection."""
        transport, machine = self._cycle.handle._transport, self._cycle.machine
        return self._coded is None and transport.file_sender is not None and machine.count_data(0)

    @enable_ki_protection
    async def _send_file(self, piece: FileRegion) -> None:
        """As `send`, of a part of a file, where `_sends_files`."""
        cycle = self._cycle
        cycle.check(self._exchange, "send")
        await checkpoint_if_cancelled()
        self._look_at_head()
        head = self._take_head()
        cycle.machine.count_data(len(piece))
        await self._output.send((head,) if head else (), self._exchange, piece)

    async def flush(self) -> None:
        """Send the head now, if it is not out yet.

        Raises and Cancellation: as for `send`.
        """
        await self.send(b"")

    def trailers(self, headers: HeaderInput | Headers) -> None:
        """Set the trailer fields, which follow the body when the block ends. HTTP/1.0 has none, and gets none.

        Raises (when the block ends):
            LocalProtocolError: the body is not sent in chunks, or one of the fields cannot be a trailer.
            ValueError, TypeError: a field cannot be sent; see `Headers`.

        Source: RFC 9110 §6.5.
        """
        self._trailers = headers

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cycle = self._cycle
        if exc is not None:
            self._give_up()
            return
        try:
            cycle.check(self._exchange, "end of the stream")
            await checkpoint_if_cancelled()  # noqa: ASYNC102 - cancelled here, the response is truncated
            self._look_at_head()
            last = () if self._coded is None else cycle.machine.send_parts(self._coded.end())
            end = cycle.machine.send_end(() if cycle.machine.ends_with_connection else self._trailers)
            parts = [part for part in (self._take_head(), *last, end) if part]
            await self._output.send(parts, self._exchange)  # noqa: ASYNC102
        except BaseException:
            self._give_up()
            raise
        cycle.settle()

    @enable_ki_protection
    def _give_up(self) -> None:
        """The body will not be completed. If nothing of the response is out yet, another one can be given. A step."""
        if self._head and self._cycle.exchange is self._exchange:
            self._cycle.undo_response(self._before)
            self._exchange.status = 0
            self._head = b""
        else:
            self._cycle.truncate(self._exchange)
