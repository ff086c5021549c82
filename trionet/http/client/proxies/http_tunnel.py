"""CONNECT: an HTTP proxy as the way to somebody else (RFC 9110 §9.3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....errors import RemoteProtocolError, UpgradeFailedError, UpgradeRefusedError
from ...protocol.framing import NO_BODY
from ...protocol.headers import Headers, with_defaults
from ...protocol.prepared_request import PreparedRequest
from ..handshake_response import HandshakeResponse, read_body, read_head
from .tunnel import Destination, Tunnel

if TYPE_CHECKING:
    from ....connection import Connection
    from ....handle.recipe import Recipe
    from ....handle.wire import Wire
    from ...protocol.headers import HeaderInput

__all__ = ["to_http_tunnel"]


def to_http_tunnel(
    host: str,
    port: int,
    *,
    authorization: str | None = None,
    headers: HeaderInput | Headers = (),
    handshake_timeout: float = 30.0,
) -> Recipe[Connection]:
    """Let an HTTP proxy connect on to `host` and `port`. The result is used once, in ``await conn.upgrade(...)``.

    The successor is a `Connection` to that host, as far as the proxy keeps its word: put TLS on it.

    Args:
        host: Name or IP address; the proxy looks it up.
        port: 1 to 65535.
        authorization: The value of Proxy-Authorization, if the proxy wants one.
        headers: Further fields for the proxy: pairs or a mapping.
        handshake_timeout: Seconds, more than 0, in which the proxy has to answer; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right.

    Raises (in the upgrade):
        UpgradeRefusedError: the proxy answered something other than 2xx, such as 407: `response` has status, headers
            and body. The handle is OPEN, after that answer.
        UpgradeFailedError: the answer is wrong, not HTTP, late or missing; or it is a refusal that ends the connection
            or has more than 64 KiB: the `UpgradeRefusedError` is then the ``__cause__``. The handle is CLOSED.
        LocalProtocolError: unread bytes (a proxy must not speak first), or the recipe was used before.

    Cancellation: before the request was sent the handle is OPEN again; afterwards it is CLOSED (`UPGRADE_FAILED`).

    Source: RFC 9110 §9.3.6.
    """
    fields = Headers(headers)
    if authorization is not None:
        fields = Headers([*fields.raw, ("Proxy-Authorization", authorization)])
    destination = Destination(host, port)
    return Tunnel("to_http_tunnel", destination, _ConnectRequest(destination, fields), handshake_timeout)


class _ConnectRequest:
    """Asks by CONNECT."""

    def __init__(self, destination: Destination, fields: Headers) -> None:
        authority = str(destination)
        prepared = PreparedRequest("CONNECT", authority, with_defaults(fields, [("Host", authority)]))
        self._request = prepared.head(NO_BODY)
        self._destination = destination

    async def talk(self, wire: Wire) -> None:
        """As `Conversation.talk`."""
        await wire.send_all(self._request)
        head = await read_head(wire, "the proxy")
        if head.status == 101:
            raise RemoteProtocolError(
                "the proxy answered CONNECT with 101, which switches protocols; CONNECT is accepted with 2xx"
            )
        if head.status >= 300:  # behind a 2xx the tunnel begins, whatever its fields say
            what = f"the proxy refused to connect to {self._destination}: {head.status} {head.reason}"
            body, usable = await read_body(wire, head)
            refused = UpgradeRefusedError(
                what.rstrip(), HandshakeResponse(head.status, head.reason, head.headers, body)
            )
            if usable:
                raise refused
            raise UpgradeFailedError(f"{refused}, and ends the connection with it") from refused
