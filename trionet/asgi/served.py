"""An application that is served: the application itself, what was asked for, and what its requests have in common."""

from __future__ import annotations

import contextvars
import logging
from typing import TYPE_CHECKING, Any, Final

from ..http.server.error_response import PLAIN_TEXT
from .report import access_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..http import Exchange
    from .options import AppOptions
    from .types import Application

__all__ = ["ServedApplication"]

_LOG: Final = logging.getLogger("trionet.asgi")


class ServedApplication:
    """What the connections of a server share.

    Args:
        app: The application.
        options: What was asked for.
        state: What the lifespan has put there.

    Attributes:
        app: The application.
        options: What was asked for.
        state: What each request gets a copy of.
        context: The context variables that each request begins with.
        active: Requests and WebSockets under way.
        allowed_origins: Whether a page from there may open a WebSocket; None for no check.
        access_log: The logger of requests; None if nobody listens to it.
        limit: How many of them there may be; None for no limit.
        counts: Whether requests are counted.
        error_fields: The fields of responses that the connection makes by itself.
        health: What to answer if this request asks for the health of the server, which is neither limited nor counted:
            status and text; None if it does not. None for no such request.
        on_exhausted: Called when `limit_max_requests` is reached.
    """

    __slots__ = (
        "_left",
        "access_log",
        "active",
        "allowed_origins",
        "app",
        "context",
        "counts",
        "error_fields",
        "health",
        "limit",
        "on_exhausted",
        "options",
        "state",
    )

    def __init__(self, app: Application, options: AppOptions, state: dict[str, Any]) -> None:
        self.app = app
        self.options = options
        self.state = state
        self.context = contextvars.copy_context()
        self.active = 0
        self.allowed_origins: Callable[[str | None], bool] | None = None
        if options.ws_origins is not None:
            from ..websocket.handshake.origins import check_origins

            self.allowed_origins = check_origins(options.ws_origins)
        self.access_log = access_logger()
        self.error_fields = options.default_fields.beside(PLAIN_TEXT)
        self.health: Callable[[Exchange], tuple[int, bytes] | None] | None = None
        self.on_exhausted: Callable[[], object] | None = None
        self.limit = options.limit_concurrency
        self.counts = options.limit_max_requests is not None
        self._left = options.limit_max_requests or 0

    def count_request(self) -> None:
        """A request, or a WebSocket, has ended."""
        self._left -= 1
        if self._left == 0 and self.on_exhausted is not None:
            self.on_exhausted()
