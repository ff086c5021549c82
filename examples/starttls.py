"""STARTTLS: a line protocol that begins in plain text and goes on under TLS, server and client.

The certificate is made on the spot (``pip install trustme``); a real server loads its own.
"""

from __future__ import annotations

import ssl
from functools import partial

import trio
import trustme

import trionet
from trionet import Connection, to_tls_client, to_tls_server


async def handle(connection: Connection, context: ssl.SSLContext) -> None:
    """Answer lines, in plain text until the client asks for TLS."""
    while await connection.peek(1):  # empty when the client has ended the stream, between two lines
        line = await connection.receive_until(b"\r\n", max_bytes=512)
        if line == b"STARTTLS\r\n" and connection.tls is None:
            await connection.send_all(b"220 go ahead\r\n")
            connection = await connection.upgrade(to_tls_server(context))
        else:
            await connection.send_all(b"250 " + line)


async def talk(connection: Connection, context: ssl.SSLContext) -> None:
    """Ask for TLS, and say the rest under it."""
    await connection.send_all(b"STARTTLS\r\n")
    answer = await connection.receive_until(b"\r\n", max_bytes=512)
    if not answer.startswith(b"220"):
        raise SystemExit(f"the server has no TLS: {answer!r}")
    secure = await connection.upgrade(to_tls_client("localhost", ssl_context=context))
    assert secure.tls is not None
    await secure.send_all(b"a secret\r\n")
    print(secure.tls.version, await secure.receive_until(b"\r\n", max_bytes=512))


async def main() -> None:
    """The server, and one client."""
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_tcp, partial(handle, context=server_context), 0)
        async with trionet.open_tcp("localhost", server.port) as connection:
            await talk(connection, client_context)
        print(await server.drain(5))


if __name__ == "__main__":
    trio.run(main)
