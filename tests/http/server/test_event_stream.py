"""`Exchange.stream_events`: what is on the wire, and what ends the block."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HandleBrokenError

from ...helpers.http_served import GET, ask, get, served, vanish
from ...helpers.pairs import receive_all, tcp_pair, unix_pair


async def events_of(client):
    """The head, and the events as they stand on the wire, until the end of the body."""
    head = await client.receive_until(b"\r\n\r\n", max_bytes=999)
    body = b""
    while size := int(await client.receive_until(b"\r\n", max_bytes=99), 16):
        body += await client.receive_exactly(size)
        assert await client.receive_exactly(2) == b"\r\n"
    assert await client.receive_exactly(2) == b"\r\n"
    return head.decode(), body.decode()


EVENTS = [
    ({"data": "plain"}, "data: plain\n\n"),
    ({}, "data: \n\n"),
    ({"data": "a\nb\r\nc\rd\n"}, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
    ({"data": " ä: x"}, "data:  ä: x\n\n"),
    ({"json": {"a": "ö\n"}}, 'data: {"a":"ö\\n"}\n\n'),
    ({"json": None}, "data: null\n\n"),
    ({"data": "x", "event": "tick", "id": "7", "retry": 1.5}, "event: tick\nid: 7\nretry: 1500\ndata: x\n\n"),
    ({"id": ""}, "id: \n\n"),
    ({"retry": 0}, "retry: 0\n\n"),
]


async def test_events_on_the_wire_and_the_connection_goes_on():
    async def handler(exchange):
        if exchange.method == "POST":
            await exchange.respond(200)
            return
        async with exchange.stream_events(headers={"X-Own": "1", "cache-control": "private"}) as events:
            for event, _ in EVENTS:
                await events.send(**event)

    async with served(handler) as it:
        for _ in range(2):
            await it.client.send_all(GET)
            head, body = await events_of(it.client)
            assert body == "".join(written for _, written in EVENTS)
            assert "Content-Type: text/event-stream; charset=utf-8\r\n" in head
            assert "cache-control: private\r\n" in head
            assert "no-store" not in head
            assert "X-Own: 1\r\n" in head
        assert (await ask(it.client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).status == 200


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"data": b"x"}, TypeError, "data must be a str, not b'x'; for a value give json="),
        ({"data": "x", "json": 1}, TypeError, "data or json, not both"),
        ({"json": object()}, TypeError, "json cannot be sent"),
        ({"event": "a\nb"}, ValueError, "event must be one line"),
        ({"event": 5}, TypeError, "event must be a str"),
        ({"id": "a\rdata: evil"}, ValueError, "id must be one line"),
        ({"id": "a\0"}, ValueError, "NUL"),
        ({"retry": math.inf}, ValueError, "204"),
        ({"retry": -1}, ValueError, "retry"),
        ({"retry": "5"}, TypeError, "retry"),
    ],
)
async def test_what_no_event_can_be_is_refused_before_a_byte_of_it_is_sent(event, error, message):
    async def handler(exchange):
        async with exchange.stream_events() as events:
            with pytest.raises(error, match=message):
                await events.send(**event)

    async with served(handler) as it:
        await it.client.send_all(GET)
        assert (await events_of(it.client))[1] == ""


@pytest.mark.parametrize(("lines", "seen"), [((), None), (("Last-Event-ID: 7",), "7"), (("Last-Event-ID:",), "")])
async def test_a_client_that_comes_again_says_what_it_has_seen(lines, seen):
    async def handler(exchange):
        async with exchange.stream_events() as events:
            assert events.last_event_id == seen

    async with served(handler) as it:
        await it.client.send_all(get("/", *lines))
        await events_of(it.client)


async def test_an_id_of_other_characters_comes_back_as_it_was():
    async def handler(exchange):
        async with exchange.stream_events() as events:
            await events.send("x", id=events.last_event_id)

    async with served(handler) as it:
        await it.client.send_all("GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: ä\r\n\r\n".encode())
        assert (await events_of(it.client))[1] == "id: ä\ndata: x\n\n"


@pytest.mark.parametrize("leave", ["eof", "reset"])
@pytest.mark.parametrize("make_pair", [tcp_pair, unix_pair])
@pytest.mark.parametrize("busy", [False, True])
async def test_the_block_ends_without_an_error_when_the_client_has_gone(leave, make_pair, busy):
    behind = trio.Event()

    async def handler(exchange):
        async with exchange.stream_events() as events:
            begun.set()
            while busy:
                await events.send("x" * 100_000)
            await trio.sleep_forever()
        behind.set()

    begun = trio.Event()
    async with served(handler, make_pair=make_pair) as it:
        await it.client.send_all(GET)
        await begun.wait()
        if leave == "eof" and not busy:
            await it.client.send_eof()
        elif leave == "eof":
            await it.client.aclose()
        else:
            vanish(it.client)
        with trio.fail_after(5):
            await behind.wait()
            await it.over.wait()
        assert it.failure is None or isinstance(it.failure, HandleBrokenError)


async def test_silence_is_broken_by_comments_and_only_silence(autojump_clock):
    async def handler(exchange):
        async with exchange.stream_events(keepalive=10) as events:
            await trio.sleep(25)
            await events.send("late")  # at 25, so there is nothing to be said at 30
            await trio.sleep(20)

    async with served(handler) as it:
        await it.client.send_all(GET)
        assert (await events_of(it.client))[1] == ":\n\n:\n\ndata: late\n\n:\n\n"


async def test_without_keepalive_nothing_is_said(autojump_clock):
    async def handler(exchange):
        async with exchange.stream_events(keepalive=math.inf):
            await trio.sleep(1000)

    async with served(handler) as it:
        await it.client.send_all(GET)
        assert (await events_of(it.client))[1] == ""


async def test_a_drain_completes_the_stream_and_waits_for_none(nursery):
    async def handler(exchange):
        async with exchange.stream_events() as events:
            await events.send("hello")
            await trio.sleep_forever()

    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        client = await scope.connect_tcp("127.0.0.1", server.port)
        await client.send_all(GET)
        await wait_all_tasks_blocked()
        report = await server.drain(30)
        assert report.clean
        assert report.seconds < 5
        assert (await events_of(client))[1] == "data: hello\n\n"
        assert await receive_all(client) == b""


async def test_an_error_of_the_handler_is_its_own_and_truncates():
    async def handler(exchange):
        async with exchange.stream_events() as events:
            await events.send("x")
            raise ValueError("mine")

    async with served(handler) as it:
        await it.client.send_all(GET)
        await it.over.wait()
        assert isinstance(it.failure, ValueError)
        data = await receive_all(it.client)
        assert data.endswith(b"data: x\n\n\r\n")


async def test_head_gets_the_head():
    async def handler(exchange):
        async with exchange.stream_events() as events:
            await events.send("x")
            await trio.sleep_forever()

    async with served(handler) as it:
        for _ in range(2):
            answer = await ask(it.client, get("/", method="HEAD"), "HEAD")
            assert answer.status == 200
            assert answer.fields["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("wrong", [0, -1, "5"])
async def test_a_keepalive_that_cannot_be_is_refused_before_the_response(wrong):
    async def handler(exchange):
        with pytest.raises((ValueError, TypeError), match="keepalive"):
            async with exchange.stream_events(keepalive=wrong):
                pass
        await exchange.respond(418)

    async with served(handler) as it:
        assert (await ask(it.client, GET)).status == 418


async def test_a_hundred_streams_whose_clients_leave_end_at_once(nursery):
    ended = 0

    async def handler(exchange):
        nonlocal ended
        async with exchange.stream_events() as events:
            await events.send("x")
            await trio.sleep_forever()
        ended += 1

    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_scope(drain_timeout=0) as scope:
        clients = [await scope.connect_tcp("127.0.0.1", server.port) for _ in range(100)]
        for client in clients:
            await client.send_all(GET)
        for client in clients:
            await client.receive_until(b"data: x\n\n", max_bytes=999)
        assert ended == 0
        for client in clients:
            client.abort()
        await wait_all_tasks_blocked()
        assert ended == 100
