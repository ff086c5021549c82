"""What a server allows its clients, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..support.checks import check_count, check_seconds

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a server. Every duration is in seconds; ``math.inf`` switches a bound off.

    Attributes:
        max_connections: Connections served at the same time; further ones wait in the backlog.
        max_connections_per_address: Connections of one client's address (of 64 bits, with IPv6) at once; further ones
            are closed. Behind the PROXY protocol the client that it names counts.
        drain_timeout: How long a connection's scope takes at most to close its handles gracefully.
        handshake_timeout: How long a TLS handshake may take; more than 0.
        idle_grace: How long a drain lets a connection wait for a next request that its client may have sent already.
    """

    max_connections: float = math.inf
    max_connections_per_address: float = math.inf
    drain_timeout: float = 5.0
    handshake_timeout: float = 10.0
    idle_grace: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_connections", "max_connections_per_address"):
            if (most := getattr(self, name)) != math.inf:
                check_count(name, most, 1, off="math.inf: no limit")
        check_seconds("drain_timeout", self.drain_timeout)
        check_seconds("handshake_timeout", self.handshake_timeout, positive=True)
        check_seconds("idle_grace", self.idle_grace)
