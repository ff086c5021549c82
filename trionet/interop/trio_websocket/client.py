"""The client's side: what opens a WebSocket to a host, to a URL, or over a stream that is there already."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from trio_websocket import ConnectionTimeout, DisconnectionTimeout, HandshakeError

from ...scope.opening import open_single
from ...support.checks import check_seconds
from .endpoint import endpoints_of
from .options import CONN_TIMEOUT, MAX_MESSAGE_SIZE, MESSAGE_QUEUE_SIZE, RECEIVE_BYTES, Options
from .taking import take
from .way import Way, client_recipe, shake_hands, take_apart

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from ...scope.scope import Scope
    from .connection import WebSocketConnection
    from .options import Fields

__all__ = [
    "connect_websocket",
    "connect_websocket_url",
    "open_websocket",
    "open_websocket_url",
    "wrap_client_stream",
]


def open_websocket(
    host: str,
    port: int,
    resource: str,
    *,
    use_ssl: bool | ssl.SSLContext,
    subprotocols: Iterable[str] | None = None,
    extra_headers: Fields = None,
    message_queue_size: float = MESSAGE_QUEUE_SIZE,
    max_message_size: float = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
    connect_timeout: float = CONN_TIMEOUT,
    disconnect_timeout: float = CONN_TIMEOUT,
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """As `trio_websocket.open_websocket`: a WebSocket to a host, for the length of a block.

    Args:
        host: Host name or IP address.
        port: 1 to 65535.
        resource: Path and query of the request.
        use_ssl: An SSL context; True for one that verifies with the system's certificates; False for no TLS.
        subprotocols: What to offer, best first.
        extra_headers: Additional fields of the request, of bytes or str. Those that the handshake sets itself are left
            out; the names in a Sec-WebSocket-Protocol are offered behind `subprotocols`.
        message_queue_size: Messages that are received ahead while no task receives, and one more; ``math.inf`` for no
            limit but that of bytes.
        max_message_size: The largest ``len()`` of a received message; a longer one closes with 1009. ``math.inf`` for
            no limit.
        receive_buffer_size: Without effect.
        connect_timeout: Seconds for connecting and the handshake.
        disconnect_timeout: Seconds for the close when the block is left.

    Raises:
        TypeError, ValueError: an argument cannot be right. At the call.
        HandshakeError: the server could not be reached, or the handshake went wrong.
        ConnectionTimeout, DisconnectionTimeout: not in time.
        ConnectionRejected: the server did not accept the handshake.
        Whatever the block raises, as it is.

    Cancellation: the connection is closed.
    """
    way = Way(
        host,
        port,
        resource,
        use_ssl=use_ssl,
        subprotocols=subprotocols,
        extra_headers=extra_headers,
        options=Options.check(message_queue_size, max_message_size),
    )
    seconds = check_seconds("connect_timeout", connect_timeout), check_seconds("disconnect_timeout", disconnect_timeout)
    return _opened(way, f"open_websocket {host!r}:{port}", *seconds)


@asynccontextmanager
async def _opened(
    way: Way, name: str, connect_timeout: float, disconnect_timeout: float
) -> AsyncIterator[WebSocketConnection]:
    async with open_single(name, math.inf) as scope:
        try:
            with trio.fail_after(connect_timeout):
                connection = await way.go(scope)
        except trio.TooSlowError:
            raise ConnectionTimeout from None
        except OSError as exc:
            raise HandshakeError(str(exc)) from exc
        attended = trio.Event()
        scope._owner.start_service(_attend, connection, attended)
        try:
            yield connection
        finally:
            try:
                await _close(connection, disconnect_timeout)  # noqa: ASYNC102 - a cancellation aborts the connection
            finally:
                with trio.CancelScope(
                    shield=True
                ):  # closed: it takes one step. The block's exception must not get lost
                    await attended.wait()


async def _attend(connection: WebSocketConnection, attended: trio.Event) -> None:
    """The attendant, as a service: a cancellation that it raised would take the place of what the block raises."""
    try:
        await connection._attend()
    except trio.Cancelled:  # noqa: ASYNC103 - the task ends with it all the same
        pass
    finally:
        attended.set()


async def _close(connection: WebSocketConnection, seconds: float) -> None:
    try:
        with trio.fail_after(seconds):
            await connection.aclose()
    except trio.TooSlowError:
        raise DisconnectionTimeout from None


async def connect_websocket(
    nursery: trio.Nursery,
    host: str,
    port: int,
    resource: str,
    *,
    use_ssl: bool | ssl.SSLContext,
    subprotocols: Iterable[str] | None = None,
    extra_headers: Fields = None,
    message_queue_size: float = MESSAGE_QUEUE_SIZE,
    max_message_size: float = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketConnection:
    """As `trio_websocket.connect_websocket`: a WebSocket to a host, that a task in `nursery` owns until it is closed.

    Arguments: as `open_websocket`.

    Raises:
        OSError: the server could not be reached.
        HandshakeError, ConnectionRejected: as for `open_websocket`.

    Cancellation: nothing stays open.
    """
    way = Way(
        host,
        port,
        resource,
        use_ssl=use_ssl,
        subprotocols=subprotocols,
        extra_headers=extra_headers,
        options=Options.check(message_queue_size, max_message_size),
    )
    connection: WebSocketConnection = await nursery.start(_hold, way.go, name=f"WebSocket to {host}:{port}")
    return connection


def open_websocket_url(
    url: str,
    ssl_context: ssl.SSLContext | None = None,
    *,
    subprotocols: Iterable[str] | None = None,
    extra_headers: Fields = None,
    message_queue_size: float = MESSAGE_QUEUE_SIZE,
    max_message_size: float = MAX_MESSAGE_SIZE,
    connect_timeout: float = CONN_TIMEOUT,
    disconnect_timeout: float = CONN_TIMEOUT,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """As `trio_websocket.open_websocket_url`: a WebSocket to a URL, for the length of a block.

    Args:
        url: ``ws://`` or ``wss://``.
        ssl_context: For ``wss://``; by default one that verifies with the system's certificates.
        subprotocols: As for `open_websocket`, and so are the others.
        extra_headers: See there.
        message_queue_size: See there.
        max_message_size: See there.
        connect_timeout: See there.
        disconnect_timeout: See there.
        receive_buffer_size: See there.

    Raises:
        ValueError: it is not such a URL, or an SSL context is given for ``ws://``.
        As `open_websocket`, on entering.
    """
    host, port, resource, use_ssl = take_apart(url, ssl_context)
    return open_websocket(
        host,
        port,
        resource,
        use_ssl=use_ssl,
        subprotocols=subprotocols,
        extra_headers=extra_headers,
        message_queue_size=message_queue_size,
        max_message_size=max_message_size,
        receive_buffer_size=receive_buffer_size,
        connect_timeout=connect_timeout,
        disconnect_timeout=disconnect_timeout,
    )


async def connect_websocket_url(
    nursery: trio.Nursery,
    url: str,
    ssl_context: ssl.SSLContext | None = None,
    *,
    subprotocols: Iterable[str] | None = None,
    extra_headers: Fields = None,
    message_queue_size: float = MESSAGE_QUEUE_SIZE,
    max_message_size: float = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketConnection:
    """As `trio_websocket.connect_websocket_url`: a WebSocket to a URL, that a task in `nursery` owns.

    Arguments, Raises and Cancellation: as `open_websocket_url` and `connect_websocket`.
    """
    host, port, resource, use_ssl = take_apart(url, ssl_context)
    return await connect_websocket(
        nursery,
        host,
        port,
        resource,
        use_ssl=use_ssl,
        subprotocols=subprotocols,
        extra_headers=extra_headers,
        message_queue_size=message_queue_size,
        max_message_size=max_message_size,
        receive_buffer_size=receive_buffer_size,
    )


async def wrap_client_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    host: str,
    resource: str,
    *,
    subprotocols: Iterable[str] | None = None,
    extra_headers: Fields = None,
    message_queue_size: float = MESSAGE_QUEUE_SIZE,
    max_message_size: float = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketConnection:
    """As `trio_websocket.wrap_client_stream`: a WebSocket over a stream, which belongs to it from now on.

    Args:
        nursery: A task in it owns the WebSocket until it is closed.
        stream: Any Trio stream that is not in use.
        host: The Host field of the request.
        resource: Its path and query.
        subprotocols: As for `open_websocket`, and so are the others.
        extra_headers: See there.
        message_queue_size: See there.
        max_message_size: See there.
        receive_buffer_size: See there.

    Raises:
        HandshakeError, ConnectionRejected: as for `open_websocket`.
        trio.BusyResourceError, trio.ClosedResourceError: the stream is in use, or closed.

    Cancellation: the stream is closed.
    """
    options = Options.check(message_queue_size, max_message_size)
    recipe = client_recipe(host, resource, subprotocols, extra_headers, options)
    endpoints = endpoints_of(stream)

    async def connect(scope: Scope) -> WebSocketConnection:
        return await shake_hands(await take(scope, stream), recipe, options.queue_size, endpoints)

    connection: WebSocketConnection = await nursery.start(_hold, connect, name=f"WebSocket over {stream!r:.80}")
    return connection


async def _hold(
    connect: Callable[[Scope], Awaitable[WebSocketConnection]], *, task_status: trio.TaskStatus[WebSocketConnection]
) -> None:
    """Own a WebSocket, in a task of the user's nursery, until it has ended."""
    async with open_single("trio_websocket", math.inf) as scope:
        connection = await connect(scope)
        task_status.started(connection)
        await connection._keep()
