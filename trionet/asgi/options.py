"""What `serve_asgi` and `open_asgi` can be told: as keyword arguments, and checked, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict
from urllib.parse import quote

from ..support.checks import check_count, check_flag, check_seconds
from .fields import DefaultFields
from .forwarded import DEFAULT_NAMES, DEFAULT_PEERS, Forwarding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..http.protocol.headers import HeaderInput
    from ..websocket.handshake.origins import Origins

__all__ = ["ASGIOptions", "AppOptions", "Lifespan"]

Lifespan = Literal["auto", "on", "off"]

_SERVER: Final = ("server", "trionet")
_DRAIN_CODES: Final = (1001, 1012)


class ASGIOptions(TypedDict, total=False):
    """The keyword arguments of `serve_asgi` and `open_asgi`, where they are described."""

    lifespan: Lifespan
    root_path: str
    forwarded_allow_ips: str | Iterable[str]
    forwarded_headers: str | Iterable[str]
    headers: HeaderInput
    server_header: bool
    date_header: bool
    limit_concurrency: int | None
    limit_max_requests: int | None
    ws_max_size: int | None
    ws_ping_interval: float | None
    ws_ping_timeout: float | None
    ws_per_message_deflate: bool
    ws_drain_code: Literal[1001, 1012]
    ws_origins: Origins
    access_log_query: bool


@dataclass(slots=True, kw_only=True)
class AppOptions:
    """The checked options of an application's server. Defaults and meanings: as for `serve_asgi`."""

    lifespan: Lifespan = "auto"
    root_path: str = ""
    forwarded_allow_ips: Any = DEFAULT_PEERS
    forwarded_headers: Any = DEFAULT_NAMES
    headers: Any = ()
    server_header: bool = True
    date_header: bool = True
    limit_concurrency: int | None = None
    limit_max_requests: int | None = None
    ws_max_size: int | None = 2**20
    ws_ping_interval: float | None = 20.0
    ws_ping_timeout: float | None = 20.0
    ws_per_message_deflate: bool = True
    ws_drain_code: Literal[1001, 1012] = 1001
    ws_origins: Any = None
    access_log_query: bool = True
    forwarding: Forwarding = field(init=False)
    default_fields: DefaultFields = field(init=False)

    def __post_init__(self) -> None:
        if self.lifespan not in ("auto", "on", "off"):
            raise ValueError(f"lifespan must be 'auto', 'on' or 'off', not {self.lifespan!r}")
        self.root_path = _check_root_path(self.root_path)
        for name in ("server_header", "date_header", "ws_per_message_deflate", "access_log_query"):
            check_flag(name, getattr(self, name))
        for name in ("limit_concurrency", "limit_max_requests"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1, off="None: no limit")
        self.forwarding = Forwarding(self.forwarded_allow_ips, self.forwarded_headers)
        given = self.headers.items() if hasattr(self.headers, "items") else self.headers
        fields = DefaultFields(given, with_date=self.date_header)
        if self.server_header and b"server" not in fields.names:
            fields = DefaultFields([_SERVER, *fields.pairs], with_date=self.date_header)
        self.default_fields = fields
        self._check_websocket()

    def _check_websocket(self) -> None:
        """As `to_websocket_server` would; but that is loaded with the first WebSocket, since it takes long."""
        if self.ws_max_size is not None:
            check_count("ws_max_size", self.ws_max_size, 1, off="None: no limit")
        for name in ("ws_ping_interval", "ws_ping_timeout"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name), positive=True, off="None: none")

        if self.ws_drain_code not in _DRAIN_CODES:
            raise ValueError(
                f"ws_drain_code must be 1001 (going away) or 1012 (service restart), not {self.ws_drain_code!r}"
            )

    def websocket(self) -> dict[str, Any]:
        """The keyword arguments of `to_websocket_server`."""
        from ..websocket import PerMessageDeflate

        return {
            "origins": self.ws_origins,
            "compression": PerMessageDeflate() if self.ws_per_message_deflate else None,
            "max_message_size": self.ws_max_size,
            "ping_interval": self.ws_ping_interval,
            "ping_timeout": self.ws_ping_timeout if self.ws_ping_interval is not None else None,
        }


def _check_root_path(root_path: Any) -> str:
    if not isinstance(root_path, str):
        raise TypeError(f"root_path must be a str such as '/api', not {root_path!r}")
    if root_path and not root_path.startswith("/"):
        raise ValueError(f"root_path must begin with a slash; write {'/' + root_path!r}, not {root_path!r}")
    if quote(root_path, safe="/!$&'()*+,;=:@~") != root_path:
        raise ValueError(f"root_path must be plain path characters, not {root_path!r}")
    return root_path.rstrip("/")
