"""One HTTP request, from its scope to the last word on it: call the application, and see what it comes to.

What an application leaves undone is its failure, unless its client has gone: without a response the client gets a 500,
and a response that was begun is visibly cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from ..errors import HandleBrokenError, HandleClosedError
from ..http.server.error_response import PLAIN_TEXT, error_text
from ..server.fault import Fault
from .call import Call, begin
from .errors import is_disconnect, is_of_the_run
from .http import HTTPCycle
from .http_access import is_answerable
from .report import log_access, log_failure
from .response import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..http import Exchange
    from ..server.follower import Follower
    from .scope import ConnectionScope
    from .served import ServedApplication

__all__ = ["UNAVAILABLE", "answer", "refuse", "run_request"]

_COMPLETE: Final = Progress.COMPLETE
UNAVAILABLE: Final = 503


async def run_request(
    served: ServedApplication,
    connection_scope: ConnectionScope,
    exchange: Exchange,
    follower: Follower,
    on_lingering: Callable[[Call], None],
) -> Call | None:
    """Call the application for one request, and complete what it leaves undone.

    Returns:
        The call, if it has waited; None if not, or if there was none: the health was asked for, or too many are under
        way.

    Cancellation: the application is cancelled; a response that was begun is cut off.
    """
    if served.health is not None and (told := served.health(exchange)) is not None:
        status, text = told
        await refuse(served, connection_scope, exchange, status, body=text)
        return None
    if served.limit is not None and served.active >= served.limit:
        await refuse(served, connection_scope, exchange, UNAVAILABLE)
        return None
    if exchange.target[0] != "/" and exchange.method == "CONNECT":
        await refuse(served, connection_scope, exchange, 501)
        return None
    cycle = HTTPCycle(exchange, served.options.default_fields)
    scope = connection_scope.of_request(exchange)
    began = trio.current_time() if served.access_log is not None else 0.0
    served.active += 1
    context, call = served.context.copy(), None
    try:
        begun = context.run(begin, served.app, scope, cycle.receive, cycle.send)
        if begun is not None:
            call = Call(begun, cycle, context, on_lingering)
            await call
        if cycle.progress is not _COMPLETE:
            await _left_undone(served, cycle, follower)
    except BaseException as exc:  # noqa: ASYNC103 - cancellations are of the run, and raised again
        if is_of_the_run(exc):
            raise
        await _failed(served, cycle, exc, follower)  # noqa: ASYNC102 - no cancellation comes here
    finally:
        if call is not None:
            call.done = True
        served.active -= 1
        if served.access_log is not None:
            seconds = trio.current_time() - began
            log_access(scope, exchange, exchange.status, seconds, with_query=served.options.access_log_query)
        if served.counts:
            served.count_request()
    return call


async def _left_undone(served: ServedApplication, cycle: HTTPCycle, follower: Follower) -> None:
    """The application has returned, and its response is not complete."""
    if cycle.gone_at is None:
        follower.count(Fault.PROGRAM)
        what = "has not answered" if cycle.progress in (Progress.NONE, Progress.HEAD) else "has not completed"
        log_failure(what, cycle.exchange, None)
    await _complete(served, cycle, RuntimeError("the application has returned"))


async def _failed(served: ServedApplication, cycle: HTTPCycle, exc: BaseException, follower: Follower) -> None:
    """The application has raised."""
    if is_disconnect(exc):
        follower.count(Fault.LEFT)
    else:
        follower.count(Fault.PROGRAM)
        log_failure("failed on", cycle.exchange, exc)
    await _complete(served, cycle, exc)


async def _complete(served: ServedApplication, cycle: HTTPCycle, exc: BaseException) -> None:
    """Answer for the application, or cut off what it has begun."""
    if cycle.progress is _COMPLETE:
        return
    if is_answerable(cycle.exchange):
        await answer(served, cycle.exchange, 500 if cycle.offence is None else cycle.offence.status_hint)
    else:
        await cycle.give_up(exc)


async def answer(
    served: ServedApplication,
    exchange: Exchange,
    status: int,
    headers: Any = PLAIN_TEXT,
    body: bytes | None = None,
) -> None:
    """Answer without the application, with the fields of each response; a client that has gone is no failure."""
    fields = served.options.default_fields.beside(headers)
    try:
        await exchange.respond(status, error_text(status) if body is None else body, headers=fields)
    except (HandleBrokenError, HandleClosedError):
        await trio.lowlevel.checkpoint()


async def refuse(
    served: ServedApplication,
    connection_scope: ConnectionScope,
    exchange: Exchange,
    status: int,
    *,
    headers: Any = PLAIN_TEXT,
    body: bytes | None = None,
) -> None:
    """Answer in the place of the application, which is not called. The access log has the request all the same."""
    began = trio.current_time()
    try:
        await answer(served, exchange, status, headers, body)
    finally:
        if served.access_log is not None:
            scope, seconds = connection_scope.of_request(exchange), trio.current_time() - began
            log_access(scope, exchange, exchange.status, seconds, with_query=served.options.access_log_query)
