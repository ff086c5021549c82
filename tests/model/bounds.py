"""How much of the world a search unfolds.

One search over everything at once would have tens of millions of states, most of which differ in things that do not
touch one another. So each search takes some families of moves deep, and the soak takes all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EVERYDAY", "SOAK", "Bounds"]


@dataclass(frozen=True)
class Bounds:
    """The size of one search."""

    name: str
    families: frozenset[str]
    """Which groups of moves there are, see `tests.model.game`."""
    peer_bytes: int = 0
    """How many bytes the peer sends at most."""
    chain: int = 2
    """How many handles and capsules succeed one another at most, the first one included."""
    leases: int = 1
    """How many leases there are at a time at most."""


def _bounds(name: str, families: str, **numbers: int) -> Bounds:
    return Bounds(name, frozenset(families.split()), **numbers)


_CLOSE = "closing draining scopes"

# The small ones first: a mutation is shown by the first search that notices it.
EVERYDAY = (
    _bounds("bytes", "reading chaining door upgrading eof reset", peer_bytes=2, chain=3),
    _bounds("peer", "reading writing chaining door upgrading closing draining ending eof reset cut", peer_bytes=1),
    _bounds("upgrades", f"reading writing leasing chaining upgrading {_CLOSE}", leases=2),
    _bounds("work", f"reading writing leasing buffering chaining door {_CLOSE}", leases=2),
    _bounds("scopes", f"reading chaining door upgrading {_CLOSE} ending reset", chain=4),
)
_ALL = f"reading writing leasing chaining door upgrading ending eof reset cut {_CLOSE}"

SOAK = (
    _bounds("streams", "reading writing chaining door upgrading closing draining eof reset", peer_bytes=3, chain=4),
    _bounds("chains", _ALL, chain=3),
    _bounds("all", f"{_ALL} buffering", peer_bytes=1, leases=2),
)
