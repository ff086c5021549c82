"""The recipes that put TLS on a connection and take it off again.

They carry the handshake out on a `TLSEngine`, through the wire; moving bytes through what comes of it is the business
of `trionet.transport.tls`.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import trio

from ..connection import Connection
from ..errors import LocalProtocolError, RemoteProtocolError, UpgradeFailedError
from ..own_recipe import OwnRecipe
from ..support.checks import check_kind
from ..support.texts import amount, printable
from ..transport.protocol import MAX_RECEIVE
from ..transport.tls.engine import TLSEngine
from ..transport.tls.transport import TLSTransport
from ..transport.tls_info import reason_of
from .arguments import check_alpn, check_context, check_hostname, default_context
from .client_hello import MAX_HELLO, is_whole, server_name_of
from .first_bytes import HEAD, UNRECOGNIZED_NAME, check_first, server_spoke_first
from .server_contexts import ContextChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..handle import Handle
    from ..handle.detached import Detached
    from ..handle.recipe import Recipe
    from ..handle.wire import Wire
    from .server_contexts import ServerContexts

__all__ = ["tls_server_recipe", "to_plaintext", "to_tls_client", "to_tls_server"]

AnyHandle = TypeVar("AnyHandle", bound="Handle")


def to_tls_client(
    server_hostname: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    alpn: Sequence[str] = (),
    *,
    session: ssl.SSLSession | None = None,
    handshake_timeout: float = 10.0,
) -> Recipe[Connection]:
    """Upgrade a `Connection` to TLS, as the client. The result is used once, in ``await conn.upgrade(...)``.

    The successor is a `Connection` whose `Connection.tls` tells what was agreed.

    Args:
        server_hostname: The server's name or IP address. The certificate is verified against it, and it is sent to the
            server (SNI). Names outside of ASCII are encoded by IDNA 2008 (with UTS #46); a trailing dot is dropped.
        ssl_context: By default one that verifies with the system's trust store.
        alpn: Application protocols to offer, best first. Set on `ssl_context` where both are given, from where it also
            affects later handshakes with that context that do not give `alpn`.
        session: An earlier connection's `TLSInfo.session`, made with the same context: the handshake resumes it if the
            server still knows it (`TLSInfo.session_reused`). FTPS servers ask for that of their data connections.
        handshake_timeout: Seconds, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right, such as no `server_hostname` while names are verified.

    Raises (in the upgrade):
        UpgradeFailedError: the handshake failed, timed out, or the server's certificate or name is wrong: the message
            has OpenSSL's reason and the name. The server gets the alert, and the connection is CLOSED.
            Where the first bytes from the server are not TLS, the message says so first.
        PlaintextInjectionError: there are bytes that the server, or somebody in between, must have sent before TLS
            began: unread ones, or in the socket. They are dropped, and the handle is CLOSED.
        LocalProtocolError: the recipe was used before, or the source is not a `Connection`.

    Cancellation: before the first byte was sent the handle is OPEN again; afterwards it is CLOSED (`UPGRADE_FAILED`).

    Source: RFC 8446, RFC 5246; RFC 6066 §3 (server name), RFC 7301 (ALPN), RFC 9525 (name check).
    """
    protocols = check_alpn(alpn)
    if ssl_context is None:
        context = default_context(protocols)
    else:
        context = check_context(ssl_context, ssl.PROTOCOL_TLS_SERVER, "to_tls_client", "ssl.create_default_context()")
        if protocols:
            context.set_alpn_protocols(list(protocols))
    name = check_hostname(server_hostname, context)
    if session is not None:
        check_kind("session", session, ssl.SSLSession, "an ssl.SSLSession, as conn.tls.session gives it")
    return _TLSRecipe(context, name, handshake_timeout, Connection, session=session)


def to_tls_server(ssl_context: ServerContexts, *, handshake_timeout: float = 10.0) -> Recipe[Connection]:
    """Upgrade a `Connection` to TLS, as the server. The result is used once, in ``await conn.upgrade(...)``.

    Bytes that were received before and not consumed are the beginning of the handshake: a ClientHello may stand in the
    same segment as, say, a PROXY protocol line.

    Args:
        ssl_context: A server context with a certificate chain; ALPN and client certificates are set on it. Or a mapping
            from the names that clients ask for (SNI) to contexts: ``host.example``, ``*.example`` (one label, RFC 9525
            §6.3), ``*`` for all others and for clients that ask for none. Or a function from the name, or None, to the
            context. A client whose name has none gets the alert unrecognized_name.
        handshake_timeout: Seconds, more than 0; `math.inf` for no limit.

    Raises (here):
        ValueError, TypeError: an argument cannot be right, such as a client's context.

    Raises (in the upgrade):
        PlaintextInjectionError: what came first is not a ClientHello, for instance plaintext that somebody sent behind
            a STARTTLS command. The bytes are dropped, and the handle is CLOSED.
        UpgradeFailedError: the handshake failed or timed out. The handle is CLOSED, or OPEN if nothing had been sent.
        LocalProtocolError: the recipe was used before, or the source is not a `Connection`.

    Cancellation: before the first byte was sent the handle is OPEN again, what was received is unread; afterwards it
    is CLOSED (`UPGRADE_FAILED`).

    Source: RFC 8446, RFC 5246; RFC 3207 §6 (what STARTTLS must not let through).
    """
    return tls_server_recipe(ssl_context, handshake_timeout, Connection)


def tls_server_recipe(
    ssl_context: ServerContexts, handshake_timeout: float, make: Callable[[Detached], AnyHandle]
) -> Recipe[AnyHandle]:
    """As `to_tls_server`, for what `make` makes of the connection: another protocol that speaks TLS from its start."""
    return _TLSRecipe(ContextChoice(ssl_context), None, handshake_timeout, make, server_side=True)


def to_plaintext(*, handshake_timeout: float = 10.0) -> Recipe[Connection]:
    """Take TLS off a connection: what was under it goes on as a plain `Connection`. Used once, in an upgrade.

    Both sides must want it, as for FTP's CCC command (RFC 4217 §12.3): each sends close_notify and waits for the
    other's. Bytes behind the peer's close_notify are unread bytes of the successor.

    Args:
        handshake_timeout: Seconds to wait for the peer's close_notify, more than 0; `math.inf` for no limit.

    Raises (in the upgrade):
        LocalProtocolError: the source is not TLS, has decrypted bytes that nobody has received, or the recipe was used
            before; nothing has changed.
        UpgradeFailedError: the peer sent more data, or nothing in time, or went away. The handle is CLOSED.

    Cancellation: before close_notify was sent the handle is OPEN again; afterwards it is CLOSED (`UPGRADE_FAILED`).

    Source: RFC 8446 §6.1, RFC 5246 §7.2.1.
    """
    return _PlainRecipe(handshake_timeout)


class _TLSRecipe(OwnRecipe[AnyHandle]):
    """Puts TLS on a connection; the same for both sides, up to what may come first."""

    def __init__(
        self,
        context: ssl.SSLContext | ContextChoice,
        server_hostname: str | None,
        timeout: float,
        make: Callable[[Detached], AnyHandle],
        *,
        server_side: bool = False,
        session: ssl.SSLSession | None = None,
    ) -> None:
        peer = "the client" if server_side else server_hostname or "the server"
        self.limit_time(timeout, f"TLS handshake with {peer}")
        self.name = "to_tls_server" if server_side else "to_tls_client"
        self._server_side = server_side
        self._make = make
        self._choice = context if isinstance(context, ContextChoice) else None
        self._engine: TLSEngine | None = None
        only = context.only if isinstance(context, ContextChoice) else context
        if only is not None:
            self._engine = self._new_engine(only, server_hostname, session)

    def _new_engine(
        self, context: ssl.SSLContext, server_hostname: str | None, session: ssl.SSLSession | None
    ) -> TLSEngine:
        # Made here, so that a name or context OpenSSL does not like is an error of this call, and so that a later
        # recipe which sets its ALPN on the same context does not change this one's.
        try:
            return TLSEngine(context, server_side=self._server_side, server_hostname=server_hostname, session=session)
        except ValueError as exc:
            if session is None:
                raise
            raise ValueError(
                f"session cannot be resumed with this ssl_context: {str(exc).rstrip('.')}; "
                f"give the context that it was made with"
            ) from exc

    def check(self, source: Connection) -> None:
        if source._leftover and not self._server_side:
            raise server_spoke_first(source._leftover)

    async def talk(self, wire: Wire) -> None:
        engine = await self._chosen_engine(wire) if self._engine is None else self._engine
        try:
            await self._shake_hands(wire, engine)
        except ssl.SSLError as exc:
            with suppress(trio.BrokenResourceError):
                # The alert, so that the peer learns why.
                await _flush(wire, engine)  # noqa: ASYNC120 - a cancellation outranks the error, which stays its context
            raise UpgradeFailedError(f"{self.what} failed: {reason_of(exc)}") from exc
        wire.transport = TLSTransport(wire.transport, engine)

    async def _chosen_engine(self, wire: Wire) -> TLSEngine:
        """For the name in the ClientHello, which stays unread."""
        assert self._choice is not None
        first = b""
        while not is_whole(first) and len(first) < MAX_HELLO:
            data = await wire.receive_some()
            if not data:
                raise RemoteProtocolError("the peer ended the connection in the middle of it") from EOFError()
            first += data
            check_first(first, from_client=True)
        wire._put_back(first)
        name = server_name_of(first)
        context = self._choice.choose(name)
        if context is None:
            await wire.send_all(UNRECOGNIZED_NAME)
            asked = "no name" if name is None else f"the name {printable(name)[:255]!r}"
            raise UpgradeFailedError(f"{self.what} failed: the client asks for {asked}, for which there is no context")
        return self._new_engine(context, None, None)

    def make(self, capsule: Detached) -> AnyHandle:
        return self._make(capsule)

    async def _shake_hands(self, wire: Wire, engine: TLSEngine) -> None:
        first = bytearray()
        if not self._server_side and (early := wire.receive_nowait()):
            raise server_spoke_first(early)
        while not engine.advance():
            await _flush(wire, engine)
            data = await wire.receive_some()
            if not data:
                raise RemoteProtocolError("the peer ended the connection in the middle of it") from EOFError()
            if len(first) < HEAD or (self._server_side and engine.server_name is None and len(first) < MAX_HELLO):
                first += data
                check_first(first, self._server_side)
                if self._server_side:
                    engine.server_name = server_name_of(bytes(first))
            engine.feed(data)
        await _flush(wire, engine)  # the last flight, and a TLS 1.3 server's session tickets


async def _flush(wire: Wire, engine: TLSEngine) -> None:
    if output := engine.take_output():
        await wire.send_all(output)


class _PlainRecipe(OwnRecipe[Connection]):
    """Takes TLS off a connection."""

    name = "to_plaintext"

    def __init__(self, timeout: float) -> None:
        self.limit_time(timeout, "the exchange of TLS close_notify")

    def check(self, source: Connection) -> None:
        tls = source._transport
        if not isinstance(tls, TLSTransport):
            raise LocalProtocolError(f"upgrade refused: {source!r} is not TLS; it is plain already, use it as it is")
        if unread := len(source._leftover) + tls.unread_plaintext():
            raise LocalProtocolError(
                f"upgrade refused: {source!r} has {amount(unread, 'unread byte')} that came over TLS; "
                f"receive what is there first"
            )

    async def talk(self, wire: Wire) -> None:
        tls = wire.transport
        assert isinstance(tls, TLSTransport)
        wire._waited = True
        try:
            await tls.send_eof()
        except trio.BrokenResourceError as exc:
            wire.failure = exc
            raise
        finally:
            wire.sent = tls.engine.notified
        if data := await tls.receive_some(MAX_RECEIVE):
            raise UpgradeFailedError(
                f"{self.what} failed: the peer went on sending over TLS (at least {amount(len(data), 'byte')})"
            )
        wire.transport = tls.lower
        wire.unread += tls.take_trailing()

    def make(self, capsule: Detached) -> Connection:
        return Connection(capsule)
