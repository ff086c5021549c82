"""Figures of a client."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HTTPClientStatistics"]


@dataclass(frozen=True, slots=True)
class HTTPClientStatistics:
    """Figures of one client."""

    open: int
    """Connections that are open, or are just saying goodbye."""
    idle: int
    """Those of them that wait for their next request."""
    running: int
    """Requests that have their slots, from before they connect to the end of their responses."""
    waiting: int
    """Requests that wait for a slot."""
    opened: int
    """Connections that were opened, ever."""
    reused: int
    """Requests that were sent on a connection that had carried one before."""
    retried: int
    """Requests that were sent again because the connection they were first sent on had died."""
    dropped: int
    """Idle connections that were closed: expired, ended by the server, or in the way of a new one."""
