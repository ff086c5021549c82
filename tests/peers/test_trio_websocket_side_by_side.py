"""The corners of trio-websocket's interface: the same calls on the real one and on trionet's in its place."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from functools import partial

import pytest
import trio
import wsproto.utilities
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

import trionet
import trionet.interop.trio_websocket as ours

from ..helpers.websockets_by_hand import REQUEST, text

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

HOST = "127.0.0.1"


async def echo(request):
    ws = await request.accept()
    try:
        while True:
            await ws.send_message(await ws.get_message())
    except (ours.ConnectionClosed, trio.ClosedResourceError):
        pass


async def serve(nursery, module, handler, **options):
    options.setdefault("ssl_context", None)
    return await nursery.start(partial(module.serve_websocket, handler, HOST, 0, **options))


async def receive_head(stream):
    """What has come up to the empty line, and what has come behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), rest


async def accepted(tw, nursery, request=REQUEST, **options):
    """A server's WebSocket over a memory stream, and the raw stream of its peer, which has the answer before it."""
    raw, stream = memory_stream_pair()
    await raw.send_all(request)
    ws = await (await tw.wrap_server_stream(nursery, stream, **options)).accept()
    await receive_head(raw)
    return ws, raw


async def receive_frame(stream):
    """The first byte and the payload of a short frame that a server has sent, with nothing behind it."""
    data = b""
    while len(data) < 2 or len(data) < 2 + data[1]:
        data += await stream.receive_some()
    assert len(data) == 2 + data[1] <= 127
    return data[0], data[2:]


# --- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [math.inf, 10.0**6, 2**70, 1])
@pytest.mark.parametrize("queue", [math.inf, 0, 1, 1000])
async def test_limits_that_may_be_given(tw, other, nursery, size, queue):
    options = {"max_message_size": size, "message_queue_size": queue, "receive_buffer_size": None}
    server = await serve(nursery, other, echo, **options, connect_timeout=math.inf, disconnect_timeout=math.inf)
    async with tw.open_websocket(
        HOST, server.port, "/", use_ssl=False, **options, connect_timeout=math.inf, disconnect_timeout=math.inf
    ) as ws:
        await ws.send_message("x")
        assert await ws.get_message() == "x"


async def test_no_limit_means_none(tw, other, nursery):
    big = b"x" * (2**21)
    server = await serve(nursery, other, echo, max_message_size=math.inf)
    async with tw.open_websocket_url(f"ws://{HOST}:{server.port}/", max_message_size=math.inf) as ws:
        await ws.send_message(big)
        assert await ws.get_message() == big


async def test_text_is_measured_in_characters(tw, nursery):
    """Ten characters of four bytes each, in one frame and in two; then eleven."""
    ws, raw = await accepted(tw, nursery, max_message_size=10)
    ten = "\N{GRINNING FACE}" * 10
    await raw.send_all(text(ten))
    assert await ws.get_message() == ten
    first = text(ten[:4])
    await raw.send_all(bytes([first[0] & 0x7F]) + first[1:])
    rest = text(ten[4:])
    await raw.send_all(bytes([rest[0] & 0xF0]) + rest[1:])
    assert await ws.get_message() == ten
    await raw.send_all(text("x" * 10))
    assert await ws.get_message() == "x" * 10
    await raw.send_all(text("é" * 11))
    with pytest.raises(tw.ConnectionClosed) as caught:
        await ws.get_message()
    assert caught.value.reason.code == 1009


async def test_bytes_are_measured_in_bytes(tw, nursery):
    """Also behind a longer text in the same segment."""
    ws, raw = await accepted(tw, nursery, max_message_size=10, message_queue_size=10)
    binary = text("x" * 11)
    await raw.send_all(text("é" * 10) + bytes([0x82]) + binary[1:])
    assert await ws.get_message() == "é" * 10
    with pytest.raises(tw.ConnectionClosed) as caught:
        await ws.get_message()
    assert caught.value.reason.code == 1009


# --- fields ---------------------------------------------------------------------------------------------------------


async def test_fields_of_str_and_of_bytes(tw, other, nursery):
    async def handler(request):
        seen.update(request.headers)
        await request.accept(extra_headers=[("X-Text", "a"), (b"X-Bytes", b"b")])

    seen = {}
    server = await serve(nursery, other, handler)
    fields = [("X-Text", "1"), (b"X-Bytes", b"2"), ("Authorization", b"Bearer x")]
    url = f"ws://{HOST}:{server.port}/"
    async with tw.open_websocket_url(url, extra_headers=fields) as ws:
        assert {(b"x-text", b"a"), (b"x-bytes", b"b")} <= set(ws.handshake_headers)
    assert (seen[b"x-text"], seen[b"x-bytes"], seen[b"authorization"]) == (b"1", b"2", b"Bearer x")
    ws = await tw.connect_websocket_url(nursery, url, extra_headers=fields)
    await ws.aclose()


async def test_the_fields_of_a_request(tw, nursery):
    raw, stream = memory_stream_pair()
    await raw.send_all(
        b"GET /a?b HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: x-nothing\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
    )
    request = await tw.wrap_server_stream(nursery, stream)
    assert request.headers == [
        (b"upgrade", b"WebSocket"),
        (b"connection", b"keep-alive, Upgrade"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
    ]
    await request.accept()
    nursery.cancel_scope.cancel()


async def test_a_subprotocol_among_the_fields_of_a_client(tw, nursery):
    raw, stream = memory_stream_pair()
    fields = [(b"Sec-WebSocket-Protocol", b"chat, news"), (b"Origin", b"http://a.example")]
    nursery.start_soon(
        partial(tw.wrap_client_stream, nursery, stream, "a", "/", subprotocols=["first"], extra_headers=fields)
    )
    head, _ = await receive_head(raw)
    offered = [line.partition(": ")[2] for line in head if line.lower().startswith("sec-websocket-protocol:")]
    assert ", ".join(offered) == "first, chat, news"
    assert "Origin: http://a.example" in head
    nursery.cancel_scope.cancel()


async def test_a_subprotocol_among_the_fields_of_an_answer(tw, nursery):
    raw, stream = memory_stream_pair()
    await raw.send_all(REQUEST[:-2] + b"Sec-WebSocket-Protocol: chat, news\r\n\r\n")
    request = await tw.wrap_server_stream(nursery, stream)
    await request.accept(extra_headers=[("Sec-WebSocket-Protocol", "news")])
    head, _ = await receive_head(raw)
    assert "Sec-WebSocket-Protocol: news" in head
    nursery.cancel_scope.cancel()


# --- decisions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["accept", "reject"])
async def test_decided_twice(tw, nursery, second):
    """Refused with the error that programs catch; the WebSocket goes on."""
    raw, stream = memory_stream_pair()
    await raw.send_all(REQUEST)
    request = await tw.wrap_server_stream(nursery, stream)
    ws = await request.accept()
    await receive_head(raw)
    with pytest.raises(wsproto.utilities.LocalProtocolError):
        await (request.accept() if second == "accept" else request.reject(400))
    await raw.send_all(text("x"))
    assert await ws.get_message() == "x"


async def test_a_subprotocol_that_was_not_proposed(tw, nursery):
    raw, stream = memory_stream_pair()
    await raw.send_all(REQUEST)
    request = await tw.wrap_server_stream(nursery, stream)
    with pytest.raises(wsproto.utilities.LocalProtocolError):
        await request.accept(subprotocol="chat")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [0, 5, 65_536, 65_537, 1_000_000])
async def test_the_body_of_a_refusal(tw, other, nursery, size):
    body = b"x" * size

    async def handler(request):
        await request.reject(403, body=body)

    server = await serve(nursery, other, handler)
    with pytest.raises(tw.ConnectionRejected) as caught:
        async with tw.open_websocket(HOST, server.port, "/", use_ssl=False):
            pass
    assert (caught.value.status_code, caught.value.body) == (403, body)


async def test_what_a_handler_raises_before_it_decides(tw):
    """It reaches the nursery, also where a client in the same nursery is the first to fail."""

    async def handler(request):
        raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            server = await serve(nursery, tw, handler)
            async with tw.open_websocket(HOST, server.port, "/", use_ssl=False):
                pass
    assert caught.value.subgroup(ZeroDivisionError) is not None


# --- the connection -------------------------------------------------------------------------------------------------


async def test_a_connection_takes_attributes(tw, nursery):
    ws, _ = await accepted(tw, nursery)
    ws.user = "me"
    assert ws.user == "me"
    assert ws.__dict__["user"] == "me"


async def test_connections_have_numbers(tw, nursery):
    one, _ = await accepted(tw, nursery)
    other, _ = await accepted(tw, nursery)
    number = next(tw.WebSocketConnection.CONNECTION_ID)
    assert (str(one), str(other)) == (f"server-{number - 2}", f"server-{number - 1}")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("x" * 123, b"x" * 123),
        ("x" * 124, b"x" * 123),
        ("é" * 62, "é".encode() * 61),
        ("x" + "é" * 61, b"x" + "é".encode() * 61),
        ("\N{GRINNING FACE}" * 31, "\N{GRINNING FACE}".encode() * 30),
        ("", b""),
        (None, b""),
    ],
    ids=range(7),
)
async def test_a_long_reason_is_cut_off(tw, nursery, reason, sent):
    ws, raw = await accepted(tw, nursery)
    nursery.start_soon(ws.aclose, 4000, reason)
    assert await receive_frame(raw) == (0x88, (4000).to_bytes(2, "big") + sent)
    nursery.cancel_scope.cancel()


async def test_a_code_that_cannot_be_sent_closes_all_the_same(tw, nursery):
    ws, raw = await accepted(tw, nursery)
    with pytest.raises(Exception, match="."):
        await ws.aclose(65536)
    assert await raw.receive_some() == b""
    with pytest.raises(tw.ConnectionClosed):
        await ws.send_message("x")


async def test_a_ping_waits_behind_messages_that_nobody_takes(tw, other, nursery):
    """The documented heartbeat at its defaults, while messages come faster than the program takes them."""

    async def handler(request):
        ws = await request.accept()
        for number in range(40):
            await ws.send_message(str(number) * 50_000)
        await trio.sleep_forever()

    async def ping(ws):
        await ws.ping()
        answered.set()

    server = await serve(nursery, other, handler)
    answered = trio.Event()
    ws = await tw.connect_websocket(nursery, HOST, server.port, "/", use_ssl=False)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as inner:
        inner.start_soon(ping, ws)
        await wait_all_tasks_blocked()
        assert not answered.is_set()
        for number in range(40):
            assert await ws.get_message() == str(number) * 50_000
        with trio.fail_after(5):
            await answered.wait()
    nursery.cancel_scope.cancel()


async def test_a_ping_that_waits_is_told_of_the_end(tw, nursery):
    ws, raw = await accepted(tw, nursery, message_queue_size=0)
    await raw.send_all(text("1") + text("2") + text("3"))
    await wait_all_tasks_blocked()

    async def ping():
        with pytest.raises(ours.ConnectionClosed):
            await ws.ping()

    async with trio.open_nursery() as inner:
        inner.start_soon(ping)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await ws.aclose()
        if tw is not ours:
            inner.cancel_scope.cancel()  # the real one leaves the ping waiting


async def test_the_text_of_an_error_names_the_reason(tw, nursery):
    ws, raw = await accepted(tw, nursery)
    await raw.send_all(bytes.fromhex("88800000 0000"))
    with pytest.raises(tw.ConnectionClosed) as caught:
        await ws.get_message()
    reason = "CloseReason<code=1005, name=NO_STATUS_RCVD, reason=None>"
    assert (str(caught.value), repr(caught.value)) == (reason, f"ConnectionClosed<{reason}>")
    assert caught.value.args == (caught.value.reason,)


@pytest.mark.parametrize("operation", ["get_message", "send_message", "ping", "pong"])
@pytest.mark.parametrize("how", ["closed", "vanished", "malformed"])
async def test_an_error_is_none_of_trios(tw, nursery, how, operation):
    """Programs catch Trio's errors around it for what they do with a message: a channel that was closed, a file."""
    ws, raw = await accepted(tw, nursery)
    match how:
        case "closed":
            await raw.send_all(bytes.fromhex("88800000 0000"))
        case "malformed":
            await raw.send_all(bytes.fromhex("83800000 0000"))
        case "vanished":
            await raw.aclose()
    await wait_all_tasks_blocked()
    with pytest.raises(tw.ConnectionClosed) as caught:
        await (ws.send_message("x") if operation == "send_message" else getattr(ws, operation)())
    assert not isinstance(caught.value, (trio.BrokenResourceError, trio.ClosedResourceError))
    assert type(caught.value) is tw.ConnectionClosed


async def test_iterating_ends_with_a_clean_close(nursery):
    """The real one cannot be iterated over."""
    for code, clean in (("03e8", True), ("03e9", True), ("03f3", False)):
        ws, raw = await accepted(ours, nursery)
        await raw.send_all(text("x") + bytes.fromhex(f"88820000 0000{code}"))
        got = []
        with nullcontext() if clean else pytest.raises(ours.ConnectionClosed):
            async for message in ws:
                got.append(message)
        assert got == ["x"]


async def test_the_logger_says_what_happens(tw, nursery, caplog):
    caplog.set_level(logging.DEBUG, "trio-websocket")
    server = await serve(nursery, tw, echo)
    async with tw.open_websocket(HOST, server.port, "/r", use_ssl=False):
        pass
    await wait_all_tasks_blocked()
    messages = [record.getMessage() for record in caplog.records if record.name == "trio-websocket"]
    assert f"Connecting to ws://{HOST}:{server.port}/r" in messages
    assert any(message.startswith("Listening on Endpoint(") for message in messages)
    assert any("client-" in message and "websocket closed" in message for message in messages)


def test_names_that_programs_import_from_inside(tw):
    impl = tw._impl
    for name in ("ConnectionClosed", "HandshakeError", "ConnectionRejected", "wrap_server_stream", "CloseReason"):
        assert getattr(impl, name) is getattr(tw, name)
    assert (impl.CONN_TIMEOUT, impl.MESSAGE_QUEUE_SIZE, impl.MAX_MESSAGE_SIZE) == (60, 1, 2**20)
    assert impl.RECEIVE_BYTES == 4096
    assert impl.logger is logging.getLogger("trio-websocket")
    assert impl._url_to_host("wss://a.example/b?c", None) == ("a.example", 443, "/b?c", True)


# --- what only trionet's does ---------------------------------------------------------------------------------------


WRONG = [
    ({"max_message_size": None}, TypeError, "max_message_size must be an int (math.inf: no limit), not None"),
    ({"max_message_size": 0}, ValueError, "max_message_size must be at least 1 (math.inf: no limit), not 0"),
    ({"max_message_size": math.nan}, TypeError, "max_message_size must be"),
    ({"message_queue_size": -1}, ValueError, "message_queue_size must be at least 0 (math.inf: no limit), not -1"),
    ({"message_queue_size": 1.5}, TypeError, "message_queue_size must be an int"),
    ({"connect_timeout": -1}, ValueError, "connect_timeout must be at least 0 seconds"),
    ({"disconnect_timeout": "5"}, TypeError, "disconnect_timeout must be a number of seconds"),
]


@pytest.mark.parametrize(("options", "error", "says"), WRONG)
async def test_arguments_are_refused_at_the_call(options, error, says):
    """Of a server, before it listens: the real one ends with its first client."""
    with pytest.raises(error) as caught:
        ours.open_websocket(HOST, 1, "/", use_ssl=False, **options)
    assert says in str(caught.value)
    with pytest.raises(error):
        ours.open_websocket_url("ws://a.example/", **options)
    with pytest.raises(error):
        await ours.serve_websocket(echo, HOST, 0, None, **options)
    with pytest.raises(error):
        ours.WebSocketServer(echo, [object()], **options)


async def test_a_handler_and_a_context_are_refused_at_the_call(client_context):
    coroutine = echo(None)
    for handler in (None, coroutine):
        with pytest.raises(TypeError, match="handler must be an async function"):
            await ours.serve_websocket(handler, HOST, 0, None)
        with pytest.raises(TypeError, match="handler must be an async function"):
            ours.WebSocketServer(handler, [object()])
    coroutine.close()
    with pytest.raises(TypeError, match=r"must be an ssl\.SSLContext"):
        await ours.serve_websocket(echo, HOST, 0, True)
    with pytest.raises(ValueError, match="is for the client side"):
        await ours.serve_websocket(echo, HOST, 0, client_context)


@pytest.mark.parametrize(("options", "error", "says"), [wrong for wrong in WRONG if "timeout" not in str(wrong[0])])
async def test_a_stream_is_as_it_was_when_an_argument_is_refused(nursery, options, error, says):
    one, other = memory_stream_pair()
    with pytest.raises(error):
        await ours.wrap_client_stream(nursery, one, "a", "/", **options)
    with pytest.raises(error):
        await ours.wrap_server_stream(nursery, one, **options)
    await other.send_all(b"x")
    assert await one.receive_some() == b"x"


async def test_fields_and_subprotocols_are_refused_at_the_call(nursery):
    one, other = memory_stream_pair()
    for options in ({"extra_headers": [("X", "a\r\nb")]}, {"subprotocols": ["a b"]}):
        with pytest.raises(ValueError, match="."):
            await ours.wrap_client_stream(nursery, one, "a", "/", **options)
        with pytest.raises(ValueError, match="."):
            ours.open_websocket_url("ws://a.example/", **options)
    await other.send_all(b"x")
    assert await one.receive_some() == b"x"


@pytest.mark.parametrize("code", [1005, 1006, 1015])
async def test_codes_that_no_frame_carries(nursery, code):
    """The real one sends 1000 instead; what such a code means is that none was sent."""
    ws, raw = await accepted(ours, nursery)
    nursery.start_soon(ws.aclose, code, "ignored")
    assert await receive_frame(raw) == (0x88, b"")
    await raw.send_all(bytes.fromhex("88800000 0000"))
    await ws.wait_ended()
    assert ws.closed.code == 1005


async def test_accepted_after_it_was_rejected(nursery):
    raw, stream = memory_stream_pair()
    await raw.send_all(REQUEST)
    request = await ours.wrap_server_stream(nursery, stream)
    await request.reject(403)
    for decide in (request.accept, partial(request.reject, 400)):
        with pytest.raises(trionet.LocalProtocolError, match="was answered with 403 before"):
            await decide()


async def test_two_subprotocols_are_chosen(nursery):
    raw, stream = memory_stream_pair()
    await raw.send_all(REQUEST[:-2] + b"Sec-WebSocket-Protocol: chat, news\r\n\r\n")
    request = await ours.wrap_server_stream(nursery, stream)
    with pytest.raises(trionet.LocalProtocolError, match="names several subprotocols"):
        await request.accept(subprotocol="chat", extra_headers=[("Sec-WebSocket-Protocol", "news")])
    await request.accept(subprotocol="chat", extra_headers=[("Sec-WebSocket-Protocol", "chat")])


async def test_what_a_handler_raises_while_it_is_cancelled():
    """Nothing can be answered any more; the exception reaches the nursery all the same. The real one loses it."""

    async def handler(request):
        nursery.cancel_scope.cancel()
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True), trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            server = await serve(nursery, ours, handler)
            async with await trio.open_tcp_stream(HOST, server.port) as stream:
                await stream.send_all(REQUEST)
                await trio.sleep_forever()
