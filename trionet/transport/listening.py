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
from trio.lowlevel import enable_ki_protection

from ..support.checks import check_count
from .connecting import check_host, check_port, shown_path, unix_address
from .socket import take_socket

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["close_listener", "hide_listener", "tcp_listeners", "unix_listener"]

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
        name = "*" if host is None else host if isinstance(host, str) else host.decode("latin-1")
        raise _named(exc, f"{name}:{port}") from exc
    return [_unblocking(take_socket(listener.socket)) for listener in listeners]


# --- Unix --------------------------------------------------------------------------------------------------------


class _UnixListener(socket.socket):
    """A listening Unix socket that knows the file it has made."""

    file: tuple[str, int, int] | None = None
    """Absolute path (the working directory may change), device and inode; None for an abstract address."""


@enable_ki_protection
def unix_listener(path: str | bytes | os.PathLike[str], backlog: int | None, mode: int | None = None) -> socket.socket:
    """A listening Unix socket at `path`. A socket file that nobody listens on any more is replaced.

    Args:
        path: Where the socket file is made; `close_listener` removes it. A name that begins with NUL is an abstract
            address, and makes no file.
        backlog: As for `tcp_listeners`.
        mode: Permissions of the socket file, such as ``0o660``; those of the umask by default.

    Raises:
        ValueError, TypeError: an argument cannot be right; nothing was touched.
        OSError: somebody listens there, something else than a socket is there, or the folder is missing.
    """
    name = unix_address(path, "listen on")
    if backlog is not None:
        check_count("backlog", backlog, 1)
    if mode is not None:
        check_count("mode", mode, 0, 0o7777)
    if name.startswith(b"\0"):
        if mode is not None:
            raise ValueError(
                f"mode ({mode:#o}) is for a socket file, and the abstract address {shown_path(name)} has none"
            )
    else:
        _remove_stale(name)
    sock = _UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(name)
        if not name.startswith(b"\0"):
            sock.file = (os.path.abspath(os.fsdecode(name)), *_identity(name))
        if mode is not None:
            os.chmod(name, mode)
        sock.listen(65535 if backlog is None else backlog)
    except OSError as exc:
        close_listener(sock)
        raise _named(exc, shown_path(name)) from exc
    except BaseException:
        close_listener(sock)
        raise
    return _unblocking(sock)


def _remove_stale(name: bytes) -> None:
    """Make way: remove the socket file `name` if nobody listens on it; raise if anything else is there."""
    try:
        if not stat.S_ISSOCK(os.stat(name).st_mode):
            raise OSError(errno.EADDRINUSE, "something else than a socket is there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # if the backlog is full, that tells enough
            probe.connect(name)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        return
    except BlockingIOError:
        pass
    except OSError as exc:
        raise _named(exc, shown_path(name)) from exc
    raise OSError(errno.EADDRINUSE, f"cannot listen on {shown_path(name)}: another process listens there")


def _identity(name: bytes | str) -> tuple[int, int]:
    found = os.lstat(name)
    return found.st_dev, found.st_ino


# --- both --------------------------------------------------------------------------------------------------------


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


@enable_ki_protection
def hide_listener(listener: socket.socket) -> None:
    """Remove the socket file that `unix_listener` made, unless something else has taken its place. A step.

    Nobody finds the listener any more; those who have connected wait in its backlog.
    """
    if not isinstance(listener, _UnixListener) or listener.file is None:
        return
    path, *identity = listener.file
    listener.file = None
    with contextlib.suppress(OSError):
        if [*_identity(path)] == identity:
            os.unlink(path)


def _named(exc: OSError | UnicodeError, where: str) -> OSError:
    """The same kind of error, with the address in its message."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return type(exc)(exc.errno, f"cannot listen on {where}: {exc.strerror or exc}")
    return OSError(f"cannot listen on {where}: {exc}")


def _unblocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


def _close(listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        listener.close()
