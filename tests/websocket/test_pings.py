"""Pings and pongs: which are answered, what comes before them, and who waits for whom."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import (
    ConnectionClosed,
    LimitExceededError,
)
from trionet.websocket.protocol.engine import COSTLY, FRAMES
from trionet.websocket.protocol.writer import MAX_PONGS

from ..helpers.pairs import PAIRS, clog, unix_pair
from ..helpers.websockets_by_hand import (
    REQUEST,
    both,
    client_by_hand,
    close,
    frame,
    receive_frame,
    server_by_hand,
    text,
    two_websockets,
    until_closed,
)

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("pings", [1, MAX_PONGS, MAX_PONGS + 1, FRAMES // COSTLY])
async def test_of_the_pings_in_a_segment_each_is_answered_and_of_too_many_the_newest(pings, client):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        websocket = await (client_by_hand if client else server_by_hand)(one, other)
        masked = not client
        payloads = [b"%d" % index + b"x" * (index % 100) for index in range(pings)]
        segment = b"".join(frame(Opcode.PING, payload, masked=masked) for payload in payloads)
        await other.send_all(segment + text("x", masked=masked))
        assert await websocket.get_message() == "x"
        for payload in payloads[-MAX_PONGS:]:
            assert await receive_frame(other) == (0x8A, payload)
        await websocket.send_message("y")
        assert await receive_frame(other) == (0x81, b"y")


async def test_a_pong_goes_out_behind_the_frame_that_is_being_sent():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            nursery.start_soon(server.send_message, b"x" * 1_000_000)
            await wait_all_tasks_blocked()
            await other.send_all(frame(Opcode.PING, b"old") + frame(Opcode.PING, b"new"))
            await wait_all_tasks_blocked()
            assert await receive_frame(other) == (0x82, b"x" * 1_000_000)
            assert await receive_frame(other) == (0x8A, b"old")
            assert await receive_frame(other) == (0x8A, b"new")
            nursery.cancel_scope.cancel()


async def test_the_reader_sends_the_pong_that_a_cancelled_sender_left_behind():
    """A sender waits for room with nothing sent, a ping comes, the sender is cancelled: the reader has to wake up."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        filler = clog(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            sending = await nursery.start(cancellable, server.send_message, b"never begun")
            await wait_all_tasks_blocked()
            await other.send_all(frame(Opcode.PING, b"?"))
            await wait_all_tasks_blocked()
            sending.cancel()
            await wait_all_tasks_blocked()
            await other.receive_exactly(filler)
            assert await receive_frame(other) == (0x8A, b"?")
            nursery.cancel_scope.cancel()


async def cancellable(function, *args, task_status):
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await function(*args)


async def test_the_sender_sends_the_pong_that_a_cancelled_reader_left_behind():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            reading = await nursery.start(cancellable, server.get_message)
            nursery.start_soon(server.send_message, b"x" * 1_000_000)
            await wait_all_tasks_blocked()
            await other.send_all(frame(Opcode.PING, b"?"))
            await wait_all_tasks_blocked()
            reading.cancel()
            await wait_all_tasks_blocked()
            assert await receive_frame(other) == (0x82, b"x" * 1_000_000)
            assert await receive_frame(other) == (0x8A, b"?")


class Stingy:
    """A transport that takes a byte at once, and the rest when it is told to."""

    def __init__(self, transport):
        self._transport = transport
        self.told = trio.Event()

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def send_some(self, data):
        return self._transport.send_some(data[:1])

    async def send_all(self, data):
        await self.told.wait()
        await self._transport.send_all(data)


async def test_a_pong_that_was_half_sent_is_finished_before_anything_else():
    """A pong is stuck behind its first byte: receiving goes on, and a message is not put into the middle of it."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        server._transport = stingy = Stingy(server._transport)
        await other.send_all(frame(Opcode.PING, b"?") + text("first"))
        assert await server.get_message() == "first"
        with trio.move_on_after(0.01) as reading:
            await server.get_message()
        assert reading.cancelled_caught
        await other.send_all(text("second"))
        assert await server.get_message() == "second"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_message, "x")
            await wait_all_tasks_blocked()
            server._transport = stingy._transport
            stingy.told.set()
        assert await receive_frame(other) == (0x8A, b"?")
        assert await receive_frame(other) == (0x81, b"x")


async def test_a_pong_that_cannot_go_out_holds_up_no_message_and_is_not_forgotten():
    """The peer sends a ping and messages, and reads only then: a reader who waited to answer would wait for ever."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        filler = clog(server)
        for round_ in range(3):
            await other.send_all(frame(Opcode.PING, b"%d" % round_) + text("x"))
            assert await server.get_message() == "x"
            with trio.move_on_after(0):
                await server.get_message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            await other.receive_exactly(filler)
            for round_ in range(3):
                assert await receive_frame(other) == (0x8A, b"%d" % round_)
            nursery.cancel_scope.cancel()


async def test_a_transfer_takes_the_pong_along_that_waits_to_go_out():
    async with trionet.open_scope(drain_timeout=0) as scope, scope.open_scope() as other_scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        filler = clog(server)
        await other.send_all(frame(Opcode.PING, b"?") + text("x"))
        assert await server.get_message() == "x"
        server.transfer(other_scope)
        await other.receive_exactly(filler)
        assert await receive_frame(other) == (0x8A, b"?")


async def test_an_answer_to_a_ping_whose_sender_is_gone_hides_no_message():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(frame(Opcode.PING, b"?") + text("x") + close())
        other.abort()
        assert await server.get_message() == "x"
        with pytest.raises(ConnectionClosed, match="1000"):
            await server.get_message()


@every_pair
async def test_a_lone_task_gets_its_pong_and_keeps_the_messages(make_pair):
    async with trionet.open_scope() as scope:
        server, client = await two_websockets(*make_pair(scope))

        async def serve():
            await server.send_message("before")
            await until_closed(server)

        async def ask():
            await client.ping()
            await client.ping(b"payload")
            assert await client.get_message() == "before"
            await client.aclose()

        await both(serve, ask)


async def test_a_ping_while_another_task_receives():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            got = []
            nursery.start_soon(into, got, server.get_message)
            nursery.start_soon(server.ping, b"1")
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as pings:
                pings.start_soon(server.ping, b"2")
                await wait_all_tasks_blocked()
                with pytest.raises(ValueError, match="under way"):
                    await server.ping(b"2")
                await other.send_all(frame(Opcode.PONG, b"unasked") + frame(Opcode.PONG, b"2"))
            assert got == []
            await other.send_all(text("x"))
        assert got == ["x"]


async def into(got, function):
    got.append(await function())


async def test_the_pinging_task_hands_messages_to_the_receiving_one():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.ping, b"1")
            await wait_all_tasks_blocked()
            got = []
            nursery.start_soon(into, got, server.get_message)
            await wait_all_tasks_blocked()
            await other.send_all(text("x"))
            await wait_all_tasks_blocked()
            assert got == ["x"]
            await other.send_all(frame(Opcode.PONG, b"1"))


async def test_a_ping_behind_too_many_messages_says_so():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=100)
        await other.send_all(text("x" * 60) + text("y" * 60))
        with pytest.raises(LimitExceededError, match=r"2 of them, with 120 bytes.*max_message_size"):
            await server.ping()
        assert await server.get_message() == "x" * 60
        with pytest.raises(ValueError, match="125"):
            await server.ping(b"x" * 126)
        with pytest.raises(ValueError, match="125"):
            await server.pong(b"x" * 126)


async def test_a_server_that_drains_during_the_handshake_says_1001_behind_it():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_until_closed, one)
            await wait_all_tasks_blocked()
            one._retire()
            await other.send_all(REQUEST)
            await other.receive_until(b"\r\n\r\n", max_bytes=1000)
            assert await receive_frame(other) == (0x88, b"\x03\xe9")
            await other.send_all(close(1001))


async def serve_until_closed(connection):
    await until_closed(await connection.upgrade(trionet.to_websocket_server()))


async def test_a_ping_takes_in_only_so_many_empty_messages():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:

            async def flood():
                while True:
                    await other.send_all(text("") * 10_000)

            nursery.start_soon(flood)
            with pytest.raises(LimitExceededError, match="65536 messages are kept"):
                await server.ping()
            nursery.cancel_scope.cancel()
        assert len(server._engine.reader.messages) < 100_000


async def test_a_payload_may_be_used_again_as_soon_as_its_pong_is_there():
    """The reader takes in a pong, and sends the same ping before the task that waits for the first has run."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        answered = []

        async def ping(name):
            await server.ping(b"1")
            answered.append(name)

        async def receive_and_ping():
            await server.get_message()
            await ping("second")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_and_ping)
            await wait_all_tasks_blocked()
            nursery.start_soon(ping, "first")
            await wait_all_tasks_blocked()
            await other.send_all(frame(Opcode.PONG, b"1") + text("x"))
            await wait_all_tasks_blocked()
            assert answered == ["first"]
            await other.send_all(frame(Opcode.PONG, b"1"))
        assert answered == ["first", "second"]
