"""Where options come from besides the command line: the environment, an ``--env-file``, and a ``--config`` file.

The nearest wins: option, environment, environment file (which overrides nothing), configuration file.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..mistakes import Mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["PREFIX", "environment_of_children", "read_config", "read_env_file", "sources"]

PREFIX: Final = "TRIONET_"
_READ: Final[set[str]] = set()
"""Variables that an --env-file has set."""


def sources(argv: Sequence[str], names: Callable[[], Iterable[str]]) -> list[Callable[..., Any]]:
    """What cyclopts asks for options that are not on the command line, the nearest first.

    Args:
        argv: The arguments, which may name files.
        names: Tells the names of options that a configuration file may set.

    Raises:
        Mistake: a file cannot be read, or sets what there is not.
    """
    from cyclopts.config import Dict, Env

    if path := _value(argv, "--env-file"):
        read_env_file(Path(path))
    _check_platform()
    found: list[Callable[..., Any]] = [Env(PREFIX, command=False)]
    if path := _value(argv, "--config") or os.environ.get(f"{PREFIX}CONFIG"):
        found.append(Dict(read_config(Path(path), names()), use_commands_as_keys=False, source=path))
    return found


def read_env_file(path: Path) -> None:
    """Set the variables of a file that the environment does not have."""
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError as exc:
        raise Mistake("--env-file needs python-dotenv: pip install 'trionet[cli]'") from exc
    if not path.is_file():
        raise Mistake(f"--env-file {path}: there is no such file")
    try:
        for name, value in dotenv_values(path).items():
            if value is not None and name not in os.environ:
                os.environ[name] = value
                _READ.add(name)
    except UnicodeDecodeError as exc:
        raise Mistake(f"--env-file {path} is not UTF-8 (byte {exc.start}): save it as UTF-8") from exc
    except OSError as exc:
        raise Mistake(f"--env-file {path}: {exc.strerror}") from exc
    except ValueError as exc:  # no name, or a NUL in a value
        raise Mistake(f"--env-file {path}: {exc}") from exc


def environment_of_children() -> dict[str, str]:
    """The environment without what came from a file, which a child reads anew."""
    return {name: value for name, value in os.environ.items() if name not in _READ}


def read_config(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The options of a TOML file, ``port = 8000``."""
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as exc:
        raise Mistake(f"--config {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise Mistake(f"--config {path} is not UTF-8 (byte {exc.start}): save it as UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise Mistake(f"--config {path} is not TOML: {exc}") from exc
    known = set(names)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Mistake(f"--config {path}: there is no option {name!r}{hint}")
    return values


def _check_platform() -> None:
    """Kubernetes and Docker links set PORT variables for services: ``TRIONET_PORT=tcp://10.0.0.1:80``."""
    port = os.environ.get(f"{PREFIX}PORT", "")
    if port.startswith(("tcp://", "udp://")):
        raise Mistake(
            f"{PREFIX}PORT is {port!r}, which a container platform sets for a service called trionet: "
            "rename that service, or switch such variables off (Kubernetes: enableServiceLinks: false)"
        )


def _value(argv: Sequence[str], option: str) -> str | None:
    for index, argument in enumerate(argv):
        if argument == option and index + 1 < len(argv):
            return argv[index + 1]
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None
