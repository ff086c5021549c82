"""Programs written for trio-websocket, run unchanged on both; and the ways between the two libraries.

`tw` is the module that a program uses: the real one, or trionet's in its place. What only trionet's does is below.
"""

from __future__ import annotations

import socket
import ssl
import struct
import textwrap
from functools import partial

import pytest
import trio
import trio.testing
import trio_websocket
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

import trionet
import trionet.interop.trio_websocket
from trionet import LocalProtocolError, Phase, Reason, to_http_server
from trionet.interop.trio_websocket import to_trio_websocket

from ..helpers.pairs import open_descriptors, tcp_sockets, unix_pair
from ..helpers.websockets_by_hand import REQUEST, receive_frame, text

# The real one leaves a socket to the garbage collector here and there.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

ours = trionet.interop.trio_websocket
HOST = "127.0.0.1"


async def serve(nursery, module, handler, **options):
    options.setdefault("ssl_context", None)
    return await nursery.start(partial(module.serve_websocket, handler, HOST, 0, **options))


async def echo(request):
    """The echo server of trio-websocket's README."""
    ws = await request.accept()
    while True:
        try:
            message = await ws.get_message()
            await ws.send_message(message)
        except trio_websocket.ConnectionClosed:
            break


def test_every_name_is_there():
    for name in vars(trio_websocket):
        if not name.startswith("_"):
            assert hasattr(ours, name), name
    for name in ("ConnectionClosed", "HandshakeError", "ConnectionRejected", "ConnectionTimeout", "CloseReason"):
        assert getattr(ours, name) is getattr(trio_websocket, name)
    assert ours.__version__ == trio_websocket.__version__
    assert issubclass(ours.WebSocketConnection, trionet.WebSocket)


# --- the examples of README and documentation -----------------------------------------------------------------------

README = """
    import trio

    log = []

    async def echo_server(request):
        ws = await request.accept()
        while True:
            try:
                message = await ws.get_message()
                await ws.send_message(message)
            except trio_websocket.ConnectionClosed:
                break
        log.append("server is done")

    async def client(port):
        try:
            async with trio_websocket.open_websocket_url(f"ws://127.0.0.1:{port}/foo") as ws:
                await ws.send_message("hello world!")
                message = await ws.get_message()
                log.append(f"Received message: {message}")
        except OSError as ose:
            log.append(f"Connection attempt failed: {ose}")

    async def main():
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                trio_websocket.serve_websocket, echo_server, "127.0.0.1", 0, None)
            await client(server.port)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
"""


@pytest.mark.parametrize("line", ["import trio_websocket", "from trionet.interop import trio_websocket"])
async def test_the_readme_with_another_import(line):
    namespace = {}
    exec(f"{line}\n{textwrap.dedent(README)}", namespace)
    with trio.fail_after(5):
        await namespace["main"]()
    assert namespace["log"] == ["Received message: hello world!", "server is done"]


async def test_client_and_server_of_either(tw, other, nursery):
    server = await serve(nursery, other, echo)
    async with tw.open_websocket(HOST, server.port, "/foo?bar=1", use_ssl=False) as ws:
        for message in ("ä€", b"\0\xff", "", "x" * 100_000):
            await ws.send_message(message)
            assert await ws.get_message() == message
        await ws.ping()
        await ws.ping(b"payload")
        await ws.pong(b"x")
        assert (ws.is_client, ws.is_server, ws.closed, ws.path) == (True, False, None, "/foo?bar=1")
        assert isinstance(ws.remote, tw.Endpoint)
        assert ws.remote.url == f"ws://{HOST}:{server.port}"
        assert str(ws).startswith("client-")
    assert (ws.closed.code, ws.closed.name, ws.closed.reason) == (1000, "NORMAL_CLOSURE", None)


async def test_with_tls(tw, other, nursery, server_context, client_context):
    server = await serve(nursery, other, echo, ssl_context=server_context)
    async with tw.open_websocket_url(f"wss://localhost:{server.port}/", client_context) as ws:
        await ws.send_message("secret")
        assert await ws.get_message() == "secret"
        assert ws.remote.is_ssl
        assert ws.remote.port == server.port


async def test_a_certificate_that_is_not_trusted(nursery, server_context):
    server = await serve(nursery, ours, echo, ssl_context=server_context)
    with pytest.raises(ours.HandshakeError, match="certificate"):
        async with ours.open_websocket_url(f"wss://localhost:{server.port}/"):
            pass


async def test_the_handshake_with_a_subprotocol(tw, other, nursery):
    seen = []

    async def handler(request):
        seen.append((request.path, request.proposed_subprotocols, dict(request.headers)[b"x-test"]))
        seen.append(type(request.local) is type(request.remote) is other.Endpoint)
        ws = await request.accept(subprotocol="chat", extra_headers=[(b"X-Answer", b"yes")])
        seen.append((ws.subprotocol, ws.is_server, ws.path))

    server = await serve(nursery, other, handler)
    async with tw.open_websocket(
        HOST, server.port, "/r", use_ssl=False, subprotocols=["news", "chat"], extra_headers=[(b"X-Test", b"1")]
    ) as ws:
        assert ws.subprotocol == "chat"
        assert ws.handshake_headers == ((b"x-answer", b"yes"),)
        with pytest.raises(tw.ConnectionClosed) as caught:
            await ws.get_message()
        assert caught.value.reason.code == 1000
    assert seen == [("/r", ("news", "chat"), b"1"), True, ("chat", True, "/r")]


async def test_a_handshake_that_is_rejected(tw, other, nursery):
    async def handler(request):
        await request.reject(403, extra_headers=[(b"X-Why", b"because")], body=b"go away")

    server = await serve(nursery, other, handler)
    with pytest.raises(tw.ConnectionRejected) as caught:
        async with tw.open_websocket(HOST, server.port, "/", use_ssl=False):
            pass
    assert (caught.value.status_code, caught.value.body) == (403, b"go away")
    assert (b"x-why", b"because") in [(name.lower(), value) for name, value in caught.value.headers]
    with pytest.raises((tw.ConnectionRejected, ExceptionGroup)):
        async with trio.open_nursery() as inner:
            await tw.connect_websocket(inner, HOST, server.port, "/", use_ssl=False)


async def test_nobody_listens(tw, nursery):
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(tw.HandshakeError) as caught:
        async with tw.open_websocket(HOST, port, "/", use_ssl=False):
            pass
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(OSError, match="."):
        await tw.connect_websocket_url(nursery, f"ws://{HOST}:{port}/")


async def test_timeouts_of_the_client(tw, nursery, autojump_clock):
    async def silent(stream):
        await trio.sleep(10)  # and then it hangs up: the real one waits for that, also when its time is over

    async def deaf(request):
        ws = await request.accept()
        await trio.sleep(100)
        assert await ws.get_message()

    listeners = await nursery.start(partial(trio.serve_tcp, silent, 0, host=HOST))
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(tw.ConnectionTimeout):
        async with tw.open_websocket(HOST, port, "/", use_ssl=False, connect_timeout=3):
            pass
    began = trio.current_time()
    server = await serve(nursery, tw, deaf, message_queue_size=0)
    with pytest.raises(tw.DisconnectionTimeout):
        async with tw.open_websocket(HOST, server.port, "/", use_ssl=False, disconnect_timeout=4) as ws:
            await ws.send_message("so that the server's queue is full, and nobody there reads the close")
            await wait_all_tasks_blocked()
    assert trio.current_time() == pytest.approx(began + 4)


async def test_timeouts_of_the_server(tw, nursery, autojump_clock):
    async def handler(request):
        raise AssertionError("there is no request")

    server = await serve(nursery, tw, handler, connect_timeout=5)
    stream = await trio.open_tcp_stream(HOST, server.port)
    assert await stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(5)
    await stream.aclose()


async def test_what_the_block_raises_leaves_as_it_is(tw, nursery):
    server = await serve(nursery, tw, echo)
    with pytest.raises(ZeroDivisionError):
        async with tw.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
            raise ZeroDivisionError
    assert ws.closed.code == 1000


async def test_an_exception_is_not_lost_to_a_cancellation(tw, nursery, autojump_clock):
    server = await serve(nursery, tw, echo)
    with pytest.raises(ZeroDivisionError), trio.move_on_after(1):
        async with tw.open_websocket(HOST, server.port, "/", use_ssl=False):
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError


async def test_arguments_that_cannot_be_right(tw, nursery):
    with pytest.raises(TypeError, match="`use_ssl` argument must be bool or ssl.SSLContext"):
        await tw.connect_websocket(nursery, HOST, 1, "/", use_ssl=1)
    with pytest.raises(ValueError, match='WebSocket URL scheme must be "ws:" or "wss:"'):
        tw.open_websocket_url("http://host.example/")
    with pytest.raises(ValueError, match="SSL context must be None for ws: URL scheme"):
        await tw.connect_websocket_url(nursery, "ws://host.example/", ssl.create_default_context())
    with pytest.raises(ValueError, match="URL host must not be None"):
        tw.open_websocket_url("ws:///path")
    with pytest.raises(ValueError, match="at least one"):
        tw.WebSocketServer(echo, [])


async def test_a_message_that_is_none(tw, nursery):
    server = await serve(nursery, tw, echo)
    async with tw.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
        with pytest.raises(ValueError, match="message must be str or bytes"):
            await ws.send_message(5)


async def test_the_reason_of_a_peer_writes_no_lines_of_a_log(nursery):
    async def handler(request):
        ws = await request.accept()
        await ws.aclose(4000, "bye\nERROR forged")

    server = await serve(nursery, trio_websocket, handler)
    ws = await ours.connect_websocket(nursery, HOST, server.port, "/", use_ssl=False)
    with pytest.raises(ours.ConnectionClosed) as caught:
        await ws.get_message()
    assert caught.value.reason.reason == "bye\nERROR forged"
    for shown in (str(caught.value), repr(caught.value), repr(ws.closed)):
        assert "reason=bye\\nERROR forged>" in shown
        assert "\n" not in shown


async def test_after_the_close_everything_raises(tw, other, nursery):
    closes = []

    async def handler(request):
        ws = await request.accept()
        with pytest.raises(other.ConnectionClosed) as caught:
            await ws.get_message()
        closes.append((caught.value.reason.code, caught.value.reason.reason))

    server = await serve(nursery, other, handler)
    async with tw.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
        await ws.aclose(code=1001, reason="going")
        assert (ws.closed.code, ws.closed.reason) == (1001, "going")
        for call in (ws.get_message, ws.ping, ws.pong, partial(ws.send_message, "x")):
            with pytest.raises(tw.ConnectionClosed):
                await call()
        await ws.aclose()
    await wait_all_tasks_blocked()
    assert closes == [(1001, "going")]


async def test_messages_that_came_before_the_close_can_be_read(tw, other, nursery):
    closed = trio.Event()

    async def handler(request):
        async with await request.accept() as ws:
            await ws.send_message("1")
            await ws.send_message("2")
        closed.set()

    server = await serve(nursery, other, handler)
    async with tw.open_websocket(HOST, server.port, "/", use_ssl=False, message_queue_size=2) as ws:
        await closed.wait()
        assert [await ws.get_message(), await ws.get_message()] == ["1", "2"]
        with pytest.raises(tw.ConnectionClosed):
            await ws.get_message()


async def test_a_message_that_is_too_big_closes(tw, other, nursery):
    server = await serve(nursery, other, echo)
    async with tw.open_websocket(HOST, server.port, "/", use_ssl=False, max_message_size=100) as ws:
        await ws.send_message(b"x" * 100)
        assert len(await ws.get_message()) == 100
        await ws.send_message(b"x" * 101)
        with pytest.raises(tw.ConnectionClosed) as caught:
            await ws.get_message()
        assert caught.value.reason.code == ws.closed.code == 1009


async def test_a_heartbeat_while_the_server_is_busy(tw, other, nursery, autojump_clock):
    """The documentation's recipe: nobody on either side receives, and pings are answered all the same."""

    async def busy(request):
        await request.accept()
        await trio.sleep(60)

    async def heartbeat(ws, timeout, interval):
        while True:
            with trio.fail_after(timeout):
                await ws.ping()
            beats.append(trio.current_time())
            await trio.sleep(interval)

    beats = []
    server = await serve(nursery, other, busy)
    async with tw.open_websocket(HOST, server.port, "/", use_ssl=False) as ws, trio.open_nursery() as inner:
        inner.start_soon(heartbeat, ws, 5, 7)
        with pytest.raises(tw.ConnectionClosed):
            await ws.get_message()
        inner.cancel_scope.cancel()
    assert len(beats) == 9


async def test_a_close_is_answered_while_nobody_receives(tw, other, nursery):
    async def handler(request):
        ws = await request.accept()
        await ws.aclose(1001, "enough")
        closed.set()

    closed = trio.Event()
    server = await serve(nursery, other, handler)
    ws = await tw.connect_websocket(nursery, HOST, server.port, "/", use_ssl=False)
    with trio.fail_after(5):
        await closed.wait()
    assert (ws.closed.code, ws.closed.reason) == (1001, "enough")
    with pytest.raises(tw.ConnectionClosed):
        await ws.send_message("x")


async def test_several_tasks_receive(tw, nursery):
    async def handler(request):
        ws = await request.accept()
        for number in range(6):
            await ws.send_message(str(number))
        await trio.sleep_forever()

    got = []

    async def receive(ws):
        for _ in range(2):
            got.append(await ws.get_message())

    server = await serve(nursery, tw, handler)
    async with tw.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
        with trio.fail_after(5):
            async with trio.open_nursery() as inner:
                for _ in range(3):
                    inner.start_soon(receive, ws)
        assert sorted(got) == list("012345")
        nursery.cancel_scope.cancel()


async def test_a_nursery_of_ones_own(tw, nursery):
    server = await serve(nursery, tw, echo)
    with trio.fail_after(5):
        async with trio.open_nursery() as own:
            ws = await tw.connect_websocket_url(own, f"ws://{HOST}:{server.port}/")
            await ws.send_message("x")
            assert await ws.get_message() == "x"
            await ws.aclose()
        # The task that belongs to the WebSocket has ended with it.


async def test_handlers_in_a_nursery_of_ones_own(tw, nursery):
    async with trio.open_nursery() as handlers:
        server = await serve(nursery, tw, echo, handler_nursery=handlers)
        async with tw.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
            await ws.send_message("x")
            assert await ws.get_message() == "x"
            assert len(handlers.child_tasks) == 1


async def test_streams_of_ones_own(tw, other, nursery):
    """A client and a server over memory streams."""
    client_stream, server_stream = memory_stream_pair()

    async def server():
        request = await other.wrap_server_stream(nursery, server_stream)
        assert isinstance(request.remote, str)
        assert request.remote.startswith("StapledStream(")
        async with await request.accept() as ws:
            await ws.send_message(await ws.get_message())
            with pytest.raises(other.ConnectionClosed):
                await ws.get_message()

    nursery.start_soon(server)
    with trio.fail_after(5):
        async with await tw.wrap_client_stream(nursery, client_stream, "host.example", "/x") as ws:
            assert isinstance(ws.local, str)
            await ws.send_message("over memory")
            assert await ws.get_message() == "over memory"
        await wait_all_tasks_blocked()


async def test_listeners_of_several_kinds(tw, nursery, server_context):
    tcp = await trio.open_tcp_listeners(0, host=HOST)
    tls = await trio.open_ssl_over_tcp_listeners(0, server_context, host=HOST)
    server = await nursery.start(tw.WebSocketServer(echo, [*tcp, *tls]).run)
    plain, secure = server.listeners
    assert (plain.url.partition(":")[0], secure.url.partition(":")[0]) == ("ws", "wss")
    with pytest.raises(RuntimeError, match="more than 1 listener"):
        _ = server.port
    async with tw.open_websocket(HOST, plain.port, "/", use_ssl=False) as ws:
        await ws.send_message("x")
        assert await ws.get_message() == "x"


async def test_a_listener_without_a_port(tw, nursery):
    class Listener(trio.abc.Listener):
        async def accept(self):
            await trio.sleep_forever()

        async def aclose(self):
            await trio.lowlevel.checkpoint()

    server = await nursery.start(tw.WebSocketServer(echo, [Listener()]).run)
    assert "Listener object" in server.listeners[0]
    with pytest.raises(RuntimeError, match="does not have a port"):
        _ = server.port


async def test_what_a_handler_raises_reaches_the_nursery(tw):
    async def handler(request):
        await request.accept()
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            server = await serve(nursery, tw, handler)
            async with tw.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
                with pytest.raises(tw.ConnectionClosed):
                    await ws.get_message()
                await trio.sleep_forever()


# --- what only trionet's does ---------------------------------------------------------------------------------------


async def test_a_handler_that_fails_closes_with_1011(nursery):
    async def handler(request):
        await request.accept()
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with trio.open_nursery() as inner:
            server = await serve(inner, ours, handler)
            ws = await ours.connect_websocket(nursery, HOST, server.port, "/", use_ssl=False)
            await trio.sleep_forever()
    await wait_all_tasks_blocked()
    assert ws.closed.code == 1011


async def test_a_handler_that_does_not_decide_answers_500(nursery):
    async def handler(request):
        pass

    server = await serve(nursery, ours, handler)
    with pytest.raises(ours.ConnectionRejected) as caught:
        async with ours.open_websocket(HOST, server.port, "/", use_ssl=False):
            pass
    assert caught.value.status_code == 500


async def test_a_subprotocol_that_was_not_proposed(nursery):
    async def handler(request):
        with pytest.raises(LocalProtocolError, match="'chat' was not proposed"):
            await request.accept(subprotocol="chat")
        await request.accept()
        with pytest.raises(LocalProtocolError):
            await request.reject(400)

    server = await serve(nursery, ours, handler)
    async with ours.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
        assert ws.subprotocol is None


async def test_fields_of_the_handshake_are_not_a_programs():
    client_stream, server_stream = memory_stream_pair()
    fields = [(b"Host", b"evil"), (b"SEC-WebSocket-Key", b"x"), (b"Connection", b"close"), (b"X-Mine", b"1")]

    async def server():
        request = await ours.wrap_server_stream(nursery, server_stream)
        assert [field for field in request.headers if field[0] in (b"host", b"x-mine", b"connection")] == [
            (b"connection", b"Upgrade"),
            (b"x-mine", b"1"),
        ]
        await request.accept(extra_headers=fields)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            ws = await ours.wrap_client_stream(nursery, client_stream, HOST, "/", extra_headers=fields)
            assert ws.handshake_headers == ((b"x-mine", b"1"),)
            nursery.cancel_scope.cancel()


async def test_a_stream_that_is_wrapped_belongs_to_the_websocket(nursery):
    client_stream, server_stream = memory_stream_pair()
    nursery.start_soon(ours.wrap_client_stream, nursery, client_stream, HOST, "/")
    request = await ours.wrap_server_stream(nursery, server_stream)
    with pytest.raises(trio.ClosedResourceError, match="adopted"):
        await server_stream.receive_some()
    await request.accept()


async def test_a_server_that_hangs_up(nursery):
    async def hang_up(stream):
        await stream.receive_some()

    listeners = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host=HOST))
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(ours.HandshakeError, match="instead of answering"):
        async with ours.open_websocket(HOST, port, "/", use_ssl=False):
            pass


async def test_requests_that_are_no_handshake_are_answered(nursery):
    server = await serve(nursery, ours, echo)
    url = f"http://{HOST}:{server.port}/"
    async with trionet.open_http_client() as client, client.request("GET", url) as response:
        assert (response.status, response.headers["upgrade"]) == (426, "websocket")
    stream = await trio.open_tcp_stream(HOST, server.port)
    await stream.send_all(REQUEST[:-2] + b"Content-Length: 3\r\n\r\nabc" + REQUEST + text("x"))
    received = b""
    while text("x", masked=False) not in received:
        received += await stream.receive_some()
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 101 " in received
    await stream.aclose()
    stream = await trio.open_tcp_stream(HOST, server.port)
    await stream.send_all(b"nonsense\r\n\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 400 ")
    await stream.aclose()


async def test_a_client_that_goes_away_before_its_request(nursery):
    client_stream, server_stream = memory_stream_pair()
    await client_stream.aclose()
    with pytest.raises(ours.HandshakeError, match="without a WebSocket handshake"):
        await ours.wrap_server_stream(nursery, server_stream)


async def test_tls_that_does_not_come_about_ends_its_connection_only(nursery, server_context, client_context):
    server = await serve(nursery, ours, echo, ssl_context=server_context)
    stream = await trio.open_tcp_stream(HOST, server.port)
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
    while await stream.receive_some():
        pass
    await stream.aclose()
    async with ours.open_websocket_url(f"wss://localhost:{server.port}/", client_context) as ws:
        await ws.send_message("x")
        assert await ws.get_message() == "x"


async def test_the_attendant_stops_when_enough_waits():
    """Two messages may wait with a queue of one, as in trio-websocket; what comes then stays with the peer."""
    client_stream, server_stream = memory_stream_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            clients = []

            async def connect():
                clients.append(await ours.wrap_client_stream(nursery, client_stream, HOST, "/"))

            nursery.start_soon(connect)
            request = await ours.wrap_server_stream(nursery, server_stream)
            ws = await request.accept()
            await wait_all_tasks_blocked()
            (client,) = clients
            for number in range(5):
                await ws.send_message(str(number))
                await wait_all_tasks_blocked()
            assert list(client._engine.reader.messages) == ["0", "1"]
            assert [await client.get_message() for _ in range(5)] == list("01234")
            nursery.cancel_scope.cancel()


async def test_a_client_that_resets_before_the_answer(nursery):
    one, other = tcp_sockets()
    one.setblocking(False)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.sendall(REQUEST)
    request = await ours.wrap_server_stream(nursery, trio.SocketStream(trio.socket.from_stdlib_socket(one)))
    other.close()
    with pytest.raises(ours.ConnectionClosed) as caught:
        await request.accept()
    assert caught.value.reason.code == 1006


@pytest.mark.parametrize("answer", [None, "accept", "reject"])
async def test_a_client_that_resets_before_the_answer_ends_no_server(answer, nursery):
    asked, gone = trio.Event(), trio.Event()

    async def handler(request):
        if asked.is_set():
            await request.accept()
            return
        asked.set()
        await gone.wait()
        if answer == "accept":
            with pytest.raises(ours.ConnectionClosed):
                await request.accept()
        elif answer == "reject":
            with pytest.raises(ours.ConnectionClosed):
                await request.reject(403)

    server = await serve(nursery, ours, handler)
    stream = await trio.open_tcp_stream(HOST, server.port)
    await stream.send_all(REQUEST)
    await asked.wait()
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()
    gone.set()
    async with ours.open_websocket(HOST, server.port, "/", use_ssl=False):
        pass


async def test_a_socket_that_has_no_port(nursery):
    one, other = socket.socketpair()
    one.setblocking(False)
    other.sendall(REQUEST)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(one))
    request = await ours.wrap_server_stream(nursery, stream)
    assert request.local == request.remote == repr(stream)
    await request.accept()
    other.close()


async def test_a_connection_that_fails_keeps_no_nursery(tw):
    """Nobody closes the WebSocket after the peer has reset the connection: its task ends all the same."""
    one, other = tcp_sockets()
    one.setblocking(False)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.sendall(REQUEST)
    with trio.fail_after(5):
        async with trio.open_nursery() as own:
            request = await tw.wrap_server_stream(own, trio.SocketStream(trio.socket.from_stdlib_socket(one)))
            ws = await request.accept()
            other.close()
    with pytest.raises(tw.ConnectionClosed):
        await ws.get_message()
    one.close()


async def test_nothing_stays_open(autojump_clock):
    before = open_descriptors()
    async with trio.open_nursery() as nursery:
        server = await serve(nursery, ours, echo)
        kept = [await ours.connect_websocket(nursery, HOST, server.port, "/", use_ssl=False) for _ in range(3)]
        with trio.move_on_after(1):
            async with ours.open_websocket(HOST, server.port, "/", use_ssl=False) as ws:
                await ws.get_message()
        nursery.cancel_scope.cancel()
    assert {ws.end.reason for ws in kept} <= {Reason.SCOPE_CANCELLED, Reason.ABORTED}
    assert open_descriptors() == before


# --- to the real one ------------------------------------------------------------------------------------------------


async def talk_as_real(stream, nursery):
    """The server's side of a conversation, on the real trio-websocket."""
    request = await stream.get_request(nursery)
    assert type(request) is trio_websocket.WebSocketRequest
    websocket = await request.accept()
    assert type(websocket) is trio_websocket.WebSocketConnection
    assert websocket.path == "/chat"
    assert await websocket.get_message() == "pipelined"
    await websocket.send_message("answer")
    return websocket


async def answered(other):
    head = await other.receive_until(b"\r\n\r\n", max_bytes=1000)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert await receive_frame(other) == (0x81, b"answer")


@pytest.mark.parametrize("peeked", [False, True])
async def test_a_connection_moves_to_the_real_one(peeked):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"LINE\r\n" + REQUEST + text("pipelined"))
        await one.receive_until(b"\r\n", max_bytes=100)
        if peeked:
            await one.peek(3)
        stream = await one.upgrade(to_trio_websocket())
        assert (one.phase, one.end.reason, one.end.successor) == (Phase.MOVED, Reason.UPGRADED, stream)
        with trio.fail_after(5):
            websocket = await talk_as_real(stream, scope.nursery)
            await answered(other)
            scope.start_soon(other.send_all, bytes.fromhex("888200000000 03e8".replace(" ", "")))
            await websocket.aclose()
        assert stream.end.reason is Reason.LOCAL


async def test_an_exchange_moves_to_the_real_one():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n" + REQUEST + text("pipelined"))
        http = await one.upgrade(to_http_server())
        with trio.fail_after(5):
            async for exchange in http:
                if exchange.wants_websocket:
                    stream = await exchange.upgrade(to_trio_websocket(max_message_size=100))
                    continue
                with pytest.raises(LocalProtocolError, match="does not ask for a WebSocket"):
                    await exchange.upgrade(to_trio_websocket())
                await exchange.respond(200, b"page")
            assert http.phase is Phase.MOVED
            assert http.end.successor is stream
            await talk_as_real(stream, scope.nursery)
            assert (await other.receive_until(b"page", max_bytes=1000)).startswith(b"HTTP/1.1 200 ")
            await answered(other)
        scope.cancel()


async def test_the_real_one_may_reject():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(REQUEST)
        stream = await one.upgrade(to_trio_websocket())
        with trio.fail_after(5):
            request = await stream.get_request(scope.nursery)
            await request.reject(403, body=b"no")
            assert (await other.receive_until(b"no", max_bytes=1000)).startswith(b"HTTP/1.1 403 ")
        scope.cancel()


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no acceptable WebSocket handshake"),
        (b"nonsense\r\n\r\n", "request"),
        (REQUEST[:50], "EOF|ended"),
    ],
)
async def test_a_request_that_the_real_one_would_hang_on(sent, says):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(sent)
        await other.send_eof()
        stream = await one.upgrade(to_trio_websocket())
        with pytest.raises(trionet.RemoteProtocolError, match=says):
            await stream.get_request(scope.nursery)
        with pytest.raises(LocalProtocolError, match="given its request already"):
            await stream.get_request(scope.nursery)


async def test_closed_instead_of_answered():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(REQUEST)
        stream = await one.upgrade(to_trio_websocket(receive_buffer_size=10))
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                request = await stream.get_request(nursery)
                await wait_all_tasks_blocked()
                await stream.aclose()
            # The task of trio-websocket's has ended.
            with pytest.raises(trio_websocket.ConnectionClosed):
                await request.accept()


async def test_cancelled_before_the_move_the_exchange_can_be_answered():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(REQUEST + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        http = await one.upgrade(to_http_server())
        exchange = await anext(http)
        recipe = to_trio_websocket()
        handshake = recipe.handshake

        async def cancelled_later(wire):
            await handshake(wire)
            cancelling.cancel()

        recipe.handshake = cancelled_later
        with trio.CancelScope() as cancelling:
            await exchange.upgrade(recipe)
        assert cancelling.cancelled_caught
        assert http.phase is Phase.OPEN
        await exchange.respond(200, b"not upgraded")
        assert (await anext(http)).target == "/next"
        scope.cancel()


async def test_the_recipe_is_for_one_connection_once():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        recipe = to_trio_websocket()
        await one.upgrade(recipe)
        with pytest.raises(LocalProtocolError, match="used before"):
            await other.upgrade(recipe)
        with pytest.raises(LocalProtocolError, match="works on a Connection or an Exchange"):
            to_trio_websocket().prepare(scope)
