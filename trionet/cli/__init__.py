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
    status: int | None = INTERRUPTED
    try:
        status = app(sys.argv[1:] if argv is None else list(argv), result_action="return_value")
    except* KeyboardInterrupt:  # on its own, or in the group of a nursery
        print("interrupted", file=sys.stderr)
    return status or 0


def _app() -> App:
    from cyclopts import App

    from .. import __doc__ as summary
    from .demo import VERSION, demo

    app = App(name="trionet", help=(summary or "").partition("\n")[0], version=VERSION)
    app.command(demo)
    return app
