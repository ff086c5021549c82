"""The HTTP client: what a program opens, and asks for requests.

A client belongs to a scope, and so do its connections: leaving the scope ends them. It puts its parts together and
leaves the work to them: `Planner` knows what requests say, `Connector` where they go, `Pool` on which connection; a
`Sender` carries out one hop after the other, for each `ClientRequest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from ...custody import leaving
from ...ownership import Event
from ...support.checks import check_count, check_flag, refuse_copy
from ...support.texts import amount
from ..protocol.limits import DEFAULT_LIMITS, HTTPLimits
from .connector import ConnectOptions, Connector
from .cookies import Cookies
from .hooks import check_hooks
from .plan import Planner
from .pool import Pool
from .proxies.choice import Proxies
from .redirect import MAX_REDIRECTS
from .request import ClientRequest
from .sender import Sender

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from http.cookiejar import CookieJar

    from yarl import URL

    from ...custody.owner import Owner
    from ...scope.scope import Scope
    from ...transport.socket_options import SocketOption
    from ..protocol.headers import HeaderInput, Headers
    from .proxies.proxy import Proxy
    from .statistics import HTTPClientStatistics

__all__ = ["HTTPClient"]


class HTTPClient:
    """An HTTP/1.1 client with a pool of connections; made by `open_http_client` and `Scope.open_http_client`.

    Any number of tasks may use it. Arguments: as `open_http_client`.

    Attributes:
        cookies: The client's cookies; None if it keeps none.
        follow_redirects: Whether requests follow redirects that do not say it themselves.
        max_redirects: Redirects that one request follows at most.
        allow_downgrade: Whether a redirect may lead from https to http.
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
        self.cookies = None if cookies is False else Cookies(None if cookies is True else cookies)
        self.follow_redirects = check_flag("follow_redirects", follow_redirects)
        self.max_redirects = check_count("max_redirects", max_redirects)
        self.allow_downgrade = check_flag("allow_downgrade", allow_downgrade)
        proxies = Proxies.choose(proxy, trust_env=trust_env)
        options = ConnectOptions(limits, ssl_context, proxies, local_address, socket_options, unix_path)
        planner = Planner(options.proxy_for, self.cookies, base_url=base_url, headers=headers, auth=auth)
        connect = Connector(owner, options).connect
        self._pool = Pool(owner, connect, limits.idle_timeout, max_connections, max_connections_per_origin)
        self._sender = Sender(planner, self._pool, self.cookies, check_hooks(event_hooks or {}))

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
        return self._pool.statistics()

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

        The request holds a slot and a connection until its response has been received to the end; a response without a
        body ends with its head. What is left unread at the end of the block is read and dropped within
        ``limits.drain_bytes`` and ``limits.drain_timeout``. If that is not enough, or if the block is left by an
        exception, the connection is closed. After the end of the response the block has no effect on the connection.

        Args:
            method: A token, as upper case as it is meant.
            url: ``http://`` or ``https://``, or what is appended to the client's `base_url`. It is sent as it is
                spelled; only what may not stand in a URL is percent-encoded, as spaces and é are. User name and
                password in it become Basic authorization.
            headers: Pairs or a mapping. They replace the client's own fields of the same name.
            content: The body: bytes, str, a binary file, an iterable or an async iterable of bytes.
            json: A value to be sent as JSON, instead of `content`.
            params: Appended to the query of `url`: a mapping or pairs, which are quoted, or a str, which is not.
            follow_redirects: Whether to follow redirects; the client's own setting by default.
            auth: User name and password for Basic authorization. Like all credentials, they are for this URL's origin
                alone: a redirect to another origin does not get them.
            expect_continue: Ask the server whether it wants the body: wait up to 1 s for 100 (Continue) with it.
            keep_connection: Keep slot and connection until the block is left, so that `Response.connection` can be
                used, detached or upgraded anywhere in the block. Otherwise it raises `LocalProtocolError` once the
                response has ended. A response that switches protocols (101) always keeps its connection.

        Raises (in the block's beginning):
            OSError: the server could not be reached; nothing was sent.
            UpgradeFailedError, UpgradeRefusedError: TLS or the proxy did not work out; nothing was sent.
            HandleBrokenError: the connection failed.
            RemoteProtocolError: the server broke the protocol, or ended the connection instead of answering.
            ScopeClosedError: the client is closing or closed; nothing was sent.
            HandleClosedError: the client was closed meanwhile.
            TooManyRedirectsError, BodyNotReplayableError: a redirect was not followed.
            LocalProtocolError, ValueError, TypeError: the request cannot be sent, or would go from https to http.
            Whatever the producer of the body or a hook raises.

        Every error is an `HTTPClientError` too, except mistakes of the program (`LocalProtocolError`, `ValueError`,
        `TypeError`) and what its own functions raise. Errors of the network say whether a retry is safe, in words and
        as ``retry_safe``. The client itself makes one retry: of an idempotent request with its body in memory that
        failed before any byte of a response, on a connection that had been used before.

        Cancellation: the connection is closed (`ABORTED`) if anything of the request had been sent.

        Source: RFC 9110 §9.2.2, §15.4; RFC 9112 §9.3.
        """
        redirects = (
            self.follow_redirects if follow_redirects is None else follow_redirects,
            self.max_redirects,
            self.allow_downgrade,
        )
        return ClientRequest(
            self._sender, redirects, method, url, headers, content, json, keep_connection, params, auth, expect_continue
        )

    __reduce_ex__ = refuse_copy

    # --- the end -------------------------------------------------------------------------------------------------

    @enable_ki_protection
    async def aclose(self) -> None:
        """Refuse new requests, wait for those that are running, then close every connection.

        Requests that have not ended within the `drain_timeout` are cut off. New requests, and those that wait for a
        slot or a connection, raise `ScopeClosedError`.

        Cancellation: the connections are closed at once.
        """
        self._pool.shut()
        await leaving.let_go(self._owner)

    @enable_ki_protection
    def abort(self) -> None:
        """Close every connection now, and refuse new requests. Those that are running get an error. A step."""
        self._owner.check_run("abort")
        self._pool.shut()
        leaving.abort_all(self._owner, Event.SCOPE_CANCELLED)
