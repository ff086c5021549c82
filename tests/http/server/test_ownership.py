"""Who owns an HTTP connection, and what may happen to it: in an exchange, between two, and when it ends."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import (
    HandleBusyError,
    HandleClosedError,
    HandleMovedError,
    HTTPLimits,
    Phase,
    Reason,
    to_http_server,
    to_websocket_client,
    to_websocket_server,
)

from ...helpers.http_served import GET, POST, ask, get, read_answer, replying, served, vanish
from ...helpers.pairs import receive_all, tcp_pair


class Paused:
    """A handler that waits in its exchange until it may answer."""

    def __init__(self):
        self.begun, self.proceed = trio.Event(), trio.Event()

    async def __call__(self, exchange):
        self.begun.set()
        await self.proceed.wait()
        await exchange.respond(200, b"late")


# --- in an exchange ----------------------------------------------------------------------------------------------


async def test_nobody_takes_a_connection_away_in_an_exchange():
    handler = Paused()
    async with served(handler) as it:
        await it.client.send_all(get("/work"))
        await handler.begun.wait()
        for verb in (it.http.detach, lambda: it.http.transfer(it.scope)):
            with pytest.raises(HandleBusyError, match=r"exchange \(GET /work\) by task .*run") as caught:
                verb()
            assert [blocker.operation for blocker in caught.value.blockers] == ["exchange (GET /work)"]
        handler.proceed.set()
        assert (await read_answer(it.client)).body == b"late"


async def test_a_second_task_gets_no_exchange_while_one_is_under_way():
    handler = Paused()
    async with served(handler) as it:
        await it.client.send_all(GET * 2)
        await handler.begun.wait()
        with pytest.raises(HandleBusyError, match="exchange"):
            await it.http.__anext__()
        handler.proceed.set()
        assert [(await read_answer(it.client)).body for _ in range(2)] == [b"late"] * 2
        assert it.failure is None


async def test_a_second_task_is_refused_while_the_first_waits_for_a_request():
    async with served(replying()) as it:
        await wait_all_tasks_blocked()
        with pytest.raises(HandleBusyError, match="receive by task"):
            await it.http.__anext__()
        assert (await ask(it.client, GET)).status == 200


# --- between two exchanges ---------------------------------------------------------------------------------------


async def test_layers_are_reversible_between_two_messages():
    """HTTP and then a line of something else, in one segment: the line is leftover, exactly."""
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        await other.send_all(GET + b"PLAIN\r\n")
        http = await one.upgrade(to_http_server())
        exchange = await http.__anext__()
        await exchange.respond(200, b"ok")
        http._output.flush()
        capsule = http.detach()
        assert capsule.leftover == b"PLAIN\r\n"
        again = scope.adopt(capsule)
        assert await again.receive_until(b"\r\n", max_bytes=99) == b"PLAIN\r\n"
        with pytest.raises(HandleMovedError):
            http.detach()
        with pytest.raises(StopAsyncIteration):
            await http.__anext__()
        assert (await read_answer(other)).body == b"ok"


async def test_detach_when_idle_waits_for_the_exchange_and_the_loop_ends_quietly():
    handler = Paused()
    async with served(handler) as it:
        await it.client.send_all(GET + b"left")
        await handler.begun.wait()
        capsules = []

        async def take():
            capsules.append(await it.http.detach_when_idle())

        it.scope.start_soon(take)
        await wait_all_tasks_blocked()
        assert it.http.phase is Phase.RESERVED
        handler.proceed.set()
        assert (await read_answer(it.client)).body == b"late"
        await it.over.wait()
        assert it.failure is None
        assert capsules[0].leftover == b"left"


async def test_a_request_that_comes_while_somebody_waits_to_detach_is_his():
    async with served(replying()) as it:
        await wait_all_tasks_blocked()
        capsules = []

        async def take():
            capsules.append(await it.http.detach_when_idle())

        it.scope.start_soon(take)
        await wait_all_tasks_blocked()
        await it.client.send_all(GET)
        await it.over.wait()
        assert (capsules[0].leftover, it.exchanges, it.failure) == (GET, [], None)


async def test_a_detach_that_is_called_off_leaves_the_loop_as_it_was():
    async with served(replying()) as it:
        await wait_all_tasks_blocked()
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            await it.http.detach_when_idle()
        with trio.move_on_after(0.01):
            await it.http.detach_when_idle()
        assert it.http.phase is Phase.OPEN
        assert (await ask(it.client, GET)).status == 200


async def test_a_transfer_takes_what_was_received_along():
    async with trionet.open_scope() as outer, outer.open_scope() as inner:
        one, other = tcp_pair(inner)
        http = await one.upgrade(to_http_server())
        await other.send_all(GET * 2)
        await (await http.__anext__()).respond(200, b"1")
        http._output.flush()
        moved = http.transfer(outer)
        await (await moved.__anext__()).respond(200, b"2")
        moved._output.flush()
        assert [(await read_answer(other)).body for _ in range(2)] == [b"1", b"2"]


# --- the end -----------------------------------------------------------------------------------------------------


async def test_aclose_from_outside_waits_for_the_answer():
    handler = Paused()
    async with served(handler) as it:
        await it.client.send_all(GET * 2)
        await handler.begun.wait()
        it.scope.start_soon(it.http.aclose)
        await wait_all_tasks_blocked()
        assert it.http.phase is Phase.DRAINING
        handler.proceed.set()
        assert (await read_answer(it.client)).body == b"late"
        assert (await it.ended()).reason is Reason.LOCAL
        assert len(it.exchanges) == 1
        assert it.failure is None


async def test_aclose_from_outside_ends_a_loop_that_waits():
    async with served(replying()) as it:
        await wait_all_tasks_blocked()
        await it.http.aclose()
        assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None
        assert await it.client.receive_some() == b""


async def test_a_handler_that_closes_its_own_connection_does_not_wait_for_itself():
    async def handler(exchange):
        await exchange.connection.aclose()

    async with served(handler) as it:
        with trio.fail_after(3):
            answer = await ask(it.client, GET)
            assert (answer.status, answer.fields["connection"]) == (500, "close")
            assert (await it.ended()).reason is Reason.LOCAL
        assert it.failure is None


async def test_abort_ends_the_exchange_and_says_so():
    handler = Paused()
    async with served(handler) as it:
        await it.client.send_all(GET)
        await handler.begun.wait()
        it.http.abort()
        handler.proceed.set()
        assert (await it.ended()).reason is Reason.ABORTED
        assert isinstance(it.failure, HandleClosedError)


async def test_a_scope_that_is_left_answers_for_a_handler_that_has_not():
    async with trionet.open_scope() as outer:
        async with outer.open_scope() as scope:
            one, far = tcp_pair(scope)
            client = far.transfer(outer)
            http = await one.upgrade(to_http_server())
            await client.send_all(GET)
            await http.__anext__()
        assert http.end.reason is Reason.LOCAL
        answer = await read_answer(client)
        assert (answer.status, answer.fields["connection"]) == (500, "close")


async def test_a_scope_that_is_left_cuts_off_an_answer_that_was_begun():
    async with trionet.open_scope() as outer:
        async with outer.open_scope() as scope:
            one, far = tcp_pair(scope)
            client = far.transfer(outer)
            http = await one.upgrade(to_http_server())
            await client.send_all(GET)
            stream = (await http.__anext__()).stream(200)
            await (await stream.__aenter__()).send(b"begun")
        assert http.end.reason is Reason.ABORTED
        data = await receive_all(client)
        assert data.endswith(b"5\r\nbegun\r\n")


@pytest.mark.parametrize("gone", ["reset", "eof"])
async def test_a_client_that_has_gone_cancels_the_scope_of_its_connection(nursery, autojump_clock, gone):
    ended = trio.Event()
    handles = []

    async def app(exchange):
        handles.append(exchange.connection)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    limits = HTTPLimits(eof_is_gone=True)
    server = await nursery.start(lambda **kw: trionet.serve_http(app, 0, http_limits=limits, **kw))
    async with trionet.open_tcp("127.0.0.1", server.port) as client:
        await client.send_all(GET)
        while not handles:
            await trio.lowlevel.checkpoint()
        if gone == "reset":
            vanish(client)
        else:
            await client.send_eof()
        began = trio.current_time()
        await ended.wait()
        assert trio.current_time() - began <= 1  # two looks, half a second apart
    reason = {"reset": Reason.PEER_RESET, "eof": Reason.PEER_EOF}[gone]
    assert (await handles[0].wait_ended()).reason is reason
    nursery.cancel_scope.cancel()


async def test_a_server_that_drains_finishes_the_answer_and_says_that_it_is_the_last(nursery):
    handler = Paused()
    server = await nursery.start(trionet.serve_http, handler, 0)
    async with trionet.open_tcp("127.0.0.1", server.port) as busy, trionet.open_tcp("127.0.0.1", server.port) as idle:
        await busy.send_all(GET)
        await handler.begun.wait()
        reports = []

        async def drain():
            reports.append(await server.drain(30))

        nursery.start_soon(drain)
        assert await idle.receive_some() == b""
        handler.proceed.set()
        answer = await read_answer(busy)
        assert (answer.body, answer.fields["connection"]) == (b"late", "close")
        assert await busy.receive_some() == b""
        await wait_all_tasks_blocked()
    assert reports[0].clean
    nursery.cancel_scope.cancel()


async def test_a_client_upgrades_over_http_and_the_old_loop_ends():
    async def handler(exchange):
        ws = await exchange.upgrade(to_websocket_server())
        async for message in ws:
            await ws.send_message(message)

    async with served(handler) as it:
        ws = await it.client.upgrade(to_websocket_client("ws://a/chat"))
        await ws.send_message("hi")
        assert await ws.get_message() == "hi"
        await ws.aclose()
        await it.over.wait()
        assert it.failure is None


async def test_the_second_half_of_a_body_is_lost_with_the_connection_and_says_so():
    async def handler(exchange):
        await exchange.read()

    async with served(handler) as it:
        await it.client.send_all(POST % 10 + b"half")
        await wait_all_tasks_blocked()
        vanish(it.client)
        await it.over.wait()
        assert isinstance(it.failure, trionet.HandleBrokenError)
