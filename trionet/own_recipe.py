"""What trionet's own recipes share: their checks, their one use, their time, and what their failures are called.

A recipe of a program's own does without it: `handle.recipe.Recipe` is all that an upgrade asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from .connection import Connection
from .errors import (
    LimitExceededError,
    LocalProtocolError,
    RemoteProtocolError,
    UpgradeFailedError,
    UpgradeRefusedError,
)
from .support.checks import check_seconds
from .support.texts import shown_bytes

if TYPE_CHECKING:
    from .handle.detached import Detached
    from .handle.wire import Wire

__all__ = ["OwnRecipe", "refuse_unread"]

Successor = TypeVar("Successor", covariant=True)


class OwnRecipe(Generic[Successor]):
    """Checks the source, is used once, and remembers the wire until the commit.

    One that only changes the handle adds `check` and `make`. One that talks to the peer adds `talk` and, where that
    takes time, calls `limit_time`: then whatever goes wrong is an `UpgradeFailedError`.
    """

    name: str
    """What errors call it: the function that made it."""
    sources: tuple[type, ...] = (Connection,)
    takes = "a Connection"
    """`sources` in words."""
    what = "the handshake"
    """What errors call the handshake; set by `limit_time`."""

    _timeout: float | None = None
    _used = False
    _wire: Wire | None = None

    def limit_time(self, handshake_timeout: float, what: str) -> None:
        """Give up the handshake, which errors call `what`, after so many seconds.

        Args:
            handshake_timeout: More than 0; `math.inf` for no limit.
            what: What errors call it.
        """
        self._timeout = check_seconds("handshake_timeout", handshake_timeout, positive=True)
        self.what = what

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
        if self._timeout is None:
            await self.talk(wire)
        else:
            wire.set_deadline(self._timeout, self.what, "handshake_timeout")
            try:
                await self.talk(wire)
            except (UpgradeFailedError, UpgradeRefusedError):
                raise
            except (RemoteProtocolError, LimitExceededError, trio.BrokenResourceError) as exc:
                raise UpgradeFailedError(f"{self.what} failed: {exc}") from exc
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


def refuse_unread(source: Any, unread: bytes | bytearray, peer: str) -> None:
    """Raise if there is anything unread, for a client whose peer must not speak first.

    Args:
        source: What is to be upgraded.
        unread: Its unread bytes.
        peer: What is at the other end, with its article.

    Raises:
        LocalProtocolError: there are unread bytes; nothing has changed.
    """
    if unread:
        raise LocalProtocolError(
            f"upgrade refused: {source!r} has unread bytes, but {peer} must not speak first: {shown_bytes(unread)}. "
            f"Receive them first if they belong to the protocol before"
        )
