"""User name and password as the value of a field: the Basic scheme (RFC 7617)."""

from __future__ import annotations

import base64
import re
from typing import Final

__all__ = ["basic"]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def basic(username: str, password: str) -> str:
    """The value of Authorization or Proxy-Authorization, in UTF-8 (RFC 7617 §2.1).

    Raises:
        TypeError: one of them is not a str.
        ValueError: a colon in the user name, which would end it, or a control character in either.
    """
    for name, text in (("user name", username), ("password", password)):
        if not isinstance(text, str):
            raise TypeError(f"the {name} for Basic authorization must be a str, not {type(text).__name__}")
        if _CONTROL.search(text):
            raise ValueError(f"the {name} for Basic authorization has a control character (RFC 7617 §2)")
    if ":" in username:
        raise ValueError(
            f"the user name {username!r} has a colon, which Basic authorization cannot carry (RFC 7617 §2)"
        )
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode('ascii')}"
