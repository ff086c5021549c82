"""What ``trionet asgi`` serves: an application, with the options of the command in the words of `trionet.asgi`."""

from __future__ import annotations

import os
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...asgi.connection import connection_handler
from ...asgi.errors import LifespanError
from ...asgi.options import AppOptions
from ...asgi.serve import DEFAULT_HTTP_LIMITS, check_application, open_application
from ..mistakes import FAILED, NOT_STARTED, Mistake, print_own_frames
from .health import Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ...asgi.types import Application
    from .options import ASGI, Lifetime
    from .serving import Handler

__all__ = ["ASGIApplication"]


class ASGIApplication:
    """An application to be served. Its lifespan is that of `open`.

    Raises:
        Mistake: it is no ASGI application, or an option cannot be right.
    """

    def __init__(self, app: Any, options: ASGI, lifetime: Lifetime) -> None:
        self._lifetime = lifetime
        try:
            check_application(app)
            self._options = AppOptions(**_in_their_words(options, lifetime))
        except (TypeError, ValueError) as exc:
            raise Mistake(str(exc)) from exc
        self._app: Application = app

    @asynccontextmanager
    async def open(self, enough: Callable[[], None], is_ending: Callable[[], bool]) -> AsyncIterator[Handler]:
        """As `Exchanges.open`."""
        path = self._lifetime.health_path
        limits = replace(DEFAULT_HTTP_LIMITS, **self._lifetime.head_limits())
        status = NOT_STARTED
        try:
            async with open_application(self._app, self._options) as served:
                status = FAILED  # from here on it has started, and only its shutdown can fail
                served.on_exhausted = enough
                if path is not None:
                    # A proxy may strip the root path, or leave it.
                    served.health = Health((path, f"{self._options.root_path}{path}"), is_ending)
                yield connection_handler(served, limits)
        except LifespanError as exc:
            if exc.__cause__ is not None:
                print_own_frames(exc.__cause__)
            raise Mistake(str(exc), status) from exc


def _in_their_words(options: ASGI, lifetime: Lifetime) -> dict[str, Any]:
    """The keyword arguments of `AppOptions`."""
    given: dict[str, Any] = {
        "lifespan": options.lifespan,
        "root_path": options.root_path,
        "headers": [_field(text) for text in options.header],
        "server_header": options.server_header,
        "date_header": options.date_header,
        "limit_concurrency": lifetime.limit_concurrency,
        "ws_max_size": options.ws_max_size,
        "ws_ping_interval": options.ws_ping_interval,
        "ws_ping_timeout": options.ws_ping_timeout,
        "ws_drain_code": int(options.ws_drain_code),
        "ws_per_message_deflate": options.ws_per_message_deflate == "true",
    }
    trusted = options.forwarded_allow_ips
    if trusted is None:
        trusted = os.environ.get("FORWARDED_ALLOW_IPS")
    if trusted is not None:
        given["forwarded_allow_ips"] = trusted
    if not options.proxy_headers:
        given["forwarded_headers"] = ()
    elif options.forwarded_headers is not None:
        given["forwarded_headers"] = options.forwarded_headers
    if lifetime.limit_max_requests is not None:
        given["limit_max_requests"] = lifetime.limit_max_requests + random.randint(
            0, lifetime.limit_max_requests_jitter
        )
    return given


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise Mistake(f"--header {text!r} must be Name:Value, as in 'X-Frame-Options:DENY'")
    return name.strip(), value.strip()
