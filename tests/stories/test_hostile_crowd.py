"""A server in a process of its own, between hundreds of clients that mean no good: everybody else is served.

What that costs in time is not looked at here, but that nobody fails, nothing stays behind, and the log keeps quiet.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 60

SERVER = """
import json, logging, os, resource, sys
import trio, trionet
from functools import partial
from trionet import HTTPLimits

logging.basicConfig(level=logging.WARNING)
latest = 0.0
servers = []

async def watch():
    global latest
    while True:
        due = trio.current_time() + 0.01
        await trio.sleep_until(due)
        latest = max(latest, trio.current_time() - due)

async def answer(exchange):
    global latest
    if exchange.path == "/big":
        await exchange.respond(200, bytes(4_000_000))
    elif exchange.path == "/figures":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(open("/proc/self/statm").read().split()[1])
        found = {
            "descriptors": len(os.listdir("/proc/self/fd")), "late": latest, "cpu": usage.ru_utime + usage.ru_stime,
            "bytes": pages * resource.getpagesize(), "open": sum(server.statistics().open for server in servers),
            "failed": sum(server.statistics().failed for server in servers),
        }
        latest = 0.0
        await exchange.respond(200, json.dumps(found))
    else:
        await exchange.read()
        await exchange.respond(200, "ok")

async def main():
    context = __import__("ssl").SSLContext(__import__("ssl").PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for tls in (None, context):
            serve = partial(trionet.serve_http, answer, 0, host="127.0.0.1", ssl_context=tls)
            servers.append(await nursery.start(serve))
        print(*(server.port for server in servers), flush=True)

trionet.run(main)
"""

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(60)


class Served:
    """The process, and one good client of it."""

    def __init__(self, process):
        self.process = process
        self.port, self.tls_port = map(int, process.stdout.readline().split())
        self.good = self.connect()
        self.reader = self.good.makefile("rb")

    def connect(self, *, tls=False):
        return socket.create_connection(("127.0.0.1", self.tls_port if tls else self.port), timeout=PATIENCE)

    def ask(self, path=b"/"):
        """One more request of the good client: the body of its answer."""
        self.good.sendall(GET % path)
        assert self.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        size = 0
        while (line := self.reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        return self.reader.read(size)

    def figures(self):
        return json.loads(self.ask(b"/figures"))

    def settled(self, most):
        """The figures as soon as so few connections are open."""
        while (figures := self.figures())["open"] > most:
            pass
        return figures

    def end(self):
        """What it has logged."""
        self.reader.close()
        self.good.close()
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        return "".join(line for line in said.splitlines(keepends=True) if not line.startswith(("listening", "SIGTERM")))


@pytest.fixture
def start(tmp_path, ca):
    certificate = tmp_path / "certificate.pem"
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    with contextlib.ExitStack() as stack:

        def start(*before):
            command = [*before, sys.executable, "-c", SERVER, certificate]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
                )
            )
            stack.callback(process.kill)
            return Served(process)

        yield start


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def poke(served, slow, readers, chance):
    """What the crowd does from time to time: a byte more, a piece less, garbage."""
    for client in slow:
        client.sendall(b"a")
    for client in readers:
        client.recv(512)
    for _ in range(100):
        with contextlib.suppress(ConnectionError), served.connect() as client:
            client.sendall(chance.randbytes(200))


@pytest.mark.soak
def test_a_crowd_that_means_no_good_keeps_nobody_from_an_answer(start):
    served, chance = start(), random.Random(1)
    for _ in range(300):
        served.ask()
    alone = measured(served, lambda: None)
    before = served.settled(1)
    with contextlib.ExitStack() as stack:
        slow, idle, readers, half = ([] for _ in range(4))
        for clients, count, first, tls in (
            (slow, 300, b"GET / HTTP/1.1\r\nHost: a\r\nX: ", False),
            (idle, 300, b"", False),
            (readers, 100, GET % b"/big", False),
            (half, 100, HELLO, True),
        ):
            for _ in range(count):
                clients.append(stack.enter_context(served.connect(tls=tls)))
                clients[-1].sendall(first)
        served.figures()
        beside = measured(served, lambda: poke(served, slow, readers, chance))
        assert served.figures()["open"] > 700
    after = served.settled(1)
    print(f"alone: {alone}; beside them: {beside}; {before['bytes']} bytes before, {after['bytes']} after")
    assert (after["descriptors"], after["failed"]) == (before["descriptors"], 0)
    assert after["bytes"] - before["bytes"] < 64 * 2**20
    assert served.end() == ""


def measured(served, each_second):
    """Microseconds of CPU that a good request takes the server, and milliseconds that it was held up at most."""
    began, count, due = served.figures()["cpu"], 0, time.monotonic()
    for _ in range(5):
        each_second()
        due += 1
        while time.monotonic() < due:
            assert served.ask() == b"ok"
            count += 1
    found = served.figures()
    return f"{(found['cpu'] - began) / count * 1e6:.0f} us of CPU each, {found['late'] * 1000:.0f} ms at most"


@pytest.mark.soak
def test_without_descriptors_it_goes_on_and_recovers(start):
    served = start("bash", "-c", 'ulimit -n 150; exec "$@"', "bash")
    assert served.ask() == b"ok"
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(served.connect())
        for _ in range(3000):
            assert served.ask() == b"ok"
    with served.connect() as client:
        client.sendall(GET % b"/")
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
    served.settled(2)
    lines = served.end().splitlines()
    assert lines
    assert all("accept failed: " in line for line in lines)
    assert len(lines) < PATIENCE  # it pauses ten times a second


@pytest.mark.soak
def test_five_thousand_resets_leave_nothing_and_say_nothing(start):
    served = start()
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    secure.check_hostname, secure.verify_mode = False, ssl.CERT_NONE
    before = served.figures()
    stages = [
        (b"", False),
        (b"GET / HT", False),
        (GET % b"/", False),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", False),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", False),
        (GET % b"/big", False),
        (GET % b"/" * 20, False),
        (b"", True),
        (HELLO, True),
    ]
    for number in range(5000):
        first, tls = stages[number % len(stages)]
        client = served.connect(tls=tls)
        client.sendall(first)
        if number % 3 == 0 and first.endswith(b"\r\n\r\n"):
            client.recv(100)  # in the middle of the answer
        reset(client)
        if number % 50 == 0:
            client = secure.wrap_socket(served.connect(tls=True))
            client.sendall(GET % b"/big")
            client.recv(100)
            reset(client)
            assert served.ask() == b"ok"
    after = served.settled(1)
    assert (after["descriptors"], after["failed"]) == (before["descriptors"], 0)
    assert served.end() == ""
