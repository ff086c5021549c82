"""The server's side: listeners, a task for each connection, and a handler that decides about each handshake."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import trio
from trio_websocket import Endpoint

from ...custody import leaving
from ...scope.opening import open_scope
from ...support.checks import check_seconds
from ...tls import to_tls_server
from .connection import logger
from .options import CONN_TIMEOUT, MAX_MESSAGE_SIZE, MESSAGE_QUEUE_SIZE, RECEIVE_BYTES, Options
from .request import WebSocketRequest, receive_request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["WebSocketServer", "serve_websocket"]


async def serve_websocket(
    handler: Callable[[WebSocketRequest], Awaitable[None]],
    host: str | bytes | None,
    port: int,
    ssl_context: ssl.SSLContext | None,
    *,
    handler_nursery: trio.Nursery | None = None,
    message_queue_size: float = MESSAGE_QUEUE_SIZE,
    max_message_size: float = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
    connect_timeout: float = CONN_TIMEOUT,
    disconnect_timeout: float = CONN_TIMEOUT,
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """As `trio_websocket.serve_websocket`: serve WebSockets over TCP until cancelled.

    What `handler` raises ends the server, as with trio-websocket; `trionet.serve_tcp` keeps connections apart.

    Args:
        handler: Called with each `WebSocketRequest`.
        host: Name or address to listen on; every address of this machine if None.
        port: 0 to 65535; 0 lets the system choose.
        ssl_context: For TLS; None for none.
        handler_nursery: Where the connections' tasks are started; one of the server's own by default.
        message_queue_size: As for `open_websocket`.
        max_message_size: See there.
        receive_buffer_size: Without effect.
        connect_timeout: Seconds for the client's handshake.
        disconnect_timeout: Seconds for the close when the handler has returned.
        task_status: Reports the `WebSocketServer`.

    Raises:
        TypeError, ValueError: an argument cannot be right; nothing was opened.
        OSError: the address is in use, or not this machine's.
        BaseExceptionGroup: what handlers have raised.

    Cancellation: handlers are cancelled, connections and listeners closed.
    """
    _check(handler, message_queue_size, max_message_size, connect_timeout, disconnect_timeout)
    if ssl_context is not None:
        to_tls_server(ssl_context)  # checks it
    listeners: list[Any]
    if ssl_context is None:
        listeners = await trio.open_tcp_listeners(port, host=host)
    else:
        listeners = await trio.open_ssl_over_tcp_listeners(port, ssl_context, host=host, https_compatible=True)
    server = WebSocketServer(
        handler,
        listeners,
        handler_nursery=handler_nursery,
        message_queue_size=message_queue_size,
        max_message_size=max_message_size,
        receive_buffer_size=receive_buffer_size,
        connect_timeout=connect_timeout,
        disconnect_timeout=disconnect_timeout,
    )
    await server.run(task_status=task_status)


class WebSocketServer:
    """A server of WebSockets on listeners of Trio's. Arguments: as `serve_websocket`.

    Raises:
        TypeError, ValueError: there is no listener, or an argument cannot be right.
    """

    def __init__(
        self,
        handler: Callable[[WebSocketRequest], Awaitable[None]],
        listeners: Sequence[trio.abc.Listener[Any]],
        *,
        handler_nursery: trio.Nursery | None = None,
        message_queue_size: float = MESSAGE_QUEUE_SIZE,
        max_message_size: float = MAX_MESSAGE_SIZE,
        receive_buffer_size: int | None = RECEIVE_BYTES,
        connect_timeout: float = CONN_TIMEOUT,
        disconnect_timeout: float = CONN_TIMEOUT,
    ) -> None:
        if len(listeners) == 0:
            raise ValueError("Listeners must contain at least one item.")
        self._handler = handler
        self._handler_nursery = handler_nursery
        self._listeners = listeners
        self._options = _check(handler, message_queue_size, max_message_size, connect_timeout, disconnect_timeout)
        self._connect_timeout = connect_timeout
        self._disconnect_timeout = disconnect_timeout

    @property
    def port(self) -> int:
        """The port of the only listener.

        Raises:
            RuntimeError: there are several listeners, or it has no port.
        """
        if len(self._listeners) > 1:
            raise RuntimeError("Cannot get port because this server has more than 1 listener.")
        listener = self.listeners[0]
        if isinstance(listener, str):
            raise RuntimeError(f"This socket does not have a port: {listener!r}")  # noqa: TRY004 - as trio-websocket
        return listener.port

    @property
    def listeners(self) -> list[Endpoint | str]:
        """The endpoints that are listened on; the ``repr()`` of a listener that has none."""
        return [_endpoint(listener) for listener in self._listeners]

    async def run(self, *, task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Serve until cancelled.

        Args:
            task_status: Reports the server, once it listens.

        Raises:
            BaseExceptionGroup: what handlers have raised.

        Cancellation: handlers are cancelled, connections and listeners closed.
        """
        async with trio.open_nursery() as nursery:
            serve = partial(
                trio.serve_listeners,
                self._handle_connection,
                list(self._listeners),
                handler_nursery=self._handler_nursery,
            )
            await nursery.start(serve)
            logger.debug("Listening on %s", ",".join(map(str, self.listeners)))
            task_status.started(self)
            await trio.sleep_forever()

    async def _handle_connection(self, stream: trio.abc.Stream) -> None:
        """From the handshake to the close, in a task and a scope of its own."""
        async with open_scope(name="trio_websocket", drain_timeout=self._disconnect_timeout) as scope:
            request = None
            with trio.move_on_after(self._connect_timeout):
                request = await receive_request(scope, stream, self._options, attends=True)
            if request is None:
                leaving.abort_all(scope._owner)
                return
            try:
                await self._handler(request)
            except Exception:
                await _finish_failed(request)  # noqa: ASYNC120 - it raises no cancellation
                raise
            await request._finish(failed=False)


async def _finish_failed(request: WebSocketRequest) -> None:
    """Tell the client that the handler has failed. What it failed with is not lost to a cancellation meanwhile."""
    with suppress(trio.Cancelled):  # the handler's exception goes on in its place
        await request._finish(failed=True)


def _check(handler: Any, queue_size: Any, max_size: Any, connect_timeout: Any, disconnect_timeout: Any) -> Options:
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}: pass the function itself")
    check_seconds("connect_timeout", connect_timeout)
    check_seconds("disconnect_timeout", disconnect_timeout)
    return Options.check(queue_size, max_size)


def _endpoint(listener: trio.abc.Listener[Any]) -> Endpoint | str:
    inner = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
    if isinstance(inner, trio.SocketListener):
        match inner.socket.getsockname():
            case (str(host), int(port), *_):
                return Endpoint(host, port, inner is not listener)
    return repr(listener)
