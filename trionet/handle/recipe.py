"""The protocol of an upgrade: how a connection becomes something else.

A recipe is used once, by `Handle.upgrade`, which calls its three methods in order:

1. ``prepare(source)``, in one step: the recipe checks its own arguments and the source, and raises if it has to
   decline. Nothing has changed then. The source is the handle that is being upgraded.
2. ``await handshake(wire)``: the recipe talks to the peer. Returning means that the peer has accepted. Raising
   `UpgradeRefusedError` means that the peer declined and that the old protocol is intact: the old handle is open again.
   Any other exception means that the handshake failed.
3. ``commit()``, in one step: the recipe returns the successor, built from ``wire.detach()``. It must not fail.

trionet does the rest: guards, ownership, leftover, and the end of the old handle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from .wire import Wire

__all__ = ["Recipe"]

Successor = TypeVar("Successor", covariant=True)


class Recipe(Protocol[Successor]):
    """How to upgrade a connection. Implement it for a protocol of your own; an instance is used once."""

    def prepare(self, source: Any) -> None:
        """Check the source and raise, with nothing changed, if it cannot be upgraded. A step."""
        ...

    async def handshake(self, wire: Wire) -> None:
        """Talk to the peer: return if it accepts, raise `UpgradeRefusedError` if it declines and nothing is lost.

        `Wire.set_deadline` bounds it: without that a silent peer holds the task for ever.

        Cancellation: undone if no byte was sent; else the connection is closed.
        """
        ...

    def commit(self) -> Successor:
        """The successor, made from ``wire.detach()``. A step; must not fail."""
        ...
