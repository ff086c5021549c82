"""HTTP: fields and message heads, without I/O."""

from __future__ import annotations

from .headers import Headers

__all__ = ["Headers"]
