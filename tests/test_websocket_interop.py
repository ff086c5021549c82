"""trionet against other WebSocket libraries, both ways: websockets (asyncio and threads) and trio-websocket."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio_websocket
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions
import websockets.sync.client

import trionet
from trionet import to_websocket_client, to_websocket_server

MESSAGES = ["", "ä€😀", b"\0\xff", "x" * 126, b"y" * 100_000]


async def echo(connection):
    websocket = await connection.upgrade(to_websocket_server(subprotocols=["chat"]))
    with suppress(trionet.ConnectionClosed):  # with 4000, which is no clean close
        async for message in websocket:
            await websocket.send_message(message)


async def with_server(talk):
    """`talk(url)` while trionet's echo server runs."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(trionet.serve_tcp, echo, 0, host="127.0.0.1"))
            await talk(f"ws://127.0.0.1:{server.port}/")
            report = await server.drain(5)
            assert report.clean
            nursery.cancel_scope.cancel()


async def test_the_asyncio_client_of_websockets():
    async def client(url):
        async with websockets.asyncio.client.connect(url, subprotocols=["chat"]) as websocket:
            for message in MESSAGES:
                await websocket.send(message)
                assert await websocket.recv() == message
            await websocket.send(["frag", "ments"])
            assert await websocket.recv() == "fragments"
            await (await websocket.ping())
            assert websocket.subprotocol == "chat"
        assert websocket.close_code == 1000

    await with_server(lambda url: trio.to_thread.run_sync(asyncio.run, client(url)))


async def test_the_threaded_client_of_websockets():
    def client(url):
        with websockets.sync.client.connect(url) as websocket:
            for message in MESSAGES:
                websocket.send(message)
                assert websocket.recv() == message
            websocket.ping().wait()
            websocket.close(4000, "done")
        assert (websocket.close_code, websocket.close_reason) == (4000, "done")

    await with_server(partial(trio.to_thread.run_sync, client))


async def test_trio_websockets_client():
    async def client(url):
        async with trio_websocket.open_websocket_url(url, subprotocols=["chat"]) as websocket:
            for message in MESSAGES:
                await websocket.send_message(message)
                assert await websocket.get_message() == message
            await websocket.ping()
            assert websocket.subprotocol == "chat"
        assert websocket.closed.code == 1000

    await with_server(client)


async def talk_to(port):
    """A client of trionet's talks to an echo server."""
    async with trionet.open_tcp("127.0.0.1", port) as connection:
        recipe = to_websocket_client(f"ws://127.0.0.1:{port}/path", subprotocols=["chat"])
        async with await connection.upgrade(recipe) as websocket:
            for message in MESSAGES:
                await websocket.send_message(message)
                assert await websocket.get_message() == message
            await websocket.ping()
            assert websocket.subprotocol == "chat"
            await websocket.aclose(3001, "over")
        assert (websocket.closed.code, websocket.closed.reason) == (3001, "over")
        assert websocket.end.reason is trionet.Reason.LOCAL


async def test_the_asyncio_server_of_websockets():
    async def echo(websocket):
        try:
            async for message in websocket:
                await websocket.send(message)
        except websockets.exceptions.ConnectionClosedError as exc:
            seen.append((exc.rcvd.code, exc.rcvd.reason))

    async def serve():
        async with websockets.asyncio.server.serve(
            echo, "127.0.0.1", 0, subprotocols=["chat"], compression=None
        ) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.to_thread(trio.from_thread.run, talk_to, port, trio_token=token)

    seen = []
    token = trio.lowlevel.current_trio_token()
    with trio.fail_after(20):
        await trio.to_thread.run_sync(asyncio.run, serve())
    assert seen == [(3001, "over")]


async def test_trio_websockets_server():
    async def echo(request):
        websocket = await request.accept(subprotocol="chat")
        try:
            while True:
                await websocket.send_message(await websocket.get_message())
        except trio_websocket.ConnectionClosed as exc:
            seen.append((exc.reason.code, exc.reason.reason))

    seen = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(trio_websocket.serve_websocket, echo, "127.0.0.1", 0, None))
            await talk_to(server.port)
            nursery.cancel_scope.cancel()
    assert seen == [(3001, "over")]


async def test_trio_websockets_server_refuses():
    async def refuse(request):
        await request.reject(403, body=b"no")

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(trio_websocket.serve_websocket, refuse, "127.0.0.1", 0, None))
            async with trionet.open_tcp("127.0.0.1", server.port) as connection:
                with pytest.raises((trionet.UpgradeRefusedError, trionet.UpgradeFailedError)) as caught:
                    await connection.upgrade(to_websocket_client("ws://127.0.0.1/"))
            refusal = caught.value if isinstance(caught.value, trionet.UpgradeRefusedError) else caught.value.__cause__
            assert (refusal.response.status, refusal.response.body) == (403, b"no")
            nursery.cancel_scope.cancel()
