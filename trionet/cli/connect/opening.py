"""From the URL to a channel: connect, change to TLS, shake hands, and say who is there."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ... import to_tls_client
from ...support.texts import shown_address
from ..mistakes import Mistake
from .certificate import certificate_lines
from .channels import StreamChannel, WebSocketChannel
from .http_channel import HTTPChannel
from .starttls import DIALOGUES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ... import Connection, Handle, Scope
    from .channels import Channel
    from .options import Extras, Input, Security
    from .screen import Screen
    from .target import Whom

__all__ = ["Dialler"]


class Dialler:
    """What all ways to connect need to know.

    Raises:
        Mistake: a file or a field cannot be used.
    """

    def __init__(self, target: Whom, given: Input, security: Security, options: Extras, screen: Screen) -> None:
        self._target = target
        self._given = given
        self._security = security
        self._screen = screen
        self._headers = [_field(text) for text in options.header]
        self._subprotocols = options.subprotocol
        self._context = _context(security)

    @asynccontextmanager
    async def channel(self, scope: Scope) -> AsyncIterator[Channel]:
        """Connect; the channel lives as long as the block."""
        target = self._target
        if target.scheme in ("http", "https"):
            async with scope.open_http_client(
                ssl_context=self._context, headers=self._headers, follow_redirects=False
            ) as client:
                self._screen.note(f"requests go to {target.origin}")
                yield HTTPChannel(client, target, show_certificate=self._security.show_certificate)
        elif target.scheme in ("ws", "wss"):
            async with scope.open_websocket(
                target.url,
                ssl_context=self._context,
                subprotocols=self._subprotocols,
                extra_headers=self._headers,
                handshake_timeout=self._given.timeout,
            ) as ws:
                agreed = f", subprotocol {ws.subprotocol}" if ws.subprotocol else ""
                self._say_connected(ws, agreed)
                yield WebSocketChannel(ws, self._screen.note)
        else:
            conn = await self._connection(scope)
            self._say_connected(conn)
            yield StreamChannel(conn, self._given.eol)

    async def _connection(self, scope: Scope) -> Connection:
        target, security = self._target, self._security
        if target.scheme == "unix":
            return await scope.connect_unix(target.path)
        conn = await scope.connect_tcp(target.host, target.port)
        if security.starttls is not None:
            await DIALOGUES[security.starttls](conn)
        if target.secure or security.starttls is not None:
            recipe = to_tls_client(target.host, self._context, security.alpn, handshake_timeout=self._given.timeout)
            conn = await conn.upgrade(recipe)
        return conn

    def _say_connected(self, handle: Handle, more: str = "") -> None:
        tls = handle._transport.tls
        remote = self._target.path if self._target.scheme == "unix" else shown_address(handle.remote_address)
        self._screen.note(f"connected to {remote}{f', {tls.version}' if tls else ''}{more}")
        if self._security.show_certificate and tls is not None:
            for line in certificate_lines(tls):
                self._screen.note(line)


def _context(security: Security) -> ssl.SSLContext | None:
    """What the options say about trust; None for the system's."""
    if security.insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if security.cafile is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(security.cafile))
    except OSError as exc:  # ssl.SSLError is one
        reason = exc.strerror if not isinstance(exc, ssl.SSLError) and exc.strerror else "no certificates in PEM"
        raise Mistake(f"--cafile {security.cafile} cannot be used: {reason}") from exc


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Mistake(f"--header {text!r} is not a field: write 'Name: value'")
    return name.strip(), value.strip()
