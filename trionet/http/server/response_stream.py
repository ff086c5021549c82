"""An answer that a handler sends piece by piece, and what becomes of it when the handler does not come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self

from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from ...errors import LocalProtocolError, RemoteProtocolError
from ..content import as_piece
from ..protocol.headers import Headers

if TYPE_CHECKING:
    from types import TracebackType

    from ..protocol.body_writer import Buffer
    from ..protocol.headers import HeaderInput
    from .exchange import Exchange

__all__ = ["ResponseStream"]


class ResponseStream:
    """An answer that is sent piece by piece; see `Exchange.stream`."""

    __slots__ = ("_before", "_exchange", "_head", "_headers", "_invited", "_length", "_status", "_trailers")

    def __init__(self, exchange: Exchange, status: int, headers: HeaderInput | Headers, length: int | None) -> None:
        self._exchange = exchange
        self._status = status
        self._headers = headers
        self._length = length
        self._head = b""
        self._before: Any = None
        self._invited = True
        self._trailers: HeaderInput | Headers = ()

    def __await__(self) -> NoReturn:
        raise TypeError("a stream is a block: write `async with exchange.stream(...) as stream`")

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        exchange = self._exchange
        exchange.connection.check_exchange(exchange, "stream")
        await checkpoint_if_cancelled()
        machine = exchange.connection.machine
        if machine.awaits_continue:
            self._invited = False
            self._headers = Headers(self._headers)  # they are looked at again
        self._make_head()
        exchange.status = self._status
        return self

    @enable_ki_protection
    def _make_head(self) -> None:
        machine = self._exchange.connection.machine
        self._before = machine.snapshot()
        try:
            self._head = machine.send_head(self._status, self._headers, length=self._length)
        except RemoteProtocolError as exc:
            exc.handle = self._exchange.connection
            raise
        machine.head_held = True

    @enable_ki_protection
    def _look_at_head(self) -> None:
        """Before the head goes out: it was to end the connection if its client waited for 100, and got it since."""
        connection = self._exchange.connection
        if self._head and not self._invited and not connection.machine.awaits_continue:
            self._invited = True
            connection.take_back(self._before)
            self._make_head()

    @enable_ki_protection
    def _take_head(self) -> bytes:
        """The head, if it is not out yet; from here on it is. A step."""
        head, self._head = self._head, b""
        if head:
            self._exchange.connection.machine.head_held = False
        return head

    @enable_ki_protection
    async def send(self, chunk: Buffer | str) -> None:
        """Send the next piece of the body, a str as UTF-8. An empty one is nothing.

        Raises:
            LocalProtocolError: it is more than the Content-Length; the exchange is over; the block is not entered yet.
            TypeError, ValueError: it is neither bytes nor text that UTF-8 can carry. Nothing of it was sent.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.send_all`.

        Cancellation: the piece is sent, or not begun, or the answer is cut off and the connection is broken. It is a
        schedule point.
        """
        exchange = self._exchange
        connection = exchange.connection
        connection.check_exchange(exchange, "send")
        if self._before is None:
            raise LocalProtocolError("the stream is not open yet: async with exchange.stream(...) as stream")
        await checkpoint_if_cancelled()
        self._look_at_head()
        data = connection.machine.send_data(chunk if isinstance(chunk, bytes) else as_piece(chunk))
        head = self._take_head()
        await connection.send_parts([part for part in (head, data) if len(part)], exchange)

    async def flush(self) -> None:
        """Send the head now, if it is not out yet.

        Raises and Cancellation: as for `send`.
        """
        await self.send(b"")

    def trailers(self, headers: HeaderInput | Headers) -> None:
        """Fields to send behind the body, when the block ends. An answer to HTTP/1.0, which has none, goes without.

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
        exchange = self._exchange
        connection = exchange.connection
        if exc is not None:
            self._give_up()
            return
        try:
            connection.check_exchange(exchange, "end of the stream")
            await checkpoint_if_cancelled()  # noqa: ASYNC102 - cancelled here, the answer is cut off
            self._look_at_head()
            machine = connection.machine
            end = machine.send_end(() if machine.ends_with_connection else self._trailers)
            head = self._take_head()
            await connection.send_parts([part for part in (head, end) if part], exchange)  # noqa: ASYNC102
        except BaseException:
            self._give_up()
            raise
        connection.settle_exchange()

    @enable_ki_protection
    def _give_up(self) -> None:
        """The body will not be completed. If nothing of the answer is out yet, another one can be given. A step."""
        exchange = self._exchange
        if self._head and exchange.connection.exchange is exchange:
            exchange.connection.take_back(self._before)
            exchange.status = 0
            self._head = b""
        else:
            exchange.connection.tear(exchange)
