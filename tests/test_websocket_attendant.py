"""What a WebSocket does while no task receives: it answers pings and closes, within bounds, and looks for its peer."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import ConnectionClosed, Phase, Reason
from trionet.websocket.assembly import MAX_KEPT
from trionet.websocket.engine import COSTLY, FRAMES, MAX_PONGS
from trionet.websocket.keepalive import Keepalive

from .pairs import clog, receive_all, tcp_pair, unix_pair
from .websockets_by_hand import close, frame, receive_frame, server_by_hand, text


def keep_alive(websocket, **options):
    websocket._keepalive = Keepalive(**options)
    return websocket


async def test_pings_are_answered_while_the_application_sleeps(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, behind=frame(Opcode.PING, b"first"))
        answered = []

        async def peer():
            answered.append((await receive_frame(other))[1])
            for index in range(20):
                await other.send_all(text(f"message {index}") + frame(Opcode.PING, b"%d" % index))
                answered.append((await receive_frame(other))[1])
                await trio.sleep(2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer)
            await trio.sleep(60)
            assert answered == [b"first", *(b"%d" % index for index in range(20))]
            assert server.blockers == ()
        for index in range(20):
            assert await server.get_message() == f"message {index}"


async def test_the_peers_close_is_answered_and_its_messages_are_kept(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("last") + close(4000))
        assert await receive_frame(other) == (0x88, (4000).to_bytes(2, "big"))
        assert (await server.wait_ended()).reason is Reason.PEER_EOF
        assert await server.get_message() == "last"
        with pytest.raises(ConnectionClosed, match="4000"):
            await server.get_message()


async def test_an_offence_is_answered(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(frame(Opcode.TEXT, b"\xff"))
        assert (await receive_frame(other))[1][:2] == (1007).to_bytes(2, "big")
        await other.aclose()
        assert (await server.wait_ended()).reason is Reason.PROTOCOL_ERROR


async def test_the_end_of_the_connection_is_noticed(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        other.abort()
        assert (await server.wait_ended()).reason is Reason.PEER_EOF
        assert server.closed.code == 1006


async def test_a_reset_is_noticed(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        server = await server_by_hand(one, other)
        await server.send_message("never read")
        await wait_all_tasks_blocked()
        other.abort()
        await trio.sleep(3)
        with pytest.raises(trionet.HandleBrokenError):
            await server.get_message()
        assert server.closed.code == 1006


@pytest.mark.parametrize("message", [text("x" * 1000), text("")], ids=["big", "empty"])
async def test_what_is_kept_is_bounded_and_nothing_is_lost(message, autojump_clock):
    """A peer floods while nobody receives: TCP makes it wait, and everything is there when somebody does."""
    sent = taken = 0
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=100_000)
        async with trio.open_nursery() as nursery:

            async def flood():
                nonlocal sent
                with pytest.raises(trionet.HandleBrokenError):
                    while True:
                        await other.send_all(message * 100)
                        sent += 100

            nursery.start_soon(flood)
            await trio.sleep(60)
            stuck = sent
            await trio.sleep(60)
            assert sent == stuck
            assert server._engine.buffered < 100_000 + 65536
            assert len(server._engine.messages) < MAX_KEPT + 65536 // 6
            while taken < stuck:
                await server.get_message()
                taken += 1
            assert server.phase is Phase.OPEN
            server.abort()


async def test_of_the_pings_of_a_batch_each_is_answered_up_to_a_bound(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(b"".join(frame(Opcode.PING, b"%d" % index) for index in range(MAX_PONGS)))
        for index in range(MAX_PONGS):
            assert await receive_frame(other) == (0x8A, b"%d" % index)
        await other.send_all(b"".join(frame(Opcode.PING, b"%d" % index) for index in range(2000)))
        answered = [await receive_frame(other)]
        while answered[-1] != (0x8A, b"1999"):
            answered.append(await receive_frame(other))
        assert len(answered) <= MAX_PONGS * (2000 * COSTLY // FRAMES + 1)
        assert server.phase is Phase.OPEN


async def test_a_task_that_receives_is_left_alone(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        got = []

        async def receive():
            got.append(await server.get_message())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.sleep(5)
            assert [blocker.operation for blocker in server.blockers] == ["receive"]
            await other.send_all(text("x"))
        assert got == ["x"]


async def test_it_goes_along_with_a_transfer(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as outer:
        async with trionet.open_scope() as inner:
            one, other = unix_pair(inner)
            server = await server_by_hand(one, other)
            other = other.transfer(outer)
            await other.send_all(text("kept") + frame(Opcode.PING, b"1"))
            assert await receive_frame(other) == (0x8A, b"1")
            moved = server.transfer(outer)
        await other.send_all(frame(Opcode.PING, b"2"))
        assert await receive_frame(other) == (0x8A, b"2")
        assert await moved.get_message() == "kept"


# --- keepalive ----------------------------------------------------------------------------------------------------


async def test_a_peer_that_answers_keeps_the_connection_and_its_latency_is_known(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = keep_alive(await server_by_hand(one, other), ping_interval=5, ping_timeout=3)
        assert server.statistics().latency is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            began = trio.current_time()
            for _ in range(3):
                opcode, payload = await receive_frame(other)
                assert opcode == 0x89
                await trio.sleep(0.5)
                await other.send_all(frame(Opcode.PONG, payload))
                await wait_all_tasks_blocked()
                assert server.statistics().latency == pytest.approx(0.5)
            assert 15 <= trio.current_time() - began <= 17
            nursery.cancel_scope.cancel()
        assert server.phase is Phase.OPEN


async def test_a_peer_that_does_not_answer_is_given_up(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = keep_alive(await server_by_hand(one, other), ping_interval=5, ping_timeout=3)
        began = trio.current_time()
        with pytest.raises(ConnectionClosed, match="1006"):
            await server.get_message()
        assert 8 <= trio.current_time() - began <= 10
        with pytest.raises(ConnectionClosed, match=r"no pong came within 3 s \(ping_timeout\)"):
            server.end.outcome.unwrap()
        assert (await receive_all(other))[0] == 0x89


async def test_without_a_timeout_nobody_is_given_up(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = keep_alive(await server_by_hand(one, other), ping_interval=5, ping_timeout=None)
        await trio.sleep(100)
        assert server.phase is Phase.OPEN


async def test_a_ping_that_is_due_waits_for_the_message_that_is_being_sent(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = keep_alive(await server_by_hand(one, other), ping_interval=2, ping_timeout=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_message, b"x" * 1_000_000)
            await trio.sleep(20)
            assert (await receive_frame(other))[1] == b"x" * 1_000_000
        assert (await receive_frame(other))[0] == 0x89


async def test_a_ping_for_which_there_is_no_room_goes_out_behind_a_pong_that_waits_too(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = keep_alive(await server_by_hand(one, other), ping_interval=2, ping_timeout=None)
        filler = clog(server)
        await other.send_all(frame(Opcode.PING, b"?"))
        await trio.sleep(10)
        await other.receive_exactly(filler)
        assert await receive_frame(other) == (0x8A, b"?")
        assert (await receive_frame(other))[0] == 0x89


@pytest.mark.parametrize("wrong", [{"ping_interval": 0}, {"ping_timeout": -1}])
def test_numbers_that_cannot_be_right_are_refused(wrong):
    with pytest.raises(ValueError, match="must be more than 0 seconds"):
        Keepalive(**wrong)
