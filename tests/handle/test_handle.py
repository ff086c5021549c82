"""The verbs that change the owner: detach, adopt, transfer, upgrade, close and abort, told as stories of two tasks."""

import contextlib
import math
import socket
import ssl

import pytest
import trio
import trio.testing
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.handle import guards
from trionet.transport.socket import SocketTransport

from ..helpers.pairs import (
    PAIRS,
    Wrapped,
    clog,
    lockstep_pair,
    memory_pair,
    open_descriptors,
    receive_all,
    tcp_pair,
    tcp_sockets,
    unix_pair,
)

every_pair = pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)


class Greeting:
    """A little protocol of a user's own: both sides say HELLO; one that hears NO is refused, anything else fails."""

    def __init__(self, say=b"HELLO\n", commit=trionet.Connection):
        self.say = say
        self.make = commit
        self.wire = None

    def prepare(self, source):
        assert isinstance(source, trionet.Connection)

    async def handshake(self, wire):
        self.wire = wire
        if self.say:
            await wire.send_all(self.say)
        answer = await wire.receive_until(b"\n", max_bytes=16)
        if answer == b"NO\n":
            raise trionet.UpgradeRefusedError("the peer said no", answer)
        if answer != b"HELLO\n":
            raise trionet.UpgradeFailedError(f"expected HELLO, not {answer!r}")

    def commit(self):
        return self.make(self.wire.detach())


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
    assert "test_handle.py" in scope.report.forced[0].opened_at
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


# --- adopting what trionet did not open -------------------------------------------------------------------------------


async def test_adopting_a_trio_socket_stream_ends_it():
    async with trionet.open_scope() as scope:
        sock, peer = tcp_sockets()
        sock.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        connection = scope.adopt(stream)
        for use in (stream.receive_some(1), stream.send_all(b"x"), stream.wait_send_all_might_not_block()):
            with pytest.raises(trio.ClosedResourceError):
                await use
        await stream.aclose()
        await connection.send_all(b"mine")
        assert peer.recv(10) == b"mine"
        peer.close()


@pytest.mark.parametrize("operation", ["receive_some", "wait_send_all_might_not_block"])
@pytest.mark.parametrize("kind", ["stream", "trio socket", "socket"])
async def test_an_original_in_use_is_refused(kind, operation):
    async with trionet.open_scope() as scope:
        sock, peer = socket.socketpair()
        sock.setblocking(False)
        trio_socket = trio.socket.from_stdlib_socket(sock)
        stream = trio.SocketStream(trio_socket)
        if operation != "receive_some":
            for chunk in (b"x" * 65536, b"x"):
                with pytest.raises(BlockingIOError):
                    while True:
                        sock.send(chunk)
        original = {"stream": stream, "trio socket": trio_socket, "socket": sock}[kind]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(stream, operation))
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="refused: a task is"):
                scope.adopt(original)
            nursery.cancel_scope.cancel()
        assert scope.adopt(original).phase is Phase.OPEN
        peer.close()


async def test_adopting_a_memory_stream_ends_it():
    async with trionet.open_scope() as scope:
        stream, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="a task is using it"):
                scope.adopt(stream)
            await far.send_all(b"x")
        connection = scope.adopt(stream)
        for use in (
            stream.receive_some(),
            stream.send_all(b"x"),
            stream.send_eof(),
            stream.wait_send_all_might_not_block(),
        ):
            with pytest.raises(trio.ClosedResourceError, match="adopted"):
                await use
        with pytest.raises(trio.ClosedResourceError, match="adopted before"):
            scope.adopt(stream)
        await stream.aclose()
        await connection.send_all(b"mine")
        assert await far.receive_some() == b"mine"


async def test_adopting_a_stream_with_slots_ends_it():
    class Slotted(trio.abc.Stream):
        __slots__ = ("inner",)

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
        stream = Slotted(inner)
        connection = scope.adopt(stream)
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        await connection.send_all(b"mine")
        assert await far.receive_some() == b"mine"


async def test_a_stream_is_adopted_whole_however_its_slots_were_declared():
    class Private(trio.abc.Stream):
        __slots__ = "__inner"

        def __init__(self, inner):
            self.__inner = inner

        async def receive_some(self, max_bytes=None):
            return await self.__inner.receive_some(max_bytes)

        async def send_all(self, data):
            await self.__inner.send_all(data)

        async def wait_send_all_might_not_block(self):
            await self.__inner.wait_send_all_might_not_block()

        async def aclose(self):
            await self.__inner.aclose()

    async with trionet.open_scope() as scope:
        inner, far = trio.testing.memory_stream_pair()
        stream = Private(inner)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="a task is using it"):
                scope.adopt(stream)
            nursery.cancel_scope.cancel()
        connection = scope.adopt(stream)
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        await connection.send_all(b"mine")
        assert await far.receive_some() == b"mine"


@pytest.mark.parametrize("kind", ["stapled", "ssl"])
async def test_adopting_trios_own_wrappers_ends_them(kind):
    async with trionet.open_scope() as scope:
        inner, far = trio.testing.memory_stream_pair()
        if kind == "stapled":
            stream = trio.StapledStream(inner.send_stream, inner.receive_stream)
        else:
            stream = trio.SSLStream(inner, ssl.create_default_context(), server_hostname="localhost")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="a task is using it"):
                scope.adopt(stream)
            nursery.cancel_scope.cancel()
        connection = scope.adopt(stream)
        for use in (stream.receive_some(), stream.send_all(b"x"), stream.wait_send_all_might_not_block()):
            with pytest.raises(trio.ClosedResourceError, match="adopted"):
                await use
        with pytest.raises(trio.ClosedResourceError, match="adopted before"):
            scope.adopt(stream)
        if kind == "stapled":
            await connection.send_all(b"mine")
            assert await far.receive_some() == b"mine"
        connection.abort()


async def test_an_ssl_stream_may_be_adopted_before_its_handshake(server_context, client_context):
    async with trionet.open_scope() as scope, trio.open_nursery() as nursery:
        inner, far = trio.testing.memory_stream_pair()
        server = trio.SSLStream(far, server_context, server_side=True)
        nursery.start_soon(server.do_handshake)
        connection = scope.adopt(trio.SSLStream(inner, client_context, server_hostname="localhost"))
        await connection.send_all(b"hello")
        assert await server.receive_some() == b"hello"
        connection.abort()


async def test_an_ssl_socket_is_not_taken_for_a_plain_one():
    near, far = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with far, context.wrap_socket(near, server_hostname="localhost", do_handshake_on_connect=False) as secure:
        async with trionet.open_scope() as scope:
            with pytest.raises(TypeError, match="its bytes are TLS"):
                scope.adopt(secure)
        assert secure.fileno() >= 0


async def test_what_cannot_be_adopted_is_named():
    async with trionet.open_scope() as scope:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            with pytest.raises(ValueError, match="not connected"):
                scope.adopt(listener)
            listener.listen()
            with pytest.raises(ValueError, match="it listens"):
                scope.adopt(listener)
        with pytest.raises(trio.ClosedResourceError, match="closed"):
            scope.adopt(listener)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError, match="stream"):
            scope.adopt(datagrams)
        with pytest.raises(TypeError, match="not 'text'"):
            scope.adopt("text")
        one, _ = memory_pair(scope)
        with pytest.raises(TypeError, match="transfer"):
            scope.adopt(one)


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


# --- upgrade ------------------------------------------------------------------------------------------------------


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


# --- the end ------------------------------------------------------------------------------------------------------


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


# --- what the exhaustive search of the machine has found --------------------------------------------------------------


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


# --- mistakes ---------------------------------------------------------------------------------------------------------


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
