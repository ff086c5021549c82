"""Finding what ``MODULE:NAME`` names, with errors that say what was looked for and where.

A module that is not there and one that raises while it is imported are different mistakes: the first is named in a
line, of the second the user's own frames are shown.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from ..mistakes import NOT_STARTED, Mistake, print_own_frames, working_directory

__all__ = ["find"]


def find(target: str, app_dir: Path | None, *, factory: bool) -> Any:
    """The object that `target` names, ``package.module:name.attribute``.

    Args:
        target: See above.
        app_dir: The folder that is looked into first; the working directory by default.
        factory: Whether the object is a function without arguments that makes what is to be served.

    Raises:
        Mistake: there is no such module or attribute, or it failed while it was made.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise Mistake(f"{target!r} must be MODULE:NAME, as in 'main:app' for `app` in main.py")
    folder = str((working_directory() / (app_dir or "")).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    found = _attribute(_module(module_name, target, folder), path, target)
    if not factory:
        return found
    if not callable(found):
        raise Mistake(f"{target!r} is {found!r}, which cannot be called: leave --factory out")
    try:
        return found()
    except Exception as exc:
        print_own_frames(exc)
        raise Mistake(f"the factory {target!r} raised {type(exc).__name__} (see above)", NOT_STARTED) from exc


def _module(name: str, target: str, folder: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (name == exc.name or name.startswith(f"{exc.name}.")):
            print_own_frames(exc)
            raise Mistake(f"{target!r} needs the module {exc.name!r}, which is not installed", NOT_STARTED) from exc
        remedy = "a module has no '.py' behind its name" if name.endswith(".py") or "/" in name else "see --app-dir"
        raise Mistake(f"there is no module {exc.name!r} for {target!r}, also not in {folder}: {remedy}") from exc
    except SyntaxError as exc:
        print_own_frames(exc)
        where = f"{exc.filename}:{exc.lineno}" if exc.filename else name
        raise Mistake(f"{target!r} is not Python: {exc.msg} ({where})", NOT_STARTED) from exc
    except Exception as exc:
        print_own_frames(exc)
        raise Mistake(f"importing {name!r} raised {type(exc).__name__} (see above)", NOT_STARTED) from exc


def _attribute(module: Any, path: str, target: str) -> Any:
    found = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as exc:
            names = [each for each in vars(module) if not each.startswith("_") and callable(getattr(module, each))]
            hint = f"; it has {', '.join(sorted(names)[:6])}" if names and found is module else ""
            raise Mistake(f"{target!r}: {found!r} has no {name!r}{hint}") from exc
    return found
