"""Where a WebSocket client wants to go: a ws:// or wss:// URL, which is an http:// or https:// URL by another name.

The handshake is a request, so all that a request needs to know of a URL, and every check, is that of `trionet.http`
(RFC 6455 §3, RFC 9110 §4.2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from ...http.client.auth import basic
from ...http.url import url as http_url
from ...http.url.parts import for_people, kind_of

if TYPE_CHECKING:
    from ...http.url.url import Target

__all__ = ["authorization", "is_secure", "parse_url", "shown_url", "with_http_scheme"]

_SCHEME: Final = re.compile(r"ws(s?)(?=://)", re.IGNORECASE)
_HTTP_SCHEME: Final = re.compile(r"^http(s?)(?=://)", re.IGNORECASE)


def parse_url(url: Any) -> Target:
    """Take a URL (str or `yarl.URL`) apart; the scheme of its origin is ``http`` or ``https``.

    Raises:
        TypeError: neither str nor `yarl.URL`.
        ValueError: not a ws:// or wss:// URL with a host that can be asked, and without a fragment.
    """
    if not isinstance(url, (str, URL)):
        raise TypeError(f"url must be a str like 'ws://host.example/path', not {kind_of(url)}")
    target = http_url.parse_url(url, websocket=True)
    if "#" in str(url):
        raise ValueError(f"url {str(target.url)!r} has a fragment, which WebSocket URLs must not have (RFC 6455 §3)")
    authorization(target)
    return target


def with_http_scheme(url: str) -> str:
    """The same URL, or Location, with http for ws and https for wss; others are left alone."""
    return _SCHEME.sub(r"http\1", url, count=1) if _SCHEME.match(url) else url


def shown_url(url: object) -> str:
    """A URL, or Location, for errors: as a WebSocket's, and without what may be secret, as a token in the query."""
    return _HTTP_SCHEME.sub(r"ws\1", for_people(url))


def is_secure(target: Target) -> bool:
    """Whether this takes TLS."""
    return target.origin.scheme == "https"


def authorization(target: Target) -> str | None:
    """Value of the Authorization field, if the URL has user name and password (RFC 7617).

    Raises:
        ValueError: they cannot be sent.
    """
    return None if target.userinfo is None else basic(*target.userinfo)
