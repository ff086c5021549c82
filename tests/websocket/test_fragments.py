"""Messages in parts, both ways: exactness, whose message it is, and what becomes of one that cannot be finished."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import (
    ConnectionClosed,
    HandleBusyError,
    HandleMovedError,
    LimitExceededError,
    LocalProtocolError,
    Phase,
    RemoteProtocolError,
)

from ..helpers.pairs import PAIRS, clog, receive_all, tcp_pair, unix_pair
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
)

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)
compressions = pytest.mark.parametrize("compression", [None, trionet.PerMessageDeflate()], ids=["plain", "compressed"])


async def several(*parts):
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


async def taken(websocket):
    return [part async for part in websocket.receive_fragments()]


# --- both ways ------------------------------------------------------------------------------------------------------


@every_pair
@compressions
async def test_messages_in_parts_arrive_whole_and_whole_ones_in_parts(make_pair, compression):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = make_pair(scope)
        server, client = await both(
            lambda: one.upgrade(trionet.to_websocket_server(compression=compression)),
            lambda: other.upgrade(trionet.to_websocket_client("ws://example/", compression=compression)),
        )
        assert (server.compression is None) == (compression is None)
        big = [bytes([n]) * 50_000 for n in range(100)]  # 5 MB, while max_message_size is 1 MiB

        async def send():
            await client.send_fragments(["ä", "", "€😀" * 1000])
            await client.send_fragments(several(bytearray(b"a"), memoryview(b"b"), b"c"))
            await client.send_fragments(several(*big))
            await client.send_message("whole")
            await client.send_message(b"")
            await client.send_message("last")

        async def receive():
            assert await server.get_message() == "ä" + "€😀" * 1000
            assert b"".join(await taken(server)) == b"abc"
            parts = await taken(server)
            assert b"".join(parts) == b"".join(big)
            assert max(map(len, parts)) <= 65536
            assert "".join(await taken(server)) == "whole"
            assert await taken(server) == [b""]
            assert await server.get_message() == "last"

        await both(send, receive)


async def test_each_part_leaves_when_it_is_there():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        produce, parts = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_fragments, parts)
            await produce.send("a")
            assert await receive_frame(other) == (0x01, b"a")
            await produce.send("b")
            assert await receive_frame(other) == (0x00, b"b")
            await produce.aclose()
            assert await receive_frame(other) == (0x80, b"")


async def test_parts_are_given_before_their_frame_is_there_as_a_whole():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        data = text("€" * 100)
        stream = server.receive_fragments()
        await other.send_all(data[:9])  # a head of 8 bytes, and a third of a character
        with trio.move_on_after(0):
            await anext(stream)
        await other.send_all(data[9:11])
        assert await anext(stream) == "€"
        await other.send_all(data[11:] + text("next"))
        rest = "".join([part async for part in stream])
        assert rest == "€" * 99
        assert await server.get_message() == "next"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


# --- sending --------------------------------------------------------------------------------------------------------


async def test_control_frames_and_only_these_come_between_the_parts():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        produce, parts = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_fragments, parts)
            await produce.send("a")
            assert await receive_frame(other) == (0x01, b"a")
            nursery.start_soon(server.send_message, "waits")
            assert trionet.broadcast([server], "waits too") == []
            await server.pong(b"now")
            assert await receive_frame(other) == (0x8A, b"now")
            nursery.start_soon(server.get_message)
            await other.send_all(frame(Opcode.PING, b"?"))
            assert await receive_frame(other) == (0x8A, b"?")
            await wait_all_tasks_blocked()
            await produce.aclose()
            assert await receive_frame(other) == (0x80, b"")
            assert await receive_frame(other) == (0x81, b"waits too")
            assert await receive_frame(other) == (0x81, b"waits")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("parts", "error", "match"),
    [
        ("text", TypeError, "one str; use send_message"),
        (b"bytes", TypeError, "one bytes"),
        ([], ValueError, "no part"),
        ([5], TypeError, "must be str or bytes"),
        (["\ud800"], LocalProtocolError, "UTF-8"),
        (7, TypeError, "must be an iterable"),
    ],
)
async def test_what_cannot_begin_changes_nothing(parts, error, match):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        with pytest.raises(error, match=match):
            await server.send_fragments(parts)
        assert server.blockers == ()
        await server.send_message("fine")
        assert await receive_frame(other) == (0x81, b"fine")


async def test_a_message_that_cannot_be_finished_ends_the_websocket():
    async def broken():
        yield "a"
        raise ZeroDivisionError

    for parts, error in [(broken(), ZeroDivisionError), (["a", b"b"], TypeError)]:
        async with trionet.open_scope() as scope:
            one, other = unix_pair(scope)
            server = await server_by_hand(one, other)
            async with trio.open_nursery() as nursery:
                with pytest.raises(error):
                    await server.send_fragments(parts)
                nursery.start_soon(expect_closed, server)
                assert await receive_frame(other) == (0x01, b"a")
                first, payload = await receive_frame(other)
                assert (first, payload[:2]) == (0x88, (1011).to_bytes(2, "big"))
                await other.send_all(close(1011))
            assert await receive_all(other) == b""
            assert server.closed.code == 1011


async def expect_closed(websocket):
    with pytest.raises(ConnectionClosed):
        await websocket.send_message("after that")


async def test_cancelled_between_two_parts_is_cut_off_visibly_and_before_the_first_not_begun():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        produce, parts = trio.open_memory_channel(0)
        with trio.move_on_after(0):
            await server.send_fragments(parts)
        await server.send_message("fine")
        assert await receive_frame(other) == (0x81, b"fine")
        produce, parts = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_fragments, parts)
            await produce.send(b"a")
            assert await receive_frame(other) == (0x02, b"a")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        first, payload = await receive_frame(other)
        assert (first, payload[:2]) == (0x88, (1011).to_bytes(2, "big"))
        with pytest.raises(ConnectionClosed):
            await server.send_message("x")


async def test_a_close_waits_for_the_message_and_a_transfer_is_refused():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        produce, parts = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_fragments, parts)
            await produce.send("a")
            assert await receive_frame(other) == (0x01, b"a")
            with pytest.raises(HandleBusyError, match="send_fragments"):
                server.transfer(scope)
            nursery.start_soon(server.aclose)
            await wait_all_tasks_blocked()
            with pytest.raises(ConnectionClosed):
                await server.send_message("refused")
            await produce.send("b")
            await produce.aclose()
            assert await receive_frame(other) == (0x00, b"b")
            assert await receive_frame(other) == (0x80, b"")
            assert (await receive_frame(other))[0] == 0x88
            await other.send_all(close())
        assert server.closed.code == 1000


@pytest.mark.parametrize("begun", [True, False])
async def test_what_makes_the_parts_closes_without_waiting_for_itself(begun):
    codes = []
    async with trionet.open_scope(drain_timeout=math.inf) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)

        async def parts():
            if begun:
                yield "a"
            await server.aclose(4000)
            yield "b"

        async def answer():
            if begun:
                assert await receive_frame(other) == (0x01, b"a")
            first, payload = await receive_frame(other)
            assert first == 0x88
            codes.append(int.from_bytes(payload[:2], "big"))
            await other.send_all(close())

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                with pytest.raises(ConnectionClosed):
                    await server.send_fragments(parts())
        assert codes == [server.closed.code] == [1011 if begun else 4000]


async def test_what_makes_the_parts_of_one_message_cannot_send_another():
    """It would wait for its own turn to end."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        refused = []

        async def parts():
            yield "a"
            for send in (server.send_message("whole"), server.send_fragments(["x", "y"])):
                with pytest.raises(HandleBusyError, match="wait for the task that asks: send_fragments") as caught:
                    await send
                refused.append(caught.value.blockers[0].operation)
            trionet.broadcast([server], "posted")
            await server.pong()
            yield "b"

        with trio.fail_after(5):
            await server.send_fragments(parts())
        assert refused == ["send_fragments"] * 2
        got = [await receive_frame(other) for _ in range(5)]
        assert got == [(0x01, b"a"), (0x8A, b""), (0x00, b"b"), (0x80, b""), (0x81, b"posted")]


async def test_a_torn_part_breaks_the_websocket():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        clogged = clog(server)
        with trio.move_on_after(0.1):
            await server.send_fragments([b"x" * 10])
        assert server.phase is Phase.OPEN
        await other.receive_exactly(clogged)
        with trio.move_on_after(0.1):
            await server.send_fragments([b"x" * 10_000_000])
        with pytest.raises(trionet.HandleBrokenError):
            await server.send_message("y")


async def test_what_is_cut_off_or_empty_in_its_compressed_form():
    """A deflated message without any byte is empty, and leaves the stream as it was; one that is cut off is told."""
    for take in (lambda ws: ws.get_message(), taken):
        async with trionet.open_scope(drain_timeout=0) as scope:
            one, other = unix_pair(scope)
            await other.send_all(REQUEST[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
            server = await one.upgrade(trionet.to_websocket_server(compression=trionet.PerMessageDeflate()))
            await other.receive_until(b"\r\n\r\n", max_bytes=1000)
            hello = bytes.fromhex("f248cdc9c90700")
            for payload, expected in [(hello, "Hello"), (b"", ""), (hello, "Hello")]:
                await other.send_all(bytes((0xC1, 0x80 | len(payload))) + bytes(4) + payload)
                received = await take(server)
                assert (received if isinstance(received, str) else "".join(received)) == expected
            await other.send_all(bytes((0xC1, 0x83)) + bytes(4) + hello[:3])
            with pytest.raises(RemoteProtocolError, match="within a block"):
                await take(server)
            assert server.closed.code == 1007


# --- receiving ------------------------------------------------------------------------------------------------------


async def test_whoever_goes_on_to_the_next_message_drops_the_rest_of_this_one():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        for take in (server.get_message, lambda: anext(server.receive_fragments())):
            await other.send_all(text("a", fin=False) + frame(Opcode.CONT, b"b", fin=False))
            stream = server.receive_fragments()
            assert await anext(stream) == "a"
            await other.send_all(frame(Opcode.CONT, b"c") + text("next"))
            assert await take() == "next"
            with pytest.raises(LocalProtocolError, match="dropped"):
                await anext(stream)


@compressions
async def test_aclose_drops_the_rest_and_nothing_else(compression):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = tcp_pair(scope)
        server, client = await both(
            lambda: one.upgrade(trionet.to_websocket_server(compression=compression)),
            lambda: other.upgrade(trionet.to_websocket_client("ws://example/", compression=compression)),
        )
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send():
                for message in (["x" * 1000] * 3000, ["like x" * 100], ["like x" * 100]):
                    await client.send_fragments(message)

            stream = server.receive_fragments()
            assert (await anext(stream)).startswith("xx")
            await stream.aclose()
            await stream.aclose()
            assert await server.get_message() == "like x" * 100
            whole = server.receive_fragments()
            assert "".join([part async for part in whole]) == "like x" * 100
            await whole.aclose()


async def test_another_task_is_refused_until_the_message_is_over():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        stream = server.receive_fragments()
        await other.send_all(text("a", fin=False))
        assert await anext(stream) == "a"
        for attempt in (server.get_message, server.receive_fragments().__anext__):

            async def refused():
                with pytest.raises(HandleBusyError, match=r"in parts: .*receive_fragments.*aclose\(\)"):
                    await attempt()  # noqa: B023

            await both(refused)
        with pytest.raises(HandleBusyError, match="transfer refused.*receive_fragments"):
            server.transfer(scope)
        await other.send_all(frame(Opcode.CONT, b"b") + text("c"))
        assert [part async for part in stream] == ["b"]
        await both(server.get_message)
        moved = server.transfer(scope)
        with pytest.raises(HandleMovedError):
            await anext(server.receive_fragments())
        await other.send_all(text("d"))
        assert await taken(moved) == ["d"]


async def test_what_a_task_that_has_ended_left_is_dropped():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a", fin=False))
        await both(server.receive_fragments().__anext__)
        await other.send_all(frame(Opcode.CONT, b"b") + text("c"))
        assert await server.get_message() == "c"


async def test_cancelled_before_anything_came_is_as_if_nothing_was_asked():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        stream = server.receive_fragments()
        with trio.move_on_after(0):
            await anext(stream)
        await other.send_all(text("a"))
        await both(server.get_message)
        await other.send_all(text("b"))
        assert [part async for part in stream] == ["b"]


async def test_the_peer_ends_it_in_the_middle():
    for ending, error in [
        (close(4000, "sorry"), ConnectionClosed),
        (frame(Opcode.CONT, b"\xff"), RemoteProtocolError),
        (frame(Opcode.TEXT, b"new"), RemoteProtocolError),
    ]:
        async with trionet.open_scope() as scope:
            one, other = unix_pair(scope)
            server = await server_by_hand(one, other)
            await other.send_all(text("a", fin=False) + frame(Opcode.CONT, b"b", fin=False) + ending)
            stream = server.receive_fragments()
            assert await anext(stream) == "a"
            assert await anext(stream) == "b"
            with pytest.raises(error):
                await anext(stream)
            await other.aclose()


async def test_a_ping_between_parts_gives_up_at_the_bound():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=1000)
        stream = server.receive_fragments()
        await other.send_all(text("a" * 10, fin=False))
        assert await anext(stream) == "a" * 10
        await other.send_all(frame(Opcode.CONT, b"b" * 2000, fin=False))
        with pytest.raises(LimitExceededError, match="ping given up"):
            await server.ping(b"?")
        await other.send_all(frame(Opcode.PONG, b"?") + frame(Opcode.CONT, b"c"))
        assert "".join([part async for part in stream]) == "b" * 2000 + "c"


async def test_a_message_too_big_to_be_whole_is_left_for_who_wants_it_in_parts(autojump_clock):
    """The caretaker's tick, and a ping, take in what comes; neither decides that a message is too big."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        client = await client_by_hand(one, other, max_message_size=1000)
        await other.send_all(text("small", masked=False) + text("x" * 5000, masked=False))
        await trio.sleep(3)
        with pytest.raises(LimitExceededError, match="ping given up"):
            await client.ping()
        assert await client.get_message() == "small"
        assert "".join(await taken(client)) == "x" * 5000
        await other.send_all(text("x" * 5000, masked=False))
        await trio.sleep(3)
        with pytest.raises(LimitExceededError, match="5000 bytes"):
            await client.get_message()


async def test_a_ping_does_not_decide_that_a_message_is_too_big():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        client = await client_by_hand(one, other, max_message_size=1000)
        await other.send_all(text("x" * 5000, masked=False))
        with pytest.raises(LimitExceededError, match="ping given up"):
            await client.ping()
        assert "".join(await taken(client)) == "x" * 5000


async def test_two_websockets_with_a_limit_still_talk_in_parts():
    async with trionet.open_scope(drain_timeout=0) as scope:
        server, client = await two_websockets(*unix_pair(scope), max_message_size=10)

        async def send():
            await client.send_fragments(["x" * 8] * 10)

        async def receive():
            assert "".join(await taken(server)) == "x" * 80

        await both(send, receive)


# --- generators ---------------------------------------------------------------------------------------------------


class Watched:
    """An iterable whose iterators are generators; `opened` and `closed` count them."""

    def __init__(self, *parts, blocks=False):
        self.parts, self.blocks = parts, blocks
        self.opened = self.closed = 0

    async def __aiter__(self):
        self.opened += 1
        try:
            for part in self.parts:
                yield part
            if self.blocks:
                await trio.sleep_forever()
        finally:
            self.closed += 1

    def sync(self):
        self.opened += 1
        try:
            yield from self.parts
        finally:
            self.closed += 1


@pytest.mark.parametrize("kind", ["async generator", "generator", "iterable"])
@pytest.mark.parametrize("how", ["whole", "wrong part", "peer gone", "cancelled", "refused"])
async def test_the_generator_is_closed_when_the_call_ends(kind, how, autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        watched = Watched("a", 1 if how == "wrong part" else "b", blocks=how == "cancelled" and kind != "generator")
        parts = {"async generator": watched.__aiter__, "generator": watched.sync, "iterable": lambda: watched}[kind]()
        if how == "peer gone":
            other.abort()
            clog_until_broken(server)
        elif how == "refused":
            server.abort()
        elif how == "cancelled" and kind == "generator":
            clog(server)
        if how == "refused" and kind == "async generator":
            await anext(parts)
        elif how == "refused" and kind == "generator":
            next(parts)
        with trio.move_on_after(1):
            if how in ("whole", "cancelled"):
                await server.send_fragments(parts)
            else:
                with pytest.raises((TypeError, ConnectionClosed)):
                    await server.send_fragments(parts)
        assert watched.closed == watched.opened
        assert watched.opened == (0 if how == "refused" and kind == "iterable" else 1)


def clog_until_broken(server):
    """Send behind the handle's back until the system says that the peer has gone."""
    with pytest.raises(trio.BrokenResourceError):
        while True:
            server._transport.send_some(b"x")


async def test_what_is_no_generator_is_not_closed():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        send, receive = trio.open_memory_channel(2)
        for part in ("a", "b"):
            send.send_nowait(part)
        send.close()
        await server.send_fragments(receive)
        receive.statistics()
        with pytest.raises(trio.EndOfChannel):
            receive.receive_nowait()
