"""All that an object is made of: for a transfer's twin, and for adopting a stream."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["attributes"]


def attributes(thing: object) -> dict[str, Any]:
    """All that `thing` is made of, by name: what is in its slots, however they were declared, and in its dict."""
    found: dict[str, Any] = {}
    for cls in type(thing).__mro__:
        for name, member in vars(cls).items():
            if inspect.ismemberdescriptor(member) and hasattr(thing, name):
                found[name] = getattr(thing, name)
    return found | getattr(thing, "__dict__", {})
