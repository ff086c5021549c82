"""How a request is to be sent: where to, and what its head says.

A client knows much of what its requests say: a base URL, fields, credentials, cookies, which proxy wants the whole URL
in the request line. A `Plan` is the result for one request, with its head ready to go out. A request that says nothing
of its own is planned once and then sent again as it is, which saves most of the work of a small request.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import LocalProtocolError
from ..coding import accept_encoding
from ..content import content_fields
from ..protocol.headers import Headers, with_defaults
from ..protocol.prepared_request import CREDENTIALS, PreparedRequest
from ..url.query import check_base, extend_query, merge
from ..url.url import as_text, parse_url
from .auth import basic, basic_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from yarl import URL

    from ..content import Content
    from ..protocol.headers import Field, HeaderInput
    from ..url.url import Origin, Target
    from .cookies import Cookies
    from .proxies.proxy import Proxy

__all__ = ["MAX_KEPT", "Plan", "Planner"]

MAX_KEPT: Final = 1024
"""Requests that a client keeps the plans of, to send them again as they are."""

_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Plan(NamedTuple):
    """How a request, or what a redirect made of it, is sent."""

    target: Target
    headers: Headers
    """What was given for it: a redirect goes on with these."""
    prepared: PreparedRequest


class Planner:
    """Plans the requests of one client.

    Args:
        proxy_for: Tells the proxy on the way to an origin, if any.
        cookies: The client's, if it keeps any.
        base_url: What is put in front of URLs without a scheme.
        headers: Fields of every request that has none of the same name.
        auth: User name and password for all requests that have none of their own.

    Raises:
        ValueError, TypeError: an argument cannot be right.
    """

    def __init__(
        self,
        proxy_for: Callable[[Origin], Proxy | None],
        cookies: Cookies | None,
        *,
        base_url: str | URL | None,
        headers: HeaderInput | Headers,
        auth: tuple[str, str] | None,
    ) -> None:
        self._proxy_for = proxy_for
        self._cookies = cookies
        self._base = None if base_url is None else check_base(base_url)
        self._headers = Headers(headers)
        self._authorization = None if auth is None else basic_of(auth)
        self._accept_encoding = accept_encoding()
        self._kept: dict[tuple[str, str | URL, str | None], Plan] = {}

    def plan(self, method: str, url: str | URL, content: Content) -> Plan:
        """The plan of a request that says nothing of its own: it is made once, where cookies do not change it.

        Raises:
            LocalProtocolError, ValueError, TypeError: it cannot be sent.
        """
        if self._cookies is not None:
            return self.plan_with(method, url, (), content)
        key = (method, url, content.content_type)
        plan = self._kept.get(key)
        if plan is None:
            plan = self.plan_with(method, url, (), content)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = plan
        return plan

    def plan_with(
        self,
        method: str,
        url: str | URL,
        headers: HeaderInput | Headers,
        content: Content,
        *,
        params: Any = None,
        auth: tuple[str, str] | None = None,
        expect_continue: bool = False,
    ) -> Plan:
        """The plan of a request, with what it says of its own.

        Raises:
            LocalProtocolError, ValueError, TypeError: it cannot be sent.
        """
        target = parse_url(self._absolute(url, params))
        stored = self._headers.raw
        authorization = self._authorization if target.userinfo is None else basic(*target.userinfo)
        if method == "TRACE":  # it comes back in the body of the response (RFC 9110 §9.3.8)
            stored = tuple(field for field in stored if field[0].lower() not in CREDENTIALS)
            authorization = None
        if auth is not None:
            authorization = basic_of(auth)
        fields = with_defaults(headers, stored)
        extra = content_fields(content, expect_continue)
        if authorization is not None:
            extra.append(("Authorization", authorization))
        given = Headers(with_defaults(fields, extra) if extra else fields)
        return self.plan_for(method, target, given)

    def plan_for(self, method: str, target: Target, headers: Headers) -> Plan:
        """The plan of a request whose fields are complete, but for what depends on where it goes.

        Raises:
            LocalProtocolError, ValueError, TypeError: it cannot be sent.
        """
        if method == "CONNECT":
            raise LocalProtocolError("CONNECT is for a connection of its own: use to_http_client() or to_http_tunnel()")
        names = {name.lower() for name, _ in headers.raw}
        defaults = [
            ("Host", target.authority),
            ("User-Agent", "trionet"),
            ("Accept", "*/*"),
            ("Accept-Encoding", self._accept_encoding),
        ]
        fields: list[Field] = [field for field in defaults if field[0].lower().encode() not in names]
        fields += headers.raw
        if self._cookies is not None and method != "TRACE" and b"cookie" not in names:
            cookie = self._cookies.cookie_header(target.url)
            fields += [("Cookie", cookie)] if cookie else []
        line, for_proxy = self._through_proxy(target)
        fields += [field for field in for_proxy if field[0].lower().encode() not in names]
        return Plan(target, headers, PreparedRequest(method, line, fields))

    def _through_proxy(self, target: Target) -> tuple[str, list[tuple[str, str]]]:
        """What stands in the request line, and the fields that are for an HTTP proxy in front of http://."""
        proxy = self._proxy_for(target.origin)
        if proxy is None or target.origin.scheme != "http" or proxy.scheme not in ("http", "https"):
            return target.target, []
        credentials = [] if proxy.authorization is None else [("Proxy-Authorization", proxy.authorization)]
        return f"http://{target.authority}{target.target}", credentials  # RFC 9112 §3.2.2

    def _absolute(self, url: str | URL, params: Any) -> str:
        text = as_text(url)
        if self._base is not None and not _ABSOLUTE.match(text):
            text = merge(self._base, text)
        return text if params is None else extend_query(text, params)
