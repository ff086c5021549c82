"""What the process logs is no test's own: how it was set up, to be compared and put back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("", "trionet", "trionet.access", "trionet.server")

Settings = list[tuple[str, int, bool, list[logging.Handler]]]


def logging_settings() -> Settings:
    """The name, level, propagation and handlers of each logger that trionet writes to or sets up."""
    loggers = [(name, logging.getLogger(name)) for name in NAMES]
    return [(name, logger.level, logger.propagate, [*logger.handlers]) for name, logger in loggers]


@contextmanager
def logging_restored() -> Iterator[None]:
    """Put back what the block sets up of logging, as a command does for the whole of its process."""
    before = logging_settings()
    try:
        yield
    finally:
        for name, level, propagate, handlers in before:
            logger = logging.getLogger(name)
            logger.setLevel(level)
            logger.propagate = propagate
            logger.handlers[:] = handlers
