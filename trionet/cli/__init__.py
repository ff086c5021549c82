"""The command ``trionet``: one file a command.

It needs libraries that the package itself does not, so nothing else imports this room, and they are imported only when
a command is run.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App

__all__ = ["main"]

INTERRUPTED = 130
"""What shells report for a program that Ctrl-C ended."""


_COMMANDS = ("asgi", "serve")
"""Those with options that may also come from elsewhere."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and tell its exit status.

    Raises:
        SystemExit: the arguments are wrong; they have been explained.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    status: int | None = INTERRUPTED
    try:
        status = _run(arguments)
    except* KeyboardInterrupt:  # on its own, or in the group of a nursery
        _say("interrupted")
    if argv is None:
        _let_go_of_output()
    return status or 0


def _say(text: str) -> None:
    """A line for whoever has started the command, if anybody can see it."""
    from ..server.running import tell

    tell(text)


def _let_go_of_output() -> None:
    """Write out what is left, so that Python has nothing to write at its end: it would complain of a closed pipe."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(arguments: Sequence[str]) -> int | None:
    """The command's exit status; what a person has got wrong is told in a line."""
    from .mistakes import USAGE, Mistake

    try:
        return _call(arguments)
    except Mistake as exc:
        _say(f"trionet: {exc}")
        return exc.status
    except ImportError as exc:
        missing = _missing(exc)
        if missing is None:
            raise
        _say(f"trionet: this command needs {missing}, which is not installed: pip install 'trionet[cli]'")
        return USAGE


def _missing(exc: BaseException | None) -> str | None:
    """The library that is not installed; None if the error is another one. cyclopts raises one of its own from it."""
    while exc is not None and not isinstance(exc, ModuleNotFoundError):
        exc = exc.__cause__
    if exc is None or exc.name is None or exc.name.partition(".")[0] in ("trionet", *sys.stdlib_module_names):
        return None
    return exc.name


def _call(arguments: Sequence[str]) -> int | None:
    """Have cyclopts call the command that the arguments name."""
    app = _app()
    from cyclopts import CycloptsError

    from .mistakes import Mistake
    from .serving.environment import sources

    if arguments and arguments[0] in _COMMANDS:
        app.config = sources(arguments, lambda: _option_names(app[arguments[0]]))
    try:
        return app(arguments, result_action="return_value", exit_on_error=False, print_error=False)  # type: ignore[no-any-return]
    except CycloptsError as exc:
        named = f"{arguments[0]} " if arguments[0] in _COMMANDS else ""
        raise Mistake(f"{' '.join(str(exc).split())} (see trionet {named}--help)") from exc


def _option_names(command: App) -> set[str]:
    """The options of a command, as a configuration file names them."""
    return {name.removeprefix("--") for argument in command.assemble_argument_collection() for name in argument.names}


def _app() -> App:
    """All commands; each is loaded when it is called, or when its help is shown."""
    from cyclopts import App

    from .. import __doc__ as summary

    app = App(name="trionet", help=(summary or "").partition("\n")[0], version=_version, help_format="plaintext")
    app.command("trionet.cli.serving:asgi")
    app.command("trionet.cli.serving:serve")
    app.command("trionet.cli.connect:connect")
    app.command("trionet.cli.demo:demo")
    return app


def _version() -> str:
    from .. import __version__

    return str(__version__)
