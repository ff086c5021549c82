"""Which libraries are installed, and can keep to a bound on their output; and what they raise."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GarbageError", "brotli", "library_errors", "zstd"]


class GarbageError(ValueError):
    """There is something behind the end of the coded data."""


@lru_cache
def brotli() -> Any:
    """The module, if there is one whose output can be bounded: brotli or brotlicffi from 1.2 on."""
    for name in ("brotli", "brotlicffi"):
        module = _import(name)
        if module is not None:
            try:
                module.Decompressor().process(b"", output_buffer_limit=1)
            except (AttributeError, TypeError):
                continue
            return module
    return None


@lru_cache
def zstd() -> Any:
    """The module: of the standard library from Python 3.14 on, else its backport."""
    return _import("compression.zstd") or _import("backports.zstd")


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@lru_cache
def library_errors() -> tuple[type[Exception], ...]:
    """What a library raises on data that it does not understand."""
    modules: list[tuple[Any, Callable[[Any], type[Exception]]]] = [
        (brotli(), lambda module: module.error),
        (zstd(), lambda module: module.ZstdError),
    ]
    return (zlib.error, GarbageError, *(of(module) for module, of in modules if module is not None))
