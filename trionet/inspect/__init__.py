"""Looking at what is open, and at what has happened to it."""

from .timeline import Entry, Life, Timeline, lives

__all__ = ["Entry", "Life", "Timeline", "lives"]
