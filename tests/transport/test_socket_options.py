"""Socket options, wherever a socket is made: they reach it; what cannot be one is refused before there is a socket."""

from __future__ import annotations

import socket

import pytest

import trionet

from ..helpers.pairs import open_descriptors

KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
UNKNOWN = (socket.SOL_SOCKET, 9999, 1)


def kept_alive(handle):
    return handle.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def answer(exchange):
    await exchange.respond(200, str(kept_alive(exchange.connection)))


async def echo(conn):
    ws = await conn.upgrade(trionet.to_websocket_server())
    async for message in ws:
        await ws.send_message(message)


async def test_a_clients_connections_have_them(nursery, tmp_path):
    server = await nursery.start(trionet.serve_tcp, echo, 0)
    await nursery.start(trionet.serve_unix, echo, tmp_path / "socket")
    async with trionet.open_scope() as scope:
        assert kept_alive(await scope.connect_tcp("127.0.0.1", server.port, socket_options=[KEEPALIVE]))
        assert not kept_alive(await scope.connect_tcp("127.0.0.1", server.port))
        assert kept_alive(await scope.connect_unix(tmp_path / "socket", socket_options=(KEEPALIVE,)))
        scope.cancel()
    async with trionet.open_tcp("127.0.0.1", server.port, socket_options=[KEEPALIVE]) as conn:
        assert kept_alive(conn)
    async with trionet.open_unix(tmp_path / "socket", socket_options=[KEEPALIVE]) as conn:
        assert kept_alive(conn)
    async with trionet.open_websocket(f"ws://127.0.0.1:{server.port}/", socket_options=[KEEPALIVE]) as ws:
        assert kept_alive(ws)
    nursery.cancel_scope.cancel()


async def test_an_http_clients_connections_have_them(nursery):
    server = await nursery.start(trionet.serve_http, answer, 0)
    url = f"http://127.0.0.1:{server.port}/"
    async with (
        trionet.open_http_client(socket_options=[KEEPALIVE]) as client,
        client.request("GET", url, keep_connection=True) as response,
    ):
        assert kept_alive(response.connection)
    nursery.cancel_scope.cancel()


async def test_a_servers_connections_inherit_them(nursery, tmp_path):
    for expected, options in (("True", [KEEPALIVE]), ("False", [])):
        async with trionet.open_scope() as scope:
            one = await scope.start(_serve_http, options)
            async with scope.open_http_client() as client, client.request("GET", f"http://127.0.0.1:{one.port}") as it:
                assert await it.read() == expected.encode()
            scope.cancel()
    server = await nursery.start(_serve_unix, tmp_path / "socket")
    assert server.listeners[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    nursery.cancel_scope.cancel()


async def _serve_http(options, *, task_status):
    await trionet.serve_http(answer, 0, host="127.0.0.1", socket_options=options, task_status=task_status)


async def _serve_unix(path, *, task_status):
    await trionet.serve_unix(echo, path, socket_options=[KEEPALIVE], task_status=task_status)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (5, r"socket_options must be a list of \(level, option, value\), not 5"),
        (KEEPALIVE, r"must be a list of .*; write \[\(1, 9, 1\)\]"),
        ([(1, 9)], r"must be a list of .*, not of \(1, 9\)"),
        ([(1, 9, "1")], r"must be a list of .*, not of \(1, 9, '1'\)"),
    ],
)
async def test_what_is_no_option_is_refused_before_there_is_a_socket(options, text, tmp_path):
    before = open_descriptors()
    async with trionet.open_scope() as scope:
        for refused in (
            lambda: scope.connect_tcp("127.0.0.1", 1, socket_options=options),
            lambda: scope.connect_unix("/nowhere", socket_options=options),
            lambda: trionet.serve_tcp(echo, 0, socket_options=options),
            lambda: trionet.serve_unix(echo, tmp_path / "socket", socket_options=options),
        ):
            with pytest.raises(TypeError, match=text):
                await refused()
    with pytest.raises(TypeError, match=text):
        async with trionet.open_http_client(socket_options=options):
            pass
    assert open_descriptors() == before


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="an option of Unix")
async def test_an_option_that_would_come_too_late_is_refused_and_works_on_a_listener_of_ones_own(nursery, tmp_path):
    option = (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    before = open_descriptors()
    with pytest.raises(ValueError, match=r"SO_REUSEPORT has to be set before.* trionet.serve\(handler, \[listener\]\)"):
        await trionet.serve_tcp(echo, 0, socket_options=[KEEPALIVE, option])
    with pytest.raises(ValueError, match="SO_REUSEPORT has to be set before"):
        await trionet.serve_unix(echo, tmp_path / "socket", socket_options=[option])
    assert open_descriptors() == before
    port = 0
    for _ in range(2):
        listener = socket.create_server(("127.0.0.1", port), reuse_port=True)
        port = listener.getsockname()[1]
        assert (await nursery.start(trionet.serve, echo, [listener])).port == port
    nursery.cancel_scope.cancel()


async def test_what_the_system_refuses_leaves_nothing_open(tmp_path):
    before = open_descriptors()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trionet.open_scope() as scope:
            with pytest.raises(OSError, match=r"socket option \(1, 9999, 1\) refused: Protocol not available"):
                await scope.connect_tcp(*listener.getsockname(), socket_options=[UNKNOWN])
    with pytest.raises(OSError, match="refused"):
        await trionet.serve_tcp(echo, 0, socket_options=[KEEPALIVE, UNKNOWN])
    with pytest.raises(OSError, match="refused"):
        await trionet.serve_unix(echo, tmp_path / "socket", socket_options=[UNKNOWN])
    assert not (tmp_path / "socket").exists()
    assert open_descriptors() == before
