"""A server on a loopback port, and clients of it."""

import pytest

import trionet


async def echo(connection):
    while data := await connection.receive_some():
        await connection.send_all(data)


@pytest.fixture
def serving(nursery):
    """Start a server on a loopback port: ``await serving(handler, **options)`` gives the `Server`."""

    async def start(handler, *, port=0, host="127.0.0.1", **options):
        async def run(task_status):
            await trionet.serve_tcp(handler, port, host=host, task_status=task_status, **options)

        return await nursery.start(run)

    return start


async def dial(scope, server):
    return await scope.connect_tcp("127.0.0.1", server.port)


async def open_websocket(scope, server):
    connection = await scope.connect_tcp("localhost", server.port)
    return await connection.upgrade(trionet.to_websocket_client("ws://localhost/"))


async def served(nursery, listeners):
    async def run(task_status):
        await trionet.serve(echo, listeners, task_status=task_status)

    server = await nursery.start(run)
    assert isinstance(server, trionet.Server)
    return server


async def drained(server):
    return (await server.drain(5)).clean
