"""The client's handle on an HTTP/1.1 connection: one request after another, read by the task that asks.

A request is a lease: from its first byte until its response has ended nobody can take the connection away, and a second
request is refused before a byte of it is written. No task stands behind it and no cancel scope; only a body that the
system does not take at once is sent by a task of its own (`upload`), because the server may answer before it has read
it all.

What the connection may be used for is decided by the machine in `h1_client`; what belongs to one response, and how its
block is left, is in `response`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from ...handle import Lease
from ...ownership import Phase, Receive, Send
from ...support.block import NeedsAsyncWith
from ...support.generators import close_generator
from ..content import make_content
from ..protocol.framing import NO_BODY
from ..protocol.head import ResponseHead
from ..protocol.machine import Signal
from ..protocol.prepared import PreparedRequest, content_fields, with_defaults
from ..protocol.states import H1State
from .link import ClientLink
from .response import Response
from .upload import Upload

if TYPE_CHECKING:
    from types import TracebackType

    from ..content import Content
    from ..protocol.headers import HeaderInput, Headers

__all__ = ["HTTPClientConnection"]

CONTINUE_SECONDS: Final = 1.0
"""How long a request that expects 100 (Continue) waits for it before it sends its body (RFC 9110 §10.1.1)."""

SMALL: Final = 65536
"""Bytes of a body that are joined with the head into one send at most."""

_OPEN: Final = Phase.OPEN
_RECEIVE_IDLE: Final = Receive.IDLE
_SEND_IDLE: Final = Send.IDLE
_NEED_DATA: Final = Signal.NEED_DATA


class HTTPClientConnection(ClientLink, trio.abc.AsyncResource):
    """A client's HTTP/1.1 connection, with exactly one owner; made by `to_http_client` and by `HTTPClient`."""

    __slots__ = ()

    # --- requests ------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderInput | Headers = (),
        content: Any = None,
        json: Any = None,
        expect_continue: bool = False,
    ) -> RequestContext:
        """Send a request and receive the head of its response: ``async with http.request(...) as response``.

        The block holds the connection: it can carry the next request when the response has been read to its end. What
        is unread when the block is left goes: within ``limits.drain_bytes`` and ``limits.drain_timeout`` it is read and
        dropped, otherwise, or if the block is left by an exception, the connection is closed.

        Args:
            method: A token, as upper case as it is meant.
            target: A path with its query; or an absolute URL for a proxy, ``*``, ``host:port`` for CONNECT.
            headers: Pairs or a mapping. Host, Content-Length and Transfer-Encoding are added as they are needed.
            content: The body: bytes, str, a binary file, an iterable or an async iterable of bytes.
            json: The body as a value to be written as JSON; instead of `content`.
            expect_continue: Ask the server whether it wants the body: wait up to 1 s for 100 (Continue) with it.

        Raises (in the block's beginning):
            HandleBusyError: another request is under way; nothing was sent, `blockers` names its task.
            HandleBrokenError: the connection failed.
            RemoteProtocolError: the server broke the protocol, or ended the connection instead of answering.
            HandleClosedError, HandleMovedError: the handle has ended, or was closed meanwhile.
            LocalProtocolError, ValueError, TypeError: the request cannot be sent; nothing was.
            Whatever the producer of the body raises: the message is then never completed, the connection closed.

        Errors of the network say whether a retry is safe, in words and as ``retry_safe``.

        Cancellation: the connection is closed (`ABORTED`) if anything of the request had been sent.

        Source: RFC 9110 §9, §10.1.1; RFC 9112 §9.
        """
        return RequestContext(self, method, target, headers, content, json, expect_continue)

    @enable_ki_protection
    async def exchange(self, prepared: PreparedRequest, content: Content) -> Response:
        """Send a prepared request and receive the head of its response, which has to be left with `Response.leave`.

        Raises and Cancellation: as `request`.
        """
        life, machine, body = self._life, self._machine, content.data
        if (
            life.phase is not _OPEN
            or life.leases
            or life.send is not _SEND_IDLE
            or life.receive is not _RECEIVE_IDLE
            or life.reset
            or machine.buffered
        ):
            self._refuse_request()
        await checkpoint_if_cancelled()
        if body is None or prepared.expects or len(body) > SMALL:
            wire = machine.begin(prepared, prepared.framing(content.length))
        else:
            wire = machine.send_request(prepared, body)
        lease = Lease(prepared.name, self._exchange_over)
        life.leases = 1  # all that the table has for it in this phase
        self._leases = (*self._leases, lease)
        self.answered = False
        self.uses += 1
        try:
            sent = self._send_now(wire)
            if sent < len(wire) or machine.our_state is H1State.BODY:
                return await self._exchange_slowly(prepared, lease, memoryview(wire)[sent:], content)
            return self._respond(await self._read_head(lease), prepared, lease)
        except BaseException as exc:
            self.exchange_failed(exc, prepared.method)
            raise

    async def _exchange_slowly(
        self, prepared: PreparedRequest, lease: Lease, rest: memoryview, content: Content
    ) -> Response:
        """An exchange with a large body, one that has yet to be produced, or one that the server is asked about."""
        machine = self._machine
        if machine.our_state is not H1State.BODY:
            return await self._upload(prepared, Upload(self, lease, rest, None))
        if not machine.awaits_continue:
            return await self._upload(prepared, Upload(self, lease, rest, content))
        if rest:
            await self.send_leased(rest, lease)
        head = await self._await_continue(lease)
        if head is None:
            return await self._upload(prepared, Upload(self, lease, None, content))
        machine.abandon()  # answered without the body: nobody knows whether the server still waits for it
        return self._respond(head, prepared, lease)

    async def _await_continue(self, lease: Lease) -> ResponseHead | None:
        """Wait until the server says that it wants the body, or for so long: the final response if that came first."""
        machine = self._machine
        with trio.move_on_after(CONTINUE_SECONDS):
            while machine.awaits_continue:
                head = await self._next_head(lease)
                if head.status >= 200:
                    return head
        return None

    async def _upload(self, prepared: PreparedRequest, upload: Upload) -> Response:
        """Send the rest in a task of its own, while this one receives the head of the response."""
        upload.begin()
        try:
            head = await self._read_head(upload.lease)
        except BaseException:
            await self._end_upload(upload)  # noqa: ASYNC102 - shielded in there
            raise
        if upload.over or head.status >= 300:
            await self._end_upload(upload)
            return self._respond(head, prepared, upload.lease)
        return self._respond(head, prepared, upload.lease, upload)

    async def _end_upload(self, upload: Upload) -> None:
        """Raises what the producer of the body has raised."""
        await upload.end()
        self._foreign = upload.error
        upload.raise_error()

    def _respond(
        self, head: ResponseHead, prepared: PreparedRequest, lease: Lease, upload: Upload | None = None
    ) -> Response:
        response = Response(self, head, prepared, lease, upload)
        if self._machine.framing == NO_BODY:
            response.begin_empty()
        return response

    async def _read_head(self, lease: Lease) -> ResponseHead:
        """The head that answers the request; what informs on the way is passed by (RFC 9110 §15.2)."""
        while True:
            head = await self._next_head(lease)
            if head.status >= 200 or head.status == 101:
                return head

    async def _next_head(self, lease: Lease) -> ResponseHead:
        machine = self._machine
        if not machine.buffered:
            await self.receive(lease)
        while (event := machine.next_event()) is _NEED_DATA:
            await self.receive(lease)
        assert isinstance(event, ResponseHead)
        return event


class RequestContext(NeedsAsyncWith):
    """What `HTTPClientConnection.request` returns: an asynchronous context manager of the `Response`."""

    __slots__ = ("_arguments", "_connection", "_response", "_sending")

    def __init__(self, connection: HTTPClientConnection, *arguments: Any) -> None:
        self._connection = connection
        self._arguments = arguments
        self._response: Response | None = None
        self._sending = False

    def _usage(self) -> str:
        return "a request is a block: write `async with http.request(...) as response`"

    @enable_ki_protection
    async def __aenter__(self) -> Response:
        if self._response is not None or self._sending:
            raise RuntimeError("this request was sent already; call request() again")
        method, target, headers, content, json, expect_continue = self._arguments
        self._sending = True  # a second task would be refused, and close the generator that the first one is sending
        try:
            body = make_content(content, json)
            fields = with_defaults(headers, [("Host", self._connection.host), *content_fields(body, expect_continue)])
            response = await self._connection.exchange(PreparedRequest(method, target, fields), body)
        except BaseException:
            self._sending = False
            await close_generator(content)  # noqa: ASYNC102, ASYNC120 - what it waits for is its own business
            raise
        self._response = response
        return response

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._response is not None
        try:
            await self._response.leave(exc)  # noqa: ASYNC102 - a cancelled block drains nothing
        finally:
            await close_generator(self._arguments[3])  # noqa: ASYNC102 - as above; it may not have been asked for
