"""A verb that is called in another thread is refused before anything has changed; a step is finished in any case."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from tests.helpers.http_served import get, read_answer, served
from tests.helpers.pairs import Wrapped, tcp_pair, tcp_sockets, unix_pair
from tests.helpers.websockets_by_hand import two_websockets
from trionet import Phase, Reason
from trionet.custody import leaving
from trionet.handle import guards


async def in_a_thread(call: Any, *args: Any) -> BaseException | None:
    """What `call` raises in a thread that is no Trio thread; a coroutine is driven as a foreign event loop does it."""

    def run() -> BaseException | None:
        try:
            result = call(*args)
            if hasattr(result, "send"):
                result.send(None)
        except BaseException as exc:  # noqa: BLE001, ASYNC103 - the test looks at it
            return exc  # noqa: ASYNC104
        return None

    return await trio.to_thread.run_sync(run)


async def in_another_run(call: Any, *args: Any) -> BaseException | None:
    """What `call` raises in the Trio run of another thread."""

    async def main() -> None:
        result = call(*args)
        if hasattr(result, "send"):
            await result

    def run() -> BaseException | None:
        try:
            trio.run(main)
        except BaseException as exc:  # noqa: BLE001, ASYNC103 - the test looks at it
            return exc  # noqa: ASYNC104
        return None

    return await trio.to_thread.run_sync(run)


STEPS = ("abort", "detach", "transfer", "_retire", "_handler_failed")
VERBS = (*STEPS, "aclose", "detach_when_idle", "upgrade")


def call(handle: Any, verb: str, scope: trionet.Scope) -> Any:
    args = {"transfer": (scope,), "upgrade": (trionet.to_websocket_server(),)}.get(verb, ())
    return getattr(handle, verb)(*args)


@pytest.mark.parametrize("elsewhere", [in_a_thread, in_another_run])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_in_another_thread_changes_nothing(verb: str, elsewhere: Any) -> None:
    """Given a receive in flight, when another thread uses a verb, then it raises and the receive goes on."""
    async with trionet.open_scope() as scope, trionet.open_scope() as other:
        one, two = tcp_pair(scope)
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await one.receive_some())

        busy = verb in ("abort", "_retire", "_handler_failed", "aclose")
        if busy:
            scope.start_soon(receive)
            await wait_all_tasks_blocked()
        error = await elsewhere(call, one, verb, other)
        assert isinstance(error, RuntimeError)
        assert one.phase is Phase.OPEN
        assert one.end is None
        await two.send_all(b"still here")
        if not busy:
            await receive()
        await wait_all_tasks_blocked()
        assert got == [b"still here"]
    assert one.end.reason is Reason.LOCAL


@pytest.mark.parametrize("elsewhere", [in_a_thread, in_another_run])
@pytest.mark.parametrize("verb", ["abort", "aclose", "_retire", "_handler_failed"])
async def test_a_verb_in_another_thread_leaves_an_exchange_as_it_is(verb: str, elsewhere: Any) -> None:
    """Given an exchange under way, when another thread ends the connection, then it goes on, and so does the next."""

    async def handler(exchange: trionet.http.Exchange) -> None:
        errors.append(await elsewhere(call, exchange.connection, verb, None))
        await exchange.respond(200, exchange.target)

    errors: list[BaseException | None] = []
    async with served(handler) as it:
        await it.client.send_all(get("/one") + get("/two"))
        for target in (b"/one", b"/two"):
            answer = await read_answer(it.client)
            assert (answer.status, answer.body) == (200, target)
            assert "connection" not in answer.fields
    assert [type(error) for error in errors] == [RuntimeError, RuntimeError]


@pytest.mark.parametrize("elsewhere", [in_a_thread, in_another_run])
@pytest.mark.parametrize("verb", ["abort", "aclose", "_retire", "_handler_failed"])
async def test_a_verb_in_another_thread_leaves_a_websocket_as_it_is(verb: str, elsewhere: Any) -> None:
    """Given a WebSocket, when another thread ends it, then messages go on, and it closes with what is said later."""
    async with trionet.open_scope() as scope:
        one, two = await two_websockets(*tcp_pair(scope))
        await two.send_message("before")
        assert isinstance(await elsewhere(call, one, verb, None), RuntimeError)
        assert one.phase is Phase.OPEN
        await two.send_message("after")
        assert [await one.get_message(), await one.get_message()] == ["before", "after"]
        scope.start_soon(one.aclose)
        with pytest.raises(trionet.ConnectionClosed) as info:
            await two.get_message()
        assert info.value.reason.code == 1000


@pytest.mark.parametrize("elsewhere", [in_a_thread, in_another_run])
async def test_the_scope_s_and_the_capsule_s_verbs_too(elsewhere: Any) -> None:
    async with trionet.open_scope() as scope:
        one, two = unix_pair(scope)
        capsule = one.detach()
        sock, far = tcp_sockets()
        with far:
            for call, args in (
                (scope.cancel, ()),
                (scope.adopt, (capsule,)),
                (scope.adopt, (sock,)),
                (capsule.abort, ()),
                (leaving.abort_all, (scope._owner,)),
                (leaving.retire, (scope._owner, 0.0)),
            ):
                assert isinstance(await elsewhere(call, *args), RuntimeError)
            assert sock.fileno() >= 0
            assert not scope.draining.is_set()
            assert not scope.nursery.cancel_scope.cancel_called
            assert capsule.end is None
            for stream in (scope.adopt(capsule), two):
                await stream.send_all(b"x")
            scope.adopt(sock)


@pytest.mark.parametrize("elsewhere", [in_a_thread, in_another_run])
async def test_what_stands_above_handles_is_refused_too(elsewhere: Any) -> None:
    """A client's abort, a server's drain, a broadcast: nothing is shut, and not a byte is sent."""

    async def handler(connection: trionet.Connection) -> None:
        sockets.append(await connection.upgrade(trionet.to_websocket_server()))
        await trio.sleep_forever()

    sockets: list[trionet.WebSocket] = []
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handler, 0)
        async with trionet.open_http_client() as client, trionet.open_websocket(f"ws://127.0.0.1:{server.port}/") as ws:
            for call, args in (
                (client.abort, ()),
                (server.drain, (0,)),
                (server.drain, (1,)),
                (trionet.broadcast, (sockets, "from elsewhere")),
            ):
                assert isinstance(await elsewhere(call, *args), RuntimeError)
            assert not server.draining
            trionet.broadcast(sockets, "from here")
            assert await ws.get_message() == "from here"
            async with trionet.open_tcp("127.0.0.1", server.port):
                pass
        nursery.cancel_scope.cancel()


async def test_an_operation_outside_of_trio_does_not_count_as_begun() -> None:
    """Somebody awaits a receive or a send in another event loop: it raises, and the direction is as free as before."""
    async with trionet.open_scope() as scope:
        one, two = tcp_pair(scope)
        for operation in (one.receive_some, lambda: one.peek(1), lambda: one.send_all(b"x"), one.send_eof):
            assert isinstance(await in_a_thread(operation), RuntimeError)
            assert one.blockers == ()
        await one.send_all(b"y")
        assert await two.receive_some() == b"y"
        await two.send_all(b"z")
        assert await one.receive_some() == b"z"


async def test_a_lease_that_is_ended_in_another_thread_is_still_there() -> None:
    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        lease = guards.grant_lease(one, "work")
        assert isinstance(await in_a_thread(lease.end), RuntimeError)
        assert [blocker.operation for blocker in one.blockers] == ["work"]
        lease.end()
        assert one.blockers == ()
        one.detach().abort()


async def test_a_handle_that_has_ended_does_nothing_in_any_thread() -> None:
    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        one.abort()
        assert await in_a_thread(one.abort) is None


async def test_abort_in_a_thread_hides_no_error_of_the_body() -> None:
    """The thread is refused; what the body raises leaves as it is, and everything is closed."""
    async with trionet.open_scope() as outer:
        spectator, _ = tcp_pair(outer)
        with pytest.RaisesGroup(ValueError):
            async with trionet.open_scope() as scope:
                handles = [*tcp_pair(scope), *tcp_pair(scope)]
                assert isinstance(await in_a_thread(handles[1].abort), RuntimeError)
                raise ValueError("the body's own")
        assert all(handle.end.reason is Reason.SCOPE_CANCELLED for handle in handles)
        assert spectator.phase is Phase.OPEN


# --- what raises in the middle of a step ------------------------------------------------------------------------------


class Stubborn:
    """A transport whose close fails, as close(2) may fail with EIO."""

    def __init__(self, transport: Any) -> None:
        self._inner = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def close(self) -> bool:
        self._inner.close()
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("how", ["abort", "aclose", "left", "failed"])
async def test_a_close_that_fails_keeps_nobody_open_and_hides_no_error(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Given three handles, when the endpoint of the second cannot be closed, then all end, and it is on record."""

    async def body(handles: list[trionet.Connection]) -> None:
        async with trionet.open_scope() as scope:
            handles += [*tcp_pair(scope), *tcp_pair(scope)]
            handles[1]._transport = Stubborn(handles[1]._transport)  # type: ignore[assignment]
            if how == "abort":
                handles[1].abort()
            elif how == "aclose":
                await handles[1].aclose()
            elif how == "failed":
                raise ValueError("the body's own")

    handles: list[trionet.Connection] = []
    if how == "failed":
        with pytest.RaisesGroup(ValueError):
            await body(handles)
    else:
        await body(handles)
    assert all(handle.phase is Phase.CLOSED for handle in handles)
    assert all(handle._transport.socket.fileno() == -1 for handle in handles)
    assert handles[1].end.outcome.error.errno == 5
    assert "closing the endpoint" in caplog.text


async def test_a_capsule_whose_close_fails_is_closed_too(caplog: pytest.LogCaptureFixture) -> None:
    async with trionet.open_scope() as scope:
        one, two = tcp_pair(scope)
        capsule = one.detach()
        capsule._transport = Stubborn(capsule._transport)
    assert capsule.end.reason is Reason.SCOPE_EXIT
    assert two.end.reason is Reason.LOCAL
    assert "closing the endpoint" in caplog.text


class Rebellious(trionet.Connection):
    """A handle of a user's own that raises wherever its scope asks it something."""

    asked: set[str]

    def _fail(self, what: str) -> Any:
        self.asked.add(what)
        raise KeyError(what)

    def __repr__(self) -> str:
        return str(self._fail("repr"))

    blockers = property(lambda self: self._fail("blockers"))
    _must_wait = property(lambda self: self._fail("_must_wait"))
    _drained = property(lambda self: self._fail("_drained"))

    def _retire(self, grace: float = 0.0) -> None:
        self._fail("_retire")

    def _handler_failed(self) -> None:
        self._fail("_handler_failed")

    def _scope_event(self, event: Any) -> None:
        self._fail("_scope_event")


@pytest.mark.parametrize("how", ["left", "failed", "cancelled"])
async def test_a_handle_that_raises_whatever_it_is_asked_ends_alone(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with trionet.open_scope() as scope:
            sock, far = tcp_sockets()
            handles.extend((scope.adopt(far), scope.adopt(sock)))
            capsule = handles.pop().detach()
            rebel = Rebellious(capsule)
            rebel.asked = set()
            rebel._seat(scope._owner, instead_of=capsule)
            capsule._pass_to(rebel)
            handles.extend((rebel, *tcp_pair(scope)))
            leaving.retire(scope._owner, 0.0)
            if how == "failed":
                raise ValueError("the body's own")
            if how == "cancelled":
                scope.cancel()

    handles: list[trionet.Connection] = []
    if how == "failed":
        with pytest.RaisesGroup(ValueError):
            await body()
    else:
        await body()
    assert all(handle.phase is Phase.CLOSED for handle in handles)
    assert all(handle._transport.socket.fileno() == -1 for handle in handles)
    assert {"_retire", "_scope_event", "repr"} <= handles[1].asked
    assert "failed to end as its scope wants it" in caplog.text


async def test_a_handle_whose_drain_raises_does_not_end_the_drain_of_the_others() -> None:
    class Bad(trionet.Connection):
        async def _drain(self) -> None:
            await trio.lowlevel.checkpoint()
            raise KeyError("bad")

    class Lingering(Wrapped):
        left = False

        async def aclose(self) -> None:
            await wait_all_tasks_blocked()
            self.left = True
            await super().aclose()

    inner, _ = trio.testing.memory_stream_pair()
    async with trionet.open_scope() as scope:
        polite = Lingering(inner)
        one = scope.adopt(polite)
        capsule = scope.adopt(Wrapped(trio.testing.memory_stream_pair()[0])).detach()
        bad = Bad(capsule)
        bad._seat(scope._owner, instead_of=capsule)
        capsule._pass_to(bad)
    assert one.end.reason is Reason.LOCAL
    assert bad.phase is Phase.CLOSED


async def test_a_service_that_raises_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("a service of somebody's own")

    async with trionet.open_scope() as scope:
        one, two = tcp_pair(scope)
        scope._owner.start_service(fail)
        await wait_all_tasks_blocked()
        await one.send_all(b"on")
        assert await two.receive_some() == b"on"
    assert "a service task of trionet failed" in caplog.text


async def test_the_refusal_says_what_to_do() -> None:
    async with trionet.open_scope() as scope:
        error = await in_a_thread(scope._owner.check_run, "abort")
        assert str(error).startswith("abort refused: it was called outside of the Trio run")
        assert "trio.from_thread.run_sync" in str(error)
