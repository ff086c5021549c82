"""The client's handle on an HTTP/1.1 connection: one request after another, read by the task that asks.

A request is a lease: from its first byte until its response has ended nobody can take the connection away, and a second
request is refused before a byte of it is written. No task stands behind it and no cancel scope; only a body that the
system does not take at once is sent by a task of its own (`upload`), because the server may answer before it has read
it all.

The handle has two parts. `ClientIO` carries exchanges: `exchange` sends a request by it, and the response reads its
body by it. `Reuse` says whether the connection may carry another request, and is what a pool goes by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import current_task, enable_ki_protection

from ...handle import Handle
from ...ownership import Event
from ...support.block import NeedsAsyncWith
from ...support.generators import close_generator
from ..content import content_fields, make_content
from ..protocol.client_machine import H1Client
from ..protocol.headers import with_defaults
from ..protocol.prepared_request import PreparedRequest
from .exchange import exchange
from .io import ClientIO
from .response import Response
from .reuse import Reuse

if TYPE_CHECKING:
    from types import TracebackType

    from ...handle.detached import Detached
    from ...ownership import Phase
    from ..content import Content
    from ..protocol.headers import HeaderInput, Headers
    from ..protocol.limits import HTTPLimits

__all__ = ["HTTPClientConnection"]


class HTTPClientConnection(Handle, trio.abc.AsyncResource):
    """A client's HTTP/1.1 connection, with exactly one owner; made by `to_http_client` and by `HTTPClient`."""

    __slots__ = ("_host", "_io", "_machine", "_reuse")

    def __init__(self, capsule: Detached, *, host: str | None, limits: HTTPLimits) -> None:
        self._machine = H1Client(capsule.leftover, limits)
        self._host = host
        super().__init__(capsule)
        self._leftover.clear()

    def _renew(self) -> None:
        super()._renew()
        self._io = ClientIO(self, self._machine)
        self._reuse = Reuse(self._io)

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The value of the Host field in requests that have none of their own."""
        if self._host is None:
            match self._remote_address:
                case (str(host), int(port), *_):
                    bare = host.partition("%")[0]
                    self._host = f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
                case _:
                    self._host = "localhost"
        return self._host

    @property
    def limits(self) -> HTTPLimits:
        """The bounds on what the server may send."""
        return self._machine.limits

    @enable_ki_protection
    def is_silent(self) -> bool:
        """Whether the server has sent nothing since the last exchange, not even EOF: told without waiting. A step.

        What a server sends between two exchanges is either the end of the connection, or would be taken for the
        response to the next request. So a connection that is not silent must not be used again. False also on a stream
        that cannot tell, while a request is under way, and on a handle that is being taken away or has ended.
        """
        return self._reuse.is_silent()

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

        The connection can carry the next request when the response has been read to its end. What is left unread at the
        end of the block is read and dropped within ``limits.drain_bytes`` and ``limits.drain_timeout``. If that is not
        enough, or if the block is left by an exception, the connection is closed.

        Args:
            method: A token, as upper case as it is meant.
            target: A path with its query; or an absolute URL for a proxy, ``*``, ``host:port`` for CONNECT.
            headers: Pairs or a mapping. Host, Content-Length and Transfer-Encoding are added where they are needed.
            content: The body: bytes, str, a binary file, an iterable or an async iterable of bytes.
            json: A value to be sent as JSON, instead of `content`.
            expect_continue: Ask the server whether it wants the body: wait up to 1 s for 100 (Continue) with it.

        Raises (in the block's beginning):
            HandleBusyError: another request is under way; nothing was sent, `blockers` names its task.
            HandleBrokenError: the connection failed.
            RemoteProtocolError: the server broke the protocol, or ended the connection instead of answering.
            HandleClosedError, HandleMovedError: the handle has ended, or was closed meanwhile.
            LocalProtocolError, ValueError, TypeError: the request cannot be sent; nothing was.
            Whatever the producer of the body raises; the message is then never completed, and the connection closed.

        Errors of the network say whether a retry is safe, in words and as ``retry_safe``.

        Cancellation: the connection is closed (`ABORTED`) if anything of the request had been sent.

        Source: RFC 9110 §9, §10.1.1; RFC 9112 §9.
        """
        return RequestContext(self, method, target, headers, content, json, expect_continue)

    @enable_ki_protection
    async def _exchange(self, prepared: PreparedRequest, content: Content) -> Response:
        """Send a prepared request and receive the head of its response, which has to be left with `Response._leave`.

        Raises and Cancellation: as `request`.
        """
        return Response(self, await exchange(self._io, prepared, content), prepared)

    # --- the handle ----------------------------------------------------------------------------------------------

    def _waits_for_asker(self) -> bool:
        """Whether the task that asks is in the block of the exchange, and no other task receives for it."""
        return bool(self._leases) and self._reader is None and self._leases[0]._holder is current_task()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close gracefully: wait for the exchange under way, say goodbye, release.

        A task that calls it inside the block of its own response gives that response up, because no other task would
        read the rest; so does the producer of a body, because its request cannot be completed without it. See
        `Handle.aclose`.

        Cancellation: the handle is aborted (`ABORTED`).
        """
        self._take(Event.ACLOSE)
        self._give_up_own()
        await super().aclose()

    @enable_ki_protection
    def _scope_event(self, event: Event) -> None:
        """Take an event of the scope; see `Handle._scope_event`. The task that leaves it does not wait for itself."""
        super()._scope_event(event)
        if event is Event.SCOPE_LEFT:
            self._give_up_own()

    def _give_up_own(self) -> None:
        if self._waits_for_asker():
            self._leases[0]._give_up()
        elif self._leases and self._leases[0]._worker is current_task():
            self.abort()  # by the producer of a body, which goes no further until the connection has ended

    def _phase_changed(self, before: Phase) -> None:
        super()._phase_changed(before)
        if self._life.state.phase.terminal:
            self._reuse.ended()
            self._io.let_go()

    def _unread(self) -> bytes:
        return self._machine.unread()

    def _set_unread(self, data: bytes | bytearray) -> None:
        self._machine.replace_unread(bytes(data))


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
            response = await self._connection._exchange(PreparedRequest(method, target, fields), body)
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
            await self._response._leave(exc)  # noqa: ASYNC102 - a cancelled block drains nothing
        finally:
            await close_generator(self._arguments[3])  # noqa: ASYNC102 - as above; it may not have been asked for
