"""The extension ``network_stream``: the connection of a response, in the interface of httpcore.

It answers questions about the connection at any time. It reads and writes bytes only where the response has ended HTTP
on the connection: after 101 (Switching Protocols), and after 2xx to CONNECT. Anywhere else the bytes belong to a
response, which would be torn if they were taken.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore
import trio

from ..errors import UpgradeFailedError
from ..http.client.connection import HTTPClientConnection
from ..tls import to_tls_client
from ..transport.tls.transport import TLSTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ..connection import Connection

__all__ = ["NetworkStream"]


class NetworkStream(httpcore.AsyncNetworkStream):
    """A connection, for HTTPX and what is built on it. Its errors are httpcore's.

    Args:
        connection: A `Connection`, or an `HTTPClientConnection`, which becomes one with the first read or write.
    """

    def __init__(self, connection: Connection | HTTPClientConnection) -> None:
        self._connection = connection

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next 1 to `max_bytes` bytes; ``b""`` at the end.

        Raises:
            httpcore.ReadError, httpcore.ReadTimeout: there are none, or not in time.
            httpcore.LocalProtocolError: the connection carries HTTP.

        Cancellation: not a byte is lost.
        """
        connection = self._as_bytes()
        with _mapped(httpcore.ReadError, httpcore.ReadTimeout, timeout):
            return await connection.receive_some(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`.

        Raises:
            httpcore.WriteError, httpcore.WriteTimeout: that failed, or took too long.
            httpcore.LocalProtocolError: the connection carries HTTP.

        Cancellation: as for `Connection.send_all`.
        """
        connection = self._as_bytes()
        with _mapped(httpcore.WriteError, httpcore.WriteTimeout, timeout):
            await connection.send_all(buffer)

    async def aclose(self) -> None:
        """Close it, at once if the task is cancelled. HTTP on it ends with its response instead.

        Cancellation: it is closed at once.
        """
        if not isinstance(self._connection, HTTPClientConnection):
            await self._connection.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        """The same connection with TLS on it.

        Raises:
            httpcore.ConnectError, httpcore.ConnectTimeout: that failed; the connection is closed.
            httpcore.LocalProtocolError: the connection carries HTTP.

        Cancellation: it is closed.
        """
        connection = self._as_bytes()
        recipe = to_tls_client(server_hostname, ssl_context, handshake_timeout=math.inf)
        try:
            with _mapped(httpcore.ConnectError, httpcore.ConnectTimeout, timeout):
                return NetworkStream(await connection.upgrade(recipe))
        except BaseException:
            connection.abort()
            raise

    def get_extra_info(self, info: str) -> Any:
        """What httpcore's streams know: ``ssl_object``, ``client_addr``, ``server_addr``, ``socket``, ``is_readable``.

        None for everything else. ``socket`` has options and addresses, and no I/O: the bytes are the connection's.
        """
        match info:
            case "ssl_object":
                transport = self._connection._transport
                return transport.engine.ssl_object if isinstance(transport, TLSTransport) else None
            case "client_addr":
                return self._connection.local_address
            case "server_addr":
                return self._connection.remote_address
            case "socket":
                return self._connection.socket
            case "is_readable":
                return not _lowest(self._connection._transport).is_silent()
        return None

    def _as_bytes(self) -> Connection:
        connection = self._connection
        if isinstance(connection, HTTPClientConnection):
            if not connection._io.switched:
                raise httpcore.LocalProtocolError(
                    "this connection carries HTTP, so its bytes are those of a response; network_stream can be read "
                    "and written behind 101 (Switching Protocols) and behind 2xx to CONNECT"
                )
            self._connection = connection = connection.scope.adopt(connection.detach())
        return connection


def _lowest(transport: Any) -> Any:
    """What moves the bytes below all TLS."""
    while isinstance(transport, TLSTransport):
        transport = transport.lower
    return transport


@contextmanager
def _mapped(error: type[Exception], too_slow: type[Exception], timeout: float | None) -> Iterator[None]:
    """Trio's errors as httpcore's, within so many seconds."""
    try:
        with trio.fail_after(math.inf if timeout is None else timeout):
            yield
    except trio.TooSlowError as exc:
        raise too_slow(f"the operation did not finish within {timeout:g} s") from exc
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, UpgradeFailedError) as exc:
        raise error(str(exc)) from exc
