"""What a client puts together before a URL is taken apart: `base_url` in front, `params` at the end of the query.

Nothing of the URL itself is spelled anew by that: pieces are put side by side as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote_plus

from yarl import URL

from .parts import without_userinfo
from .url import parse_url

__all__ = ["check_base", "extend_query", "merge"]


def check_base(base_url: Any) -> str:
    """`base_url` as text that relative URLs are appended to: it ends in ``/``.

    Raises:
        TypeError, ValueError: it cannot be asked, or has a query or a fragment, which could not be where they belong.
    """
    parse_url(base_url)
    base = str(base_url)
    for mark, what in (("#", "fragment"), ("?", "query")):
        if mark in base:
            raise ValueError(
                f"base_url {without_userinfo(base)!r} has a {what}, after which nothing can be appended; "
                f"leave it out, and give {'it with each URL' if mark == '#' else 'params= with each request'}"
            )
    return base if base.endswith("/") else f"{base}/"


def merge(base: str, url: str) -> str:
    """A relative URL below `base`, as httpx does it: appended, whether it begins with ``/`` or not."""
    return f"{base}{url.lstrip('/')}"


def extend_query(url: str, params: Any) -> str:
    """`url` with `params` behind the query that it has.

    Args:
        url: Its query stays as it is spelled.
        params: A str, which is appended as it is; or a mapping or pairs of names and values, which are quoted as
            HTML forms do it. A list or tuple of values gives its name as often.

    Raises:
        TypeError: a name is not a str, or a value not a str, int or float.
    """
    added = params if isinstance(params, str) else "&".join(_pairs(params))
    if not added:
        return url
    before, mark, fragment = url.partition("#")
    joint = "?" if "?" not in before else "" if before.endswith(("?", "&")) else "&"
    return f"{before}{joint}{added}{mark}{fragment}"


def _pairs(params: Any) -> Iterable[str]:
    if not isinstance(params, Iterable) or isinstance(params, (bytes, bytearray, memoryview, URL)):
        raise TypeError(f"params must be a mapping, pairs or a str, not {params!r}")
    for pair in params.items() if isinstance(params, Mapping) else params:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"params has {pair!r} where a pair of name and value belongs")
        name, value = pair
        if not isinstance(name, str):
            raise TypeError(f"params has the name {name!r}, which must be a str")
        for one in value if isinstance(value, (list, tuple)) else (value,):
            yield f"{quote_plus(name)}={quote_plus(_text(name, one))}"


def _text(name: str, value: Any) -> str:
    if value is None or isinstance(value, bool) or not isinstance(value, (str, int, float)):
        remedy = {"None": "leave it out, or give ''", "True": "give 'true' or 1", "False": "give 'false' or 0"}
        raise TypeError(
            f"params has the value {value!r} for {name!r}, which has no single spelling in a query; "
            f"{remedy.get(repr(value), 'give a str, an int or a float')}"
        )
    return str(value)
