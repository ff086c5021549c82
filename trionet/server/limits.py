"""What a server allows its clients, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a server. Every duration is in seconds; ``math.inf`` switches a bound off.

    Attributes:
        max_connections: Connections served at the same time; further ones wait in the backlog.
        drain_timeout: How long a connection's scope takes at most to close its handles gracefully.
        handshake_timeout: How long a TLS handshake may take.
    """

    max_connections: float = math.inf
    drain_timeout: float = 5.0
    handshake_timeout: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_connections", "drain_timeout", "handshake_timeout"):
            if not isinstance(getattr(self, name), (int, float)):
                raise TypeError(f"{name} must be a number, not {getattr(self, name)!r}")
        if not self.max_connections >= 1:
            raise ValueError(f"max_connections must be at least 1 (math.inf: no limit), not {self.max_connections!r}")
        for name in ("drain_timeout", "handshake_timeout"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0 seconds (math.inf: no limit), not {getattr(self, name)!r}")
