"""A handshake that waits for the server's decision: what a handler of trio-websocket's is given.

The request is read by trionet's HTTP server, so all that its parser refuses is refused here, and a request that is not
a handshake gets a response, on a connection that goes on.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio
from trio_websocket import CloseReason, ConnectionClosed, Endpoint, HandshakeError

from ...errors import RemoteProtocolError
from ...http.protocol.headers import split_list
from ...http.server.recipe import to_http_server
from ...ownership import Phase
from ...scope.opening import open_single
from ...websocket.handshake import rules
from ...websocket.handshake.server import WebSocketServerRecipe
from .connection import WebSocketConnection
from .endpoint import Endpoints, endpoints_of
from .mistakes import NotAllowedError
from .options import MAX_MESSAGE_SIZE, MESSAGE_QUEUE_SIZE, RECEIVE_BYTES, Options, split_fields
from .taking import take

if TYPE_CHECKING:
    from ...http.server.exchange import Exchange
    from ...ownership import End
    from ...scope.scope import Scope
    from .options import Fields

__all__ = ["WebSocketRequest", "receive_request", "wrap_server_stream"]

_NOT_SHOWN: Final = frozenset({b"host", b"sec-websocket-extensions", b"sec-websocket-protocol"})


class WebSocketRequest:
    """A client's handshake; `accept` or `reject` it. As `trio_websocket.WebSocketRequest`."""

    def __init__(self, exchange: Exchange, endpoints: Endpoints, options: Options, *, attends: bool) -> None:
        self._exchange = exchange
        self._attends = attends
        self._endpoints = endpoints
        self._options = options
        self._connection: WebSocketConnection | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The fields of the request but for Host, and what is offered in Sec-WebSocket-*; names in lower case."""
        fields = [(name.lower(), value) for name, value in self._exchange.headers.raw]
        return [field for field in fields if field[0] not in _NOT_SHOWN]

    @property
    def path(self) -> str:
        """Path and query."""
        return rules.resource_name(self._exchange.target)

    @property
    def proposed_subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers."""
        return tuple(split_list(self._exchange.headers.get_list("Sec-WebSocket-Protocol")))

    @property
    def local(self) -> Endpoint | str:
        """This side's endpoint, or the ``repr()`` of a stream that has none."""
        return self._endpoints.local

    @property
    def remote(self) -> Endpoint | str:
        """The client's endpoint, or the ``repr()`` of a stream that has none."""
        return self._endpoints.remote

    async def accept(self, *, subprotocol: str | None = None, extra_headers: Fields = None) -> WebSocketConnection:
        """Accept the handshake.

        Args:
            subprotocol: One of the proposed ones.
            extra_headers: Additional fields of the response, of bytes or str. Those that the handshake sets itself are
                left out; a Sec-WebSocket-Protocol is as good as `subprotocol`.

        Raises:
            LocalProtocolError: the subprotocol was not proposed, or the request is answered already.
            TypeError, ValueError: a field cannot be sent.
            ConnectionClosed: the client has gone.

        Cancellation: before the response was sent nothing has happened; afterwards the connection is closed.
        """
        self._check_undecided("accept()")
        extra, named = split_fields(extra_headers)
        chosen = self._choose(([] if subprotocol is None else [subprotocol]) + named)
        recipe = WebSocketServerRecipe(chosen, extra, None, self._options.settings())
        try:
            websocket = await self._exchange.upgrade(recipe)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionClosed(CloseReason(1006, None)) from exc
        assert isinstance(websocket, WebSocketConnection)
        websocket._set_up(self._options.queue_size, self._endpoints)
        if self._attends:
            websocket.scope._owner.start_service(websocket._attend)
        self._connection = websocket
        return websocket

    def _choose(self, names: list[str]) -> tuple[str, ...]:
        """The subprotocol that these name, if any does.

        Raises:
            LocalProtocolError: they name several, or one that was not proposed.
        """
        chosen = tuple(dict.fromkeys(names))
        if len(chosen) > 1:
            raise NotAllowedError(f"accept() refused: it names several subprotocols, {chosen!r}; name one")
        if chosen and chosen[0] not in self.proposed_subprotocols:
            raise NotAllowedError(
                f"subprotocol {chosen[0]!r} was not proposed by the client: {self.proposed_subprotocols!r}"
            )
        return chosen

    def _check_undecided(self, what: str) -> None:
        """Raise if the request is answered already."""
        if self._connection is not None or self._exchange.status:
            answered = "accepted" if self._connection is not None else f"answered with {self._exchange.status}"
            raise NotAllowedError(f"{what} refused: the handshake was {answered} before")

    async def reject(
        self,
        status_code: int,
        *,
        extra_headers: Fields = None,
        body: bytes | None = None,
    ) -> None:
        """Reject the handshake, and end the connection.

        Args:
            status_code: 300 to 599 is what fits.
            extra_headers: Fields of the response.
            body: Its body.

        Raises:
            LocalProtocolError: the status is 1xx, or the request is answered already.
            ValueError: a field cannot be sent.
            ConnectionClosed: the client has gone.

        Cancellation: as `Exchange.respond`.
        """
        self._check_undecided("reject()")
        fields: list[tuple[Any, Any]] = [*(extra_headers or ()), ("Connection", "close")]
        try:
            await self._exchange.respond(status_code, body or b"", headers=fields)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionClosed(CloseReason(1006, None)) from exc

    async def _wait_decided(self) -> End:
        """The end of the HTTP connection: its successor is the WebSocket, if the handshake was accepted.

        Cancellation: nothing but the waiting ends.
        """
        return await self._exchange.connection.wait_ended()

    async def _finish(self, *, failed: bool) -> None:
        """The handler is through: close what it has left open, within the scope's ``drain_timeout``.

        Never raises an error: a client that is gone by then does not concern the other connections.

        Cancellation: the scope closes it.
        """
        if self._connection is not None:
            await self._connection.aclose(1011 if failed else 1000)
        elif not self._exchange.status and self._exchange.connection.phase is Phase.OPEN:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._exchange.respond(500, headers=[("Connection", "close")])


async def receive_request(
    scope: Scope, stream: trio.abc.Stream, options: Options, *, attends: bool
) -> WebSocketRequest | None:
    """The first request over `stream` that is a handshake; None if the connection ends before. Takes the stream.

    With `attends`, the scope's service tasks attend to the WebSocket once it is accepted; else the caller does.

    Cancellation: the stream belongs to `scope`, which closes it.
    """
    endpoints = endpoints_of(stream)
    try:
        async for exchange in await (await take(scope, stream)).upgrade(to_http_server()):
            try:
                rules.check_request(exchange._head)
                if exchange._head.has_body:
                    raise rules.NotAcceptableError(400, "a WebSocket handshake has no body")
            except rules.NotAcceptableError as exc:
                response = exc.response
                fields = [field for field in response.headers.items() if field[0] != "Content-Length"]
                await exchange.respond(response.status, response.body, headers=fields)
            else:
                return WebSocketRequest(exchange, endpoints, options, attends=attends)
    except (RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it got a response as far as that can be done, and does not concern the other connections
    return None


async def wrap_server_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    message_queue_size: float = MESSAGE_QUEUE_SIZE,
    max_message_size: float = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketRequest:
    """As `trio_websocket.wrap_server_stream`: the handshake that comes over a stream, which belongs to it from now on.

    Args:
        nursery: A task in it owns the connection until it is closed.
        stream: Any Trio stream that is not in use.
        message_queue_size: As for `open_websocket`.
        max_message_size: See there.
        receive_buffer_size: Without effect.

    Raises:
        TypeError, ValueError: an argument cannot be right; the stream is as it was.
        HandshakeError: the client has ended the connection, or has sent what is not HTTP.
        trio.BusyResourceError, trio.ClosedResourceError: the stream is in use, or closed.

    Cancellation: the stream is closed.
    """
    options = Options.check(message_queue_size, max_message_size)
    request: WebSocketRequest = await nursery.start(_hold_request, stream, options)
    return request


async def _hold_request(
    stream: trio.abc.Stream, options: Options, *, task_status: trio.TaskStatus[WebSocketRequest]
) -> None:
    """Own a connection, in a task of the user's nursery, until it has ended, whatever it becomes."""
    async with open_single("trio_websocket", math.inf) as scope:
        request = await receive_request(scope, stream, options, attends=False)
        if request is None:
            raise HandshakeError("the client ended the connection without a WebSocket handshake")
        task_status.started(request)
        end = await request._wait_decided()
        if isinstance(end.successor, WebSocketConnection):
            await end.successor._keep()
