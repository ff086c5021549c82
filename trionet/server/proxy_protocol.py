"""The PROXY protocol as an upgrade: a proxy says whose connection this is before that says anything.

Anybody can write such a header, so it counts only from peers that are trusted, and a port that takes them takes nothing
else: a trusted peer has to send one, and whoever is not trusted is cut off before a byte is read. Nothing is told by
how the bytes look: a client that may choose whether there is a header may choose its own address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ..connection import Connection
from ..errors import RemoteProtocolError, UpgradeFailedError
from ..own_recipe import OwnRecipe
from ..support.checks import check_count
from ..support.texts import shown_address
from ..transport.trusted_peers import TrustedPeers
from .proxy_protocol_parser import MAX_LINE, parse_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..handle import Handle
    from ..handle.detached import Detached
    from ..handle.recipe import Recipe
    from ..handle.wire import Wire
    from ..transport.proxy_header import ProxyHeader

__all__ = ["proxied_recipe", "to_proxied"]

AnyHandle = TypeVar("AnyHandle", bound="Handle")

_MAX_HEADER = 4096


def to_proxied(
    *, trusted: Iterable[str], max_header: int = _MAX_HEADER, handshake_timeout: float = 10.0
) -> Recipe[Connection]:
    """Read the PROXY protocol's header, which a proxy sends first. The result is used once, in an upgrade.

    The successor's `Handle.remote_address` is the client's, if the header has it, and `Handle.proxy_header` says the
    rest, also behind further upgrades. What came behind the header is unread. It goes in front of TLS, or inside of it,
    as the proxy does it. Servers do it for all connections with ``proxy_protocol=``.

    A header that is missing, malformed or late ends the connection, and so does a peer that is not trusted, before a
    byte is read.

    Args:
        trusted: The proxies: addresses, networks (``10.0.0.0/8``), ``unix:`` for those on Unix sockets, ``unix:/path``
            for those on the one with that path, ``*`` for everybody, where nobody else can come here.
        max_header: Bytes of a header of version 2 at most, 107 to 65,551.
        handshake_timeout: Seconds for the header, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right, or nobody is trusted.

    Raises (in the upgrade):
        UpgradeFailedError: the peer is not trusted, or there is no good header in time. The handle is CLOSED.
        LocalProtocolError: the recipe was used before, or the source is not a `Connection`.

    Cancellation: the handle is CLOSED (`UPGRADE_FAILED`): without its header nobody can say whose it is.

    Source: The PROXY protocol, versions 1 & 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt).
    """
    if not (peers := TrustedPeers("trusted", trusted)):
        raise ValueError("to_proxied: trusted is empty, so every connection would be closed; name your proxies")
    check_count("max_header", max_header, MAX_LINE, 65551)
    return _ProxiedRecipe(peers, max_header, handshake_timeout, Connection)


def proxied_recipe(
    peers: TrustedPeers, handshake_timeout: float, make: Callable[[Detached], AnyHandle]
) -> Recipe[AnyHandle]:
    """As `to_proxied`, for what `make` makes of the connection."""
    return _ProxiedRecipe(peers, _MAX_HEADER, handshake_timeout, make)


class _ProxiedRecipe(OwnRecipe[AnyHandle]):
    """Reads the header, and names the client."""

    name = "to_proxied"
    _header: ProxyHeader

    def __init__(
        self, peers: TrustedPeers, max_header: int, timeout: float, make: Callable[[Detached], AnyHandle]
    ) -> None:
        self.limit_time(timeout, "the PROXY header")
        self._peers = peers
        self._max_header = max_header
        self._make = make

    async def talk(self, wire: Wire) -> None:
        wire.sent = True  # whatever goes wrong from here on ends the connection: it must not go on as the proxy's own
        transport = wire.transport
        if not self._peers.has(transport.remote_address, transport.local_address):
            peer = shown_address(transport.remote_address)
            raise UpgradeFailedError(f"{peer} is not a trusted proxy, so it was cut off before a byte was read")
        first = bytearray()
        while (found := parse_header(first, self._max_header)) is None:
            data = await wire.receive_some()
            if not data:
                raise RemoteProtocolError(f"the peer ended the connection after {len(first)} bytes") from EOFError()
            first += data
        self._header, size = found
        wire.unread[:0] = first[size:]

    def make(self, capsule: Detached) -> AnyHandle:
        capsule._transport.speak_for(self._header)
        return self._make(capsule)
