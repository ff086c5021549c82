"""Checks of what a program gives: one wording for each kind of mistake.

A mistake is told where it is made, and on one line: the argument's name, the value that was given, what is allowed and,
where there is one, the remedy. A `bool` is not taken for a number: ``timeout=True`` is a mistake, though Python would
count it as 1. The functions return the value, so that they can stand in an assignment.
"""

from __future__ import annotations

import math
import operator
from typing import Any, NoReturn, TypeVar

__all__ = ["check_count", "check_flag", "check_kind", "check_rate", "check_seconds", "flat_view", "refuse_copy"]

Kind = TypeVar("Kind")


def check_seconds(name: str, value: Any, *, positive: bool = False, off: str = "math.inf: no limit") -> float:
    """`value` if it is a duration in seconds: at least 0, or more than 0 if `positive`.

    Args:
        name: What errors call it.
        value: What was given.
        positive: Whether 0 is refused too.
        off: How it is switched off, in words.

    Raises:
        TypeError: not an int or a float.
        ValueError: negative, NaN, or 0 where that makes no sense.
    """
    if type(value) is float and value > 0:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds ({off}), not {value!r}")
    if math.isnan(value) or value < 0 or (positive and value == 0):
        bound = "more than 0" if positive else "at least 0"
        raise ValueError(f"{name} must be {bound} seconds ({off}), not {value!r}")
    return value


def check_count(name: str, value: Any, least: int = 0, most: int | None = None, *, off: str = "") -> int:
    """`value` as an int, if it is a whole number from `least` to `most`.

    Args:
        name: What errors call it.
        value: What was given; anything with ``__index__``.
        least: The smallest value allowed.
        most: The largest one; None for no bound.
        off: How the bound is switched off, in words, for the message.

    Raises:
        TypeError: not a whole number.
        ValueError: out of the range.
    """
    if type(value) is int and value >= least and (most is None or value <= most):
        return value
    off = off and f" ({off})"
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int{off}, not {value!r}") from None
    if number < least or (most is not None and number > most):
        bound = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} must be {bound}{off}, not {value!r}")
    return number


def check_rate(name: str, value: Any) -> float:
    """`value` if it is a finite number of bytes per second, at least 0.

    Raises:
        TypeError: not an int or a float.
        ValueError: negative, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of bytes per second (0: no floor), not {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of bytes per second, at least 0 (0: no floor), not {value!r}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """`value` if it is True or False.

    Raises:
        TypeError: anything else, such as the text ``"no"``, which Python would count as true.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def check_kind(name: str, value: Any, kind: type[Kind], example: str) -> Kind:
    """`value` if it is of this class; `example` says what is right.

    Raises:
        TypeError: it is of another class.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {example}, not {value!r}")
    return value


def flat_view(view: memoryview) -> memoryview | bytes:
    """The bytes of `view` in a row, copied only where it has gaps, as ``view[::2]`` has."""
    if not view.c_contiguous:
        return view.tobytes()
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def refuse_copy(self: object, protocol: object = None) -> NoReturn:
    """The ``__reduce_ex__`` of classes whose objects must not be copied: `copy` and `pickle` call it.

    A copy of a handle would be a second owner of its connection.

    Raises:
        TypeError: always.
    """
    raise TypeError(
        f"{type(self).__name__} objects can be neither copied nor pickled: a connection has exactly one owner. Pass "
        f"{self!r} itself on, or move the connection with transfer(), or with detach() and adopt()"
    )
