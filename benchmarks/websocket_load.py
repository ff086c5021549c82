"""The load of websocket.py: picows clients on uvloop, which send a message as soon as the last one has come back.

These functions run in a process of their own (`paired.open_peer`); the connections stay open from call to call, until
`leave`. The length of every message that comes back is looked at, and its content in the first and in the last round
trip of every connection, each of which has a message of its own.
"""

from __future__ import annotations

import asyncio
from functools import cache
from random import Random
from typing import Any

import picows
import uvloop
from processes import raise_file_limit

AT_ONCE = 50
"""Connections that are being made at the same time."""

PATIENCE = 20.0
"""Seconds for what should take none."""


class Client(picows.WSListener):
    """One connection."""

    transport: picows.WSTransport

    def __init__(self, group: Group, message: bytes) -> None:
        self.group = group
        self.message = message
        self.received = 0
        self.content = bytearray()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def ask(self) -> None:
        self.transport.send(picows.WSMsgType.BINARY, self.message)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        group = self.group
        self.received += frame.payload_size
        if group.comparing:
            self.content += frame.get_payload_as_bytes()
        if not frame.fin:
            return
        if self.received != group.size:
            group.fail(f"{self.received} bytes came back instead of {group.size}: {frame}")
        self.received = 0
        group.count += 1
        if group.stopping:
            self.end_turn()
        else:
            self.ask()

    def end_turn(self) -> None:
        """No further message for now."""
        if self.group.comparing and self.content != self.message:
            self.group.fail(f"{len(self.content)} bytes came back that are not those of the message")
        self.content.clear()
        self.group.one_less()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.group.fail("the server has ended a connection")


class Group:
    """The connections to one server."""

    def __init__(self, port: int, size: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/"
        self.size = size
        self.clients: list[Client] = []
        self.count = 0
        self.asking = 0
        self.stopping = self.comparing = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, connections: int) -> None:
        """Make them, and look at the first message of each."""
        random = Random(self.size)
        missing = [Client(self, random.randbytes(self.size)) for _ in range(connections)]
        while missing:
            some, missing = missing[:AT_ONCE], missing[AT_ONCE:]
            await asyncio.gather(*(picows.ws_connect(lambda each=each: each, self.url) for each in some))
            self.clients += some
        await self.look()

    async def look(self) -> None:
        """One message on each connection, content and all."""
        self.comparing = True
        await self.converse(0)
        self.comparing = False

    async def converse(self, seconds: float, busy: bool = False) -> int:
        """Send messages for so long, and wait until the last ones are back: how many came. Without time, one each."""
        self.count, self.asking, self.stopping = 0, len(self.clients), not seconds
        self.done = asyncio.get_running_loop().create_future()
        for client in self.clients:
            client.ask()
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.stop)
        async with asyncio.timeout(seconds + PATIENCE):
            if busy:
                await keep_awake(self.done)
            await self.done
        return self.count

    def stop(self) -> None:
        self.stopping = True

    def one_less(self) -> None:
        self.asking -= 1
        if not self.asking and not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        """Have whoever waits raise; afterwards it is of no interest."""
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"{why} ({self.url})"))

    async def leave(self) -> None:
        """Look at one more message of each connection, and close them."""
        await self.look()
        for client in self.clients:
            client.transport.send_close(picows.WSCloseCode.OK)
            client.transport.disconnect()
        async with asyncio.timeout(PATIENCE):
            for client in self.clients:
                await client.transport.wait_disconnected()


async def keep_awake(until: asyncio.Future[Any]) -> None:
    """Keep the event loop asking for input without ever sleeping, so that no server pays for waking it up."""
    while not until.done():  # noqa: ASYNC110  # an event would let it sleep
        await asyncio.sleep(0)


# --- what the benchmark calls -----------------------------------------------------------------------------------

_groups: dict[int, Group] = {}


@cache
def runner() -> asyncio.Runner:
    """This process's event loop."""
    raise_file_limit()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def connect(port: int, connections: int, size: int) -> None:
    """Make connections to the server on this port, whose messages have this many bytes."""

    async def main() -> None:
        _groups[port] = Group(port, size)
        await _groups[port].connect(connections)

    runner().run(main())


def echo(port: int, seconds: float, busy: bool) -> int:
    """Messages that came back within so many seconds, each connection sending one at a time."""
    return runner().run(_groups[port].converse(seconds, busy))


def once(port: int) -> int:
    """One message on each connection."""
    return runner().run(_groups[port].converse(0))


def leave(port: int) -> None:
    """Close the connections to this port."""
    runner().run(_groups.pop(port).leave())
