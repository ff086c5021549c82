"""A chat over two processes and Redis. Each of the three is killed with -9, and nobody misses a word.

``python fanout_chat.py URL`` is one process of the chat. Without an argument it is a demonstration, which needs
redis-server.
"""

import json
import logging
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio

import trionet
from trionet.fanout import FanoutError, Gap, RedisStreamFanout, Subscription

logging.basicConfig(level=logging.CRITICAL)  # else there is a traceback for each attempt to connect


# --- one process of the chat --------------------------------------------------------------------------------------


async def talk(fanout: RedisStreamFanout, exchange: trionet.Exchange) -> None:
    """One who talks and listens. Who comes again says which message was the last."""
    after = exchange.query_params.get("after")
    ws = await exchange.upgrade(trionet.to_websocket_server())
    async with fanout.subscribe("chat", after=after, overflow="disconnect") as items, trio.open_nursery() as nursery:
        nursery.start_soon(listen, ws, items)
        async for text in ws:
            try:
                await fanout.publish("chat", text)
            except FanoutError:
                await ws.send_message(json.dumps({"error": f"not sent: {text}"}))
        nursery.cancel_scope.cancel()


async def listen(ws: trionet.WebSocket, items: Subscription) -> None:
    try:
        async for item in items:
            if isinstance(item, Gap):
                await ws.send_message(json.dumps({"error": "some messages are missing here"}))
            else:
                await ws.send_message(json.dumps({"id": item.id, "text": item.data.decode()}))
    except trionet.LimitExceededError:
        await ws.aclose(1013, "too slow")


async def serve(url: str) -> None:
    async with RedisStreamFanout(url) as fanout, trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_http, partial(talk, fanout), 0)
        print(server.port, flush=True)


# --- the demonstration --------------------------------------------------------------------------------------------


class Process:
    """A process that can be killed and started again."""

    def __init__(self, *command: str) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: bytes = b"") -> bytes:
        """Start it, and wait for a line with these words."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        while ready not in (line := self.process.stdout.readline()):
            assert line, f"{self.command[0]} has ended"
        return line

    def kill(self) -> None:
        if self.process is not None:
            with self.process:
                self.process.kill()


class Person:
    def __init__(self, name: str) -> None:
        self.name = name
        self.last = "0-0"

    async def come(self, stack: AsyncExitStack, port: bytes) -> None:
        url = f"ws://localhost:{int(port)}/?after={self.last}"
        self.ws = await stack.enter_async_context(trionet.open_websocket(url))

    async def say(self, text: str) -> None:
        await self.ws.send_message(f"{self.name}: {text}")

    async def hear(self) -> str:
        heard = json.loads(await self.ws.get_message())
        self.last = heard.get("id", self.last)
        return heard.get("text") or heard["error"]


async def demonstrate(folder: str) -> None:
    path = f"{folder}/redis.sock"
    options = f"--port 0 --unixsocket {path} --dir {folder} --save '' --appendonly yes --appendfsync always"
    redis = Process("redis-server", *(word.strip("'") for word in options.split()))
    one, other = (Process(sys.executable, __file__, f"unix://{path}") for _ in range(2))
    ann, bob = Person("ann"), Person("bob")
    redis.start(b"ready to accept connections")
    try:
        async with AsyncExitStack() as stack:
            await ann.come(stack, one.start())
            await bob.come(stack, other.start())
            await ann.say("hello")
            print("both hear", {await ann.hear(), await bob.hear()})

            one.kill()
            print("ann's process is gone:", await ended(ann.ws))
            await bob.say("where are you?")
            print("bob hears", await bob.hear())
            await ann.come(stack, one.start())
            print("ann comes again and hears", await ann.hear())

            redis.kill()
            await ann.say("is anybody there?")
            print("while Redis is gone, ann hears", await ann.hear())
            redis.start(b"ready to accept connections")
            await ann.say("is anybody there?")
            print("both hear", {await ann.hear(), await bob.hear()})
    finally:
        for process in (one, other, redis):
            process.kill()


async def ended(ws: trionet.WebSocket) -> int:
    try:
        await ws.get_message()
    except trionet.ConnectionClosed as exc:
        return exc.reason.code
    raise AssertionError("a message")


if sys.argv[1:]:
    trio.run(serve, sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(demonstrate, str(Path(folder)))
