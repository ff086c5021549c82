"""A request, as its handler sees it: line, fields, body, and whether its client is there. `Exchange` adds the response.

The body is read by a part of the connection (`input`), which knows when the client has to be asked for it, and when
other tasks get their turn. What stands here is how a program wants it: as bytes, as JSON, as a form, or piece by piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import parse_qsl

from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from ...errors import LimitExceededError, LocalProtocolError, RemoteProtocolError
from ...support.checks import check_count, check_flag
from ...support.multi_mapping import MultiMapping
from ..content import read_json
from ..protocol.cookies import read_cookies
from ..protocol.target import origin_form

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ..protocol.head import RequestHead
    from ..protocol.headers import Headers
    from ..protocol.limits import HTTPLimits
    from .cycle import Cycle
    from .input import RequestInput
    from .lookout import Lookouts
    from .uploaded_file import UploadedFile

__all__ = ["MAX_BODY", "IncomingRequest"]

MAX_BODY: Final = 2**20
"""Bytes of a request's body that `read` and `json` take by default."""


class ReadConnection(Protocol):
    """What is needed of an `HTTPServerConnection`, which stands above."""

    _cycle: Cycle
    _input: RequestInput
    _lookouts: Lookouts

    @property
    def remote_address(self) -> Any:
        """As `Handle.remote_address`."""
        ...


class IncomingRequest:
    """The half of an exchange that comes from the client."""

    __slots__ = ("_eof_is_gone", "_gathered", "_head", "_trailers", "connection", "status")

    connection: Any
    status: int

    def __init__(self, connection: ReadConnection, head: RequestHead) -> None:
        self.connection = connection
        self.status = 0
        self._head = head
        self._gathered: bytearray | None = None
        self._trailers: Headers | None = None

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
    def query_params(self) -> MultiMapping[str]:
        """The names and values of the query, as HTML forms write them: decoded, ``+`` for a space, ``&`` between.

        A name without a value has an empty one. What is no UTF-8 becomes U+FFFD. Parsed anew each time.

        Source: WHATWG URL, application/x-www-form-urlencoded parsing.
        """
        return MultiMapping(parse_qsl(self.query, keep_blank_values=True))

    @property
    def http_version(self) -> str:
        """``1.0`` or ``1.1``."""
        return self._head.http_version

    @property
    def headers(self) -> Headers:
        """The fields of the request."""
        return self._head.headers

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies of the request, by name, as the client sent them. Of several with one name it is the first.

        A browser sends the one with the most specific path first. Parsed anew each time.

        Source: RFC 6265bis §5.8.
        """
        return read_cookies(self._head.headers.get_list("cookie"))

    @property
    def wants_websocket(self) -> bool:
        """Whether the client asks for a WebSocket in a request that can become one: a GET without a body."""
        head = self._head
        fields: Any = head.fields
        return (
            fields is not None
            and b"websocket" in fields.upgrade
            and b"upgrade" in fields.options
            and head.method == "GET"
            and head.http_version == "1.1"
            and not (fields.chunked or fields.length)
        )

    @property
    def offered_protocols(self) -> tuple[str, ...]:
        """The protocols that the request offers to switch to, lower case; none where a switch is not possible."""
        cycle = self.connection._cycle
        return cycle.machine.upgrade if cycle.exchange is self else ()

    @property
    def remote_address(self) -> Any:
        """The client's address, as for `Handle.remote_address`."""
        return self.connection.remote_address

    @property
    def trailers(self) -> Headers:
        """The trailer fields, which follow the request's body.

        Raises:
            LocalProtocolError: the body has not been read to its end yet.
        """
        if self._trailers is None:
            raise LocalProtocolError(f"trailers follow the body: read that of {self!r} to its end first")
        return self._trailers

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
            limits: HTTPLimits = self.connection._cycle.limits
            return limits.eof_is_gone

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
            body: bytes | None = self.connection._input.take_body(self, max_bytes)
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

    async def json(self, max_bytes: int = MAX_BODY) -> Any:
        """The request's body, read as JSON.

        Its Content-Type is not looked at. Of a name that an object has twice the last value counts.

        Args:
            max_bytes: How long it may be.

        Raises:
            RemoteProtocolError: it is not JSON in UTF-8: also if it is empty, nested too deeply, or has NaN, Infinity
                or an integer of thousands of digits. Uncaught, it gives a 400.
            LimitExceededError, LocalProtocolError and others: as for `read`. Uncaught, the first gives a 413.

        Cancellation: as for `read`.

        Source: RFC 8259.
        """
        data = await self.read(max_bytes)
        try:
            return read_json(data)
        except ValueError as exc:
            raise RemoteProtocolError(str(exc)).with_handle(self.connection) from exc

    def form(
        self, *, max_parts: int = 1000, max_field_bytes: int = 2**20, max_bytes: int = 100 * 2**20
    ) -> AbstractAsyncContextManager[MultiMapping[str | UploadedFile]]:
        """Read the request's body as a form: ``async with exchange.form() as form: form["name"]``.

        Urlencoded or multipart/form-data, for which python-multipart has to be installed (the extra ``forms``). Values
        are str, and `UploadedFile` for files, which are open until the block ends. Small files are in memory, others in
        files of the system's temporary folder that have no names.

        Args:
            max_parts: How many fields and files there may be.
            max_field_bytes: How long a value may be that is no file; all together have eight times that at most, and
                an urlencoded form has that in all.
            max_bytes: How long the form may be.

        Raises (on entering):
            RemoteProtocolError: it is malformed, or the client ended the connection in the middle of it; or the request
                has something other than a form. Uncaught, it gives a 400 or 415.
            LimitExceededError: it is larger than allowed. Uncaught, it gives a 413.
            HTTPException: 507, as there is no room for its files. Other errors of the disk are raised as they are.
            ValueError, TypeError: a bound cannot be right.
            LocalProtocolError, HandleBusyError, HandleBrokenError, HandleClosedError, HandleMovedError: as for `read`.

        Cancellation: what was read of the form is gone; a write to the disk is waited for.

        Source: RFC 7578; WHATWG URL, application/x-www-form-urlencoded parsing.
        """
        from .form import open_form

        return open_form(self, max_parts, max_field_bytes, max_bytes)

    def __aiter__(self) -> Self:
        """Iterate over the request's body, in pieces as they come. Raises what `read` raises."""
        return self

    @enable_ki_protection
    async def __anext__(self) -> bytes:
        await checkpoint_if_cancelled()
        gathered, self._gathered = self._gathered, None
        if gathered:
            return bytes(gathered)
        body: RequestInput = self.connection._input
        waited = False
        while (chunk := body.next_chunk(self)) is None:
            waited = await body.receive(self)
        if not waited:
            await body.yield_once()
        if not chunk:
            raise StopAsyncIteration
        return chunk
