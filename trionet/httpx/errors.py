"""The errors of trionet and of the system, and timeouts, as those of HTTPX."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx
import trio

from ..errors import (
    LimitExceededError,
    LocalProtocolError,
    RemoteProtocolError,
    UpgradeFailedError,
    UpgradeRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .body import Paced

__all__ = ["errors", "within"]

_WHAT: Final[dict[type[httpx.TimeoutException], str]] = {
    httpx.PoolTimeout: "no connection of the pool was free",
    httpx.ConnectTimeout: "the connection was not made",
    httpx.ReadTimeout: "nothing of the body was received",
}
"""What did not happen in time."""


@contextmanager
def within(seconds: float, error: type[httpx.TimeoutException]) -> Iterator[None]:
    """Raise `error` if the block takes longer than this many seconds."""
    if seconds == math.inf:
        yield
        return
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise error(f"{_WHAT[error]} within {seconds:g} s")


@contextmanager
def errors(broken: type[httpx.TransportError], body: Paced | None = None) -> Iterator[None]:
    """Raise trionet's and the system's errors as HTTPX's; a broken connection is `broken`.

    What the program's own body has raised stays what it is.
    """
    try:
        yield
    except Exception as exc:
        if body is not None and exc is body.error:
            raise
        kind = _kind(exc, broken)
        if kind is None:
            raise
        raise kind(str(exc)) from exc


def _kind(exc: Exception, broken: type[httpx.TransportError]) -> type[httpx.TransportError] | None:
    if isinstance(exc, UpgradeRefusedError) or isinstance(exc.__cause__, UpgradeRefusedError):
        return httpx.ProxyError  # only a proxy's way to somebody else is refused
    if isinstance(exc, UpgradeFailedError):
        return broken
    if isinstance(exc, (RemoteProtocolError, LimitExceededError)):
        return httpx.RemoteProtocolError
    if isinstance(exc, LocalProtocolError):
        return httpx.LocalProtocolError
    if isinstance(exc, (OSError, trio.BrokenResourceError, trio.ClosedResourceError)):
        return broken
    return None
