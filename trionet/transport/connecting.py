"""Client sockets: look-up and connect, with errors that name what could not be reached.

Trio's own happy eyeballs do the work (RFC 8305). The arguments are checked before any look-up, and every error names
what it was about, says every cause, and whether a retry is safe.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import one_of
from ..support.checks import check_seconds
from .addresses import check_host, check_local_address, check_port, shown_host, shown_path, unix_address
from .socket import take_socket

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["tcp_socket", "unix_socket"]

_LASTING = frozenset({errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.EINVAL, socket.EAI_NONAME, None})
"""Errors that the next attempt would meet again: what is not permitted, not known, or no address at all."""


@enable_ki_protection
async def tcp_socket(
    host: str | bytes, port: int, happy_eyeballs_delay: float | None, local_address: str | None, called: str = ""
) -> socket.socket:
    """A socket connected to `host` and `port`, which errors call `called`. See `Scope.connect_tcp`.

    Cancellation: nothing stays open.
    """
    host = check_host(host)
    port = check_port(port, 1)
    if happy_eyeballs_delay is not None:
        check_seconds("happy_eyeballs_delay", happy_eyeballs_delay, off="None: one address after the other")
    check_local_address(local_address)
    try:
        stream = await trio.open_tcp_stream(
            host, port, happy_eyeballs_delay=happy_eyeballs_delay, local_address=local_address
        )
    except (OSError, UnicodeError) as exc:  # UnicodeError: the idna codec's, on a label that is empty or too long
        raise _connect_error(exc, called or f"{shown_host(host)}:{port}") from exc
    except BaseExceptionGroup as group:  # Ctrl-C, or a cancellation, in Trio's own nursery
        raise one_of(group) from None
    return take_socket(stream.socket)


@enable_ki_protection
async def unix_socket(path: str | bytes | os.PathLike[str]) -> socket.socket:
    """A socket connected to the Unix socket at `path`. See `Scope.connect_unix`.

    Cancellation: nothing stays open.
    """
    name = unix_address(path, "connect to")
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.connect(name)
        _check_backlog(sock)
    except OSError as exc:
        sock.close()
        raise _connect_error(exc, shown_path(name)) from exc
    except BaseException:
        sock.close()
        raise
    return take_socket(sock)


def _check_backlog(sock: trio.socket.SocketType) -> None:
    """Raise if `connect` said EAGAIN, which Trio takes for "in progress": unix(7) means a full backlog by it."""
    try:
        sock.getpeername()
    except OSError:
        raise BlockingIOError(errno.EAGAIN, "the listener's backlog is full") from None


def _connect_error(exc: OSError | UnicodeError, target: str) -> OSError:
    """The same kind of error, with the target and every cause in its message."""
    causes = list(_leaves(exc)) if isinstance(exc, OSError) else []
    reasons = "; ".join(dict.fromkeys(cause.strerror or str(cause) for cause in causes)) or f"no host name ({exc})"
    helps = any(cause.errno not in _LASTING for cause in causes)
    text = f"cannot connect to {target}: {reasons} (nothing was sent{': a retry is safe' if helps else ''})"
    kinds = {(type(cause), cause.errno) for cause in causes}
    kind, number = kinds.pop() if len(kinds) == 1 else (OSError, None)
    error = OSError(text) if number is None else kind(number, text)
    error.retry_safe = helps or None  # type: ignore[attr-defined]  # as a `TrionetError` says it
    return error


def _leaves(exc: BaseException) -> Iterator[OSError]:
    """The errors of the single attempts, out of the group that the look-up of several addresses gives."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    elif isinstance(exc, OSError):
        if isinstance(exc.__cause__, (OSError, BaseExceptionGroup)):
            yield from _leaves(exc.__cause__)
        else:
            yield exc
