"""Listening sockets for TCP, on every address of a host, and the end of every listening socket.

A listener is a plain non-blocking listening socket; `trionet.server` accepts on it. Those on a path of the file system
are made in `unix_listening`.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..support.checks import check_count
from .addresses import check_host, check_port, shown_host
from .socket import SocketTransport, is_tcp_socket, take_socket
from .unix_listening import hide_listener, listen_error

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Acceptor", "close_listener", "tcp_listeners"]

_SAME_PORT_TRIES = 16


@enable_ki_protection
async def tcp_listeners(port: int, host: str | bytes | None, backlog: int | None) -> list[socket.socket]:
    """Listening sockets for every address of `host` (every address of this machine by default), all on one port.

    Args:
        port: 0 to 65,535; 0 lets the system choose one that is free on all of the addresses.
        host: Name or address to listen on.
        backlog: Connections that may wait to be accepted; the system's maximum by default.

    Raises:
        ValueError, TypeError: the host or the port cannot be right.
        OSError: the address is in use, or not one of this machine; the message names it.

    Cancellation: nothing stays open.
    """
    port = check_port(port, 0)
    host = None if host is None else check_host(host)
    if backlog is not None:
        check_count("backlog", backlog, 1)
    for attempt in range(_SAME_PORT_TRIES):
        listeners = await _listen(port, host, backlog)
        first = listeners[0].getsockname()[1]
        if all(listener.getsockname()[1] == first for listener in listeners):
            return listeners
        # Port 0 gave each address a port of its own: ask for the first one's port on all of them.
        _close(listeners)
        try:
            return await _listen(first, host, backlog)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or attempt == _SAME_PORT_TRIES - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


@enable_ki_protection
async def _listen(port: int, host: str | bytes | None, backlog: int | None) -> list[socket.socket]:
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except (OSError, UnicodeError) as exc:  # UnicodeError: the idna codec's, on a label that is empty or too long
        name = "*" if host is None else shown_host(host)
        raise listen_error(exc, f"{name}:{port}") from exc
    socks = [take_socket(listener.socket) for listener in listeners]
    for sock in socks:
        sock.setblocking(False)
    return socks


class Acceptor:
    """Accepts on one listening socket.

    What all its connections have in common it has asked once, as plain numbers: `socket.accept` makes members of enums
    out of them for each connection, which takes as long as accepting does. A socket of a program's own class is asked
    in the usual way, which that may have made its own.
    """

    __slots__ = ("_family", "_is_tcp", "_kind", "_own_way", "_protocol", "listener")

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self._family, self._kind, self._protocol = int(listener.family), int(listener.type), listener.proto
        self._is_tcp = is_tcp_socket(listener)
        self._own_way = type(listener).accept is not socket.socket.accept

    @enable_ki_protection
    def accept(self) -> SocketTransport | None:
        """The next connection; None for one that has gone already, so that its options cannot be set. A step.

        Raises:
            BlockingIOError: none waits.
            OSError: as for accept(2): what concerns the listener, or this one client.
        """
        if self._own_way:
            sock, address = self.listener.accept()
        else:
            descriptor, address = self.listener._accept()  # type: ignore[attr-defined]  # what `accept` calls
            sock = socket.socket(self._family, self._kind, self._protocol, fileno=descriptor)
        try:
            return SocketTransport(sock, address, is_tcp=self._is_tcp)
        except OSError:
            sock.close()
            return None


@enable_ki_protection
def close_listener(listener: socket.socket) -> None:
    """Close a listening socket; tasks that wait on it get `trio.ClosedResourceError`. No-op on a closed one. A step.

    The socket file that `unix_listener` made is removed, unless something else has taken its place.
    """
    if listener.fileno() < 0:
        return
    hide_listener(listener)
    trio.lowlevel.notify_closing(listener)
    listener.close()


def _close(listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        listener.close()
