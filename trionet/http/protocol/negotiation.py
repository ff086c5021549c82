"""Which content coding a client prefers of those that a server has: Accept-Encoding (RFC 9110 §12.5.3). Without I/O."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .headers import split_list

__all__ = ["preferred_coding"]

_ELEMENT: Final = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
_ALIASES: Final = {"x-gzip": "gzip"}  # RFC 9110 §8.4.1.3
_MAX_REMEMBERED: Final = 256
"""Browsers say the same each time; a value that is longer than any of theirs is not worth the memory."""


def preferred_coding(accepted: list[str], offered: tuple[str, ...]) -> str | None:
    """The coding to use, of those that are offered; None to send the body as it is.

    The client's weights decide, and where they are equal the order of `offered`. A client that says nothing takes
    anything, but most of those cannot decode: they get the body as it is, and so do those who weigh that more.

    Args:
        accepted: The values of the request's Accept-Encoding. Elements that are malformed are passed over.
        offered: The server's codings, lower case.
    """
    text = ", ".join(accepted)
    return _remembered(text, offered) if len(text) <= _MAX_REMEMBERED else _choose(text, offered)


def _choose(text: str, offered: tuple[str, ...]) -> str | None:
    weights: dict[str, float] = {}
    for element in split_list([text.lower()]):
        if (found := _ELEMENT.fullmatch(element)) is not None:
            weights[_ALIASES.get(found[1], found[1])] = 1.0 if found[2] is None else float(found[2])
    others = weights.get("*", 0.0)
    best, least = None, max(weights.get("identity", 0.0), 0.0005)  # a weight of 0 means "not acceptable"
    for coding in offered:
        weight = weights.get(coding, others)
        if weight > least or (weight == least and best is None):
            best, least = coding, weight
    return best


_remembered = lru_cache(maxsize=256)(_choose)
