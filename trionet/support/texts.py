"""How errors, logs and reprs show things: what a peer has sent, an address, an amount.

A text stays on one line and short, even where a peer has chosen a part of it.
"""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["amount", "find_control", "printable", "shown_address", "shown_bytes"]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LINE_BREAKING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def find_control(text: str) -> str:
    """The first control character in `text` (C0, DEL or C1); nothing if there is none."""
    found = _CONTROL.search(text)
    return found[0] if found else ""


def printable(thing: object) -> str:
    """`str(thing)` on one line: a peer that can choose a part of it must not be able to write lines of the log."""
    return _LINE_BREAKING.sub(lambda found: ascii(found[0])[1:-1], str(thing))


def shown_bytes(data: bytes | bytearray, most: int = 32) -> str:
    """How `data` begins, as a literal: `most` bytes of it, and dots if there are more."""
    return f"{bytes(data[:most])!r}{'...' if len(data) > most else ''}"


def shown_address(address: Any) -> str:
    """A socket address as people write it, on one line: a Unix socket may have any name."""
    if address is None:
        return "?"
    if isinstance(address, tuple) and len(address) > 1:
        host, port = str(address[0]), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    name = str(address)
    return (name if name.isprintable() else ascii(name)[1:-1]) or "unnamed"


def amount(number: int, thing: str) -> str:
    """So many of a thing whose plural ends in s: ``1 byte``, ``2 bytes``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
