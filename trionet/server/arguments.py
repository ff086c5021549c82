"""What a program gives to a server: a handler, listeners, options. Checked before anything is opened or taken over."""

from __future__ import annotations

import inspect
import socket
from typing import TYPE_CHECKING, Any

import trio

from ..support.block import check_trio
from ..support.checks import check_kind
from ..tls import to_tls_server
from ..transport.socket_options import check_socket_options
from ..transport.trusted_peers import TrustedPeers
from .introduction import Introduction
from .limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..tls.server_contexts import ServerContexts
    from ..transport.socket_options import SocketOption

__all__ = ["check_handler", "check_listener", "check_listener_options", "check_options", "check_proxies"]


def check_options(
    handler: Any, ssl_context: ServerContexts | None, proxy_protocol: Iterable[str] | None, limits: Any
) -> tuple[Limits, Introduction]:
    """Limits, and what connections begin with; raise if an argument cannot be right, before anything is opened."""
    check_trio("serve")
    check_handler(handler)
    checked = Limits() if limits is None else check_kind("limits", limits, Limits, "a trionet.Limits")
    if ssl_context is not None:
        to_tls_server(ssl_context)  # checks it
    return checked, Introduction(ssl_context, check_proxies(proxy_protocol), checked.handshake_timeout)


def check_proxies(proxy_protocol: Iterable[str] | None) -> TrustedPeers | None:
    """The proxies that send headers of the PROXY protocol; None if it is not spoken."""
    if proxy_protocol is None:
        return None
    if not (proxies := TrustedPeers("proxy_protocol", proxy_protocol)):
        raise ValueError(
            "proxy_protocol is empty, so every connection would be closed; name your proxies, or give None"
        )
    return proxies


def check_handler(handler: Any) -> None:
    """Raise unless this can be an async function."""
    if inspect.iscoroutine(handler):
        raise TypeError(
            f"handler must be an async function, not {handler!r}: pass the function itself, without calling it"
        )
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}")
    function = inspect.unwrap(handler)
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"handler must be an async function, not {handler!r}, which has a yield and so is a generator")
    if _is_plain(function):
        raise TypeError(
            f"handler must be an async function, not {handler!r}: write async def (or, for a function that returns an "
            f"awaitable, lambda x: {function.__name__}(x))"
        )
    _check_arity(handler)


def _is_plain(function: Any) -> bool:
    """Whether this was written with def and nothing says that it returns an awaitable: async was forgotten."""
    return (
        inspect.isroutine(function)
        and not inspect.iscoroutinefunction(function)
        and function.__name__ != "<lambda>"
        and "return" not in getattr(function, "__annotations__", {})
    )


def _check_arity(handler: Any) -> None:
    """Raise if the handler cannot be called with the one thing that a handler is given."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return  # not every callable tells
    try:
        signature.bind(None)
    except TypeError as exc:
        raise TypeError(
            f"handler must take one argument, the connection or exchange: {handler!r} takes {signature} ({exc})"
        ) from None


def check_listener(listener: Any) -> Any:
    """A socket that listens, else a clear error. The listener is as before."""
    sock = listener.socket if isinstance(listener, trio.SocketListener) else listener
    if not isinstance(sock, (socket.socket, trio.socket.SocketType)):
        raise TypeError(f"a listener must be a listening socket, not {listener!r}")
    if sock.fileno() < 0:
        raise ValueError(f"{listener!r} is closed")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"{listener!r} does not listen; call listen() on it first")
    return sock


def check_listener_options(options: Any) -> tuple[SocketOption, ...]:
    """The options as a tuple; raise if one of them comes too late for a socket that listens."""
    for option in (checked := check_socket_options(options)):
        if option[:2] == (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", None)):
            raise ValueError(
                "socket_options: SO_REUSEPORT has to be set before a socket is bound; make the listener yourself and "
                "serve it: trionet.serve(handler, [listener])"
            )
    return checked
