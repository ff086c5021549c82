"""What a message costs a process that fans out over Redis: trionet's fan-outs, and bare coredis on Trio.

Receiving: a peer publishes messages of 100 bytes, 50 at a time, and the process receives them. Publishing: the process
publishes, one message at a time. The figure is its CPU time; that of redis-server and of the peer does not count.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import coredis
import trio
from coredis.retry import NoRetryPolicy
from paired import Goal, Peer, Report, finish, open_peer, parser, pin, positive, print_versions, run_rounds, versions

from trionet.fanout import RedisFanout, RedisStreamFanout

DATA = b"x" * 100
BATCH = 50
TOPIC = "room"

Measured = Callable[[str, Peer, int], Awaitable[float]]


@contextmanager
def redis_server() -> Iterator[str]:
    """A redis-server of our own: the path of its socket."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/redis.sock"
        command = [program, "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not Path(path).exists():
                time.sleep(0.01)
            try:
                yield path
            finally:
                process.kill()


def load(path: str, command: tuple[bytes, ...], messages: int) -> None:
    """The peer: send this command so often, a batch at a time."""
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in command)
    batch = b"*%d\r\n%b" % (len(command), parts) * BATCH
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        for _ in range(messages // BATCH):
            sock.sendall(batch)
            answered = 0
            while answered < BATCH:
                data = sock.recv(65536)
                answered += data.count(b":") if command[0] == b"PUBLISH" else data.count(b"$")


def publish_command(channel: str) -> tuple[bytes, ...]:
    return (b"PUBLISH", channel.encode(), DATA)


def add_command(key: str) -> tuple[bytes, ...]:
    return (b"XADD", key.encode(), b"MAXLEN", b"~", b"10000", b"*", b"d", DATA)


def client(path: str) -> Any:
    return coredis.Redis.from_url(f"unix://{path}", max_connections=2, retry_policy=NoRetryPolicy())


# --- receiving --------------------------------------------------------------------------------------------------


async def receive_fanout(kind: Any, prefix: str, command: Any, path: str, peer: Peer, messages: int) -> float:
    async with kind(f"unix://{path}") as fanout, fanout.subscribe(TOPIC, max_messages=messages) as items:
        peer.start(load, path, command(prefix + TOPIC), messages)
        began = time.process_time()
        for _ in range(messages):
            await anext(items)
        return time.process_time() - began


async def receive_pubsub(path: str, peer: Peer, messages: int) -> float:
    async with client(path) as redis, redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(TOPIC)
        peer.start(load, path, publish_command(TOPIC), messages)
        began = time.process_time()
        received = 0
        while received < messages:
            received += await pubsub.get_message() is not None
        return time.process_time() - began


async def receive_stream(path: str, peer: Peer, messages: int) -> float:
    async with client(path) as redis:
        await redis.delete(["bare"])
        at: Any = "0-0"
        peer.start(load, path, add_command("bare"), messages)
        began = time.process_time()
        received = 0
        while received < messages:
            found = await redis.xread({"bare": at}, count=500, block=4000)
            entries = found[b"bare"] if found else ()
            received += len(entries)
            at = entries[-1].identifier if entries else at
        return time.process_time() - began


# --- publishing -------------------------------------------------------------------------------------------------


async def publish_fanout(kind: Any, path: str, peer: Peer, messages: int) -> float:
    async with kind(f"unix://{path}") as fanout:
        began = time.process_time()
        for _ in range(messages):
            await fanout.publish(TOPIC, DATA)
        return time.process_time() - began


async def publish_bare(path: str, peer: Peer, messages: int) -> float:
    async with client(path) as redis:
        began = time.process_time()
        for _ in range(messages):
            await redis.publish(TOPIC, DATA)
        return time.process_time() - began


async def add_bare(path: str, peer: Peer, messages: int) -> float:
    async with client(path) as redis:
        operator, strategy = coredis.PureToken.APPROXIMATELY, coredis.PureToken.MAXLEN
        began = time.process_time()
        for _ in range(messages):
            await redis.xadd("bare", {"d": DATA}, trim_strategy=strategy, trim_operator=operator, threshold=10_000)
        return time.process_time() - began


def measure(measured: Measured, receives: bool, path: str, peer: Peer, messages: int) -> float:
    """CPU microseconds a message."""
    seconds = trio.run(measured, path, peer, messages)
    if receives:
        peer.wait()
    return seconds / messages * 1e6


PUBSUB = partial(receive_fanout, RedisFanout, "trionet:", publish_command)
STREAM = partial(receive_fanout, RedisStreamFanout, "trionet:stream:", add_command)
PARTS: dict[str, tuple[bool, dict[str, Measured]]] = {
    "Receiving, publish and subscribe": (True, {"RedisFanout": PUBSUB, "coredis": receive_pubsub}),
    "Receiving, streams": (True, {"RedisStreamFanout": STREAM, "coredis": receive_stream}),
    "Publishing": (False, {"RedisFanout": partial(publish_fanout, RedisFanout), "coredis": publish_bare}),
    "Publishing, streams": (
        False,
        {"RedisStreamFanout": partial(publish_fanout, RedisStreamFanout), "coredis": add_bare},
    ),
}


def main() -> None:
    options = parser(__doc__, rounds=11)
    options.add_argument("--messages", type=positive, default=5000, help="in a run (default: %(default)s)")
    chosen = options.parse_args()
    if chosen.pin:
        pin()
    print_versions(chosen, versions("coredis"))
    messages = max(BATCH, chosen.messages // BATCH * BATCH)
    reports = []
    with redis_server() as path, open_peer() as peer:
        for title, (receives, variants) in PARTS.items():
            runs = {name: partial(measure, one, receives, path, peer, messages) for name, one in variants.items()}
            goal = Goal(next(iter(variants)), "coredis", 1.5)
            reports.append(Report.of(title, "CPU µs a message", run_rounds(runs, chosen.rounds), [goal]))
            reports[-1].print()
    finish(chosen, reports, versions=versions("coredis"))


if __name__ == "__main__":
    main()
