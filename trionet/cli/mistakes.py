"""What a person did wrong on the command line, and which frames of a traceback are theirs.

A mistake is one line that names the value and the remedy. Where the application itself has raised, its own frames are
what helps; those of trionet and of the import system only hide them.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..server.running import tell

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["FAILED", "NOT_STARTED", "USAGE", "Mistake", "print_own_frames", "working_directory"]

FAILED: Final = 1
"""Something had to be forced, or has failed."""
USAGE: Final = 2
"""The command line asks for what cannot be."""
NOT_STARTED: Final = 3
"""The application has not started."""

_HOUSE: Final = str(Path(__file__).parents[1])


class Mistake(Exception):  # noqa: N818 - it is a person's
    """The command ends with this message, in one line, and with this exit status."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status


def working_directory() -> Path:
    """The folder in which the command was called.

    Raises:
        Mistake: it has been deleted.
    """
    try:
        return Path.cwd()
    except OSError as exc:
        raise Mistake("the working directory is not there any more: change into one that is") from exc


def print_own_frames(exc: BaseException) -> None:
    """Print the traceback of `exc` on stderr without the frames of trionet and of Python's import system."""
    shown = traceback.TracebackException(type(exc), exc, _own(exc.__traceback__))
    tell("".join(shown.format()).rstrip("\n"))


def _own(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is the user's; the whole of it if there is none."""
    first = tb
    while first is not None and _is_ours(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return first


def _is_ours(filename: str) -> bool:
    return filename.startswith(_HOUSE) or filename.startswith("<frozen ") or filename.endswith("importlib/__init__.py")
