"""Listening sockets: TCP on every address of a host, one Unix path, with errors that name them.

A listener is a plain non-blocking listening socket; `trionet.server` accepts on it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

import trio

from .adopt import take_socket
from .connect import check_port

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["close_listener", "tcp_listeners", "unix_listener"]

_SAME_PORT_TRIES = 16


async def tcp_listeners(port: int, host: str | bytes | None, backlog: int | None) -> list[socket.socket]:
    """Listening sockets for every address of `host` (every address of this machine by default), all on one port.

    Args:
        port: 0 to 65,535; 0 lets the system choose one that is free on all of the addresses.
        host: Name or address to listen on.
        backlog: Connections that may wait to be accepted; the system's maximum by default.

    Raises:
        ValueError, TypeError: the port cannot be right.
        OSError: the address is in use, or not one of this machine; the message names it.

    Cancellation: nothing stays open.
    """
    port = check_port(port, 0)
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


async def _listen(port: int, host: str | bytes | None, backlog: int | None) -> list[socket.socket]:
    name = host.decode("latin-1") if isinstance(host, bytes) else host or "*"
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except OSError as exc:
        raise type(exc)(exc.errno, f"cannot listen on {name}:{port}: {exc.strerror or exc}") from exc
    return [_unblocking(take_socket(listener.socket)) for listener in listeners]


def unix_listener(path: str | os.PathLike[str], backlog: int | None, mode: int | None = None) -> socket.socket:
    """A listening Unix socket at `path`. A socket file that nobody listens on any more is replaced.

    Args:
        path: Where the socket file is made; `close_listener` removes it.
        backlog: As for `tcp_listeners`.
        mode: Permissions of the socket file, such as ``0o660``; those of the umask by default.

    Raises:
        OSError: somebody listens there, something else than a socket is there, or the folder is missing.
    """
    name = os.fspath(path)
    _remove_stale(name)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(name)
        if mode is not None:
            os.chmod(name, mode)
        sock.listen(65535 if backlog is None else backlog)
    except OSError as exc:
        sock.close()
        raise type(exc)(exc.errno, f"cannot listen on {name}: {exc.strerror or exc}") from exc
    return _unblocking(sock)


def _remove_stale(name: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(name).st_mode):
            raise OSError(errno.EADDRINUSE, f"cannot listen on {name}: something else than a socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(name)
        else:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {name}: another process listens there")


def close_listener(listener: socket.socket) -> None:
    """Close a listening socket; tasks that wait on it get `trio.ClosedResourceError`. Its socket file is removed."""
    if listener.fileno() < 0:
        return
    if listener.family == socket.AF_UNIX and (name := listener.getsockname()):
        with contextlib.suppress(OSError):
            os.unlink(name)
    trio.lowlevel.notify_closing(listener)
    listener.close()


def _unblocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


def _close(listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        listener.close()
