"""Where in a program something was opened: for reports, and for errors."""

from __future__ import annotations

import sys

__all__ = ["opened_at"]

_HERE = __name__.partition(".")[0] + "."


def opened_at() -> str:
    """File, line and function of the nearest caller outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_globals.get("__name__", "") + ".").startswith(_HERE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
