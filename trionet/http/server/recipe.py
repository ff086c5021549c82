"""How a byte stream becomes a server's HTTP connection: there is nothing to shake hands about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...own_recipe import OwnRecipe
from ...support.checks import check_kind
from ..protocol.limits import DEFAULT_LIMITS, HTTPLimits
from .connection import HTTPServerConnection

if TYPE_CHECKING:
    from ...handle.detached import Detached
    from ...handle.recipe import Recipe
    from .compression import Compression

__all__ = ["to_http_server"]


def to_http_server(
    *, limits: HTTPLimits = DEFAULT_LIMITS, compression: Compression | None = None
) -> Recipe[HTTPServerConnection]:
    """Upgrade a `Connection` to HTTP/1.1, as the server. The result is used once, in ``await conn.upgrade(...)``.

    Bytes that were received before and not consumed are the beginning of the first request: sniffing with `peek` first
    is fine.

    Args:
        limits: Bounds.
        compression: Whether responses are compressed for clients that ask for it, and which; None for none.

    Raises (here):
        TypeError: `limits` is not an `HTTPLimits`, or `compression` not a `Compression`.

    Raises (in the upgrade):
        LocalProtocolError: the recipe was used before, or the source is not a `Connection`.

    Cancellation: the handle is OPEN as before.

    Source: RFC 9112.
    """
    if compression is not None:
        from .compression import Compression

        check_kind("compression", compression, Compression, "a trionet.Compression")
    return HTTPServerRecipe(check_kind("limits", limits, HTTPLimits, "a trionet.HTTPLimits"), compression)


class HTTPServerRecipe(OwnRecipe[HTTPServerConnection]):
    """Makes an HTTP connection of a byte stream."""

    name = "to_http_server"

    def __init__(self, limits: HTTPLimits, compression: Compression | None) -> None:
        self._limits = limits
        self._compression = compression

    def make(self, capsule: Detached) -> HTTPServerConnection:
        return HTTPServerConnection(capsule, self._limits, self._compression)
