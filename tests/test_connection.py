"""The byte-stream handle: Trio's own checks, leftover, exactness under cancellation, refusals."""

import functools
import gc
import socket

import pytest
import trio
import trio.testing
from trio.testing import assert_checkpoints, check_half_closeable_stream, check_two_way_stream, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.transport.socket import SocketTransport

from .helpers.pairs import (
    PAIRS,
    SOCKET_PAIRS,
    Wrapped,
    clog,
    lockstep_pair,
    memory_pair,
    receive_all,
    tcp_pair,
    tcp_sockets,
    unix_pair,
)

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)
every_socket_pair = pytest.mark.parametrize("make_pair", SOCKET_PAIRS.values(), ids=SOCKET_PAIRS)


@every_socket_pair
async def test_trios_own_checks_over_sockets(make_pair):
    async with trionet.open_scope() as scope:

        async def maker():
            return make_pair(scope)

        async def clogged_maker():
            one, other = make_pair(scope)
            clog(one)
            clog(other)
            return one, other

        # A TCP socket cannot be kept clogged: the kernel's window probes make room every now and then.
        await check_half_closeable_stream(maker, None if make_pair is tcp_pair else clogged_maker)


async def test_trios_own_checks_over_memory_streams():
    async with trionet.open_scope() as scope:

        async def maker():
            return memory_pair(scope)

        async def clogged_maker():
            return lockstep_pair(scope)

        await check_half_closeable_stream(maker, None)
        await check_two_way_stream(clogged_maker, clogged_maker)


# --- receiving ----------------------------------------------------------------------------------------------------


@every_pair
async def test_peek_consumes_nothing(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_all(b"CHAT me\r\nrest")
        with assert_checkpoints():
            assert await other.peek(4) == b"CHAT"
        with assert_checkpoints():
            assert await other.peek(4) == b"CHAT"
        assert await other.receive_until(b"\r\n", max_bytes=512) == b"CHAT me\r\n"
        assert await other.receive_some() == b"rest"


@every_pair
async def test_peek_gives_less_only_at_eof(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def peek():
                assert await other.peek(4) == b"ab"

            await wait_all_tasks_blocked()
            await one.send_all(b"a")
            await wait_all_tasks_blocked()
            await one.send_all(b"b")
            await wait_all_tasks_blocked()
            assert other.blockers[0].operation == "receive"
            await one.send_eof()
        with assert_checkpoints():
            assert await other.peek(4) == b"ab"
        assert await receive_all(other) == b"ab"
        assert await other.receive_some() == b""


async def test_peek_is_bounded():
    async with trionet.open_scope() as scope:
        one, _ = memory_pair(scope)
        with pytest.raises(trionet.LimitExceededError, match=r"peek\(65537\).*65536"):
            await one.peek(65537)
        with pytest.raises(ValueError, match="n must be at least 1, not 0"):
            await one.peek(0)


@every_pair
async def test_receive_exactly_collects_across_segments_and_keeps_the_rest(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive():
                assert await other.receive_exactly(5) == b"12345"

            for part in (b"12", b"34", b"567"):
                await wait_all_tasks_blocked()
                await one.send_all(part)
        with assert_checkpoints():
            assert await other.receive_exactly(1) == b"6"
        assert await other.receive_some(10) == b"7"


@every_pair
async def test_eof_before_the_end_raises_and_keeps_the_bytes(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_all(b"half a line")
        await one.send_eof()
        with pytest.raises(trionet.RemoteProtocolError, match=r"11 of 12 bytes"):
            await other.receive_exactly(12)
        with pytest.raises(trionet.RemoteProtocolError, match=r"after 11 bytes without b'\\n'"):
            await other.receive_until(b"\n", max_bytes=100)
        assert await receive_all(other) == b"half a line"


@every_pair
async def test_eof_between_two_lines_says_how_to_tell_it_from_more(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_eof()
        with pytest.raises(trionet.RemoteProtocolError, match=r"of 12 bytes; if it may end here, ask first: peek\(1\)"):
            await other.receive_exactly(12)
        with pytest.raises(trionet.RemoteProtocolError, match=r"0 bytes without b'\\n'; if it may end here, ask first"):
            await other.receive_until(b"\n", max_bytes=100)
        assert await other.peek(1) == b""


@every_pair
async def test_receive_until_finds_a_delimiter_that_is_split(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive():
                assert await other.receive_until(b"\r\n\r\n", max_bytes=64) == b"a\r\nb\r\n\r\n"

            for part in (b"a\r", b"\nb\r\n", b"\r", b"\nmore"):
                await wait_all_tasks_blocked()
                await one.send_all(part)
        assert await other.receive_some() == b"more"


@every_pair
async def test_receive_until_is_bounded_and_loses_nothing(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_all(b"0123456789\n")
        assert await other.receive_until(b"\n", max_bytes=11) == b"0123456789\n"
        await one.send_all(b"0123456789\n")
        with pytest.raises(trionet.LimitExceededError, match="first 10 bytes"):
            await other.receive_until(b"\n", max_bytes=10)
        assert await other.receive_exactly(11) == b"0123456789\n"
        with pytest.raises(ValueError, match="delimiter"):
            await other.receive_until(b"", max_bytes=10)
        with pytest.raises(ValueError, match="room for the delimiter"):
            await other.receive_until(b"\r\n", max_bytes=1)


@every_pair
@pytest.mark.parametrize("read", ["receive_some", "peek", "receive_exactly", "receive_until"])
async def test_a_cancelled_receive_loses_no_byte(make_pair, read):
    reads = {
        "receive_some": lambda conn: conn.receive_some(),
        "peek": lambda conn: conn.peek(9),
        "receive_exactly": lambda conn: conn.receive_exactly(9),
        "receive_until": lambda conn: conn.receive_until(b"!", max_bytes=99),
    }
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_all(b"abc")
        if read == "receive_some":
            await other.receive_exactly(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads[read], other)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert other.phase is Phase.OPEN
        assert not other.blockers
        await one.send_all(b"def!")
        expected = b"def!" if read == "receive_some" else b"abcdef!"
        assert await other.receive_exactly(len(expected)) == expected


async def test_a_receive_that_was_cancelled_beforehand_takes_no_leftover():
    async with trionet.open_scope() as scope:
        one, other = memory_pair(scope)
        await one.send_all(b"abc")
        await other.peek(1)
        for read in (
            functools.partial(other.receive_some, 2),
            functools.partial(other.receive_exactly, 2),
            functools.partial(other.receive_until, b"b", max_bytes=9),
            functools.partial(other.peek, 2),
        ):
            with trio.CancelScope() as cancelled:
                cancelled.cancel()
                await read()
            assert cancelled.cancelled_caught
        assert await other.receive_some() == b"abc"


@every_pair
async def test_a_second_reader_is_refused_whatever_it_asks(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_all(b"abc")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.receive_exactly, 4)
            await wait_all_tasks_blocked()
            for read in (
                other.receive_some,
                functools.partial(other.receive_some, 1),
                functools.partial(other.peek, 1),
                functools.partial(other.receive_exactly, 1),
                functools.partial(other.receive_until, b"a", max_bytes=9),
            ):
                with pytest.raises(trionet.HandleBusyError, match="receive_exactly") as caught:
                    await read()
                assert caught.value.blockers == other.blockers
            await one.send_all(b"d")


@every_pair
@pytest.mark.parametrize("read", ["receive_until", "receive_exactly", "peek"])
async def test_a_receive_of_several_segments_is_one_operation(make_pair, read):
    """A task waits for the handle to be idle when half a line has come: it must wait for the other half too."""
    reads = {
        "receive_until": lambda conn: conn.receive_until(b"\n", max_bytes=99),
        "receive_exactly": lambda conn: conn.receive_exactly(5),
        "peek": lambda conn: conn.peek(5),
    }
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        log = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive():
                log.append(await reads[read](one))

            await wait_all_tasks_blocked()

            @nursery.start_soon
            async def detach():
                log.append(await one.detach_when_idle())

            await wait_all_tasks_blocked()
            await other.send_all(b"half")
            await wait_all_tasks_blocked()
            assert one.phase is Phase.RESERVED
            assert log == []
            await other.send_all(b"\nrest")
        assert log == [b"half\n", one.end.successor]
        assert one.end.successor.leftover == (b"half\nrest" if read == "peek" else b"rest")


async def test_leftover_comes_first_also_on_a_broken_connection():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        await other.send_all(b"421 go away\nx")
        await one.peek(13)
        other.abort()
        with pytest.raises(trionet.HandleBrokenError):
            await one.send_all(b"hello?")
        assert await one.peek(3) == b"421"
        assert await one.receive_until(b"\n", max_bytes=99) == b"421 go away\n"
        assert await one.receive_some() == b"x"
        with pytest.raises(trionet.HandleBrokenError):
            await one.receive_some()


async def test_a_reader_served_and_cut_off_in_the_same_tick_does_not_go_on_waiting():
    """Bytes wake the reader, and before its turn the handle is aborted; this stream wakes nobody when it is closed."""

    class Deaf(Wrapped):
        async def receive_some(self, max_bytes=None):
            return await arriving.receive()

    sending, arriving = trio.open_memory_channel(1)
    async with trionet.open_scope() as scope:
        one = scope.adopt(Deaf(trio.testing.memory_stream_pair()[0]))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read():
                with trio.fail_after(5), pytest.raises(trionet.HandleClosedError):
                    await one.receive_exactly(100)

            await wait_all_tasks_blocked()
            sending.send_nowait(b"not all of it")
            one.abort()


@every_socket_pair
async def test_a_reset_is_an_error_and_stays_one(make_pair):
    """The kernel reports a reset once and EOF from then on: a reader that tries again must not take that for an end."""
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await other.send_all(b"unread")
        if make_pair is tcp_pair:
            sock = one._transport.socket
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.abort()
        for _ in range(2):
            with pytest.raises(trionet.HandleBrokenError) as caught:
                await other.receive_some()
            assert isinstance(caught.value, trio.BrokenResourceError)
        with pytest.raises(trionet.HandleBrokenError):
            await other.send_all(b"x")
        with pytest.raises(trionet.HandleBrokenError):
            other.detach()
        assert other.phase is Phase.OPEN  # owned until its owner closes it
        await other.aclose()
        assert other.end.reason is Reason.PEER_RESET
        assert "reset" in str(other.end.outcome.error).lower()


# --- sending ------------------------------------------------------------------------------------------------------


async def test_a_send_cancelled_before_its_first_byte_changes_nothing():
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        clogged = clog(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, b"never")
            await wait_all_tasks_blocked()
            assert one.blockers[0].operation == "send"
            nursery.cancel_scope.cancel()
        assert not one.blockers
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send():
                await one.send_all(b"after")
                await one.send_eof()

            assert await receive_all(other) == b"x" * clogged + b"after"


@every_socket_pair
async def test_a_send_cancelled_half_way_breaks_the_handle_and_says_how_far_it_came(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, b"y" * 10_000_000)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(trionet.HandleBrokenError, match="abandoned") as caught:
            await one.send_all(b"never")
        assert 0 < caught.value.bytes_sent < 10_000_000
        for refused in (one.detach, functools.partial(one.transfer, scope)):
            with pytest.raises(trionet.HandleBrokenError) as caught_too:
                refused()
            assert caught_too.value.bytes_sent == caught.value.bytes_sent
        with pytest.raises(trionet.HandleBrokenError):
            await one.detach_when_idle()
        await one.aclose()
        assert await receive_all(other) == b"y" * caught.value.bytes_sent


async def test_a_foreign_stream_cannot_tell_how_much_was_sent():
    async with trionet.open_scope() as scope:
        one, _other = lockstep_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, b"y" * 100)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(trionet.HandleBrokenError, match="unknown number") as caught:
            await one.send_all(b"never")
        assert caught.value.bytes_sent is None


async def test_a_foreign_send_that_was_cancelled_beforehand_has_not_begun():
    async with trionet.open_scope() as scope:
        one, other = memory_pair(scope)
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            await one.send_all(b"never")
        assert cancelled.cancelled_caught
        await one.send_all(b"fine")
        assert await other.receive_some() == b"fine"


@every_pair
async def test_vectored_send_is_one_stream_of_bytes(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        parts = [b"head", b"", bytearray(b"x" * 300_000), memoryview(b"tail")] + [b"%d," % n for n in range(3000)]
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send():
                with assert_checkpoints():
                    await one.send_vectored(parts)
                await one.send_eof()

            assert await receive_all(other) == b"".join(parts)
        assert one.statistics().bytes_sent == sum(map(len, parts)) == other.statistics().bytes_received


@every_socket_pair
async def test_a_vectored_send_cancelled_half_way_is_as_exact(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_vectored, [b"a" * 100, b"b" * 20_000_000])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(trionet.HandleBrokenError) as caught:
            await one.send_vectored([b"never"])
        await one.aclose()
        received = await receive_all(other)
        assert received == b"a" * 100 + b"b" * (caught.value.bytes_sent - 100)


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_failed_send_gives_the_buffer_back(parts):
    """Whoever catches the error may want to drop what was sent: no memoryview may be left on his bytearray."""
    async with trionet.open_scope() as scope:
        one, other = unix_pair(scope)
        buffer = bytearray(10_000_000)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send():
                with pytest.raises(trionet.HandleBrokenError) as caught:
                    await (one.send_all(buffer) if parts == 1 else one.send_vectored([b"head", buffer]))
                del buffer[: caught.value.bytes_sent]

            await wait_all_tasks_blocked()
            other.abort()
        assert 0 < len(buffer) < 10_000_000


@every_socket_pair
async def test_a_peer_that_takes_little_at_a_time_costs_nothing_each_time(make_pair):
    """Each part of a vectored send that it had taken left three objects behind, until it had taken all."""

    def views():
        return sum(type(each) is memoryview for each in gc.get_objects())

    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        before = views()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_vectored, [b"head", bytes(20_000_000)])
            for _ in range(20):
                await wait_all_tasks_blocked()
                await other.receive_some(500_000)
            await wait_all_tasks_blocked()
            assert 0 < views() - before <= 2
            nursery.cancel_scope.cancel()


@every_pair
async def test_nothing_can_be_sent_any_number_of_times(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        for nothing in (b"", bytearray(), memoryview(b"")):
            with assert_checkpoints():
                await one.send_all(nothing)
        with assert_checkpoints():
            await one.send_vectored([])
        await one.send_eof()
        assert await receive_all(other) == b""


async def test_send_takes_what_is_bytes_and_names_what_is_not():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await one.send_all(memoryview(b"abcdefgh").cast("I"))
        assert await other.receive_exactly(8) == b"abcdefgh"
        with pytest.raises(TypeError, match="not str"):
            await one.send_all("text")
        with pytest.raises(TypeError, match="not int"):
            await one.send_vectored([b"", 3])
        assert not one.blockers


async def test_sends_in_a_loop_let_other_tasks_run():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        for _ in range(3):
            await other.send_all(b"go")
            await one.receive_some()
            await one.send_all(b"x")  # the receive has let other tasks run
            for _ in range(3):
                with assert_checkpoints():
                    await one.send_all(b"x")


async def test_a_wait_for_room_that_was_cancelled_beforehand_is_cancelled():
    async with trionet.open_scope() as scope:
        one, _other = tcp_pair(scope)
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            await one.wait_send_all_might_not_block()
        assert cancelled.cancelled_caught
        assert not one.blockers


async def test_a_foreign_eof_that_was_cancelled_may_have_been_sent():
    class Slow(Wrapped):
        async def send_eof(self):
            await trio.sleep_forever()

    async with trionet.open_scope() as scope:
        one = scope.adopt(Slow(trio.testing.memory_stream_pair()[0]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_eof)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(trionet.HandleBrokenError) as caught:
            await one.send_all(b"x")
        assert caught.value.bytes_sent is None


@every_pair
async def test_half_close(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_all(b"request")
        with assert_checkpoints():
            await one.send_eof()
        with assert_checkpoints():
            await one.send_eof()  # twice is once
        with pytest.raises(trionet.HandleClosedError, match="EOF"):
            await one.send_all(b"more")
        assert await receive_all(other) == b"request"
        await other.send_all(b"response")
        await other.aclose()
        assert await receive_all(one) == b"response"


async def test_half_close_is_refused_where_the_stream_cannot():
    class TwoWayOnly(trio.abc.Stream):
        def __init__(self, inner):
            self.inner = inner

        async def receive_some(self, max_bytes=None):
            return await self.inner.receive_some(max_bytes)

        async def send_all(self, data):
            await self.inner.send_all(data)

        async def wait_send_all_might_not_block(self):
            await self.inner.wait_send_all_might_not_block()

        async def aclose(self):
            await self.inner.aclose()

    async with trionet.open_scope() as scope:
        inner, far = trio.testing.memory_stream_pair()
        one = scope.adopt(TwoWayOnly(inner))
        with pytest.raises(trionet.LocalProtocolError, match=r"use aclose\(\)"):
            await one.send_eof()
        await one.send_all(b"still open")
        assert await far.receive_some() == b"still open"


async def test_send_eof_during_a_send_is_refused():
    async with trionet.open_scope() as scope:
        one, _other = unix_pair(scope)
        clog(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, b"x")
            await wait_all_tasks_blocked()
            with pytest.raises(trionet.HandleBusyError):
                await one.send_eof()
            nursery.cancel_scope.cancel()
        await one.send_eof()


# --- what a handle says about itself --------------------------------------------------------------------------------


async def test_addresses_and_statistics_outlive_the_handle(autojump_clock):
    async with trionet.open_scope() as scope:
        one, other = tcp_sockets()
        name, peer = one.getsockname(), one.getpeername()
        connection = scope.adopt(one)
        await connection.send_all(b"abc")
        await connection.aclose()
        assert (connection.local_address, connection.remote_address) == (name, peer)
        assert connection.statistics().bytes_sent == 3
        assert connection.scope is scope
        assert connection.end.reason is Reason.LOCAL
        assert connection.end.successor is None
        assert (await connection.wait_ended()).reason is Reason.LOCAL
        assert connection.blockers == ()
        assert "closed: local" in repr(connection)
        other.close()


async def test_a_peer_that_is_gone_before_adoption_is_named():
    one, other = tcp_sockets()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.close()
    async with trionet.open_scope() as scope:
        with pytest.raises(ValueError, match="not connected"):
            scope.adopt(one)
    one.close()


@every_socket_pair
async def test_what_the_peer_said_before_it_left_can_be_read_after_a_failed_send(make_pair):
    """The peer answers early and closes; the rest of the request fails, and its answer must not be lost with it."""
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await other.send_all(b"413 too large")
        await one.send_all(b"a part of the request")
        other.abort()
        with pytest.raises(trionet.HandleBrokenError):
            while True:
                await one.send_all(b"x" * 65536)
        assert await one.receive_exactly(4) == b"413 "
        assert await one.receive_some() == b"too large"
        for _ in range(2):
            with pytest.raises(trionet.HandleBrokenError):
                await one.receive_some()
        with pytest.raises(trionet.HandleBrokenError):
            await one.receive_exactly(1)
        with pytest.raises(trionet.HandleBrokenError):
            one.detach()


async def test_a_receive_called_off_between_its_wake_up_and_its_turn_does_not_wait_again():
    """Another process has taken the bytes, and the close came before the reader's turn: it must not wait once more."""
    one, other = tcp_sockets()

    class Emptied(socket.socket):
        def recv(self, max_bytes):
            transport.wake_receiver()
            raise BlockingIOError

    transport = SocketTransport(Emptied(fileno=one.detach()))
    with other:
        other.send(b"x")
        with trio.fail_after(5), pytest.raises(trio.ClosedResourceError, match="called off"):
            await transport.receive_some(10)
        transport.close()


@pytest.mark.parametrize("half", ["receive_stream", "send_stream"])
async def test_a_half_of_the_original_is_closed_by_somebody_else(half):
    """Its maker still has the parts of a stapled stream; without them the connection is broken, not open for ever."""
    one, _other = trio.testing.memory_stream_pair()
    async with trionet.open_scope() as scope:
        conn = scope.adopt(one)
        await getattr(one, half).aclose()
        with pytest.raises(trionet.HandleBrokenError, match="closed by somebody else"):
            await (conn.receive_some() if half == "receive_stream" else conn.send_all(b"x"))
    assert conn.phase is Phase.CLOSED
