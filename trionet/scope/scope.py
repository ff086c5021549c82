"""The public scope: a nursery, the connections that it owns, and one deadline to let go of them.

A façade: who owns what is decided in `custody`, and the order in which a scope is left is kept in `holding`. This is
what a program sees of both, and the ways of opening connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from trio.lowlevel import enable_ki_protection

from ..connection import Connection
from ..custody import leaving
from ..custody.owner import Owner
from ..handle.detached import Detached
from ..support.block import block
from ..support.checks import refuse_copy
from ..support.texts import amount
from ..transport import connecting
from ..transport.addresses import check_host, shown_host
from ..transport.socket import SocketTransport
from ..transport.socket_options import check_socket_options, set_socket_options
from .adopt import into_capsule
from .holding import hold_http_client, hold_websocket, owned_nursery

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import trio
    from yarl import URL

    from ..custody.drain_report import DrainReport
    from ..handle import Handle
    from ..http.client.client import HTTPClient
    from ..http.client.options import ClientOptions
    from ..http.client.proxies.proxy import Proxy
    from ..transport.socket_options import SocketOption
    from ..websocket import WebSocket
    from ..websocket.handshake.opening import WebSocketOptions

__all__ = ["Scope"]

AnyHandle = TypeVar("AnyHandle", bound="Handle")


class Scope:
    """A nursery plus the handles it owns plus one drain deadline. Made by `open_scope`.

    Attributes:
        name: What errors and reports call the scope.
    """

    __slots__ = ("__weakref__", "_owner", "name")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.name = owner.name
        owner.show_as(self)

    __reduce_ex__ = refuse_copy

    def __repr__(self) -> str:
        state = "closed" if self._owner.closed else "closing" if self._owner.shut else "open"
        return f"<Scope {self.name or '(unnamed)'}: {state}, {amount(len(self._owner.members), 'handle')}>"

    @property
    def parent(self) -> Scope | None:
        """The scope in which this one was opened with `Scope.open_scope`; None for one that stands alone."""
        above = self._owner.parent
        scope: Scope | None = None if above is None else above.public
        return scope

    @property
    def nursery(self) -> trio.Nursery:
        """The nursery of the scope's tasks.

        Raises:
            RuntimeError: the scope is that of `open_tcp` or `open_unix`, which have no tasks of the user.
        """
        nursery = self._owner.nursery
        if nursery is None:
            raise RuntimeError(
                f"{self!r} has no nursery, because it holds a single connection; use trionet.open_scope()"
            )
        return nursery

    @property
    def draining(self) -> trio.Event:
        """Set when the scope begins to let go of its handles, or its server begins to drain."""
        return self._owner.draining

    @property
    def handles(self) -> tuple[Handle | Detached, ...]:
        """What the scope owns (handles, and capsules nobody adopted yet), in the order of opening."""
        return cast("tuple[Handle | Detached, ...]", self._owner.members)

    @property
    def report(self) -> DrainReport:
        """What leaving the scope came to. Empty until then."""
        return self._owner.report

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None) -> None:
        """Start a task in the scope's nursery; see `trio.Nursery.start_soon`."""
        self.nursery.start_soon(async_fn, *args, name=name)

    async def start(self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None) -> Any:
        """Start a task in the scope's nursery and wait until it reports; see `trio.Nursery.start`.

        Cancellation: the task that was being started is cancelled too.
        """
        return await self.nursery.start(async_fn, *args, name=name)

    def cancel(self) -> None:
        """Cancel the scope: its tasks unwind, then its handles are closed at once (`SCOPE_CANCELLED`). A step."""
        self._owner.check_run("Scope.cancel")
        nursery = self._owner.nursery
        if nursery is not None:
            nursery.cancel_scope.cancel()
        if nursery is None or self._owner.shut:
            leaving.abort_all(self._owner)

    @block
    @enable_ki_protection
    async def open_scope(self, *, name: str | None = None, drain_timeout: float | None = None) -> AsyncIterator[Scope]:
        """Open a scope inside this one; see `trionet.open_scope`.

        Args:
            name: What errors and reports call it.
            drain_timeout: Seconds; this scope's own by default.

        Raises:
            ScopeClosedError: this scope is closing or closed.
        """
        self._owner.check_open("open_scope")
        owner = self._child_owner(name or "", drain_timeout)
        async with owned_nursery(owner):
            yield Scope(owner)

    def _child_owner(self, name: str, drain_timeout: float | None) -> Owner:
        """The owner of a scope inside this one, with this one's time to drain where none is given."""
        seconds = self._owner.drain_timeout if drain_timeout is None else drain_timeout
        return Owner(name, parent=self._owner, drain_timeout=seconds, services=self._owner.services)

    @enable_ki_protection
    async def connect_tcp(
        self,
        host: str | bytes,
        port: int,
        *,
        happy_eyeballs_delay: float | None = 0.25,
        local_address: str | None = None,
        proxy: str | URL | Proxy | None = None,
        socket_options: Sequence[SocketOption] = (),
    ) -> Connection:
        """Connect to a TCP server, trying its addresses in parallel where the first ones are slow (RFC 8305).

        Args:
            host: Host name or IP address.
            port: 1 to 65,535.
            happy_eyeballs_delay: Seconds before the next address is tried beside the earlier ones.
            local_address: The IP address to connect from.
            proxy: Whom to ask to connect on: the URL of an HTTP proxy (``http://``, ``https://``), which is asked for a
                tunnel (CONNECT), or of a SOCKS5 one, which looks names up itself (``socks5h://``) or gets addresses
                (``socks5://``); with user name and password where it wants them. The environment is not looked at. For
                a proxy whose certificate needs a context of its own, and for a way through several: `to_http_tunnel`.
            socket_options: Arguments of `socket.setsockopt`, (level, option, value), for the connected socket.

        Returns:
            A `Connection` that this scope owns. Its addresses are those of the way to the proxy, if there is one.

        Raises:
            ValueError, TypeError: an argument cannot be right; nothing was looked up.
            OSError: no address could be reached, or the name is unknown; the message names host and port, or the proxy.
                Nothing was sent; it says so if a retry can go better.
            UpgradeFailedError, UpgradeRefusedError: the proxy does not lead on to the host.
            ScopeClosedError: this scope is closing or closed, or was closed meanwhile.

        Cancellation: nothing stays open.
        """
        self._owner.check_open("connect_tcp")
        options = check_socket_options(socket_options)
        if proxy is not None:
            return await self._connect_through(proxy, host, port, happy_eyeballs_delay, local_address, options=options)
        sock = await connecting.tcp_socket(host, port, happy_eyeballs_delay, local_address)
        return self._own_socket(sock, "connect_tcp", options)

    @enable_ki_protection
    async def _connect_through(
        self,
        proxy: str | URL | Proxy,
        host: str | bytes,
        port: int,
        happy_eyeballs_delay: float | None,
        local_address: str | None,
        *,
        options: Sequence[SocketOption],
    ) -> Connection:
        from ..http.client.proxies.proxy import Proxy
        from ..http.client.proxies.way import called, go_through, way_through  # it costs more than the rest together

        name = shown_host(check_host(host))
        through = proxy if isinstance(proxy, Proxy) else Proxy.parse(proxy)
        way = way_through(through, name, port)
        sock = await connecting.tcp_socket(
            through.host, through.port, happy_eyeballs_delay, local_address, called(through)
        )
        return await go_through(through, self._own_socket(sock, "connect_tcp", options), way, Connection.upgrade)

    @enable_ki_protection
    async def connect_unix(
        self, path: str | bytes | os.PathLike[str], *, socket_options: Sequence[SocketOption] = ()
    ) -> Connection:
        """Connect to a Unix socket.

        Args:
            path: Where the server's socket file is; a name that begins with NUL is an abstract address.
            socket_options: As for `connect_tcp`.

        Returns:
            A `Connection` that this scope owns.

        Raises:
            OSError: nobody listens there; the message names the path. Nothing was sent, so a retry is safe.
            ScopeClosedError: this scope is closing or closed, or was closed meanwhile.

        Cancellation: nothing stays open.
        """
        self._owner.check_open("connect_unix")
        options = check_socket_options(socket_options)
        sock = await connecting.unix_socket(path)
        return self._own_socket(sock, "connect_unix", options)

    @enable_ki_protection
    def _own_socket(self, sock: socket.socket, what: str, options: Sequence[SocketOption]) -> Connection:
        # Not by way of `adopt`, which refuses what is not connected: a peer may have reset this connection already.
        try:
            set_socket_options(sock, options)
            self._owner.check_open(what)
            return self._own(Detached(SocketTransport(sock)), Connection)
        except BaseException:
            sock.close()
            raise

    @block
    @enable_ki_protection
    async def open_http_client(
        self, *, drain_timeout: float | None = None, **options: Unpack[ClientOptions]
    ) -> AsyncIterator[HTTPClient]:
        """Open an HTTP client for the length of a block, in a scope of its own inside this one.

        Args:
            drain_timeout: Seconds; this scope's own by default.
            **options: As for `trionet.open_http_client`.

        Raises:
            ScopeClosedError: this scope is closing or closed.

        Cancellation: as for `trionet.open_http_client`.
        """
        self._owner.check_open("open_http_client")
        scope = Scope(self._child_owner("open_http_client", drain_timeout))
        async with hold_http_client(scope._owner, options) as client:
            yield client

    @block
    @enable_ki_protection
    async def open_websocket(
        self, url: str | URL, *, drain_timeout: float | None = None, **options: Unpack[WebSocketOptions]
    ) -> AsyncIterator[WebSocket]:
        """Open a WebSocket for the length of a block, in a scope of its own inside this one.

        Args:
            url: ``ws://`` or ``wss://``.
            drain_timeout: Seconds; this scope's own by default.
            **options: As for `trionet.open_websocket`.

        Raises:
            ScopeClosedError: this scope is closing or closed.
            Whatever `trionet.open_websocket` raises.

        Cancellation: as for `trionet.open_websocket`.
        """
        self._owner.check_open("open_websocket")
        scope = Scope(self._child_owner("open_websocket", drain_timeout))
        async with hold_websocket(scope._owner, url, options) as websocket:
            yield websocket

    @enable_ki_protection
    def adopt(self, original: trio.abc.Stream | socket.socket | trio.socket.SocketType | Detached) -> Connection:
        """Own an existing connection from now on, and end the original: it raises closed errors afterwards. A step.

        A stream of a class of your own stays the object that it is, since tasks and callbacks of its own may know it:
        those go on, and so do its methods where they call one another. It counts as in use when a task is parked inside
        one of its methods, unless the task began in that method (``nursery.start_soon(self._read_ahead)``). What takes
        from the parts of such a stream by other ways can be neither noticed nor ended.

        Args:
            original: A Trio stream, a connected stream socket (of `socket` or `trio.socket`), or the capsule of a
                `detach`. A capsule may be adopted once.

        Returns:
            A `Connection` that this scope owns.

        Raises:
            trio.BusyResourceError: a task is using the original; nothing has changed.
            trio.ClosedResourceError: the original is closed, or the capsule was adopted already.
            TypeError, ValueError: it is none of these, or a socket that is not a connected stream socket.
            ScopeClosedError: this scope is closing or closed; the original has been closed.
        """
        self._owner.check_run("adopt")
        return self._adopt_as(into_capsule(original), Connection)

    @enable_ki_protection
    def _adopt_as(self, capsule: Detached, make: Callable[[Detached], AnyHandle]) -> AnyHandle:
        """As `adopt`, of a capsule that can be adopted and becomes the handle that `make` makes. A step."""
        capsule._check()
        if self._owner.shut:
            if capsule._owner is None:
                capsule._seat(self._owner)
            capsule.abort()
            self._owner.check_open("adopt")
        return self._own(capsule, make)

    @enable_ki_protection
    def _own(self, capsule: Detached, make: Callable[[Detached], AnyHandle]) -> AnyHandle:
        handle = make(capsule)
        handle._seat(self._owner, instead_of=capsule)
        capsule._pass_to(handle)
        if capsule._grace is not None:
            handle._retire(capsule._grace)
        return handle
