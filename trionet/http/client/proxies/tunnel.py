"""The recipe for a tunnel through a proxy: after it, the connection is another host's.

The recipe is the same for all proxies; what it says to them is its conversation (`http_tunnel`, `socks5_tunnel`). What
came behind the proxy's last word was sent by the other host, and becomes unread bytes of the successor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ....connection import Connection
from ....own_recipe import OwnRecipe, refuse_unread
from ....transport.addresses import check_port
from ...url.hosts import ascii_host, bracketed

if TYPE_CHECKING:
    from ....handle.detached import Detached
    from ....handle.wire import Wire

__all__ = ["Conversation", "Destination", "Tunnel"]


class Destination:
    """Where a tunnel leads.

    Raises:
        ValueError, TypeError: host or port cannot be right.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = ascii_host(host)
        self.port = check_port(port, 1)
        if "%" in self.host:
            raise ValueError(
                f"{self.host!r} has a zone, which names an interface of this machine and means nothing to a proxy"
            )

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


class Conversation(Protocol):
    """What is said to the proxy."""

    async def talk(self, wire: Wire) -> None:
        """Ask for the connection, and read the proxy's consent.

        Raises:
            UpgradeRefusedError, UpgradeFailedError: the proxy does not consent.
            RemoteProtocolError, LimitExceededError: what it says is no consent, nor a refusal.

        Cancellation: as for the handshake.
        """
        ...


class Tunnel(OwnRecipe[Connection]):
    """Makes a connection to a proxy one to somebody else.

    Args:
        name: The function that makes the recipe.
        destination: Where it leads.
        conversation: How the proxy is asked.
        handshake_timeout: Seconds, more than 0.
    """

    def __init__(
        self, name: str, destination: Destination, conversation: Conversation, handshake_timeout: float
    ) -> None:
        self.limit_time(handshake_timeout, f"{name}: the proxy's way to {destination}")
        self.name = name
        self._destination = destination
        self._conversation = conversation

    def check(self, source: Connection) -> None:
        """As `OwnRecipe.check`."""
        refuse_unread(source, source._leftover, "a proxy")

    async def talk(self, wire: Wire) -> None:
        """As `OwnRecipe.talk`."""
        await self._conversation.talk(wire)

    def make(self, capsule: Detached) -> Connection:
        """As `OwnRecipe.make`."""
        return Connection(capsule)
