"""What a WebSocket does while no task receives: it answers pings and closes, within bounds, and looks for its peer."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import ConnectionClosed, Phase, Reason, to_tls_client, to_tls_server
from trionet.websocket.keepalive import KeepaliveOptions
from trionet.websocket.protocol.engine import COSTLY, FRAMES
from trionet.websocket.protocol.reader import MAX_KEPT
from trionet.websocket.protocol.writer import MAX_PONGS

from ..helpers.http_served import vanish
from ..helpers.pairs import SOCKET_PAIRS, clog, lockstep_pair, memory_pair, receive_all, tcp_pair, unix_pair
from ..helpers.websockets_by_hand import REQUEST, both, close, frame, receive_frame, server_by_hand, text


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
            assert server._engine.reader.buffered < 100_000 + 65536
            assert len(server._engine.reader.messages) < MAX_KEPT + 65536 // 6
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
        server = await server_by_hand(one, other, ping_interval=5, ping_timeout=3)
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
        server = await server_by_hand(one, other, ping_interval=5, ping_timeout=3)
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
        server = await server_by_hand(one, other, ping_interval=5, ping_timeout=None)
        await trio.sleep(100)
        assert server.phase is Phase.OPEN


async def test_a_ping_that_is_due_waits_for_the_message_that_is_being_sent(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, ping_interval=2, ping_timeout=None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_message, b"x" * 1_000_000)
            await trio.sleep(20)
            assert (await receive_frame(other))[1] == b"x" * 1_000_000
        assert (await receive_frame(other))[0] == 0x89


async def test_a_ping_for_which_there_is_no_room_goes_out_behind_a_pong_that_waits_too(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, ping_interval=2, ping_timeout=None)
        filler = clog(server)
        await other.send_all(frame(Opcode.PING, b"?"))
        await trio.sleep(10)
        await other.receive_exactly(filler)
        assert await receive_frame(other) == (0x8A, b"?")
        assert (await receive_frame(other))[0] == 0x89


async def endless():
    while True:
        yield b"x" * 100_000


SENDS = {
    "message": lambda websocket: websocket.send_message(b"x" * 1_000_000),
    "fragments": lambda websocket: websocket.send_fragments(endless()),
    "ping": lambda websocket: websocket.ping(),
}


@pytest.mark.parametrize("pair", SOCKET_PAIRS.values(), ids=SOCKET_PAIRS)
async def test_a_pong_that_has_come_by_the_time_counts(pair, autojump_clock):
    """Something has held the program up, so that the reader had no turn to take it before the caretaker looked."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = pair(scope)
        server = await server_by_hand(one, other, ping_interval=5, ping_timeout=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.get_message)
            _, payload = await receive_frame(other)
            await trio.sleep(2)
            pong = frame(Opcode.PONG, payload)
            assert other._transport.send_some(pong) == len(pong)
            while not server._transport.input_waits():
                pass  # the system may be a moment late
            server._attendance.tick(trio.current_time() + 20)
            assert server.phase is Phase.OPEN
            await wait_all_tasks_blocked()
            assert server.statistics().latency == pytest.approx(2, abs=0.6)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
@pytest.mark.parametrize("pair", SOCKET_PAIRS.values(), ids=SOCKET_PAIRS)
async def test_a_peer_that_takes_nothing_is_given_up(pair, send, reading, autojump_clock):
    """Stopped, say. Not even a ping could be sent to it, as the send under way has the turn."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = pair(scope)
        server = await server_by_hand(one, other, ping_interval=2, ping_timeout=3)
        clog(server)

        async def receive():
            with pytest.raises(ConnectionClosed, match="1006"):
                await server.get_message()

        async with trio.open_nursery() as nursery:
            if reading:
                nursery.start_soon(receive)
            began = trio.current_time()
            with pytest.raises(ConnectionClosed, match="1006") as caught:
                await send(server)
        assert str(caught.value).count("1006") == 1
        assert 3 <= trio.current_time() - began <= 4.5
        assert server.end.reason is Reason.IDLE_TIMEOUT
        with pytest.raises(ConnectionClosed, match=r"took nothing of what is sent within 3 s \(ping_timeout\)"):
            server.end.outcome.unwrap()


async def test_a_peer_that_does_not_take_what_was_broadcast_is_given_up(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, ping_interval=2, ping_timeout=3)
        clog(server)
        trionet.broadcast([server], "x")
        with trio.fail_after(5):
            assert (await server.wait_ended()).reason is Reason.IDLE_TIMEOUT


async def test_a_peer_that_reads_slowly_is_not_given_up(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, ping_interval=2, ping_timeout=3)
        message = b"x" * 2_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_message, message)
            received = 0
            while received < len(message):
                received += len(await other.receive_exactly(50_000))
                await trio.sleep(1)
        assert server.phase is Phase.OPEN


async def get_whole(server):
    assert len(await server.get_message()) == 60_000


async def get_parts(server):
    assert sum([len(part) async for part in server.receive_fragments()]) == 60_000


async def get_later(server):
    await trio.sleep(59)
    await get_whole(server)


@pytest.mark.parametrize("over", ["unix", "TLS", "memory"])
@pytest.mark.parametrize("get", [get_whole, get_parts, get_later])
async def test_a_peer_whose_bytes_keep_arriving_is_not_given_up(
    get, over, autojump_clock, server_context, client_context
):
    """A frame, or a TLS record, that takes a minute. The pong can come behind it only."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = memory_pair(scope) if over == "memory" else unix_pair(scope)
        send = other.send_all
        if over == "TLS":
            one, other = await both(
                lambda: one.upgrade(to_tls_server(server_context)),
                lambda: other.upgrade(to_tls_client("localhost", ssl_context=client_context)),
            )
            send = other._transport.lower.send_all
        server = await server_by_hand(one, other, ping_interval=2, ping_timeout=3)
        data = frame(Opcode.BINARY, bytes(60_000))
        if over == "TLS":
            for at in range(0, len(data), 16384):
                other._transport.engine.ssl_object.write(data[at : at + 16384])
            data = other._transport.engine.take_output()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, server)
            for at in range(0, len(data), 1000):
                await send(data[at : at + 1000])
                await trio.sleep(1)
        assert server.phase is Phase.OPEN


async def test_a_peer_that_sends_but_answers_no_ping_is_given_up_when_it_falls_silent(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, ping_interval=2, ping_timeout=3)
        for _ in range(20):
            await other.send_all(text("x"))
            await trio.sleep(1)
        assert server.phase is Phase.OPEN
        began = trio.current_time()
        assert (await server.wait_ended()).reason is Reason.IDLE_TIMEOUT
        assert 2 <= trio.current_time() - began <= 4


async def test_a_peer_that_was_held_back_is_not_given_up(autojump_clock):
    """Enough messages wait to be taken, so its pong stands behind bytes that nobody receives."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=1000, ping_interval=2, ping_timeout=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.send_all, text("x" * 900) * 500)
            await trio.sleep(60)
            assert server.phase is Phase.OPEN
            for _ in range(500):
                await server.get_message()


async def test_a_peer_that_takes_nothing_is_given_up_though_it_is_held_back(autojump_clock):
    """Else whoever sends enough, and reads nothing, has a task of the server for as long as it likes."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=1000, ping_interval=60, ping_timeout=3)
        clog(server)
        for _ in range(2):
            await other.send_all(text("x" * 900) * 20)
            await trio.sleep(2)
        assert not server._transport.is_silent()
        await server.send_message("x")
        began = trio.current_time()
        with trio.fail_after(10):
            assert (await server.wait_ended()).reason is Reason.IDLE_TIMEOUT
        assert 3 <= trio.current_time() - began <= 4.5


async def test_a_peer_that_is_held_back_and_goes_on_sending_is_alive(autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=1000, ping_interval=2, ping_timeout=3)
        clog(server)

        async def send():
            with pytest.raises(ConnectionClosed, match="1006"):
                await server.send_message("x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for _ in range(30):
                await other.send_all(text("x" * 900))
                await trio.sleep(1)
            assert server.phase is Phase.OPEN
            with trio.fail_after(5):
                await server.wait_ended()


@pytest.mark.parametrize("wrong", [{"ping_interval": 0}, {"ping_timeout": -1}])
def test_numbers_that_cannot_be_right_are_refused(wrong):
    with pytest.raises(ValueError, match="must be more than 0 seconds"):
        KeepaliveOptions(**wrong)


async def test_a_reset_that_a_send_has_met_does_not_look_like_an_end():
    """The kernel reports a reset once, to the send here; behind it a receive finds EOF."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        server = await server_by_hand(one, other)
        vanish(other)
        with pytest.raises(trionet.HandleBrokenError):
            await server.send_message("lost")
        with pytest.raises(trionet.HandleBrokenError):
            await server.get_message()
        await server.aclose()
        assert server.end.reason is Reason.PEER_RESET


async def test_a_send_on_a_stream_that_cannot_tell_its_progress_is_not_taken_for_dead(autojump_clock):
    """Whether the peer of a foreign stream takes anything is not known: so that is no reason to end it."""
    async with trionet.open_scope() as scope:
        one, other = lockstep_pair(scope)

        async def shake_hands():
            await other.send_all(REQUEST)
            await other.receive_until(b"\r\n\r\n", max_bytes=1000)

        recipe = trionet.to_websocket_server(ping_interval=1000, ping_timeout=5)
        server, _ = await both(lambda: one.upgrade(recipe), shake_hands)
        scope.start_soon(server.get_message)
        scope.start_soon(server.send_message, "x")
        await trio.sleep(100)
        assert server.phase is Phase.OPEN
        assert await receive_frame(other) == (0x81, b"x")
        scope.cancel()


async def test_a_close_of_the_peer_s_over_tls_is_answered_and_followed_by_a_close_notify(
    server_context, client_context
):
    """The server ends the connection at once, but not so that the client takes it for cut off."""
    async with trionet.open_scope() as scope:
        plain, far = tcp_pair(scope)
        one, other = await both(
            lambda: plain.upgrade(to_tls_server(server_context)),
            lambda: far.upgrade(to_tls_client("localhost", ssl_context=client_context)),
        )
        server = await server_by_hand(one, other)
        scope.start_soon(other.send_all, close(1000))
        with pytest.raises(ConnectionClosed):
            await server.get_message()
        assert await receive_frame(other) == (0x88, b"\x03\xe8")
        assert await other.receive_some() == b""
        await other.aclose()
        assert (await server.wait_ended()).reason is Reason.PEER_EOF
