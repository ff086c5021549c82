"""Logging as the options ask for it: one line an event on stderr, one line a request on stdout.

The form of both is uvicorn's, so that what reads those logs reads these. A request's record carries its parts in
``record.access``, from which the JSON form is made. What a peer has chosen cannot make a line of its own: the request
target is escaped, in JSON by JSON itself.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ...support.texts import printable, shown_address
from ..mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from .options import Logs

__all__ = ["set_up_logging"]

_COLOURS: Final = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 91}
_WIDTH: Final = len("CRITICAL") + 2


def set_up_logging(options: Logs) -> None:
    """Set up the loggers ``trionet`` and ``trionet.access``, and what is not theirs from WARNING on.

    Raises:
        Mistake: the file of ``--log-config`` cannot be read, or says what logging does not take.
    """
    if options.log_config is not None:
        _from_file(options.log_config)
        return
    level = logging.DEBUG if options.log_level == "trace" else getattr(logging, options.log_level.upper())
    _to(logging.getLogger(), sys.stderr, Lines(_colours(options, sys.stderr)), logging.WARNING)
    logging.getLogger("trionet").setLevel(level)
    access = logging.getLogger("trionet.access")
    access.propagate = False
    as_json = options.access_log_format == "json"
    form = AccessJSON(options.access_log_query) if as_json else AccessLines(
        _colours(options, sys.stdout), options.access_log_query
    )  # fmt: skip
    _to(access, sys.stdout, form, logging.INFO if options.access_log else logging.CRITICAL + 1)


def _to(logger: logging.Logger, stream: TextIO | None, form: logging.Formatter, level: int) -> None:
    logger.handlers.clear()
    logger.setLevel(level)
    if stream is not None:  # a process without one
        handler = logging.StreamHandler(stream)
        handler.setFormatter(form)
        logger.addHandler(handler)


def _colours(options: Logs, stream: TextIO | None) -> bool:
    return (stream is not None and stream.isatty()) if options.use_colors is None else options.use_colors


def _from_file(path: Path) -> None:
    try:
        if path.suffix == ".json":
            logging.config.dictConfig(json.loads(path.read_text()))
        elif path.suffix in (".yaml", ".yml"):
            logging.config.dictConfig(_yaml(path))
        else:
            if not path.is_file():  # which fileConfig may take for a file without sections
                raise FileNotFoundError(2, "No such file or directory")
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise Mistake(f"--log-config {path}: {printable(reason)}") from exc


def _yaml(path: Path) -> Any:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ModuleNotFoundError as exc:
        raise Mistake(f"--log-config {path} needs PyYAML: pip install pyyaml, or write it as JSON") from exc
    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as exc:
        raise Mistake(f"--log-config {path} is not YAML: {printable(exc)}") from exc


class Lines(logging.Formatter):
    """``INFO:     message``, with the level in colour on a terminal."""

    def __init__(self, colours: bool) -> None:
        super().__init__("%(head)s%(message)s")
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname
        shown = f"\x1b[{_COLOURS.get(level, 0)}m{level}\x1b[0m" if self._colours else level
        record.head = f"{shown}:".ljust(_WIDTH + len(shown) - len(level))
        return super().format(record)


class AccessLines(Lines):
    """``INFO:     127.0.0.1:54321 - "GET /path HTTP/1.1" 200 OK``."""

    def __init__(self, colours: bool, query: bool) -> None:
        super().__init__(colours)
        self._query = query

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        access = record.__dict__["access"]
        line = f"{access['method']} {_target(access, self._query)} HTTP/{access['http_version']}"
        record.message = f'{shown_address(access["client"])} - "{line}" {_status(access["status"])}'
        return super().formatMessage(record)


class AccessJSON(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), client, method, target, http_version, status, seconds."""

    def __init__(self, query: bool) -> None:
        super().__init__()
        self._query = query

    def format(self, record: logging.LogRecord) -> str:
        access = record.__dict__["access"]
        fields = {
            "time": _utc(record.created),
            "client": shown_address(access["client"]),
            "method": access["method"],
            "target": _target(access, self._query),
            "http_version": access["http_version"],
            "status": access["status"],
            "seconds": round(access["seconds"], 6),
        }
        return json.dumps(fields)


def _target(access: dict[str, Any], query: bool) -> str:
    target: str = access["target"]
    return printable(target if query else target.partition("?")[0])


def _status(status: int) -> str:
    """``200 OK``; 0 is none: the client went away before there was one."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _utc(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
