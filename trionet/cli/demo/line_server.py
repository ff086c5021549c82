"""The server of the demonstration: lines, TLS, HTTP and WebSocket, all of it on one port.

It is written the way that a user of trionet would write it, and knows nothing about the demonstration. `sniff` tells
what a client begins with. What it may say in lines: ``CHAT name`` and then a WebSocket handshake; ``STARTTLS`` and then
a TLS handshake; ``ECHO text``; ``QUIT``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ... import LimitExceededError, sniff, to_http_server, to_tls_server, to_websocket_server

if TYPE_CHECKING:
    import ssl

    from ... import Connection, Exchange, WebSocket

__all__ = ["LineServer"]

MAX_LINE = 512
KNOWN = "CHAT name, STARTTLS, ECHO text, QUIT"
PAGE = """<!doctype html><meta charset="utf-8"><title>trionet</title>
<h1>One port</h1><p>This page came over HTTP. What you type comes back over a WebSocket on the same port.</p>
<input id="line" placeholder="type, and press Enter" autofocus><pre id="out"></pre>
<script>
const ws = new WebSocket(location.origin.replace("http", "ws") + "/");
const out = document.getElementById("out"), line = document.getElementById("line");
ws.onmessage = (event) => { out.textContent += event.data + "\\n"; };
line.onchange = () => { ws.send(line.value); line.value = ""; };
</script>
"""


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
        kind = await sniff(conn)
        if kind == "tls":
            conn = await conn.upgrade(to_tls_server(self._ssl_context))
            kind = await sniff(conn)
        if kind == "http":
            async for exchange in await conn.upgrade(to_http_server()):
                await _answer(exchange)
            return
        current: Connection | None = conn
        while current is not None and await current.peek(1):  # b"": the client has ended, between two lines
            current = await self._obey(current, await current.receive_until(b"\n", max_bytes=MAX_LINE))

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


async def _answer(exchange: Exchange) -> None:
    if exchange.wants_websocket:
        await _echo(await exchange.upgrade(to_websocket_server()))
    elif exchange.method == "POST":
        await exchange.respond(200, await exchange.read(max_bytes=65536))
    elif exchange.path == "/hello":
        await exchange.respond(200, "hello over HTTP\n")
    else:
        await exchange.respond(200, PAGE, headers=[("Content-Type", "text/html; charset=utf-8")])


async def _say(conn: Connection, line: str) -> None:
    await conn.send_all(line.encode() + b"\r\n")


async def _echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send_message(message)
