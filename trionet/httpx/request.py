"""What HTTPX's request says, in trionet's terms: who is asked, and with which head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx

from ..errors import LocalProtocolError
from ..http.protocol.prepared_request import PreparedRequest
from ..http.url.hosts import ascii_host
from ..http.url.url import Origin

if TYPE_CHECKING:
    from .settings import TransportSettings

__all__ = ["origin_of", "prepare"]

_FRAMING: Final = frozenset({b"transfer-encoding"})
"""Fields that are left to trionet, which frames the body."""
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "ws", "wss": "https"}
"""A WebSocket begins as a request, which asks an HTTP proxy for a tunnel also where there is no TLS."""


def origin_of(request: httpx.Request) -> Origin:
    """The origin of a request.

    Raises:
        httpx.UnsupportedProtocol: the scheme is not one of HTTP.
        httpx.ConnectError: nobody can be reached at such a host or port.
    """
    url = request.url
    scheme = _SCHEMES.get(url.scheme)
    if scheme is None or not url.host:
        raise httpx.UnsupportedProtocol(f"{str(url)!r} must begin with http:// or https://, and have a host")
    port = url.port or (443 if scheme == "https" else 80)
    try:
        if not 1 <= port <= 65535:
            raise ValueError(f"port {port} is not a number from 1 to 65535")
        host = ascii_host(url.raw_host.decode("ascii"))
    except ValueError as exc:
        raise httpx.ConnectError(f"cannot connect to {url.host}: {exc}") from exc
    return Origin(scheme, host, port, request.extensions.get("sni_hostname"))


def prepare(request: httpx.Request, origin: Origin, settings: TransportSettings) -> PreparedRequest:
    """The head, with what is for an HTTP proxy on the way.

    Raises:
        httpx.LocalProtocolError: it cannot be sent.
    """
    target = request.extensions.get("target", request.url.raw_path).decode("ascii")
    fields = [field for field in request.headers.raw if field[0].lower() not in _FRAMING]
    line, for_proxy = settings.through_proxy(origin, target)
    names = {name.lower() for name, _ in fields}
    fields += [field for field in for_proxy if field[0].lower() not in names]
    try:
        return PreparedRequest(request.method, line, fields)
    except (ValueError, TypeError, LocalProtocolError) as exc:
        raise httpx.LocalProtocolError(str(exc)) from exc
