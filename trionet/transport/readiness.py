"""What the system says of a socket without waiting: whether it is ready, and what is under way on it."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["readiness", "under_way"]

if sys.platform.startswith("linux"):
    from fcntl import ioctl
    from termios import FIONREAD, TIOCOUTQ

    def under_way(sock: socket.socket) -> tuple[bytes, bytes]:
        """How many bytes the system has that the peer has not taken, and that are not received here, as it says it.

        Source: tcp(7), unix(7): SIOCOUTQ, SIOCINQ.
        """
        return ioctl(sock, TIOCOUTQ, bytes(4)), ioctl(sock, FIONREAD, bytes(4))

else:

    def under_way(sock: socket.socket) -> tuple[bytes, bytes]:
        """Nobody can tell."""
        return b"", b""


def readiness(sock: socket.socket, *, for_input: bool) -> Callable[[int], object]:
    """A function that takes a time limit of 0 and tells whether `sock` is ready; kept, as it costs to make."""
    if not hasattr(select, "poll"):
        if for_input:
            return lambda _: select.select((sock,), (), (), 0)[0]
        return lambda _: select.select((), (sock,), (), 0)[1]
    poll = select.poll()
    poll.register(sock, select.POLLIN if for_input else select.POLLOUT)
    return poll.poll
