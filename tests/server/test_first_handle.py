"""A server makes the HTTP connection of the accepted one at once, unless somebody is to see the upgrade."""

import functools

import pytest
import trio

import trionet
from trionet import Phase
from trionet.server.first_handle import first_handle_of

from ..helpers.http_served import ask, get


async def app(exchange):
    await exchange.respond(200, str(exchange.connection.phase).encode())


@pytest.fixture
def made(monkeypatch):
    """The classes of the handles that are made, in order."""
    classes = []
    original = trionet.Handle.__init__

    def noting(handle, capsule):
        if capsule.opened_at.startswith("accept()"):
            classes.append(type(handle).__name__)
        original(handle, capsule)

    monkeypatch.setattr(trionet.Handle, "__init__", noting)
    return classes


async def one_request(handler, context=None, authority=None, **options):
    """Serve one request: its answer's status."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda **kw: trionet.serve_tcp(handler, 0, host="127.0.0.1", ssl_context=context, **options, **kw)
        )
        async with trionet.open_tcp("127.0.0.1", server.port) as client:
            if authority is not None:
                client = await client.upgrade(trionet.to_tls_client("127.0.0.1", authority))
            answer = await ask(client, get("/"))
            await client.aclose()
        await server.drain(1)
        nursery.cancel_scope.cancel()
    return answer.status


async def test_no_connection_is_made_that_would_only_be_upgraded(made):
    assert await one_request(trionet.http_handler(app)) == 200
    assert made == ["HTTPServerConnection"]


async def test_tls_is_put_on_what_becomes_the_http_connection(made, server_context, client_context):
    assert await one_request(trionet.http_handler(app), server_context, client_context) == 200
    assert made == ["Connection", "HTTPServerConnection"]


async def test_an_observer_sees_the_upgrade(made):
    seen = []
    observer = lambda handle, before, after: seen.append((type(handle).__name__, before, after))  # noqa: E731
    assert await one_request(trionet.http_handler(app), observer=observer) == 200
    assert made == ["Connection", "HTTPServerConnection"]
    assert seen[:2] == [("Connection", None, Phase.OPEN), ("Connection", Phase.OPEN, Phase.CLAIMED)]
    assert ("Connection", Phase.CLAIMED, Phase.MOVED) in seen
    assert ("HTTPServerConnection", None, Phase.OPEN) in seen


async def test_a_function_around_the_handler_gets_the_connection(made):
    """Also where it is made to look like the handler, and so has got all its attributes."""
    inner = trionet.http_handler(app)
    came = []

    @functools.wraps(inner)
    async def outer(connection):
        came.append(connection)
        await inner(connection)

    assert await one_request(outer) == 200
    assert made == ["Connection", "HTTPServerConnection"]
    assert [type(each) for each in came] == [trionet.Connection]


def test_a_handler_of_http_brings_one_and_others_do_not():
    assert first_handle_of(trionet.http_handler(app)) is not None
    assert first_handle_of(app) is None


async def test_the_scope_of_a_connection_is_made_once_and_only_when_it_is_asked_for():
    scopes = []

    async def looking(exchange):
        scopes.extend([exchange.connection.scope, exchange.connection.scope])
        await exchange.respond(200)

    assert await one_request(trionet.http_handler(looking)) == 200
    first, second = scopes
    assert first is second
    assert first.name == "connection 1"
    assert first.draining.is_set()
