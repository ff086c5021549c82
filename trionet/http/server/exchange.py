"""One request and its response, as a server's program sees them.

An exchange is a lease on its connection: it begins with the request's head, and until it is over nobody can take the
connection away. It is over when the response is complete and the request's body was read, or dropped within bounds.

The exchange checks what it is given, and leaves the rest to the parts of its connection: `input` reads the body,
`output` responds. Those know what may be said, and when, from the machine without I/O (`protocol.server_machine`).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ...errors import LimitExceededError, LocalProtocolError, UpgradeRefusedError
from ...ownership import Event, Phase
from ...support.checks import check_count, check_flag, flat_view
from ...support.generators import close_generator
from ..content import ABSENT, encoded_body, make_content
from ..protocol.target import origin_form
from .response_stream import ResponseStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from ...handle import Handle
    from ...handle.recipe import Recipe
    from ..protocol.body_writer import Buffer
    from ..protocol.head import RequestHead
    from ..protocol.headers import HeaderInput, Headers
    from .connection import HTTPServerConnection

    Successor = TypeVar("Successor", bound=Handle)

__all__ = ["MAX_BODY", "Exchange"]

MAX_BODY: Final = 2**20
"""Bytes of a request's body that `Exchange.read` takes by default."""

LARGE: Final = 16384
"""From how many bytes on a body is sent beside its head: joining them would copy it."""


class Exchange:
    """A request, and the response to it. Made by iterating over an `HTTPServerConnection`, and by `serve_http`.

    Attributes:
        connection: The `HTTPServerConnection` on which it takes place.
        status: The status of the response, once it has begun; 0 before.
    """

    __slots__ = ("_eof_is_gone", "_gathered", "_head", "_trailers", "connection", "status")

    def __init__(self, connection: HTTPServerConnection, head: RequestHead) -> None:
        self.connection = connection
        self.status = 0
        self._head = head
        self._gathered: bytearray | None = None
        self._trailers: Headers | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self._head.method} {self._head.shown_target!r}: {self._state}>"

    @property
    def _state(self) -> str:
        if self.connection._cycle.exchange is not self:
            return f"answered with {self.status}" if self.status else "over"
        return f"being answered with {self.status}" if self.status else "not answered yet"

    # --- the request ---------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        """The method as the client wrote it; methods are case-sensitive (RFC 9110 §9.1)."""
        return self._head.method

    @property
    def target(self) -> str:
        """The request target: a path with its query, an absolute URL, ``*``, or ``host:port`` (RFC 9112 §3.2)."""
        return self._head.target

    @property
    def path(self) -> str:
        """The path of the target, percent-encoded, without the query; empty for ``*`` and ``host:port``."""
        return origin_form(self._head.target).partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the first question mark of the target, percent-encoded; empty if there is none."""
        return origin_form(self._head.target).partition("?")[2]

    @property
    def http_version(self) -> str:
        """``1.0`` or ``1.1``."""
        return self._head.http_version

    @property
    def headers(self) -> Headers:
        """The fields of the request."""
        return self._head.headers

    @property
    def trailers(self) -> Headers:
        """The trailer fields, which follow the request's body.

        Raises:
            LocalProtocolError: the body has not been read to its end yet.
        """
        if self._trailers is None:
            raise LocalProtocolError(f"trailers follow the body: read that of {self!r} to its end first")
        return self._trailers

    @property
    def offered_protocols(self) -> tuple[str, ...]:
        """The protocols that the request offers to switch to, lower case; none where a switch is not possible."""
        cycle = self.connection._cycle
        return cycle.machine.upgrade if cycle.exchange is self else ()

    @property
    def wants_websocket(self) -> bool:
        """Whether the client asks for a WebSocket in a request that can become one: a GET without a body."""
        head = self._head
        fields = head.fields
        return (
            fields is not None
            and b"websocket" in fields.upgrade
            and b"upgrade" in fields.options
            and head.method == "GET"
            and head.http_version == "1.1"
            and not (fields.chunked or fields.length)
        )

    # --- the client ----------------------------------------------------------------------------------------------

    @property
    def eof_is_gone(self) -> bool | None:
        """Whether a client that ends its direction counts as gone. Until it is set, the value of `HTTPLimits` holds.

        Set it to False for a handler that has to finish although its method is safe, or whose client half-closes and
        waits. Set it to True for a handler that need not finish.
        """
        try:
            return self._eof_is_gone
        except AttributeError:  # hardly any exchange sets it, so a slot that is not filled costs the others nothing
            return self.connection._cycle.limits.eof_is_gone

    @eof_is_gone.setter
    def eof_is_gone(self, value: bool | None) -> None:
        self._eof_is_gone = None if value is None else check_flag("eof_is_gone", value)

    @enable_ki_protection
    async def wait_disconnected(self) -> None:
        """Wait until the client has gone: it has reset the connection, or ended its direction.

        While a task waits here the scope is not cancelled when the client goes: this returns instead, and the handler
        goes on as it likes. EOF does not count if `eof_is_gone` is False. What the client sends meanwhile is kept for
        whoever reads next, up to 64 KiB.

        Any number of tasks may wait, also after the response. This returns at the latest when the connection has ended
        or was moved, and raises nothing. EOF and a reset are noticed at once, as long as no other task receives and the
        bound is not reached; otherwise within a second.

        Cancellation: not one byte is lost; from then on the scope is cancelled when the client goes.
        """
        await self.connection._lookouts.wait(self)

    # --- its body ------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def read(self, max_bytes: int = MAX_BODY) -> bytes:
        """The request's body, or the rest of it; ``b""`` if there is none.

        Args:
            max_bytes: How long it may be.

        Raises:
            LimitExceededError: it is longer. What was read so far stays, for the next call.
            RemoteProtocolError: the body is malformed, or the client ended the connection in the middle of it.
            LocalProtocolError: the exchange is over. Or the client waits for 100 (Continue), and the head of the
                response was sent without it: then the client need not send its body any more.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.receive_some`.

        Cancellation: not one byte is lost; the next call goes on. It is a schedule point, unless the connection has
        received something since the previous one.

        Source: RFC 9112 §6, RFC 9110 §10.1.1.
        """
        if type(max_bytes) is not int or max_bytes < 0:
            check_count("max_bytes", max_bytes)
        await checkpoint_if_cancelled()
        if self._gathered is None and self._trailers is None:
            body = self.connection._input.take_body(self, max_bytes)
            if body is not None:
                cycle = self.connection._cycle
                if cycle.has_yielded:  # as `RequestInput.yield_once`
                    cycle.has_yielded = False
                else:
                    await cancel_shielded_checkpoint()
                return body
        gathered = self._gathered if self._gathered is not None else bytearray()
        self._gathered = gathered  # for the next call, should this one not come to the end
        if not await self.connection._input.read_into(gathered, self, max_bytes):
            raise LimitExceededError(
                f"the body of {self!r} has more than {max_bytes} bytes (max_bytes); iterate over the exchange to take "
                f"it in pieces, or respond with 413"
            ).with_handle(self.connection)
        self._gathered = None
        return bytes(gathered)

    def __aiter__(self) -> Self:
        """Iterate over the request's body, in pieces as they come. Raises what `read` raises."""
        return self

    @enable_ki_protection
    async def __anext__(self) -> bytes:
        await checkpoint_if_cancelled()
        gathered, self._gathered = self._gathered, None
        if gathered:
            return bytes(gathered)
        body = self.connection._input
        waited = False
        while (chunk := body.next_chunk(self)) is None:
            waited = await body.receive(self)
        if not waited:
            await body.yield_once()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    # --- the response --------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def inform(self, status: int, headers: HeaderInput | Headers = ()) -> None:
        """Send an informational response, such as 103 (Early Hints); the final one follows.

        Nothing is sent to HTTP/1.0. A 100 (Continue) is sent without being asked for, when the body is first read.

        Args:
            status: 100 to 199, but not 101: `upgrade` switches protocols.
            headers: Fields.

        Raises:
            LocalProtocolError: the response has begun already, or this is not an informational status.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.send_all`.

        Cancellation: it is sent, or not begun, or the connection is broken.

        Source: RFC 9110 §15.2.
        """
        cycle = self.connection._cycle
        cycle.check(self, "inform")
        await checkpoint_if_cancelled()
        data = cycle.machine.inform(status, headers)
        await self.connection._output.send((data,) if data else (), self)

    @enable_ki_protection
    async def respond(
        self,
        status: int,
        body: Buffer | str | AsyncIterable[bytes] | Iterable[bytes] | Any = b"",
        *,
        json: Any = ABSENT,
        headers: HeaderInput | Headers = (),
    ) -> None:
        """Send the whole response.

        Date, Content-Length or Transfer-Encoding, and Connection are added where they are due. A HEAD request
        gets the same fields and no body, so a handler need not distinguish it from GET.

        Args:
            status: 200 to 999.
            body: Bytes; or a str, which is sent as UTF-8, with the Content-Type text/plain unless `headers` has one; or
                a file that was opened in binary mode, or a (sync or async) iterable of bytes, which is sent piece by
                piece: with a Content-Length where that is known, else in chunks. A generator is closed when the call
                ends, also if it was refused or not needed.
            json: The body as a value to be written as JSON, in the place of `body`; None is ``null``. The Content-Type
                is application/json unless `headers` has one.
            headers: Fields. A Content-Length that is given has to be right; ``Connection: close`` ends the connection.

        Raises:
            LocalProtocolError: the exchange has a response already or is over, or the fields do not fit status and
                body.
            RemoteProtocolError: the request is a CONNECT, and the status is 2xx. Uncaught, it gives a 501.
            ValueError, TypeError: the body, or a field, cannot be sent; see `Headers`. Nothing has been sent.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Connection.send_all`.

        Cancellation: the response is sent, or not begun, or it is visibly truncated and the connection is broken. This
        is not a schedule point where it need not wait: receiving the next request is one.

        Source: RFC 9110 §15, RFC 9112 §6.
        """
        cycle, output = self.connection._cycle, self.connection._output
        if cycle.exchange is not self:
            await close_generator(body)
            cycle.check(self, "respond")
        if json is not ABSENT or isinstance(body, str):
            body, headers = encoded_body(body, json, headers)
        if type(body) is not bytes or len(body) > LARGE:
            try:
                await self._respond_at_length(status, body, headers)
            finally:
                await close_generator(body)  # noqa: ASYNC102 - what it waits for at its end is its own business
            return
        await checkpoint_if_cancelled()
        rest = output.respond(self, status, headers, body)
        if rest is not None:
            await output.finish(self, *rest)

    @enable_ki_protection
    async def _respond_at_length(self, status: int, body: Any, headers: HeaderInput | Headers) -> None:
        """Respond with a body that is not worth joining to the head, or not there yet."""
        if isinstance(body, memoryview):
            body = flat_view(body)
        if isinstance(body, (bytes, bytearray, memoryview)):
            await checkpoint_if_cancelled()
            await self.connection._output.respond_in_parts(self, status, headers, body)
            return
        cycle = self.connection._cycle
        content = make_content(body, name="body")
        # A file is all there: a client that ends its direction, and waits, gets it.
        cycle.response_ready = content.length is not None
        try:
            async with self.stream(status, headers=headers, length=content.length) as stream:
                if self._head.method == "HEAD":
                    return
                if (region := content.region) is not None and stream._sends_files:
                    for piece in region.pieces():
                        await stream._send_file(piece)
                    return
                async with aclosing(content.chunks()) as chunks:
                    async for chunk in chunks:
                        await stream.send(chunk)
        finally:
            cycle.response_ready = False

    def stream(self, status: int, *, headers: HeaderInput | Headers = (), length: int | None = None) -> ResponseStream:
        """Respond piece by piece: ``async with exchange.stream(200) as stream: await stream.send(chunk)``.

        The head goes out with the first piece, or at once by ``stream.flush()``. When the block ends well the body is
        completed. When it raises or is cancelled the body is never completed: the client sees that the response is
        truncated, and the connection is closed. A client that goes away ends the block, also one that only ends its
        direction: see `eof_is_gone` and `wait_disconnected`.

        Args:
            status: 200 to 999.
            headers: Fields; see `respond`.
            length: Bytes of the body, if known. Otherwise it is sent in chunks, or to HTTP/1.0 until the connection
                ends.

        Raises (on entering):
            LocalProtocolError, ValueError, TypeError: as for `respond`.

        Source: RFC 9112 §6, §7.1.
        """
        if length is not None:
            check_count("length", length)
        return ResponseStream(
            self, self.connection._cycle, self.connection._output, status=status, headers=headers, length=length
        )

    # --- another protocol ----------------------------------------------------------------------------------------

    @enable_ki_protection
    async def upgrade(self, recipe: Recipe[Successor]) -> Successor:
        """Make the connection something else, which this request asks for (Upgrade), or which it tunnels to (CONNECT).

        Bytes behind the request are the successor's first input.

        Args:
            recipe: Such as `to_websocket_server` or `to_connection`; used once.

        Returns:
            The successor, OPEN, in the same scope. The loop over the connection then ends quietly.

        Raises:
            UpgradeRefusedError: the request cannot be upgraded in this way. The recipe has responded, and the
                connection goes on.
            LocalProtocolError: the request does not ask for it, has a body, or has a response already. Nothing has
                changed: respond in another way.
            UpgradeFailedError: the handshake failed. If a byte had been sent, the connection is CLOSED.
            HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `Handle.upgrade`.

        The connection's handle is MOVED (`UPGRADED`) afterwards.

        Cancellation: before a byte was sent, nothing has happened; afterwards the connection is CLOSED.

        Source: RFC 9110 §7.8, §9.3.6.
        """
        connection, cycle = self.connection, self.connection._cycle
        cycle.check(self, "upgrade")
        if self.status or not (cycle.machine.bodiless and cycle.is_request_complete(self)):
            why = f"it was answered with {self.status}" if self.status else "it has a body"
            raise LocalProtocolError(f"upgrade refused: {self!r}: {why}")
        await connection._lookouts.stand_aside()
        await connection._output.flush_all(self)
        before = cycle.machine.snapshot()
        try:
            successor = await connection._upgrade(recipe, Event.UPGRADE_LEASED, self)
        except UpgradeRefusedError:
            cycle.settle()
            raise
        except BaseException:
            if connection.phase is Phase.OPEN:  # nothing was sent: the request can be answered otherwise
                cycle.undo_response(before)
                self.status = 0
            raise
        finally:
            connection._lookouts.go_on()
        self.status = 200 if self._head.method == "CONNECT" else 101
        return successor

    def _accept_upgrade(self, headers: HeaderInput | Headers = (), *, status: int = 101) -> bytes:
        """The bytes with which a recipe accepts: 101, or a 2xx to CONNECT. Changes nothing. For recipes.

        Args:
            headers: Fields; for 101 Upgrade is among them, and Connection is added.
            status: 101, or 200 to 299 to CONNECT.

        Raises:
            LocalProtocolError: the request does not ask for this protocol, or for none at all.
            ValueError, TypeError: a field cannot be sent; see `Headers`.
        """
        return self.connection._cycle.machine.switch_head(headers, status=status)

    @enable_ki_protection
    def _refuse_upgrade(self, status: int, headers: HeaderInput | Headers = (), body: bytes = b"") -> bytes:
        """The bytes with which a recipe answers a request that it declines, before `UpgradeRefusedError`. A step.

        Raises:
            LocalProtocolError, ValueError, TypeError: as for `respond`.
        """
        data = self.connection._cycle.machine.respond(status, headers, body)
        self.status = status
        return data
