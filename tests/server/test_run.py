"""`trionet.run`: from the line that says where a server listens to the signal that ends it."""

import contextlib
import logging
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

import trionet
from trionet.server import running

ROOT = Path(__file__).parents[2]
PATIENCE = 60
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

PROGRAM = """
import trio, trionet

async def app(exchange):
    if exchange.target == "/slow":
        print("begun", flush=True)
        await trio.sleep(0.3)
    if exchange.target == "/never":
        print("begun", flush=True)
        await trio.sleep_forever()
    if exchange.target == "/stuck":
        print("begun", flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
    if exchange.target == "/busy":
        print("begun", flush=True)
        while True:
            pass
    await exchange.respond(200, b"ok")

if __name__ == "__main__":
    trionet.run(trionet.serve_http, app, 0, host="127.0.0.1")
"""


class Process:
    """The program above, in a process of its own, and clients of it."""

    def __init__(self, stack):
        self.stack = stack
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = int(self.said().rpartition(":")[2])

    def said(self):
        return self.process.stderr.readline()

    def connect(self, request=b""):
        client = self.stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE))
        client.sendall(request)
        return client

    def ask(self, path):
        """A client whose request has been begun."""
        client = self.connect(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        assert self.process.stdout.readline() == "begun\n"
        return client

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        """How it ended: exit status, and what else it has said."""
        _, rest = self.process.communicate(timeout=PATIENCE)
        assert "Traceback" not in rest, rest
        return self.process.returncode, rest


@pytest.fixture
def program():
    with contextlib.ExitStack() as stack:

        def start():
            program = Process(stack)
            stack.enter_context(program.process)
            stack.callback(program.process.kill)
            return program

        yield start


def receive_all(client):
    data = b""
    with client:
        while chunk := client.recv(65536):
            data += chunk
    return data


# --- processes and signals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_an_answer_finish_and_ends_in_peace(program, number):
    it = program()
    client = it.ask(b"/slow")
    it.send(number)
    answer = receive_all(client)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in answer
    status, said = it.end()
    assert status == 0
    assert said == f"{number.name}: ending, with 1 connection, within 30 s; a second signal cuts off what is left\n"


def test_a_request_within_the_grace_is_answered(program):
    it = program()
    client = it.connect(GET)
    assert client.recv(1000).endswith(b"ok")
    it.send(signal.SIGTERM)
    assert it.said().startswith("SIGTERM: ending")
    client.sendall(GET)
    assert receive_all(client).startswith(b"HTTP/1.1 200 OK\r\n")
    assert it.end() == (0, "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_cuts_everything_off(program, number, status):
    it = program()
    client = it.ask(b"/never")
    it.send(number)
    assert it.said().startswith(f"{number.name}: ending, with 1 connection,")
    it.send(number)
    assert receive_all(client) == b""
    assert it.end()[0] == status


@pytest.mark.parametrize("path", [b"/stuck", b"/busy"])
def test_a_third_signal_ends_what_cannot_be_cancelled(program, path):
    it = program()
    client = it.ask(path)
    for _ in range(3):
        it.send(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # signals of one kind that wait become one
            it.process.wait(0.2)
    assert it.end()[0] == -signal.SIGINT
    client.close()


# --- in this process --------------------------------------------------------------------------------------------------


async def answer(exchange):
    await exchange.respond(200, b"ok")


async def raising(main, number=signal.SIGTERM, times=1):
    """Run `main`, and raise the signal when its server listens."""
    async with trio.open_nursery() as nursery:
        await nursery.start(main)
        for _ in range(times):
            signal.raise_signal(number)


def test_it_says_where_it_listens(capsys, tmp_path, server_context):
    async def main():
        async with trio.open_nursery() as nursery:
            for serve in (
                lambda task_status: trionet.serve_http(answer, 0, host="127.0.0.1", task_status=task_status),
                lambda task_status: trionet.serve_http(
                    answer, 0, host="::1", ssl_context=server_context, task_status=task_status
                ),
                lambda task_status: trionet.serve_tcp(
                    nothing, 0, host="127.0.0.1", ssl_context=server_context, task_status=task_status
                ),
                lambda task_status: trionet.serve_unix(nothing, str(tmp_path / "s\nx"), task_status=task_status),
            ):
                await nursery.start(serve)
            signal.raise_signal(signal.SIGTERM)

    assert trionet.run(main) is None
    tcp, tls, raw, unix, ending = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+", tcp)
    assert re.fullmatch(r"listening on https://\[::1\]:\d+", tls)
    assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+ \(TLS\)", raw)
    assert unix == rf"listening on {tmp_path}/s\nx"
    assert ending.startswith("SIGTERM: ending, with 0 connections")


def test_what_servers_log_is_shown_if_no_logging_is_set_up(program):
    """Given a client that sends what is no HTTP; then the program says so, although it has set up nothing."""
    running = program()
    receive_all(running.connect(b"nonsense\r\n\r\n"))
    assert re.fullmatch(r"INFO: .*127\.0\.0\.1:\d+.*\n", running.said())
    receive_all(running.connect(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
    running.send(signal.SIGTERM)
    status, rest = running.end()
    assert (status, rest.count("\n")) == (0, 1)  # that it ends, and no line for the request


def test_logging_is_afterwards_as_it_was(monkeypatch):
    logger, access = logging.getLogger("trionet"), logging.getLogger("trionet.access")
    monkeypatch.setattr(logger, "propagate", False)  # so that the handlers of the tests do not count
    before = logger.level, access.level, list(logger.handlers)

    async def main():
        return logger.isEnabledFor(logging.INFO), access.isEnabledFor(logging.INFO), len(logger.handlers)

    assert trionet.run(main) == (True, False, 1)
    assert (logger.level, access.level, logger.handlers) == before


def test_it_gives_what_main_returns_and_passes_arguments_on():
    async def main(one, *, two):
        return one, two

    assert trionet.run(main, 1, two=2) == (1, 2)


def test_what_main_raises_leaves_as_it_is():
    async def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trionet.run(main)


def test_handlers_of_signals_are_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async def main():
        assert signal.getsignal(signal.SIGTERM) != before[0]

    trionet.run(main)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_program_has_time_for_its_own_end(capsys):
    """It goes on behind its server, and is not cancelled at once."""
    ended = []

    async def main():
        await raising(lambda task_status: trionet.serve_http(answer, 0, task_status=task_status))
        await trio.sleep(0.01)
        ended.append(True)
        return "done"

    assert trionet.run(main) == "done"
    assert ended == [True]


def test_what_does_not_end_by_itself_is_cancelled(monkeypatch):
    monkeypatch.setattr(running, "AFTERWARDS", 0.01)
    cancelled = []

    async def main():
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def background():
                try:
                    await trio.sleep_forever()
                finally:
                    cancelled.append(True)

            await raising(lambda task_status: trionet.serve_http(answer, 0, task_status=task_status))

    assert trionet.run(main) is None
    assert cancelled == [True]


def test_a_program_without_servers_is_cancelled_at_once(capsys):
    async def main():
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    assert trionet.run(main) is None


def test_every_server_drains_also_one_that_begins_meanwhile():
    """The second is started by a program that has not noticed the signal yet."""
    seen = []

    async def main():
        async with trio.open_nursery() as nursery:
            first = await nursery.start(lambda task_status: trionet.serve_http(answer, 0, task_status=task_status))
            signal.raise_signal(signal.SIGTERM)
            await trio.lowlevel.checkpoint()
            second = await nursery.start(lambda task_status: trionet.serve_http(answer, 0, task_status=task_status))
            seen.extend([first, second])
        seen.append("all have ended")

    trionet.run(main)
    assert seen[2] == "all have ended"
    assert [server.addresses for server in seen[:2]] == [(), ()]


@pytest.mark.parametrize(
    ("number", "terminal", "grace"),
    [
        (signal.SIGINT, True, 0.0),
        (signal.SIGINT, False, None),
        (signal.SIGINT, None, None),
        (signal.SIGTERM, True, None),
    ],
)
def test_ctrl_c_on_a_terminal_waits_for_no_next_request(monkeypatch, number, terminal, grace):
    """There a person waits; everywhere else the grace is what the server's limits say."""
    graces = []
    drain = trionet.Server.drain

    async def noting(self, timeout, *, idle_grace):
        graces.append(idle_grace)
        return await drain(self, timeout, idle_grace=idle_grace)

    monkeypatch.setattr(trionet.Server, "drain", noting)
    mine, theirs = pty.openpty()
    with os.fdopen(mine), os.fdopen(theirs) as tty, open(os.devnull) as null:
        monkeypatch.setattr(sys, "stdin", {True: tty, False: null, None: None}[terminal])
        trionet.run(raising, lambda task_status: trionet.serve_http(answer, 0, task_status=task_status), number)
    assert graces == [grace]


def test_what_a_drain_had_to_force_is_logged(caplog):
    async def stubborn(connection):
        await trio.sleep_forever()

    async def main():
        async with trio.open_nursery() as nursery:
            server = await nursery.start(lambda task_status: trionet.serve_tcp(stubborn, 0, task_status=task_status))
            async with trionet.open_tcp("localhost", server.port) as client:
                while not server.connections:
                    await trio.lowlevel.checkpoint()
                signal.raise_signal(signal.SIGTERM)
                assert await client.receive_some() == b""

    with caplog.at_level(logging.WARNING, "trionet.server"):
        trionet.run(main, drain_timeout=0.02)
    assert "0 closed gracefully, 1 by force" in caplog.text


def test_a_second_signal_at_once_is_an_exit_status():
    async def main():
        await raising(lambda task_status: trionet.serve_http(answer, 0, task_status=task_status), times=2)

    with pytest.raises(SystemExit) as exit_:
        trionet.run(main)
    assert exit_.value.code == 128 + signal.SIGTERM


def test_ctrl_c_before_the_signals_are_listened_to_is_no_traceback(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", interrupted)
    with pytest.raises(SystemExit) as exit_:
        trionet.run(answer)
    assert exit_.value.code == 130


def test_the_main_thread_is_needed():
    found = []

    def elsewhere():
        with pytest.raises(RuntimeError, match="needs the main thread") as refused:
            trionet.run(answer)
        found.append(refused)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found


async def nothing(_connection=None):
    pass


@pytest.mark.parametrize(
    ("main", "options", "error", "message"),
    [
        (nothing, {"drain_timeout": -1}, ValueError, "drain_timeout must be at least 0 seconds.*-1"),
        (nothing, {"drain_timeout": float("nan")}, ValueError, "drain_timeout"),
        (nothing, {"drain_timeout": "30"}, TypeError, "drain_timeout must be a number of seconds.*'30'"),
        (8080, {}, TypeError, "main must be an async function, not 8080"),
    ],
)
def test_arguments_are_checked(main, options, error, message):
    with pytest.raises(error, match=message):
        trionet.run(main, **options)


def test_a_main_that_was_called_is_told_so():
    with pytest.raises(TypeError, match="not what it has returned"):
        trionet.run(nothing())


def test_nobody_has_to_see_what_it_says(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert trionet.run(nothing) is None
    running.tell("nobody hears this")


# --- the garbage collector --------------------------------------------------------------------------------------------

COLLECTOR = """
import gc, sys, trio, trionet

def state():
    return bool(gc.get_freeze_count()), gc.get_threshold(), gc.isenabled()

async def app(exchange):
    await exchange.respond(200)

async def main(fails):
    assert state() == before
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            await nursery.start(trionet.serve_http, app, 0)
            print(state())
        if fails:
            raise KeyError
        nursery.cancel_scope.cancel()

exec(sys.argv[1])
before = state()
try:
    trionet.run(main, fails="fails" in sys.argv)
finally:
    print(state())
"""


@pytest.mark.parametrize(
    ("first", "serving", "afterwards"),
    [
        ("gc.set_threshold(700, 10, 10)", "(True, (700, 10, 100), True)", "(False, (700, 10, 10), True)"),
        ("gc.set_threshold(9, 8, 7000)", "(True, (9, 8, 7000), True)", "(False, (9, 8, 7000), True)"),
        ("gc.set_threshold(9, 8, 7); gc.freeze()", "(True, (9, 8, 7), True)", "(True, (9, 8, 7), True)"),
        ("gc.set_threshold(9, 8, 7); gc.disable()", "(False, (9, 8, 7), False)", "(False, (9, 8, 7), False)"),
    ],
    ids=["usual", "rarer", "frozen", "disabled"],
)
@pytest.mark.parametrize("end", ["returns", "fails"])
def test_the_collector_is_kept_from_what_is_there_when_the_first_server_listens(first, serving, afterwards, end):
    """And is as it was at the end; or all the time, in a program that looks after it itself."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COLLECTOR, first, end],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout.splitlines() == [serving, serving, afterwards]
    assert ("KeyError" in done.stderr) == (end == "fails")
