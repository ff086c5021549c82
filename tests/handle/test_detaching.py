"""Detach and transfer, told as stories of two tasks: all or nothing, at once or when the handle is idle."""

import socket

import pytest
import trio
import trio.testing
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason

from ..helpers.pairs import (
    PAIRS,
    Wrapped,
    clog,
    receive_all,
    tcp_pair,
    tcp_sockets,
    unix_pair,
)
from ..helpers.recipes import Greeting

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


# --- detach and adopt ---------------------------------------------------------------------------------------------


@every_pair
async def test_detach_and_adopt_carry_the_leftover(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await other.send_all(b"leftover")
        await one.peek(3)
        capsule = one.detach()
        assert (one.phase, one.end.reason, one.end.successor) == (Phase.MOVED, Reason.DETACHED, capsule)
        assert capsule.leftover == b"leftover"
        assert scope.handles == (capsule, other)
        successor = scope.adopt(capsule)
        assert scope.handles == (successor, other)
        assert await successor.receive_some(4) == b"left"
        await successor.send_all(b"back")
        assert await other.receive_some() == b"back"
        with pytest.raises(trionet.HandleMovedError, match="adopted already"):
            scope.adopt(capsule)


@every_pair
async def test_the_capsule_remembers_which_directions_have_ended(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await one.send_eof()
        assert await other.receive_some() == b""
        first, second = one.detach(), other.detach()
        assert (first.send_ended, first.receive_ended) == (True, False)
        assert (second.send_ended, second.receive_ended) == (False, True)
        one, other = scope.adopt(first), scope.adopt(second)
        with pytest.raises(trionet.HandleClosedError):
            await one.send_all(b"x")
        assert await other.receive_some() == b""


@every_pair
@pytest.mark.parametrize("verb", ["detach", "transfer", "upgrade"])
async def test_a_handle_in_use_cannot_be_taken_away(make_pair, verb):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.receive_some, name="the reader")
            await wait_all_tasks_blocked()
            with pytest.raises(trionet.HandleBusyError, match="receive by task the reader since") as caught:
                match verb:
                    case "detach":
                        one.detach()
                    case "transfer":
                        one.transfer(scope)
                    case "upgrade":
                        await one.upgrade(Greeting())
            (blocker,) = caught.value.blockers
            assert (blocker.task, blocker.operation) == ("the reader", "receive")
            assert one.phase is Phase.OPEN
            await other.send_all(b"undisturbed")
        await other.send_all(b"!")
        assert await one.receive_some() == b"!"


async def test_a_pending_send_blocks_detach_too():
    async with trionet.open_scope() as scope:
        one, _other = unix_pair(scope)
        clog(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, b"x", name="the writer")
            await wait_all_tasks_blocked()
            with pytest.raises(trionet.HandleBusyError, match="send by task the writer"):
                one.detach()
            nursery.cancel_scope.cancel()


@every_pair
async def test_every_use_of_a_moved_handle_names_the_successor(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        capsule = one.detach()
        for use in (one.receive_some, one.send_eof, one.detach_when_idle, one.wait_send_all_might_not_block):
            with pytest.raises(trionet.HandleMovedError, match="lives on in") as caught:
                await use()
            assert caught.value.end.successor is capsule
        with pytest.raises(trionet.HandleMovedError):
            await one.upgrade(Greeting())
        with pytest.raises(trionet.HandleMovedError):
            one.transfer(scope)
        successor = scope.adopt(capsule)
        await one.aclose()
        one.abort()
        async with one:
            pass
        await successor.send_all(b"alive")
        assert await other.receive_some() == b"alive"


async def test_a_capsule_that_nobody_adopts_is_closed_and_reported():
    async with trionet.open_scope() as scope:
        one, other = tcp_sockets()
        capsule = scope.adopt(one).detach()
        other.setblocking(True)
    assert other.recv(1) == b""
    other.close()
    assert capsule.end.reason is Reason.SCOPE_EXIT
    assert not scope.report.clean
    assert "test_detaching.py" in scope.report.forced[0].opened_at
    async with trionet.open_scope() as again:
        with pytest.raises(trionet.HandleClosedError, match="closed before it was adopted"):
            again.adopt(capsule)


async def test_detach_when_idle_shuts_the_door_and_waits():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        capsules = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.receive_some)
            await wait_all_tasks_blocked()

            @nursery.start_soon
            async def detach():
                capsules.append(await one.detach_when_idle())

            await wait_all_tasks_blocked()
            assert one.phase is Phase.RESERVED
            for use in (one.send_all(b"x"), one.receive_some(), one.upgrade(Greeting()), one.detach_when_idle()):
                with pytest.raises(trionet.HandleBusyError):
                    await use
            with pytest.raises(trionet.HandleBusyError):
                one.detach()
            await other.send_all(b"end of the read")
        (capsule,) = capsules
        assert one.end.reason is Reason.DETACHED
        await scope.adopt(capsule).send_all(b"x")


async def test_detach_when_idle_on_an_idle_handle_is_immediate_and_a_checkpoint():
    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        with assert_checkpoints():
            capsule = await one.detach_when_idle()
        assert one.end.successor is capsule


async def test_detach_when_idle_cancelled_leaves_the_handle_open():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read():
                assert await one.receive_some() == b"x"

            await wait_all_tasks_blocked()
            with trio.CancelScope() as patience:
                nursery.start_soon(wait_then_cancel, patience)
                await one.detach_when_idle()
            assert patience.cancelled_caught
            assert one.phase is Phase.OPEN
            await one.send_all(b"open again")
            await other.send_all(b"x")
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            await one.detach_when_idle()
        assert one.phase is Phase.OPEN


async def wait_then_cancel(scope):
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_detach_when_idle_gives_up_when_the_awaited_write_is_torn():
    """The writer is cancelled half-way while another task waits at the door: the waiter must not wait for ever."""
    async with trionet.open_scope() as scope:
        one, _other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as writing:

                @nursery.start_soon
                async def wait_at_the_door():
                    with pytest.raises(trionet.HandleBrokenError):
                        await one.detach_when_idle()

                nursery.start_soon(wait_then_cancel, writing)
                await one.send_all(b"y" * 10_000_000)
        assert one.phase is Phase.OPEN


@pytest.mark.parametrize("end", ["aclose", "abort"])
async def test_closing_tells_the_task_that_waits_to_detach(end):
    async with trionet.open_scope() as scope:
        one, _other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read():
                with pytest.raises(trionet.HandleClosedError):
                    await one.receive_some()

            await wait_all_tasks_blocked()

            @nursery.start_soon
            async def detach():
                with pytest.raises(trionet.HandleClosedError, match="closed while a task waited"):
                    await one.detach_when_idle()

            await wait_all_tasks_blocked()
            if end == "aclose":
                await one.aclose()
            else:
                one.abort()
        assert one.end.reason is (Reason.LOCAL if end == "aclose" else Reason.ABORTED)


async def test_send_eof_tells_the_task_that_waits_to_detach():
    """A task shuts the door while EOF is on its way out: the end of that send must wake it."""

    class Slow(Wrapped):
        def __init__(self, inner):
            super().__init__(inner)
            self.go_on = trio.Event()

        async def send_eof(self):
            await self.go_on.wait()
            await super().send_eof()

    async with trionet.open_scope() as scope:
        inner, _far = trio.testing.memory_stream_pair()
        one = scope.adopt(Slow(inner))
        stream = one._transport.stream
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_eof)
            await wait_all_tasks_blocked()
            nursery.start_soon(one.detach_when_idle)
            await wait_all_tasks_blocked()
            assert one.phase is Phase.RESERVED
            stream.go_on.set()
        assert one.end.successor.send_ended


@pytest.mark.parametrize("operation", ["receive", "send"])
async def test_nobody_detaches_a_connection_that_is_known_to_be_broken(operation):
    """A task waits to detach until an operation ends, and it ends with a reset: the handle must stay with its owner."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def operate():
                with pytest.raises(trionet.HandleBrokenError):
                    await (one.receive_some() if operation == "receive" else one.send_all(b"x" * 10_000_000))

            await wait_all_tasks_blocked()

            @nursery.start_soon
            async def detach():
                with pytest.raises(trionet.HandleBrokenError, match="has failed"):
                    await one.detach_when_idle()

            await wait_all_tasks_blocked()
            other._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            other.abort()
        assert one.phase is Phase.OPEN


# --- transfer -----------------------------------------------------------------------------------------------------


@every_pair
async def test_transfer_lets_a_connection_outlive_its_scope(make_pair):
    async with trionet.open_scope(name="outer") as outer:
        async with outer.open_scope(name="inner") as inner:
            one, other = make_pair(inner)
            await one.send_all(b"before")
            await other.peek(3)
            moved = other.transfer(outer)
            assert (other.phase, other.end.reason, other.end.successor) == (Phase.MOVED, Reason.TRANSFERRED, moved)
            assert moved.scope is outer
            assert moved in outer.handles
            assert other not in inner.handles
        assert await receive_all(moved) == b"before"
        assert moved.phase is Phase.OPEN


async def test_transfer_to_a_closed_scope_is_refused_and_changes_nothing():
    async with trionet.open_scope(name="short") as short:
        pass
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        with pytest.raises(trionet.ScopeClosedError, match="scope short is closed"):
            one.transfer(short)
        await one.send_all(b"still here")
        assert await other.receive_some() == b"still here"


class Counting(trionet.Connection):
    """A user's own kind of handle, with state in a private slot and in its dict."""

    __slots__ = ("__dict__", "__secret")

    def __init__(self, capsule):
        super().__init__(capsule)
        self.__secret = "secret"
        self.count = 3

    @property
    def secret(self):
        return self.__secret


async def test_transfer_carries_everything_that_a_users_own_handle_has():
    async with trionet.open_scope() as outer, outer.open_scope() as inner:
        one, other = tcp_pair(inner)
        await other.send_all(b"HELLO\nunread")
        handle = await one.upgrade(Greeting(commit=Counting))
        moved = handle.transfer(outer)
        assert type(moved) is Counting
        assert (moved.secret, moved.count) == ("secret", 3)
        assert await moved.receive_some() == b"unread"


async def test_transfer_during_a_drain_passes_the_drain_on():
    async with trionet.open_scope() as outer, outer.open_scope() as inner:
        one, _other = tcp_pair(inner)
        one._retire()
        moved = one.transfer(outer)
        with trio.fail_after(5), pytest.raises(trionet.HandleClosedError):
            await moved.receive_some()
