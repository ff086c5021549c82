"""Which listening sockets are in use: a socket has one accept loop, and the server of that loop closes it at its end.

Two servers on one socket object would end each other: the first that ends closes what the other accepts on. Two
descriptors of one listening socket (`socket.dup`, or processes that share it) may be served: each has its own loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trio.lowlevel import enable_ki_protection, wait_readable

from ..scope.adopt import somebody_waits

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

__all__ = ["check_free", "give_up", "occupy"]

_OCCUPIED: Final[dict[int, socket.socket]] = {}
"""The sockets that servers of this process accept on, by descriptor."""


def check_free(listeners: Sequence[Any]) -> None:
    """Raise if one of them is served already, here or by Trio, or was given twice. A step.

    Raises:
        ValueError: as said; all of them are as before.
    """
    seen = set()
    for listener in listeners:
        fd = listener.fileno()
        if fd in seen:
            raise ValueError(f"{listener!r} was given twice; a listener has one accept loop")
        seen.add(fd)
        holder = _OCCUPIED.get(fd)
        # A holder that was closed behind its server's back has left its number to somebody else.
        if (holder is not None and holder.fileno() == fd) or somebody_waits(wait_readable, fd):
            raise ValueError(
                f"{listener!r} is in use: a server or a task accepts on it. Drain that first, give each server a "
                f"listener of its own, or a dup() of this one, so that they share its connections"
            )


@enable_ki_protection
def occupy(listeners: Iterable[socket.socket]) -> None:
    """A server accepts on these from now on. A step."""
    _OCCUPIED.update((listener.fileno(), listener) for listener in listeners)


@enable_ki_protection
def give_up(listeners: Iterable[socket.socket]) -> None:
    """It does not any more. A step."""
    for fd, holder in tuple(_OCCUPIED.items()):
        if any(holder is listener for listener in listeners):
            del _OCCUPIED[fd]
