"""`trionet connect`: real servers, real pipes, a real terminal; and what it says of mistakes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import ssl
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from websockets.sync.server import serve as serve_websockets

import trionet
from trionet.cli import main
from trionet.cli.connect import lines
from trionet.cli.connect.certificate import certificate_lines
from trionet.cli.connect.lines import given
from trionet.cli.connect.screen import Screen, hex_lines, visible
from trionet.cli.connect.session import Session
from trionet.cli.connect.starttls import DIALOGUES
from trionet.cli.connect.target import parse_target
from trionet.cli.mistakes import Mistake

ROOT = Path(__file__).parents[2]
PATIENCE = 60
QUICK = ("--settle", "0.02")


# --- servers, in a thread of their own ----------------------------------------------------------------------------


async def echo(conn: trionet.Connection) -> None:
    while data := await conn.receive_some():
        await conn.send_all(b"echo " + data)


async def greet(conn: trionet.Connection) -> None:
    """Speaks first, and ends when it is told to."""
    await conn.send_all(b"\x1b]0;owned\x07 \xe2\x80\xae welcome\r\n")
    await conn.receive_until(b"QUIT\r\n", max_bytes=999)
    await conn.send_all(b"bye\r\n")


async def impatient(conn: trionet.Connection) -> None:
    """Answers nobody who has ended, as many HTTP servers do."""
    await conn.receive_some()
    with trio.move_on_after(0.01):
        if await conn.receive_some() == b"":
            return
    await conn.send_all(b"answer\r\n")


async def silent(conn: trionet.Connection) -> None:
    while await conn.receive_some():
        pass
    await trio.sleep_forever()


async def app(exchange: trionet.Exchange) -> None:
    if exchange.wants_websocket:
        ws = await exchange.upgrade(trionet.to_websocket_server(subprotocols=["chat"]))
        async for message in ws:
            await ws.send_message(message)
    else:
        field = exchange.headers.get("x-said", "nothing")
        await exchange.respond(200, f"{exchange.method} {exchange.target} {await exchange.read()!r} {field}\n")


ANSWERS: dict[str, list[tuple[int | bytes, bytes]]] = {
    "smtp": [(b"", b"220-it\r\n220 is\r\n"), (b"\r\n", b"250-it\r\n250 STARTTLS\r\n"), (b"\r\n", b"220 go\r\n")],
    "imap": [(b"", b"* OK it\r\n"), (b"\r\n", b"* CAPABILITY x\r\na1 OK go\r\n")],
    "pop3": [(b"", b"+OK it\r\n"), (b"\r\n", b"+OK go\r\n")],
    "ldap": [(31, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")],
    "postgres": [(8, b"S")],
}


def speaks(protocol: str, context: ssl.SSLContext, answers: list[tuple[int | bytes, bytes]]) -> Any:
    async def handle(conn: trionet.Connection) -> None:
        for awaited, answer in answers:
            if isinstance(awaited, int):
                await conn.receive_exactly(awaited)
            elif awaited:
                await conn.receive_until(awaited, max_bytes=999)
            await conn.send_all(answer)
        await echo(await conn.upgrade(trionet.to_tls_server(context)))

    return handle


@pytest.fixture(scope="module")
def servers(server_context: ssl.SSLContext, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Where each of them listens."""
    ports: dict[str, Any] = {"unix": str(tmp_path_factory.mktemp("connect") / "it.sock")}
    ready = threading.Event()
    stop: list[Any] = []

    async def run() -> None:
        async with trionet.open_scope(drain_timeout=0) as scope:
            handlers = {"echo": echo, "greet": greet, "impatient": impatient, "silent": silent}
            handlers |= {name: speaks(name, server_context, said) for name, said in ANSWERS.items()}
            handlers |= {
                "declines": speaks("pop3", server_context, [(b"", b"+OK it\r\n"), (b"\r\n", b"-ERR no \x1b[2J\r\n")]),
                "injects": speaks(
                    "pop3", server_context, [(b"", b"+OK it\r\n"), (b"\r\n", b"+OK go\r\n+OK forged\r\n")]
                ),
            }
            for name, handler in handlers.items():
                ports[name] = (await scope.start(trionet.serve_tcp, handler, 0)).port
            ports["tls"] = (
                await scope.start(lambda **kw: trionet.serve_tcp(echo, 0, ssl_context=server_context, **kw))
            ).port
            ports["http"] = (await scope.start(trionet.serve_http, app, 0)).port
            ports["https"] = (
                await scope.start(lambda **kw: trionet.serve_http(app, 0, ssl_context=server_context, **kw))
            ).port
            await scope.start(trionet.serve_unix, echo, ports["unix"])
            stop.extend([trio.lowlevel.current_trio_token(), scope.cancel])
            ready.set()
            await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert ready.wait(PATIENCE)
    yield ports
    stop[0].run_sync_soon(stop[1])
    thread.join(PATIENCE)


@pytest.fixture
def cafile(ca: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def connect(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command here: status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["connect", *arguments, *(() if "--settle" in arguments else QUICK)])
        out, err = capsys.readouterr()
        return status, out.replace("\r\n", "\n"), err

    return run


def command(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "trionet", "connect", *arguments], cwd=ROOT, **options)


# --- what is sent, and what comes ---------------------------------------------------------------------------------


def test_lines_to_a_stream_and_its_answer(connect, servers):
    status, out, err = connect(f"tcp://127.0.0.1:{servers['echo']}", "--send", "one", "--send", "two")
    assert status == 0
    assert out.replace("echo ", "") == "one\ntwo\n"
    assert err == f"connected to 127.0.0.1:{servers['echo']}\nthe peer has ended the connection\n"


@pytest.mark.parametrize(("eol", "sent"), [("lf", b"hi\n"), ("none", b"hi"), ("crlf", b"hi\r\n")])
def test_what_ends_a_line_and_bytes(servers, eol, sent, capfdbinary):
    assert main(["connect", f"unix://{servers['unix']}", "--send", "hi", "--eol", eol]) == 0
    assert capfdbinary.readouterr().out == b"echo " + sent
    assert main(["connect", f"unix://{servers['unix']}", "--hex", "--send", "00 ff"]) == 0
    assert capfdbinary.readouterr().out == b"echo \x00\xff"


def test_a_server_that_speaks_first_is_heard_and_one_that_ends_ends_it(connect, servers):
    status, out, _ = connect(f"tcp://127.0.0.1:{servers['greet']}", "--send", "QUIT")
    assert (status, out.splitlines()[-1]) == (0, "bye")


def test_no_answer_is_a_failure_that_says_so(connect, servers):
    status, out, err = connect(f"tcp://127.0.0.1:{servers['silent']}", "--send", "x", "--timeout", "0.2")
    assert (status, out) == (1, "")
    assert err.splitlines()[1:] == ["trionet: no answer within 0.2 s (--timeout) behind the last line"]


def test_the_end_of_the_input_is_not_passed_on_before_the_answer(connect, servers):
    status, out, _ = connect(f"tcp://127.0.0.1:{servers['impatient']}", "--send", "x", "--settle", "0.2")
    assert (status, out) == (0, "answer\n")


def test_tls(connect, servers, cafile):
    url = f"tls://localhost:{servers['tls']}"
    status, out, err = connect(url, "--send", "x", "--cafile", cafile, "--show-certificate")
    assert (status, out) == (0, "echo x\n")
    assert ", TLSv1.3\n" in err
    assert "certificate, verified:\n" in err
    assert re.search(r"\n  names    localhost, .*\n  issuer   .*trustme.*\n  valid    \d{4}-.* UTC\n", err)
    status, _, err = connect(url.replace("localhost", "127.0.0.2"), "--send", "x", "--cafile", cafile)
    assert (status, err.partition("mismatch")[2].count("connect by a name that it has")) == (1, 1), err
    status, _, err = connect(url, "--send", "x")
    assert status == 1
    assert err.startswith("trionet: TLS handshake with localhost failed: certificate verify failed")
    assert err.endswith("--insecure --show-certificate shows whose it is\n")
    status, _, err = connect(url, "--send", "x", "--insecure", "--show-certificate")
    assert status == 0
    assert "certificate, NOT verified:\n  subject " in err


@pytest.mark.parametrize("protocol", DIALOGUES)
def test_starttls(connect, servers, cafile, protocol):
    url = f"tcp://localhost:{servers[protocol]}"
    status, out, err = connect(url, "--starttls", protocol, "--send", "x", "--cafile", cafile)
    assert (status, out) == (0, "echo x\n"), err
    assert ", TLSv1.3\n" in err


def test_starttls_that_is_declined_or_tampered_with(connect, servers):
    status, _, err = connect(f"tcp://localhost:{servers['declines']}", "--starttls", "pop3", "--send", "x")
    assert (status, err) == (1, "trionet: the server does not begin TLS: it answered '-ERR no \\\\x1b[2J'\n")
    status, _, err = connect(f"tcp://localhost:{servers['injects']}", "--starttls", "pop3", "--send", "x")
    assert status == 1
    assert "Somebody may have injected it" in err


DECLINED: dict[str, list[tuple[int | bytes, bytes]]] = {
    "smtp": [*ANSWERS["smtp"][:2], (b"\r\n", b"454 not now\r\n")],
    "smtp, endless": [(b"", b"220-again\r\n" * 101)],
    "imap": [ANSWERS["imap"][0], (b"\r\n", b"* x\r\na1 NO not now\r\n")],
    "imap, busy": [(b"", b"* BYE not now\r\n")],
    "ldap": [(31, b"\x30\x81\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00")],
    "ldap, not at all": [(31, b"HTTP/1.1 400")],
    "postgres": [(8, b"N")],
}


@pytest.mark.parametrize("case", DECLINED)
async def test_a_server_that_declines_is_not_taken_at_its_word(case, server_context):
    async with trionet.open_scope(drain_timeout=0) as scope:
        handler = speaks(case, server_context, DECLINED[case])
        server = await scope.start(trionet.serve_tcp, handler, 0)
        conn = await scope.connect_tcp("127.0.0.1", server.port)
        with pytest.raises(Mistake, match="the server does not begin TLS: it answered"):
            await DIALOGUES[case.partition(",")[0]](conn)
        scope.cancel()


def test_http_has_a_request_a_line(connect, servers, cafile):
    status, out, err = connect(
        f"http://localhost:{servers['http']}/base?q=1",
        *("--send", "", "--send", "/a", "--send", "PUT /b some text", "--header", "X-Said: this"),
    )
    assert status == 0
    assert out == "GET /base?q=1 b'' this\nGET /a b'' this\nPUT /b b'some text' this\n"
    assert err.count("HTTP/1.1 200 OK\n") == 3
    url = f"https://localhost:{servers['https']}"
    status, out, err = connect(url, "--send", "HEAD /", "--cafile", cafile, "--show-certificate")
    assert (status, out) == (0, "")
    assert "certificate, verified:\n" in err
    status, _, err = connect(url, "--send", "hello", "--insecure")
    assert (status, err.splitlines()[-1]) == (
        2,
        "trionet: 'hello' is not a request: write GET /path, POST /path body, or /path",
    )


@pytest.mark.parametrize("library", ["trionet", "websockets"])
def test_websocket(connect, servers, library, cafile):
    with contextlib.ExitStack() as stack:
        port = servers["https"]
        if library == "websockets":
            port = stack.enter_context(websockets_echo())
        url = f"wss://localhost:{port}/" if library == "trionet" else f"ws://localhost:{port}/"
        options = ("--cafile", cafile, "--subprotocol", "chat") if library == "trionet" else ()
        status, out, err = connect(url, "--send", "grüße", "--send", "two", *options)
        assert (status, out) == (0, "grüße\ntwo\n")
        assert ("subprotocol chat" in err) == (library == "trionet")
        assert connect(url, "--hex", "--send", "00ff", *options)[:2] == (0, "00ff\n")


@contextlib.contextmanager
def websockets_echo() -> Iterator[int]:
    def handler(ws: Any) -> None:
        for message in ws:
            ws.send(message)

    with serve_websockets(handler, "localhost", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
    thread.join(PATIENCE)


# --- pipes --------------------------------------------------------------------------------------------------------


def test_a_pipe_goes_line_by_line_and_its_end_is_awaited(servers):
    with command(f"ws://127.0.0.1:{servers['http']}/", "--settle", "0.1", stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"one\n"  # while the input is still open
        process.stdin.write(b"two\r\nthree without an end")
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, b"two\nthree without an end\n")
    assert b"Traceback" not in err


def test_a_peer_that_ends_ends_it_while_the_input_is_open(servers):
    with command(f"tcp://127.0.0.1:{servers['greet']}", stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"QUIT\n")
        process.stdin.flush()
        assert process.stdout.read() == b"\x1b]0;owned\x07 \xe2\x80\xae welcome\r\nbye\r\n"  # into a pipe: as it is
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[1:] == [b"the peer has ended the connection"]


# --- a terminal ---------------------------------------------------------------------------------------------------


class Terminal:
    """A person at a terminal."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        env = {**os.environ, "XDG_STATE_HOME": str(home), "TERM": "xterm", "NO_COLOR": ""}
        self.process = command(*arguments, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=env)
        self.seen = b""

    def expect(self, text: str) -> str:
        """What is shown up to and with this text."""
        while text.encode() not in self.seen:
            assert select.select([self.master], [], [], PATIENCE)[0], self.seen
            self.seen += os.read(self.master, 65536)
        before, found, self.seen = self.seen.partition(text.encode())
        return (before + found).decode()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        status = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self.slave)[3] == self.before[3], "the terminal does not echo any more"
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Any]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_person_types_lines_and_the_history_is_kept(terminal, servers, tmp_path):
    person = terminal(f"ws://127.0.0.1:{servers['http']}/", "--settle", "0.05")
    person.expect(":help lists what can be typed")
    person.expect("> ")
    person.type("first\n")
    person.expect("first\r\n")
    person.expect("first\r\n")
    person.type("goes on\\\n")
    person.expect(". ")
    person.type("here\n")
    person.expect("goes on\r\nhere")
    person.type(":hex 00 ff\n")
    assert "2 bytes" in person.expect("|..|")
    person.type(":ping\n")
    person.expect("pong after")
    person.type(":pong\n")
    person.expect(":pong is not known; :help lists what is")
    person.type("::text\n")
    person.expect(":text\r\n")
    person.expect(":text\r\n")
    person.type(" secret\n")
    person.expect(" secret\r\n")
    person.expect(" secret\r\n")
    person.type("\x04")
    assert person.end() == 0
    history = tmp_path / "trionet" / "connect_history"
    assert "first\ngoes on\nhere\n" in history.read_text()
    assert "secret" not in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def test_a_peer_cannot_write_to_the_terminal_nor_hold_it(terminal, servers):
    person = terminal(f"tcp://127.0.0.1:{servers['greet']}")
    shown = person.expect("welcome")
    assert "\\x1b]0;owned\\x07 \\u202e welcome" in shown
    assert "\x1b[2mconnected to" in shown  # colours are for terminals
    person.type("QUIT\n")
    person.expect("bye")
    person.expect("the peer has ended the connection")
    assert person.end() == 0


def test_the_terminal_is_restored_behind_a_thread_that_still_sets_it_up(monkeypatch, tmp_path):
    done = []
    settled = threading.Event()

    def set_up():
        leaving.wait(PATIENCE)
        done.append("set up")
        settled.set()

    class Asking:
        """Stands for a thread in `input` that comes to the terminal only when the session is over."""

        def wait(self, seconds):
            leaving.set()
            return settled.wait(PATIENCE)

    leaving = threading.Event()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(lines, "_settled", Asking())
    monkeypatch.setattr(lines, "_prepare_terminal", lambda: lambda: done.append("restored"))
    thread = threading.Thread(target=set_up)
    with lines.with_history():
        thread.start()
    leaving.set()
    thread.join(PATIENCE)
    assert done == ["set up", "restored"]


def test_ctrl_c_ends_it_and_the_terminal_is_as_before(terminal, servers):
    person = terminal(f"tcp://127.0.0.1:{servers['echo']}")
    person.expect("> ")
    person.process.send_signal(2)
    assert person.end() == 130


# --- what is shown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("grüße 你好 🙂", "grüße 你好 🙂"),
        ("a\r\nb\tc\n", "a\nb\tc\n"),
        ("over\rwritten", "over\\rwritten"),
        ("\x1b[2J\x07\x08\x7f\x9b", "\\x1b[2J\\x07\\x08\\x7f\\x9b"),
        ("\u202egpj.exe\u2066\u200b\u2028", "\\u202egpj.exe\\u2066\\u200b\\u2028"),
        ("\ud800\U000e0041", "\\ud800\\U000e0041"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text, shown):
    assert visible(text) == shown


def test_binary_data_on_a_terminal_is_hexadecimal_and_split_characters_are_not(capsys):
    screen = Screen()
    screen.is_terminal = True
    screen.message("\x1b[2Jhello")
    screen.stream("grü".encode()[:3])
    screen.stream("grü".encode()[3:])
    screen.stream(b"\n\xff\x00")
    screen.stream(b"a\0b")
    screen.binary(bytes(5000))
    out = capsys.readouterr().out
    assert out.startswith("\\x1b[2Jhello\ngrü00000000  0a ff 00 ")
    assert "\n00000000  61 00 62 " in out
    assert out.endswith("00000ff0  " + "00 " * 15 + "00  |................|\n... and 904 bytes more\n")
    assert hex_lines(b"") == []


def test_an_unnamed_certificate(ca):
    class Bare:
        version, cipher, alpn, peer_certificate, peer_certificate_der = "TLSv1.3", "X", "h2", None, None

    assert certificate_lines(Bare()) == ["TLSv1.3, X, ALPN h2", "the server has shown no certificate"]


class Lines:
    """A channel to nobody, on which every second line is a mistake."""

    framed, passes_end, farewell = True, False, ""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, item: Any) -> None:
        await trio.lowlevel.checkpoint()
        if item == "wrong":
            raise Mistake("that was wrong")
        self.sent.append(item)

    async def receive(self) -> Any:
        await trio.sleep_forever()

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("patient", [True, False])
async def test_a_person_may_err_in_a_line_and_a_pipe_may_not(patient, capsys, autojump_clock):
    channel = Lines()
    session = Session(channel, Screen(), 5, 1, patient=patient)
    with contextlib.nullcontext() if patient else pytest.raises(Mistake, match="that was wrong"):
        assert not await session.run(given(("one", "wrong", "two"), False))
    assert channel.sent == (["one", "two"] if patient else ["one"])
    assert capsys.readouterr().err == ("that was wrong\n" if patient else "")


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "starttls", "message"),
    [
        ("localhost:80", None, r"is not a URL: begin it with one of tcp://.*, as in tcp://localhost:80"),
        ("/run/x", None, r"as in unix:///run/it.sock"),
        ("ftp://x", None, r"the scheme 'ftp' is not one of tcp://"),
        ("tcp://host", None, r"has no port: write tcp://host:PORT"),
        ("tcp://:1", None, r"has no host"),
        ("tcp://host:99999", None, r"the port has to be 1 to 65535"),
        ("tcp://[::1", None, r"is not a URL: Invalid IPv6 URL"),
        ("tcp://host:1/path", None, r"tcp has no path; did you mean http://\?"),
        ("tls://host/path", None, r"did you mean https://\?"),
        ("unix://run/x", None, r"three slashes: unix:///run/x"),
        ("wss://me:secret@host/", None, r"do not belong on a command line"),
        ("tls://host:25", "smtp", r"--starttls smtp begins in plain text: write tcp://host:25"),
    ],
)
def test_urls_that_cannot_be_right(url, starttls, message):
    with pytest.raises(Mistake, match=message) as caught:
        parse_target(url, starttls)
    assert "secret" not in str(caught.value)


def test_urls_that_are():
    assert parse_target("WSS://[::1]/chat?x#y").origin == "wss://[::1]:443"
    assert parse_target("http://h/a?b").path == "/a?b"
    assert parse_target("unix:///run/a%20b").path == "/run/a b"
    assert [parse_target("tcp://h", name).port for name in DIALOGUES] == [25, 143, 110, 389, 5432]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["tcp://127.0.0.1:{nobody}"], 1, "nobody listens there; check host and port"),
        (["unix:///no/such/socket"], 1, "check the path of the socket"),
        (["ws://127.0.0.1:{echo}/"], 1, "is this the port of a WebSocket server"),
        (["tls://localhost:{echo}"], 1, "the peer does not speak TLS"),
        (["tls://localhost:{silent}", "--timeout", "0.1"], 1, "is not open after 0.1 s"),
        (["tcp://localhost:{silent}", "--starttls", "smtp", "--timeout", "0.1"], 1, "is not open after 0.1 s"),
        (["tls://localhost:1", "--cafile", "/no/such"], 2, "--cafile /no/such cannot be used: No such file"),
        (["tls://localhost:1", "--cafile", "/dev/null"], 2, "no certificates in PEM"),
        (["http://localhost:1", "--header", "nonsense"], 2, "write 'Name: value'"),
        (["tcp://localhost:1", "--settle", "0"], 2, "--settle must be more than 0 seconds"),
        (["tcp://127.0.0.1:{echo}", "--hex"], 2, "is not hexadecimal"),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(connect, servers, unused, arguments, status, message):
    filled = [argument.format(nobody=unused, **servers) for argument in arguments]
    found, out, err = connect(*filled, "--send", "zz")
    assert (found, out) == (status, "")
    last = err.splitlines()[-1]
    assert last.startswith("trionet: ")
    assert message in last
    assert len(err.splitlines()) <= 2


@pytest.fixture
def unused() -> Iterator[int]:
    """A port on which nobody listens, and nobody else will."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
