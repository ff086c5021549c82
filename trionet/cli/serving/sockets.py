"""The listeners that the options ask for, and whether other processes share them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from trio.lowlevel import enable_ki_protection

from ...transport.listening import close_listener, tcp_listeners
from ...transport.unix_listening import unix_listener
from ..mistakes import FAILED, Mistake

if TYPE_CHECKING:
    from .options import Where

__all__ = ["INHERITED", "open_listeners"]

INHERITED: Final = "TRIONET_INHERITED_FDS"
"""Environment variable by which a parent passes listeners on: descriptors with commas between."""

_UNIX_MODE: Final = 0o666
"""As uvicorn's: the proxy in front runs as somebody else."""


@enable_ki_protection
async def open_listeners(where: Where) -> tuple[list[socket.socket], bool]:
    """The listeners, and whether they are inherited, so that others go on accepting on them.

    Raises:
        Mistake: an option cannot be right, the address is in use, the descriptor is no listener.

    Cancellation: those that are open are closed.
    """
    if passed := os.environ.pop(INHERITED, ""):
        return [socket.socket(fileno=int(fd)) for fd in passed.split(",")], True
    if where.fd is not None:
        return [_from_descriptor(where.fd)], True
    try:
        if where.uds is not None:
            return [unix_listener(where.uds, where.backlog, _UNIX_MODE)], False
        return await _on_port(where), False
    except (OSError, ValueError) as exc:
        raise Mistake(str(exc), FAILED if isinstance(exc, OSError) else 2) from exc


async def _on_port(where: Where) -> list[socket.socket]:
    """A listener for each address of each host, all on one port."""
    found: list[socket.socket] = []
    port = where.port
    try:
        for host in where.host or ("127.0.0.1",):
            found += await tcp_listeners(port, host or None, where.backlog)
            port = found[0].getsockname()[1]
    except BaseException:
        for listener in found:
            close_listener(listener)
        raise
    return found


def _from_descriptor(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        raise Mistake(f"--fd {fd}: {exc.strerror}; it must be a listening socket that was passed on") from exc
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise Mistake(f"--fd {fd}: this socket does not listen; it must be a listening stream socket")
    return sock
