"""Accepting: one loop a listener, which stops while the server is full, and the rest of a backlog before it is closed.

An accept error that passes (descriptors exhausted, a client that went away in the queue) is waited out; one that does
not (a listener that was shut down) is raised and ends the server.
"""

from __future__ import annotations

import errno
import logging
import math
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection, wait_readable

from ..transport.listening import Acceptor, close_listener
from ..transport.unix_listening import hide_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from .connections import Connections
    from .handling import Handling

__all__ = ["Accepting"]

_LOG = logging.getLogger("trionet.server")

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Accept errors that last until something is freed. They are waited out."""
_HOPELESS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT})
"""Accept errors of the listener itself, which would come again for ever. All others concern one client (accept(2))."""
_BACK_OFF = 0.1
"""Seconds between two attempts while the system is exhausted."""
_WARN_AGAIN = 1.0
"""Seconds between two warnings that the system is exhausted."""
_BACKLOG = 4096
"""Connections that wait in a backlog at most where nothing else is said: what Linux allows by default."""
_BATCH = 64
"""Connections accepted before other tasks get their turn."""


class Accepting:
    """Accepts connections, and hands them on.

    Args:
        listeners: The listening sockets.
        connections: Say whether there may be one more.
        handling: Takes each new connection.
        backlog: How many may wait in a backlog, and are accepted before a drain closes it; 0 where others go on with
            it, None for the system's bound.
    """

    __slots__ = ("_backlog", "_connections", "_handling", "_warned_at", "errors", "listeners")

    def __init__(
        self,
        listeners: tuple[socket.socket, ...],
        connections: Connections,
        handling: Handling,
        backlog: int | None,
    ) -> None:
        self.listeners = listeners
        self._connections = connections
        self._handling = handling
        self._backlog = _BACKLOG if backlog is None else backlog
        self._warned_at = -math.inf
        self.errors = 0
        """Pauses because the system was exhausted."""

    async def loop(self, listener: socket.socket) -> None:
        """Accept on one listener until it is closed.

        Raises:
            OSError: no connection can be accepted on it any more, although it was not closed.

        Cancellation: every connection that was accepted is handed on.
        """
        try:
            acceptor = Acceptor(listener)
            while await self._room_for(listener):
                await wait_readable(listener)
                if self._batch(acceptor) is None:
                    await trio.sleep(_BACK_OFF)
        except trio.ClosedResourceError:
            return

    async def _room_for(self, listener: socket.socket) -> bool:
        """Wait until one more connection is allowed: False if the listener is closed by then."""
        connections = self._connections
        while listener.fileno() >= 0 and len(connections.opened) >= connections.most:
            await connections.room.park()
        return listener.fileno() >= 0

    @enable_ki_protection
    def _batch(self, acceptor: Acceptor, most: int = _BATCH, *, beyond_limit: bool = False) -> int | None:
        """Accept up to `most` clients: how many have left the backlog; None if the system is exhausted. A step."""
        connections = self._connections
        for count in range(most):
            if len(connections.opened) >= connections.most and not beyond_limit:
                return count
            try:
                transport = acceptor.accept()
            except BlockingIOError:
                return count
            except OSError as exc:
                if self._is_exhausted(exc, acceptor.listener):
                    return None
                continue  # this one client has gone (ECONNABORTED and its kin, accept(2)): the next one
            if transport is not None:
                self._handling.begin(transport)
        return most

    def _is_exhausted(self, exc: OSError, listener: socket.socket) -> bool:
        """Whether the system is exhausted, which is logged; False for one client's error. A listener's is raised."""
        if listener.fileno() < 0:
            raise trio.ClosedResourceError("the listener was closed") from None
        if exc.errno in _HOPELESS:
            raise OSError(exc.errno, f"accept on {listener.getsockname()} failed: {exc.strerror}") from exc
        if exc.errno not in _EXHAUSTED:
            return False
        self.errors += 1
        if (now := trio.current_time()) - self._warned_at >= _WARN_AGAIN:  # not ten times a second
            self._warned_at = now
            _LOG.warning("accept failed: %s; trying again each %g s", exc, _BACK_OFF)
        return True

    async def accept_rest(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Accept the clients in the backlog: closing the listener would reset them, and lose what they have sent.

        Args:
            meanwhile: Awaited while the system is exhausted: each connection that ends then frees something.

        Cancellation: the others stay in the backlog.
        """
        connections = self._connections
        for listener in self.listeners:
            hide_listener(listener)
            acceptor, left = Acceptor(listener), self._backlog
            while left > 0 and listener.fileno() >= 0:
                before = connections.accepted
                taken = self._batch(acceptor, min(left, _BATCH), beyond_limit=True)
                if taken is None and connections.opened:
                    left -= connections.accepted - before
                    await trio.sleep(_BACK_OFF)
                    await meanwhile()
                    continue
                if not taken:
                    break
                left -= taken
                await trio.lowlevel.checkpoint()

    @enable_ki_protection
    def stop(self) -> None:
        """Close the listeners. A step; connections go on."""
        for listener in self.listeners:
            close_listener(listener)
        self._connections.room.unpark_all()
