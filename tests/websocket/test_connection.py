"""Messages: their kinds, their order, exactness under cancellation; and the handle that carries them."""

import pytest
import trio
import trio_websocket
from trio.testing import assert_checkpoints, wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import (
    HandleBrokenError,
    HandleMovedError,
    LocalProtocolError,
    Phase,
)

from ..helpers.pairs import PAIRS, clog, receive_all, unix_pair
from ..helpers.websockets_by_hand import (
    both,
    close,
    frame,
    receive_frame,
    server_by_hand,
    text,
    two_websockets,
    until_closed,
)
from ..stories.test_cancel_everywhere import at_every_checkpoint

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


@every_pair
async def test_messages_of_every_kind_and_size(make_pair):
    async with trionet.open_scope() as scope:
        server, client = await two_websockets(*make_pair(scope), max_message_size=None)
        for message in [
            "",
            "ä€😀",
            b"",
            b"\0" * 125,
            "x" * 126,
            b"y" * 70_000,
            bytearray(b"a"),
            memoryview(b"abcd")[::2],
        ]:
            expected = message if isinstance(message, str) else bytes(message)

            async def echo():
                await server.send_message(await server.get_message())

            async def ask():
                await client.send_message(message)  # noqa: B023
                return await client.get_message()

            assert (await both(echo, ask))[1] == expected
        for wrong in (5, None, ["a"]):
            with pytest.raises(TypeError, match="must be str or bytes"):
                await client.send_message(wrong)
        with pytest.raises(LocalProtocolError, match="UTF-8"):
            await client.send_message("\ud800")
        await both(client.aclose, lambda: until_closed(server))


async def test_receives_are_checkpoints_and_sends_alone_yield():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, behind=text("a"))
        await other.send_all(text("b"))
        for message in "ab":
            with assert_checkpoints():
                assert await server.get_message() == message
        await server.send_message("once")
        with assert_checkpoints():
            await server.send_message("again")


async def test_taking_what_has_been_received_lets_others_run_now_and_then():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 100)
        await server.get_message()
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(98):
                await server.get_message()
            assert 2 <= turns <= 4
            with trio.CancelScope() as cancelled:
                cancelled.cancel()
                await server.get_message()
            assert cancelled.cancelled_caught
            assert await server.get_message() == "a"
            nursery.cancel_scope.cancel()


async def test_taking_whole_messages_as_parts_lets_others_run_now_and_then():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") * 100)
        await server.get_message()
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(98):
                async for part in server.receive_fragments():
                    assert part == "a"
                    break
            assert turns >= 2
            nursery.cancel_scope.cancel()


async def test_tasks_that_receive_get_messages_in_the_order_of_asking():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        got = []

        async def take(index):
            got.append((index, await server.get_message()))

        async with trio.open_nursery() as nursery:
            for index in range(4):
                nursery.start_soon(take, index)
                await wait_all_tasks_blocked()
            await other.send_all(b"".join(text(str(index)) for index in range(4)))
        assert got == [(index, str(index)) for index in range(4)]


async def test_a_task_that_gives_up_waiting_takes_nothing():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            await wait_all_tasks_blocked()
            with trio.move_on_after(0) as timeout:
                await server.get_message()
            assert timeout.cancelled_caught
            nursery.cancel_scope.cancel()
        data = text("a")
        await other.send_all(data[:3])
        with trio.move_on_after(0):
            await server.get_message()
        await other.send_all(data[3:])
        assert await server.get_message() == "a"


async def test_senders_queue_message_by_message():
    """Two tasks send while the socket is full: no frame lies inside another, and the first to ask is the first out."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        sizes = [200_000, 10, 300_000, 20]
        async with trio.open_nursery() as nursery:
            for size in sizes:
                nursery.start_soon(server.send_message, b"x" * size)
                await wait_all_tasks_blocked()
            assert [len((await receive_frame(other))[1]) for _ in sizes] == sizes


async def test_a_message_cut_off_half_way_breaks_sending_and_only_that():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_message, b"x" * 1_000_000)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(HandleBrokenError, match="abandoned after") as caught:
            await server.send_message("swallowed?")
        assert isinstance(caught.value, trio_websocket.ConnectionClosed)
        assert 0 < caught.value.bytes_sent < 1_000_000
        await other.send_all(text("still heard"))
        assert await server.get_message() == "still heard"
        with pytest.raises(HandleBrokenError):
            await server.ping()
        await server.aclose()
        assert server.phase is Phase.CLOSED
        assert len(await receive_all(other)) == caught.value.bytes_sent


async def test_a_message_that_was_not_begun_has_not_happened():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        filler = clog(server)
        for send in (server.send_message, server.pong):
            with trio.move_on_after(0.01) as timeout:
                await send(b"lost")
            assert timeout.cancelled_caught
        await other.receive_exactly(filler)
        await server.send_message("next")
        assert await receive_frame(other) == (0x81, b"next")


@every_pair
async def test_cancelled_at_every_checkpoint_a_message_is_whole_or_nothing(make_pair):
    async def scenario(cancelling):
        async with trionet.open_scope(drain_timeout=0) as scope:
            server, client = await two_websockets(*make_pair(scope))
            received = []
            with cancelling.scope:
                for message in "abc":
                    await client.send_message(message)
                    received.append(await server.get_message())
            assert received == list("abc"[: len(received)])
            if client.phase is Phase.OPEN and client._life.state.send is trionet.ownership.Send.IDLE:
                await client.send_message("end")
                while (message := await server.get_message()) != "end":
                    received.append(message)
                assert received == list("abc"[: len(received)])

    await at_every_checkpoint(scenario)


async def test_transfer_takes_everything_along():
    async with trionet.open_scope() as outer:
        async with trionet.open_scope() as inner:
            one, other = unix_pair(inner)
            server = await server_by_hand(one, other, behind=text("a") + text("b") + text("cd", fin=False))
            other = other.transfer(outer)
            assert await server.get_message() == "a"
            moved = server.transfer(outer)
            with pytest.raises(HandleMovedError):
                await server.get_message()
            with pytest.raises(HandleMovedError):
                await server.send_message("x")
            assert [message async for message in server] == []
        assert moved.phase is Phase.OPEN
        assert await moved.get_message() == "b"
        await other.send_all(frame(Opcode.CONT, b"ef") + close())
        assert await moved.get_message() == "cdef"
        await until_closed(moved)


async def test_what_becomes_of_a_transferred_websocket_is_not_told_of_the_handle_before():
    async with trionet.open_scope(drain_timeout=1) as scope:
        server, client = await two_websockets(*unix_pair(scope))
        moved = server.transfer(scope)
        await both(lambda: client.aclose(1001, "enough"), lambda: until_closed(moved))
        assert moved.closed.code == 1001
        assert server.closed is None
        assert server._ended_by_peer is None


async def test_a_transfer_during_a_drain_leaves_the_rest_of_the_grace(autojump_clock):
    async with trionet.open_scope(drain_timeout=1) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("question"))
        server._retire(3.0)
        moved = server.transfer(scope)
        await trio.sleep(2)  # some ticks of the caretaker
        assert moved.phase is Phase.OPEN
        assert await moved.get_message() == "question"
        await moved.send_message("answer")
        assert (await receive_frame(other))[1] == b"answer"
        await trio.sleep(2)
        assert moved.phase is not Phase.OPEN


async def test_a_transferred_websocket_is_closed_at_a_drain_with_the_code_that_was_asked_for():
    """1012 (service restart) tells the client to come again, wherever the WebSocket lives by then."""
    async with trionet.open_scope(drain_timeout=1) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        server._closing.drain_code = 1012
        moved = server.transfer(scope)
        moved._retire()
        await both(lambda: until_closed(moved), lambda: expect_close(other, 1012))


async def expect_close(client, code):
    first, data = await receive_frame(client)
    assert (first & 0x0F, data) == (Opcode.CLOSE, code.to_bytes(2, "big"))
    await client.send_all(close(code))


async def test_a_websocket_in_use_is_not_transferred_and_never_detached():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            await wait_all_tasks_blocked()
            with pytest.raises(trionet.HandleBusyError, match="receive by task"):
                server.transfer(scope)
            with pytest.raises(LocalProtocolError, match="use transfer"):
                server.detach()
            with pytest.raises(LocalProtocolError, match="use transfer"):
                await server.detach_when_idle()
            nursery.cancel_scope.cancel()
