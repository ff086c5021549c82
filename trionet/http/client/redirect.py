"""What a redirect asks a client to send next, without I/O (RFC 9110 §15.4).

A redirect is input from the server, so everything in it is checked: where it leads, over which scheme, and which parts
of the request another origin may see. `following` carries out what is decided here.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote

from ...errors import LocalProtocolError, RemoteProtocolError
from ..protocol.headers import Headers, checked_headers
from ..url.parts import for_people, has_scheme
from ..url.url import Target, parse_url

__all__ = ["MAX_REDIRECTS", "Next", "next_request"]

MAX_REDIRECTS: Final = 20

_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_OF_ORIGIN: Final = frozenset({b"authorization", b"cookie", b"host", b"proxy-authorization"})
_OF_BODY: Final = frozenset({b"digest", b"expect", b"last-modified", b"repr-digest", b"trailer", b"transfer-encoding"})


class Next(NamedTuple):
    """The request that a redirect asks for."""

    method: str
    target: Target
    """With a fragment, the request's own where the redirect has none (RFC 9110 §10.2.2)."""
    headers: Headers
    drops_body: bool
    """Whether it has no body; otherwise it has the body of the request before."""


def next_request(
    status: int, location: str | None, method: str, here: Target, headers: Headers, *, allow_downgrade: bool
) -> Next | None:
    """What to send next, or None if the response is not a redirect that can be followed.

    Args:
        status: Of the response.
        location: Its Location field.
        method: Of the request.
        here: What the request asked for.
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
    there = _resolve(status, location, here)
    if here.origin.scheme == "https" and there.origin.scheme == "http" and not allow_downgrade:
        raise LocalProtocolError(
            f"redirect ({status}) from {for_people(here.url)} to {for_people(there.url)} refused: it leads from https "
            f"to http; allow_downgrade=True follows it"
        )
    new_method = _method(status, method)
    drops_body = status == 303 or new_method != method
    fields = headers.raw
    if there.origin != here.origin:
        fields = tuple(field for field in fields if field[0].lower() not in _OF_ORIGIN)
    if drops_body:
        fields = tuple(field for field in fields if not _describes_body(field[0].lower()))
    return Next(new_method, there, checked_headers(fields), drops_body)


def _method(status: int, method: str) -> str:
    """Contract: 301 and 302 on POST, and 303 on everything, become GET; HEAD stays HEAD (RFC 9110 §15.4)."""
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        return "GET"
    return method


def _describes_body(name: bytes) -> bool:
    return name.startswith(b"content-") or name in _OF_BODY


def _resolve(status: int, location: str, here: Target) -> Target:
    """Where Location leads, with the fragment that belongs to it."""
    what = f"redirect ({status}) from {for_people(here.url)} to {for_people(location)!r} cannot be followed"
    if _CONTROL.search(location):
        raise RemoteProtocolError(f"{what}: it has a control character", 502)
    try:
        there = parse_url(_absolute(here, _readable(location)))
    except ValueError as exc:
        raise RemoteProtocolError(f"{what}: {exc}", 502) from exc
    if there.userinfo is not None:
        raise RemoteProtocolError(f"{what}: it has a user name or password (RFC 9110 §4.2.4)", 502)
    return there


def _readable(location: str) -> str:
    """Location as text: many servers send UTF-8 unquoted. Other bytes are quoted as they are."""
    location = location.strip(" ")
    if location.isascii():
        return location
    try:
        return location.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return _NOT_ASCII.sub(lambda found: quote(found[0].encode("latin-1")), location)


def _absolute(here: Target, location: str) -> str:
    """Location, completed from the request's URL (RFC 3986 §5.2); its own parts stay as they are spelled."""
    reference, mark, fragment = location.partition("#")
    if not mark and here.url.raw_fragment:
        mark, fragment = "#", here.url.raw_fragment
    return f"{_without_fragment(here, reference)}{mark}{fragment}"


def _without_fragment(here: Target, reference: str) -> str:
    if has_scheme(reference):
        return reference
    if reference.startswith("//"):
        return f"{here.origin.scheme}:{reference}"
    place = f"{here.origin.scheme}://{here.url.raw_authority}"
    path = here.target.partition("?")[0]
    if not reference:
        return f"{place}{here.target}"
    if reference.startswith("?"):
        return f"{place}{path}{reference}"
    if reference.startswith("/"):
        return f"{place}{reference}"
    below, mark, query = reference.partition("?")
    return f"{place}{_without_dots(path[: path.rindex('/') + 1] + below)}{mark}{query}"


def _without_dots(path: str) -> str:
    """An absolute path without ``.`` and ``..`` (RFC 3986 §5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
