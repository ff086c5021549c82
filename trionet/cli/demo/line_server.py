"""The server of the demonstration: a line protocol that can turn into TLS and WebSocket, all of it on one port.

It is written the way that a user of trionet would write it, and knows nothing about the demonstration. What a client
may say: ``CHAT name`` and then a WebSocket handshake; ``STARTTLS`` and then a TLS handshake; ``ECHO text``; ``QUIT``. A
client may also begin with TLS or with an HTTP request for a WebSocket: the first bytes tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ... import LimitExceededError, to_tls_server, to_websocket_server

if TYPE_CHECKING:
    import ssl

    from ... import Connection, WebSocket

__all__ = ["LineServer"]

TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446 §5.1)."""
MAX_LINE = 512
KNOWN = "CHAT name, STARTTLS, ECHO text, QUIT"


class LineServer:
    """Serves one connection at a time with `handle`; pass that to `trionet.serve_tcp`.

    Args:
        ssl_context: The certificate for STARTTLS and for clients that begin with TLS.
    """

    def __init__(self, ssl_context: ssl.SSLContext) -> None:
        self._ssl_context = ssl_context

    async def handle(self, conn: Connection) -> None:
        """Serve `conn` until the client has enough, breaks the protocol, or the server drains.

        Raises:
            HandleClosedError: the server drains while it waits for the client.

        Cancellation: ends the conversation; the connection's scope closes it.
        """
        try:
            await self._converse(conn)
        except (trio.BrokenResourceError, LimitExceededError):
            return  # the client's fault, or the network's: its connection is closed, no other is concerned

    async def _converse(self, conn: Connection) -> None:
        current: Connection | None = conn
        while current is not None:
            if current.tls is None and await _begins_with(current, TLS_HANDSHAKE):
                current = await current.upgrade(to_tls_server(self._ssl_context))
            elif await _begins_with(current, b"GET "):
                await _echo(await current.upgrade(to_websocket_server()))
                return
            elif await _begins_with(current, b""):
                current = await self._obey(current, await current.receive_until(b"\n", max_bytes=MAX_LINE))
            else:
                return  # the client has ended the connection, between two lines

    async def _obey(self, conn: Connection, line: bytes) -> Connection | None:
        """Do what `line` asks for: the connection to go on with, or None if there is nothing more to say."""
        command, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
        match command, argument:
            case "CHAT", name if name:
                await _say(conn, f"OK {name}")
                await _echo(await conn.upgrade(to_websocket_server()))
                return None
            case "STARTTLS", "" if conn.tls is None:
                await _say(conn, "OK begin TLS")
                return await conn.upgrade(to_tls_server(self._ssl_context))
            case "ECHO", text:
                await _say(conn, text)
            case "QUIT", "":
                await _say(conn, "BYE")
                return None
            case _:
                await _say(conn, f"ERR unknown here, try {KNOWN}")
        return conn


async def _begins_with(conn: Connection, prefix: bytes) -> bool:
    """Whether `prefix` comes next; False at EOF. Waits for no byte more than it takes to tell."""
    for size in range(1, max(1, len(prefix)) + 1):
        seen = await conn.peek(size)
        if len(seen) < size or not seen.startswith(prefix[:size]):
            return False
    return True


async def _say(conn: Connection, line: str) -> None:
    await conn.send_all(line.encode() + b"\r\n")


async def _echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send_message(message)
