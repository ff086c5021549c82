"""Through a proxy to the host behind it: which upgrades that takes, and how they are carried out.

`choice` says which proxy is for a URL; `http_tunnel` and `socks5_tunnel` have the recipes. Here they become a way, for
an HTTP client, which may have recipes of its own for each step, and for `Scope.connect_tcp`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....errors import UpgradeFailedError, UpgradeRefusedError
from ....tls import to_tls_client
from .http_tunnel import to_http_tunnel
from .socks5_tunnel import to_socks5_tunnel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ....connection import Connection
    from ....handle.recipe import Recipe
    from .proxy import Proxy

__all__ = ["called", "go_through", "through_http", "through_socks", "way_through"]


def way_through(
    proxy: Proxy,
    host: str,
    port: int,
    *,
    tls: Callable[[str], Recipe[Connection]] = to_tls_client,
    tunnel: Callable[[Proxy, str, int], Recipe[Connection]] | None = None,
    forwards: bool = False,
) -> list[Recipe[Connection]]:
    """The upgrades that make a connection to `proxy` one to `host`.

    Args:
        proxy: The proxy.
        host: Where to.
        port: Where to.
        tls: Makes the recipe for TLS to the proxy, for its host.
        tunnel: Makes the recipe for the tunnel of an HTTP proxy; by default `through_http`.
        forwards: Whether an HTTP proxy is to forward requests, so that no tunnel is needed.

    Raises:
        ValueError, TypeError: host or port cannot be right.
    """
    recipes = [tls(proxy.host)] if proxy.scheme == "https" else []
    if proxy.scheme in ("socks5", "socks5h"):
        recipes.append(through_socks(proxy, host, port))
    elif not forwards:
        recipes.append((tunnel or through_http)(proxy, host, port))
    return recipes


def through_http(proxy: Proxy, host: str, port: int) -> Recipe[Connection]:
    """The tunnel of an HTTP proxy, with the credentials that its URL has."""
    return to_http_tunnel(host, port, authorization=proxy.authorization)


def through_socks(proxy: Proxy, host: str, port: int) -> Recipe[Connection]:
    """The same of a SOCKS5 proxy."""
    password = None if proxy.username is None else proxy.password or ""
    return to_socks5_tunnel(host, port, username=proxy.username, password=password, remote_dns=proxy.remote_dns)


def called(proxy: Proxy) -> str:
    """What errors call the proxy."""
    return f"the proxy {proxy}"


async def go_through(
    proxy: Proxy,
    connection: Connection,
    recipes: Iterable[Recipe[Connection]],
    upgrade: Callable[[Connection, Recipe[Connection]], Awaitable[Connection]],
) -> Connection:
    """What becomes of a connection to the proxy by these recipes; it is closed if one of them fails.

    Raises:
        UpgradeFailedError, UpgradeRefusedError: TLS to the proxy, or the proxy, did not work out; the error names it.

    Cancellation: the connection is closed.
    """
    try:
        for recipe in recipes:
            connection = await upgrade(connection, recipe)
    except BaseException as exc:
        connection.abort()
        if isinstance(exc, (UpgradeFailedError, UpgradeRefusedError)):
            exc.args = (f"{called(proxy)}: {exc}", *exc.args[1:])
        raise
    return connection
