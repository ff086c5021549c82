"""A stream that was wrapped can still be closed: that ends the WebSocket, as it does with trio-websocket.

Programs do it without thinking of it: ``async with stream``, `trio.serve_tcp` behind its handler, the listener of a
protocol that has nothing more to say.
"""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

import trionet.interop.trio_websocket as ours
from trionet import Phase

from ..helpers.pairs import Wrapped, tcp_sockets

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


class Slotted(trio.abc.Stream):
    """A stream of a program's own that takes no attributes."""

    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    async def receive_some(self, max_bytes=None):
        return await self.inner.receive_some(max_bytes)

    async def send_all(self, data):
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self):
        await self.inner.aclose()


def tcp_streams():
    pair = tcp_sockets()
    for sock in pair:
        sock.setblocking(False)
    return [trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in pair]


def stapled_streams():
    (one, other), (one_too, other_too) = tcp_streams(), tcp_streams()
    return trio.StapledStream(one, one_too), trio.StapledStream(other_too, other)


@pytest.fixture(params=["tcp", "memory", "tls", "stapled", "own", "slotted"])
def streams(request, server_context, client_context):
    """The client's and the server's side of a connection, with each kind of stream."""
    match request.param:
        case "tcp":
            return tcp_streams()
        case "memory":
            return memory_stream_pair()
        case "stapled":
            return stapled_streams()
        case "own":
            return [Wrapped(stream) for stream in tcp_streams()]
        case "slotted":
            return [Slotted(stream) for stream in tcp_streams()]
    client, server = tcp_streams()
    return (
        trio.SSLStream(client, client_context, server_hostname="localhost", https_compatible=True),
        trio.SSLStream(server, server_context, server_side=True, https_compatible=True),
    )


async def connect(tw, nursery, client_stream, server_stream, **options):
    """A WebSocket over both, each side's library `tw`, the client's side in `nursery`."""
    found = []

    async def accept():
        request = await tw.wrap_server_stream(nursery, server_stream)
        found.append(await request.accept())

    with trio.fail_after(5):
        async with trio.open_nursery() as both:
            both.start_soon(accept)
            client = await tw.wrap_client_stream(nursery, client_stream, "localhost", "/", **options)
    return client, found[0]


async def test_a_block_around_the_stream_ends_the_websocket(tw, streams):
    """``async with stream`` around the use of a WebSocket, inside the nursery that its task runs in."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            client_stream, server_stream = streams
            async with client_stream:
                client, server = await connect(tw, nursery, client_stream, server_stream)
                await client.send_message("x")
                assert await server.get_message() == "x"
            with pytest.raises(tw.ConnectionClosed) as caught:
                await client.send_message("y")
            assert caught.value.reason.code == client.closed.code == 1006
            with pytest.raises(tw.ConnectionClosed):
                await client.get_message()
            with pytest.raises(tw.ConnectionClosed) as caught:
                await server.get_message()
            assert caught.value.reason.code == 1006
            await client.aclose()
        # Both tasks have ended: nobody called aclose() on the server's side.


async def test_closing_the_stream_wakes_every_task(tw, streams, nursery):
    client, _ = await connect(tw, nursery, *streams)
    woken = []

    async def wait(name, operation):
        with pytest.raises(tw.ConnectionClosed):
            await operation()
        woken.append(name)

    with trio.fail_after(5):
        async with trio.open_nursery() as waiting:
            waiting.start_soon(wait, "get_message", client.get_message)
            waiting.start_soon(wait, "get_message too", client.get_message)
            await wait_all_tasks_blocked()
            await trio.aclose_forcefully(streams[0])
    assert sorted(woken) == ["get_message", "get_message too"]


async def test_what_had_arrived_can_be_read(tw, streams, nursery):
    client, server = await connect(tw, nursery, *streams)
    await server.send_message("1")
    await wait_all_tasks_blocked()
    await streams[0].aclose()
    assert await client.get_message() == "1"
    with pytest.raises(tw.ConnectionClosed):
        await client.get_message()


async def test_the_servers_stream_closed_behind_its_handler(tw, other):
    """`trio.serve_tcp` closes the stream when the handler returns, whatever its WebSocket's task does."""
    async with trio.open_nursery() as nursery:
        accepted = []

        async def handler(stream):
            request = await tw.wrap_server_stream(nursery, stream)
            accepted.append(await request.accept())

        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(5):
            async with other.open_websocket("127.0.0.1", port, "/", use_ssl=False) as client:
                with pytest.raises(other.ConnectionClosed) as caught:
                    await client.get_message()
                assert caught.value.reason.code == 1006
        await wait_all_tasks_blocked()
        assert accepted[0].closed.code == 1006
        nursery.cancel_scope.cancel()


async def test_closed_twice_and_behind_the_websocket(tw, streams, nursery):
    client, _ = await connect(tw, nursery, *streams)
    with trio.fail_after(5):
        await client.aclose()
        await streams[0].aclose()
        await trio.aclose_forcefully(streams[0])
    assert client.closed.code == 1000


async def test_a_half_that_is_closed_ends_both(tw, nursery):
    """The parts of a stapled stream are streams too, which their program may close."""
    client_stream, server_stream = memory_stream_pair()
    client, _ = await connect(tw, nursery, client_stream, server_stream)
    await client_stream.receive_stream.aclose()
    with trio.fail_after(5), pytest.raises(tw.ConnectionClosed):
        await client.get_message()


async def test_the_stream_under_tls_is_closed(tw, nursery, server_context, client_context):
    client_socket, server_socket = tcp_streams()
    client_stream = trio.SSLStream(client_socket, client_context, server_hostname="localhost", https_compatible=True)
    server_stream = trio.SSLStream(server_socket, server_context, server_side=True, https_compatible=True)
    client, _ = await connect(tw, nursery, client_stream, server_stream)
    await client_socket.aclose()
    with trio.fail_after(5), pytest.raises(tw.ConnectionClosed):
        await client.get_message()


# --- what only trionet's does ---------------------------------------------------------------------------------------


async def test_closed_while_the_handshake_waits(streams):
    """The real one waits for ever."""
    client_stream, server_stream = streams

    async def ask():
        with pytest.raises(ours.HandshakeError):
            await ours.wrap_client_stream(nursery, client_stream, "localhost", "/")

    async def serve():
        if isinstance(server_stream, trio.SSLStream):
            await server_stream.do_handshake()
        await wait_all_tasks_blocked()
        await client_stream.aclose()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(serve)


async def test_closed_before_the_request_is_decided(nursery):
    client_stream, server_stream = memory_stream_pair()

    async def ask():
        with pytest.raises(ours.HandshakeError):
            await ours.wrap_client_stream(nursery, client_stream, "localhost", "/")

    nursery.start_soon(ask)
    request = await ours.wrap_server_stream(nursery, server_stream)
    await server_stream.aclose()
    with pytest.raises(ours.ConnectionClosed) as caught:
        await request.accept()
    assert caught.value.reason.code == 1006


async def test_nothing_stays_open(streams):
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, streams[0], streams[1]:
            client, server = await connect(ours, nursery, *streams)
            await client.send_message("x")
    assert client.phase is server.phase is Phase.CLOSED
