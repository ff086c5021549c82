"""A request for a WebSocket, from its checks to the last word on it; the counterpart of `request`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..server.fault import Fault
from ..websocket.handshake import rules
from .call import Call, begin
from .errors import is_disconnect, is_of_the_run
from .http_access import is_answerable, request_head
from .report import log_access, log_failure
from .request import UNAVAILABLE, answer, refuse
from .websocket import WebSocketCycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..http import Exchange
    from ..server.follower import Follower
    from .scope import ConnectionScope
    from .served import ServedApplication

__all__ = ["run_websocket"]


async def run_websocket(
    served: ServedApplication,
    connection_scope: ConnectionScope,
    exchange: Exchange,
    follower: Follower,
    on_lingering: Callable[[Call], None],
) -> Call | None:
    """Call the application for one WebSocket, and close or answer what it leaves undone.

    Returns:
        The call, if it has waited; None if not, or if there was none, because the handshake cannot be accepted, or too
        many are under way.

    Cancellation: the application is cancelled.
    """
    asked = await _checked(served, connection_scope, exchange, follower)
    if asked is None:
        return None
    if served.limit is not None and served.active >= served.limit:
        await refuse(served, connection_scope, exchange, UNAVAILABLE)
        return None
    cycle = WebSocketCycle(exchange, served, asked.subprotocols)
    scope = connection_scope.of_websocket(exchange, asked.subprotocols)
    began = trio.current_time()
    served.active += 1
    context, call = served.context.copy(), None
    try:
        begun = context.run(begin, served.app, scope, cycle.receive, cycle.send)
        if begun is not None:
            call = Call(begun, cycle, context, on_lingering)
            await call
        if await cycle.finish(None):
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


async def _checked(
    served: ServedApplication, connection_scope: ConnectionScope, exchange: Exchange, follower: Follower
) -> rules.Asked | None:
    """What the client asks for; None if its handshake cannot be accepted, which it has been told by then."""
    try:
        asked = rules.check_request(request_head(exchange))
        if served.allowed_origins is not None:
            rules.check_origin(asked.origins, served.allowed_origins)
    except rules.NotAcceptableError as exc:
        response = exc.response
        follower.count(Fault.REFUSED)
        await refuse(  # noqa: ASYNC120 - it outranks this
            served, connection_scope, exchange, response.status, headers=response.headers.items(), body=response.body
        )
        return None
    return asked


async def _left_undone(served: ServedApplication, cycle: WebSocketCycle, follower: Follower) -> None:
    """The application has returned, and has neither accepted nor denied."""
    follower.count(Fault.PROGRAM)
    log_failure("has not answered", cycle.exchange, None)
    if is_answerable(cycle.exchange):
        await answer(served, cycle.exchange, 500)


async def _failed(served: ServedApplication, cycle: WebSocketCycle, exc: BaseException, follower: Follower) -> None:
    """The application has raised."""
    if is_disconnect(exc):
        follower.count(Fault.LEFT)
    else:
        follower.count(Fault.PROGRAM)
        log_failure("failed on", cycle.exchange, exc)
    await cycle.finish(exc)
    if is_answerable(cycle.exchange):
        await answer(served, cycle.exchange, 500)
