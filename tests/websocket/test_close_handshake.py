"""The end of a WebSocket: codes and reasons, on either side, with and without a close frame."""

import pytest
import trio
import trio_websocket
from trio.testing import wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import (
    ConnectionClosed,
    HandleBrokenError,
    HandleClosedError,
    LimitExceededError,
    LocalProtocolError,
    Phase,
    Reason,
    RemoteProtocolError,
)

from ..helpers.pairs import PAIRS, lockstep_pair, memory_pair, receive_all, tcp_pair, unix_pair
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


@every_pair
@pytest.mark.parametrize(("code", "reason"), [(1000, None), (1001, "bye"), (4999, "ä" * 61)])
async def test_both_sides_know_code_and_reason(make_pair, code, reason):
    async with trionet.open_scope() as scope:
        server, client = await two_websockets(*make_pair(scope))
        await client.send_message("last")

        async def serve():
            assert await server.get_message() == "last"
            with pytest.raises(ConnectionClosed) as caught:
                await server.get_message()
            assert isinstance(caught.value, trio_websocket.ConnectionClosed)
            assert isinstance(caught.value, HandleClosedError)
            return caught.value.reason

        seen, _ = await both(serve, lambda: client.aclose(code, reason))
        for close_reason in (seen, server.closed, client.closed):
            assert (close_reason.code, close_reason.reason) == (code, reason)
        await client.aclose()
        end = await server.wait_ended()
        assert end.reason is Reason.PEER_EOF
        assert client.end.reason is Reason.LOCAL
        if code == 4999:
            with pytest.raises(ConnectionClosed):
                end.outcome.unwrap()
        else:
            assert end.outcome.unwrap() is None
        for websocket in (server, client):
            for operation in (
                websocket.get_message,
                websocket.ping,
                websocket.pong,
                lambda ws=websocket: ws.send_message(""),
            ):
                with pytest.raises(ConnectionClosed) as caught:
                    await operation()
                assert caught.value.reason.code == code
                assert caught.value.end is websocket.end


@pytest.mark.parametrize(("code", "quiet"), [(1000, True), (1001, True), (None, True), (1011, False), (3000, False)])
async def test_iterating_ends_quietly_only_after_a_clean_close(code, quiet):
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") + text("b") + close(code))
        got = []
        try:
            async for message in server:
                got.append(message)
            outcome = None
        except ConnectionClosed as exc:
            outcome = exc.reason.code
        assert outcome == (None if quiet else code)
        assert got == ["a", "b"]
        assert await receive_frame(other) == (0x88, b"" if code is None else code.to_bytes(2, "big"))
        assert await receive_all(other) == b""


async def test_messages_before_the_peers_close_are_still_given_though_it_was_answered_at_once():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") + text("b") + close())
        assert await server.get_message() == "a"
        assert (await receive_frame(other))[0] == 0x88
        assert server.end.reason is Reason.PEER_EOF
        assert await server.get_message() == "b"
        with pytest.raises(ConnectionClosed):
            await server.get_message()


async def test_a_client_gives_the_server_time_to_close_first(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = memory_pair(scope)
        client = await client_by_hand(one, other)
        await other.send_all(close(masked=False))
        with pytest.raises(ConnectionClosed):
            await client.get_message()
        assert client.phase is Phase.DRAINING
        began = trio.current_time()
        assert (await client.wait_ended()).reason is Reason.PEER_EOF
        assert trio.current_time() - began == 1.0


async def test_eof_without_a_close_is_1006():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, behind=text("a"))
        other.abort()
        assert await server.get_message() == "a"
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match="1006"):
                await server.__anext__()
        assert server.closed.code == 1006
        assert server.end.reason is Reason.PEER_EOF
        with pytest.raises(ConnectionClosed):
            server.end.outcome.unwrap()


async def test_a_reset_is_a_broken_error_and_1006():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        server = await server_by_hand(one, other)
        await server.send_message("unread")
        await wait_all_tasks_blocked()
        other.abort()
        with pytest.raises(HandleBrokenError) as caught:
            await server.get_message()
        assert isinstance(caught.value, ConnectionClosed)
        assert caught.value.reason.code == 1006
        with pytest.raises(ConnectionClosed, match="1006"):
            await server.get_message()
        with pytest.raises(HandleBrokenError):
            await server.send_message("x")


OFFENCES = {
    "unmasked": (text("x", masked=False), 1002, RemoteProtocolError),
    "reserved bits": (b"\xf1\x80\0\0\0\0", 1002, RemoteProtocolError),
    "opcode": (b"\x83\x80\0\0\0\0", 1002, RemoteProtocolError),
    "continuation of nothing": (frame(Opcode.CONT, b"x"), 1002, RemoteProtocolError),
    "text inside text": (text("x", fin=False) + text("x"), 1002, RemoteProtocolError),
    "long ping": (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002, RemoteProtocolError),
    "fragmented ping": (b"\x09\x80\0\0\0\0", 1002, RemoteProtocolError),
    "close with one byte": (frame(Opcode.CLOSE, b"x"), 1002, RemoteProtocolError),
    "close with 1005": (frame(Opcode.CLOSE, b"\x03\xed"), 1002, RemoteProtocolError),
    "close with bad text": (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007, RemoteProtocolError),
    "text that is not UTF-8": (frame(Opcode.TEXT, b"\xff"), 1007, RemoteProtocolError),
    "fragments that are not UTF-8": (
        frame(Opcode.TEXT, b"\xc3", fin=False) + frame(Opcode.CONT, b"\xff"), 1007, RemoteProtocolError),
    "bad text before a close": (frame(Opcode.TEXT, b"\xff") + close(), 1007, RemoteProtocolError),
    "too big": (frame(Opcode.BINARY, b"x" * 101), 1009, LimitExceededError),
    "far too big": (b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4), 1009, LimitExceededError),
    "too big in pieces": (
        frame(Opcode.BINARY, b"x" * 60, fin=False) + frame(Opcode.CONT, b"x" * 60), 1009, LimitExceededError),
}  # fmt: skip


@pytest.mark.parametrize(("offence", "code", "error"), OFFENCES.values(), ids=OFFENCES)
async def test_offences_are_answered_and_raised_once(offence, code, error):
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=100)
        await other.send_all(text("good") + offence)
        assert await server.get_message() == "good"
        with pytest.raises(error):
            await server.get_message()
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match=str(code)) as caught:
                await server.get_message()
            assert caught.value.reason.code == code
        opcode, data = await receive_frame(other)
        assert (opcode, int.from_bytes(data[:2], "big")) == (0x88, code)
        assert await receive_all(other) == b""
        await other.aclose()
        end = await server.wait_ended()
        assert end.reason is Reason.PROTOCOL_ERROR
        with pytest.raises(error):
            end.outcome.unwrap()


async def test_a_ping_does_not_count_against_the_message_around_it():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=10)
        ping = frame(Opcode.PING, b"p" * 125)
        await other.send_all(ping + text("x" * 9, fin=False) + ping + frame(Opcode.CONT, b"y") + text("z" * 10))
        assert await server.get_message() == "x" * 9 + "y"
        assert await server.get_message() == "z" * 10
        await other.send_all(text("x" * 11))
        with pytest.raises(LimitExceededError, match="11 bytes.*10 bytes"):
            await server.get_message()


async def test_a_peer_may_close_in_the_middle_of_a_message():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("x", fin=False) + close(4000, "sorry"))
        with pytest.raises(ConnectionClosed, match="4000.*sorry"):
            await server.get_message()
        assert server.end.reason is Reason.PEER_EOF


async def test_the_peers_close_is_answered_behind_the_message_that_is_being_sent():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_message, b"x" * 1_000_000)
            await wait_all_tasks_blocked()
            await other.send_all(frame(Opcode.PING, b"?") + close(1001))
            with pytest.raises(ConnectionClosed, match="1001"):
                await server.get_message()
            assert server.phase is Phase.DRAINING
            assert await receive_frame(other) == (0x82, b"x" * 1_000_000)
            assert await receive_frame(other) == (0x8A, b"?")
            assert await receive_frame(other) == (0x88, b"\x03\xe9")
        assert (await server.wait_ended()).reason is Reason.PEER_EOF


async def test_after_a_torn_message_the_peers_close_and_offences_end_it_at_once():
    for last, reason in ((close(), Reason.PEER_EOF), (text("", masked=False), Reason.PROTOCOL_ERROR)):
        async with trionet.open_scope() as scope:
            one, other = unix_pair(scope)
            server = await server_by_hand(one, other)
            with trio.move_on_after(0.01):
                await server.send_message(b"x" * 1_000_000)
            await other.send_all(last)
            with pytest.raises((ConnectionClosed, RemoteProtocolError)):
                await server.get_message()
            assert server.end.reason is reason


async def test_a_close_that_came_with_the_handshake_is_answered_by_ours():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, behind=text("unread") + close(4001))
        await server.aclose()
        assert await receive_frame(other) == (0x88, (4001).to_bytes(2, "big"))
        assert server.end.reason is Reason.LOCAL


async def test_an_offence_instead_of_the_answer_to_a_close():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("", masked=False))
        await other.send_eof()
        await server.aclose()
        assert server.end.reason is Reason.LOCAL
        assert server.closed.code == 1000


async def test_an_offender_that_pours_on_keeps_nobody(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("", masked=False))

        async def pour():
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(10_000):  # rather than for ever
                    await other.send_all(b"x" * 16384)

        before = trio.current_time()
        await both(pour, server.aclose)
        assert trio.current_time() == before


async def test_a_message_far_too_big_can_be_sent_to_its_end_and_the_report_be_read(autojump_clock):
    """Who sends before it reads would see a reset instead of the 1009, if the rest of its message was not taken."""
    async with trionet.open_scope(drain_timeout=5) as scope:
        one, other = tcp_pair(scope)
        server = await server_by_hand(one, other)

        async def receive():
            with pytest.raises(LimitExceededError):
                await server.get_message()

        async def send():
            await other.send_all(frame(Opcode.BINARY, bytes(2**25)))
            assert await receive_frame(other) == (0x88, b"\x03\xf1message too big")

        await both(receive, send)


async def test_a_peer_that_is_gone_when_a_close_is_due():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        other.abort()
        await server.aclose()
        assert server.end.reason is Reason.PEER_RESET


async def test_a_close_from_a_peer_that_is_gone():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        await other.send_all(text("a") + close())
        other.abort()
        assert await server.get_message() == "a"
        assert server.end.reason is Reason.PEER_EOF


async def test_endpoints_have_a_text_where_there_is_no_port():
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await server_by_hand(*unix_pair(scope))
        assert server.local.startswith("<WebSocket")
        assert server.remote.startswith("<WebSocket")


async def test_a_fragmented_message_with_pings_between():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        euro = "€".encode()
        await other.send_all(frame(Opcode.TEXT, euro[:1], fin=False) + frame(Opcode.PING, b"!"))
        await other.send_all(frame(Opcode.CONT, euro[1:2], fin=False) + frame(Opcode.CONT, euro[2:]))
        assert await server.get_message() == "€"
        assert await receive_frame(other) == (0x8A, b"!")


async def test_aclose_wakes_the_receiver_finishes_the_message_and_waits_for_the_answer():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:

            async def receive():
                with pytest.raises(ConnectionClosed, match="3000"):
                    await server.get_message()

            nursery.start_soon(receive)
            nursery.start_soon(receive)
            nursery.start_soon(server.send_message, b"x" * 1_000_000)
            await wait_all_tasks_blocked()
            nursery.start_soon(server.aclose, 3000, "done")
            await wait_all_tasks_blocked()
            with pytest.raises(ConnectionClosed):
                await server.send_message("late")
            assert await receive_frame(other) == (0x82, b"x" * 1_000_000)
            assert await receive_frame(other) == (0x88, b"\x0b\xb8done")
            assert server.phase is Phase.DRAINING
            await other.send_all(text("ignored") + close(3000))
        assert server.end.reason is Reason.LOCAL
        assert await receive_all(other) == b""


async def test_a_peer_that_does_not_answer_the_close_is_cut_off(autojump_clock):
    async with trionet.open_scope(drain_timeout=3) as scope:
        one, other = memory_pair(scope)
        server = await server_by_hand(one, other)
        await server.aclose()
        assert trio.current_time() == 3
        assert server.end.reason is Reason.DRAIN_TIMEOUT


async def test_a_close_that_waits_keeps_nothing_of_what_comes_meanwhile():
    async with trionet.open_scope(drain_timeout=5) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            await wait_all_tasks_blocked()
            await other.send_all((frame(Opcode.PONG, b"x" * 100) + text("x")) * 1000)
            await wait_all_tasks_blocked()
            assert not server._engine.pongs
            assert not server._engine.reader.messages
            await other.send_all(close())
        assert server.end.reason is Reason.LOCAL


async def test_a_cancelled_aclose_aborts():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        with trio.move_on_after(0.01):
            await server.aclose(1001)
        assert server.end.reason is Reason.ABORTED
        assert server.closed.code == 1001
        assert await receive_frame(other) == (0x88, b"\x03\xe9")


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 2000, 5000])
async def test_codes_that_no_close_frame_may_carry_are_refused(code):
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await server_by_hand(*unix_pair(scope))
        with pytest.raises(LocalProtocolError, match="close code"):
            await server.aclose(code)
        assert server.phase is Phase.OPEN


@pytest.mark.parametrize("reason", ["x" * 124, "ä" * 62, "\ud800"])
async def test_reasons_that_no_close_frame_may_carry_are_refused(reason):
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await server_by_hand(*unix_pair(scope))
        with pytest.raises(LocalProtocolError, match="close reason"):
            await server.aclose(1000, reason)
        assert server.phase is Phase.OPEN


async def test_messages_that_nobody_took_before_a_close_on_this_side_are_dropped():
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await server_by_hand(*unix_pair(scope), behind=text("a") + text("b"))
        assert await server.get_message() == "a"
        server.abort()
        with pytest.raises(ConnectionClosed):
            await server.get_message()


async def test_abort_wakes_everybody():
    async with trionet.open_scope() as scope:
        server = await server_by_hand(*unix_pair(scope))
        async with trio.open_nursery() as nursery:
            for operation in (server.get_message, server.get_message, server.ping):
                nursery.start_soon(raises_1006, operation)
            nursery.start_soon(raises_1006, server.send_message, b"x" * 1_000_000)
            await wait_all_tasks_blocked()
            server.abort()
        assert server.end.reason is Reason.ABORTED


async def raises_1006(operation, *args):
    with pytest.raises(ConnectionClosed, match="1006"):
        await operation(*args)


# --- servers ------------------------------------------------------------------------------------------------------


async def served(handler, talk):
    """`talk(server, other)` with a served connection whose client is written by hand."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handler, 0)
        async with trionet.open_tcp("127.0.0.1", server.port, drain_timeout=0) as other:
            await talk(server, other)
        nursery.cancel_scope.cancel()


async def shake_hands(other):
    await other.send_all(REQUEST)
    await other.receive_until(b"\r\n\r\n", max_bytes=1000)


@pytest.mark.parametrize(("error", "code"), [(None, 1000), (RuntimeError("handler"), 1011)])
async def test_how_a_handler_ends_decides_the_code(error, code, caplog):
    async def handler(connection):
        websocket = await connection.upgrade(trionet.to_websocket_server())
        await websocket.get_message()
        if error is not None:
            raise error

    async def talk(server, other):
        await shake_hands(other)
        await other.send_all(text("x"))
        assert await receive_frame(other) == (0x88, code.to_bytes(2, "big"))
        await other.send_all(close(code))
        assert await receive_all(other) == b""

    await served(handler, talk)


@pytest.mark.parametrize("receiving", [True, False])
async def test_a_server_that_drains_says_1001_at_once(receiving):
    left = []

    async def handler(connection):
        websocket = await connection.upgrade(trionet.to_websocket_server())
        if receiving:
            left.extend([message async for message in websocket])
        else:
            await websocket.wait_ended()
        left.append(websocket.closed.code)

    async def talk(server, other):
        await shake_hands(other)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain, 5)
            assert await receive_frame(other) == (0x88, b"\x03\xe9")
            await other.send_all(close(1001))
            assert await receive_all(other) == b""
        assert left == [1001]

    await served(handler, talk)


async def test_a_slow_stream_is_answered_too():
    """A lockstep stream takes nothing in one step: every control frame has to wait for its reader."""
    async with trionet.open_scope() as scope:
        server, client = await two_websockets(*lockstep_pair(scope))

        async def serve():
            await until_closed(server)

        async def ask():
            await client.ping()
            await client.aclose(1001, "x")

        await both(serve, ask)
        assert server.closed.reason == "x"
