"""A task that asks a connection to end while it is itself in an exchange on it does not wait for itself."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase, Reason
from trionet.custody import leaving

from ..helpers.http_by_hand import HELLO, Asked, http_pair, serving


async def half(connection: trionet.Connection, asked: Asked) -> None:
    """Half an answer, and nothing more."""
    await connection.send_all(HELLO[:-2])


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 100_000
        await trio.lowlevel.checkpoint()


# --- the client --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["connection", "client", "scope"])
async def test_closing_inside_of_the_own_block_gives_the_response_up(what):
    with trio.fail_after(5):
        async with serving(half) as server, trionet.open_http_client(drain_timeout=math.inf) as client:
            async with client.request("GET", server.url) as response:
                connection = response.connection
                if what == "connection":
                    await connection.aclose()
                elif what == "client":
                    await client.aclose()
                else:
                    await leaving.let_go(client.scope._owner)
                assert connection.end.reason is Reason.LOCAL
                with pytest.raises(trionet.HandleClosedError):
                    await response.read()
            assert client.statistics().running == client.statistics().open == 0
            if what != "connection":
                assert client.scope.report.clean
            assert response.connection is connection


async def test_a_scope_that_is_left_inside_of_a_block_does_not_wait_for_it():
    with trio.fail_after(5):
        async with serving(half) as server:
            async with trionet.open_http_client(drain_timeout=math.inf) as client:
                response = await client.request("GET", server.url).__aenter__()  # and nobody leaves it
            assert client.scope.report.clean
            await response._leave(None)


async def test_over_tls_the_goodbye_is_said(client_context, server_context):
    with trio.fail_after(5):
        async with (
            serving(half, server_context) as server,
            trionet.open_http_client(ssl_context=client_context, drain_timeout=math.inf) as client,
            client.request("GET", server.url) as response,
        ):
            connection = response.connection
            await client.aclose()
            assert connection.end.reason is Reason.LOCAL


async def test_an_upload_of_the_response_that_is_given_up_ends():
    async def answer(connection: trionet.Connection) -> None:
        await connection.receive_until(b"\r\n\r\n", max_bytes=65536)
        await connection.send_all(HELLO[:-2])
        await connection.wait_ended()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trionet.serve_tcp, answer, 0)
            async with (
                trionet.open_http_client(drain_timeout=math.inf) as client,
                client.request("POST", f"http://127.0.0.1:{server.port}/", content=endless()) as response,
            ):
                await wait_all_tasks_blocked()
                connection = response.connection
                await client.aclose()
                assert connection.phase is Phase.CLOSED
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["connection", "client", "scope"])
async def test_the_producer_of_a_body_closes_without_waiting_for_itself(what):
    """The request waits for the rest of its body, and whoever closes waited for the request."""
    connections: list[Any] = []
    closed: list[bool] = []

    with trio.fail_after(5):
        async with serving(HELLO) as server, trionet.open_http_client(drain_timeout=math.inf) as client:

            async def body() -> AsyncIterator[bytes]:
                yield b"a"
                if what == "connection":
                    (connection,) = client._pool._open
                    connections.append(connection)
                    await connection.aclose()
                elif what == "client":
                    await client.aclose()
                else:
                    await leaving.let_go(client.scope._owner)
                closed.append(not client.statistics().open)
                yield b"b"

            with pytest.raises(trionet.HandleClosedError):
                async with client.request("POST", server.url, content=body()):
                    pass
            assert client.statistics().running == client.statistics().open == 0
            assert server.asked == []
    assert closed in ([True], [])  # its next step is cancelled with the connection


async def test_a_response_that_another_task_reads_is_waited_for():
    """The lease ends with the body; whose block it is does not matter then."""
    go_on = trio.Event()

    async def slowly(connection: trionet.Connection, asked: Asked) -> None:
        await connection.send_all(HELLO[:-2])
        await go_on.wait()
        await connection.send_all(HELLO[-2:-1])
        await wait_all_tasks_blocked()
        await connection.send_all(HELLO[-1:])

    got = []

    async def read(response: trionet.Response) -> None:
        got.append(await response.read())

    async with serving(slowly) as server, trionet.open_http_client() as client, trio.open_nursery() as nursery:
        async with client.request("GET", server.url) as response:
            nursery.start_soon(read, response)
            await wait_all_tasks_blocked()
            nursery.start_soon(_set_later, go_on)
            await client.aclose()
            assert got == [b"hello"]
        assert client.scope.report.clean


async def _set_later(event: trio.Event) -> None:
    await wait_all_tasks_blocked()
    event.set()


async def test_a_response_of_another_task_is_waited_for_within_the_deadline(autojump_clock):
    async with serving(half) as server, trionet.open_http_client(drain_timeout=2) as client:
        opened = trio.Event()

        async def hold() -> None:
            async with client.request("GET", server.url) as response:
                opened.set()
                with pytest.raises(trionet.HandleClosedError):
                    await response.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await opened.wait()
            async with client.request("GET", server.url):
                began = trio.current_time()
                await client.aclose()
                assert trio.current_time() - began == 2
        (forced,) = client.scope.report.forced  # the own one was none
        assert forced.reason is Reason.DRAIN_TIMEOUT


async def test_a_detach_inside_of_the_own_block_is_refused_instead_of_waiting():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        await server.send_all(HELLO[:-2])
        async with http.request("GET", "/") as response:
            with pytest.raises(trionet.HandleBusyError, match="would wait for the task that asks: .*GET /") as caught:
                await http.detach_when_idle()
            assert [blocker.operation for blocker in caught.value.blockers] == ["request GET /"]
            assert http.phase is Phase.OPEN
            await server.send_all(HELLO[-2:])
            assert await response.read() == b"hello"
            capsule = await http.detach_when_idle()  # the response has ended, if not its block
        scope.adopt(capsule)


async def test_a_detach_waits_for_a_response_that_another_task_reads():
    async with trionet.open_scope() as scope:
        http, server = await http_pair(scope)
        await server.send_all(HELLO[:-2])
        async with trio.open_nursery() as nursery, http.request("GET", "/") as response:
            nursery.start_soon(response.read)
            await wait_all_tasks_blocked()
            nursery.start_soon(_answer_later, server)
            scope.adopt(await http.detach_when_idle())


async def _answer_later(server: trionet.Connection) -> None:
    await wait_all_tasks_blocked()
    await server.send_all(HELLO[-2:])


# --- the server --------------------------------------------------------------------------------------------------


async def ask(handler: Any) -> tuple[bytes, list[Any]]:
    """What a client gets of this handler, and what that has noted."""
    notes: list[Any] = []
    over = trio.Event()

    async def handle(exchange: trionet.Exchange) -> None:
        await handler(exchange, notes)
        over.set()

    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: Any) -> None:
            limits = trionet.Limits(drain_timeout=math.inf)
            await trionet.serve_http(handle, 0, host="127.0.0.1", limits=limits, task_status=task_status)

        server = await nursery.start(serve)
        with trio.fail_after(5):
            async with trionet.open_tcp("127.0.0.1", server.port) as connection:
                await connection.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
                got = bytearray()
                while data := await connection.receive_some():
                    got += data
            await over.wait()
        nursery.cancel_scope.cancel()
    return bytes(got), notes


async def test_a_handler_that_closes_its_own_connection_gives_its_exchange_up():
    async def close(exchange: trionet.Exchange, notes: list[Any]) -> None:
        await exchange.connection.aclose()
        notes.append(exchange.connection.phase)

    got, notes = await ask(close)
    assert got.startswith(b"HTTP/1.1 500 ")
    assert notes == [Phase.CLOSED]


async def test_a_handler_that_closes_behind_its_answer_has_answered():
    async def close(exchange: trionet.Exchange, notes: list[Any]) -> None:
        await exchange.respond(200, b"bye")
        await exchange.connection.aclose()
        notes.append(exchange.connection.phase)

    got, notes = await ask(close)
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"bye")
    assert notes == [Phase.CLOSED]


async def test_a_handler_that_detaches_inside_of_its_own_exchange_is_refused():
    async def detach(exchange: trionet.Exchange, notes: list[Any]) -> None:
        with pytest.raises(trionet.HandleBusyError, match="would wait for the task that asks: .*POST /"):
            await exchange.connection.detach_when_idle()
        await exchange.read()
        await exchange.respond(200, b"still here", headers={"Connection": "close"})

    got, _ = await ask(detach)
    assert got.endswith(b"still here")


# --- the server that one is a handler of --------------------------------------------------------------------------


async def drain_inside(paths: list[str], outside: float | None = None) -> tuple[list[bytes], dict[str, Any]]:
    """Ask one server for these paths; when all are asked, their handlers drain, or take their time. What came of it."""
    reports: dict[str, Any] = {}
    answers: list[bytes] = []
    all_asked = trio.Event()

    async def handle(exchange: trionet.Exchange) -> None:
        await all_asked.wait()
        if exchange.path.startswith("/drain"):
            reports[exchange.path] = await server.drain(100)
            if exchange.path == "/drain-and-more":
                await trio.sleep(10)
        elif exchange.path == "/child":
            async with trio.open_nursery() as inner:
                inner.start_soon(drain_in_child, exchange.path)
                await trio.lowlevel.checkpoint()
        elif exchange.path == "/slow":
            await trio.sleep(1)
        else:
            await trio.sleep_forever()
        await exchange.respond(200, exchange.path.encode())

    async def drain_in_child(path: str) -> None:
        reports[path] = await server.drain(100)

    async def ask_for(path: str) -> None:
        async with trionet.open_tcp("127.0.0.1", server.port) as connection:
            await connection.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            got = bytearray()
            with contextlib.suppress(trio.BrokenResourceError):
                while data := await connection.receive_some():
                    got += data
            answers.append(bytes(got.rpartition(b"\r\n")[2]))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trionet.serve_http, handle, 0, host="127.0.0.1"))
        for path in paths:
            nursery.start_soon(ask_for, path)
            await wait_all_tasks_blocked()
        all_asked.set()
        if outside is not None:
            reports["outside"] = await server.drain(outside)
    return sorted(answers), reports


async def test_a_handler_that_drains_its_server_waits_for_all_but_itself(autojump_clock):
    began = trio.current_time()
    answers, reports = await drain_inside(["/slow", "/drain"])
    assert answers == [b"/drain", b"/slow"]
    assert (reports["/drain"].drained, reports["/drain"].clean) == (1, True)
    assert trio.current_time() - began < 5  # the grace for idle connections, and no deadline


async def test_a_task_of_a_handler_that_drains_waits_for_all_but_its_handler(autojump_clock):
    began = trio.current_time()
    answers, reports = await drain_inside(["/child"])
    assert answers == [b"/child"]
    assert (reports["/child"].drained, reports["/child"].clean) == (0, True)
    assert trio.current_time() - began < 5


async def test_handlers_that_drain_do_not_wait_for_each_other(autojump_clock):
    began = trio.current_time()
    answers, reports = await drain_inside(["/drain1", "/slow", "/drain2"])
    assert answers == [b"/drain1", b"/drain2", b"/slow"]
    assert all(report.clean for report in reports.values())
    assert trio.current_time() - began < 5


async def test_who_drains_from_outside_waits_for_a_handler_that_drains(autojump_clock):
    answers, reports = await drain_inside(["/slow", "/drain-and-more"], outside=50)
    assert answers == [b"/drain-and-more", b"/slow"]
    assert (reports["outside"].drained, reports["outside"].clean) == (2, True)


async def test_a_handler_that_drains_forces_the_others_and_answers(autojump_clock):
    answers, reports = await drain_inside(["/never", "/drain"])
    assert answers == [b"", b"/drain"]
    assert [entry.reason for entry in reports["/drain"].forced]
    assert reports["/drain"].drained == 0
