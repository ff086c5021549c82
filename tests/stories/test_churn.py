"""Clients that disconnect at random in the middle of upgrades: every endpoint that was opened is closed, once.

A client is cut off after a random number of its own checkpoints, half of the time with a reset. What the server saw is
counted by an observer of all its handles: births, and ends.
"""

import collections
import random
import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import Phase

from ..helpers.pairs import open_descriptors

RESET = b"\1\0\0\0\0\0\0\0"


async def serve_upgrades(connection, server_context):
    """``TLS`` and ``WS`` lines upgrade the connection, any number of times; anything else is echoed."""
    while True:
        line = await connection.receive_until(b"\n", max_bytes=64)
        await connection.send_all(b"OK\n")
        if line == b"TLS\n":
            connection = await connection.upgrade(trionet.to_tls_server(server_context))
        elif line == b"WS\n":
            websocket = await connection.upgrade(trionet.to_websocket_server())
            async for message in websocket:
                await websocket.send_message(message)
            return


async def use_upgrades(connection, client_context, path):
    for step in path:
        await connection.send_all(step + b"\n")
        assert await connection.receive_exactly(3) == b"OK\n"
        if step == b"TLS":
            connection = await connection.upgrade(trionet.to_tls_client("localhost", ssl_context=client_context))
        if step == b"WS":
            scheme = "wss" if connection.tls else "ws"
            websocket = await connection.upgrade(trionet.to_websocket_client(f"{scheme}://localhost/"))
            await websocket.send_message("hello")
            assert await websocket.get_message() == "hello"
            return


class CutOff(trio.abc.Instrument):
    """Cancels each registered task's scope when it has run so many times."""

    def __init__(self):
        self.fuses = {}

    def task_scheduled(self, task):
        if task in self.fuses:
            left, scope = self.fuses[task]
            self.fuses[task] = (left - 1, scope)
            if left == 0:
                scope.cancel()


async def churn(clients, seed, server_context, client_context):
    """Run so many clients, 50 at a time: how the server's handles ended, by reason."""
    randomness = random.Random(seed)
    ends = collections.Counter()
    cut_off = CutOff()
    finished = 0

    def observe(handle, before, after):
        if before is None:
            ends["born"] += 1
        elif after.terminal:
            ends[handle.end.reason if handle.end else after] += 1

    async def client(port):
        nonlocal finished
        path = randomness.choice([(b"WS",), (b"TLS", b"WS"), (b"TLS",), (b"echo", b"TLS", b"WS")])
        async with trionet.open_tcp("127.0.0.1", port) as connection:
            sock = connection._transport.socket
            if randomness.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with trio.CancelScope() as scope:
                cut_off.fuses[trio.lowlevel.current_task()] = (randomness.randrange(1, 14), scope)
                await use_upgrades(connection, client_context, path)
                finished += 1
            del cut_off.fuses[trio.lowlevel.current_task()]
            if randomness.random() < 0.5:
                for handle in connection.scope.handles:
                    handle.abort()

    async def batch(port):
        for _ in range(clients // 50):
            await client(port)

    async def handler(connection):
        await serve_upgrades(connection, server_context)

    trio.lowlevel.add_instrument(cut_off)
    try:
        async with trio.open_nursery() as nursery:

            async def run(task_status):
                await trionet.serve_tcp(handler, 0, host="127.0.0.1", observer=observe, task_status=task_status)

            server = await nursery.start(run)
            async with trio.open_nursery() as load:
                for _ in range(50):
                    load.start_soon(batch, server.port)
            await wait_all_tasks_blocked(0.05)
            assert server.statistics().accepted == clients
            report = await server.drain(10)
            assert report.clean, str(report)
            assert server.statistics().open == 0
            assert len(server.scope._owner.tree()) == 1, "a scope that has ended must not be remembered"
    finally:
        trio.lowlevel.remove_instrument(cut_off)
    assert 0 < finished < clients
    return ends


async def check_churn(clients, server_context, client_context):
    before = open_descriptors()
    ends = await churn(clients, 1, server_context, client_context)
    born = ends.pop("born")
    moved = ends.pop(trionet.Reason.UPGRADED)
    assert born == clients + moved  # every handle is a connection or the successor of one
    assert sum(ends.values()) == clients  # every connection was closed, once
    assert Phase.MOVED not in ends
    assert open_descriptors() == before


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL", logger="trionet.server")


async def test_clients_that_disconnect_at_random(server_context, client_context):
    await check_churn(300, server_context, client_context)


@pytest.mark.soak
async def test_five_thousand_clients_that_disconnect_at_random(server_context, client_context):
    await check_churn(5000, server_context, client_context)
