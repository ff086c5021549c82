"""WebSocket as an upgrade: the recipes for both sides of a connection.

All of a handshake's checks come before the first byte that cannot be taken back. What the peer has sent behind its part
of the handshake are the first frames.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio

from ..connection import Connection
from ..errors import (
    LimitExceededError,
    LocalProtocolError,
    RemoteProtocolError,
    UpgradeFailedError,
    UpgradeRefusedError,
)
from ..http import answer
from ..http.exchange import Exchange
from ..http.head import MAX_HEAD, RequestHead, ResponseHead, parse_request, write_response
from ..http.headers import Headers
from ..recipe import handshake_deadline
from . import handshake
from .connection import WebSocket
from .engine import Engine
from .url import parse_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..http.headers import HeaderInput
    from ..recipe import Recipe
    from ..wire import Wire

__all__ = ["to_websocket_client", "to_websocket_server"]

LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 65536
EMPTY_LINES: Final = 16
"""How many may stand before a request (RFC 9112 §2.2 asks for one at least): an endless row is no request."""

SHOWN: Final = 32
"""How many unexpected bytes a message shows."""


def to_websocket_server(
    *,
    subprotocols: Sequence[str] = (),
    extra_headers: HeaderInput = (),
    max_message_size: int | None = 2**20,
    handshake_timeout: float = 10.0,
) -> Recipe[WebSocket]:
    """Upgrade an `Exchange`, or a raw `Connection`, to WebSocket, as the server. The result is used once.

    Use it in ``await exchange.upgrade(...)`` or ``await conn.upgrade(...)``. On a raw connection the request is read
    first, unread bytes before all. What the client has sent behind its request are the first frames.

    Args:
        subprotocols: What this side speaks, best first; the first one that the client offers is chosen.
        extra_headers: Additional fields of the answer, such as Set-Cookie: pairs or a mapping.
        max_message_size: Bytes of a received message at most; a longer one closes with 1009. None for no limit.
        handshake_timeout: Seconds, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right: a field that the handshake sets itself, a line break in one.

    Raises (in the upgrade):
        UpgradeRefusedError: the request is good HTTP but no acceptable handshake: it was answered with 426 or 400
            (`response`). The handle is OPEN, and the next byte read comes after the request; an exchange is over.
        UpgradeFailedError: the request is malformed, too long or has a body: answered with an error, the handle is
            CLOSED (`UPGRADE_FAILED`). Or there was none in time: the handle is OPEN, what came is unread.
        LocalProtocolError: the recipe was used before, or the source is neither a `Connection` nor an `Exchange`.

    Cancellation: before the answer the handle is OPEN again, what was received is unread; afterwards it is CLOSED.

    Source: RFC 6455 §4.2.
    """
    names = handshake.check_subprotocols(subprotocols)
    extra = handshake.check_extra_headers(extra_headers)
    return _ServerRecipe(names, extra, max_message_size, handshake_timeout)


def to_websocket_client(
    url: str,
    *,
    subprotocols: Sequence[str] = (),
    extra_headers: HeaderInput = (),
    max_message_size: int | None = 2**20,
    handshake_timeout: float = 10.0,
) -> Recipe[WebSocket]:
    """Upgrade a `Connection` to WebSocket, as the client. The result is used once, in ``await conn.upgrade(...)``.

    Frames behind the server's answer are the first messages.

    Args:
        url: ``ws://`` or ``wss://``. Path, query and host are those of the request; user name and password are sent as
            Basic authorization. Nothing is connected to: that is done already, for ``wss://`` with TLS on it.
        subprotocols: What to offer, best first.
        extra_headers: Additional fields of the request, such as Origin or Cookie: pairs or a mapping.
        max_message_size: Bytes of a received message at most; a longer one closes with 1009. None for no limit.
        handshake_timeout: Seconds, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right.

    Raises (in the upgrade):
        UpgradeRefusedError: the server answered something else than 101: `response` has status, headers and body.
            The handle is OPEN, after that answer.
        UpgradeFailedError: the answer is wrong, not HTTP, late or missing; or it is a refusal after which nothing can
            be read (it ends with the connection, or its body is longer than 64 KiB): the `UpgradeRefusedError` with its
            `response` is then the ``__cause__``. The handle is CLOSED.
        LocalProtocolError: unread bytes (the server must not speak first); ``wss://`` without TLS or ``ws://`` over it;
            the recipe was used before. Nothing has changed.

    Cancellation: before the request was sent the handle is OPEN again; afterwards it is CLOSED (`UPGRADE_FAILED`).

    Source: RFC 6455 §3, §4.1.
    """
    target = parse_url(url)
    names = handshake.check_subprotocols(subprotocols)
    extra = handshake.check_extra_headers(extra_headers)
    if target.authorization is not None and "Authorization" not in extra:
        extra = Headers([("Authorization", target.authorization), *extra.items()])
    recipe = _ClientRecipe(names, extra, max_message_size, handshake_timeout)
    recipe.aim(target.secure, target.host, target.target)
    return recipe


class _Once:
    """What the recipes share: their arguments, one use, and a `Connection` to begin with."""

    name: str
    client: bool

    def __init__(self, subprotocols: tuple[str, ...], extra: Headers, max_size: Any, timeout: float) -> None:
        if not timeout > 0:
            raise ValueError(f"handshake_timeout must be more than 0 seconds (math.inf: no limit), not {timeout!r}")
        if max_size is not None and not (isinstance(max_size, int) and max_size >= 1):
            raise ValueError(f"max_message_size must be a number of bytes of at least 1, or None, not {max_size!r}")
        self._subprotocols = subprotocols
        self._extra = extra
        self._max_size = max_size
        self._timeout = timeout
        self._used = False
        self._wire: Wire | None = None
        self._path = ""
        self._chosen: str | None = None
        self._peer_headers = Headers()

    def prepare(self, source: Any) -> None:
        if self._used:
            raise LocalProtocolError(f"upgrade refused: this {self.name} recipe was used before; make one per upgrade")
        self.check(source)
        self._used = True

    def check(self, source: Any) -> None:
        """Raise unless `source` can be upgraded."""
        if not isinstance(source, Connection):
            raise LocalProtocolError(f"upgrade refused: {self.name} works on a Connection, not on {source!r}")

    async def handshake(self, wire: Wire) -> None:
        what = f"WebSocket handshake ({self.name})"
        with handshake_deadline(self._timeout, what):
            try:
                await self.talk(wire)
            except (UpgradeFailedError, UpgradeRefusedError):
                raise
            except (RemoteProtocolError, LimitExceededError, trio.BrokenResourceError) as exc:
                raise UpgradeFailedError(f"{what} failed: {exc}") from exc
        self._wire = wire

    async def talk(self, wire: Wire) -> None:
        """The handshake itself."""
        raise NotImplementedError

    def commit(self) -> WebSocket:
        assert self._wire is not None
        engine = Engine(client=self.client, max_message_size=self._max_size)
        return WebSocket(
            self._wire.detach(), engine, path=self._path, subprotocol=self._chosen, headers=self._peer_headers
        )


class _ServerRecipe(_Once):
    """Reads a request and accepts it."""

    name = "to_websocket_server"
    client = False
    _exchange: Exchange | None = None

    def check(self, source: Any) -> None:
        if isinstance(source, Exchange):
            self._exchange = source
        else:
            super().check(source)

    async def talk(self, wire: Wire) -> None:
        head = await self._read_request(wire) if self._exchange is None else self._exchange.head
        try:
            key = handshake.check_request(head)
            self._chosen = handshake.choose_subprotocol(head.headers, self._subprotocols)
        except handshake.NotAcceptableError as exc:
            await wire.send_all(self._refusal(exc.answer))  # noqa: ASYNC120 - a cancellation outranks the refusal
            raise UpgradeRefusedError(f"no acceptable WebSocket handshake: {exc}", exc.answer) from None
        self._path = handshake.resource_name(head.target)
        self._peer_headers = head.headers
        await wire.send_all(handshake.accept_response(key, self._chosen, self._extra))

    def _refusal(self, response: answer.Answer) -> bytes:
        """The bytes of a refusal; an exchange knows whether the connection goes on after it."""
        if self._exchange is None:
            return _wire_form(response)
        return self._exchange.refuse_upgrade(response.status, response.headers, response.body)

    async def _read_request(self, wire: Wire) -> RequestHead:
        """The request; one that is not HTTP, or has a body, is answered and fails the upgrade."""
        try:
            data = await wire.receive_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
            for _ in range(EMPTY_LINES // 2):
                if data == b"\r\n\r\n":
                    data = await wire.receive_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
            if not data:
                raise UpgradeFailedError(f"the client ended the connection before its request did{_shown(wire.unread)}")
            data = data.removeprefix(b"\r\n")
            head = parse_request(data)
            if handshake.has_body(head.headers):
                raise RemoteProtocolError("a WebSocket handshake has no body (Content-Length, Transfer-Encoding)")
        except LimitExceededError as exc:
            await _fail(wire, 431, f"the request head is longer than {MAX_HEAD} bytes", exc)
        except RemoteProtocolError as exc:
            await _fail(wire, exc.status_hint, str(exc), exc)
        return head


async def _fail(wire: Wire, status: int, text: str, cause: Exception) -> NoReturn:
    """Answer with an error, let the client read it, and fail the upgrade (RFC 9112 §9.6)."""
    await wire.send_all(_wire_form(handshake.refusal(status, text, [("Connection", "close")])))
    wire.unread.clear()
    size = 0
    with trio.move_on_after(LINGER_SECONDS), suppress(trio.BrokenResourceError):
        if wire.transport.can_half_close:
            await wire.transport.send_eof()
        while size < LINGER_BYTES and (data := await wire.receive_some()):
            size += len(data)
    raise UpgradeFailedError(f"the request was answered with {status}: {text}") from cause


def _wire_form(response: answer.Answer) -> bytes:
    return write_response(response.status, response.reason, response.headers) + response.body


class _ClientRecipe(_Once):
    """Sends a request and checks the answer."""

    name = "to_websocket_client"
    client = True

    def aim(self, secure: bool, host: str, target: str) -> None:
        """Where to."""
        self._secure = secure
        self._host = host
        self._path = target

    def check(self, source: Any) -> None:
        super().check(source)
        if source._leftover:
            raise LocalProtocolError(
                f"upgrade refused: {source!r} has unread bytes, but a WebSocket server must not speak first"
                f"{_shown(source._leftover)}. Receive them first if they belong to the protocol before"
            )
        if self._secure and source.tls is None:
            raise LocalProtocolError(
                f"upgrade refused: wss:// needs TLS, and {source!r} is not TLS; "
                f"upgrade it with to_tls_client({self._host!r}) first, or use ws://"
            )
        if not self._secure and source.tls is not None:
            raise LocalProtocolError(
                f"upgrade refused: {source!r} is TLS, so the URL must begin with wss://, not ws://"
            )

    async def talk(self, wire: Wire) -> None:
        key = handshake.new_key()
        await wire.send_all(handshake.request(self._path, self._host, key, self._subprotocols, self._extra))
        head = await answer.read_head(wire, "the server")
        if head.status != 101:
            await self._refused(wire, head)
        self._chosen = handshake.check_response(head, key, self._subprotocols)
        self._peer_headers = head.headers

    async def _refused(self, wire: Wire, head: ResponseHead) -> None:
        what = f"the server answered the WebSocket handshake with {head.status} {head.reason}".rstrip()
        body, usable = await answer.read_body(wire, head)
        refused = UpgradeRefusedError(what, answer.Answer(head.status, head.reason, head.headers, body))
        if usable:
            raise refused
        raise UpgradeFailedError(f"{what}, and ends the connection with it") from refused


def _shown(data: bytes | bytearray) -> str:
    return f": {bytes(data[:SHOWN])!r}{'...' if len(data) > SHOWN else ''}" if data else ""
