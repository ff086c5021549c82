"""`trionet demo`: that it keeps its promises, says so, and tells when one is broken."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

import trionet
from trionet.cli import main
from trionet.cli.demo.command import run
from trionet.cli.demo.contrasts import CONTRASTS, Contrast
from trionet.cli.demo.line_server import LineServer
from trionet.cli.demo.performance import Outcome
from trionet.cli.demo.promises import Stage, Step, expect
from trionet.cli.demo.render import WIDTH, Display
from trionet.cli.demo.steps import STEPS
from trionet.custody.drain_report import DrainReport, Forced
from trionet.handle.wire import Wire
from trionet.ownership import Reason
from trionet.server import ServerStatistics

ROOT = Path(trionet.__file__).parent.parent
COMMAND = [sys.executable, "-m", "trionet", "demo"]
PATIENCE = 60


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONUTF8": "1", "FORCE_COLOR": "", "TTY_COMPATIBLE": "", **environment}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


# --- the whole of it ----------------------------------------------------------------------------------------------


async def test_every_promise_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run() == 0
    out = capsys.readouterr().out
    for step in STEPS:
        assert f"✓ {step.promise}\n" in out
    assert "✗" not in out
    assert f"{len(STEPS)} of {len(STEPS)} promises kept" in out
    assert " 0 left open" in out
    assert "drain    0 closed gracefully, 0 by force" in out
    assert "upgraded → WebSocket #2" in out
    assert "HandleBusyError: detach refused" in out
    assert "receive by task reader since" in out


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_promise_is_one_short_sentence(step: Step) -> None:
    assert step.promise.endswith(".")
    assert len(step.promise) <= WIDTH - 4


def test_piped_there_is_plain_text_of_80_columns() -> None:
    done = _run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    assert "…" not in done.stdout  # nothing had to be cut
    for step in STEPS:
        assert f"✓ {step.promise}\n" in done.stdout
    for contrast in CONTRASTS:
        assert f"✓ {contrast.situation}\n  trionet        " in done.stdout
    assert "How to read this table" in done.stdout
    for program in ("curl", "nc", "openssl s_client", "python -m websockets", "in a browser"):
        assert program in done.stdout[done.stdout.index("trionet demo --serve --port 8765") :]


def test_a_terminal_of_80_columns_gets_all_of_it() -> None:
    done = _run(FORCE_COLOR="1", COLUMNS="80", TERM="xterm")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b[1;32m" in done.stdout
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_where_there_are_no_ticks_words_do() -> None:
    done = _run(PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ok {STEPS[0].promise}\n" in done.stdout
    assert "open > claimed > moved" in done.stdout
    assert "?" not in done.stdout


async def test_the_order_of_lines_is_always_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def shape(out: str) -> list[tuple[Any, ...]]:
        """All of it but the figures."""
        found = json.loads(out)
        return [
            (step["name"], each["side"], each["handle"], each["reason"], each["successor"])
            for step in found["steps"]
            for each in step["handles"]
        ]

    shapes = []
    for _ in range(3):
        assert await run(json=True) == 0
        shapes.append(shape(capsys.readouterr().out))
    assert shapes[0] == shapes[1] == shapes[2]


# --- beside other libraries -----------------------------------------------------------------------------------------


def _lines_of(contrast: Contrast, out: str) -> tuple[str, str]:
    ours, theirs = out[out.index(contrast.situation) :].splitlines()[1:3]
    return ours.removeprefix("  trionet").strip(), theirs.strip()


async def test_what_others_do_is_found_live(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(steps=STEPS[:1], contrasts=CONTRASTS) == 0
    out = capsys.readouterr().out
    found = {contrast.name: _lines_of(contrast, out) for contrast in CONTRASTS}
    assert found["two owners"] == (
        "HandleMovedError at once; the WebSocket works on",
        "trio-websocket the stream took the line too; the WebSocket is dead (1002)",
    )
    assert found["lost leftover"][0] == "the upgrade begins with what came early: 101"
    assert re.fullmatch(r"plain Trio +1\d\d bytes were read and are lost: it waits for ever", found["lost leftover"][1])
    assert re.fullmatch(r"the next send raises: [1-9][\d,]+ bytes of it went out", found["torn frame"][0])
    assert found["torn frame"][1] == "trio-websocket the next send succeeds, in the middle of the torn one"
    assert found["lost slot"] == (
        "the block gives the slot back; the next request is answered",
        "httpx          the slot stays taken: PoolTimeout for every later request",
    )


async def test_a_contrast_without_its_library_says_so_and_one_that_we_break_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ours(scope: trionet.Scope, port: int) -> str:
        await trio.lowlevel.checkpoint()
        expect(1 + 1 == 3, "one and one is three")
        return "never"

    monkeypatch.setitem(sys.modules, "httpx", None)
    slot = next(contrast for contrast in CONTRASTS if contrast.name == "lost slot")
    assert await run(steps=STEPS[:1], contrasts=[replace(slot, ours=ours)], json=True) == 1
    (seen,) = json.loads(capsys.readouterr().out)["contrasts"]
    assert seen["ours"] == "broken: one and one is three"
    assert seen["theirs"] == "skipped: httpx is not installed"
    assert (seen["kept"], seen["peer"]) == (False, "httpx")


# --- JSON ---------------------------------------------------------------------------------------------------------


def test_json_is_one_object_that_says_all_is_kept() -> None:
    done = _run("--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["kept"] is True
    assert [(step["name"], step["kept"], step["broken"]) for step in found["steps"]] == [
        (step.name, True, None) for step in STEPS
    ]
    assert found["handles"]["open"] == 0
    assert found["handles"]["opened"] == found["handles"]["moved"] + found["handles"]["closed"]
    assert found["server"]["failed"] == 0
    assert [(seen["name"], seen["kept"]) for seen in found["contrasts"]] == [(each.name, True) for each in CONTRASTS]
    first = found["steps"][0]["handles"][0]
    assert (first["side"], first["handle"], first["reason"]) == ("client", "Connection #1", "upgraded")
    assert first["phases"] == ["open", "claimed", "moved"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"open": 1}, "left open: 1 handle,"),
        ({"server": ServerStatistics(2, 1, 0, 0, {})}, "left open: 0 handles, 1 connection of"),
        ({"moved": 2}, "3 handles were opened, but 2 moved and 2 closed"),
        ({"server": ServerStatistics(2, 0, 1, 0, {})}, "handlers of the server that failed: 1"),
        ({"drain": DrainReport(0, (Forced("handle", "place", Reason.SCOPE_EXIT, ()),))}, "could not end in peace"),
    ],
)
def test_sums_that_are_wrong_break_a_promise(wrong: dict[str, Any], message: str) -> None:
    right = Outcome((), 1.0, ServerStatistics(2, 0, 0, 0, {}), DrainReport(), opened=3, moved=1, closed=2, open=0)
    assert (right.kept, right.leftover) == (True, None)
    outcome = replace(right, **wrong)
    assert not outcome.kept
    assert outcome.leftover is not None
    assert message in outcome.leftover


# --- broken promises ------------------------------------------------------------------------------------------------


async def _wrong(stage: Stage, scope: trionet.Scope) -> None:
    await scope.connect_tcp("127.0.0.1", stage.port)
    expect(1 + 1 == 3, "one and one is three")


async def _leaking(stage: Stage, scope: trionet.Scope) -> None:
    await scope.connect_tcp("127.0.0.1", stage.port)


async def _for_ever(stage: Stage, scope: trionet.Scope) -> None:
    conn = await scope.connect_tcp("127.0.0.1", stage.port)
    await conn.receive_some()


async def test_a_broken_promise_is_exit_status_1_and_the_others_still_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert await run(steps=[Step("wrong", "Sums are wrong.", _wrong), STEPS[0]]) == 1
    out = capsys.readouterr().out
    assert "✗ Sums are wrong.\n  broken: one and one is three\n" in out
    assert f"✓ {STEPS[0].promise}" in out
    assert "1 of 2 promises kept" in out


async def test_a_step_whose_handles_are_not_as_expected_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    step = Step(
        "odd", "There is one handle.", _leaking, {"client": ["Connection", "WebSocket"], "server": ["Connection"]}
    )
    assert await run(steps=[step], json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["kept"] is False
    assert (
        "on the client's side there are ['Connection', 'WebSocket']: found ['Connection']"
        in found["steps"][0]["broken"]
    )


async def test_an_unexpected_error_is_a_broken_promise_too(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails(stage: Stage, scope: trionet.Scope) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError("of all things")

    assert await run(steps=[Step("fails", "It works.", fails)]) == 1
    assert "✗ It works.\n  ZeroDivisionError: of all things\n" in capsys.readouterr().out


async def test_a_core_that_delivered_bytes_twice_would_be_found_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a trionet in which an upgrade hands the unread bytes on twice
    honest = Wire.detach

    def twice(wire: Wire) -> trionet.Detached:
        wire.unread *= 2
        return honest(wire)

    monkeypatch.setattr(Wire, "detach", twice)
    # When the frame behind the CHAT line goes through that; then it does not arrive exactly once, and that is seen
    pipelined = next(step for step in STEPS if step.name == "pipelined")
    assert await run(steps=[pipelined]) == 1
    assert f"✗ {pipelined.promise}\n  broken: " in capsys.readouterr().out


async def test_nothing_hangs_beyond_the_deadline(capsys: pytest.CaptureFixture[str]) -> None:
    # Given a client that waits for a server which waits for the client; when the time is up
    assert await run(steps=[Step("stuck", "It ends.", _for_ever), STEPS[0]], seconds=0) == 1
    # Then that step and those that had no time left are broken, and nothing is left open
    out = capsys.readouterr().out
    assert out.count("  cut off: ") == 2
    assert " 0 left open" in out


async def test_a_failing_handler_is_told_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: LineServer, conn: trionet.Connection) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError("of all things")

    async def meets_eof(stage: Stage, scope: trionet.Scope) -> None:
        conn = await scope.connect_tcp("127.0.0.1", stage.port)
        assert await conn.receive_some() == b""

    monkeypatch.setattr(LineServer, "handle", fails)
    step = Step("eof", "There is an end.", meets_eof, {"client": ["Connection"], "server": ["Connection"]})
    assert await run(steps=[step]) == 1
    out = capsys.readouterr().out
    assert "✓ There is an end." in out
    assert "✗ handlers of the server that failed: 1" in out


# --- the command --------------------------------------------------------------------------------------------------


def test_serve_goes_on_until_ctrl_c_and_drains() -> None:
    with subprocess.Popen(
        [*COMMAND, "--serve", "--json"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            # Given a server that has said where it listens, and a client that has been answered and then is silent
            ready = next(line for line in process.stderr if line.startswith("Serving on "))
            port = int(ready.split()[2].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                client.sendall(b"ECHO still there\n")
                assert client.recv(100) == b"still there\r\n"
                # When Ctrl-C comes
                process.send_signal(signal.SIGINT)
                # Then the client is let go, and the server ends in peace
                assert client.recv(100) == b""
            rest = process.stderr.read()
            assert process.wait(PATIENCE) == 0
            assert "Drained: 1 closed gracefully, 0 by force" in rest
            assert "Traceback" not in rest
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_serve_in_process(stop: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    ready = trio.Event()
    statuses: list[int] = []

    def say(self: Display, text: str) -> None:
        said.append(text)
        ready.set()

    async def serve() -> None:
        statuses.append(await run(serve=True, steps=STEPS[:1]))

    monkeypatch.setattr(Display, "say", say)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await ready.wait()
        signal.raise_signal(stop)
    assert statuses == [0]
    assert [text.split()[0] for text in said] == ["Serving", "Drained:"]


def test_the_command_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] is True


@pytest.mark.parametrize("grouped", [False, True])
def test_ctrl_c_is_no_traceback(
    grouped: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(**_options: object) -> int:
        await trio.lowlevel.checkpoint()
        raise BaseExceptionGroup("of a nursery", [KeyboardInterrupt()]) if grouped else KeyboardInterrupt

    monkeypatch.setattr("trionet.cli.demo.command.run", interrupted)
    try:
        status = main(["demo"])
    except SystemExit as exc:  # cyclopts may have seen it first
        status = exc.code
    assert status == 130
    assert "Traceback" not in capsys.readouterr().err


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("trionet demo: ")
    assert str(port) in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("missing", ["rich", "cyclopts", "trustme"])
def test_without_the_extra_one_line_names_the_remedy(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from trionet.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"trionet: this command needs {missing}, which is not installed: pip install 'trionet[cli]'"
    ]


def test_a_missing_module_of_our_own_is_a_bug_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        raise ModuleNotFoundError("No module named 'trionet.nonsense'", name="trionet.nonsense")

    monkeypatch.setattr("trionet.cli._app", app)
    with pytest.raises(ModuleNotFoundError):
        main(["demo"])


# --- its server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"ECHO one\r\nECHO two\nQUIT\n", b"one\r\ntwo\r\nBYE\r\n"),
        (b"GETAWAY\nQUIT\n", b"ERR unknown here, try CHAT name, STARTTLS, ECHO text, QUIT\r\nBYE\r\n"),
        (b"CHAT\nQUIT\n", b"ERR unknown here, try CHAT name, STARTTLS, ECHO text, QUIT\r\nBYE\r\n"),
        (b"ECHO no end of line", b""),
        (b"x" * 600, b""),
        (b"", b""),
        (b"\x16\x03 but not TLS", b""),
        (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ],
)
async def test_the_line_server_answers_and_survives_every_client(said: bytes, answer: bytes | None) -> None:
    from trionet.cli.demo.command import _certificates

    async with trionet.open_scope() as scope:
        context, _ = _certificates()
        server = await scope.start(trionet.serve_tcp, LineServer(context).handle, 0)
        conn = await scope.connect_tcp("127.0.0.1", server.port)
        if said:
            await conn.send_all(said)
        await conn.send_eof()
        got = b""
        with trio.fail_after(PATIENCE):
            while data := await conn.receive_some():
                got += data
            await server.drain(5)
        assert server.statistics().failed == 0
        assert answer is None or got == answer
        scope.cancel()
