"""Client sockets: look-up and connect, with errors that name what could not be reached.

Trio's own happy eyeballs do the work (RFC 8305); this module checks the arguments before any look-up and puts names
into errors.
"""

from __future__ import annotations

import operator
import os
import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from .adopt import take_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_port", "tcp_socket", "unix_socket"]


@enable_ki_protection
async def tcp_socket(
    host: str | bytes, port: int, happy_eyeballs_delay: float | None, local_address: str | None
) -> socket.socket:
    """A socket connected to `host` and `port`. See `Scope.connect_tcp`.

    Cancellation: nothing stays open.
    """
    host = _check_host(host)
    port = check_port(port, 1)
    try:
        stream = await trio.open_tcp_stream(
            host, port, happy_eyeballs_delay=happy_eyeballs_delay, local_address=local_address
        )
    except OSError as exc:
        raise _named(exc, f"{host if isinstance(host, str) else host.decode('latin-1')}:{port}") from exc
    return take_socket(stream.socket)


@enable_ki_protection
async def unix_socket(path: str | bytes | os.PathLike[str]) -> socket.socket:
    """A socket connected to the Unix socket at `path`. See `Scope.connect_unix`.

    Cancellation: nothing stays open.
    """
    name = os.fsencode(path)
    if not name:
        raise ValueError("path must not be empty")
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.connect(name)
    except OSError as exc:
        sock.close()
        raise _named(exc, os.fsdecode(name)) from exc
    except BaseException:
        sock.close()
        raise
    return take_socket(sock)


def check_port(port: int, lowest: int) -> int:
    """`port` as an int in `lowest` … 65535, else a clear error."""
    try:
        number = operator.index(port)
    except TypeError:
        raise TypeError(f"port must be an int, not {port!r}") from None
    if not lowest <= number <= 65535:
        raise ValueError(f"port must be {lowest} to 65535, not {port!r}")
    return number


def _check_host(host: str | bytes) -> str | bytes:
    if not isinstance(host, (str, bytes)):
        raise TypeError(f"host must be a str or bytes, not {host!r}")
    if not host:
        raise ValueError("host must not be empty; use 'localhost' for this machine")
    text = host if isinstance(host, str) else host.decode("latin-1")
    if text.startswith("[") or "/" in text or any(character.isspace() or character == "\0" for character in text):
        raise ValueError(f"host must be a bare host name or IP address, without brackets, scheme or path, not {host!r}")
    if len(text) > 255:
        raise ValueError(f"host must have at most 255 characters, not {len(text)}")
    return host


def _named(exc: OSError, target: str) -> OSError:
    """The same kind of error, with the target and every cause in its message."""
    causes = list(_leaves(exc))
    kinds = {type(cause) for cause in causes}
    kind = kinds.pop() if len(kinds) == 1 else OSError
    reasons = "; ".join(dict.fromkeys(cause.strerror or str(cause) for cause in causes))
    text = f"cannot connect to {target}: {reasons} (nothing was sent: a retry is safe)"
    if issubclass(kind, UnicodeError):
        return OSError(text)
    return kind(causes[0].errno, text)


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
