"""The pool of a client: how many connections, which one, for how long, and that no slot gets lost."""

import gc
import random
import socket
import ssl

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Reason, http_handler
from trionet.http.client.recipe import to_http_client
from trionet.http.protocol.limits import HTTPLimits
from trionet.http.url.url import parse_url
from trionet.scope.opening import open_http_client
from trionet.transport.socket import SocketTransport
from trionet.transport.tls.transport import TLSTransport

from ...helpers.http_by_hand import HELLO, read_request, serving
from ...helpers.pairs import memory_pair, open_descriptors, tcp_pair
from ...helpers.tls import secured


async def get(client, url, **options):
    async with client.request("GET", url, **options) as response:
        return response.status, await response.read()


# --- the look without waiting -----------------------------------------------------------------------------------


async def test_a_socket_is_silent_until_a_byte_or_eof_comes():
    async with trionet.open_scope() as scope:
        for end in ("byte", "eof", "reset"):
            one, other = tcp_pair(scope)
            transport = one._transport
            assert transport.is_silent()
            assert transport.receive_nowait(9) is None
            if end == "byte":
                await other.send_all(b"x")
            elif end == "eof":
                await other.send_eof()
            else:
                await one.send_all(b"unread")
                await trio.lowlevel.wait_readable(other._transport.socket)
                other.abort()
            await trio.lowlevel.wait_readable(transport.socket)
            assert not transport.is_silent()
            assert not transport.is_silent()  # looking takes nothing away
            if end == "reset":
                with pytest.raises(trio.BrokenResourceError):
                    transport.receive_nowait(9)
            else:
                assert transport.receive_nowait(9) == (b"x" if end == "byte" else b"")
            one.abort()
            assert not transport.is_silent()


async def test_no_interrupt_falls_into_a_look_that_takes(server_context, client_context, monkeypatch):
    """Over TLS, looking takes what has arrived; an interrupt behind that would lose it."""
    seen = []

    def receive_nowait(self, max_bytes):
        seen.append(trio.lowlevel.currently_ki_protected())
        return taken(self, max_bytes)

    taken = SocketTransport.receive_nowait
    async with trionet.open_scope() as scope:
        client, server = await secured(scope, server_context, client_context)
        http = await client.upgrade(to_http_client())
        await server.send_all(b"unasked")
        await trio.lowlevel.wait_readable(http._transport.socket)
        monkeypatch.setattr(SocketTransport, "receive_nowait", receive_nowait)
        assert not trio.lowlevel.currently_ki_protected()
        assert not http.is_silent()
        assert seen
        assert all(seen)


async def test_a_stream_cannot_tell_whether_it_is_silent():
    async with trionet.open_scope() as scope:
        one, _ = memory_pair(scope)
        assert not one._transport.is_silent()
        assert one._transport.receive_nowait(9) is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_is_silent_as_long_as_no_byte_of_the_application_comes(version, client_context, server_context):
    client_context.maximum_version = version
    async with trionet.open_scope() as scope:
        one, other = tcp_pair(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.upgrade, trionet.to_tls_server(server_context))
            one = await one.upgrade(trionet.to_tls_client("localhost", client_context))
        other = other.end.successor
        transport = one._transport
        assert isinstance(transport, TLSTransport)
        if version is ssl.TLSVersion.TLSv1_3:  # session tickets are there, or about to come
            await trio.lowlevel.wait_readable(transport.lower.socket)
        assert transport.is_silent()
        assert transport.is_silent()
        assert transport.receive_nowait(9) is None
        await other.send_all(b"abcdef")
        await trio.lowlevel.wait_readable(transport.lower.socket)
        assert not transport.is_silent()
        assert transport.receive_nowait(2) == b"ab"
        assert not transport.is_silent()
        assert await one.receive_exactly(4) == b"cdef"
        assert transport.is_silent()
        await other.send_all(b"gh")
        await trio.lowlevel.wait_readable(transport.lower.socket)
        assert transport.receive_nowait(9) == b"gh"
        other._transport.lower.socket.shutdown(1)  # EOF without close_notify
        await trio.lowlevel.wait_readable(transport.lower.socket)
        assert not transport.is_silent()
        with pytest.raises(trio.BrokenResourceError, match="close_notify"):
            transport.receive_nowait(9)
        one.abort()
        other.abort()


async def test_tls_is_not_silent_after_close_notify_or_garbage(client_context, server_context):
    for garbage in (False, True):
        async with trionet.open_scope() as scope:
            one, other = tcp_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.upgrade, trionet.to_tls_server(server_context))
                one = await one.upgrade(trionet.to_tls_client("localhost", client_context))
            other = other.end.successor
            assert one._transport.is_silent()
            if garbage:
                other._transport.lower.send_some(b"\x17\x03\x03\x00\x10not encrypted...")
            else:
                await other.send_eof()
            await trio.lowlevel.wait_readable(one._transport.lower.socket)
            assert not one._transport.is_silent()
            one.abort()
            other.abort()


# --- which connection -------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again():
    async with serving(HELLO) as server, open_http_client() as client:
        for _ in range(5):
            assert await get(client, server.url) == (200, b"hello")
        assert server.accepted == 1
        figures = client.statistics()
        assert (figures.open, figures.idle, figures.opened, figures.reused) == (1, 1, 1, 4)


async def test_the_connection_that_became_idle_last_is_used_first():
    async with serving(HELLO) as server, open_http_client() as client:
        async with client.request("GET", server.url) as one, client.request("GET", server.url) as other:
            first, last = other.connection, one.connection  # in the order in which they come back
        assert client.statistics().idle == 2
        async with client.request("GET", server.url) as response:
            assert response.connection is last
            async with client.request("GET", server.url) as another:
                assert another.connection is first


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("http://a.example/x", "http://a.example/y?z#f", True),
        ("http://a.example/", "http://A.EXAMPLE:80/", True),
        ("http://bücher.example/", "http://xn--bcher-kva.example/", True),
        ("http://a.example/", "http://user:secret@a.example/", True),  # credentials are the request's
        ("http://a.example/", "http://b.example/", False),
        ("http://a.example/", "http://a.example:81/", False),
        ("http://127.0.0.1/", "http://[::1]/", False),
        ("http://localhost/", "http://127.0.0.1/", False),
    ],
)
async def test_a_connection_is_for_one_scheme_host_and_port(one, other, shared, tmp_path, nursery):
    """Whatever socket it leads to: here all of them are on the same one."""
    accepted = 0

    async def handle(connection):
        nonlocal accepted
        accepted += 1
        while await read_request(connection):
            await connection.send_all(HELLO)

    await nursery.start(trionet.serve_unix, handle, tmp_path / "socket")
    async with open_http_client(unix_path=tmp_path / "socket") as client:
        for url in (one, other, one):
            assert await get(client, url) == (200, b"hello")
        assert accepted == client.statistics().opened == (1 if shared else 2)
    nursery.cancel_scope.cancel()


async def test_http_and_https_are_two_origins_and_so_are_two_names_of_a_certificate(client_context, server_context):
    async with serving(HELLO, server_context) as secure, open_http_client(ssl_context=client_context) as client:
        assert await get(client, secure.url) == (200, b"hello")
        with pytest.raises(trionet.HTTPClientError):  # and no plain request over the connection that there is
            await get(client, secure.url.replace("https", "http"))
        await get(client, secure.url.replace("localhost", "127.0.0.1"))
        await get(client, secure.url)
        assert client.statistics().idle == 2
        origin = parse_url(secure.url).origin
        for name, idle in ((None, 1), ("other.example", 0)):
            site = await client._pool.slots.acquire(origin._replace(server_name=name))
            assert len(site.idle) == idle
            client._pool.slots.release(site)


@pytest.mark.parametrize("option", ["ssl_context", "local_address", "proxy", "unix_path", "socket_options"])
async def test_what_a_client_was_opened_with_is_part_of_its_connections_alone(option, tmp_path, nursery):
    """Two clients, even beside each other in one scope, have no connection in common."""
    async with serving(HELLO) as server, trionet.open_scope() as scope:
        await nursery.start(trionet.serve_unix, http_handler(hello), tmp_path / "socket")
        values = {
            "ssl_context": ssl.create_default_context(),
            "local_address": "127.0.0.1",
            "proxy": server.url,
            "unix_path": tmp_path / "socket",
            "socket_options": [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
        }
        async with scope.open_http_client() as plain, scope.open_http_client(**{option: values[option]}) as other:
            for client in (plain, other, plain, other):
                assert await get(client, server.url) == (200, b"hello")
            assert [client.statistics().opened for client in (plain, other)] == [1, 1]
            assert not {*plain.scope.handles} & {*other.scope.handles}
    nursery.cancel_scope.cancel()


async def hello(exchange):
    await exchange.respond(200, b"hello")


async def test_whether_a_proxy_is_asked_is_decided_by_origin(monkeypatch):
    async with serving(HELLO) as direct, serving(HELLO) as proxy:
        for name in ("NO_PROXY", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{direct.port}")
        async with open_http_client() as client:
            monkeypatch.delenv("http_proxy")  # it was read when the client was opened
            for _ in range(2):
                await get(client, direct.url)
                await get(client, "http://a.example/")
                await get(client, "http://b.example/")
            assert client.statistics().opened == 3
        assert (direct.accepted, proxy.accepted) == (1, 2)
        assert {asked.target for asked in proxy.asked} == {"http://a.example/", "http://b.example/"}


async def test_requests_of_one_origin_wait_for_their_turn_in_the_order_of_asking():
    order = []
    go_on = trio.Event()

    async def slowly(connection, asked):
        order.append(asked.target)
        await go_on.wait()
        await connection.send_all(HELLO)

    async with serving(slowly) as server, open_http_client(max_connections_per_origin=1) as client:
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(get, client, f"{server.url}/{number}")
                await wait_all_tasks_blocked()
            assert order == ["/0"]
            figures = client.statistics()
            assert (figures.open, figures.running, figures.waiting) == (1, 1, 5)
            go_on.set()
        assert order == [f"/{number}" for number in range(6)]
        assert server.accepted == 1
        assert client.statistics().waiting == client.statistics().running == 0


async def test_all_origins_together_have_max_connections_and_idle_ones_give_way():
    async with (
        serving(HELLO) as one,
        serving(HELLO) as two,
        serving(HELLO) as three,
        open_http_client(max_connections=2) as client,
    ):
        await get(client, one.url)
        await get(client, two.url)
        assert client.statistics().open == 2
        await get(client, three.url)
        figures = client.statistics()
        assert (figures.open, figures.dropped) == (2, 1)
        await get(client, two.url)  # it was the first one that had to go
        assert two.accepted == 1
        await get(client, one.url)
        assert one.accepted == 2
        async with client.request("GET", one.url), client.request("GET", two.url):
            assert client.statistics().open == 2
            with trio.CancelScope() as waiting:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(get, client, three.url)
                    await wait_all_tasks_blocked()
                    assert client.statistics().waiting == 1
                    waiting.cancel()
            assert client.statistics().open == 2


@pytest.mark.parametrize("what", ["eof", "byte"])
async def test_an_idle_connection_that_the_server_has_ended_is_not_used(what):
    async def once(connection, asked):
        await connection.send_all(HELLO)
        await wait_all_tasks_blocked()
        if what == "eof":
            await connection.aclose()
        else:
            await connection.send_all(b"HTTP/1.1 408 Too late\r\n\r\n")

    async with serving(once) as server, open_http_client() as client:
        assert await get(client, server.url) == (200, b"hello")
        (dead,) = client.scope.handles
        await trio.lowlevel.wait_readable(dead._transport.socket)
        async with client.request("POST", server.url) as response:  # no retry would save this one
            assert await response.read() == b"hello"
        assert dead.end.reason is Reason.PEER_EOF
        figures = client.statistics()
        assert (figures.opened, figures.dropped, figures.retried) == (2, 1, 0)


async def test_idle_connections_expire(autojump_clock):
    async with serving(HELLO) as server, open_http_client(limits=HTTPLimits(idle_timeout=10)) as client:
        await get(client, server.url)
        (connection,) = client.scope.handles
        await trio.sleep(9)
        assert client.statistics().idle == 1
        await get(client, server.url)
        await trio.sleep(9)
        assert client.statistics().idle == 1
        await trio.sleep(3)
        assert client.statistics().open == 0
        assert connection.end.reason is Reason.IDLE_TIMEOUT
        await get(client, server.url)  # and the pool is looked after again
        await trio.sleep(12)
        assert client.statistics().open == 0


async def test_what_the_server_has_ended_does_not_stay_open_for_the_idle_timeout(autojump_clock):
    async def once(connection, asked):
        await connection.send_all(HELLO)
        await connection.aclose()

    async with serving(once) as server, open_http_client() as client:
        await get(client, server.url)
        await trio.sleep(2)
        figures = client.statistics()
        assert (figures.open, figures.dropped) == (0, 1)


async def test_a_connection_taken_out_of_the_pool_is_not_missed():
    async with (
        serving(HELLO) as server,
        trionet.open_scope() as scope,
        open_http_client(max_connections=1) as client,
    ):
        async with client.request("GET", server.url, keep_connection=True) as response:
            await response.read()
            raw = scope.adopt(response.connection.detach())
        assert client.statistics().open == 0
        await get(client, server.url)
        (idle,) = client.scope.handles
        idle.transfer(scope)
        assert client.statistics().open == client.statistics().idle == 0
        await get(client, server.url)
        assert server.accepted == 3
        raw.abort()


@pytest.mark.parametrize(("name", "value", "error"), [
    ("max_connections", 0, ValueError),
    ("max_connections_per_origin", 0, ValueError),
    ("max_connections", 1.5, TypeError),
])  # fmt: skip
async def test_bounds_are_checked(name, value, error):
    with pytest.raises(error, match=name):
        async with open_http_client(**{name: value}):
            pass


async def test_origins_are_forgotten_when_nothing_is_left_of_them():
    async with (
        serving(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") as server,
        open_http_client() as client,
    ):
        await get(client, server.url)
        assert client._pool.slots.sites == {}


# --- no slot gets lost ------------------------------------------------------------------------------------------


async def test_no_slot_is_lost_whatever_is_cancelled_when():
    seed = 7
    chance = random.Random(seed)

    async def slowly(connection, asked):
        await trio.sleep(chance.random() * 0.004)
        if chance.random() < 0.1:
            await connection.send_all(HELLO[:-3])
            await trio.sleep(0.002)
            await connection.send_all(HELLO[-3:])
        else:
            await connection.send_all(HELLO)

    async with serving(slowly) as server, open_http_client(max_connections=4, max_connections_per_origin=4) as client:
        await get(client, server.url)
        client.scope.handles[0].abort()
        await server.all_gone()
        before = open_descriptors()

        async def hammer(requests):
            for _ in range(requests):
                with trio.move_on_after(chance.random() * 0.01):
                    await get(client, server.url)
                assert client.statistics().open <= 4

        async with trio.open_nursery() as nursery:
            for share in (167,) * 8 + (166,) * 4:
                nursery.start_soon(hammer, share)
        figures = client.statistics()
        assert (figures.running, figures.waiting) == (0, 0)
        assert client._pool.slots._free.value == 4
        with trio.fail_after(1):
            assert await get(client, server.url) == (200, b"hello")
        for handle in client.scope.handles:
            handle.abort()
        await server.all_gone()
        gc.collect()
        assert open_descriptors() == before


async def test_a_cancelled_waiter_hands_its_slot_on():
    go_on = trio.Event()

    async def slowly(connection, asked):
        await go_on.wait()
        await connection.send_all(HELLO)

    async with serving(slowly) as server, open_http_client(max_connections_per_origin=1) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, client, server.url)
            await wait_all_tasks_blocked()
            with trio.CancelScope() as waiting:
                nursery.start_soon(get, client, server.url)
                async with trio.open_nursery() as inner:
                    inner.start_soon(get, client, server.url)
                    await wait_all_tasks_blocked()
                    waiting.cancel()
            go_on.set()
        assert client.statistics().waiting == 0
        assert await get(client, server.url) == (200, b"hello")


async def test_a_flood_of_session_tickets_is_not_read_to_its_end_by_a_look(client_context, server_context):
    """They are no bytes of the application; but a look is a step, in which nobody else has a turn."""
    tickets = server_context.num_tickets
    server_context.num_tickets = 1000
    try:
        async with trionet.open_scope() as scope:
            one, other = tcp_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.upgrade, trionet.to_tls_server(server_context))
                one = await one.upgrade(trionet.to_tls_client("localhost", client_context))
            transport = one._transport
            looks = 0
            while not (silent := transport.is_silent()) and looks < 20:
                looks += 1
                await trio.lowlevel.wait_readable(transport.lower.socket)
            assert 0 < looks < 20
            assert silent
    finally:
        server_context.num_tickets = tickets


async def test_connections_that_say_goodbye_are_no_more_than_the_others(server_context, client_context):
    """Each makes room for the next, and its server lets it wait: the client keeps one of them and cuts off others."""

    async def mute(connection, asked):
        await connection.send_all(HELLO)
        await trio.sleep_forever()

    async with (
        serving(mute, server_context) as one,
        serving(mute, server_context) as two,
        serving(mute, server_context) as three,
        serving(mute, server_context) as four,
        trionet.open_http_client(max_connections=1, ssl_context=client_context) as client,
    ):
        for server in (one, two, three, four):
            async with client.request("GET", server.url) as response:
                assert response.status == 200
            assert client.statistics().open <= 2
