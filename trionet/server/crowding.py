"""How many connections each client's address has, and what becomes of one that has too many.

One client must not take all places of a server. A refused connection is closed at once, without a handler, and, where
its address is that of the socket, without a task. An IPv6 client has a whole network of 64 bits to choose addresses
from, so that counts as one. Who has no address is not counted: Unix sockets, and clients that a proxy does not name.
"""

from __future__ import annotations

import logging
import math
import socket
from typing import Any, Final

import trio

from ..support.texts import shown_address

__all__ = ["Crowding"]

_LOG = logging.getLogger("trionet.server")
_SAY_AGAIN: Final = 1.0
"""Seconds between two lines of the log: the client decides how often it is refused."""
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Crowding:
    """Counts the connections of each address. All methods are steps.

    Args:
        most: How many an address may have; ``math.inf`` for any number, of which nothing is counted.
    """

    __slots__ = ("_counts", "_most", "_said_at")

    def __init__(self, most: float) -> None:
        self._most = most
        self._counts: dict[object, int] = {}
        self._said_at = -math.inf

    @property
    def counts(self) -> bool:
        """Whether there is a bound."""
        return self._most != math.inf

    def is_full(self, address: Any) -> bool:
        """Whether that address has as many as it may, which is logged."""
        if not self.counts or self._counts.get(_client_of(address), 0) < self._most:
            return False
        self._say(address)
        return True

    def admit(self, address: Any) -> object:
        """One more connection from there: what to `release` when it ends; None if it is not counted."""
        if not self.counts or (client := _client_of(address)) is None:
            return None
        self._counts[client] = self._counts.get(client, 0) + 1
        return client

    def release(self, client: object) -> None:
        """A connection that was admitted has ended."""
        if self._counts[client] == 1:
            del self._counts[client]  # else each address that ever came would be kept
        else:
            self._counts[client] -= 1

    def _say(self, address: Any) -> None:
        now = trio.current_time()
        if now - self._said_at >= _SAY_AGAIN:
            self._said_at = now
            text = "refused %s: its address has %d connections already (max_connections_per_address)"
            _LOG.info(text, shown_address(address), self._most)


def _client_of(address: Any) -> object:
    """What counts as one client: an IPv4 address, or the first 64 bits of an IPv6 one."""
    if not isinstance(address, tuple):
        return None
    host = str(address[0]).partition("%")[0]
    if ":" not in host:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host)
    return socket.inet_ntop(socket.AF_INET, packed[12:]) if packed.startswith(_MAPPED) else packed[:8]
