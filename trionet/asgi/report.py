"""What the logs say about an application: its failures, and each request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ..support.texts import printable

if TYPE_CHECKING:
    from ..http import Exchange
    from .types import Scope

__all__ = ["access_logger", "asyncio_remedy", "log_access", "log_failure"]

_LOG: Final = logging.getLogger("trionet.asgi")
_ACCESS: Final = logging.getLogger("trionet.access")

_ASYNCIO_WORDS: Final = (
    "no running event loop",
    "no current event loop",
    "attached to a different loop",
    "unrecognized yield message",
)


def access_logger() -> logging.Logger | None:
    """The logger of requests, if it is enabled now."""
    return _ACCESS if _ACCESS.isEnabledFor(logging.INFO) else None


def log_access(scope: Scope, exchange: Exchange, status: int, seconds: float, *, with_query: bool) -> None:
    """One line for a request, with the arguments that uvicorn's formatter of access logs takes.

    The target stands there as it came, which has neither spaces nor control characters; so nobody forges a line.
    """
    client = scope["client"]
    target = exchange.target if with_query else exchange.target.partition("?")[0]
    parts = {
        "client": tuple(client) if client else None,
        "method": exchange.method,
        "target": target,
        "http_version": scope["http_version"],
        "status": status,
        "seconds": seconds,
    }
    _ACCESS.info(
        '%s - "%s %s HTTP/%s" %d',
        f"{client[0]}:{client[1]}" if client else "-",
        exchange.method,
        target.replace('"', "%22"),
        scope["http_version"],
        status,
        extra={"access": parts},
    )


def log_failure(what: str, exchange: Exchange, exc: BaseException | None) -> None:
    """An application has failed: one line, with the traceback of what it has raised."""
    if exc is not None and (remedy := asyncio_remedy(exc)):
        _LOG.error("%r: %s", exchange, remedy)
        return
    text = f": {printable(exc) or type(exc).__name__}" if exc is not None else ""
    _LOG.error("the application %s %r%s", what, exchange, text, exc_info=exc)


def asyncio_remedy(exc: BaseException) -> str:
    """What to say of an application that needs asyncio, and so cannot run here; empty for any other error."""
    seen: set[int] = set()
    error: Any = exc
    while error is not None and id(error) not in seen:
        if isinstance(error, (RuntimeError, TypeError)) and any(words in str(error) for words in _ASYNCIO_WORDS):
            what = printable(str(error).partition(".")[0])
            return (
                f"the application uses asyncio ({what}), and this server runs on Trio: serve it with an asyncio server "
                f"such as uvicorn, or write it with anyio or Trio (Django cannot run on Trio)"
            )
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return ""
