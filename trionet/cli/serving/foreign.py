"""Options of uvicorn that mean nothing here: each is ignored with a line, or refused with its reason."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from ...server.running import tell
from ..mistakes import Mistake

if TYPE_CHECKING:
    from .options import Foreign

__all__ = ["settle_foreign"]

_IGNORED: Final = {
    "loop": "the loop is Trio's",
    "http": "there is one implementation of HTTP",
    "ws": "there is one implementation of WebSocket",
    "ws_max_queue": "what waits is bounded in bytes",
    "timeout_worker_healthcheck": "there is one process",
    "reset_contextvars": "each request has a fresh context in any case",
}


def settle_foreign(options: Foreign) -> None:
    """Say of each option that is set why it does nothing.

    Raises:
        Mistake: without what it asks for the application would not run as it is meant to.
    """
    if options.http2:
        raise Mistake("--http2 is not there: trionet speaks HTTP/1.1; let a proxy in front speak HTTP/2")
    if options.interface not in (None, "auto", "asgi3"):
        raise Mistake(
            f"--interface {options.interface} is not there: trionet runs ASGI 3 applications; "
            "wrap others (asgiref.compatibility.guarantee_single_callable, a2wsgi)"
        )
    for field in fields(options):
        if field.name in _IGNORED and getattr(options, field.name) not in (None, False):
            tell(f"--{field.name.replace('_', '-')} is ignored: {_IGNORED[field.name]}")
