"""From an exchange to another protocol: tunnels, upgrades, WebSockets."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import (
    LocalProtocolError,
    Phase,
    Reason,
    UpgradeRefusedError,
    to_connection,
    to_http_server,
    to_websocket_server,
)

from ...helpers.http_served import GET, WEBSOCKET, ask, read_answer, served
from ...helpers.pairs import receive_all, tcp_pair

# --- other protocols ---------------------------------------------------------------------------------------------


async def test_connect_opens_a_tunnel_with_the_bytes_behind_the_request():
    async def handler(exchange):
        tunnel = await exchange.upgrade(to_connection())
        assert exchange.status == 200
        await tunnel.send_all(b"got " + await tunnel.receive_exactly(5))
        await tunnel.aclose()

    async with served(handler) as it:
        await it.client.send_all(b"CONNECT far:1 HTTP/1.1\r\nHost: far:1\r\n\r\nhello")
        assert (await receive_all(it.client)).partition(b"\r\n\r\n")[2] == b"got hello"
        await it.over.wait()
        assert it.failure is None
        assert it.http.end.reason is Reason.UPGRADED


WITH_BODY = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\nx"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n"


@pytest.mark.parametrize(("offer", "choice"), [(b"echo/1", None), (b"other, ECHO/1", "echo/1")])
async def test_any_protocol_that_a_request_offers(offer, choice):
    async def handler(exchange):
        stream = await exchange.upgrade(to_connection(choice, headers=[("X-More", "1")]))
        await stream.send_all(await stream.receive_exactly(2))
        await stream.aclose()

    async with served(handler) as it:
        await it.client.send_all(UPGRADE % offer + b"hi")
        head, _, rest = (await receive_all(it.client)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Upgrade: echo/1" in head
        assert b"X-More: 1" in head
        assert rest == b"hi"


@pytest.mark.parametrize(
    ("request_", "recipe", "why"),
    [
        (GET, to_connection("h2c"), "101 with Upgrade"),
        (UPGRADE % b"a, b", to_connection(), "choose one with"),
        (UPGRADE % b"a", to_connection("b"), "101 with Upgrade"),
        (WITH_BODY, to_connection(), "body"),
        (GET, to_http_server(), "works on a Connection"),
    ],
)
async def test_a_request_that_cannot_be_upgraded_can_be_answered_otherwise(request_, recipe, why):
    async def handler(exchange):
        with pytest.raises(LocalProtocolError, match=why):
            await exchange.upgrade(recipe)
        await exchange.respond(200, b"no")

    async with served(handler) as it:
        assert (await ask(it.client, request_)).body == b"no"
        assert it.failure is None


async def test_a_recipe_to_a_connection_is_used_once_and_on_exchanges_only():
    async with trionet.open_scope() as scope:
        one, _ = tcp_pair(scope)
        with pytest.raises(LocalProtocolError, match="works on an Exchange"):
            await one.upgrade(to_connection())
    recipe = to_connection("a")

    async def handler(exchange):
        stream = await exchange.upgrade(recipe)
        await stream.aclose()

    for expected in (None, LocalProtocolError):
        async with served(handler) as it:
            await it.client.send_all(UPGRADE % b"a")
            await it.over.wait()
            assert expected is None or isinstance(it.failure, expected)


async def test_a_websocket_from_an_exchange_and_what_is_none():
    """A request that is no handshake is answered and the connection goes on; then one is, with a frame behind it."""

    async def handler(exchange):
        assert exchange.wants_websocket is (exchange.path == "/chat")
        if exchange.path == "/":
            with pytest.raises(UpgradeRefusedError) as refused:
                await exchange.upgrade(to_websocket_server(subprotocols=["chat"]))
            assert refused.value.response.status == exchange.status == 426
            return
        ws = await exchange.upgrade(to_websocket_server(subprotocols=["chat"]))
        await ws.send_message(await ws.get_message())
        await ws.aclose()

    async with served(handler) as it:
        answer = await ask(it.client, GET)
        assert (answer.status, answer.fields["upgrade"]) == (426, "websocket")
        await it.client.send_all(WEBSOCKET + b"\x81\x82\0\0\0\0hi")
        assert (await read_answer(it.client)).status == 101
        assert await it.client.receive_exactly(4) == b"\x81\x02hi"
        await it.client.send_all(b"\x88\x82\0\0\0\0\x03\xe8")
        await it.over.wait()
        assert it.failure is None
        assert it.http.end.reason is Reason.UPGRADED


async def test_an_upgrade_that_is_cancelled_at_each_checkpoint_leaves_one_owner():
    """Before the answer is out the request can be answered otherwise; afterwards nothing is open."""
    outcomes = set()
    for count in range(12):

        async def handler(exchange, count=count):
            with trio.CancelScope() as scope:
                exchange.connection._owner.observer = lambda *_: None
                task = trio.lowlevel.current_task()
                left = count

                class Count(trio.abc.Instrument):
                    def before_task_step(self, stepped):
                        nonlocal left
                        if stepped is task:
                            left -= 1
                            if left < 0:
                                scope.cancel()

                if not count:
                    scope.cancel()
                instrument = Count()
                trio.lowlevel.add_instrument(instrument)
                try:
                    ws = await exchange.upgrade(to_websocket_server())
                    outcomes.add("moved")
                    ws.abort()
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            if exchange.connection.phase is Phase.OPEN:
                outcomes.add("open")
                assert exchange.status == 0
                await exchange.respond(503)

        async with served(handler) as it:
            await it.client.send_all(WEBSOCKET)
            await it.client.receive_some()
            await wait_all_tasks_blocked()  # the client may have the response before the upgrade is through
            assert len([one for one in it.scope.handles if one.end is None]) <= 2  # with the client's
    assert {"open", "moved"} <= outcomes
