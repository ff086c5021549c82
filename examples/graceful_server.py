"""A server that ends gracefully: on SIGTERM or Ctrl-C it stops accepting and lets every conversation come to its end.

``python examples/graceful_server.py 8080``, then ``nc localhost 8080``. Without a port it takes a free one.
"""

from __future__ import annotations

import logging
import signal
import sys
from functools import partial

import trio

import trionet
from trionet import Limits


async def handle(connection: trionet.Connection) -> None:
    """Answer lines until the client has enough, or the server drains. A client that breaks off is no failure."""
    try:
        while await connection.peek(1):
            line = await connection.receive_until(b"\n", max_bytes=1000)
            await connection.send_all(b"you said: " + line)
    except trionet.LimitExceededError:
        await connection.send_all(b"that line is too long\n")  # noqa: ASYNC120 - a cancellation outranks the error
        raise  # it is counted, and a line of the log


async def main(port: int) -> None:
    """Serve until a signal comes, and then for 30 seconds at most."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            serve = partial(trionet.serve_tcp, handle, port, limits=Limits(max_connections=1000))
            server = await nursery.start(serve)
            print(f"listening on port {server.port}", flush=True)
            async for _number in signals:
                print(await server.drain(30))
                break


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
