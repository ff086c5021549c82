"""Close and abort, told as stories of two tasks: what they wait for, and what everybody is told."""

import math

import pytest
import trio
import trio.testing
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.handle import guards

from ..helpers.pairs import (
    PAIRS,
    Wrapped,
    lockstep_pair,
    memory_pair,
    receive_all,
    tcp_pair,
)
from ..helpers.recipes import Greeting

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


@every_pair
async def test_aclose_wakes_a_bare_pending_read(make_pair):
    async with trionet.open_scope() as scope:
        one, _other = make_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read():
                with pytest.raises(trionet.HandleClosedError):
                    await one.receive_some()

            await wait_all_tasks_blocked()
            await one.aclose()
        assert one.end.reason is Reason.LOCAL


async def test_aclose_lets_a_write_in_flight_finish():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, b"z" * 10_000_000)
            nursery.start_soon(must_be_closed, one)
            await wait_all_tasks_blocked()
            nursery.start_soon(one.aclose)
            nursery.start_soon(one.aclose)  # joins the same drain
            await wait_all_tasks_blocked()
            assert one.phase is Phase.DRAINING
            with pytest.raises(trionet.HandleClosedError, match="being closed"):
                await one.send_all(b"more")
            assert await receive_all(other) == b"z" * 10_000_000
        assert one.end.reason is Reason.LOCAL


async def must_be_closed(connection):
    with pytest.raises(trionet.HandleClosedError):
        await connection.receive_some()


async def test_aclose_cuts_off_at_the_drain_deadline(autojump_clock):
    async with trionet.open_scope(drain_timeout=3) as scope:
        one, _other = lockstep_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def write():
                with pytest.raises(trionet.HandleClosedError) as caught:
                    await one.send_all(b"nobody reads this")
                assert caught.value.end.reason is Reason.DRAIN_TIMEOUT

            await wait_all_tasks_blocked()
            began = trio.current_time()
            await one.aclose()
            assert trio.current_time() - began == pytest.approx(3)
        assert one.end.reason is Reason.DRAIN_TIMEOUT


async def test_aclose_cancelled_aborts():
    async with trionet.open_scope() as scope:
        one, _other = lockstep_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def write():
                with pytest.raises(trionet.HandleClosedError):
                    await one.send_all(b"nobody reads this")

            await wait_all_tasks_blocked()
            with trio.CancelScope() as cancelled:
                cancelled.cancel()
                await one.aclose()
            assert cancelled.cancelled_caught
        assert one.end.reason is Reason.ABORTED


@every_pair
async def test_abort_tells_every_victim(make_pair):
    async with trionet.open_scope() as scope:
        one, _other = make_pair(scope)
        async with trio.open_nursery() as nursery:

            async def victim(operation, *args):
                with pytest.raises(trionet.HandleClosedError) as caught:
                    await operation(*args)
                assert caught.value.end.reason is Reason.ABORTED
                assert "aborted" in str(caught.value)

            nursery.start_soon(victim, one.receive_some)
            if make_pair is not memory_pair:
                nursery.start_soon(victim, one.send_all, b"x" * 10_000_000)
            await wait_all_tasks_blocked()
            one.abort()
            assert one.end.reason is Reason.ABORTED  # in one step
        one.abort()
        await one.aclose()
        assert one.end.reason is Reason.ABORTED  # the first reason wins


async def test_everybody_learns_how_a_handle_ended():
    async with trionet.open_scope() as scope:
        one, _other = tcp_pair(scope)
        ends = []
        async with trio.open_nursery() as nursery:
            for _ in range(3):

                @nursery.start_soon
                async def wait():
                    ends.append(await one.wait_ended())

            await wait_all_tasks_blocked()
            one.abort()
        assert ends == [one.end] * 3
        with assert_checkpoints():
            assert await one.wait_ended() is one.end


async def test_a_lease_keeps_the_handle_and_the_drain_waits_for_it():
    async with trionet.open_scope() as scope:
        one, _other = tcp_pair(scope)
        lease = guards.grant_lease(one, "an exchange")
        with pytest.raises(trionet.HandleBusyError, match="an exchange by task") as caught:
            one.detach()
        assert caught.value.blockers[0].operation == "an exchange"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.aclose)
            await wait_all_tasks_blocked()
            assert one.phase is Phase.DRAINING
            guards.begin_send(one, lease)  # the lease's own operations pass
            guards.end_send(one)
            with pytest.raises(trionet.HandleClosedError):
                guards.begin_send(one)
            lease.end()
            lease.end()  # twice is once
        assert one.end.reason is Reason.LOCAL


async def test_a_reader_woken_just_before_the_close_does_not_go_on_waiting():
    """The peer's bytes wake the reader, and before its turn another task closes: it must not wait for more bytes."""
    async with trionet.open_scope(drain_timeout=1000) as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read():
                with pytest.raises(trionet.HandleClosedError):
                    await one.receive_exactly(100)

            await wait_all_tasks_blocked()
            with trio.fail_after(5):
                # The bytes are in the socket when the event loop looks next: reader and closer become runnable at once.
                other._transport.send_some(b"not all of it")
                await trio.lowlevel.checkpoint()
                await one.aclose()
        assert one.end.reason is Reason.LOCAL


async def test_an_upgrade_during_a_drain_passes_the_drain_on():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        one._retire()
        await other.send_all(b"HELLO\n")
        successor = await one.upgrade(Greeting())
        with pytest.raises(trionet.HandleClosedError):
            await successor.receive_some()
        await successor.wait_ended()
        assert successor.end.reason is Reason.LOCAL


async def test_a_drain_that_begins_during_a_handshake_goes_on_with_the_successor():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upgrade():
                successor = await one.upgrade(Greeting())
                with trio.fail_after(5), pytest.raises(trionet.HandleClosedError):
                    await successor.receive_some()

            await wait_all_tasks_blocked()
            one._retire()
            await other.send_all(b"HELLO\n")
        assert (await one.end.successor.wait_ended()).reason is Reason.LOCAL


async def test_abort_ends_a_goodbye_that_does_not_end():
    class Lingering(Wrapped):
        async def aclose(self):
            try:
                await trio.sleep_forever()
            finally:
                await trio.aclose_forcefully(self.inner)

    async with trionet.open_scope(drain_timeout=math.inf) as scope:
        near, far = trio.testing.memory_stream_pair()
        one = scope.adopt(Lingering(near))
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.aclose)
                nursery.start_soon(one.aclose)
                await wait_all_tasks_blocked()
                assert one.phase is Phase.DRAINING
                one.abort()
        assert one.end.reason is Reason.ABORTED
        assert await receive_all(far) == b""


async def test_a_goodbye_that_fails_is_on_record_and_not_raised():
    class Grumpy(Wrapped):
        async def aclose(self):
            await self.inner.aclose()
            raise OSError("the cable is stuck")

    async with trionet.open_scope() as scope:
        near, far = trio.testing.memory_stream_pair()
        one = scope.adopt(Grumpy(near))
        await one.aclose()
        assert one.end.reason is Reason.ABORTED
        assert "stuck" in str(one.end.outcome.error)
        assert await receive_all(far) == b""


async def test_a_cancelled_aclose_closes_also_when_another_one_was_first():
    async with trionet.open_scope(drain_timeout=1000) as scope:
        one = scope.adopt(trio.testing.lockstep_stream_pair()[0])
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def write():
                with pytest.raises(trionet.HandleClosedError):
                    await one.send_all(b"nobody reads this")

            await wait_all_tasks_blocked()
            nursery.start_soon(one.aclose)
            await wait_all_tasks_blocked()
            with trio.CancelScope() as cancelled:
                cancelled.cancel()
                await one.aclose()
            assert one.end.reason is Reason.ABORTED


async def test_a_graceful_close_does_not_wake_the_reader_of_a_lease():
    """An exchange that is under way when the handle closes reads its input to the end; only a bare read is woken."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        lease = guards.grant_lease(one, "an exchange")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def exchange():
                guards.begin_receive(one, lease)
                received.append(await one._transport.receive_some(10))
                guards.end_receive(one)
                lease.end()

            received = []
            await wait_all_tasks_blocked()
            nursery.start_soon(one.aclose)
            await wait_all_tasks_blocked()
            assert one.phase is Phase.DRAINING
            assert not received
            await other.send_all(b"the rest")
        assert received == [b"the rest"]
        assert one.end.reason is Reason.LOCAL
