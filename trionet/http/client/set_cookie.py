"""Set-Cookie fields as RFC 6265bis reads them, where a cookie jar of the standard library reads them otherwise.

The library's rules are those of Netscape and RFC 2965. It drops a cookie for an attribute that should be ignored,
reports a bug of its own where a Max-Age is malformed, and takes ``0.1`` for a domain that ``10.0.0.1`` is in, so that
one machine could set cookies for others. So each field is rewritten before the library sees it, with the attributes
that count.

Some cookies must not be kept although the library would keep them (RFC 6265bis §5.7).
An attacker on the network can answer for ``http://`` in a server's name. So a
response over an insecure connection may neither set a Secure cookie nor replace or end one. The prefixes ``__Secure-``
and ``__Host-`` promise the server that a cookie was set over TLS and, for the latter, by this very host for all of its
paths.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http.cookiejar import Cookie

__all__ = ["may_be_kept", "rewritten"]

_SECURE: Final = "__secure-"
_HOST: Final = "__host-"
_OF_OTHER_RFCS: Final = frozenset({"comment", "commenturl", "discard", "port", "version"})
"""Attributes that only the library knows: for RFC 6265 they are like any that is not known."""
_MAX_AGE: Final = re.compile(r"-?[0-9]+")
_MAX_SECONDS: Final = 400 * 24 * 3600
"""How long a cookie is kept at most by its Max-Age (RFC 6265bis §5.6.2)."""
_SHORT_YEAR: Final = re.compile(r"(?<=[A-Za-z]{3}[- ])([0-9]{2})(?= )")


def rewritten(field: str, host: str) -> str | None:
    """A Set-Cookie field with those of its attributes that count; None if its Domain is not the host's to set.

    Args:
        field: Its value.
        host: Of the request, without brackets.

    Source: RFC 6265bis §5.6, §5.7.
    """
    pair, *rest = field.split(";")
    attributes: dict[str, tuple[str, str]] = {}
    for attribute in rest:
        key, _, text = (part.strip(" \t") for part in attribute.partition("="))
        if key and key.lower() not in _OF_OTHER_RFCS:
            attributes[key.lower()] = key, text  # of several the last one counts
    domain = attributes.get("domain", ("", ""))[1].removeprefix(".").lower()
    if not domain or _stands_alone(host):
        attributes.pop("domain", None)
        if domain not in ("", host):
            return None
    if not attributes.get("path", ("", ""))[1].startswith("/"):
        attributes.pop("path", None)
    _settle_lifetime(attributes)
    return "; ".join([pair, *(f"{key}={text}" if text else key for key, text in attributes.values())])


def _settle_lifetime(attributes: dict[str, tuple[str, str]]) -> None:
    """Max-Age, if it is a number, goes before Expires (RFC 6265bis §5.7)."""
    _, seconds = attributes.pop("max-age", ("", ""))
    if _MAX_AGE.fullmatch(seconds):
        attributes["expires"] = "Max-Age", str(max(0, min(int(seconds), _MAX_SECONDS)))
    elif "expires" in attributes:
        attributes["expires"] = "Expires", _SHORT_YEAR.sub(_long_year, attributes["expires"][1])


def _stands_alone(host: str) -> bool:
    """Whether nothing but this host itself can be its domain: an address, or a name without a dot."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host
    return True


def _long_year(short: re.Match[str]) -> str:
    """RFC 6265 §5.1.1: the library takes 70, with which cookies are ended, for 2070."""
    return f"{'19' if short[0] >= '70' else '20'}{short[0]}"


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
