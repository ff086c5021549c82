"""Client sockets: look-up and connect, with errors that name what could not be reached.

Trio's own happy eyeballs do the work (RFC 8305); this module checks the arguments before any look-up and puts names
into errors.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import one_of
from ..support.checks import check_count, check_seconds
from .socket import take_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_host", "check_local_address", "check_port", "shown_path", "tcp_socket", "unix_address", "unix_socket"]

_MAX_UNIX_PATH = 107
"""Bytes: what ``sun_path`` has room for, without the NUL at its end (unix(7)). An abstract address needs no NUL."""

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
        raise _named(exc, called or f"{host if isinstance(host, str) else host.decode('latin-1')}:{port}") from exc
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
        raise _named(exc, shown_path(name)) from exc
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


def check_port(port: int, lowest: int) -> int:
    """`port` as an int in `lowest` … 65535, else a clear error."""
    return check_count("port", port, lowest, 65535)


def check_local_address(address: str | None) -> str | None:
    """`address` if it is None or can be the IP address to connect from, else a clear error."""
    if address is None:
        return None
    if not isinstance(address, str):
        raise TypeError(f"local_address must be an IP address as a str, not {address!r}")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"local_address must be an IP address such as '192.0.2.1', not {address!r}") from None
    return address


def unix_address(path: str | bytes | os.PathLike[str], doing: str) -> bytes:
    """The address of a Unix socket, else a clear error; `doing` is what was to be done with it.

    A name that begins with NUL is an address in Linux's abstract namespace, and no file (unix(7)).
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a str, bytes or a path such as pathlib.Path, not {path!r}")
    name = os.fsencode(path)
    if not name:
        raise ValueError("path must not be empty")
    abstract = name.startswith(b"\0")
    if b"\0" in name and not abstract:
        raise ValueError(f"path must not contain NUL, except at the beginning (an abstract address), not {path!r}")
    if len(name) > _MAX_UNIX_PATH + abstract:
        text = f"cannot {doing} {shown_path(name)}: a socket's path has at most {_MAX_UNIX_PATH} bytes, not {len(name)}"
        raise OSError(errno.ENAMETOOLONG, text)
    return name


def shown_path(name: bytes) -> str:
    """A Unix socket's address for people: an abstract one with ``@`` for its NULs, as ss(8) shows it."""
    return os.fsdecode(name.replace(b"\0", b"@"))


def check_host(host: str | bytes) -> str | bytes:
    """`host` if it can be a host name or an IP address, else a clear error."""
    if not isinstance(host, (str, bytes)):
        raise TypeError(f"host must be a str or bytes, not {host!r}")
    if not host:
        raise ValueError("host must not be empty; use 'localhost' for this machine")
    text = host if isinstance(host, str) else host.decode("latin-1")
    if text.startswith("[") or "/" in text or any(character.isspace() or character == "\0" for character in text):
        raise ValueError(f"host must be a bare host name or IP address, without brackets, scheme or path, not {host!r}")
    if text.count(":") == 1:
        raise ValueError(f"host must come without a port, which is an argument of its own, not {host!r}")
    if len(text) > 255:
        raise ValueError(f"host must have at most 255 characters, not {len(text)}")
    return host


def _named(exc: OSError | UnicodeError, target: str) -> OSError:
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
