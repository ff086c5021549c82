"""The PROXY protocol: whose connection it is, who is believed, and what becomes of everybody else."""

import math
from contextlib import suppress

import pytest
import trio

import trionet
from trionet import HandleClosedError, Phase, ProxyHeader, Reason, UpgradeFailedError, to_proxied

from ..helpers.http_served import GET
from ..helpers.pairs import memory_pair, receive_all, tcp_pair
from ..helpers.proxy_headers import CLIENT, HOSTS, LINE, TARGET, binary, tlv

HERE = ["127.0.0.1"]


async def upgraded(server, **options):
    return await server.upgrade(to_proxied(trusted=["*"], **options))


async def send_in_two(client, *pieces):
    for piece in pieces:
        await client.send_all(piece)
        await trio.testing.wait_all_tasks_blocked()
    await client.send_eof()


@pytest.mark.parametrize("header", [LINE, binary(HOSTS + tlv(2, b"host.example"))])
async def test_the_client_is_named_and_what_follows_is_unread_at_every_split(header):
    whole = header + b"hello"
    for at in range(1, len(whole)):
        async with trionet.open_scope() as scope:
            server, client = memory_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_in_two, client, whole[:at], whole[at:])
                connection = await upgraded(server)
                assert await receive_all(connection) == b"hello"
            assert connection.remote_address == CLIENT
            assert connection.proxy_header.destination == TARGET
            assert server.phase is Phase.MOVED


async def test_it_is_carried_through_further_upgrades_and_a_transfer(server_context, client_context):
    async with trionet.open_scope() as scope, trionet.open_scope() as other:
        client, server = tcp_pair(scope)
        assert server.proxy_header is None
        await client.send_all(ProxyHeader(source=CLIENT, destination=TARGET, unique_id=b"7").to_bytes())
        proxied = await server.upgrade(to_proxied(trusted=HERE))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.upgrade, trionet.to_tls_client("localhost", client_context))
            secure = await proxied.upgrade(trionet.to_tls_server(server_context))
        http = await secure.upgrade(trionet.to_http_server())
        http = http.transfer(other)
        assert http.tls is not None
        assert http.remote_address == CLIENT
        assert http.proxy_header.unique_id == b"7"
        assert "192.0.2.1:5000" in repr(http)
        http.abort()


async def test_one_that_stands_inside_of_tls(server_context, client_context):
    async with trionet.open_scope() as scope:
        client, server = tcp_pair(scope)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send():
                secure = await client.upgrade(trionet.to_tls_client("localhost", client_context))
                await secure.send_all(LINE + b"x")

            secure = await server.upgrade(trionet.to_tls_server(server_context))
            proxied = await secure.upgrade(to_proxied(trusted=HERE))
        assert (proxied.remote_address, proxied.tls is not None) == (CLIENT, True)
        assert await proxied.receive_exactly(1) == b"x"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", binary(b"", first=0x20, family=0)])
async def test_a_header_without_a_client_leaves_the_address_as_it_is(header):
    async with trionet.open_scope() as scope:
        client, server = tcp_pair(scope)
        await client.send_all(header)
        proxied = await server.upgrade(to_proxied(trusted=HERE))
        assert proxied.remote_address == server.remote_address
        assert proxied.proxy_header.source is None
        assert proxied.proxy_header.local is (header[:1] == b"\r")


async def test_whoever_is_not_trusted_is_cut_off_before_a_byte_is_read():
    async with trionet.open_scope() as scope:
        client, server = tcp_pair(scope)
        await client.send_all(LINE)
        with pytest.raises(UpgradeFailedError, match=r"127\.0\.0\.1:\d+ is not a trusted proxy") as caught:
            await server.upgrade(to_proxied(trusted=["10.0.0.0/8"]))
        assert caught.value.handle is server
        assert server.end.reason is Reason.UPGRADE_FAILED
        assert server.statistics().bytes_received == 0
        with pytest.raises(trionet.HandleBrokenError):  # reset: what it has sent was not read
            await client.receive_some()


@pytest.mark.parametrize("first", [GET, b"\x16\x03\x01\x00\xc8\x01", LINE.replace(b"443", b"x"), binary(first=0x22)])
async def test_a_trusted_peer_without_a_good_header_is_cut_off(first):
    async with trionet.open_scope() as scope:
        client, server = tcp_pair(scope)
        await client.send_all(first)
        with pytest.raises(UpgradeFailedError, match="the PROXY header failed: "):
            await server.upgrade(to_proxied(trusted=HERE))
        assert server.end.reason is Reason.UPGRADE_FAILED


async def test_a_header_that_does_not_come_to_its_end(autojump_clock):
    async with trionet.open_scope() as scope:
        server, client = memory_pair(scope)
        await client.send_all(LINE[:-1])
        began = trio.current_time()
        with pytest.raises(UpgradeFailedError, match=r"within 3 s \(handshake_timeout\)"):
            await upgraded(server, handshake_timeout=3)
        assert trio.current_time() - began == 3
        assert server.phase is Phase.CLOSED
    async with trionet.open_scope() as scope:
        server, client = memory_pair(scope)
        await client.send_all(LINE[:-1])
        await client.send_eof()
        with pytest.raises(UpgradeFailedError, match=f"ended the connection after {len(LINE) - 1} bytes"):
            await upgraded(server, handshake_timeout=math.inf)
        assert server.phase is Phase.CLOSED


async def test_one_that_is_cancelled_leaves_no_connection_that_could_pass_for_the_proxy():
    async with trionet.open_scope() as scope:
        server, client = memory_pair(scope)
        await client.send_all(LINE[:9])
        with trio.CancelScope() as cancel:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(upgraded, server)
                await trio.testing.wait_all_tasks_blocked()
                cancel.cancel()
        with pytest.raises(HandleClosedError):
            await server.receive_some()


async def test_what_is_longer_than_it_may_be():
    async with trionet.open_scope() as scope:
        client, server = tcp_pair(scope)
        await client.send_all(ProxyHeader(source=CLIENT, destination=TARGET, others=((0xEA, bytes(100)),)).to_bytes())
        with pytest.raises(UpgradeFailedError, match=r"131 bytes is longer than 107 \(max_header\)"):
            await server.upgrade(to_proxied(trusted=HERE, max_header=107))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trusted": []}, "trusted is empty"),
        ({"trusted": ["host.example"]}, "trusted has 'host.example'"),
        ({"trusted": ["*"], "max_header": 106}, "max_header must be 107 to 65551, not 106"),
        ({"trusted": ["*"], "handshake_timeout": 0}, "handshake_timeout must be more than 0"),
    ],
)
def test_arguments_that_cannot_be_right(options, said):
    with pytest.raises(ValueError, match=said):
        to_proxied(**options)


# --- a whole server ----------------------------------------------------------------------------------------------


async def test_a_server_behind_a_proxy_knows_its_clients_before_tls_and_without(
    serving, server_context, client_context
):
    async def handle(exchange):
        await exchange.respond(200, f"{exchange.remote_address}")

    for context in (None, server_context):
        server = await serving(trionet.http_handler(handle), proxy_protocol=HERE, ssl_context=context)
        async with trionet.open_scope() as scope:
            connection = await scope.connect_tcp("127.0.0.1", server.port)
            if context is None:
                await connection.send_all(LINE + GET)  # in one piece
            else:
                await connection.send_all(LINE)
                connection = await connection.upgrade(trionet.to_tls_client("localhost", client_context))
                await connection.send_all(GET)
            answer = await connection.receive_until(b")", max_bytes=1000)
            assert answer.endswith(b"('192.0.2.1', 5000)")


async def test_a_server_counts_who_comes_without_a_header_and_calls_no_handler(serving, caplog):
    caplog.set_level("INFO")
    served = []

    async def handle(connection):
        served.append(connection)

    trusting = await serving(handle, proxy_protocol=HERE)
    other = await serving(handle, proxy_protocol="10.0.0.0/8")
    for server in (trusting, other):
        async with trionet.open_scope() as scope:
            connection = await scope.connect_tcp("127.0.0.1", server.port)
            await connection.send_all(GET)
            with suppress(trionet.HandleBrokenError):  # a reset, if something that it has sent was not read
                assert await connection.receive_some() == b""
            assert server.statistics().peer_faults["handshake"] == 1
            assert server.statistics().failed == 0
    assert not served
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("no PROXY header from 127.0.0.1:")
    assert "there is no PROXY header in front of b'GET / HT'..." in lines[0]
    assert "is not a trusted proxy" in lines[1]


@pytest.mark.parametrize("peers", ["", [], ["nobody"]])
async def test_a_server_that_nobody_could_reach_does_not_start(peers):
    with pytest.raises(ValueError, match="proxy_protocol"):
        await trionet.serve_tcp(receive_all, 0, proxy_protocol=peers)
