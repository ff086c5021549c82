"""A stretch of a test that coverage does not look at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def untraced() -> Iterator[None]:
    """Switch the tracer off that measures coverage: it makes any Python code two to three times slower.

    For long computations in which few lines of trionet run, all of which other tests run too.
    """
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
