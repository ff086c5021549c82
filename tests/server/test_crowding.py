"""How many connections one client may have."""

from contextlib import suppress

import pytest
import trio

import trionet
from trionet import Limits
from trionet.server.crowding import Crowding

from ..helpers.served import dial, echo


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("10.0.0.1", 1), ("10.0.0.1", 2), True),
        (("10.0.0.1", 1), ("10.0.0.2", 1), False),
        (("10.0.0.1", 1), ("::ffff:10.0.0.1", 1, 0, 0), True),
        (("::ffff:10.0.0.1", 1, 0, 0), ("::ffff:10.0.0.2", 1, 0, 0), False),
        (("2001:db8:0:1::1", 1, 0, 0), ("2001:db8:0:1:ffff::2", 1, 0, 0), True),
        (("2001:db8:0:1::1", 1, 0, 0), ("2001:db8:0:2::1", 1, 0, 0), False),
        (("fe80::1%lo", 1, 0, 1), ("fe80::2", 1, 0, 0), True),
        ("", "", False),
        (None, None, False),
    ],
)
async def test_who_counts_as_one_client(one, other, same):
    crowding = Crowding(1)
    assert not crowding.is_full(one)
    admitted = crowding.admit(one)
    assert crowding.is_full(other) is same
    if admitted is not None:
        crowding.release(admitted)
        assert not crowding.is_full(other)
        assert not crowding._counts  # addresses that came once are not kept


async def closed_at_once(client):
    with suppress(trionet.HandleBrokenError):
        assert await client.receive_some() == b""
    return True


async def test_one_more_is_closed_and_has_room_when_another_ends(serving, caplog):
    caplog.set_level("INFO")
    server = await serving(echo, limits=Limits(max_connections_per_address=2))
    async with trionet.open_scope(drain_timeout=0) as scope:
        first, second = [await dial(scope, server) for _ in range(2)]
        for client in (first, second):
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        for _ in range(3):
            assert await closed_at_once(await dial(scope, server))
        figures = server.statistics()
        assert (figures.accepted, figures.open, figures.failed, figures.peer_faults["crowd"]) == (5, 2, 0, 3)
        [line] = [record.getMessage() for record in caplog.records]  # though there were three
        assert line.startswith("refused 127.0.0.1:")
        assert line.endswith("its address has 2 connections already (max_connections_per_address)")
        second.abort()
        while server.statistics().open == 2:
            await trio.lowlevel.checkpoint()
        third = await dial(scope, server)
        await third.send_all(b"y")
        assert await third.receive_some() == b"y"


async def test_behind_a_proxy_the_client_that_it_names_is_counted(serving):
    server = await serving(echo, limits=Limits(max_connections_per_address=1), proxy_protocol=["127.0.0.1"])

    async def come(scope, header):
        client = await dial(scope, server)
        with suppress(trionet.HandleBrokenError):
            await client.send_all(header + b"x")
            return await client.receive_some() == b"x"
        return False

    def named(host):
        return f"PROXY TCP4 {host} 10.0.0.9 5 80\r\n".encode()

    async with trionet.open_scope(drain_timeout=0) as scope:
        assert await come(scope, named("10.0.0.1"))
        assert not await come(scope, named("10.0.0.1"))
        assert await come(scope, named("10.0.0.2"))
        for _ in range(3):  # of whom the proxy does not say who they are; and the proxy itself
            assert await come(scope, b"PROXY UNKNOWN\r\n")
            assert await come(scope, trionet.ProxyHeader(local=True).to_bytes())
        assert server.statistics().peer_faults["crowd"] == 1


async def test_clients_on_a_unix_socket_are_not_counted(nursery, tmp_path):
    async def run(task_status):
        limits = Limits(max_connections_per_address=1)
        await trionet.serve_unix(echo, tmp_path / "socket", limits=limits, task_status=task_status)

    server = await nursery.start(run)
    async with trionet.open_scope(drain_timeout=0) as scope:
        for _ in range(3):
            client = await scope.connect_unix(tmp_path / "socket")
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
    assert not any(server.statistics().peer_faults.values())
