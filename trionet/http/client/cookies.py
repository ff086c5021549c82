"""Cookies: what servers have set, and which of it a request gets (RFC 6265).

The rules for domain, path, Secure and expiry are those of the standard library's cookie jar; where they differ from
RFC 6265bis, `set_cookie` corrects that. The jar works on requests and responses of urllib, so this module imitates as
much of them as it looks at. It has no list of public suffixes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from .set_cookie import may_be_kept, rewritten

if TYPE_CHECKING:
    from http.cookiejar import Cookie, CookieJar

    from yarl import URL

    from ..protocol.headers import Headers

__all__ = ["MAX_COOKIES", "MAX_COOKIE_SIZE", "MAX_PER_DOMAIN", "Cookies"]

MAX_COOKIES: Final = 3000
MAX_PER_DOMAIN: Final = 50
MAX_COOKIE_SIZE: Final = 4096
"""Bytes of a Set-Cookie field that is looked at (RFC 6265 §6.1, as are the two above)."""


class Cookies:
    """A bounded cookie jar for yarl URLs and `Headers`: if servers set too many cookies, the oldest are dropped.

    Args:
        jar: Where to keep them; by default a new one.
    """

    def __init__(self, jar: CookieJar | None = None) -> None:
        from http import cookiejar  # it costs 20 ms, and most clients keep no cookies

        if jar is None:
            # A cookie without Domain is for its host alone (RFC 6265 §5.4), for the library by this switch only.
            strict = cookiejar.DefaultCookiePolicy.DomainStrictNonDomain
            jar = cookiejar.CookieJar(cookiejar.DefaultCookiePolicy(strict_ns_domain=strict))
        if not isinstance(jar, cookiejar.CookieJar):
            raise TypeError(f"cookies must be True, False or an http.cookiejar.CookieJar, not {jar!r}")
        self._jar = jar

    @property
    def jar(self) -> CookieJar:
        """The jar, to look into, to load and to save."""
        return self._jar

    def cookie_header(self, url: URL) -> str | None:
        """The value of Cookie for a request of this URL; None if it gets no cookie."""
        request = _JarRequest(url)
        self._jar.add_cookie_header(cast("Any", request))
        return request.cookie

    def store(self, url: URL, headers: Headers) -> None:
        """Keep what the response to a request of this URL sets."""
        fields = [value for value in headers.get_list("Set-Cookie") if len(value) <= MAX_COOKIE_SIZE]
        if not fields:
            return
        request = _JarRequest(url)
        for given in fields:  # one after the other: each may depend on what the one before has set
            field = rewritten(given, request.origin_req_host)
            if field is not None and self._may_keep(field, request):
                self._jar.extract_cookies(cast("Any", _JarResponse([field])), cast("Any", request))
        self._forget_surplus()

    def _may_keep(self, field: str, request: _JarRequest) -> bool:
        host = request.origin_req_host
        host = host if "." in host else f"{host}.local"  # as the library writes a host without a domain
        path = urlsplit(request.get_full_url()).path
        return may_be_kept(field, self._jar, secure=request.type == "https", host=host, path=path)

    def _forget_surplus(self) -> None:
        """Keep within the bounds, the oldest cookies first to go (RFC 6265 §5.3)."""
        cookies: list[Cookie] = list(self._jar)
        domains = Counter(cookie.domain for cookie in cookies)
        surplus = len(cookies) - MAX_COOKIES
        for cookie in cookies:
            if domains[cookie.domain] > MAX_PER_DOMAIN or surplus > 0:
                self._jar.clear(cookie.domain, cookie.path, cookie.name)
                domains[cookie.domain] -= 1
                surplus -= 1


class _JarRequest:
    """What the jar asks a request about."""

    unverifiable = False

    def __init__(self, url: URL) -> None:
        self._url = str(url.with_user(None).with_fragment(None))
        parts = urlsplit(self._url)
        self.host = parts.netloc
        self.origin_req_host = parts.hostname or ""
        self.type = parts.scheme
        self.cookie: str | None = None

    def get_full_url(self) -> str:
        return self._url

    def has_header(self, name: str) -> bool:
        return False

    def add_unredirected_header(self, name: str, value: str) -> None:
        if name == "Cookie":
            self.cookie = value


class _JarResponse:
    """What the jar asks a response about."""

    def __init__(self, fields: list[str]) -> None:
        self._fields = fields

    def info(self) -> _JarResponse:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self._fields if name.lower() == "set-cookie" else default
