"""A URL as text, taken apart: scheme, user name and password, host, port, path, query, fragment (RFC 3986, Appendix B).

Nothing is spelled anew by that. What may not stand in a URL is quoted (RFC 3986 §2): spaces, what is not ASCII,
quotation marks, backslashes, angle and curly brackets, ``^``, ``|``, backticks, and a ``%`` with no two hexadecimal
digits behind it. Refused is what two readers could take for different hosts, and what would write a second line into a
request. Errors name the value, and show no user name and no password.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, unquote

from ...support.texts import find_control
from .hosts import ascii_host

__all__ = ["Parts", "for_people", "has_scheme", "kind_of", "without_userinfo"]

_PARTS: Final = re.compile(r"([^:/?#]+):(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(?:#(.*))?", re.DOTALL)
"""Scheme, authority, path, query with its ``?``, fragment."""
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HOST_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
_PORT: Final = re.compile(r"0*([0-9]{1,5})")
_ODD: Final = re.compile(r"[^!#$&-;=?-\[\]_a-z~%]+|%(?![0-9A-Fa-f]{2})")
"""What may not stand in a URL: neither reserved nor unreserved nor percent-encoded."""
_USERINFO: Final = re.compile(r"^([^/?#@]*//)?(?:[^/?#]*@|[^/?#@:\[]*:(?![0-9]*(?:[/?#]|$)).*@)", re.DOTALL)
"""User name and password; also where a password has a ``/``, ``?`` or ``#``, so that the rest looks like a port."""
_CLEAR: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/(?!/)")
"""How a URL begins, or the path of one, where a part of it that looks like a password cannot be one."""
_SHOWN: Final = 20
"""Characters of a port that an error shows."""


class Parts(NamedTuple):
    """The parts of one URL, as they are spelled; methods read them."""

    shown: str
    """The whole of it, as errors show it."""
    scheme: str
    """Lower case."""
    authority: str
    path: str
    query: str
    """With its ``?``; empty if there is none."""
    fragment: str

    @classmethod
    def of(cls, url: str, shown: str = "", schemes: str = "http:// or https://") -> Self:
        """Take `url` apart; `shown` is what errors call it, and `schemes` what they say that it must begin with.

        Raises:
            ValueError: it has control characters, or no scheme.
        """
        shown = shown or f"url {for_people(url)!r}"
        if found := find_control(url):
            raise ValueError(f"{shown} has the control character {found!r}; leave it out, or percent-encode it")
        match = _PARTS.fullmatch(url)
        if match is None or not has_scheme(url):
            raise ValueError(f"{shown} has no scheme; it must begin with {schemes}")
        scheme, authority, path, query, fragment = match.groups(default="")
        return cls(shown, scheme.lower(), authority, path, query, fragment)

    def place(self) -> tuple[str, int | None]:
        """Host (ASCII, lower case, no brackets) and port, None for the scheme's own.

        Raises:
            ValueError: no connection can be made to it.
        """
        if "\\" in self.authority:
            raise ValueError(f"{self.shown} has a backslash in its host, which some readers take for a slash")
        match = _HOST_PORT.fullmatch(self.authority.rpartition("@")[2])
        if match is None:
            raise ValueError(f"{self.shown} has a malformed host: only an IPv6 address stands in brackets")
        host, port = match.groups()
        if port and ":" in port:
            raise ValueError(f"{self.shown} has more than one colon in its host: an IPv6 address needs brackets")
        if not host:
            raise ValueError(f"{self.shown} has no host")
        try:
            return _host(host), _port(port)
        except ValueError as exc:
            raise ValueError(f"{self.shown}: {exc}") from exc

    def userinfo(self) -> tuple[str, str] | None:
        """User name and password, decoded, if the URL has any.

        Raises:
            ValueError: they have control characters.
        """
        userinfo, at, _ = self.authority.rpartition("@")
        if not at:
            return None
        user, _, password = userinfo.partition(":")
        user, password = unquote(user), unquote(password)
        if find_control(f"{user}{password}"):
            raise ValueError(f"{self.shown} has a control character in its user name or password")
        return user, password

    def quoted(self, text: str) -> str:
        """One of the parts, with what may not stand in a URL percent-encoded, as UTF-8, and all else left alone.

        Raises:
            ValueError: it is not text.
        """
        try:
            return _ODD.sub(lambda found: quote(found[0], safe=""), text)
        except UnicodeEncodeError:
            raise ValueError(f"{self.shown} has half a surrogate pair, which is not text; encode its bytes") from None


def _host(host: str) -> str:
    if not host.startswith("["):
        return ascii_host(host)
    if ":" not in host:
        raise ValueError("brackets are for an IPv6 address only")
    return ascii_host(host[1:-1].replace("%25", "%", 1))  # RFC 6874 §2


def _port(text: str | None) -> int | None:
    """None where there is none, or only the colon (RFC 3986 §3.2.3)."""
    if not text:
        return None
    match = _PORT.fullmatch(text)
    port = int(match[1]) if match else -1
    if port == 0:
        raise ValueError("port 0 cannot be connected to; leave it out for the default")
    if not 0 < port <= 65535:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise ValueError(f"port {shown!r} is not a number from 1 to 65535")
    return port


def has_scheme(text: str) -> bool:
    """Whether a URL, or Location, has a scheme: else it is relative to something (RFC 3986 §4.1)."""
    return _SCHEME.match(text) is not None


def without_userinfo(url: str) -> str:
    """A URL as it may be shown to people, malformed or not: without user name and password."""
    shown = _USERINFO.sub(lambda found: found[1] or "", url, count=1)
    if _CLEAR.match(shown):
        return shown
    return shown.rpartition("@")[2]  # where nobody can tell what is what, what is behind the last of them


def for_people(url: object) -> str:
    """A URL in an error: without user name and password, and without query and fragment, which may be a token."""
    return re.split("[?#]", without_userinfo(str(url)), maxsplit=1)[0]


def kind_of(value: Any) -> str:
    """What was given in the place of a URL; of bytes and the like only what they are: they may have a password too."""
    return repr(value) if value is None or isinstance(value, (int, float)) else type(value).__name__
