"""HTTP/1.1 without I/O: fields, message heads, framing and bodies, and the machines of both sides."""

from __future__ import annotations

from .headers import Headers

__all__ = ["Headers"]
