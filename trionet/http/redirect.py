"""Where a response sends a client on to, without I/O (RFC 9110 §15.4).

A redirect is the server's wish, so everything in it is checked: where it leads, over which scheme, and what of the
request another origin may see.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from yarl import URL

from ..errors import LocalProtocolError, RemoteProtocolError
from .headers import Headers
from .url import parse_url

if TYPE_CHECKING:
    from .url import Target

__all__ = ["MAX_REDIRECTS", "Next", "next_request"]

MAX_REDIRECTS: Final = 20

_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_OF_ORIGIN: Final = frozenset({b"authorization", b"cookie", b"host", b"proxy-authorization"})
_OF_BODY: Final = frozenset({b"digest", b"expect", b"last-modified", b"repr-digest", b"trailer", b"transfer-encoding"})


class Next(NamedTuple):
    """The request that a redirect asks for."""

    method: str
    url: URL
    """Without userinfo; with a fragment, the request's own where the redirect has none (RFC 9110 §10.2.2)."""
    headers: Headers
    drops_body: bool
    """Whether it has no body; else it has the body of the request before."""


def next_request(
    status: int, location: str | None, method: str, url: URL, headers: Headers, *, allow_downgrade: bool
) -> Next | None:
    """What to send next, or None if the response is no redirect to follow.

    Args:
        status: Of the response.
        location: Its Location field.
        method: Of the request.
        url: Of the request.
        headers: Of the request, as they were given: without what is worked out for each request, such as Cookie out of
            a jar. Another origin gets no credentials of them, and no Host.
        allow_downgrade: Whether to go from https to http.

    Raises:
        RemoteProtocolError: Location cannot be used: not http or https, malformed, or with userinfo, which RFC 9110
            §4.2.4 says to take for an error in a URL that comes from elsewhere.
        LocalProtocolError: from https to http, and `allow_downgrade` is false.
    """
    if status not in _FOLLOWED or not location:
        return None
    here = parse_url(url)
    target, there = _resolve(status, location, here, url.raw_fragment)
    if here.origin.scheme == "https" and there.origin.scheme == "http" and not allow_downgrade:
        raise LocalProtocolError(
            f"redirect ({status}) from {here.url} to {there.url} refused: it leads from https to http; "
            f"allow_downgrade=True follows it"
        )
    new_method = _method(status, method)
    drops_body = status == 303 or new_method != method
    fields = headers.raw
    if there.origin != here.origin:
        fields = tuple(field for field in fields if field[0].lower() not in _OF_ORIGIN)
    if drops_body:
        fields = tuple(field for field in fields if not _describes_body(field[0].lower()))
    return Next(new_method, target, Headers.from_wire(fields), drops_body)


def _method(status: int, method: str) -> str:
    """Contract: 301 and 302 on POST, and 303 on everything, become GET; HEAD stays HEAD (RFC 9110 §15.4)."""
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        return "GET"
    return method


def _describes_body(name: bytes) -> bool:
    return name.startswith(b"content-") or name in _OF_BODY


def _resolve(status: int, location: str, here: Target, fragment: str) -> tuple[URL, Target]:
    """Where Location leads, with the fragment that belongs to it, and the same taken apart."""
    what = f"redirect ({status}) from {here.url} to {location!r} cannot be followed"
    if _CONTROL.search(location):
        raise RemoteProtocolError(f"{what}: it has a control character", 502)
    try:
        url = URL(_readable(location))
        url = url if url.scheme else here.url.join(url)
        there = parse_url(url)
    except ValueError as exc:
        raise RemoteProtocolError(f"{what}: {exc}", 502) from exc
    if there.userinfo is not None:
        raise RemoteProtocolError(f"{what}: it has a user name or password (RFC 9110 §4.2.4)", 502)
    if not url.raw_fragment and fragment:
        url = URL(f"{url}#{fragment}", encoded=True)
    return url, there


def _readable(location: str) -> str:
    """Location as a URL: many servers send UTF-8 or spaces as they are, where only percent-encoded ones are allowed."""
    if not location.isascii():
        location = quote(location.encode("latin-1"), safe="!#$%&'()*+,/:;=?@[]~")
    return location.strip(" ").replace(" ", "%20")
