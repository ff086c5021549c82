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
    access = logging.getLogger("trionet.access")
    if options.log_config is not None:
        _from_file(options.log_config)
    else:
        _to(logging.getLogger(), sys.stderr, Lines(_colours(options, sys.stderr)), logging.WARNING)
        access.propagate = False
        as_json = options.access_log_format == "json"
        form = AccessJSON() if as_json else AccessLines(_colours(options, sys.stdout))
        _to(access, sys.stdout, form, logging.INFO)
    _set_levels(options, access)


def _set_levels(options: Logs, access: logging.Logger) -> None:
    """What other options than ``--log-config`` ask for, they get beside it too."""
    level = options.log_level or ("info" if options.log_config is None else None)
    if level is not None:
        logging.getLogger("trionet").setLevel(logging.DEBUG if level == "trace" else level.upper())
    if not options.access_log:
        access.setLevel(logging.CRITICAL + 1)
    access.removeFilter(_without_query)
    if not options.access_log_query:
        access.addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    """Leave the query out of a request's record: of its parts, and of its message for formatters that know no parts."""
    access = record.__dict__["access"]
    target = access["target"]
    record.__dict__["access"] = {**access, "target": target.partition("?")[0]}
    if isinstance(record.args, tuple):
        client, method, shown, *rest = record.args
        record.args = (client, method, str(shown).partition("?")[0], *rest)
    return True


def _to(logger: logging.Logger, stream: TextIO | None, form: logging.Formatter, level: int) -> None:
    logger.handlers.clear()
    logger.setLevel(level)
    if stream is not None:  # a process without one
        handler = Output(stream)
        handler.setFormatter(form)
        logger.addHandler(handler)


class Output(logging.StreamHandler["TextIO"]):
    """A stream that somebody may have closed, such as a pipe into a program that has ended: what is logged is lost."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


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

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        access = record.__dict__["access"]
        line = f"{access['method']} {printable(access['target'])} HTTP/{access['http_version']}"
        record.message = f'{shown_address(access["client"])} - "{line}" {_status(access["status"])}'
        return super().formatMessage(record)


class AccessJSON(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), client, method, target, http_version, status, seconds."""

    def format(self, record: logging.LogRecord) -> str:
        access = record.__dict__["access"]
        fields = {
            "time": _utc(record.created),
            "client": shown_address(access["client"]),
            "method": access["method"],
            "target": printable(access["target"]),
            "http_version": access["http_version"],
            "status": access["status"],
            "seconds": round(access["seconds"], 6),
        }
        return json.dumps(fields)


def _status(status: int) -> str:
    """``200 OK``; 0 is none: the client went away before there was one."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _utc(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
