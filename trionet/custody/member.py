"""What an owner owns, and how it is asked: a member's failure is its own.

A member may be a protocol of a program's own, whose methods may raise anything. Whoever deals with several of them goes
by `ask`, so that one that fails neither keeps the others open nor hides the error that the scope ends with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..ownership import Blocker, End, Event, Phase

__all__ = ["Member", "Observer", "ask"]

_LOG = logging.getLogger("trionet")

T = TypeVar("T")


class Member(Protocol):
    """What an owner owns: a handle, or a capsule that nobody has adopted yet."""

    opened_at: str

    @property
    def end(self) -> End | None:
        """How it ended; None while it is alive."""
        ...

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """The work in progress on it."""
        ...

    @property
    def _must_wait(self) -> bool:
        """Whether a graceful close has to wait for anything."""
        ...

    @property
    def _drained(self) -> bool:
        """Whether nothing but the release is left of a graceful close."""
        ...

    def _scope_event(self, event: Event) -> None:
        """Take an event of the scope. A step; no-op on a member that has ended."""
        ...

    async def _drain(self) -> None:
        """Everything of a graceful close but the release."""
        ...

    def _retire(self, grace: float = 0.0) -> None:
        """Close gracefully as soon as its user waits for input that has not arrived yet. A step.

        So a server that drains interrupts no response that is being worked out, and waits for no input. What arrived
        before is delivered, once: a close would reset it away.

        Args:
            grace: Seconds for which a protocol with requests may wait for the next one all the same. A second call
                looks whether they are over.
        """
        ...

    def abort(self) -> None:
        """Close the endpoint now. A step."""
        ...

    def _forget_work(self) -> None:
        """It has ended, and so has the handler that used this: keep nothing that refers back to it. A step."""
        ...

    def _handler_failed(self, error: BaseException) -> None:
        """The handler that used this has raised: close, in the protocol's way of saying so where it has one. A step."""
        ...


Observer = Callable[[Any, Phase | None, Phase], None]
"""Called when a handle opens or changes its phase, in the same step: the handle, the old phase or None, the new one."""


def ask(member: Member, question: Callable[[], T], otherwise: T) -> T:
    """What a member answers, or `otherwise` where it raises, which is logged."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - a protocol of a user's own may raise anything
        _LOG.exception("%s failed to end as its scope wants it", object.__repr__(member))
        return otherwise
