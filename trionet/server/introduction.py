"""What a connection begins with, before its handler is called: the header of a proxy, and TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ..connection import Connection
from ..support.texts import shown_address
from ..tls.recipes import tls_server_recipe
from .proxy_protocol import proxied_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..handle import Handle
    from ..handle.detached import Detached
    from ..tls.server_contexts import ServerContexts
    from ..transport.trusted_peers import TrustedPeers
    from .connections import ServedConnection

__all__ = ["Introduction"]


class Introduction:
    """Carries out what each connection begins with.

    Args:
        ssl_context: If given, the handler gets TLS connections.
        proxies: If given, they speak the PROXY protocol, and nobody else comes in.
        timeout: Seconds for the header, and for the handshake of TLS.
    """

    __slots__ = ("_proxies", "_ssl_context", "_timeout")

    def __init__(self, ssl_context: ServerContexts | None, proxies: TrustedPeers | None, timeout: float) -> None:
        self._ssl_context = ssl_context
        self._proxies = proxies
        self._timeout = timeout

    @property
    def secure(self) -> bool:
        """Whether clients speak TLS."""
        return self._ssl_context is not None

    @property
    def names_clients(self) -> bool:
        """Whether a client's address is not that of its socket."""
        return self._proxies is not None

    def __bool__(self) -> bool:
        """Whether there is anything to be carried out."""
        return self._ssl_context is not None or self._proxies is not None

    @enable_ki_protection
    async def carry_out(
        self, connection: Connection, make: Callable[[Detached], Handle], served: ServedConnection
    ) -> Handle | None:
        """The connection behind all that, as what `make` makes of it; None if something failed, which is logged."""
        context, missing = self._ssl_context, "PROXY header from"
        handle: Handle = connection
        try:
            if self._proxies is not None:
                then: Callable[[Detached], Handle] = make if context is None else Connection
                handle = await handle.upgrade(proxied_recipe(self._proxies, self._timeout, then))
                header = handle.proxy_header
                if header is not None and header.source is not None and not served.comes_from(header.source):
                    handle.abort()
                    return None
            if context is not None:
                missing = "TLS with"
                handle = await handle.upgrade(tls_server_recipe(context, self._timeout, make))
        except trio.BrokenResourceError as exc:
            served.say(served.judge(exc), f"no {missing} {shown_address(handle.remote_address)}")
            return None
        return handle
