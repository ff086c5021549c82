"""Which web pages may open a WebSocket here: the check of the Origin field (RFC 6455 §4.2.2, §10.2).

A browser lets every page open a WebSocket to every server, with that server's cookies, and says in Origin where the
page is from. A server that trusts cookies has to look at it; nothing else keeps a foreign page out. Programs that
are not browsers can send any Origin, or none.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

__all__ = ["Decide", "Origins", "check_origins"]

Decide = Callable[[str | None], bool]
"""Whether this origin is allowed; None stands for a request without an Origin field."""

Origins = Iterable[str | None] | Decide | None
"""What a program gives: the allowed ones, a function that decides, or None for no check."""

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._~:\[\]-]+")
_PORTS: Final = {"http": ":80", "https": ":443"}


def check_origins(origins: Any) -> Decide | None:
    """A function that decides, out of what a program gives; None if there is to be no check.

    Raises:
        TypeError: it is a single str, an async function, or holds something other than str and None.
        ValueError: what stands for an origin is not one: ``scheme://host``, with a port if that is not the scheme's
            own, or ``null``.
    """
    if origins is None:
        return None
    if isinstance(origins, (str, bytes)):
        raise TypeError(f"origins must be a list of origins, or a function, not {origins!r}; write [{origins!r}]")
    if inspect.iscoroutinefunction(origins):
        raise TypeError(f"origins must be a list of origins, or a function that is not async; {origins!r} is async")
    if callable(origins):
        return _strict(origins)
    if not isinstance(origins, Iterable):
        raise TypeError(f"origins must be a list of origins, or a function, not {origins!r}")
    allowed = frozenset(map(_serialized, origins))
    return lambda origin: (None if origin is None else _plain(origin)) in allowed


def _strict(decide: Callable[[str | None], Any]) -> Decide:
    """The function, held to its word: a coroutine, or a match object, would be true by accident."""

    def checked(origin: str | None) -> bool:
        allowed = decide(origin)
        if not isinstance(allowed, bool):
            raise TypeError(f"origins: {decide!r} must return True or False, not {allowed!r}")
        return allowed

    return checked


def _serialized(origin: object) -> str | None:
    """An allowed origin in the form in which browsers send it (RFC 6454 §6.2)."""
    if origin is None:
        return None
    if not isinstance(origin, str):
        raise TypeError(f"origins must hold str such as 'https://host.example', or None, not {origin!r}")
    plain = _plain(origin)
    if plain != "null" and not _ORIGIN.fullmatch(plain):
        raise ValueError(
            f"{origin!r} is not an origin: it has a scheme, '://', an ASCII host, perhaps a port, and nothing behind "
            f"(RFC 6454 §6.2); or it is 'null'"
        )
    return plain


def _plain(origin: str) -> str:
    """In lower case and without the scheme's own port: what is equal then is the same origin (RFC 6454 §5)."""
    plain = origin.lower()
    return plain.removesuffix(_PORTS.get(plain.partition("://")[0], "\n"))
