"""The command: from its options to a session, and from what went wrong to one line with its remedy."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from typing import IO, TYPE_CHECKING, Annotated

import trio
from cyclopts import Parameter

from ... import TrionetError, UpgradeFailedError, UpgradeRefusedError, open_scope
from ..mistakes import FAILED, Mistake
from .lines import given, piped, typed, with_history
from .opening import Dialler
from .options import Extras, Input, Security
from .screen import Screen, visible
from .session import Session
from .target import parse_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .lines import Item
    from .target import Whom

__all__ = ["connect"]

_EXPECTED = (OSError, TrionetError, ValueError, trio.TooSlowError, Mistake)


def connect(
    url: Annotated[str, Parameter(help="tcp://host:port, tls://, unix:///path, http://, https://, ws:// or wss://.")],
    /,
    *,
    input: Input = Input(),
    security: Security = Security(),
    options: Extras = Extras(),
) -> int:
    """Talk to a server by hand: type lines and see what comes, or pipe them through.

    On a terminal there is a history, and :help lists what can be typed besides lines. In a pipe each line is sent as it
    comes; the command ends when the input has ended and the answer has come. For http a line is a request, such as
    GET /path.

    Examples:
        trionet connect tcp://localhost:6379 --send PING
        trionet connect wss://example.org/chat --subprotocol chat
        trionet connect tcp://mail.example.org --starttls smtp --show-certificate
        echo 'GET /' | trionet connect https://example.org
    """
    for name, seconds in (("--timeout", input.timeout), ("--settle", input.settle)):
        if not seconds > 0:
            raise Mistake(f"{name} must be more than 0 seconds, not {seconds}")
    target = parse_target(url, security.starttls)
    interactive = not input.send and _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
    with with_history() if interactive else nullcontext():
        return trio.run(partial(_run, target, input, security, options, interactive=interactive))


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and stream.isatty()


async def _run(target: Whom, given: Input, security: Security, options: Extras, *, interactive: bool) -> int:
    screen = Screen()
    opening = Dialler(target, given, security, options, screen)
    try:
        return await _talk(opening, given, screen, interactive)
    except (ExceptionGroup, *_EXPECTED) as exc:
        error = _first(exc)
    if isinstance(error, BrokenPipeError):  # nobody reads our output any more
        return 0
    if isinstance(error, Mistake) or not isinstance(error, _EXPECTED):
        raise error
    raise Mistake(_explained(error, target, given), FAILED) from error


async def _talk(opening: Dialler, options: Input, screen: Screen, interactive: bool) -> int:
    async with open_scope(drain_timeout=1.0) as scope:
        with trio.fail_after(options.timeout) as limit:
            async with opening.channel(scope) as channel:
                limit.deadline = float("inf")
                if interactive:
                    screen.note(":help lists what can be typed; Ctrl-D ends")
                timeout = options.settle if interactive else options.timeout
                session = Session(channel, screen, timeout, options.settle, patient=interactive)
                answered = await session.run(_items(options, screen, interactive))
    if not answered and not interactive:
        raise Mistake(f"no answer within {options.timeout:g} s (--timeout) behind the last line", FAILED)
    return 0


def _items(options: Input, screen: Screen, interactive: bool) -> AsyncIterator[Item]:
    if options.send:
        return given(options.send, options.hex)
    return typed(screen) if interactive else piped(options.hex)


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _explained(exc: BaseException, target: Whom, options: Input) -> str:
    """What went wrong, in a line, and what to do about it."""
    text = visible(" ".join(str(exc).split()) or type(exc).__name__).rstrip(".")
    if isinstance(exc, trio.TooSlowError):
        return f"{target.url} is not open after {options.timeout:g} s: check host and port, or give a larger --timeout"
    if "certificate verify failed" in text and "mismatch" in text.lower():
        return f"{text}: connect by a name that it has; --insecure --show-certificate shows them"
    if "certificate verify failed" in text:
        return f"{text}: --cafile FILE trusts another authority, --insecure --show-certificate shows whose it is"
    if isinstance(exc, ConnectionRefusedError) or ("refused" in text.lower() and isinstance(exc, OSError)):
        return f"{text}: nobody listens there; check host and port"
    if isinstance(exc, UpgradeFailedError) and target.scheme in ("ws", "wss"):
        return f"{text}: is this the port of a WebSocket server, and {target.scheme}:// right for it?"
    if isinstance(exc, UpgradeRefusedError):
        return f"{text}: check the path, or try {target.url.replace('ws', 'http', 1)}"
    if isinstance(exc, FileNotFoundError):
        return f"{text}: check the path of the socket"
    return text
