"""Taking over an existing connection: a socket, a Trio stream or a capsule becomes a capsule, and the original ends.

Two objects that move the same bytes are the bug that trionet exists to end, so the original must be unusable
afterwards. A socket is detached from its object; what becomes of any other stream is in `streams`, and how it is told
whether somebody uses it in `use`.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection, wait_readable, wait_writable

from ...handle import Handle
from ...handle.detached import Detached
from ...transport.socket import SocketTransport, take_socket
from .streams import take_stream
from .use import in_use, somebody_waits

__all__ = ["into_capsule", "somebody_waits"]


@enable_ki_protection
def into_capsule(original: Any) -> Detached:
    """The connection of `original`, which is ended. A step; see `Scope.adopt` for what is raised."""
    if isinstance(original, Detached):
        original._check()
        return original
    if isinstance(original, Handle):
        raise TypeError(
            f"adopt({original!r}) refused: it has an owner; use transfer(scope), or adopt what its detach() returns"
        )
    if isinstance(original, trio.SocketStream):
        if in_use(original):
            raise trio.BusyResourceError(f"adopt({original!r}) refused: a task is using it")
        original = original.socket
    if isinstance(original, ssl.SSLSocket):
        raise TypeError(f"adopt({original!r}) refused: its bytes are TLS; adopt a plain socket and upgrade it")
    if isinstance(original, (socket.socket, trio.socket.SocketType)):
        _check_socket(original)
        return Detached(SocketTransport(take_socket(original)))
    if isinstance(original, trio.abc.Stream):
        return Detached(take_stream(original))
    raise TypeError(f"adopt needs a trio.abc.Stream, a connected stream socket or a Detached, not {original!r}")


def _check_socket(sock: Any) -> None:
    fd = sock.fileno()
    if fd < 0:
        raise trio.ClosedResourceError(f"adopt({sock!r}) refused: it is closed")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"adopt({sock!r}) refused: only stream sockets carry connections")
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"adopt({sock!r}) refused: it listens; use trionet.serve() with it")
    try:
        sock.getpeername()
    except OSError as exc:
        raise ValueError(f"adopt({sock!r}) refused: it is not connected, or the peer has gone ({exc})") from exc
    for wait, doing in ((wait_readable, "receiving"), (wait_writable, "sending")):
        if somebody_waits(wait, fd):
            raise trio.BusyResourceError(f"adopt({sock!r}) refused: a task is {doing} on it")
