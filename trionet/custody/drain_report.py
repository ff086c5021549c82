"""What leaving a scope, or draining a server, came to: a record for logs and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..support.texts import amount

if TYPE_CHECKING:
    from ..ownership import Blocker, Reason

__all__ = ["DrainReport", "Forced", "Lost"]


@dataclass(frozen=True, slots=True)
class Forced:
    """One endpoint that had to be closed by force."""

    handle: str
    opened_at: str
    """File, line and function that opened it."""
    reason: Reason
    blockers: tuple[Blocker, ...]

    def __str__(self) -> str:
        held = "; ".join(map(str, self.blockers))
        return f"{self.handle} opened at {self.opened_at}: {self.reason.value}" + (f" ({held})" if held else "")


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes that had arrived on a connection when it was closed, and that nobody had received."""

    handle: str
    opened_at: str
    """File, line and function that opened it."""
    unread: int
    """How many, without what is beyond 64 KiB in the operating system's buffer."""

    def __str__(self) -> str:
        return f"{self.handle} opened at {self.opened_at}: {amount(self.unread, 'byte')} had arrived and went unread"


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What leaving a scope, or draining a server, came to."""

    drained: int = 0
    """Handles that were closed gracefully."""
    forced: tuple[Forced, ...] = ()
    """Endpoints that had to be closed by force."""
    seconds: float = 0.0
    """How long it took."""
    lost: tuple[Lost, ...] = ()
    """Where input was left that nobody has received: on what was forced, and on connections of drained servers."""

    @property
    def clean(self) -> bool:
        """Nothing had to be forced, and no input was lost."""
        return not (self.forced or self.lost)

    def __str__(self) -> str:
        lines = [f"{self.drained} closed gracefully, {len(self.forced)} by force, in {self.seconds:.3f} s"]
        return "\n  ".join([*lines, *map(str, self.forced), *map(str, self.lost)])
