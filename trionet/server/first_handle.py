"""What a new connection becomes first: a `Connection` for most handlers; for those that speak HTTP at once, that.

A handler of connections whose first act is an upgrade without a handshake costs each connection two handles and two
turns of the loop, and has no use for the first handle. So it may bring a `FirstHandle`, and its server makes the second
one of the accepted connection in its place. It is the same connection, in the same scope, with the same end.

Whoever is shown the change of hands still is: a server with an observer makes a `Connection`, and has it upgraded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..handle import Handle
    from ..handle.detached import Detached

__all__ = ["FirstHandle", "first_handle_of"]

_NAME: Final = "first_handle"


class FirstHandle:
    """What a handler of connections would do to each of them first, and what it does then.

    Args:
        make: The handle that it would upgrade the connection to. A step; must not fail.
        serve: What it would do with that.
    """

    __slots__ = ("_handler", "make", "serve")

    def __init__(self, make: Callable[[Detached], Handle], serve: Callable[[Any], Awaitable[None]]) -> None:
        self.make = make
        self.serve = serve
        self._handler: object = None

    def belong_to(self, handler: Any) -> None:
        """A server that is given `handler` goes by this. A function around it, however alike, is none."""
        self._handler = handler
        setattr(handler, _NAME, self)

    def belongs_to(self, handler: object) -> bool:
        """Whether it is of this very handler: `functools.wraps` copies all that a function knows of itself."""
        return self._handler is handler


def first_handle_of(handler: object) -> FirstHandle | None:
    """What this handler has brought; None for one that wants a `Connection`."""
    found = getattr(handler, _NAME, None)
    return found if isinstance(found, FirstHandle) and found.belongs_to(handler) else None
