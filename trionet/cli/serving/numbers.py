"""The numbers among the options, checked before anything begins: each mistake names option, value, bound and remedy."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from ...support.checks import check_count, check_rate, check_seconds
from ..mistakes import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_numbers"]

_NO_LIMIT: Final = "leave it out: no limit"

_COUNTS: Final[dict[str, tuple[int, int | None, str]]] = {
    "port": (0, 65535, "0: one that is free"),
    "fd": (0, None, "the number of a listening socket that was passed on"),
    "backlog": (1, None, "leave it out: what the system allows"),
    "limit_connections": (1, None, _NO_LIMIT),
    "limit_connections_per_address": (1, None, _NO_LIMIT),
    "limit_concurrency": (1, None, _NO_LIMIT),
    "limit_max_requests": (1, None, _NO_LIMIT),
    "limit_max_requests_jitter": (0, None, "0: no jitter"),
    "h11_max_incomplete_event_size": (64, None, "leave it out: 65536"),
    "workers": (1, None, "leave it out: one process"),
    "ws_max_size": (1, None, "leave it out: 1048576"),
}
"""Option: the least, the most, and what to write instead."""

_SECONDS: Final[dict[str, tuple[bool, str]]] = {
    "timeout_keep_alive": (False, "inf: no limit"),
    "timeout_graceful_shutdown": (False, "inf: no limit"),
    "reload_delay": (False, "0: at once"),
    "ws_ping_interval": (True, "inf: no pings"),
    "ws_ping_timeout": (True, "inf: no limit"),
}
"""Option: whether 0 is refused, and what to write instead."""

_FINITE: Final = frozenset({"reload_delay"})


def check_numbers(*groups: Any) -> None:
    """Check every number of these groups of options.

    Raises:
        Mistake: one is out of its range.
    """
    try:
        for name, value in _given(groups):
            option = f"--{name.replace('_', '-')}"
            if name == "limit_min_rate":
                check_rate(option, value)
            elif name in _COUNTS:
                least, most, remedy = _COUNTS[name]
                check_count(option, value, least, most, off=remedy)
            elif name in _SECONDS:
                positive, remedy = _SECONDS[name]
                check_seconds(option, value, positive=positive, off=remedy)
                if name in _FINITE and math.isinf(value):
                    raise ValueError(f"{option} must be a finite number of seconds ({remedy}), not {value!r}")
    except (TypeError, ValueError) as exc:
        raise Mistake(str(exc)) from exc


def _given(groups: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    for group in groups:
        for field in fields(group):
            value = getattr(group, field.name)
            if value is not None:
                yield field.name, value
