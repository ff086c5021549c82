"""Scopes: the order in which they are left, what they close, what they report, and what they raise."""

import gc
import math
import socket

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason

from ..helpers.pairs import Wrapped, memory_pair, open_descriptors, tcp_pair, tcp_sockets, unix_pair


async def test_leaving_a_scope_closes_gracefully_last_in_first_out():
    log = []

    def observe(handle, before, after):
        log.append((handle, after))

    async with trionet.open_scope(observer=observe) as scope:
        handles = [*tcp_pair(scope), *unix_pair(scope), *memory_pair(scope)]
        log.clear()
    assert [handle for handle, phase in log if phase is Phase.DRAINING] == handles[::-1]
    assert [handle for handle, phase in log if phase is Phase.CLOSED] == handles[::-1]
    assert {handle.end.reason for handle in handles} == {Reason.LOCAL}
    assert (scope.report.drained, scope.report.clean) == (6, True)
    assert scope.handles == ()


async def test_children_end_before_the_door_shuts():
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        body_over = trio.Event()

        @scope.start_soon
        async def child():
            await body_over.wait()
            await wait_all_tasks_blocked()
            assert not scope.draining.is_set()
            third, fourth = tcp_pair(scope)  # children may still open handles, and use those of the scope
            await third.send_all(b"late")
            assert await fourth.receive_some() == b"late"
            await one.send_all(b"x")
            assert await other.receive_some() == b"x"

        body_over.set()
    assert scope.draining.is_set()
    assert scope.report.drained == 4


async def test_handles_drain_together_under_one_deadline(autojump_clock):
    async with trionet.open_scope() as outside:
        victims = []
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            async with trionet.open_scope(drain_timeout=2) as scope:
                stuck = [scope.adopt(trio.testing.lockstep_stream_pair()[0]) for _ in range(3)]
                fine, _ = tcp_pair(scope)
                for handle in stuck:

                    @nursery.start_soon
                    async def write(handle=handle):
                        with pytest.raises(trionet.HandleClosedError) as caught:
                            await handle.send_all(b"nobody reads")
                        victims.append(caught.value.end.reason)

                await wait_all_tasks_blocked()
            assert trio.current_time() - began == pytest.approx(2)
        assert victims == [Reason.DRAIN_TIMEOUT] * 3
        assert fine.end.reason is Reason.LOCAL
        assert len(scope.report.forced) == 3
        for entry in scope.report.forced:
            assert "test_scope.py" in entry.opened_at
            assert entry.blockers[0].operation == "send"
        assert "3 by force" in str(scope.report)
        assert scope.report.seconds == pytest.approx(2)
    assert outside.report.clean


class Stalled:
    """A recipe whose handshake waits until it is told how it ends."""

    def __init__(self):
        self.go_on = trio.Event()
        self.error = None

    def prepare(self, source):
        pass

    async def handshake(self, wire):
        self.wire = wire
        await self.go_on.wait()
        if self.error:
            raise self.error

    def commit(self):
        return trionet.Connection(self.wire.detach())


@pytest.mark.parametrize("outcome", ["accepted", "refused", "failed"])
async def test_leaving_waits_for_the_outcome_of_a_handshake(outcome):
    async with trio.open_nursery() as nursery:
        recipe = Stalled()
        async with trionet.open_scope() as scope:
            one, other = tcp_pair(scope)

            @nursery.start_soon
            async def upgrade():
                if outcome == "accepted":
                    results.append(await one.upgrade(recipe))
                else:
                    with pytest.raises(type(recipe.error)):
                        await one.upgrade(recipe)

            results = []
            if outcome == "refused":
                recipe.error = trionet.UpgradeRefusedError("no")
            if outcome == "failed":
                recipe.error = trionet.UpgradeFailedError("broken")
            await wait_all_tasks_blocked()

            @nursery.start_soon
            async def finish():
                await wait_all_tasks_blocked()
                assert scope.draining.is_set()
                assert one.phase is Phase.CLAIMED
                recipe.go_on.set()

        assert scope.report.clean
        if outcome == "accepted":
            assert results[0].end.reason is Reason.LOCAL
        else:
            assert one.end.reason is Reason.LOCAL
        assert other.end.reason is Reason.LOCAL


async def test_a_handshake_is_cut_off_at_the_deadline(autojump_clock):
    async with trio.open_nursery() as nursery:
        async with trionet.open_scope(drain_timeout=1) as scope:
            one, _ = tcp_pair(scope)

            @nursery.start_soon
            async def upgrade():
                with pytest.raises(trionet.HandleClosedError):
                    await one.upgrade(Stalled())

            await wait_all_tasks_blocked()
        assert one.end.reason is Reason.SCOPE_EXIT
        assert scope.report.forced[0].reason is Reason.SCOPE_EXIT


@pytest.mark.parametrize("how", ["cancel", "outer cancel", "failing body", "failing child"])
async def test_a_scope_that_does_not_end_well_closes_everything_at_once(how):
    log = []
    before = open_descriptors()

    def observe(handle, old, new):
        if new is Phase.CLOSED:
            log.append(handle)

    handles = []

    async def scenario():
        async with trionet.open_scope(observer=observe) as scope:
            handles.extend([*tcp_pair(scope), *memory_pair(scope)])

            @scope.start_soon
            async def child():
                try:
                    await handles[0].receive_some()
                finally:
                    assert handles[0].phase is Phase.OPEN  # children unwind first

            await wait_all_tasks_blocked()
            match how:
                case "cancel":
                    scope.cancel()
                case "outer cancel":
                    outer.cancel()
                case "failing body":
                    raise ZeroDivisionError
                case "failing child":

                    @scope.start_soon
                    async def fail():
                        raise ZeroDivisionError

            await trio.sleep_forever()

    with trio.CancelScope() as outer:
        if how.startswith("failing"):
            with pytest.raises(ExceptionGroup) as caught:
                await scenario()
            assert caught.group_contains(ZeroDivisionError)
        else:
            await scenario()
    assert log == handles[::-1]
    assert {handle.end.reason for handle in handles} == {Reason.SCOPE_CANCELLED}
    assert open_descriptors() == before


async def test_a_scope_can_be_cancelled_while_it_drains():
    async with trionet.open_scope() as outer, trio.open_nursery() as nursery:
        with trio.CancelScope() as patience:
            async with outer.open_scope(drain_timeout=math.inf) as scope:
                one = scope.adopt(trio.testing.lockstep_stream_pair()[0])

                @nursery.start_soon
                async def write():
                    with pytest.raises(trionet.HandleClosedError) as caught:
                        await one.send_all(b"nobody reads")
                    assert caught.value.end.reason is Reason.SCOPE_CANCELLED

                await wait_all_tasks_blocked()

                @nursery.start_soon
                async def lose_patience():
                    await scope.draining.wait()
                    await wait_all_tasks_blocked()
                    patience.cancel()

        assert one.end.reason is Reason.SCOPE_CANCELLED
        assert scope.report.forced[0].reason is Reason.SCOPE_CANCELLED


async def test_opening_on_a_closing_scope_closes_the_new_endpoint_and_raises():
    async with trionet.open_scope(name="closing") as scope:
        pass
    one, other = tcp_sockets()
    with pytest.raises(trionet.ScopeClosedError, match="adopt refused: scope closing is closed"):
        scope.adopt(one)
    assert other.recv(1) == b""
    assert one.fileno() == -1
    stream, far = trio.testing.memory_stream_pair()
    with pytest.raises(trionet.ScopeClosedError):
        scope.adopt(stream)
    assert await far.receive_some() == b""
    with pytest.raises(trionet.ScopeClosedError, match="connect_tcp refused"):
        await scope.connect_tcp("localhost", 1)
    with pytest.raises(trionet.ScopeClosedError, match="connect_unix refused"):
        await scope.connect_unix("/nowhere")
    with pytest.raises(trionet.ScopeClosedError, match="open_scope refused"):
        async with scope.open_scope():
            pass
    other.close()


async def test_a_scope_that_closes_during_a_connect_leaves_nothing_open():
    before = open_descriptors()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with trionet.open_scope() as scope, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def connect():
                with pytest.raises(trionet.ScopeClosedError):
                    await scope.connect_tcp(*listener.getsockname())

            await trio.lowlevel.checkpoint()
            scope._owner.shut_door()
    assert open_descriptors() == before


async def test_nested_scopes_know_their_parents():
    async with trionet.open_scope(name="outer", drain_timeout=7) as outer:
        async with outer.open_scope(name="inner") as inner:
            assert inner.parent is outer
            assert inner._owner.drain_timeout == 7
            one, _ = tcp_pair(inner)
            assert one.scope is inner
        assert one.phase is Phase.CLOSED
        assert outer.parent is None
        assert "outer: open" in repr(outer)


async def test_a_handle_that_has_ended_still_knows_its_scope():
    """Whether somebody has kept that, or not: then it is made anew, and is the same for all who ask."""
    async with trionet.open_scope(name="outer") as outer:
        async with outer.open_scope(name="kept") as inner:
            one, _ = tcp_pair(inner)
        assert one.scope is inner
        async with outer.open_scope(name="not kept") as inner:
            two, _ = tcp_pair(inner)
        del inner
        gc.collect()
        scope = two.scope
        assert (scope.name, scope.parent, scope.handles, scope.report.clean) == ("not kept", outer, (), True)
        assert two.scope is scope
        assert "not kept: closed" in repr(scope)
        with pytest.raises(trionet.ScopeClosedError, match="scope not kept is closed"):
            await scope.connect_tcp("127.0.0.1", 1)
        scope.cancel()  # which has nothing to do any more


async def test_a_negative_drain_timeout_is_named():
    with pytest.raises(ValueError, match="drain_timeout must be at least 0 seconds.*-1"):
        async with trionet.open_scope(drain_timeout=-1):
            pass


async def test_start_reports_like_a_nursery():
    async def service(task_status):
        task_status.started(42)

    async with trionet.open_scope() as scope:
        assert await scope.start(service) == 42
        assert isinstance(scope.nursery, trio.Nursery)


async def test_cancel_ends_a_drain_that_has_no_deadline():
    """The body and the tasks have ended, and a write is stuck: another task may still cancel the scope."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(5):
            async with trionet.open_scope(drain_timeout=math.inf) as scope:
                one = scope.adopt(trio.testing.lockstep_stream_pair()[0])

                @nursery.start_soon
                async def write():
                    with pytest.raises(trionet.HandleClosedError):
                        await one.send_all(b"nobody reads")

                await wait_all_tasks_blocked()

                @nursery.start_soon
                async def lose_patience():
                    await scope.draining.wait()
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    assert one.end.reason is Reason.SCOPE_CANCELLED

        assert scope.report.forced[0].reason is Reason.SCOPE_CANCELLED


async def test_a_successor_drains_together_with_what_is_stuck(autojump_clock):
    """A handshake is accepted during the drain, and another handle is stuck: the successor must not wait for that."""
    async with trio.open_nursery() as nursery:
        recipe = Stalled()
        async with trionet.open_scope(drain_timeout=5) as scope:
            stuck = scope.adopt(trio.testing.lockstep_stream_pair()[0])
            one, _ = tcp_pair(scope)

            @nursery.start_soon
            async def write():
                with pytest.raises(trionet.HandleClosedError):
                    await stuck.send_all(b"nobody reads")

            @nursery.start_soon
            async def upgrade():
                successor = await one.upgrade(recipe)
                with pytest.raises(trionet.HandleClosedError):
                    await successor.receive_some()
                assert successor.phase is Phase.DRAINING

            await wait_all_tasks_blocked()

            @nursery.start_soon
            async def finish():
                await scope.draining.wait()
                await wait_all_tasks_blocked()
                recipe.go_on.set()

    assert one.end.successor.end.reason is Reason.LOCAL
    assert [entry.reason for entry in scope.report.forced] == [Reason.DRAIN_TIMEOUT]


@pytest.mark.parametrize("seconds", [0, math.inf])
async def test_a_drain_with_no_time_and_one_with_all_the_time(seconds):
    before = open_descriptors()
    async with trionet.open_scope(drain_timeout=seconds) as scope:
        idle, _ = tcp_pair(scope)
        parting, _ = memory_pair(scope)
    assert idle.end.reason is Reason.LOCAL  # nothing to wait for
    assert parting.end.reason is (Reason.LOCAL if seconds else Reason.DRAIN_TIMEOUT)
    assert open_descriptors() == before


async def test_a_stream_that_fails_to_close_gracefully_does_not_disturb_the_others():
    class Grumpy(Wrapped):
        async def aclose(self):
            await self.inner.aclose()
            raise OSError("the cable is stuck")

    async with trionet.open_scope() as scope:
        grumpy = scope.adopt(Grumpy(trio.testing.memory_stream_pair()[0]))
        fine, _ = memory_pair(scope)
    assert grumpy.phase is Phase.CLOSED
    assert fine.end.reason is Reason.LOCAL


async def test_an_observer_that_raises_is_switched_off_and_everything_is_closed(caplog):
    def observe(handle, before, after):
        if after is Phase.CLOSED:
            raise ZeroDivisionError

    before = open_descriptors()
    async with trionet.open_scope(observer=observe) as scope:
        handles = [*tcp_pair(scope), *tcp_pair(scope)]
    assert {handle.end.reason for handle in handles} == {Reason.LOCAL}
    assert open_descriptors() == before
    assert "ZeroDivisionError" in caplog.text


async def test_an_observer_may_abort():
    def observe(handle, before, after):
        if after is Phase.CLAIMED:
            handle.abort()

    async with trionet.open_scope(observer=observe) as scope:
        one, _ = tcp_pair(scope)
        with trio.fail_after(5), pytest.raises(trionet.HandleClosedError):
            await one.upgrade(Stalled())
        assert one.end.reason is Reason.ABORTED


async def test_a_scope_that_outlives_its_parent_can_still_let_go():
    async def inner(parent, task_status):
        async with parent.open_scope() as scope:
            task_status.started(scope)
            await done.wait()

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        async with trionet.open_scope() as parent:
            scope = await nursery.start(inner, parent)
        near, far = trio.testing.memory_stream_pair()
        one = scope.adopt(near)
        one.abort()
        assert one.end.reason is Reason.ABORTED
        assert await far.receive_some() == b""
        two, _ = tcp_pair(scope)
        two._retire()
        with pytest.raises(trionet.HandleClosedError):
            await two.receive_some()
        assert (await two.wait_ended()).reason is Reason.LOCAL
        done.set()


# --- open_tcp, open_unix --------------------------------------------------------------------------------------------


async def echo(connection):
    while data := await connection.receive_some():
        await connection.send_all(data)


async def test_open_tcp_hands_a_users_exception_through_as_it_is(nursery):
    server = await nursery.start(trionet.serve_tcp, echo, 0)
    with pytest.raises(ZeroDivisionError):
        async with trionet.open_tcp("127.0.0.1", server.port) as connection:
            raise ZeroDivisionError
    assert connection.end.reason is Reason.SCOPE_CANCELLED
    async with trionet.open_tcp("127.0.0.1", server.port) as connection:
        with pytest.raises(RuntimeError, match=r"no nursery.*open_scope"):
            connection.scope.start_soon(echo)
        await connection.send_all(b"x")
        assert await connection.receive_some() == b"x"
    assert connection.end.reason is Reason.LOCAL
    with trio.CancelScope() as cancelled:
        async with trionet.open_tcp("127.0.0.1", server.port) as connection:
            cancelled.cancel()
            await trio.sleep_forever()
    assert cancelled.cancelled_caught
    async with trionet.open_tcp("127.0.0.1", server.port) as connection:
        connection.scope.cancel()
        assert connection.end.reason is Reason.SCOPE_CANCELLED
    nursery.cancel_scope.cancel()


async def test_open_unix(nursery, tmp_path):
    path = tmp_path / "sock"
    await nursery.start(trionet.serve_unix, echo, path)
    async with trionet.open_unix(path) as connection:
        await connection.send_all(b"x")
        assert await connection.receive_some() == b"x"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("host", "port", "error", "message"),
    [
        ("localhost", 0, ValueError, "port must be 1 to 65535, not 0"),
        ("localhost", 65536, ValueError, "65536"),
        ("localhost", "http", TypeError, "port must be an int, not 'http'"),
        ("", 80, ValueError, "host must not be empty"),
        ("http://localhost", 80, ValueError, "without brackets, scheme or path"),
        ("[::1]", 80, ValueError, "without brackets"),
        ("a b", 80, ValueError, "'a b'"),
        ("x" * 300, 80, ValueError, "at most 255 characters, not 300"),
        (None, 80, TypeError, "host must be a str or bytes, not None"),
    ],
)
async def test_bad_input_is_refused_before_any_look_up(host, port, error, message, monkeypatch):
    async def no_look_up(*args, **kwargs):
        raise AssertionError("looked up")

    monkeypatch.setattr(trio.socket, "getaddrinfo", no_look_up)
    with pytest.raises(error, match=message):
        async with trionet.open_tcp(host, port):
            pass


async def test_connect_errors_name_host_and_port_and_leave_nothing_open():
    before = open_descriptors()
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}.*a retry is safe") as caught:
            async with trionet.open_tcp("127.0.0.1", port):
                pass
        assert caught.value.errno
    with pytest.raises(FileNotFoundError, match="/nowhere/sock"):
        async with trionet.open_unix("/nowhere/sock"):
            pass
    with pytest.raises(ValueError, match="path must not be empty"):
        async with trionet.open_unix(""):
            pass
    assert open_descriptors() == before


async def test_a_unix_listener_without_room_is_an_error_and_not_a_connection(tmp_path):
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen(0)
        async with trionet.open_scope() as scope:
            await scope.connect_unix(tmp_path / "sock")
            with pytest.raises(BlockingIOError, match="sock.*backlog is full.*a retry is safe"):
                await scope.connect_unix(tmp_path / "sock")
    assert open_descriptors() == before


async def test_a_peer_that_resets_at_once_gives_a_connection_that_is_broken(monkeypatch):
    """It accepts and resets before the connecting task has its turn: that is no wrong argument of `connect_tcp`."""

    async def connected_and_reset(*args):
        one, other = tcp_sockets()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
        return one

    monkeypatch.setattr("trionet.transport.connecting.tcp_socket", connected_and_reset)
    async with trionet.open_scope() as scope:
        connection = await scope.connect_tcp("localhost", 80)
        with pytest.raises(trionet.HandleBrokenError):
            await connection.receive_some()


async def test_open_tcp_cancelled_while_it_drains_raises_no_group(nursery):
    async def ignore(connection):
        await trio.sleep_forever()

    async def write():
        with pytest.raises(trionet.HandleClosedError):
            await connection.send_all(b"nobody reads" * 1_000_000)

    async def lose_patience():
        await connection.scope.draining.wait()
        await wait_all_tasks_blocked()
        patience.cancel()

    server = await nursery.start(trionet.serve_tcp, ignore, 0)
    with trio.CancelScope() as patience, pytest.raises(trio.Cancelled):
        async with trionet.open_tcp("127.0.0.1", server.port) as connection:
            nursery.start_soon(write)
            nursery.start_soon(lose_patience)
            await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()


async def test_an_unknown_name_is_named(monkeypatch):
    async def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="cannot connect to no.such.host:80: Name or service not known"):
        async with trionet.open_tcp("no.such.host", 80):
            pass


async def test_a_foreign_stream_that_fails_to_close_does_not_disturb():
    class Grumpy(trio.abc.Stream):
        def __init__(self):
            self.closed = 0

        async def receive_some(self, max_bytes=None):
            await trio.sleep_forever()

        async def send_all(self, data):
            await trio.sleep_forever()

        async def wait_send_all_might_not_block(self):
            await trio.sleep_forever()

        async def aclose(self):
            self.closed += 1
            raise OSError("the cable is stuck")

    async with trionet.open_scope() as scope:
        handle = scope.adopt(Grumpy())
        inner = handle._transport.stream
        handle.abort()
        await wait_all_tasks_blocked()
    assert inner.closed
    assert handle.end.reason is Reason.ABORTED


async def test_nothing_is_open_when_a_scope_is_left_also_if_closing_takes_its_time():
    """The release of a foreign stream runs in a service task: leaving waits for it, also when cancelled."""

    class Slow(Wrapped):
        async def aclose(self):
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                await self.inner.aclose()
            closed.append(self)

    closed = []
    with trio.CancelScope() as cancelled:
        async with trionet.open_scope() as scope:
            one = scope.adopt(Slow(trio.testing.memory_stream_pair()[0]))
            stream = one._transport.stream
            cancelled.cancel()
            await trio.sleep_forever()
    assert stream in closed
    assert one.end.reason is Reason.SCOPE_CANCELLED


async def test_a_second_scope_may_use_a_handle_and_learns_of_its_end():
    async with trionet.open_scope() as user, trionet.open_scope() as owner:
        one, _ = tcp_pair(owner)

        @user.start_soon
        async def read():
            with pytest.raises(trionet.HandleClosedError) as caught:
                await one.receive_some()
            assert caught.value.end.reason is Reason.SCOPE_CANCELLED

        await wait_all_tasks_blocked()
        owner.cancel()


async def test_what_is_left_unread_does_not_hurt():
    before = open_descriptors()
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await one.send_all(b"unread")
        await other.peek(1)
    assert scope.report.clean
    assert open_descriptors() == before


async def test_an_inner_scope_has_ended_when_its_slowest_endpoint_is_closed(autojump_clock):
    class Slow(trio.abc.Stream):
        closed = False

        async def send_all(self, data):
            raise NotImplementedError

        async def wait_send_all_might_not_block(self):
            raise NotImplementedError

        async def receive_some(self, max_bytes=None):
            await trio.sleep_forever()

        async def aclose(self):
            with trio.CancelScope(shield=True):  # also if it is to be forceful
                await trio.sleep(3)
            type(self).closed = True

    async with trionet.open_scope() as outer:
        async with outer.open_scope() as inner:
            inner.adopt(Slow()).abort()
        assert (Slow.closed, trio.current_time()) == (True, 3)
