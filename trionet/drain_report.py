"""What leaving a scope, or draining a server, came to: a record for logs and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ownership import Blocker, Reason

__all__ = ["DrainReport", "Forced"]


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
class DrainReport:
    """What leaving a scope came to."""

    drained: int = 0
    """Handles that were closed gracefully."""
    forced: tuple[Forced, ...] = ()
    """Endpoints that had to be closed by force."""
    seconds: float = 0.0
    """How long it took."""

    @property
    def clean(self) -> bool:
        """Nothing had to be forced."""
        return not self.forced

    def __str__(self) -> str:
        lines = [f"{self.drained} closed gracefully, {len(self.forced)} by force, in {self.seconds:.3f} s"]
        return "\n  ".join([*lines, *map(str, self.forced)])
