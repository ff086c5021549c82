"""Public questions on handles: they never raise, and take nothing from whoever is using the handle, in every phase."""

from __future__ import annotations

import inspect
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from tests.helpers.pairs import memory_pair, tcp_pair, unix_pair
from trionet import Phase
from trionet.handle import guards

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LISTED = ("is_silent", "statistics", "__repr__", "__str__")


def ask(thing: Any) -> dict[str, Any]:
    """All that can be asked without an argument and without waiting: properties, attributes, and what is `LISTED`."""
    answers = {}
    for name in dir(type(thing)):
        if name in LISTED:
            answers[name] = getattr(thing, name)()
        elif not name.startswith("_"):
            found = inspect.getattr_static(type(thing), name)
            if isinstance(found, property) or inspect.ismemberdescriptor(found):
                answers[name] = getattr(thing, name)
    for part in (answers.get("tls"), answers.get("end"), answers.get("statistics")):
        if part is not None:
            ask_part(part)
    return answers


def ask_part(part: Any) -> None:
    repr(part)
    for name in dir(type(part)):
        if not name.startswith("_") and not callable(inspect.getattr_static(type(part), name)):
            getattr(part, name)


@asynccontextmanager
async def tls_pair(
    scope: trionet.Scope, make: Callable[..., Any], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> AsyncIterator[tuple[trionet.Connection, trionet.Connection]]:
    one, two = make(scope)
    done: list[Any] = [None, None]

    async def upgrade(index: int, conn: trionet.Connection, recipe: Any) -> None:
        done[index] = await conn.upgrade(recipe)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upgrade, 0, one, trionet.to_tls_client("localhost", contexts[0]))
        nursery.start_soon(upgrade, 1, two, trionet.to_tls_server(contexts[1]))
    assert [ask(old)["phase"] for old in (one, two)] == [Phase.MOVED, Phase.MOVED]
    yield done[0], done[1]


@pytest.fixture(params=["tcp", "unix", "memory", "tls over tcp", "tls over memory"])
def pair(request: pytest.FixtureRequest, client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> Any:
    """A context manager of two connected handles."""
    make = {"tcp": tcp_pair, "unix": unix_pair, "memory": memory_pair}[request.param.removeprefix("tls over ")]

    @asynccontextmanager
    async def plain(scope: trionet.Scope) -> AsyncIterator[Any]:
        yield make(scope)

    if request.param.startswith("tls"):
        return lambda scope: tls_pair(scope, make, (client_context, server_context))
    return plain


KINDS = {
    "connection": None,
    "websocket": (lambda: trionet.to_websocket_client("ws://localhost/"), lambda: trionet.to_websocket_server()),
    "http": (lambda: trionet.to_http_client(host="localhost"), lambda: trionet.to_http_server()),
}


@asynccontextmanager
async def opened(pair: Any, kind: str, scope: trionet.Scope) -> AsyncIterator[tuple[Any, Any]]:
    """Two handles of this kind, one to the other."""
    async with pair(scope) as (one, two):
        recipes = KINDS[kind]
        if recipes is None:
            yield one, two
            return
        secure = one.tls is not None
        made: list[Any] = [None, None]

        async def upgrade(index: int, conn: trionet.Connection, recipe: Any) -> None:
            made[index] = await conn.upgrade(recipe)

        async with trio.open_nursery() as nursery:
            to_client = recipes[0]()
            if kind == "websocket" and secure:
                to_client = trionet.to_websocket_client("wss://localhost/")
            nursery.start_soon(upgrade, 0, one, to_client)
            await wait_all_tasks_blocked()
            ask(one)  # the handshake is awaited
            nursery.start_soon(upgrade, 1, two, recipes[1]())
        yield made[0], made[1]


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
async def test_every_phase_answers(pair: Any, kind: str) -> None:
    async with trionet.open_scope() as scope, opened(pair, kind, scope) as (one, two):
        for handle in (one, two):
            assert ask(handle)["phase"] is Phase.OPEN
        lease = guards.grant_lease(one, "work")
        async with trio.open_nursery() as nursery:
            if kind != "websocket":  # which cannot be detached
                nursery.start_soon(one.detach_when_idle)
                await wait_all_tasks_blocked()
                assert ask(one)["phase"] is Phase.RESERVED
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.aclose)
            await wait_all_tasks_blocked()
            assert ask(one)["phase"] is Phase.DRAINING
            lease.end()
            nursery.cancel_scope.cancel()
        assert ask(one)["phase"] is Phase.CLOSED
        two.abort()
        assert ask(two)["phase"] is Phase.CLOSED
    for handle in (one, two):
        ask(handle)
        ask(scope)


@every_kind
@pytest.mark.parametrize("verb", ["detach", "transfer", "abort"])
async def test_an_ended_handle_answers_whatever_becomes_of_its_endpoint(pair: Any, kind: str, verb: str) -> None:
    if kind == "websocket" and verb == "detach":
        return  # it cannot be detached
    async with (
        trionet.open_scope(drain_timeout=0) as other,
        trionet.open_scope(drain_timeout=0) as scope,
        opened(pair, kind, scope) as (one, two),
    ):
        successor = one.transfer(other) if verb == "transfer" else getattr(one, verb)()
        ask(one)
        if successor is not None:
            ask(successor)
            successor.abort()
            ask(successor)
        ask(one)
        two.abort()
        ask(two)


@pytest.mark.parametrize("end", ["reset", "eof"])
async def test_a_handle_whose_peer_has_gone_answers(pair: Any, end: str) -> None:
    async with trionet.open_scope(drain_timeout=0) as scope, pair(scope) as (one, two):
        if end == "reset":
            two._transport.spoil()
            two.abort()
        else:
            await two.aclose()
        for _ in range(2):
            ask(one)
            with trio.move_on_after(1):
                with suppress(trio.BrokenResourceError):
                    await one.receive_some()


async def test_questions_take_nothing_from_a_receive(pair: Any) -> None:
    """Given a receive in flight, when somebody asks all there is at each byte, then it gets them all."""
    async with trionet.open_scope() as scope, pair(scope) as (one, two):
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await one.receive_exactly(3))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            for byte in (b"a", b"b", b"c"):
                await wait_all_tasks_blocked()
                ask(one)
                await two.send_all(byte)
                ask(one)
        assert got == [b"abc"]
        two.abort()
        one.abort()


@pytest.mark.parametrize("asked", ["before", "behind"])
async def test_questions_take_nothing_from_a_request(pair: Any, asked: str) -> None:
    """Given a request whose response is awaited, when `is_silent` is asked, then the response comes all the same."""
    async with trionet.open_scope(drain_timeout=0) as scope, opened(pair, "http", scope) as (client, server):
        answer = trio.Event()

        async def serve() -> None:
            async for exchange in server:
                await answer.wait()
                await exchange.respond(200, b"answer")
                if asked == "behind":
                    ask(client)
                    assert not client.is_silent()
                return

        async def request() -> None:
            async with client.request("GET", "/") as response:
                assert await response.read() == b"answer"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(request)
            await wait_all_tasks_blocked()
            ask(client)
            assert not client.is_silent()
            answer.set()
        client.abort()
        assert not client.is_silent()


async def test_an_ended_connection_is_not_silent(pair: Any) -> None:
    async with trionet.open_scope(drain_timeout=0) as scope, opened(pair, "http", scope) as (client, _):
        client.abort()
        assert not client.is_silent()
        assert not client._transport.is_silent()
        assert not client._transport.is_writable()
