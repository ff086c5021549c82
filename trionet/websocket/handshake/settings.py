"""What the recipes of both sides share: what they are told about the WebSocket, and how they make it in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...http.client.handshake_response import MAX_BODY
from ...support.checks import check_count, check_seconds
from ..connection import WebSocket
from ..keepalive import KeepaliveOptions
from ..protocol.deflate import PerMessageDeflate
from ..protocol.engine import Engine

if TYPE_CHECKING:
    from ...handle.detached import Detached
    from ...http.protocol.headers import Headers

__all__ = ["Agreement", "Settings", "make_keepalive"]


@dataclass(slots=True)
class Settings:
    """What both sides can be told about the WebSocket that they make."""

    max_message_size: Any = 2**20
    handshake_timeout: float = 10.0
    kind: type[WebSocket] = WebSocket
    """The class of the successor."""
    keepalive: KeepaliveOptions | None = None
    compression: PerMessageDeflate | None = None
    """What is offered, or granted."""
    engine: type[Engine] = Engine
    """The class of its protocol engine."""
    max_refusal: int = MAX_BODY
    """Bytes of a refusal's body that a client reads at most."""

    def __post_init__(self) -> None:
        check_seconds("handshake_timeout", self.handshake_timeout, positive=True)
        if self.max_message_size is not None:
            check_count("max_message_size", self.max_message_size, 1, off="None: no limit")
        if self.compression is not None and not isinstance(self.compression, PerMessageDeflate):
            raise TypeError(f"compression must be PerMessageDeflate() or None, not {self.compression!r}")

    def websocket(self, capsule: Detached, agreed: Agreement, *, client: bool) -> WebSocket:
        """The WebSocket on which both sides have agreed. A step; must not fail."""
        engine = self.engine(client=client, max_message_size=self.max_message_size, compression=agreed.compression)
        return self.kind(
            capsule,
            engine,
            path=agreed.path,
            subprotocol=agreed.subprotocol,
            headers=agreed.headers,
            keepalive=self.keepalive,
        )


@dataclass(slots=True)
class Agreement:
    """What comes of a handshake."""

    path: str
    """Path and query of the request."""
    subprotocol: str | None
    compression: PerMessageDeflate | None
    headers: Headers
    """The fields of the peer's part of the handshake."""


def make_keepalive(ping_interval: float | None, ping_timeout: float | None) -> KeepaliveOptions | None:
    """What a program asks for with these two; None for nothing.

    Raises:
        ValueError: a number that is not more than 0, or a timeout without pings.
    """
    if ping_interval is None and ping_timeout is None:
        return None
    if ping_interval is None:
        raise ValueError(f"ping_timeout={ping_timeout!r} without ping_interval: no ping would be sent")
    return KeepaliveOptions(ping_interval, ping_timeout)
