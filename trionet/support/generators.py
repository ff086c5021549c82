"""Generators that a program gives to be sent: closed when they are not needed any more, whatever became of them.

A generator that is left alone is finalized by the garbage collector: some time later, for an asynchronous one without
being able to await, and Python warns. What it holds open (files, connections, locks) has to be released when the call
that it was given to returns, also if that call was refused before it began. Nothing else is closed: a channel or a file
that was given to be iterated over is still its owner's.

A program that gives the same generator again, to a second attempt, would send nothing, and take it for sent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

__all__ = ["close_generator", "has_ended"]


def has_ended(source: Any) -> bool:
    """Whether `source` is a generator that was exhausted or closed, so that it gives nothing, without an error."""
    if isinstance(source, AsyncGenerator):
        return getattr(source, "ag_frame", source) is None
    return isinstance(source, Generator) and getattr(source, "gi_frame", source) is None


async def close_generator(source: Any) -> None:
    """Close `source` if it is a generator; nothing happens if it has ended already.

    Cancellation: reaches the generator, which decides.
    """
    if isinstance(source, AsyncGenerator):
        await source.aclose()
    elif isinstance(source, Generator):
        source.close()
