"""HTTP/1.1 as an upgrade, for the client's side: no handshake, but a proof that the server has not spoken yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...own_recipe import OwnRecipe, refuse_unread
from ...support.checks import check_kind
from ..protocol.limits import DEFAULT_LIMITS, HTTPLimits
from .connection import HTTPClientConnection

if TYPE_CHECKING:
    from ...connection import Connection
    from ...handle.detached import Detached
    from ...handle.recipe import Recipe

__all__ = ["to_http_client"]


def to_http_client(*, host: str | None = None, limits: HTTPLimits = DEFAULT_LIMITS) -> Recipe[HTTPClientConnection]:
    """Upgrade a `Connection` to HTTP/1.1, as the client. The result is used once, in ``await conn.upgrade(...)``.

    Nothing is sent or received.

    Args:
        host: The Host field of requests that have none of their own; by default the address that the connection leads
            to, or ``localhost`` where that is no IP address.
        limits: Bounds on what the server may send.

    Raises (here):
        ValueError, TypeError: an argument cannot be right.

    Raises (in the upgrade):
        LocalProtocolError: there are unread bytes (an HTTP server must not speak first), the source is not a
            `Connection`, or the recipe was used before. Nothing has changed.

    Cancellation: nothing has changed.
    """
    check_kind("limits", limits, HTTPLimits, "a trionet.HTTPLimits")
    if host == "":
        raise ValueError(f"to_http_client: host must be the value of a Host field, like 'host.example', not {host!r}")
    return _ClientRecipe(host, limits)


class _ClientRecipe(OwnRecipe[HTTPClientConnection]):
    """Makes a connection an HTTP client's, without I/O."""

    name = "to_http_client"

    def __init__(self, host: str | None, limits: HTTPLimits) -> None:
        self._host = host
        self._limits = limits

    def check(self, source: Connection) -> None:
        refuse_unread(source, source._leftover, "an HTTP server")

    def make(self, capsule: Detached) -> HTTPClientConnection:
        return HTTPClientConnection(capsule, host=self._host, limits=self._limits)
