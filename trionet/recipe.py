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

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import trio

from .checks import check_seconds
from .connection import Connection
from .errors import (
    LimitExceededError,
    LocalProtocolError,
    RemoteProtocolError,
    UpgradeFailedError,
    UpgradeRefusedError,
)

if TYPE_CHECKING:
    from .capsule import Detached
    from .wire import Wire

__all__ = ["OwnRecipe", "Recipe", "TalkingRecipe"]

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


class OwnRecipe(Generic[Successor]):
    """What trionet's own recipes share: they check the source, are used once, and remember the wire until the commit.

    One that only changes the handle adds `check` and `make`; one that talks to the peer adds `talk` too.
    """

    name: str
    """What errors call it: the function that made it."""
    sources: tuple[type, ...] = (Connection,)
    takes = "a Connection"
    """`sources` in words."""

    _used = False
    _wire: Wire | None = None

    def prepare(self, source: Any) -> None:
        """As `Recipe.prepare`."""
        if self._used:
            raise LocalProtocolError(f"upgrade refused: this {self.name} recipe was used before; make one per upgrade")
        if not isinstance(source, self.sources):
            has_bytes = hasattr(source, "detach") and Connection in self.sources
            remedy = "; detach() and adopt() it first" if has_bytes else ""
            raise LocalProtocolError(f"upgrade refused: {self.name} works on {self.takes}, not on {source!r}{remedy}")
        self.check(source)
        self._used = True

    def check(self, source: Any) -> None:
        """Raise, with nothing changed, if `source` cannot be upgraded. A step."""

    async def handshake(self, wire: Wire) -> None:
        """As `Recipe.handshake`."""
        await self.talk(wire)
        self._wire = wire

    async def talk(self, wire: Wire) -> None:
        """Talk to the peer, where there is anything to be said."""

    def commit(self) -> Successor:
        """As `Recipe.commit`."""
        assert self._wire is not None
        return self.make(self._wire.detach())

    def make(self, capsule: Detached) -> Successor:
        """The successor. A step; must not fail."""
        raise NotImplementedError


class TalkingRecipe(OwnRecipe[Successor]):
    """One with a handshake that takes time: its name, its time, and what its failures are called."""

    def __init__(self, handshake_timeout: float) -> None:
        self._timeout = check_seconds("handshake_timeout", handshake_timeout, positive=True)

    @property
    def what(self) -> str:
        """The handshake, as errors call it."""
        raise NotImplementedError

    async def handshake(self, wire: Wire) -> None:
        """As `Recipe.handshake`."""
        wire.set_deadline(self._timeout, self.what, "handshake_timeout")
        try:
            await self.talk(wire)
        except (UpgradeFailedError, UpgradeRefusedError):
            raise
        except (RemoteProtocolError, LimitExceededError, trio.BrokenResourceError) as exc:
            raise UpgradeFailedError(f"{self.what} failed: {exc}") from exc
        self._wire = wire
