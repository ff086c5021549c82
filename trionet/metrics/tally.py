"""What is counted of one connection: its exchanges as they end, and its bytes, those of what it becomes included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..ownership import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..http.server.connection import HTTPServerConnection
    from ..http.server.exchange import Exchange

__all__ = ["Tally"]

_KINDS: Final = {"WebSocket": "websocket", "Connection": "bytes"}


class Tally:
    """Made by the loop over a connection's exchanges, which tells it of each end.

    Args:
        http: The connection.
        count: Called with the method, the status (0: none) and the seconds of each exchange.
        count_bytes: Called with the bytes received and sent since the last time.
        count_upgrade: Called with what the connection has become.
    """

    __slots__ = ("_count", "_count_bytes", "_count_upgrade", "_http", "_received", "_sent")

    def __init__(
        self,
        http: HTTPServerConnection,
        count: Callable[[str, int, float], None],
        count_bytes: Callable[[int, int], None],
        count_upgrade: Callable[[str], None],
    ) -> None:
        self._http = http
        self._count = count
        self._count_bytes = count_bytes
        self._count_upgrade = count_upgrade
        self._received = self._sent = 0

    def ended(self, exchange: Exchange, seconds: float) -> None:
        """An exchange has ended, and what its handler did about it is settled."""
        self._count(exchange.method, exchange.status, seconds)
        self._add(self._http)

    def left(self) -> None:
        """The loop has ended, and with it what the last exchange has made of the connection."""
        self._add(self._http)
        handle: Any = self._http
        while handle.end is not None and handle.end.reason is Reason.UPGRADED:
            handle = handle.end.successor
            self._received = self._sent = 0
            self._count_upgrade(_KINDS.get(type(handle).__name__, "other"))
            self._add(handle)

    def _add(self, handle: Any) -> None:
        figures = handle.statistics()
        self._count_bytes(figures.bytes_received - self._received, figures.bytes_sent - self._sent)
        self._received, self._sent = figures.bytes_received, figures.bytes_sent
