"""The opening handshake: what is accepted, what is refused and how, and what is left after each."""

import re

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import (
    LocalProtocolError,
    Phase,
    Reason,
    UpgradeFailedError,
    UpgradeRefusedError,
    to_tls_client,
    to_tls_server,
    to_websocket_client,
    to_websocket_server,
)

from ...helpers.pairs import PAIRS, memory_pair, receive_all, tcp_pair, unix_pair
from ...helpers.websockets_by_hand import (
    KEY,
    REQUEST,
    answer_by_hand,
    both,
    client_by_hand,
    receive_frame,
    server_by_hand,
    text,
    two_websockets,
)
from ...stories.test_cancel_everywhere import at_every_checkpoint, owned_once

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


@every_pair
async def test_both_sides_move_and_talk(make_pair):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = make_pair(scope)
        server, client = await two_websockets(one, other)
        assert one.phase is other.phase is Phase.MOVED
        assert one.end.successor is server
        assert set(scope.handles) == {server, client}
        await client.send_message("Grüße")
        assert await server.get_message() == "Grüße"
        await server.send_message(b"\0\xff")
        assert await client.get_message() == b"\0\xff"
        assert server.path == client.path == "/chat"
        assert (b"host", b"example") in server.handshake_headers
        assert (server.is_server, server.is_client, client.is_client) == (True, False, True)
        assert server.closed is None


async def test_frames_behind_the_request_are_the_first_messages():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, behind=text("one") + text("two") + text("three")[:5])
        assert [await server.get_message(), await server.get_message()] == ["one", "two"]
        with trio.move_on_after(0) as timeout:
            await server.get_message()
        assert timeout.cancelled_caught


async def test_a_request_that_was_peeked_at_is_wire_input():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"LINE\r\n" + REQUEST + text("x"))
        assert await one.receive_until(b"\r\n", max_bytes=10) == b"LINE\r\n"
        assert await one.peek(3) == b"GET"
        server = await one.upgrade(to_websocket_server())
        assert await server.get_message() == "x"


async def test_frames_behind_the_answer_are_the_first_messages():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        client = await client_by_hand(one, other, behind=text("one", masked=False) + text("two", masked=False))
        assert [await client.get_message(), await client.get_message()] == ["one", "two"]


async def test_what_the_client_asks_for():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        recipe = to_websocket_client(
            "ws://us%40er:pass@bücher.example:8080/a b/?q=ü".replace(" ", "%20"),
            subprotocols=["chat", "superchat"],
            extra_headers={"Origin": "http://x"},
        )
        client, request = await both(
            lambda: one.upgrade(recipe), lambda: answer_by_hand(other, extra=b"Sec-WebSocket-Protocol: superchat\r\n")
        )
        fields = dict(request.headers.items())
        key = fields.pop("Sec-WebSocket-Key")
        assert len(key) == 24
        assert fields == {
            "Host": "xn--bcher-kva.example:8080",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "chat, superchat",
            "Authorization": "Basic dXNAZXI6cGFzcw==",
            "Origin": "http://x",
        }
        assert request.target == client.path == "/a%20b/?q=%C3%BC"
        assert client.subprotocol == "superchat"


@pytest.mark.parametrize(
    ("url", "host"),
    [("ws://a", "a"), ("ws://a:80/", "a"), ("ws://[::1]:80/", "[::1]"), ("ws://[fe80::1%25eth0]:81/", "[fe80::1]:81")],
)
async def test_the_host_field(url, host):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        _, request = await both(lambda: one.upgrade(to_websocket_client(url)), lambda: answer_by_hand(other))
        assert request.headers["host"] == host
        assert request.target == "/"


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        (["a", "b"], b"Sec-WebSocket-Protocol: b, a\r\n", b"a"),
        (["b"], b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n", b"b"),
        (["c"], b"Sec-WebSocket-Protocol: a, b\r\n", None),
        (["c"], b"", None),
        ([], b"Sec-WebSocket-Protocol: a\r\n", None),
    ],
)
async def test_the_server_chooses_what_it_likes_best(ours, offered, chosen):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(REQUEST[:-2] + offered + b"\r\n")
        recipe = to_websocket_server(subprotocols=ours, extra_headers=[("Set-Cookie", "a"), ("Set-Cookie", "b")])
        server = await one.upgrade(recipe)
        head = await other.receive_until(b"\r\n\r\n", max_bytes=1000)
        assert server.subprotocol == (chosen and chosen.decode())
        assert (b"Sec-WebSocket-Protocol" in head) == (chosen is not None)
        assert b"Set-Cookie: a\r\nSet-Cookie: b\r\n" in head


@pytest.mark.parametrize("side", ["server", "client"])
async def test_keepalive_is_asked_for_in_the_handshake(side, autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        by_hand = server_by_hand if side == "server" else client_by_hand
        websocket = await by_hand(one, other, ping_interval=5, ping_timeout=3)
        opcode, _ = await receive_frame(other)
        assert opcode == 0x89
        assert 5 <= trio.current_time() <= 6.5
        with pytest.raises(trionet.ConnectionClosed):
            await websocket.get_message()
        assert 8 <= trio.current_time() <= 10.5
        assert websocket.end.reason is Reason.IDLE_TIMEOUT


# --- refusals by the server ---------------------------------------------------------------------------------------


def request_with(old: bytes, new: bytes) -> bytes:
    assert old in REQUEST
    return REQUEST.replace(old, new)


GOOD_HTTP = {
    "no websocket": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
    "no upgrade token": (request_with(b"Upgrade: websocket", b"Upgrade: h2c"), 426),
    "no connection token": (request_with(b"keep-alive, Upgrade", b"keep-alive"), 426),
    "version 12": (request_with(b"Version: 13", b"Version: 12"), 426),
    "two versions": (request_with(b"Version: 13", b"Version: 13, 12"), 426),
    "no version": (request_with(b"Sec-WebSocket-Version: 13\r\n", b""), 426),
    "post": (request_with(b"GET", b"POST"), 400),
    "http 1.0": (request_with(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "no key": (request_with(b"Sec-WebSocket-Key", b"X-Key"), 400),
    "short key": (request_with(KEY.encode(), b"AAAA"), 400),
    "key is not base64": (request_with(KEY.encode(), b"!" * 24), 400),
    "key is not strict base64": (request_with(KEY.encode(), KEY.encode() + b"AAAA"), 400),
    "two keys": (REQUEST[:-2] + b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\n\r\n", 400),
    "odd subprotocols": (REQUEST[:-2] + b"Sec-WebSocket-Protocol: a b\r\n\r\n", 400),
    "the same subprotocol twice": (REQUEST[:-2] + b"Sec-WebSocket-Protocol: a, a\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_", "status"), GOOD_HTTP.values(), ids=GOOD_HTTP)
async def test_good_http_that_is_no_handshake_is_refused_and_the_handle_goes_on(request_, status):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(request_ + b"next")
        with pytest.raises(UpgradeRefusedError) as caught:
            await one.upgrade(to_websocket_server())
        response = caught.value.response
        assert response.status == status
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(4) == b"next"
        head = await other.receive_until(b"\r\n\r\n", max_bytes=1000)
        assert head.startswith(b"HTTP/1.1 %d %b\r\n" % (status, response.reason.encode()))
        assert await other.receive_exactly(int(response.headers["content-length"])) == response.body
        if status == 426:
            assert response.headers["upgrade"] == "websocket"
        if b"Upgrade: websocket\r\n" in request_ and status == 426 and b"keep-alive, Upgrade" in request_:
            assert response.headers["sec-websocket-version"] == "13"


async def test_after_a_refusal_the_next_request_may_be_a_handshake():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(request_with(b"Version: 13", b"Version: 8") + REQUEST + text("x"))
        with pytest.raises(UpgradeRefusedError):
            await one.upgrade(to_websocket_server())
        server = await one.upgrade(to_websocket_server())
        assert await server.get_message() == "x"


MALFORMED = {
    "no host": (request_with(b"Host: example\r\n", b""), 400),
    "two hosts": (request_with(b"Host: example\r\n", b"Host: a\r\nHost: b\r\n"), 400),
    "http 2": (request_with(b"HTTP/1.1", b"HTTP/2.0"), 505),
    "method": (request_with(b"GET", b"FETCH"), 501),
    "folding": (request_with(b"Host: example\r\n", b"Host:\r\n example\r\n"), 400),
    "body": (REQUEST[:-2] + b"Content-Length: 3\r\n\r\nabc", 400),
    "chunked body": (REQUEST[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "too long": (REQUEST[:-2] + b"X: " + b"x" * 70000 + b"\r\n\r\n", 431),
    "endless": (b"x" * 70000, 431),
}


@pytest.mark.parametrize(("request_", "status"), MALFORMED.values(), ids=MALFORMED)
async def test_what_cannot_be_trusted_is_answered_and_closed(request_, status):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)

        async def client():
            await other.send_all(request_)
            await other.send_eof()
            return await receive_all(other)

        async def server():
            with pytest.raises(UpgradeFailedError, match=str(status)):
                await one.upgrade(to_websocket_server())

        _, answer = await both(server, client)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close\r\n" in answer
        assert one.end.reason is Reason.UPGRADE_FAILED


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/chat?x=http://y", "/chat?x=http://y"),
        ("http://example/chat?x=1", "/chat?x=1"),
        ("http://example", "/"),
        ("http://example?x=/", "/?x=/"),
    ],
)
async def test_the_path_of_an_absolute_target_is_its_path(target, path):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(REQUEST.replace(b"/chat", target.encode()))
        server = await one.upgrade(to_websocket_server())
        assert server.path == path


@pytest.mark.parametrize(("lines", "accepted"), [(1, True), (2, True), (15, True), (40, False)])
async def test_only_so_many_empty_lines_stand_before_a_request(lines, accepted):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"\r\n" * lines + REQUEST)
        if accepted:
            await one.upgrade(to_websocket_server())
            return
        await other.send_eof()
        with pytest.raises(UpgradeFailedError, match="400"):
            await one.upgrade(to_websocket_server())


async def test_a_client_that_pours_on_after_a_refusal_keeps_nobody(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)

        async def pour():
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(10_000):  # rather than for ever
                    await other.send_all(b"x" * 16384)

        async def refuse():
            with pytest.raises(UpgradeFailedError, match="400"):
                await one.upgrade(to_websocket_server())

        await other.send_all(b"wrong\r\n\r\n")
        before = trio.current_time()
        await both(pour, refuse)
        assert trio.current_time() == before


async def test_a_request_far_too_long_can_be_sent_to_its_end_and_the_refusal_be_read(autojump_clock):
    async with trionet.open_scope(drain_timeout=5) as scope:
        one, other = tcp_pair(scope)

        async def refuse():
            with pytest.raises(UpgradeFailedError, match="431"):
                await one.upgrade(to_websocket_server())

        async def send():
            await other.send_all(REQUEST[:-2] + b"X: " + b"x" * 2**25)
            assert (await other.receive_until(b"\r\n", max_bytes=100)).startswith(b"HTTP/1.1 431 ")

        await both(refuse, send)


async def test_two_accept_fields_are_one_too_many():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)

        async def client():
            with pytest.raises(UpgradeFailedError, match="Accept is wrong"):
                await one.upgrade(to_websocket_client("ws://example/"))

        await both(client, lambda: answer_by_hand(other, extra=b"Sec-WebSocket-Accept: other\r\n"))


async def test_an_empty_body_is_none():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"\r\n" + REQUEST[:-2] + b"Content-Length: 0\r\n\r\n" + text("x"))
        server = await one.upgrade(to_websocket_server())
        assert await server.get_message() == "x"


@every_pair
async def test_eof_before_anything_was_sent_leaves_the_handle_open(make_pair):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = make_pair(scope)
        await other.send_all(REQUEST[:20])
        await other.send_eof()
        with pytest.raises(UpgradeFailedError, match="ended the connection"):
            await one.upgrade(to_websocket_server())
        assert one.phase is Phase.OPEN
        assert await receive_all(one) == REQUEST[:20]


async def test_a_handshake_that_takes_too_long_is_undone(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        await other.send_all(REQUEST[:20])
        with pytest.raises(UpgradeFailedError, match=r"within 3 s \(handshake_timeout\)"):
            await one.upgrade(to_websocket_server(handshake_timeout=3))
        assert trio.current_time() == 3
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(20) == REQUEST[:20]


# --- which pages may ask ------------------------------------------------------------------------------------------


def request_from(*origins: bytes) -> bytes:
    return REQUEST[:-2] + b"".join(b"Origin: %b\r\n" % origin for origin in origins) + b"\r\n"


ALLOWED = ["https://a.example", "http://B.example:8080", "HTTP://c.example:80", "null", "chrome-extension://abcdef"]


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ([b"https://a.example"], True),
        ([b"https://a.example:443"], True),
        ([b"https://A.EXAMPLE"], True),
        ([b"http://b.example:8080"], True),
        ([b"http://c.example"], True),
        ([b"null"], True),
        ([b"chrome-extension://abcdef"], True),
        ([b"http://a.example"], False),
        ([b"https://a.example:444"], False),
        ([b"https://a.example.evil.example"], False),
        ([b"https://evil.example"], False),
        ([b"https://b\xfccher.example"], False),
        ([b""], False),
        ([], False),
        ([b"https://a.example", b"https://a.example"], False),
    ],
)
async def test_only_the_origins_of_the_list_may_ask(origins, allowed):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(request_from(*origins) + text("x"))
        recipe = to_websocket_server(origins=ALLOWED)
        if allowed:
            server = await one.upgrade(recipe)
            assert await server.get_message() == "x"
            return
        with pytest.raises(UpgradeRefusedError, match="Origin|origin") as caught:
            await one.upgrade(recipe)
        assert (caught.value.response.status, caught.value.response.reason) == (403, "Forbidden")
        assert (await other.receive_until(b"\r\n", max_bytes=100)) == b"HTTP/1.1 403 Forbidden\r\n"
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(len(text("x"))) != b""


async def test_none_in_the_list_stands_for_programs_that_are_no_browsers():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(request_from(b"https://evil.example") + REQUEST)
        with pytest.raises(UpgradeRefusedError, match=r"origin https://evil\.example is not allowed"):
            await one.upgrade(to_websocket_server(origins=[None]))
        await one.upgrade(to_websocket_server(origins=[None]))


async def test_a_function_decides():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        seen = []

        def decide(origin):
            seen.append(origin)
            return origin is not None and origin.endswith(".example")

        await other.send_all(REQUEST + request_from(b"https://evil") + request_from(b"https://x.example"))
        for _ in range(2):
            with pytest.raises(UpgradeRefusedError):
                await one.upgrade(to_websocket_server(origins=decide))
        await one.upgrade(to_websocket_server(origins=decide))
        assert seen == [None, "https://evil", "https://x.example"]


async def test_a_function_that_raises_or_forgets_to_answer_has_changed_nothing():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(request_from(b"https://a"))
        with pytest.raises(ZeroDivisionError):
            await one.upgrade(to_websocket_server(origins=lambda _: 1 / 0))
        with pytest.raises(TypeError, match="must return True or False, not None"):
            await one.upgrade(to_websocket_server(origins=lambda _: None))
        assert one.phase is Phase.OPEN
        await one.upgrade(to_websocket_server())


async def test_an_exchange_refuses_an_origin_and_the_connection_goes_on():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(
            request_from(b"https://evil.example") + b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n" + request_from(b"https://a")
            + text("x")
        )  # fmt: skip
        messages = []
        async for exchange in await one.upgrade(trionet.to_http_server()):
            if not exchange.wants_websocket:
                await exchange.respond(200, b"plain")
                continue
            try:
                websocket = await exchange.upgrade(to_websocket_server(origins=["https://a"]))
            except UpgradeRefusedError as exc:
                messages.append(exc.response.status)
                continue
            messages.append(await websocket.get_message())
        assert messages == [403, "x"]
        received = (await other.receive_some()).decode()
        assert [line for line in received.split("\r\n") if "HTTP/1.1 " in line] == [
            "HTTP/1.1 403 Forbidden",
            "the origin https://evil.example is not allowed\nHTTP/1.1 200 OK",
            "plainHTTP/1.1 101 Switching Protocols",
        ]


@pytest.mark.parametrize(
    "origin", ["a.example", "https://", "https://a/", "https://a/b", "https://a b", "https://u@a", "https://ä", "*", ""]
)
def test_what_is_no_origin_is_refused_at_once(origin):
    with pytest.raises(ValueError, match="not an origin"):
        to_websocket_server(origins=[origin])


def test_origins_of_another_kind_are_refused_at_once():
    async def decide(origin):
        return True

    for wrong, says in ((decide, "is async"), ("https://a", r"write \['https://a'\]"), ([5], "must hold str")):
        with pytest.raises(TypeError, match=says):
            to_websocket_server(origins=wrong)


# --- from an HTTP client's connection -----------------------------------------------------------------------------


async def answer_request(other, answer):
    await other.receive_until(b"\r\n\r\n", max_bytes=2000)
    await other.send_all(answer)


async def test_an_idle_http_connection_becomes_a_websocket():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        http = await one.upgrade(trionet.to_http_client())

        async def client():
            async with http.request("GET", "/page") as response:
                assert await response.read() == b"page"
            websocket = await http.upgrade(to_websocket_client("ws://example/chat"))
            assert await websocket.get_message() == "first"
            return websocket

        async def server():
            await answer_request(other, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")
            return await answer_by_hand(other, behind=text("first", masked=False))

        websocket, request = await both(client, server)
        assert request.target == "/chat"
        assert http.end.reason is Reason.UPGRADED
        assert http.end.successor is websocket


async def test_a_refusal_leaves_an_http_connection_that_works():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        http = await one.upgrade(trionet.to_http_client())

        async def client():
            with pytest.raises(UpgradeRefusedError) as caught:
                await http.upgrade(to_websocket_client("ws://example/chat"))
            assert (caught.value.response.status, caught.value.response.body) == (401, b"who?")
            assert http.phase is Phase.OPEN
            async with http.request("GET", "/page") as response:
                return await response.read()

        async def server():
            await answer_request(other, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwho?")
            await answer_request(other, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")

        assert (await both(client, server))[0] == b"page"


async def test_an_http_connection_that_is_in_use_or_was_spoken_to_is_refused():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        http = await one.upgrade(trionet.to_http_client())

        async def client():
            async with http.request("GET", "/page") as response:
                with pytest.raises(trionet.HandleBusyError, match="GET /page"):
                    await http.upgrade(to_websocket_client("ws://example/chat"))
                assert await response.read() == b"page"
            with pytest.raises(LocalProtocolError, match="needs TLS"):
                await http.upgrade(to_websocket_client("wss://example/chat"))

        async def server():
            await answer_request(other, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")

        with pytest.raises(LocalProtocolError, match="works on a Connection or an HTTPClientConnection"):
            to_websocket_client("ws://a").prepare(scope)
        await both(client, server)


# --- refusals by the client ---------------------------------------------------------------------------------------


async def answered(scope, answer, *, eof=False):
    """How a client's upgrade ends that gets this answer: the handle and what was raised."""
    one, other = unix_pair(scope)

    async def server():
        await other.receive_until(b"\r\n\r\n", max_bytes=2000)
        await other.send_all(answer)
        if eof:
            await other.send_eof()

    async def client():
        with pytest.raises((UpgradeRefusedError, UpgradeFailedError)) as caught:
            await one.upgrade(to_websocket_client("ws://a", subprotocols=["a"]))
        return caught.value

    return one, (await both(client, server))[0]


REFUSALS = {
    "counted": (b"HTTP/1.1 403 No\r\nContent-Length: 3\r\nX: y\r\n\r\nabc", b"abc"),
    "chunked": (
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: Chunked\r\nX: y\r\n\r\n"
        b"2\r\nab\r\n01;e=f\r\nc\r\n0\r\nT: t\r\n\r\n", b"abc"),
    "none": (b"HTTP/1.1 204 No\r\nX: y\r\n\r\n", b""),
    "after others": (
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\n"
        b"HTTP/1.1 401 No\r\nX: y\r\nContent-Length: 0\r\n\r\n", b""),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "body"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_can_be_read_and_the_handle_goes_on(answer, body):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, refusal = await answered(scope, answer + b"next")
        assert isinstance(refusal, UpgradeRefusedError)
        assert refusal.response.status in (403, 401, 204)
        assert refusal.response.reason == "No"
        assert refusal.response.headers["x"] == "y"
        assert refusal.response.body == body
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(4) == b"next"


async def test_a_refusal_writes_no_lines_of_a_log():
    """A reason phrase may have bytes that are line breaks, and the beginnings of commands to a terminal, in latin-1."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        _, refusal = await answered(scope, b"HTTP/1.1 403 No\x85ERROR\x9b2J\r\nContent-Length: 0\r\n\r\n")
        assert str(refusal).endswith("403 No\\x85ERROR\\x9b2J")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 No\r\n\r\nabc",
        b"HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.0 403 No\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_after_a_refusal_that_ends_the_connection_it_is_closed(answer):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, failure = await answered(scope, answer, eof=True)
        assert isinstance(failure, UpgradeFailedError)
        assert failure.__cause__.response.status == 403
        assert failure.__cause__.response.body == b"abc"
        assert one.end.reason is Reason.UPGRADE_FAILED


async def test_of_a_refusal_that_is_too_long_the_head_can_be_read():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, failure = await answered(scope, b"HTTP/1.1 403 No\r\nContent-Length: 99999\r\nX: y\r\n\r\nabc")
        assert isinstance(failure, UpgradeFailedError)
        response = failure.__cause__.response
        assert (response.status, response.headers["x"], response.body) == (403, "y", b"")
        assert one.end.reason is Reason.UPGRADE_FAILED


GOOD_101 = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "instead of answering"),
        (b"HTTP/1.1 101 S", "instead of answering"),
        (b"HELLO\r\n\r\n", "not a status line"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nabc", "in the middle"),
        (b"HTTP/1.1 403 No\r\nContent-Length: x\r\n\r\nabc", "malformed|not a number"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 99999\r\n\r\nabc", "at most 65536"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "not a chunk size"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "runs over"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n", "trailers"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\nB: c\r\n\r\n", "bare CR or LF"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", "trailers"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", "not a chunk size"),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: gzip\r\n\r\n", "only chunked"),
        (b"HTTP/1.1 403 No\r\n\r\n" + b"x" * 70000, "at most 65536"),
        (b"HTTP/1.1 102 P\r\n\r\n" * 20, "more than 16"),
        (b"HTTP/1.1 403 No\r\nX: " + b"x" * 70000, "within 65536"),
        (GOOD_101 + b"wrong\r\n\r\n", "Accept is wrong"),
        (GOOD_101[:-22] + b"\r\n\r\n", "Accept is wrong"),
        (GOOD_101.replace(b"websocket", b"h2c") + b"x\r\n\r\n", "switched to 'h2c'"),
        (GOOD_101.replace(b"Connection: Upgrade", b"Connection: close") + b"x\r\n\r\n", "Connection: upgrade"),
        (GOOD_101.replace(b"1.1", b"1.0") + b"x\r\n\r\n", "needs HTTP/1.1"),
    ],
)
async def test_a_wrong_answer_fails_the_upgrade(answer, problem):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, failure = await answered(scope, answer, eof=True)
        assert isinstance(failure, UpgradeFailedError)
        assert one.end.reason is Reason.UPGRADE_FAILED
        assert re.search(problem, str(failure))


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (b"Sec-WebSocket-Extensions: permessage-deflate\r\n", "extensions"),
        (b"Sec-WebSocket-Protocol: other\r\n", "subprotocol"),
        (b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n", "subprotocol"),
    ],
)
async def test_what_was_not_offered_cannot_be_chosen(extra, problem):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)

        async def client():
            with pytest.raises(UpgradeFailedError, match=problem):
                await one.upgrade(to_websocket_client("ws://a", subprotocols=["a"]))

        await both(client, lambda: answer_by_hand(other, extra=extra))
        assert one.end.reason is Reason.UPGRADE_FAILED


async def test_a_server_that_speaks_first_is_refused_and_nothing_has_changed():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"HTTP/1.1 101")
        assert await one.peek(4) == b"HTTP"
        with pytest.raises(LocalProtocolError, match=r"must not speak first: b'HTTP/1.1 101'"):
            await one.upgrade(to_websocket_client("ws://a"))
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(12) == b"HTTP/1.1 101"


async def test_the_scheme_has_to_fit_the_connection(server_context, client_context):
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        with pytest.raises(LocalProtocolError, match="needs TLS.*to_tls_client"):
            await one.upgrade(to_websocket_client("wss://localhost"))
        tls_server, tls_client = await both(
            lambda: one.upgrade(to_tls_server(server_context)),
            lambda: other.upgrade(to_tls_client("localhost", client_context)),
        )
        with pytest.raises(LocalProtocolError, match="wss://"):
            await tls_client.upgrade(to_websocket_client("ws://localhost"))
        server, client = await both(
            lambda: tls_server.upgrade(to_websocket_server()),
            lambda: tls_client.upgrade(to_websocket_client("wss://localhost")),
        )
        await client.send_message("x")
        assert await server.get_message() == "x"
        assert client.remote.url.startswith("wss://127.0.0.1")
        await both(client.aclose, lambda: until_closed(server))
    assert (client.end.reason, server.end.reason) == (Reason.LOCAL, Reason.PEER_EOF)


async def until_closed(websocket):
    async for _ in websocket:
        pass


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"Host": "a"},
        {"upgrade": "a"},
        {"Connection": "a"},
        {"Sec-WebSocket-Anything": "a"},
        {"Content-Length": "3"},
        {"X": "a\r\nSet-Cookie: b"},
        {"X\r\n": "a"},
        [("X", "a\n")],
    ],
)
def test_fields_that_cannot_be_added_are_refused_at_once(fields):
    with pytest.raises(ValueError, match="header"):
        to_websocket_server(extra_headers=fields)
    with pytest.raises(ValueError, match="header"):
        to_websocket_client("ws://a", extra_headers=fields)


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "a",
        "ws://",
        "ws:///x",
        "ws://a/#b",
        "ws://a b/",
        "ws://a:x/",
        "ws://a:99999/",
        "ws://a:0/",
        "ws://a:-1/",
        "ws://a\r\n/",
        "",
    ],
)
def test_urls_that_lead_nowhere_are_refused_at_once(url):
    with pytest.raises(ValueError, match="url") as refused:
        to_websocket_client(url)
    assert url[:5] in str(refused.value)  # as it was given, with its own scheme


@pytest.mark.parametrize("rest", ["/#b", ":99999/", ":x/", " /", "\\/"])
@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "wsx"])
def test_an_error_about_a_url_does_not_show_its_password(scheme, rest):
    with pytest.raises(ValueError, match="url") as refused:
        to_websocket_client(f"{scheme}://user:secret@host.example{rest}")
    assert "secret" not in str(refused.value)


def test_other_arguments_are_checked_at_once():
    with pytest.raises(TypeError, match="url must be a str"):
        to_websocket_client(5)
    for wrong in (["a b"], ["a", "a"], [""], ["ä"], [5]):
        with pytest.raises(ValueError, match="subprotocol"):
            to_websocket_server(subprotocols=wrong)
    with pytest.raises(TypeError, match=r"subprotocols=\['chat'\]"):
        to_websocket_server(subprotocols="chat")
    with pytest.raises(ValueError, match="handshake_timeout"):
        to_websocket_server(handshake_timeout=0)
    with pytest.raises(ValueError, match="ping_interval must be more than 0"):
        to_websocket_server(ping_interval=0)
    with pytest.raises(ValueError, match="ping_timeout=5 without ping_interval"):
        to_websocket_client("ws://a", ping_timeout=5)
    for wrong, error in ((0, ValueError), ("1", TypeError), (1.5, TypeError)):
        with pytest.raises(error, match="max_message_size"):
            to_websocket_server(max_message_size=wrong)


async def test_a_recipe_is_used_once_and_on_connections_only():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        recipe = to_websocket_server()
        await other.send_all(REQUEST)
        server = await one.upgrade(recipe)
        with pytest.raises(LocalProtocolError, match="used before"):
            await other.upgrade(recipe)
        with pytest.raises(LocalProtocolError, match="nothing else can be built"):
            await server.upgrade(to_websocket_server())
        with pytest.raises(LocalProtocolError, match="works on a Connection"):
            to_websocket_server().prepare(server)
        assert server.phase is Phase.OPEN


async def test_a_recipe_that_declined_its_source_was_not_used():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        recipe = to_websocket_client("ws://example/chat")
        await one.send_all(b"hello\n")
        await other.peek(1)
        with pytest.raises(LocalProtocolError, match="unread bytes"):
            await other.upgrade(recipe)
        assert await other.receive_some() == b"hello\n"
        _, client = await both(lambda: one.upgrade(to_websocket_server()), lambda: other.upgrade(recipe))
        assert client.phase is Phase.OPEN


# --- cancellation -------------------------------------------------------------------------------------------------


@every_pair
@pytest.mark.parametrize("side", ["server", "client"])
async def test_cancelled_at_every_checkpoint_nothing_is_lost(make_pair, side):
    phases = set()

    async def scenario(cancelling):
        async with trionet.open_scope(drain_timeout=0) as scope:
            one, other = make_pair(scope)
            websocket = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other_side, other, side)
                with cancelling.scope:
                    if side == "server":
                        websocket = await one.upgrade(to_websocket_server())
                    else:
                        websocket = await one.upgrade(to_websocket_client("ws://a"))
                handles = [one] if websocket is None else [one, websocket]
                phases.add((one.phase, one.end and one.end.reason))
                assert not owned_once(scope, *handles, other)
                if websocket is not None:
                    assert await websocket.get_message() == "first"
                elif one.phase is Phase.OPEN and side == "server":
                    websocket = await one.upgrade(to_websocket_server())
                    assert await websocket.get_message() == "first"
                nursery.cancel_scope.cancel()

    await at_every_checkpoint(scenario)
    undone = (Phase.OPEN, None) if side == "server" else (Phase.CLOSED, Reason.UPGRADE_FAILED)
    assert phases >= {undone, (Phase.MOVED, Reason.UPGRADED)}
    assert phases <= {(Phase.OPEN, None), (Phase.MOVED, Reason.UPGRADED), (Phase.CLOSED, Reason.UPGRADE_FAILED)}


async def other_side(other, side):
    try:
        if side == "server":
            await wait_all_tasks_blocked()
            await other.send_all(REQUEST[:30])
            await wait_all_tasks_blocked()
            await other.send_all(REQUEST[30:] + text("first"))
        else:
            await answer_by_hand(other, behind=text("first", masked=False), pause=wait_all_tasks_blocked)
        await receive_all(other)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
