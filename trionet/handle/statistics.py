"""What `Handle.statistics` gives: figures of one handle."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Statistics"]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of one handle."""

    bytes_received: int
    bytes_sent: int
    opened: float
    """When the handle was opened, on the clock of `trio.current_time`, in seconds."""
