"""``trionet serve``: a handler of trionet's own on a port, with one command."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..mistakes import Mistake
from .application import find
from .logs import set_up_logging
from .options import Application, Certificate, Lifetime, Logs, Reload, Responses, Where
from .reload import PATIENCE, is_child, run_reloading
from .serving import Serving, run_serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["serve"]


def serve(
    handler: Annotated[str, Parameter(help="MODULE:HANDLER, as in main:handle for `handle` in main.py.")],
    /,
    *,
    protocol: Annotated[
        Literal["http", "tcp"], Parameter(help="What the handler gets: each exchange, or each connection.")
    ] = "http",
    application: Application = Application(),
    where: Where = Where(),
    reload: Reload = Reload(),
    certificate: Certificate = Certificate(),
    lifetime: Lifetime = Lifetime(),
    responses: Responses = Responses(),
    logs: Logs = Logs(),
) -> int:
    """Serve a handler of trionet's own: an async function of an Exchange, or of a Connection.

    Examples:
        trionet serve main:handle --port 8080
        trionet serve main:handle --protocol tcp --ssl-certfile cert.pem --ssl-keyfile key.pem
    """
    if (status := _before(where, reload, lifetime, logs)) is not None:
        return status
    found = find(handler, application.app_dir, factory=application.factory)
    options: dict[str, Any] = {"connections": found} if protocol == "tcp" else {"exchanges": lambda: _constant(found)}
    return run_serving(
        Serving(where=where, certificate=certificate, lifetime=_of_child(lifetime), responses=responses, **options)
    )


def _before(where: Where, reload: Reload, lifetime: Lifetime, logs: Logs) -> int | None:
    """What comes before the application: logs, and a parent that reloads, whose exit status this is."""
    if lifetime.workers not in (None, 1):
        raise Mistake(
            f"--workers {lifetime.workers} is not there yet: start a process a core, each with its --port or --uds"
        )
    set_up_logging(logs)
    if reload.reload and not is_child():
        return run_reloading(where, reload, sys.argv[1:])
    return None


def _of_child(lifetime: Lifetime) -> Lifetime:
    """A child that is reloaded ends sooner."""
    if not is_child():
        return lifetime
    return replace(lifetime, timeout_graceful_shutdown=min(PATIENCE, lifetime.timeout_graceful_shutdown))


@asynccontextmanager
async def _constant(value: Any) -> AsyncIterator[Any]:
    yield value
