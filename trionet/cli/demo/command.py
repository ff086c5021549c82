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
from .contrasts import CONTRASTS, watch
from .line_server import LineServer
from .performance import Outcome, perform
from .promises import HOST, Stage
from .render import Display
from .steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ... import Connection, DrainReport, Server
    from .contrasts import Contrast
    from .performance import Result
    from .promises import Step

    Handler = Callable[[Connection], Awaitable[None]]

__all__ = ["VERSION", "demo", "run"]

DRAIN = 5.0
"""Seconds that the server gives its connections at the end."""
SECONDS = 30.0
"""For all steps together. They take less than one."""
SERVING = "\nServing on {host}:{port} until Ctrl-C. In another terminal:"
NOT_SERVING = "\nTo talk to it yourself: python -m trionet demo --serve --port {port}, and then:"
TRY_IT = """
  curl http://{host}:{port}/hello                  or / in a browser
  nc {host} {port}                                 then type: ECHO hello
  openssl s_client -quiet -connect {host}:{port}   then type: ECHO in secret
  python -m websockets ws://{host}:{port}/         then type anything
  python -m trionet connect ws://{host}:{port}/    the same, with a history
"""
PORT = 8765
"""What is named where the server is over."""


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

    Starts a server on 127.0.0.1 and connects to it in every way that it knows; then shows what other libraries do where
    trionet keeps a promise. The exit status is 0 if every promise was kept, 1 if one was broken.

    Parameters
    ----------
    serve
        Keep the server running afterwards, until Ctrl-C.
    port
        The server's port; the system chooses one by default.
    json
        Print the results for a program to read.
    """
    return trio.run(partial(run, serve=serve, port=port, json=json, contrasts=CONTRASTS))


async def run(
    *,
    serve: bool = False,
    port: int = 0,
    json: bool = False,
    steps: Sequence[Step] = STEPS,
    contrasts: Sequence[Contrast] = (),
    seconds: float = SECONDS,
) -> int:
    """The demonstration as a coroutine: its exit status.

    Args:
        serve: As for `demo`, and so are `port` and `json`.
        port: 0 to 65,535.
        json: See there.
        steps: What to show.
        contrasts: What to show beside other libraries.
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
            told = await _beside_others(contrasts, handle, display)
            display.outcome(outcome)
            status = 0 if outcome.kept and told else 1
            if not serve and not json:
                display.say((NOT_SERVING + TRY_IT).format(host=HOST, port=port or PORT).rstrip())
            if serve:
                await _serve_on(server, display)
            nursery.cancel_scope.cancel()
    return status


async def _beside_others(contrasts: Sequence[Contrast], handle: Handler, display: Display | JSONDisplay) -> bool:
    """Try them against a server of their own, whose connections are nobody's business afterwards."""
    async with trionet.open_scope(drain_timeout=DRAIN) as scope:
        server = await scope.start(partial(trionet.serve_tcp, handle, 0, host=HOST))
        kept = await watch(contrasts, scope, server.port, display.contrast)
        scope.cancel()
    return kept


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
        display.say((SERVING + TRY_IT).format(host=HOST, port=server.port))
        async for _ in signals:
            break
        report = await server.drain(DRAIN)
    display.say(f"Drained: {report}")
