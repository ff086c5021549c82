"""What a program may do with a handle's socket: look, and set options. The bytes belong to the handle."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import HandleClosedError

if TYPE_CHECKING:
    from .inner import InnerHandle

__all__ = ["HandleSocket", "PeerCredentials", "credentials_of", "socket_of"]

_UCRED: Final = struct.Struct("3i")
"""``struct ucred`` (unix(7))."""


class PeerCredentials(NamedTuple):
    """Who is at the other end of a Unix socket, as the kernel tells it (SO_PEERCRED, unix(7))."""

    pid: int
    """Process id, of the time when the connection was made."""
    uid: int
    """Effective user id."""
    gid: int
    """Effective group id."""


class HandleSocket:
    """A handle's socket, for its options and addresses: the methods of `socket.socket`, without those that do I/O.

    It ends with the handle: then `fileno` is -1, and the other methods raise `HandleClosedError`.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: InnerHandle) -> None:
        self._handle = handle

    def __repr__(self) -> str:
        return f"<HandleSocket fd={self.fileno()} of {self._handle!r}>"

    def _sock(self) -> socket.socket:
        sock = _open_socket(self._handle)
        if sock is None:
            raise HandleClosedError(f"socket refused: {self._handle!r} has no socket any more")
        return sock

    @property
    def family(self) -> int:
        """Address family, such as `socket.AF_INET`."""
        return self._sock().family

    def fileno(self) -> int:
        """The file descriptor; -1 once the handle has ended. Reading or writing it breaks the handle."""
        sock = _open_socket(self._handle)
        return -1 if sock is None else sock.fileno()

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        """As `socket.socket.getsockopt`: an int, or bytes where a `size` is given."""
        return self._sock().getsockopt(level, option, size) if size else self._sock().getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As `socket.socket.setsockopt`."""
        self._sock().setsockopt(level, option, value)

    def getsockname(self) -> Any:
        """As `socket.socket.getsockname`."""
        return self._sock().getsockname()

    def getpeername(self) -> Any:
        """As `socket.socket.getpeername`."""
        return self._sock().getpeername()


def socket_of(handle: InnerHandle) -> HandleSocket | None:
    """See `Handle.socket`."""
    return None if _open_socket(handle) is None else HandleSocket(handle)


def credentials_of(handle: InnerHandle) -> PeerCredentials | None:
    """Who is at the other end of a connected Unix socket; None for any other kind, or where the system cannot tell."""
    sock = _open_socket(handle)
    option = getattr(socket, "SO_PEERCRED", None)
    if sock is None or sock.family != socket.AF_UNIX or option is None:
        return None
    return PeerCredentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _UCRED.size)))


def _open_socket(handle: InnerHandle) -> socket.socket | None:
    """The socket underneath; None where there is none, or the handle has ended."""
    return None if handle._life.state.phase.terminal else handle._transport.socket
