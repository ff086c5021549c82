"""What a step of the demonstration is: one promise of trionet, and the client that checks it.

It talks to the server over real sockets and raises `BrokenPromiseError` when anything is not as promised. Which handles
there have to have been, on both sides, stands next to it and is checked against the timeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from ... import Scope

__all__ = ["HOST", "BrokenPromiseError", "Stage", "Step", "expect"]

HOST = "127.0.0.1"


class BrokenPromiseError(Exception):
    """Something was not as promised."""


def expect(kept: bool, promise: str) -> None:
    """Raise `BrokenPromiseError` unless `kept`."""
    if not kept:
        raise BrokenPromiseError(f"broken: {promise}")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a step finds."""

    port: int
    """Where the server listens, on 127.0.0.1."""
    trust: ssl.SSLContext
    """Verifies, and trusts the authority that signed the server's certificate."""


@dataclass(frozen=True, slots=True)
class Step:
    """One promise, and how to check it."""

    name: str
    promise: str
    """One sentence, at most 76 characters."""
    run: Callable[[Stage, Scope], Awaitable[str | None]]
    """Raises if the promise is broken; may return a text to show."""
    handles: dict[str, list[str]] = field(default_factory=dict)
    """The handles that have to be opened on each side, in this order."""
