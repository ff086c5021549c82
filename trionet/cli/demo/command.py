"""The command: one server on a loopback port, one client after the other, and what came of it."""

from __future__ import annotations

import signal
import ssl
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

import trio
import trustme
from cyclopts import Parameter

import trionet

from ...inspect import Timeline
from .as_json import JSONDisplay
from .line_server import LineServer
from .performance import Outcome, perform
from .promises import HOST, Stage
from .render import Display
from .steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ... import DrainReport, Server
    from .performance import Result
    from .promises import Step

__all__ = ["VERSION", "demo", "run"]

DRAIN = 5.0
"""Seconds that the server gives its connections at the end."""
SECONDS = 30.0
"""For all steps together. They take less than one."""
TRY_IT = """
Serving on {host}:{port} until Ctrl-C. Try it:
  nc {host} {port}                                then type: ECHO hello
  python -m websockets ws://{host}:{port}/        then type anything
  openssl s_client -quiet -connect {host}:{port}  then type: ECHO in secret
"""


def _version() -> str:
    try:
        return version("trionet")
    except PackageNotFoundError:
        return "(source)"


VERSION = _version()


def demo(
    *,
    serve: Annotated[bool, Parameter(negative="")] = False,
    port: int = 0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Show on this machine what trionet promises, and check it.

    Starts a server on 127.0.0.1 and connects to it in every way that it knows. The exit status is 0 if every promise
    was kept, 1 if one was broken.

    Parameters
    ----------
    serve
        Keep the server running afterwards, until Ctrl-C.
    port
        The server's port; the system chooses one by default.
    json
        Print the results for a program to read.
    """
    return trio.run(partial(run, serve=serve, port=port, json=json))


async def run(
    *, serve: bool = False, port: int = 0, json: bool = False, steps: Sequence[Step] = STEPS, seconds: float = SECONDS
) -> int:
    """The demonstration as a coroutine: its exit status.

    Args:
        serve: As for `demo`, and so are `port` and `json`.
        port: 0 to 65,535.
        json: See there.
        steps: What to show.
        seconds: For all steps together.

    Cancellation: everything is closed.
    """
    display = JSONDisplay() if json else Display()
    timeline = Timeline()
    server_context, client_context = _certificates()
    handle = LineServer(server_context).handle
    status = 1
    async with trio.open_nursery() as nursery:
        try:
            server: Server = await nursery.start(
                partial(trionet.serve_tcp, handle, port, host=HOST, observer=timeline.side("server"))
            )
        except (OSError, ValueError) as exc:
            print(f"trionet demo: {exc}", file=sys.stderr)
        else:
            display.title(VERSION, f"{HOST}:{server.port}")
            began = trio.current_time()
            stage = Stage(server.port, client_context)
            results = await perform(steps, stage, timeline, seconds=seconds, tell=display.result)
            drain = None if serve else await server.drain(DRAIN)
            outcome = _outcome(results, trio.current_time() - began, server, drain, timeline)
            display.outcome(outcome)
            status = 0 if outcome.kept else 1
            if serve:
                await _serve_on(server, display)
            nursery.cancel_scope.cancel()
    return status


def _outcome(
    results: tuple[Result, ...], seconds: float, server: Server, drain: DrainReport | None, timeline: Timeline
) -> Outcome:
    return Outcome(
        results,
        seconds,
        server.statistics(),
        drain,
        opened=timeline.opened,
        moved=timeline.moved,
        closed=timeline.closed,
        open=timeline.open,
    )


def _certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a fresh certificate for localhost, and a client's that trusts its authority alone."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    return server_context, client_context


async def _serve_on(server: Server, display: Display | JSONDisplay) -> None:
    """Serve until Ctrl-C or SIGTERM, then drain."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        display.say(TRY_IT.format(host=HOST, port=server.port))
        async for _ in signals:
            break
        report = await server.drain(DRAIN)
    display.say(f"Drained: {report}")
