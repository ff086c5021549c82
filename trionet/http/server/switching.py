"""From an exchange to a byte stream: a tunnel after CONNECT, or any protocol that a request asks for by Upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...connection import Connection
from ...errors import LocalProtocolError
from ...own_recipe import OwnRecipe
from ..protocol.headers import Headers, is_token
from .exchange import Exchange

if TYPE_CHECKING:
    from ...handle.detached import Detached
    from ...handle.recipe import Recipe
    from ...handle.wire import Wire
    from ..protocol.headers import HeaderInput

__all__ = ["to_connection"]


def to_connection(protocol: str | None = None, *, headers: HeaderInput | Headers = ()) -> Recipe[Connection]:
    """Accept a request that asks for another protocol. Used once, in ``await exchange.upgrade(...)``.

    A CONNECT gets a 200, an Upgrade a 101. What the client has sent behind its request are the first bytes of the new
    `Connection`.

    Args:
        protocol: The token of the request's Upgrade field that is accepted, such as ``"h2c"``, in any case. None for
            CONNECT; or for the only one that is offered.
        headers: Additional fields of the response.

    Raises (here):
        ValueError, TypeError: `protocol` is not a token, with a version perhaps; a field cannot be sent, see `Headers`.

    Raises (in the upgrade):
        LocalProtocolError: the request is neither a CONNECT nor offers this protocol, or the recipe was used before.
            Nothing has changed: respond in another way.

    Cancellation: before the response was sent nothing has happened; afterwards the connection is CLOSED.

    Source: RFC 9110 §7.8, §9.3.6.
    """
    if protocol is not None:
        if not isinstance(protocol, str):
            raise TypeError(f"protocol must be a str like 'h2c', not {protocol!r}")
        if not all(is_token(part.encode("latin-1", "replace")) for part in protocol.split("/", 1)):
            raise ValueError(
                f"protocol must be a token, perhaps with a version, such as 'h2c' or 'foo/2', not {protocol!r}"
            )
    return SwitchingRecipe(protocol, Headers(headers))


class SwitchingRecipe(OwnRecipe[Connection]):
    """Sends the response that switches."""

    name = "to_connection"
    sources = (Exchange,)
    takes = "an Exchange"

    def __init__(self, protocol: str | None, headers: Headers) -> None:
        self._protocol = protocol
        self._headers = headers
        self._response = b""

    def check(self, source: Exchange) -> None:
        if source.method == "CONNECT":
            self._response = source._accept_upgrade(self._headers, status=200)
        else:
            fields = [*self._headers.items(), ("Upgrade", self._choose(source))]
            self._response = source._accept_upgrade(fields)

    def _choose(self, source: Exchange) -> str:
        offered = source.offered_protocols
        if self._protocol is not None:
            return self._protocol
        if len(offered) == 1:
            return offered[0]
        if offered:
            what = f"{list(offered)}; choose one with to_connection(protocol)"
        else:
            what = "no other protocol; respond in another way"
        raise LocalProtocolError(f"upgrade refused: {source!r} offers {what}")

    async def talk(self, wire: Wire) -> None:
        await wire.send_all(self._response)

    def make(self, capsule: Detached) -> Connection:
        return Connection(capsule)
