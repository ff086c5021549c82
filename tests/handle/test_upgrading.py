"""Upgrades, told as stories of two tasks: accepted, refused, failed, undone, interrupted."""

import contextlib
import math
import socket

import pytest
import trio
import trio.testing
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.transport.socket import SocketTransport

from ..helpers.pairs import (
    PAIRS,
    clog,
    memory_pair,
    open_descriptors,
    receive_all,
    tcp_pair,
    tcp_sockets,
    unix_pair,
)
from ..helpers.recipes import Greeting

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


@every_pair
async def test_an_accepted_upgrade_moves_everything_in_one_step(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        seen = []
        scope._owner.observer = lambda handle, before, after: seen.append((handle, before, after, len(scope.handles)))
        await other.send_all(b"HELLO\nfirst input of the new protocol")
        successor = await one.upgrade(Greeting())
        assert (one.phase, one.end.reason, one.end.successor) == (Phase.MOVED, Reason.UPGRADED, successor)
        assert one.end.outcome.unwrap() is successor
        assert scope.handles == (successor, other)
        assert [(handle, before, after) for handle, before, after, _ in seen] == [
            (one, Phase.OPEN, Phase.CLAIMED),
            (successor, None, Phase.OPEN),
            (one, Phase.CLAIMED, Phase.MOVED),
        ]
        assert {count for *_, count in seen} == {2}  # at no time two owners, or none
        assert await successor.receive_some() == b"first input of the new protocol"
        assert await other.receive_some() == b"HELLO\n"


class Deadlines(Greeting):
    """Says nothing, and does to its wire what a test tells it to."""

    def __init__(self, shake):
        super().__init__(say=b"")
        self.shake = shake

    async def handshake(self, wire):
        self.wire = wire
        await self.shake(wire)


async def test_the_latest_deadline_of_a_handshake_counts(autojump_clock):
    async def second(wire):
        wire.set_deadline(1, "the first part")
        wire.set_deadline(3, "all of it")
        await wire.receive_some()

    async def named(wire):
        wire.set_deadline(2, "all of it", "patience")
        await wire.receive_some()

    async def none(wire):
        wire.set_deadline(1, "the first part")
        wire.set_deadline(math.inf, "all of it")
        with trio.move_on_after(5):
            await wire.receive_some()

    async with trionet.open_scope() as scope:
        one, _ = memory_pair(scope)
        with pytest.raises(trionet.UpgradeFailedError, match="^all of it did not finish within 3 s$"):
            await one.upgrade(Deadlines(second))
        assert (trio.current_time(), one.phase) == (3, Phase.OPEN)
        with pytest.raises(trionet.UpgradeFailedError, match=r"^all of it did not finish within 2 s \(patience\)$"):
            await one.upgrade(Deadlines(named))
        assert (await one.upgrade(Deadlines(none))).phase is Phase.OPEN
        assert trio.current_time() == 10


async def test_a_handshake_that_has_come_to_its_end_is_not_too_late(autojump_clock):
    """Its deadline passes while it cannot be cancelled, and it needs nothing more: what it has agreed on stands."""

    async def shake(wire):
        wire.set_deadline(1, "it")
        with trio.CancelScope(shield=True):
            await trio.sleep(2)

    async with trionet.open_scope() as scope:
        one, other = memory_pair(scope)
        successor = await one.upgrade(Deadlines(shake))
        await successor.send_all(b"x")
        assert await other.receive_some() == b"x"


async def test_a_recipe_that_cancels_its_own_scope_is_told_so():
    async def shake(wire):
        wire.scope.cancel()
        await trio.sleep_forever()

    async with trionet.open_scope() as scope:
        one, _ = memory_pair(scope)
        with pytest.raises(trionet.UpgradeFailedError, match="cancelled the scope of its own handshake"):
            await one.upgrade(Deadlines(shake))
        assert one.phase is Phase.OPEN


@every_pair
async def test_a_refused_upgrade_leaves_the_old_protocol_usable(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await other.send_all(b"NO\nbut let us go on")
        with pytest.raises(trionet.UpgradeRefusedError) as caught:
            await one.upgrade(Greeting())
        assert caught.value.response == b"NO\n"
        assert one.phase is Phase.OPEN
        assert await one.receive_some() == b"but let us go on"


@every_pair
async def test_a_failed_upgrade_that_sent_nothing_is_undone(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await other.send_all(b"GARBAGE\nmore")
        await one.peek(3)
        with pytest.raises(trionet.UpgradeFailedError, match="GARBAGE"):
            await one.upgrade(Greeting(say=b""))
        assert one.phase is Phase.OPEN
        assert await one.receive_exactly(12) == b"GARBAGE\nmore"


@every_pair
async def test_a_failed_upgrade_that_sent_something_closes(make_pair):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        await other.send_all(b"GARBAGE\n")
        with pytest.raises(trionet.UpgradeFailedError):
            await one.upgrade(Greeting())
        assert (one.phase, one.end.reason) == (Phase.CLOSED, Reason.UPGRADE_FAILED)
        assert "GARBAGE" in str(one.end.outcome.error)
        assert one not in scope.handles
        with pytest.raises(trionet.HandleClosedError) as caught:
            await one.receive_some()
        assert caught.value.end is one.end


async def test_an_upgrade_needs_both_directions():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await one.send_eof()
        assert await other.receive_some() == b""
        with pytest.raises(trionet.HandleClosedError, match="EOF"):
            await one.upgrade(Greeting())
        with pytest.raises(trionet.HandleClosedError, match="EOF"):
            await other.upgrade(Greeting())
        await other.send_all(b"still usable")
        assert await one.receive_some() == b"still usable"


async def test_while_a_handshake_is_under_way_everything_is_busy():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.upgrade, Greeting())
            await wait_all_tasks_blocked()
            assert one.phase is Phase.CLAIMED
            for use in (one.send_all(b"x"), one.receive_some(), one.upgrade(Greeting()), one.detach_when_idle()):
                with pytest.raises(trionet.HandleBusyError, match="an upgrade is under way"):
                    await use
            with pytest.raises(trionet.HandleBusyError):
                one.detach()
            await other.send_all(b"HELLO\n")


@pytest.mark.parametrize("end", ["aclose", "abort"])
async def test_closing_during_a_handshake_tells_the_upgrader(end):
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upgrade():
                with pytest.raises(trionet.HandleClosedError, match="upgrade interrupted") as caught:
                    await one.upgrade(Greeting())
                assert caught.value.end is one.end

            await wait_all_tasks_blocked()
            if end == "aclose":
                await one.aclose()
            else:
                one.abort()
        assert one.end.reason is (Reason.LOCAL if end == "aclose" else Reason.ABORTED)
        assert await receive_all(other) == b"HELLO\n"


async def test_a_handshake_that_waits_for_something_else_is_interrupted_too():
    class Sleepy(Greeting):
        async def handshake(self, wire):
            await trio.sleep_forever()

    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upgrade():
                with pytest.raises(trionet.HandleClosedError):
                    await one.upgrade(Sleepy())

            await wait_all_tasks_blocked()
            one.abort()


async def test_a_recipe_that_declines_in_prepare_changes_nothing():
    class Picky(Greeting):
        def prepare(self, source):
            raise trionet.LocalProtocolError("not today")

    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        with pytest.raises(trionet.LocalProtocolError, match="not today"):
            await one.upgrade(Picky())
        await one.send_all(b"x")
        assert await other.receive_some() == b"x"


async def test_a_recipe_without_io_checkpoints_before_the_commit():
    class Instant(Greeting):
        async def handshake(self, wire):
            self.wire = wire

    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            await one.upgrade(Instant())
        assert cancelled.cancelled_caught
        assert one.phase is Phase.OPEN
        with assert_checkpoints():
            await one.upgrade(Instant())


async def test_a_commit_that_fails_closes_the_connection():
    def broken(capsule):
        raise ZeroDivisionError

    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(b"HELLO\n")
        with pytest.raises(ZeroDivisionError):
            await one.upgrade(Greeting(commit=broken))
        assert one.end.reason is Reason.UPGRADE_FAILED
        assert await receive_all(other) == b"HELLO\n"


@pytest.mark.parametrize("wrong", ["nothing", "something else", "the old handle", "a stranger", "another connection"])
@pytest.mark.parametrize("say", [b"HELLO\n", b""])
async def test_a_commit_that_gives_something_else_than_the_successor_leaves_nothing_without_an_owner(wrong, say):
    before = open_descriptors()
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        stranger, _ = tcp_pair(scope)
        made = {"nothing": None, "something else": object(), "the old handle": one, "a stranger": stranger}
        if wrong == "another connection":
            made[wrong] = trionet.Connection(stranger.detach())
        await other.send_all(b"HELLO\n")
        with pytest.raises(TypeError, match="must return a new handle"):
            await one.upgrade(Greeting(say, lambda capsule: made[wrong]))
        if say:
            assert one.end.reason is Reason.UPGRADE_FAILED
        else:
            assert await one.receive_some() == b"HELLO\n"
    assert open_descriptors() == before


@pytest.mark.parametrize("answer", [b"HELLO\nrest", b"NO\nrest"])
async def test_the_wire_is_dead_when_the_handshake_is_over(answer):
    """A recipe that keeps its wire must not reach the connection past the handle that owns it."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(answer)
        recipe = Greeting()
        owner = one
        if answer.startswith(b"NO"):
            with pytest.raises(trionet.UpgradeRefusedError):
                await one.upgrade(recipe)
        else:
            owner = await one.upgrade(recipe)
        with pytest.raises(trio.ClosedResourceError, match="the handshake is over"):
            await recipe.wire.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError, match="the handshake is over"):
            await recipe.wire.receive_some()
        recipe.wire._put_back(b"forged")
        assert await owner.receive_some() == b"rest"


async def test_where_it_was_opened_goes_with_the_connection():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(b"HELLO\n")
        successor = await one.upgrade(Greeting())
        moved = successor.transfer(scope)
        capsule = moved.detach()
        last = scope.adopt(capsule)
        assert "pairs.py" in one.opened_at
        assert {handle.opened_at for handle in (successor, moved, capsule, last)} == {one.opened_at}


class Witness:
    """Watches an endpoint, and writes down what it is told."""

    def __init__(self):
        self.owners, self.closed = [], 0

    def moved_to(self, member):
        self.owners.append(member)

    def endpoint_closed(self):
        self.closed += 1


async def test_whoever_watches_the_endpoint_is_told_once_wherever_it_ends():
    witness = Witness()
    async with trionet.open_scope() as outer:
        async with outer.open_scope() as inner:
            near, far = tcp_sockets()
            capsule = trionet.Detached(SocketTransport(near), watcher=witness)
            one, other = inner.adopt(capsule), inner.adopt(far)
            await other.send_all(b"HELLO\n")
            successor = await one.upgrade(Greeting())
            moved = successor.transfer(outer)
            capsule = moved.detach()
        assert witness.closed == 0
        last = outer.adopt(capsule)
        assert witness.owners == [one, successor, moved, capsule, last]
        last.detach().abort()
        assert witness.closed == 1
    assert witness.closed == 1


async def test_what_a_handshake_put_back_is_unread_once():
    class Undecided(Greeting):
        async def handshake(self, wire):
            wire._put_back(await wire.receive_some(3))
            await wire.receive_some(1)
            raise trionet.UpgradeFailedError("not for me")

    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(b"abcdef")
        await one.peek(6)
        with pytest.raises(trionet.UpgradeFailedError):
            await one.upgrade(Undecided())
        assert await one.receive_some() == b"abcdef"


async def test_a_handshake_whose_send_was_cancelled_before_its_first_byte_is_undone():
    async with trionet.open_scope() as scope:
        one, _other = unix_pair(scope)
        clog(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.upgrade, Greeting())
            await wait_all_tasks_blocked()
            assert one.phase is Phase.CLAIMED
            nursery.cancel_scope.cancel()
        assert one.phase is Phase.OPEN


async def test_an_eof_that_the_handshake_saw_is_the_successors():
    class UntilTheEnd(Greeting):
        async def handshake(self, wire):
            self.wire = wire
            while data := await wire.receive_some():
                assert data == b"last words"

    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(b"last words")
        await other.send_eof()
        successor = await one.upgrade(UntilTheEnd())
        with pytest.raises(trionet.HandleClosedError, match="EOF"):
            await successor.upgrade(Greeting())
        assert await successor.receive_some() == b""


async def test_a_handshake_that_swallows_its_cancellation_commits_nothing():
    class Stubborn(Greeting):
        async def handshake(self, wire):
            self.wire = wire
            with trio.CancelScope(), contextlib.suppress(trio.Cancelled):
                await trio.sleep_forever()

    async with trionet.open_scope() as scope:
        one, _other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upgrade():
                with pytest.raises(trionet.HandleClosedError, match="upgrade interrupted"):
                    await one.upgrade(Stubborn())

            await wait_all_tasks_blocked()
            one.abort()
        assert one.end.reason is Reason.ABORTED


async def test_a_connection_that_breaks_during_the_handshake_fails_the_upgrade():
    async with trionet.open_scope() as scope:
        one, other = memory_pair(scope)
        other.abort()
        await wait_all_tasks_blocked()
        with pytest.raises(trionet.UpgradeFailedError):
            await one.upgrade(Greeting())
        assert one.phase is Phase.CLOSED


async def test_a_reset_during_a_handshake_that_is_undone_is_not_forgotten():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upgrade():
                with pytest.raises(trionet.UpgradeFailedError):
                    await one.upgrade(Greeting(say=b""))

            await wait_all_tasks_blocked()
            other._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            other.abort()
        assert one.phase is Phase.OPEN
        with pytest.raises(trionet.HandleBrokenError):
            one.detach()
        with pytest.raises(trionet.HandleBrokenError):
            await one.receive_some()


async def test_what_is_no_recipe_and_no_scope_is_named():
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:
        one, other = tcp_pair(scope)
        with pytest.raises(TypeError, match=r"needs a recipe, such as to_tls_client\(.*not <function.*call it"):
            await one.upgrade(trionet.to_tls_client)
        with pytest.raises(TypeError, match="needs a recipe.*not <class.*Greeting.*call it"):
            await one.upgrade(Greeting)
        with pytest.raises(TypeError, match="not 'tls'$"):
            await one.upgrade("tls")
        with pytest.raises(TypeError, match="transfer needs a trionet scope.*not <trio.Nursery"):
            one.transfer(nursery)
        for delimiter in ("\n", 5):
            with pytest.raises(TypeError, match="delimiter must be bytes, not"):
                await one.receive_until(delimiter, max_bytes=9)
        await one.send_all(b"unharmed")
        assert await other.receive_some() == b"unharmed"
