"""The command ``trionet``: one file a command.

It needs libraries that the package itself does not, so nothing else imports this room, and they are imported only when
a command is run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App

__all__ = ["main"]

INTERRUPTED = 130
"""What shells report for a program that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and tell its exit status.

    Raises:
        SystemExit: the arguments are wrong; they have been explained.
    """
    try:
        app = _app()
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] in ("trionet", *sys.stdlib_module_names):
            raise
        print(
            f"trionet: this command needs {exc.name}, which is not installed: pip install 'trionet[cli]'",
            file=sys.stderr,
        )
        return 2
    arguments = sys.argv[1:] if argv is None else list(argv)
    status: int | None = INTERRUPTED
    try:
        status = _run(app, arguments)
    except* KeyboardInterrupt:  # on its own, or in the group of a nursery
        print("interrupted", file=sys.stderr)
    return status or 0


def _run(app: App, arguments: Sequence[str]) -> int | None:
    """The command's exit status; what a person has got wrong is told in a line."""
    from cyclopts import CycloptsError

    from .mistakes import USAGE, Mistake
    from .serving.environment import sources

    try:
        if arguments and arguments[0] in ("asgi", "serve"):
            app.config = sources(arguments, _option_names(app[arguments[0]]))
        status: int | None = app(arguments, result_action="return_value", exit_on_error=False, print_error=False)
    except CycloptsError as exc:
        print(f"trionet: {' '.join(str(exc).split())} (see trionet {arguments[0]} --help)", file=sys.stderr)
        return USAGE
    except Mistake as exc:
        print(f"trionet: {exc}", file=sys.stderr)
        return exc.status
    return status


def _option_names(command: App) -> set[str]:
    """The options of a command, as a configuration file names them."""
    return {name.removeprefix("--") for argument in command.assemble_argument_collection() for name in argument.names}


def _app() -> App:
    from cyclopts import App

    from .. import __doc__ as summary
    from .demo import VERSION, demo
    from .serving import asgi, serve

    app = App(name="trionet", help=(summary or "").partition("\n")[0], version=VERSION, help_format="plaintext")
    app.command(asgi)
    app.command(serve)
    app.command(demo)
    return app
