"""``trionet asgi`` and ``trionet serve``: an application on a port, with one command."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Literal

from cyclopts import Parameter

from ..mistakes import Mistake
from .application import find
from .foreign import settle_foreign
from .handlers import ConnectionHandler, ExchangeHandler
from .logs import set_up_logging
from .numbers import check_numbers
from .options import ASGI, Application, Certificate, Foreign, Lifetime, Logs, Reload, Where
from .reload import PATIENCE, is_child, run_reloading
from .serving import Serving, run_serving

__all__ = ["asgi", "serve"]


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
    logs: Logs = Logs(),
) -> int:
    """Serve a handler of trionet's own: an async function of an Exchange, or of a Connection.

    Examples:
        trionet serve main:handle --port 8080
        trionet serve main:handle --protocol tcp --ssl-certfile cert.pem --ssl-keyfile key.pem
    """
    check_numbers(where, reload, lifetime)
    if (status := _before(where, reload, lifetime, logs)) is not None:
        return status
    found = find(handler, application.app_dir, factory=application.factory)
    lifetime = _of_child(lifetime)
    service = ConnectionHandler(found) if protocol == "tcp" else ExchangeHandler(found, lifetime)
    return run_serving(Serving(service=service, where=where, certificate=certificate, lifetime=lifetime))


def asgi(
    app: Annotated[str, Parameter(help="MODULE:APP, as in main:app for `app` in main.py.")],
    /,
    *,
    application: Application = Application(),
    where: Where = Where(),
    reload: Reload = Reload(),
    certificate: Certificate = Certificate(),
    lifetime: Lifetime = Lifetime(),
    logs: Logs = Logs(),
    options: ASGI = ASGI(),
    foreign: Foreign = Foreign(),
) -> int:
    """Serve an ASGI application: Starlette, FastAPI, Litestar, Quart-Trio or one of your own.

    Examples:
        trionet asgi main:app
        trionet asgi main:create_app --factory --reload
        trionet asgi main:app --host 0.0.0.0 --port 443 --ssl-certfile cert.pem --ssl-keyfile key.pem
    """
    from .asgi_application import ASGIApplication  # which `serve` does without

    check_numbers(where, reload, lifetime, options)
    settle_foreign(foreign)
    if (status := _before(where, reload, lifetime, logs)) is not None:
        return status
    found = find(app, application.app_dir, factory=application.factory)
    lifetime = _of_child(lifetime)
    service = ASGIApplication(found, options, lifetime)
    return run_serving(Serving(service=service, where=where, certificate=certificate, lifetime=lifetime))


def _before(where: Where, reload: Reload, lifetime: Lifetime, logs: Logs) -> int | None:
    """What comes before the application: logs, and a parent that reloads, whose exit status this is."""
    if lifetime.workers not in (None, 1):
        raise Mistake(
            f"--workers {lifetime.workers} is not there yet: start a process a core, each with its --port or --uds"
        )
    if lifetime.health_path is not None and not lifetime.health_path.startswith("/"):
        path = lifetime.health_path
        raise Mistake(f"--health-path must begin with a slash; write {'/' + path!r}, not {path!r}")
    set_up_logging(logs)
    if reload.reload and not is_child():
        return run_reloading(where, reload, sys.argv[1:])
    return None


def _of_child(lifetime: Lifetime) -> Lifetime:
    """A child that is reloaded ends sooner."""
    if not is_child():
        return lifetime
    return replace(lifetime, timeout_graceful_shutdown=min(PATIENCE, lifetime.timeout_graceful_shutdown))
