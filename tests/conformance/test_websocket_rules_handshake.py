"""RFC 6455 rule by rule: what the opening handshake must be, and what it may be (§4.1, §4.2).

What is refused, and how, is in `tests/websocket/handshake`; here are the rules that are about the letter.
"""

from __future__ import annotations

import base64

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import UpgradeFailedError, UpgradeRefusedError, to_websocket_client, to_websocket_server
from trionet.http.protocol.head import parse_request
from trionet.websocket.handshake.rules import accept_token

from ..helpers.pairs import memory_pair
from ..helpers.websockets_by_hand import ACCEPT, KEY, REQUEST, both
from .test_websocket_rules import PING, F, text


def replaced(old: str, new: str) -> bytes:
    assert old.encode() in REQUEST
    return REQUEST.replace(old.encode(), new.encode())


# --- the client's request, read by the server (§4.2.1) ------------------------------------------------------------

GOOD_REQUESTS = {
    "as ever": REQUEST,
    "upgrade in capitals": replaced("Upgrade: websocket", "Upgrade: WEBSOCKET"),
    "upgrade as browsers write it": replaced("Upgrade: websocket", "Upgrade: WebSocket"),
    "upgrade among others": replaced("Upgrade: websocket", "Upgrade: h2c, websocket"),
    "upgrade in two fields": replaced("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"),
    "connection in capitals": replaced("keep-alive, Upgrade", "UPGRADE"),
    "connection in small letters": replaced("keep-alive, Upgrade", "upgrade"),
    "connection with odd white space": replaced("keep-alive, Upgrade", " , keep-alive\t ,\tUpgrade ,"),
    "connection in two fields": replaced("keep-alive, Upgrade", "keep-alive\r\nConnection: Upgrade"),
    "names in small letters": REQUEST.lower().replace(KEY.lower().encode(), KEY.encode())
    .replace(b"get /chat http/1.1", b"GET /chat HTTP/1.1"),
    "names in capitals": replaced("Sec-WebSocket-Key", "SEC-WEBSOCKET-KEY"),
    "white space around values": replaced(KEY, f" \t{KEY} \t").replace(b"Version: 13", b"Version:13 "),
    "fields in another order": b"\r\n".join(
        [REQUEST.split(b"\r\n")[0], *reversed(REQUEST.split(b"\r\n")[1:-2]), b"", b""]),
    "other fields": replaced("Host: example", "Host: example\r\nCookie: a=b\r\nX-Unknown: ?\r\nSec-WebSocket-Foo: x"),
    "a host with a port": replaced("Host: example", "Host: example:8080"),
    "a query": replaced("/chat", "/chat?a=b&c"),
}  # fmt: skip


@pytest.mark.parametrize("request_", GOOD_REQUESTS.values(), ids=GOOD_REQUESTS)
async def test_a_request_that_is_good_to_the_letter_is_accepted(request_):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        await other.send_all(request_ + text("x").wire("server"))
        server = await one.upgrade(to_websocket_server())
        assert await server.get_message() == "x"
        lines = (await other.receive_until(b"\r\n\r\n", max_bytes=1000)).decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 101 Switching Protocols"
        assert sorted(lines[1:-2]) == [
            "Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}", "Upgrade: websocket"
        ]  # fmt: skip


BAD_REQUESTS = {
    "a token that only begins so": (replaced("Upgrade: websocket", "Upgrade: websocket2"), 426),
    "a token with a version": (replaced("Upgrade: websocket", "Upgrade: websocket/13"), 426),
    "two tokens without a comma": (replaced("Upgrade: websocket", "Upgrade: web socket"), 426),
    "connection says another thing": (replaced("keep-alive, Upgrade", "keep-alive, Upgrades"), 426),
    "a version with a zero before it": (replaced("Version: 13", "Version: 013"), 426),
    "a version beside another one": (replaced("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 8"), 426),
    "a version that is none": (replaced("Version: 13", "Version: x"), 426),
    "an empty version": (replaced("Version: 13", "Version: "), 426),
    "an empty key": (replaced(KEY, ""), 400),
    "a key of 15 bytes": (replaced(KEY, base64.b64encode(bytes(15)).decode()), 400),
    "a key of 17 bytes": (replaced(KEY, base64.b64encode(bytes(17)).decode()), 400),
    "a key without its padding": (replaced(KEY, KEY.rstrip("=")), 400),
    "a key in the other alphabet": (replaced(KEY, "-_" * 11 + "=="), 400),
    "a key with white space in it": (replaced(KEY, KEY[:10] + " " + KEY[10:]), 400),
    "the method in small letters": (replaced("GET", "get"), None),
    "HEAD": (replaced("GET", "HEAD"), 400),
}


@pytest.mark.parametrize(("request_", "status"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_a_request_that_is_nearly_good_is_not_accepted(request_, status):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        await other.send_all(request_)
        await other.send_eof()
        with pytest.raises((UpgradeRefusedError, UpgradeFailedError)) as caught:
            await one.upgrade(to_websocket_server())
        answer = await other.receive_some()
        assert answer.startswith(b"HTTP/1.1 4" if status else b"HTTP/1.1 501 ")
        if status:
            assert isinstance(caught.value, UpgradeRefusedError)
            assert caught.value.response.status == status
            assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_the_key_is_answered_as_in_the_rfc():
    """§1.3, §4.2.2."""
    assert accept_token("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# --- the client's request, as it is sent (§4.1) -------------------------------------------------------------------


async def test_each_request_has_a_key_of_its_own():
    """§4.1, point 7: 16 random bytes in base64."""
    keys = set()
    for _ in range(20):
        async with trionet.open_scope(drain_timeout=0) as scope:
            one, other = memory_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.upgrade, to_websocket_client("ws://example/"))
                head = await other.receive_until(b"\r\n\r\n", max_bytes=2000)
                nursery.cancel_scope.cancel()
        (key,) = parse_request(head).headers.get_list("Sec-WebSocket-Key")
        assert len(base64.b64decode(key, validate=True)) == 16
        keys.add(key)
    assert len(keys) == 20


async def test_the_client_sends_nothing_before_it_has_the_answer():
    """§4.1: it waits, also for the end of an answer of which the beginning is there."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        sent = []

        async def client():
            websocket = await one.upgrade(to_websocket_client("ws://example/"))
            sent.append("upgraded")
            await websocket.send_message("x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            head = parse_request(await other.receive_until(b"\r\n\r\n", max_bytes=2000))
            for piece in answer(head.headers["sec-websocket-key"]).splitlines(keepends=True):
                await wait_all_tasks_blocked()
                assert sent == []
                await other.send_all(piece)
        assert sent == ["upgraded"]
        assert (await other.receive_exactly(2)) == b"\x81\x81"


# --- the server's answer, read by the client ----------------------------------------------------------------------


def answer(key: str, old: str = "", new: str = "") -> bytes:
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_token(key)}\r\n\r\n"
    )
    assert old in head
    return (head.replace(old, new) if old else head).encode()


async def answered(make):
    """What comes of a client's upgrade that is answered with ``make(key)``, and then with a ping and a message."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)

        async def client():
            try:
                websocket = await one.upgrade(to_websocket_client("ws://example/", subprotocols=["chat"]))
            except (UpgradeFailedError, UpgradeRefusedError) as exc:
                return exc
            return await websocket.get_message()

        async def server():
            head = parse_request(await other.receive_until(b"\r\n\r\n", max_bytes=2000))
            behind = F(PING).wire("client") + text("x").wire("client")
            await other.send_all(make(head.headers["sec-websocket-key"]) + behind)
            await other.send_eof()

        result, _ = await both(client, server)
        return result


GOOD_ANSWERS = {
    "as ever": ("", ""),
    "another reason": ("Switching Protocols", "Web Socket Protocol Handshake"),
    "no reason": ("Switching Protocols", ""),
    "upgrade in capitals": ("Upgrade: websocket", "Upgrade: WEBSOCKET"),
    "connection in capitals": ("Connection: Upgrade", "Connection: UPGRADE"),
    "connection among others": ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
    "names in small letters": ("Sec-WebSocket-Accept", "sec-websocket-accept"),
    "white space": ("Accept: ", "Accept: \t "),
    "other fields": ("Upgrade: websocket", "Upgrade: websocket\r\nServer: x\r\nSet-Cookie: a=b\r\nDate: now"),
    "a version": ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Version: 13"),
    "a subprotocol": ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: chat"),
}


@pytest.mark.parametrize(("old", "new"), GOOD_ANSWERS.values(), ids=GOOD_ANSWERS)
async def test_an_answer_that_is_good_to_the_letter_is_taken(old, new):
    assert await answered(lambda key: answer(key, old, new)) == "x"


BAD_ANSWERS = {
    "no upgrade": ("Upgrade: websocket\r\n", ""),
    "another upgrade": ("Upgrade: websocket", "Upgrade: websocket2"),
    "another one beside it": ("Upgrade: websocket", "Upgrade: websocket, h2c"),
    "another one in a second field": ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: h2c"),
    "no connection": ("Connection: Upgrade\r\n", ""),
    "another connection": ("Connection: Upgrade", "Connection: Upgrades"),
    "status 200": ("101 Switching Protocols", "200 OK\r\nContent-Length: 0"),
    "status 100 and no other": ("101 Switching", "100 Switching"),
    "a subprotocol in other letters": ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: Chat"),
    "two subprotocols": ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: chat, chat"),
    "an empty subprotocol": ("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol:"),
}


@pytest.mark.parametrize(("old", "new"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_an_answer_that_is_nearly_good_is_not_taken(old, new):
    assert isinstance(await answered(lambda key: answer(key, old, new)), (UpgradeFailedError, UpgradeRefusedError))


@pytest.mark.parametrize(
    "change",
    [str.lower, str.upper, str.swapcase, lambda accept: accept[:-1], lambda accept: accept + "=", lambda _: ACCEPT],
    ids=["small letters", "capitals", "swapped", "shorter", "longer", "another key's"],
)
async def test_the_key_has_to_be_answered_letter_by_letter(change):
    """§4.1: base64 tells capitals from small letters."""
    failure = await answered(lambda key: answer(key, accept_token(key), change(accept_token(key))))
    assert isinstance(failure, UpgradeFailedError)
    assert "Sec-WebSocket-Accept" in str(failure)
