"""Set-Cookie fields that are not to be kept although a cookie jar would keep them (RFC 6265bis §5.7).

An attacker on the network can answer for ``http://`` in a server's name. So what comes over an insecure connection may
neither set a Secure cookie nor stand in for one or end it; and the prefixes ``__Secure-`` and ``__Host-`` promise
whoever reads a cookie that it was set over TLS and, for the latter, by this very host for all of its paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http.cookiejar import Cookie

__all__ = ["may_be_kept"]

_SECURE: Final = "__secure-"
_HOST: Final = "__host-"


def may_be_kept(field: str, kept: Iterable[Cookie], *, secure: bool, host: str, path: str) -> bool:
    """Whether a jar may look at this Set-Cookie field.

    Args:
        field: Its value.
        kept: The cookies that there are.
        secure: Whether it came over TLS.
        host: Of the request, as the jar writes it.
        path: Of the request.
    """
    name, attributes = _parse(field)
    marked = "secure" in attributes
    prefix = name.lower()
    if not (marked and secure) and prefix.startswith((_SECURE, _HOST)):
        return False
    if prefix.startswith(_HOST) and (attributes.get("domain") or attributes.get("path") != "/"):
        return False
    if secure:
        return True
    domain = (attributes.get("domain") or host).lstrip(".").lower()
    scope = attributes.get("path", "")
    scope = scope if scope.startswith("/") else path.rpartition("/")[0] or "/"
    return not marked and not any(_covered(cookie, name, domain, scope) for cookie in kept if cookie.secure)


def _parse(field: str) -> tuple[str, dict[str, str]]:
    """The name and the attributes (RFC 6265bis §5.6); the last of several of one name counts.

    A cookie without a name is sent as its value alone, so that counts as its name: it could look like a prefix.
    """
    pair, *rest = field.split(";")
    name, equals, value = pair.partition("=")
    attributes = {}
    for attribute in rest:
        key, _, text = attribute.partition("=")
        attributes[key.strip(" \t").lower()] = text.strip(" \t")
    named = name if equals and name.strip(" \t") else value or name
    return named.strip(" \t"), attributes


def _covered(cookie: Cookie, name: str, domain: str, path: str) -> bool:
    """Whether a new cookie could be taken for this one, or end it: the same name, where both would be sent."""
    theirs = cookie.domain.lstrip(".").lower()
    near = domain == theirs or domain.endswith(f".{theirs}") or theirs.endswith(f".{domain}")
    below = path == cookie.path or path.startswith(cookie.path.rstrip("/") + "/")
    return cookie.name == name and near and below
