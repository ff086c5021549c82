"""The demonstration's results for programs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contrasts import Seen
    from .performance import Outcome, Result

__all__ = ["JSONDisplay"]


class JSONDisplay:
    """Prints one JSON object to standard output at the end, and what is meant for people to standard error."""

    def __init__(self) -> None:
        self._version = ""
        self._contrasts: list[Seen] = []

    def title(self, version: str, address: str) -> None:
        """Remember what goes into the object."""
        self._version = version

    def result(self, result: Result) -> None:
        """Nothing yet."""

    def contrast(self, seen: Seen) -> None:
        """Keep it for the object."""
        self._contrasts.append(seen)

    def outcome(self, outcome: Outcome) -> None:
        """The object."""
        print(
            json.dumps(
                {"version": self._version, **_outcome(outcome), "contrasts": list(map(asdict, self._contrasts))},
                indent=2,
            ),
            flush=True,
        )

    def say(self, text: str) -> None:
        """Plain lines, now."""
        print(text, file=sys.stderr, flush=True)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    """Times are in seconds since the first handle opened."""
    return {
        "kept": outcome.kept,
        "broken": outcome.leftover,
        "seconds": outcome.seconds,
        "handles": {
            "opened": outcome.opened,
            "moved": outcome.moved,
            "closed": outcome.closed,
            "open": outcome.open,
        },
        "server": asdict(outcome.server),
        "steps": list(map(_step, outcome.results)),
    }


def _step(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "promise": result.promise,
        "kept": result.kept,
        "broken": result.broken,
        "shown": result.shown,
        "handles": [
            {
                "side": life.side,
                "handle": life.handle,
                "opened": life.opened,
                "changed": life.changed,
                "phases": [phase.value for phase in life.phases],
                "reason": None if life.reason is None else life.reason.value,
                "successor": life.successor,
            }
            for life in result.lives
        ],
    }
