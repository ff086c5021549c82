"""User name and password as the value of a field: the Basic scheme (RFC 7617)."""

from __future__ import annotations

import base64
from typing import Any

from ...support.texts import find_control

__all__ = ["basic", "basic_of"]


def basic_of(auth: Any) -> str:
    """The value of Authorization for what a program gives as `auth`.

    Raises:
        TypeError: not a pair of str.
        ValueError: as for `basic`.
    """
    if not isinstance(auth, (tuple, list)) or len(auth) != 2:
        # The value itself is not shown: it may be a password.
        remedy = "; split it at the colon" if isinstance(auth, str) and ":" in auth else ""
        size = f" of length {len(auth)}" if isinstance(auth, (tuple, list)) else ""
        raise TypeError(f"auth must be a pair (user name, password), not a {type(auth).__name__}{size}{remedy}")
    return basic(*auth)


def basic(username: str, password: str) -> str:
    """The value of Authorization or Proxy-Authorization, in UTF-8 (RFC 7617 §2.1).

    Raises:
        TypeError: one of them is not a str.
        ValueError: a colon in the user name, which would end it, or a control character in either.
    """
    for name, text in (("user name", username), ("password", password)):
        if not isinstance(text, str):
            raise TypeError(f"the {name} for Basic authorization must be a str, not {type(text).__name__}")
        if find_control(text):
            raise ValueError(f"the {name} for Basic authorization has a control character (RFC 7617 §2)")
    if ":" in username:
        raise ValueError(
            f"the user name {username!r} has a colon, which Basic authorization cannot carry (RFC 7617 §2)"
        )
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode('ascii')}"
