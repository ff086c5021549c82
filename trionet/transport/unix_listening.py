"""Listening sockets on a path of the file system, and the socket file that each of them makes.

The kernel neither replaces a socket file that a dead process has left, nor removes that of a listener which is closed.
So a file on which nobody listens makes way, and a listener remembers which file is its own: its path, device and inode,
as another process may have put its own there meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from trio.lowlevel import enable_ki_protection

from ..support.checks import check_count
from .addresses import shown_path, unix_address

__all__ = ["hide_listener", "listen_error", "unix_listener"]


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
        OSError: somebody listens there, something other than a socket is there, or the folder is missing.
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
        _give_up(sock)
        raise listen_error(exc, shown_path(name)) from exc
    except BaseException:
        _give_up(sock)
        raise
    sock.setblocking(False)
    return sock


@enable_ki_protection
def _give_up(sock: _UnixListener) -> None:
    """It does not listen, and nobody waits on it."""
    hide_listener(sock)
    sock.close()


def _remove_stale(name: bytes) -> None:
    """Make way: remove the socket file `name` if nobody listens on it; raise if anything else is there."""
    try:
        if not stat.S_ISSOCK(os.stat(name).st_mode):
            raise OSError(errno.EADDRINUSE, "something other than a socket is there")
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
        raise listen_error(exc, shown_path(name)) from exc
    raise OSError(errno.EADDRINUSE, f"cannot listen on {shown_path(name)}: another process listens there")


def _identity(name: bytes | str) -> tuple[int, int]:
    found = os.lstat(name)
    return found.st_dev, found.st_ino


@enable_ki_protection
def hide_listener(listener: socket.socket) -> None:
    """Remove the socket file that `unix_listener` made, unless something else has taken its place. A step.

    No further client finds the listener; those that have connected wait in its backlog.
    """
    if not isinstance(listener, _UnixListener) or listener.file is None:
        return
    path, *identity = listener.file
    listener.file = None
    with contextlib.suppress(OSError):
        if [*_identity(path)] == identity:
            os.unlink(path)


def listen_error(exc: OSError | UnicodeError, where: str) -> OSError:
    """The same kind of error, with the address in its message."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return type(exc)(exc.errno, f"cannot listen on {where}: {exc.strerror or exc}")
    return OSError(f"cannot listen on {where}: {exc}")
