"""How a client ends, and that nothing of it is lost wherever it is cancelled."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Reason
from trionet.http.client.retry import IDEMPOTENT
from trionet.scope.opening import open_http_client

from ...helpers.http_by_hand import HELLO, serving
from ...helpers.http_clients import get, redirect, routes
from ...helpers.pairs import open_descriptors
from ...stories.test_cancel_everywhere import at_every_checkpoint

# --- how a client ends --------------------------------------------------------------------------------------------


async def test_leaving_closes_every_connection_and_refuses_requests():
    async with serving(HELLO) as server:
        before = open_descriptors()
        async with open_http_client() as client:
            await get(client, server.url)
            (connection,) = client.scope.handles
        assert connection.end.reason is Reason.LOCAL
        assert client.scope.report.clean
        assert client.statistics().open == 0
        with pytest.raises(trionet.ScopeClosedError, match="nothing of the request was sent: a retry is safe"):
            await get(client, server.url)
        assert "closed" in repr(client)
        await server.all_gone()
        assert open_descriptors() == before


async def test_an_exception_of_the_body_leaves_as_it_is_and_closes_at_once():
    async with serving(HELLO) as server:
        with pytest.raises(KeyError):
            async with open_http_client() as client, client.request("GET", server.url):
                raise KeyError
        with pytest.raises(KeyError):
            async with open_http_client() as client:
                await get(client, server.url)
                (connection,) = client.scope.handles
                raise KeyError
        assert connection.end.reason is Reason.SCOPE_CANCELLED


@pytest.mark.parametrize("way", ["leave", "aclose", "scope"])
async def test_running_requests_are_waited_for_and_waiting_ones_refused(way):
    go_on, outcomes = trio.Event(), []

    async def slowly(connection, asked):
        await go_on.wait()
        await connection.send_all(HELLO)

    async def ask(client, url):
        try:
            outcomes.append((await get(client, url))[0])
        except trionet.ScopeClosedError as exc:
            outcomes.append("refused" if exc.retry_safe else str(exc))

    async with serving(slowly) as server, trio.open_nursery() as nursery, trionet.open_scope() as scope:
        opening = scope.open_http_client if way == "scope" else open_http_client
        async with opening(max_connections_per_origin=1) as client:
            for _ in range(3):
                nursery.start_soon(ask, client, server.url)
            await wait_all_tasks_blocked()
            assert client.statistics().waiting == 2
            nursery.start_soon(release, go_on, outcomes)
            if way == "aclose":
                await client.aclose()
                assert sorted(map(str, outcomes)) == ["200", "refused", "refused"]
        await wait_all_tasks_blocked()
        assert sorted(map(str, outcomes)) == ["200", "refused", "refused"]
        assert client.scope.report.clean


async def test_a_request_that_waits_for_any_connection_is_refused_when_the_client_closes():
    """It has the place of its origin already, and waits for one of the client's, which another origin has."""
    refused = trio.Event()

    async def slowly(connection, asked):
        await refused.wait()
        await connection.send_all(HELLO)

    async def waiter(client, url):
        with pytest.raises(trionet.ScopeClosedError):
            await get(client, url)
        refused.set()

    async with serving(slowly) as one, serving(slowly) as other, trio.open_nursery() as nursery:
        async with open_http_client(max_connections=1) as client:
            nursery.start_soon(get, client, one.url)
            await wait_all_tasks_blocked()
            nursery.start_soon(waiter, client, other.url)
            await wait_all_tasks_blocked()
            assert client.statistics().waiting == 1
        assert refused.is_set()
        assert client.scope.report.clean


async def release(go_on, outcomes):
    while len(outcomes) < 2:
        await wait_all_tasks_blocked()
    go_on.set()


async def test_requests_that_do_not_end_are_cut_off_at_the_deadline_and_reported(autojump_clock):
    async def never(connection, asked):
        await trio.sleep_forever()

    async def victim(client, url):
        with pytest.raises(trionet.HandleClosedError, match="not idempotent"):
            async with client.request("POST", url):
                pass

    async with serving(never) as server, trio.open_nursery() as nursery:
        async with open_http_client(drain_timeout=2) as client:
            nursery.start_soon(victim, client, f"{server.url}/slow")
            await wait_all_tasks_blocked()
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(2)
        (forced,) = client.scope.report.forced
        assert forced.reason is Reason.DRAIN_TIMEOUT
        assert "request POST /slow" in str(forced)
        assert "client/test_client.py" in forced.opened_at


async def test_abort_ends_everything_at_once():
    refused = []

    async def never(connection, asked):
        await trio.sleep_forever()

    async def victim(client, url):
        with pytest.raises((trionet.HandleClosedError, trionet.ScopeClosedError)) as caught:
            await get(client, url)
        refused.append(type(caught.value))

    async with serving(never) as server, open_http_client(max_connections_per_origin=1) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(victim, client, server.url)
            nursery.start_soon(victim, client, server.url)
            await wait_all_tasks_blocked()
            client.abort()
            assert client.statistics().open == 0
        assert sorted(kind.__name__ for kind in refused) == ["HandleClosedError", "ScopeClosedError"]
        with pytest.raises(trionet.ScopeClosedError):
            await get(client, server.url)


async def test_a_request_that_is_connecting_is_called_off(monkeypatch):
    async def never(*_):
        await trio.sleep_forever()

    monkeypatch.setattr("trionet.transport.connecting.tcp_socket", never)
    async with trio.open_nursery() as nursery, open_http_client() as client:

        async def victim():
            with pytest.raises(trionet.ScopeClosedError):
                await get(client, "http://host.example/")

        nursery.start_soon(victim)
        await wait_all_tasks_blocked()
        assert client.statistics().running == 1
    assert client.statistics().running == 0


async def test_a_client_of_a_scope_belongs_to_it():
    async with serving(HELLO) as server:
        async with (
            trionet.open_scope(name="outer", drain_timeout=3) as scope,
            scope.open_http_client() as client,
        ):
            assert client.scope.parent is scope
            assert client.scope._owner.drain_timeout == 3
            assert await get(client, server.url) == (200, b"hello")
            assert len(client.scope.handles) == 1
            assert scope.handles == ()
        with pytest.raises(trionet.ScopeClosedError):
            async with scope.open_http_client():
                pass


async def test_a_cancelled_scope_takes_its_client_along():
    async def never(connection, asked):
        await trio.sleep_forever()

    async with serving(never) as server:
        async with trionet.open_scope() as scope:

            async def use():
                async with scope.open_http_client() as client:
                    clients.append(client)
                    await get(client, server.url)

            clients = []
            scope.start_soon(use)
            await wait_all_tasks_blocked()
            scope.cancel()
        assert clients[0].statistics().open == clients[0].statistics().running == 0


async def test_a_request_is_sent_once():
    async with serving(HELLO) as server, open_http_client() as client:
        context = client.request("GET", server.url)
        async with context:
            pass
        with pytest.raises(RuntimeError, match="sent already"):
            async with context:
                pass


async def test_a_request_that_two_tasks_send_costs_no_slot():
    """The second one's slot took the place of the first one's, which nobody gave back."""
    outcomes = []

    async def send(context):
        try:
            async with context as response:
                outcomes.append(await response.read())
        except RuntimeError as exc:
            outcomes.append(str(exc))

    async with serving(HELLO) as server, open_http_client(max_connections=1) as client:
        context = client.request("GET", server.url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, context)
            nursery.start_soon(send, context)
        assert sorted(outcomes, key=str) == [b"hello", "this request was sent already; call request() again"]
        assert client.statistics().running == 0


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_generator_that_a_failed_request_has_closed_is_not_sent_as_an_empty_body(kind):
    """The second attempt went well, and nothing of the body had been sent."""

    async def several():
        yield b"abc"

    async with serving(HELLO) as server, open_http_client() as client:
        body = several() if kind == "async" else (piece for piece in [b"abc"])
        with pytest.raises(ConnectionRefusedError, match="a retry is safe"):
            await get(client, "http://127.0.0.1:1/", "POST", content=body)
        with pytest.raises(ValueError, match="content is a generator that has ended, .* make a new one"):
            await get(client, server.url, "POST", content=body)
        assert server.asked == []


async def test_a_request_that_failed_can_be_sent_again():
    async with serving(HELLO) as server, open_http_client() as client:
        context = client.request("GET", server.url)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with context:
                pass
        async with context as response:
            assert await response.read() == b"hello"


async def test_a_response_may_become_something_else():
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhi"
    async with serving(switching) as server, trionet.open_scope() as scope, open_http_client() as client:
        async with client.request("GET", server.url, headers={"Connection": "upgrade", "Upgrade": "chat"}) as response:
            raw = scope.adopt(response.connection.detach())
        assert await raw.receive_exactly(2) == b"hi"
        async with client.request("GET", server.url, headers={"Connection": "upgrade", "Upgrade": "chat"}) as response:
            kept = response.connection
        assert kept.end.reason is Reason.ABORTED  # nobody took it
        assert client.statistics().open == 0
        raw.abort()


# --- cancelled everywhere -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/hop", "/big"])
async def test_cancelled_at_every_checkpoint_of_a_request(path, server_context, client_context):
    answers = {"/": HELLO, "/hop": redirect("/", body=b"x" * 1000), "/big": HELLO}
    async with serving(routes(answers), server_context) as server:
        # By address: a cancelled look-up of a name goes on in its thread, and has a descriptor open for a while.
        server.url = server.url.replace("localhost", "127.0.0.1")

        async def scenario(cancelling):
            content = bytes(2_000_000) if path == "/big" else None
            async with open_http_client(ssl_context=client_context, max_connections=1) as client:
                with cancelling.scope:
                    async with client.request("PUT", server.url + path, content=content) as response:
                        assert await response.read() == b"hello"
                figures = client.statistics()
                assert (figures.running, figures.waiting) == (0, 0)
                assert client._pool.slots._free.value == 1
                assert figures.open <= 1
                assert figures.open == figures.idle == len(client.scope.handles)
            await server.all_gone()

        assert await at_every_checkpoint(scenario) > 3


def test_the_methods_that_are_sent_again_are_those_of_the_contract():
    assert sorted(IDEMPOTENT) == ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"]
