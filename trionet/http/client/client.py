"""The HTTP client: where a request goes, what it says, and on which connection.

A client belongs to a scope, and so do its connections: leaving the scope ends them. What one request does on its way,
with redirects and the one retry that is safe, is in `client_request`; here is what a client knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from trio.lowlevel import enable_ki_protection

from ...errors import LocalProtocolError
from ...ownership import Event
from ...support.checks import check_count, check_flag, refuse_copy
from ...support.texts import amount
from ..coding import accept_encoding
from ..protocol.headers import Headers
from ..protocol.limits import DEFAULT_LIMITS, HTTPLimits
from ..protocol.prepared import CREDENTIALS, PreparedRequest, content_fields, with_defaults
from ..url.query import check_base, extend_query, merge
from ..url.url import as_text, parse_url
from .auth import basic, basic_of
from .connector import Connector
from .cookies import Cookies
from .pool import HTTPClientStatistics, Pool
from .proxy import Proxies, Proxy
from .redirect import MAX_REDIRECTS
from .request import ClientRequest, Plan

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Iterable, Sequence
    from http.cookiejar import CookieJar

    from yarl import URL

    from ...custody.owner import Owner
    from ...scope.scope import Scope
    from ...transport.socket_options import SocketOption
    from ..content import Content
    from ..protocol.headers import HeaderInput
    from ..protocol.prepared import Field
    from ..url.url import Target
    from .response import Response

__all__ = ["HTTPClient", "HTTPRequest"]

_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
MAX_PLANS: Final = 1024
"""Requests whose heads a client keeps, to send them again as they are."""


class HTTPRequest:
    """What a hook of the event ``request`` is given; what it changes is what is sent.

    Attributes:
        method: The method.
        url: Without user name and password.
        headers: The fields that were given for it, by the client and for this request; assign new ones to change them.
    """

    __slots__ = ("headers", "method", "url")

    def __init__(self, method: str, url: URL, headers: Headers) -> None:
        self.method = method
        self.url = url
        self.headers = headers

    def __repr__(self) -> str:
        return f"<HTTPRequest {self.method} {self.url}>"


class _Hooks(NamedTuple):
    request: tuple[Callable[[HTTPRequest], Any], ...]
    response: tuple[Callable[[Response], Any], ...]


class HTTPClient:
    """An HTTP/1.1 client with a pool of connections; made by `open_http_client` and `Scope.open_http_client`.

    Any number of tasks may use it. Arguments: as `open_http_client`.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        base_url: str | URL | None = None,
        headers: HeaderInput | Headers = (),
        max_connections: int = 100,
        max_connections_per_origin: int = 16,
        limits: HTTPLimits = DEFAULT_LIMITS,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | URL | Proxy | None = None,
        trust_env: bool = True,
        cookies: bool | CookieJar = False,
        auth: tuple[str, str] | None = None,
        event_hooks: Mapping[str, Iterable[Callable[..., Any]]] | None = None,
        follow_redirects: bool = True,
        max_redirects: int = MAX_REDIRECTS,
        allow_downgrade: bool = False,
        local_address: str | None = None,
        socket_options: Sequence[SocketOption] = (),
        unix_path: str | bytes | os.PathLike[str] | None = None,
    ) -> None:
        self._owner = owner
        self._base = None if base_url is None else check_base(base_url)
        self._headers = Headers(headers)
        self._authorization = None if auth is None else basic_of(auth)
        self.cookies = None if cookies is False else Cookies(None if cookies is True else cookies)
        """The client's cookies; None if it keeps none."""
        self.hooks = _check_hooks(event_hooks or {})
        """The event hooks."""
        self.follow_redirects = check_flag("follow_redirects", follow_redirects)
        """Whether requests follow redirects that do not say it themselves."""
        self.max_redirects = check_count("max_redirects", max_redirects)
        """Redirects that one request follows at most."""
        self.allow_downgrade = check_flag("allow_downgrade", allow_downgrade)
        """Whether a redirect may lead from https to http."""
        self._accept_encoding = accept_encoding()
        self._plans: dict[tuple[str, str | URL, str | None], Plan] = {}
        self._connector = Connector(
            owner,
            limits=limits,
            ssl_context=ssl_context,
            proxies=Proxies.choose(proxy, trust_env=trust_env),
            local_address=local_address,
            socket_options=socket_options,
            unix_path=unix_path,
        )
        self.pool = Pool(
            owner,
            self._connector.connect,
            limits=limits,
            max_connections=max_connections,
            max_connections_per_origin=max_connections_per_origin,
        )
        """The client's connections."""

    def __repr__(self) -> str:
        figures = self.statistics()
        state = "closed" if self._owner.closed else "closing" if self._owner.shut else "open"
        return f"<HTTPClient {state}: {amount(figures.open, 'connection')}, {amount(figures.running, 'request')}>"

    @property
    def scope(self) -> Scope:
        """The client's own scope, which owns its connections."""
        scope: Scope = self._owner.public
        return scope

    def statistics(self) -> HTTPClientStatistics:
        """Figures for now. Never raises."""
        return self.pool.statistics()

    # --- requests ------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: str | URL,
        *,
        headers: HeaderInput | Headers = (),
        content: Any = None,
        json: Any = None,
        params: Any = None,
        follow_redirects: bool | None = None,
        auth: tuple[str, str] | None = None,
        expect_continue: bool = False,
        keep_connection: bool = False,
    ) -> ClientRequest:
        """Send a request and receive the head of its response: ``async with client.request(...) as response``.

        The request has its slot and its connection until the response has been received to its end; a response without
        a body has ended with its head. What is unread when the block is left is read and dropped within
        ``limits.drain_bytes`` and ``limits.drain_timeout``; otherwise, or if the block is left by an exception, the
        connection is closed. What happens in the block behind the end of the response is no concern of the connection.

        Args:
            method: A token, as upper case as it is meant.
            url: ``http://`` or ``https://``, or what is appended to the client's `base_url`. It is sent as it is
                spelled; only what may not stand in a URL is percent-encoded, as spaces and é are. User name and
                password in it become Basic authorization.
            headers: Pairs or a mapping, in the place of the client's own fields of the same name.
            content: The body: bytes, str, a binary file, an iterable or an async iterable of bytes.
            json: The body as a value to be written as JSON; instead of `content`.
            params: Put behind the query of `url`: a mapping or pairs, which are quoted, or a str, which is not.
            follow_redirects: Whether to follow redirects; the client's own setting by default.
            auth: User name and password for Basic authorization; for this URL's origin alone, as all credentials are.
            expect_continue: Ask the server whether it wants the body: wait up to 1 s for 100 (Continue) with it.
            keep_connection: Keep slot and connection until the block is left, so that `Response.connection` can be
                used, detached, upgraded, in all of it. Else that raises `LocalProtocolError` once the response has
                ended; where the response switches protocols (101), it is kept in any case.

        Raises (in the block's beginning):
            OSError: the server could not be reached; nothing was sent.
            UpgradeFailedError, UpgradeRefusedError: TLS or the proxy did not work out; nothing was sent.
            HandleBrokenError: the connection failed.
            RemoteProtocolError: the server broke the protocol, or ended the connection instead of answering.
            ScopeClosedError: the client is closing or closed; nothing was sent.
            HandleClosedError: the client was closed meanwhile.
            TooManyRedirectsError, BodyNotReplayableError: a redirect was not followed.
            LocalProtocolError, ValueError, TypeError: the request cannot be sent, or would go from https to http.
            Whatever the producer of the body, or a hook, raises.

        What a request fails with is an `HTTPClientError` besides, unless it is a mistake of the program (the last line
        of errors) or somebody else's exception. Errors of the network say whether a retry is safe, in words and as
        ``retry_safe``. One retry is made here: of an idempotent request with its body in memory, that failed before any
        byte of a response on a connection that had been used before.

        Cancellation: the connection is closed (`ABORTED`) if anything of the request had been sent.

        Source: RFC 9110 §9.2.2, §15.4; RFC 9112 §9.3.
        """
        return ClientRequest(
            self, method, url, keep_connection, headers, content, json, params, follow_redirects, auth, expect_continue
        )

    def usual_plan(self, method: str, url: str | URL, content: Content) -> Plan:
        """The plan of a request that says nothing of its own: it is made once."""
        key = (method, url, content.content_type)
        plan = self._plans.get(key)
        if plan is None:
            plan = self.first_plan(method, url, (), content)
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def first_plan(
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
        """How a request begins, as it was asked for.

        Raises:
            LocalProtocolError, ValueError, TypeError: it cannot be sent.
        """
        target = parse_url(self._absolute(url, params))
        stored = self._headers.raw
        authorization = self._authorization if target.userinfo is None else basic(*target.userinfo)
        if method == "TRACE":  # RFC 9110 §9.3.8
            stored = tuple(field for field in stored if field[0].lower() not in CREDENTIALS)
            authorization = None
        if auth is not None:
            authorization = basic_of(auth)
        fields = with_defaults(headers, stored)
        extra = content_fields(content, expect_continue)
        if authorization is not None:
            extra.append(("Authorization", authorization))
        given = Headers(with_defaults(fields, extra) if extra else fields)
        return self.plan(method, target, given)

    def plan(self, method: str, target: Target, headers: Headers) -> Plan:
        """How a request, or what a redirect made of it, is sent.

        Raises:
            LocalProtocolError, ValueError, TypeError: it cannot be sent.
        """
        if method == "CONNECT":
            raise LocalProtocolError("CONNECT is for a connection of its own: use to_http_client() or to_http_tunnel()")
        names = {name.lower() for name, _ in headers.raw}
        defaults = [("Host", target.authority), ("User-Agent", "trionet"), ("Accept", "*/*")]
        defaults.append(("Accept-Encoding", self._accept_encoding))
        fields: list[Field] = [field for field in defaults if field[0].lower().encode() not in names]
        fields += headers.raw
        if self.cookies is not None and method != "TRACE" and b"cookie" not in names:
            cookie = self.cookies.cookie_header(target.url)
            fields += [("Cookie", cookie)] if cookie else []
        line = target.target
        proxy = self._connector.proxy_for(target.origin)
        if proxy is not None and target.origin.scheme == "http" and proxy.scheme in ("http", "https"):
            line = f"http://{target.authority}{target.target}"  # RFC 9112 §3.2.2
            if proxy.authorization is not None and b"proxy-authorization" not in names:
                fields.append(("Proxy-Authorization", proxy.authorization))
        return Plan(target, headers, PreparedRequest(method, line, fields))

    def _absolute(self, url: str | URL, params: Any) -> str:
        text = as_text(url)
        if self._base is not None and not _ABSOLUTE.match(text):
            text = merge(self._base, text)
        return text if params is None else extend_query(text, params)

    __reduce_ex__ = refuse_copy

    # --- the end -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def aclose(self) -> None:
        """Refuse new requests, wait for those that are running, then close every connection.

        What has not ended within the `drain_timeout` is cut off. Afterwards requests raise `ScopeClosedError`, and so
        do those that were waiting for a slot or a connection.

        Cancellation: the connections are closed at once.
        """
        self.pool.shut()
        await self._owner.let_go()

    @enable_ki_protection
    def abort(self) -> None:
        """Close every connection now, and refuse new requests. Those that are running get an error. A step."""
        self._owner.check_run("abort")
        self.pool.shut()
        self._owner.abort_all(Event.SCOPE_CANCELLED)


def _check_hooks(hooks: Any) -> _Hooks:
    if not isinstance(hooks, Mapping):
        raise TypeError(f"event_hooks must be a mapping like {{'request': [function]}}, not {hooks!r}")
    for name, functions in hooks.items():
        if callable(functions):
            raise TypeError(f"event_hooks must have lists; for {name!r} write [{functions!r}]")
    unknown = set(hooks) - set(_Hooks._fields)
    if unknown:
        raise ValueError(f"event_hooks has {sorted(unknown)}; there are 'request' and 'response'")
    found = _Hooks(tuple(hooks.get("request", ())), tuple(hooks.get("response", ())))
    for hook in (*found.request, *found.response):
        if not callable(hook):
            raise TypeError(f"an event hook must be a function, async or not, and not {hook!r}")
    return found
