"""States of a handle that differ a little from others."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from trionet.ownership.state import State, state_of


def but(state: State, **changes: Any) -> State:
    """The state that differs from this one in these fields."""
    return state_of(**{each.name: getattr(state, each.name) for each in fields(State) if each.init} | changes)
