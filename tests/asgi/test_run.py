"""`trionet.run(serve_asgi, ...)`: the lifespan and the drain of a whole program, ended by a signal."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 60

PROGRAM = """
import sys, trio, trionet
from trionet.asgi import serve_asgi

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print("startup", flush=True)
        if "stuck start" in sys.argv:
            await trio.sleep_forever()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await trio.sleep(1.5)  # longer than a program has that nobody holds
        print("shutdown", flush=True)
        if "stuck" in sys.argv:
            await trio.sleep_forever()
        await send({"type": "lifespan.shutdown.complete"})
        return
    print("begun", flush=True)
    if scope["path"] == "/slow":
        await trio.sleep(0.5)
    if scope["path"] == "/never":
        await trio.sleep_forever()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"done"})

trionet.run(serve_asgi, app, 0, host="127.0.0.1", drain_timeout=float(sys.argv[1]))
"""


class Program:
    def __init__(self, stack, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, text=True, **pipes)
        self.process = stack.enter_context(process)
        stack.callback(self.process.kill)
        assert self.process.stdout.readline() == "startup\n"

    def ask(self, stack, path):
        """A client whose request has begun."""
        port = int(self.process.stderr.readline().rpartition(":")[2])
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert self.process.stdout.readline() == "begun\n"
        return client

    def end(self, number=signal.SIGTERM):
        """Exit status, what else it printed, and how long that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err, time.monotonic() - began


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def test_what_is_under_way_is_answered_and_the_shutdown_has_its_time(stack):
    program = Program(stack, "30")
    client = program.ask(stack, "/slow")
    status, out, err, seconds = program.end()
    assert status == 0, err
    assert out == "shutdown\n"
    assert seconds >= 1.9
    data = b""
    while piece := client.recv(65536):
        data += piece
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in data
    assert "Traceback" not in err


def test_a_request_that_does_not_end_is_cut_off_at_the_deadline(stack):
    program = Program(stack, "1")
    client = program.ask(stack, "/never")
    _status, out, err, _seconds = program.end()
    assert "forced" in err or "by force" in err
    assert out in ("", "shutdown\n")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(65536) == b""


def test_a_shutdown_that_does_not_end_is_cut_off_at_the_deadline(stack):
    program = Program(stack, "2", "stuck")
    program.ask(stack, "/quick")
    _, out, err, seconds = program.end()
    assert out == "shutdown\n"
    assert seconds < 15, err


def test_a_start_that_does_not_end_is_cancelled_by_a_signal(stack):
    program = Program(stack, "30", "stuck start")
    _, _, err, seconds = program.end(signal.SIGINT)
    assert seconds < 10
    assert "Traceback" not in err
