"""What the recipes of both sides share: their arguments, one use, one deadline, and the successor that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...http.client.handshake_response import MAX_BODY
from ...http.protocol.headers import Headers
from ...own_recipe import OwnRecipe
from ...support.checks import check_count, check_seconds
from ..connection import WebSocket
from ..keepalive import KeepaliveOptions
from ..protocol.deflate import PerMessageDeflate
from ..protocol.engine import Engine

if TYPE_CHECKING:
    from ...handle.detached import Detached

__all__ = ["Settings", "Upgrading", "make_keepalive"]


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


class Upgrading(OwnRecipe[WebSocket]):
    """One side of a handshake that is still to come. Its subclasses talk."""

    client: bool
    _path = ""
    _chosen: str | None = None
    _agreed: PerMessageDeflate | None = None
    _peer_headers = Headers()

    def __init__(self, settings: Settings) -> None:
        self.limit_time(settings.handshake_timeout)
        self._settings = settings

    @property
    def what(self) -> str:
        """As `OwnRecipe.what`."""
        return f"WebSocket handshake ({self.name})"

    def make(self, capsule: Detached) -> WebSocket:
        """As `OwnRecipe.make`. A step."""
        settings = self._settings
        engine = settings.engine(
            client=self.client, max_message_size=settings.max_message_size, compression=self._agreed
        )
        return settings.kind(
            capsule,
            engine,
            path=self._path,
            subprotocol=self._chosen,
            headers=self._peer_headers,
            keepalive=settings.keepalive,
        )
