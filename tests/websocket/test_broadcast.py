"""One message for many, and many in one system call: what leaves when and in which order, and slow peers."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import ConnectionClosed, LocalProtocolError, broadcast
from trionet.custody.caretaker import Caretaker

from ..helpers.pairs import PAIRS, clog, memory_pair, tcp_pair, unix_pair
from ..helpers.websockets_by_hand import (
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


def counting(websocket):
    """What `websocket` hands to the system, call by call."""
    calls = []
    transport = websocket._transport
    send_some = transport.send_some

    class Counting(type(transport)):
        __slots__ = ()

        def send_some(self, data):
            sent = send_some(data)
            calls.append(bytes(data[:sent]))
            return sent

    transport.__class__ = Counting
    return calls


# --- broadcast ------------------------------------------------------------------------------------------------------


@every_pair
async def test_everybody_gets_it_in_order_with_what_is_sent_before_and_after(make_pair, autojump_clock):
    async with trionet.open_scope() as scope:
        pairs = [await two_websockets(*make_pair(scope)) for _ in range(3)]
        everybody = [side for pair in pairs for side in pair]
        for side in everybody:
            await side.send_message("before")
        assert broadcast(everybody, "ä€😀") == []
        assert broadcast(iter(everybody), bytearray(b"x" * 1000)) == []
        assert broadcast(everybody, memoryview(b"abcd")[::2]) == []
        for side in everybody:
            await side.send_message("after")
        for side in everybody:
            got = [await side.get_message() for _ in range(5)]
            assert got == ["before", "ä€😀", b"x" * 1000, b"ac", "after"]


async def test_a_server_does_not_compress_or_mask_it_and_a_client_masks_it():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        one, third = unix_pair(scope)
        client = await client_by_hand(one, third)
        assert broadcast([server, client], "hi") == []
        assert await other.receive_exactly(4) == b"\x81\x02hi"
        head = await third.receive_exactly(8)
        assert head[:2] == b"\x81\x82"
        assert bytes(byte ^ key for byte, key in zip(head[6:], head[2:4], strict=True)) == b"hi"


async def test_those_that_are_over_are_passed_over():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        gone, _ = unix_pair(scope)
        gone = await server_by_hand(gone, _)
        gone.abort()
        assert broadcast([gone, server, gone], "hi") == [gone, gone]
        assert await receive_frame(other) == (0x81, b"hi")
        assert broadcast([], "hi") == []


@pytest.mark.parametrize(
    ("message", "options", "error"),
    [(5, {}, TypeError), ("\ud800", {}, LocalProtocolError), ("a", {"when_slow": "wait"}, ValueError)],
)
async def test_what_cannot_be_sent_goes_to_nobody(message, options, error):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        with pytest.raises(error):
            broadcast([server], message, **options)
        await server.send_message("first")
        assert await receive_frame(other) == (0x81, b"first")


async def test_a_slow_peer_is_skipped_beyond_the_bound_and_gets_the_rest_in_order():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        slow = await server_by_hand(one, other)
        one, quick_peer = unix_pair(scope)
        quick = await server_by_hand(one, quick_peer)
        clogged = clog(slow)
        missed = []
        for index in range(30):
            missed.append(broadcast([slow, quick], f"{index:100}", max_buffered=1100))
            assert await receive_frame(quick_peer) == (0x81, b"%100d" % index)
            await wait_all_tasks_blocked()
        got = [index for index in range(30) if not missed[index]]
        assert got == list(range(len(got)))
        assert 10 <= len(got) <= 12  # ten in the buffer; up to two with the system and the task that waits for it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.send_message, "after")
            await wait_all_tasks_blocked()
            await other.receive_exactly(clogged)
            for index in got:
                assert await receive_frame(other) == (0x81, b"%100d" % index)
            assert await receive_frame(other) == (0x81, b"after")
        assert broadcast([slow], "again") == []


async def test_a_slow_peer_is_closed_where_that_is_asked_for():
    async with trionet.open_scope(drain_timeout=1) as scope:
        one, other = unix_pair(scope)
        slow = await server_by_hand(one, other)
        clogged = clog(slow)
        assert broadcast([slow], b"x" * 1000, when_slow="close", max_buffered=10) == []  # fits into an empty buffer
        assert broadcast([slow], b"y", when_slow="close", max_buffered=10) == [slow]
        assert slow.closed.code == 1013
        with pytest.raises(ConnectionClosed):
            await slow.send_message("z")
        assert broadcast([slow], b"y") == [slow]
        await other.receive_exactly(clogged)
        assert await receive_frame(other) == (0x82, b"x" * 1000)
        first, payload = await receive_frame(other)
        assert (first, payload[:2]) == (0x88, (1013).to_bytes(2, "big"))
        await other.send_all(close(1013))


async def test_what_waits_moves_along_with_a_transfer_and_leaves_before_the_close():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 3)
        await server.get_message()
        await server.send_message("1")  # waits in the buffer, as two more messages are there
        moved = server.transfer(scope)
        assert await receive_frame(other) == (0x81, b"1")
        await moved.send_message("2")

        async def leave():
            assert await receive_frame(other) == (0x81, b"2")
            assert (await receive_frame(other))[0] == 0x88
            await other.send_all(close())

        await both(moved.aclose, leave)


# --- coalescing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_pair", [tcp_pair, unix_pair], ids=["tcp", "unix"])
async def test_answers_to_messages_that_came_together_leave_together(make_pair):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = make_pair(scope)
        server = await server_by_hand(one, other)
        calls = counting(server)
        await other.send_all(b"".join(text(str(index)) for index in range(16)))
        for _ in range(16):
            await server.send_message(await server.get_message())
        for index in range(16):
            assert await receive_frame(other) == (0x81, str(index).encode())
        assert len(calls) == 1


async def test_they_do_not_wait_for_a_handler_that_does_something_else():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") + text("b"))
        await server.send_message(await server.get_message())
        assert await receive_frame(other) == (0x81, b"a")
        await server.send_message(await server.get_message())
        assert await receive_frame(other) == (0x81, b"b")


async def test_the_buffer_is_bounded_and_many_sends_let_others_run():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 2)
        await server.get_message()
        clogged = clog(server)
        sent = 0
        with trio.move_on_after(0.1):
            for _ in range(100_000):
                await server.send_message(b"x" * 100)
                sent += 1
        assert 0 < sent <= 65536 / 102 + 2
        await other.receive_exactly(clogged)
        await server.send_message("last")
        for _ in range(sent):
            assert await receive_frame(other) == (0x82, b"x" * 100)
        assert await receive_frame(other) == (0x81, b"last")


async def test_large_answers_fill_it_sooner():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 2)
        await server.get_message()
        clog(server)
        sent = 0
        with trio.move_on_after(0.1):
            for _ in range(30):  # fewer than it takes to let other tasks run
                await server.send_message(b"x" * 10_000)
                sent += 1
        assert sent == 7


async def test_answers_that_leave_together_let_others_run_now_and_then():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 2)
        await server.get_message()
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(100):
                await server.send_message("b")
            assert turns >= 2
            nursery.cancel_scope.cancel()
        for _ in range(100):
            assert await receive_frame(other) == (0x81, b"b")


async def test_they_have_left_before_the_reader_waits_for_more(monkeypatch):
    """Without the task that sees to them where the reader is busy elsewhere."""
    monkeypatch.setattr(Caretaker, "flush_soon", lambda self, charge: None)
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 2)
        await server.get_message()
        await server.send_message("b")
        await server.get_message()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            assert await receive_frame(other) == (0x81, b"b")
            nursery.cancel_scope.cancel()


async def test_a_send_that_is_cancelled_leaves_what_was_before_it_in_its_place():
    """Given one in the buffer and one that waits behind it: when a third is broadcast, and the second cancelled."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 2)
        await server.get_message()
        clogged = clog(server)
        await server.send_message("1")
        await server.get_message()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def broadcast_and_cancel():
                await wait_all_tasks_blocked()
                assert broadcast([server], "3") == []
                waiting.cancel()

            with trio.CancelScope() as waiting:
                await server.send_message("2")
            assert waiting.cancelled_caught
        await other.receive_exactly(clogged)
        assert await receive_frame(other) == (0x81, b"1")
        assert await receive_frame(other) == (0x81, b"3")
        await server.send_message("4")
        assert await receive_frame(other) == (0x81, b"4")


async def test_pongs_and_buffered_messages_leave_whole_and_once():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") + text("b") + frame(Opcode.PING, b"?") + text("c"))
        for message in "abc":
            assert await server.get_message() == message
            await server.send_message(message)
        seen = [await receive_frame(other) for _ in range(4)]
        assert sorted(seen) == [(0x81, b"a"), (0x81, b"b"), (0x81, b"c"), (0x8A, b"?")]
        assert [payload for first, payload in seen if first == 0x81] == [b"a", b"b", b"c"]


async def test_a_failure_of_the_flush_is_told_by_the_next_operation():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = tcp_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 2)
        await server.get_message()
        other._transport.spoil()
        other.abort()
        await server.send_message("lost")
        await server.get_message()
        with pytest.raises(trionet.HandleBrokenError):
            await server.get_message()
        with pytest.raises(trionet.HandleBrokenError):
            await server.send_message("refused")
