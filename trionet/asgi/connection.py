"""One connection of an application's server: the loop over its requests, and how it moves on.

The loop is in the connection's own task, and so is the application that it calls. That costs nothing; but behind its
response an application may go on, with work that the next request must not wait for. Then the *loop* moves, not the
application: a new task of the connection takes it over, one turn later, if the application is still running by then.
The task that the loop has left ends with its application. The first one waits for all others, since the connection's
scope ends with it.

Whether the loop has moved stands in the `Call` whose application it has left: a task that comes late to take over a
loop that has gone on since finds that its own call is done, and does nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ..errors import HandleBrokenError, HandleClosedError, RemoteProtocolError
from ..http.server.connection import HTTPServerConnection
from ..http.server.recipe import to_http_server
from ..server.first_handle import FirstHandle
from ..server.follower import followed
from ..support.texts import printable, shown_address
from .http_access import keep_scope, set_up_responses, take_loop
from .request import run_request
from .scope import ConnectionScope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..connection import Connection
    from ..http import Exchange, HTTPLimits
    from ..server.follower import Follower
    from .call import Call
    from .served import ServedApplication

    Handler = Callable[
        [ServedApplication, ConnectionScope, Exchange, Follower, Callable[[Call], None]], Awaitable[Call | None]
    ]

__all__ = ["ConnectionLoop", "connection_handler", "websocket_handler"]

_LOG = logging.getLogger("trionet.asgi")


def connection_handler(served: ServedApplication, limits: HTTPLimits) -> Callable[[Connection], Awaitable[None]]:
    """A handler of connections, for `serve` and its kin, that serves this application."""

    async def serve_connection(connection: Connection) -> None:
        http = await connection.upgrade(to_http_server(limits=limits))
        del connection  # nobody needs the old handle any more
        await serve_requests(http)

    async def serve_requests(http: HTTPServerConnection) -> None:
        await ConnectionLoop(served, http, followed(http)).run()

    FirstHandle(lambda capsule: HTTPServerConnection(capsule, limits), serve_requests).belong_to(serve_connection)
    serve_connection.scheme = "http"  # type: ignore[attr-defined]  # so that `run` can say where it listens
    serve_connection.__qualname__ = getattr(served.app, "__qualname__", type(served.app).__name__)
    return serve_connection


def websocket_handler() -> Handler:
    """What runs the application for a WebSocket; loaded with the first of them, as that takes long."""
    from .handshake import run_websocket

    return run_websocket


class ConnectionLoop:
    """The loop over the requests of one connection.

    Args:
        served: What is served.
        http: The connection.
        follower: Who decides about its errors.
    """

    __slots__ = ("_follower", "_http", "_over", "_scope", "_site", "_tasks")

    def __init__(self, served: ServedApplication, http: HTTPServerConnection, follower: Follower) -> None:
        self._site = served
        self._http = http
        self._follower = follower
        self._scope = ConnectionScope(http, served.options, served.state)
        self._tasks = 0
        self._over = trio.Event()
        keep_scope(http, True)
        set_up_responses(http, served.error_fields, with_date=served.options.date_header)

    async def run(self) -> None:
        """Serve the connection until it has ended, and with it all that its applications do.

        Cancellation: the applications are cancelled.
        """
        await self._loop()
        if self._tasks:
            await self._over.wait()

    async def _loop(self) -> None:
        """Serve requests, until there are no more or another task goes on with them."""
        self._tasks += 1
        http = self._http
        try:
            async for exchange in http:
                run = websocket_handler() if exchange.wants_websocket else run_request
                call = await run(self._site, self._scope, exchange, self._follower, self._call_successor)
                if call is not None and call.left:
                    return
                del exchange, call  # a connection that waits for its next request keeps nothing of the last one
        except (HandleBrokenError, HandleClosedError, RemoteProtocolError) as exc:
            self._report_end(exc)
        finally:
            self._tasks -= 1
            if not self._tasks:
                self._over.set()

    def _call_successor(self, call: Call) -> None:
        """An application goes on behind its response."""
        self._http.scope.start_soon(self._take_over, call, name=f"{self._http!r}, next requests")

    async def _take_over(self, call: Call) -> None:
        """Go on with the loop, unless the application that held it up has ended by now."""
        await trio.lowlevel.checkpoint()
        if call.done or self._http.phase.terminal:
            return
        call.left = True
        take_loop(self._http)
        await self._loop()

    def _report_end(self, exc: Exception) -> None:
        """The loop has ended with an error: the client's, or that of a connection which was aborted."""
        verdict = self._follower.judge(exc)
        if verdict.fault.peers:
            self._follower.say(verdict, f"HTTP with {shown_address(self._http.remote_address)}")
        else:
            _LOG.debug("%r has ended: %s", self._http, printable(exc))
