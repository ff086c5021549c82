"""`trionet serve`: a process of its own, real clients, and how it ends; and what it says of mistakes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import trionet
from trionet.cli import main
from trionet.cli.serving.admission import Admission
from trionet.cli.serving.options import Lifetime, Reload
from trionet.cli.serving.reload import make_filter

from ..helpers.logs import logging_restored

ROOT = Path(__file__).parents[2]
PATIENCE = 60

APPLICATION = """
import trio

async def handle(exchange):
    if exchange.path == "/never":
        print("begun", flush=True)
        await trio.sleep_forever()
    await exchange.respond(200, b"hello")

async def echo(connection):
    async for data in connection:
        await connection.send_all(data)

def make():
    return handle

def broken():
    raise RuntimeError("no database")

answer = 42
"""

ASGI_APPLICATION = """
import sys
import trio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            print(kind, flush=True)
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["path"] == "/wait":
        print("waits", flush=True)
        while (await receive())["type"] != "http.disconnect":
            pass
    text = f"{scope['scheme']} {scope['client'][0]} {scope['root_path']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})

async def unhappy(scope, receive, send):
    await receive()
    raise RuntimeError("no database")

async def failing(scope, receive, send):
    raise RuntimeError("no luck")

async def slow_at_the_end(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await trio.sleep_forever()

async def exits(scope, receive, send):
    await receive()
    sys.exit(7)

async def unhappy_at_the_end(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise RuntimeError("disk full")

def make():
    return app

def wsgi(environ, start_response):
    pass
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "web.py").write_text(ASGI_APPLICATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in os.environ if name.startswith("TRIONET_")]:
        monkeypatch.delenv(name)
    with logging_restored():
        yield tmp_path
    for name in ("app", "web", "exits", "raises", "needs", "syntax"):
        sys.modules.pop(name, None)


class Process:
    """The command in a process of its own."""

    def __init__(self, *arguments, **more):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trionet", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        self.said = self.process.stderr.readline()

    @property
    def port(self):
        return int(self.said.rpartition(":")[2])

    def line(self):
        return self.process.stderr.readline()

    def end(self, number=None):
        """The exit status, and what it has printed on stdout and said on stderr since its first line."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        assert "Traceback" not in err, err
        return self.process.returncode, out, err


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def start(*arguments, **more):
            process = Process(*arguments, **more)
            stack.enter_context(process.process)
            stack.callback(process.process.kill)
            return process

        yield start


def receive_all(client):
    data = b""
    with client:
        while chunk := client.recv(65536):
            data += chunk
    return data


def request(path="/", fields=""):
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n".encode("ascii")


def get(port, path="/", fields=""):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(request(path, fields))
        return receive_all(client)


# --- serving, and the end of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_says_where_it_listens_serves_and_ends_by_a_signal(start, number, status):
    process = start("serve", "app:handle", "--port", "0")
    assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+\n", process.said)
    assert get(process.port, "/a?b=c").startswith(b"HTTP/1.1 200 OK\r\n")
    ended, out, err = process.end(number)
    assert ended == status
    assert re.fullmatch(r'INFO:     127\.0\.0\.1:\d+ - "GET /a\?b=c HTTP/1\.1" 200 OK\n', out)
    assert re.fullmatch(rf"{number.name}: ending, with \d connections?, within 30 s; .*\n", err)


def test_one_address_has_so_many_connections(start):
    process = start("serve", "app:handle", "--port", "0", "--limit-connections-per-address", "1")
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(ConnectionError):
            assert get(process.port) == b""
    _, _, err = process.end(signal.SIGTERM)
    assert "(max_connections_per_address)" in err


def test_a_rate_that_cannot_be_right(capsys):
    assert main(["serve", "app:handle", "--port", "0", "--limit-min-rate", "-1"]) == 2
    assert "--limit-min-rate must be a finite number of bytes per second" in capsys.readouterr().err


def test_behind_a_proxy_that_names_its_clients(start):
    process = start("asgi", "web:app", "--port", "0", "--proxy-protocol", "127.0.0.1")
    for first, answer in ((b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n", b"http 192.0.2.1  /"), (b"", b"")):
        with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) as client:
            client.sendall(first + request("/", "X-Forwarded-For: 6.6.6.6\r\n"))
            with contextlib.suppress(ConnectionResetError):
                assert receive_all(client)[-len(answer) :] == answer
    ended, out, err = process.end(signal.SIGTERM)
    assert ended == 0
    assert out.count("192.0.2.1:5 - ") == 1
    assert "no PROXY header from 127.0.0.1:" in err


@pytest.mark.parametrize("peers", ["", "nobody"])
def test_proxies_that_cannot_be_right(peers, capsys):
    assert main(["serve", "app:handle", "--port", "0", "--proxy-protocol", peers]) == 2
    assert "--proxy-protocol: proxy_protocol " in capsys.readouterr().err


def test_what_had_to_be_forced_is_exit_status_1(start):
    process = start("serve", "app:handle", "--port", "0", "--timeout-graceful-shutdown", "0.1")
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) as client:
        client.sendall(request("/never"))
        assert process.process.stdout.readline() == "begun\n"
        ended, _, err = process.end(signal.SIGTERM)
    assert ended == 1
    assert "WARNING:  drained: " in err


def test_a_second_signal_is_128_and_its_number(start):
    process = start("serve", "app:handle", "--port", "0")
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) as client:
        client.sendall(request("/never"))
        assert process.process.stdout.readline() == "begun\n"
        process.process.send_signal(signal.SIGTERM)
        assert process.line().startswith("SIGTERM: ending")
        ended, _, _ = process.end(signal.SIGTERM)
    assert ended == 128 + signal.SIGTERM


def test_after_so_many_requests_it_ends_by_itself(start):
    process = start("serve", "app:handle", "--port", "0", "--limit-max-requests", "2")
    assert get(process.port).endswith(b"hello")
    assert get(process.port).endswith(b"hello")
    ended, out, err = process.end()
    assert (ended, err) == (0, "INFO:     ending: 2 requests were answered\n")
    assert out.count("200 OK") == 2


def test_a_handler_of_connections(start):
    process = start("serve", "app:echo", "--protocol", "tcp", "--port", "0")
    assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+\n", process.said)
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) as client:
        client.sendall(b"ping")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"ping"
    assert process.end(signal.SIGTERM)[0] == 0


def test_several_hosts_have_one_port(start):
    process = start("serve", "app:handle", "--port", "0", "--host", "127.0.0.1", "--host", "127.0.0.2")
    port = process.port
    assert process.said == f"listening on http://127.0.0.1:{port}, http://127.0.0.2:{port}\n"


def test_a_unix_socket_is_for_everybody_and_goes_away(start, folder):
    process = start("serve", "app:handle", "--uds", "s")
    assert process.said == "listening on s\n"
    assert (folder / "s").stat().st_mode & 0o777 == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect("s")
        client.sendall(request())
        assert receive_all(client).endswith(b"hello")
    assert process.end(signal.SIGTERM)[0] == 0
    assert not (folder / "s").exists()


def test_an_inherited_descriptor(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        process = start("serve", "app:handle", "--fd", str(fd), pass_fds=[fd])
        assert process.port == listener.getsockname()[1]
        assert get(process.port).endswith(b"hello")
        assert process.end(signal.SIGTERM)[0] == 0


def test_requests_that_are_too_many_get_a_503(start):
    process = start("serve", "app:handle", "--port", "0", "--limit-concurrency", "1")
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) as client:
        client.sendall(request("/never"))
        assert process.process.stdout.readline() == "begun\n"
        answer = get(process.port)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 1\r\n" in answer


def test_the_health_path(start):
    process = start("serve", "app:handle", "--port", "0", "--health-path", "/healthz")
    assert get(process.port, "/healthz").endswith(b"\r\n\r\nok\n")
    assert get(process.port, "/health").endswith(b"hello")


async def test_a_server_that_drains_says_so_on_the_health_path():
    async def handle(exchange):
        await exchange.respond(200, b"hello")

    server = None
    admission = Admission(Lifetime(health_path="/healthz"), lambda: None, lambda: not server.addresses)
    serve = partial(trionet.serve_http, admission.in_front_of(handle), 0, host="127.0.0.1")
    async with trio.open_nursery() as nursery, trionet.open_http_client() as client:
        server = await nursery.start(serve)
        url = f"http://127.0.0.1:{server.port}/healthz"
        async with client.request("GET", url) as response:
            assert (response.status, await response.read()) == (200, b"ok\n")
        nursery.start_soon(server.drain, 60)
        await trio.testing.wait_all_tasks_blocked()
        async with client.request("GET", url) as response:
            assert (response.status, await response.read()) == (503, b"ending\n")


# --- ASGI ---------------------------------------------------------------------------------------------------------


def test_an_asgi_application_with_its_lifespan(start):
    process = start("asgi", "web:make", "--factory", "--port", "0", "--root-path", "/api", "--header", "X-One:1")
    answer = get(process.port, "/a?b", "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n")
    assert answer.endswith(b"https 192.0.2.1 /api /api/a")
    assert b"\r\nx-one: 1\r\n" in answer.lower()
    assert b"\r\nserver: trionet\r\n" in answer.lower()
    ended, out, _ = process.end(signal.SIGTERM)
    assert ended == 0
    began, access, end = out.splitlines()
    assert (began, end) == ("lifespan.startup", "lifespan.shutdown")
    assert re.fullmatch(r'INFO:     192\.0\.2\.1:\d+ - "GET /a\?b HTTP/1\.1" 200 OK', access)


def test_fields_of_nobody_who_is_trusted_and_no_fields_of_its_own(start):
    more = ("--no-proxy-headers", "--no-server-header", "--no-date-header", "--lifespan", "off", "--health-path", "/up")
    process = start("asgi", "web:app", "--port", "0", *more)
    answer = get(process.port, "/a", "X-Forwarded-For: 192.0.2.1\r\n")
    assert answer.endswith(b"http 127.0.0.1  /a")
    assert b"server:" not in answer.lower()
    assert b"date:" not in answer.lower()
    assert get(process.port, "/up").endswith(b"ok\n")
    assert process.end(signal.SIGTERM)[1].count("lifespan") == 0


def test_the_health_path_below_a_root_path(start):
    process = start("asgi", "web:app", "--port", "0", "--root-path", "/api", "--health-path", "/up")
    for path in ("/up", "/api/up"):
        assert get(process.port, path).endswith(b"\r\n\r\nok\n")


def test_the_health_path_is_neither_limited_nor_counted(start):
    limits = ("--limit-concurrency", "1", "--limit-max-requests", "2")
    process = start("asgi", "web:app", "--port", "0", "--health-path", "/up", *limits)
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) as busy:
        busy.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert process.process.stdout.readline() == "lifespan.startup\n"
        assert process.process.stdout.readline() == "waits\n"
        assert get(process.port).startswith(b"HTTP/1.1 503 ")
        for _ in range(3):
            assert get(process.port, "/up").endswith(b"\r\n\r\nok\n")
    while get(process.port).startswith(b"HTTP/1.1 503 "):
        pass  # it learns of the client's end in its own time
    status, out, err = process.end()
    assert (status, err) == (0, "INFO:     ending: 2 requests were answered\n")
    assert out.count("/up") == 3


def test_an_asgi_server_ends_after_so_many_requests(start):
    process = start("asgi", "web:app", "--port", "0", "--limit-max-requests", "2", "--no-access-log")
    get(process.port)
    get(process.port)
    ended, out, err = process.end()
    assert (ended, out) == (0, "lifespan.startup\nlifespan.shutdown\n")
    assert err == "INFO:     ending: 2 requests were answered\n"


def test_an_application_that_does_not_start_is_exit_status_3(folder, capsys):
    assert main(["asgi", "web:unhappy", "--port", "0", "--lifespan", "on"]) == 3
    said = capsys.readouterr().err
    assert 'raise RuntimeError("no database")' in said
    assert "/trionet/" not in said
    assert said.splitlines()[-1].startswith("trionet: ")


def test_a_shutdown_that_fails_is_exit_status_1(start):
    process = start("asgi", "web:unhappy_at_the_end", "--port", "0")
    process.process.send_signal(signal.SIGTERM)
    _, err = process.process.communicate(timeout=PATIENCE)
    assert process.process.returncode == 1
    assert 'raise RuntimeError("disk full")' in err
    assert err.splitlines()[-1] == "trionet: the application failed in its lifespan: disk full"


def test_a_shutdown_that_was_cut_off_is_exit_status_1_and_is_said(start):
    process = start("asgi", "web:slow_at_the_end", "--port", "0", "--timeout-graceful-shutdown", "0.1")
    status, _, err = process.end(signal.SIGTERM)
    assert status == 1
    assert "WARNING:  what the program does behind its servers' end was cut off: it took longer than the 0.1 s" in err


def test_an_application_that_exits_while_it_starts_chooses_the_exit_status(folder):
    (folder / "exits.py").write_text("import sys\nsys.exit(7)\n")
    for target in ("web:exits", "exits:app"):
        with pytest.raises(SystemExit) as ended:
            main(["asgi", target, "--port", "0"])
        assert ended.value.code == 7


def test_an_unknown_command_is_one_line(capsys):
    assert main(["asgj"]) == 2
    assert capsys.readouterr().err.endswith("(see trionet --help)\n")


EXIT_STATUSES = {
    "0": "SIGTERM, or `--limit-max-requests`",
    "1": "something had to be forced at the end (the log says what), or it has failed: a port in use, a shutdown that "
    "raises",
    "2": "a mistake on the command line, which is one line with its remedy",
    "3": "an application that has not started: it raises when it is imported, or its lifespan has failed",
    "130": "SIGINT",
    "128 + n": "a second signal, of the number n",
    "n": "the application calls `sys.exit(n)` while it starts",
}
"""Each of them has a test above."""


def test_the_table_of_exit_statuses_has_all_of_them():
    page = (ROOT / "docs" / "command.md").read_text()
    table = page.partition("| exit status |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)) == {"---": "---", **EXIT_STATUSES}


def test_an_empty_list_of_proxies_is_nobody_also_beside_the_environment(start):
    more = {"env": {"FORWARDED_ALLOW_IPS": "*"}}
    process = start("asgi", "web:app", "--port", "0", "--forwarded-allow-ips", "", **more)
    assert get(process.port, "/", "X-Forwarded-For: 192.0.2.1\r\n").endswith(b"http 127.0.0.1  /")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["web:wsgi"], "app must be an ASGI application, .* is a WSGI application, which needs an adapter"),
        (["web:make"], r"app must be an ASGI application, .* call it \(on the command line: --factory\)"),
        (["web:app", "--root-path", "api"], "root_path must begin with a slash; write '/api', not 'api'"),
        (["web:app", "--header", "X"], "--header 'X' must be Name:Value, as in 'X-Frame-Options:DENY'"),
        (["web:app", "--forwarded-allow-ips", "1.2.3"], ".*1.2.3.*"),
        (["web:app", "--ws-max-size", "-1"], r"--ws-max-size must be at least 1 \(leave it out: 1048576\), not -1"),
        (["web:app", "--ws-ping-interval", "0"], r"--ws-ping-interval must be more than 0 seconds \(.*\), not 0.0"),
        (
            ["web:app", "--h11-max-incomplete-event-size", "0"],
            r"--h11-max-incomplete-event-size must be at least 64 .*",
        ),
        (["web:app", "--http2"], "--http2 is not there: .*"),
        (["web:app", "--interface", "wsgi"], "--interface wsgi is not there: .*"),
        (
            ["web:app", "--limit-concurrency", "0"],
            r"--limit-concurrency must be at least 1 \(leave it out: no limit\), not 0",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_about_an_asgi_application_is_one_line(folder, capsys, arguments, message):
    assert main(["asgi", *arguments, "--port", "0"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"trionet: {message}", said)


def uvicorn_options():
    """Its options, each with a value if it takes one."""
    values = {"INTEGER": "1", "FLOAT": "1", "BOOLEAN": "true", "TEXT": "a:b", "PATH": "p"}
    special = {
        "--ssl-version": "17",
        "--loop": "auto",
        "--lifespan": "on",
        "--log-level": "info",
        "--interface": "auto",
    }
    environment = {**os.environ, "COLUMNS": "300"}
    command = [sys.executable, "-m", "uvicorn", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    for name, negative, kind in re.findall(
        r"^  (--[a-z0-9-]+)(?: / (--[a-z0-9-]+))? *(\[[^\]]*\]|[A-Z]+)?(?: |$)", shown, re.MULTILINE
    ):
        if name not in ("--help", "--version", "--reload"):  # which has tests of its own
            yield [name, *([special.get(name) or values.get(kind) or "auto"] if kind else [])]
            if negative:
                yield [negative]


def test_every_option_of_uvicorn_works_or_is_ignored_or_refused_with_its_reason(folder, capsys):
    """Each is given to the command together with the mistake of an application that is not there, found last."""
    options = list(uvicorn_options())
    assert len(options) > 50
    for option in options:
        assert main(["asgi", "nothing.of:this", *option, *([] if option[0] == "--port" else ["--port", "0"])]) == 2
        said = capsys.readouterr().err
        assert "Unknown option" not in said
        assert "'nothing.of:this'" in said or f"trionet: {option[0]}" in said, (option, said)


# --- TLS ----------------------------------------------------------------------------------------------------------


def issue(ca, folder):
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))


def serial(port, client_context):
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    with client_context.wrap_socket(plain, server_hostname="localhost") as client:
        return client.getpeercert()["serialNumber"]


def test_a_certificate_is_read_anew_at_sighup_and_a_broken_one_changes_nothing(start, folder):
    ca = trustme.CA()
    context = ssl.create_default_context()
    ca.configure_trust(context)
    issue(ca, folder)
    process = start("serve", "app:handle", "--port", "0", "--ssl-certfile", "cert.pem", "--ssl-keyfile", "key.pem")
    assert process.said.startswith("listening on https://127.0.0.1:")
    first = serial(process.port, context)
    issue(ca, folder)
    process.process.send_signal(signal.SIGHUP)
    assert process.line() == "INFO:     the certificate was read anew from cert.pem\n"
    second = serial(process.port, context)
    (folder / "cert.pem").write_text("nothing")
    process.process.send_signal(signal.SIGHUP)
    assert process.line().startswith("ERROR:    the certificate stays as it was: certificate cert.pem and key key.pem")
    assert serial(process.port, context) == second != first
    assert process.end(signal.SIGTERM)[0] == 0


def make_files(folder):
    ca = trustme.CA()
    issue(ca, folder)
    (folder / "other.pem").write_bytes(ca.issue_cert("localhost").private_key_pem.bytes())
    key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
    encrypted = BestAvailableEncryption(b"secret")
    (folder / "locked.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted))
    (folder / "both.pem").write_bytes((folder / "locked.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    return ca


@pytest.mark.parametrize("files", ["--ssl-certfile cert.pem --ssl-keyfile locked.pem", "--ssl-certfile both.pem"])
def test_a_key_with_a_password(start, folder, files):
    context = ssl.create_default_context()
    make_files(folder).configure_trust(context)
    process = start("serve", "app:handle", "--port", "0", *files.split(), "--ssl-keyfile-password", "secret")
    assert serial(process.port, context)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--ssl-certfile cert.pem --ssl-keyfile locked.pem", "the key in locked.pem has a password: give it with .*"),
        (
            "--ssl-certfile cert.pem --ssl-keyfile locked.pem --ssl-keyfile-password no",
            ".*: the password does not open the key: see --ssl-keyfile-password",
        ),
        (
            f"--ssl-certfile cert.pem --ssl-keyfile locked.pem --ssl-keyfile-password {'x' * 2000}",
            "--ssl-keyfile-password: .*1024.*",
        ),
        ("--ssl-certfile cert.pem --ssl-keyfile other.pem", ".* cannot be used: key values mismatch"),
        ("--ssl-certfile cert.pem", ".*: there is no private key in cert.pem: see --ssl-keyfile"),
        ("--ssl-certfile key.pem", ".*: there is no certificate in key.pem"),
        ("--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-ca-certs key.pem", ".*key.pem: there is no cert.* in it"),
        (
            "--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-ca-certs no.pem",
            "--ssl-ca-certs no.pem: No such file .*",
        ),
        (
            "--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-cert-reqs 2",
            "--ssl-cert-reqs 2 needs --ssl-ca-certs, .*",
        ),
        ("--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-cert-reqs 3", "--ssl-cert-reqs must be 0, 1 or 2, not 3"),
        ("--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-ciphers no", "--ssl-ciphers 'no': OpenSSL knows none .*"),
        ("--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-version 3", "--ssl-version 3 is not there: .*"),
        ("--ssl-ca-certs ca.pem", "--ssl-ca-certs needs --ssl-certfile: without a certificate there is no TLS"),
        ("--ssl-cert-reqs 2", "--ssl-cert-reqs needs --ssl-certfile: without a certificate there is no TLS"),
    ],
)
def test_a_mistake_about_tls_is_one_line(folder, capsys, arguments, message):
    make_files(folder)
    assert main(["serve", "app:handle", "--port", "0", *arguments.split()]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"trionet: {message}", said)


# --- logs ---------------------------------------------------------------------------------------------------------


def test_the_access_log_as_json_without_queries(start):
    process = start("serve", "app:handle", "--port", "0", "--access-log-format", "json", "--no-access-log-query")
    get(process.port, "/a?secret=1")
    _, out, _ = process.end(signal.SIGTERM)
    record = json.loads(out)
    assert (record["method"], record["target"], record["status"]) == ("GET", "/a", 200)
    assert record["client"].startswith("127.0.0.1:")
    assert record["seconds"] >= 0


def test_no_access_log(start):
    process = start("serve", "app:handle", "--port", "0", "--no-access-log")
    get(process.port)
    assert process.end(signal.SIGTERM)[1] == ""


def test_colours_if_they_are_asked_for(start):
    process = start("serve", "app:handle", "--port", "0", "--use-colors")
    get(process.port)
    assert process.end(signal.SIGTERM)[1].startswith("\x1b[32mINFO\x1b[0m:     127.0.0.1:")


def test_logging_from_a_file(start, folder):
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(name)s!%(message)s"}},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
        "loggers": {"trionet.access": {"level": "INFO", "handlers": ["out"]}},
    }
    (folder / "logs.json").write_text(json.dumps(config))
    process = start("serve", "app:handle", "--port", "0", "--log-config", "logs.json")
    get(process.port)
    assert process.end(signal.SIGTERM)[1].startswith('trionet.access!127.0.0.1 "GET / HTTP/1.1" 200 ')


@pytest.mark.parametrize("logs", [["--no-access-log"], ["--no-access-log-query"], ["--log-level", "warning"]])
def test_other_options_count_beside_a_file_of_logging(folder, capsys, logs):
    handlers = {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}
    config = {"version": 1, "disable_existing_loggers": False, "handlers": handlers}
    config["loggers"] = {"trionet": {"level": "INFO", "handlers": ["out"]}}
    (folder / "logs.json").write_text(json.dumps(config))
    assert main(["serve", "nothing:there", "--log-config", "logs.json", *logs]) == 2
    parts = {"client": ("1.1.1.1", 1), "method": "GET", "target": "/a?b", "http_version": "1.1", "status": 200}
    shown = ("1.1.1.1:1", "GET", "/a?b", "1.1", 200)
    logging.getLogger("trionet.access").info('%s - "%s %s HTTP/%s" %d', *shown, extra={"access": parts})
    expected = "" if logs[0] != "--no-access-log-query" else '1.1.1.1:1 - "GET /a HTTP/1.1" 200\n'
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_output_that_nobody_reads_any_more_is_lost_and_the_server_goes_on(start, closed):
    process = start("asgi", "web:failing", "--port", "0", "--lifespan", "off")
    port = process.port
    if closed != "stderr":
        process.process.stdout.close()
    if closed != "stdout":
        process.process.stderr.close()
    for _ in range(2):
        assert get(port).startswith(b"HTTP/1.1 500 ")
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(PATIENCE) == 0
    if closed == "stdout":
        assert "BrokenPipeError" not in process.process.stderr.read()


def test_output_that_was_never_there(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"exec {sys.executable} -m trionet asgi web:nothing >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], env=environment, check=False, timeout=PATIENCE).returncode == 2


def test_fields_of_the_environment_stand_one_a_line(start):
    fields = {"TRIONET_HEADER": "X-One: a b; c\nX-Two: d"}
    process = start("asgi", "web:app", "--port", "0", env=fields)
    answer = get(process.port).lower()
    assert b"\r\nx-one: a b; c\r\n" in answer
    assert b"\r\nx-two: d\r\n" in answer


# --- where options come from ---------------------------------------------------------------------------------------


def test_option_environment_file_and_configuration_in_this_order(start, folder):
    (folder / "env").write_text("TRIONET_HEALTH_PATH=/from-env-file\nTRIONET_ACCESS_LOG=false\n")
    (folder / "trionet.toml").write_text('port = 0\nhealth-path = "/from-config"\nhost = ["127.0.0.2"]\n')
    more = ["--config", "trionet.toml", "--env-file", "env"]
    process = start("serve", "app:handle", *more, env={"TRIONET_ACCESS_LOG": "true"})
    assert process.said.startswith("listening on http://127.0.0.2:")
    with socket.create_connection(("127.0.0.2", process.port), timeout=PATIENCE) as client:
        client.sendall(request("/from-env-file"))
        assert receive_all(client).endswith(b"ok\n")
    assert "200 OK" in process.end(signal.SIGTERM)[1]
    process = start("serve", "app:handle", *more, "--health-path", "/from-option")
    with socket.create_connection(("127.0.0.2", process.port), timeout=PATIENCE) as client:
        client.sendall(request("/from-option"))
        assert receive_all(client).endswith(b"ok\n")


def test_a_pid_file_for_as_long_as_it_runs(start, folder):
    process = start("serve", "app:make", "--factory", "--port", "0", "--pid-file", "pid")
    assert (folder / "pid").read_text() == f"{process.process.pid}\n"
    assert get(process.port).endswith(b"hello")
    assert process.end(signal.SIGTERM)[0] == 0
    assert not (folder / "pid").exists()


# --- reloading ----------------------------------------------------------------------------------------------------


def test_a_change_starts_the_application_anew_and_a_syntax_error_waits_for_the_next(start, folder):
    process = start("serve", "app:handle", "--port", "0", "--reload", "--reload-delay", "0.05")
    port = process.port
    assert get(port).endswith(b"hello")
    (folder / "app.py").write_text(APPLICATION.replace('b"hello"', 'b"changed"'))
    assert process.line() == "reloading: app.py\n"
    assert process.line().startswith("listening on ")
    assert get(port).endswith(b"changed")
    (folder / "app.py").write_text("def (")
    said = [process.line()]
    while "waiting for a change" not in said[-1]:
        said.append(process.line())
    assert said[0] == "reloading: app.py\n"
    assert said[-1] == "the application has ended (exit status 3); waiting for a change\n"
    assert any(line.startswith("trionet: 'app:handle' is not Python: ") for line in said)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:  # the listener has stayed open
        client.sendall(request())
        (folder / "app.py").write_text(APPLICATION)
        assert receive_all(client).endswith(b"hello")
    process.process.send_signal(signal.SIGTERM)
    out, err = process.process.communicate(timeout=PATIENCE)
    assert process.process.returncode == 0, (out, err)


@pytest.mark.parametrize(
    ("options", "counted", "not_counted"),
    [
        ({}, ["a.py", "b/a.py"], ["a.txt", ".a.py", ".venv/a.py", "b/.git/a.py", "a.pyc"]),
        ({"reload_exclude": ("b",)}, ["a.py", "c/a.py"], ["b/a.py", "b/c/a.py", "c/b/a.py"]),
        ({"reload_exclude": ("b/c/",)}, ["c/a.py", "b/a.py"], ["b/c/a.py", "b/c/d/a.py"]),
        ({"reload_exclude": ("./b/c", "test_*")}, ["a.py"], ["b/c/a.py", "test_a.py"]),
        ({"reload_exclude": ("b",), "reload_include": ("*.txt", "b/keep")}, ["a.txt", "b/keep/a"], ["b/a.py", "a.md"]),
    ],
)
def test_which_changes_count(folder, options, counted, not_counted):
    counts = make_filter(Reload(**options), (folder,))
    assert [name for name in counted + not_counted if counts(1, str(folder / name))] == counted


def test_an_absolute_folder_is_left_out(folder):
    (folder / "b").mkdir()
    counts = make_filter(Reload(reload_exclude=(str(folder / "b"),)), (folder,))
    assert counts(1, str(folder / "a.py"))
    assert not counts(1, str(folder / "b" / "c" / "a.py"))


def test_a_parent_that_reloads_does_so_at_sighup_and_ends_at_once(start):
    process = start("serve", "app:handle", "--port", "0", "--reload")
    process.process.send_signal(signal.SIGHUP)
    assert process.line() == "reloading: SIGHUP\n"
    assert process.line() == process.said
    assert get(process.port).endswith(b"hello")
    process.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.process.wait(PATIENCE) == 0
    assert time.monotonic() - began < 4  # the thread that watches looks up each 5 s if nobody tells it


def test_a_parent_that_reloads_takes_its_unix_socket_away(start, folder):
    process = start("serve", "app:handle", "--uds", "s", "--reload")
    assert process.said == "listening on s\n"
    assert process.end(signal.SIGTERM)[0] == 0
    assert not (folder / "s").exists()


def test_a_reloaded_child_reads_the_file_of_variables_anew(start, folder):
    (folder / "env").write_text("WORD=one\n")
    source = "import os\n" + APPLICATION.replace('b"hello"', 'os.environ["WORD"].encode()')
    (folder / "app.py").write_text(source)
    process = start("serve", "app:handle", "--port", "0", "--reload", "--reload-delay", "0.05", "--env-file", "env")
    port = process.port
    assert get(port).endswith(b"one")
    (folder / "env").write_text("WORD=two\n")
    (folder / "app.py").write_text(source + "\n")
    assert process.line() == "reloading: app.py\n"
    assert process.line().startswith("listening on ")
    assert get(port).endswith(b"two")


def test_when_the_parent_is_killed_its_child_ends(start, folder):
    process = start("serve", "app:handle", "--port", "0", "--reload", "--pid-file", "pid")
    child = int((folder / "pid").read_text())
    assert child != process.process.pid
    port = process.port
    process.process.kill()
    process.process.communicate(timeout=PATIENCE)  # to its end only when the child has closed them too
    with pytest.raises(ConnectionRefusedError):
        get(port)


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["app"], 2, "'app' must be MODULE:NAME, as in 'main:app' for `app` in main.py"),
        (["nope:app"], 2, r"there is no module 'nope' for 'nope:app', also not in .*: see --app-dir"),
        (["app.py:handle"], 2, "there is no module 'app.py' .*: a module has no '.py' behind its name"),
        (["app:hande"], 2, r"'app:hande': <module 'app' from .*> has no 'hande'; it has broken, echo, handle, make"),
        (["app:answer"], 2, "handler must be an async function, not 42"),
        (["app:answer", "--factory"], 2, "'app:answer' is 42, which cannot be called: leave --factory out"),
        (["app:broken", "--factory"], 3, r"the factory 'app:broken' raised RuntimeError \(see above\)"),
        (["app:handle", "--prot", "tcp"], 2, r"Unknown option: --prot.* \(see trionet serve --help\)"),
        (["app:handle", "--port", "x"], 2, r'.*"--port".*unable to convert "x" into int.*|.*--port.*'),
        (["app:handle", "--port", "70000"], 2, r"--port must be 0 to 65535 \(0: one that is free\), not 70000"),
        (["app:handle", "--fd", "-1"], 2, r"--fd must be at least 0 \(.*\), not -1"),
        (["app:handle", "--backlog", "0"], 2, r"--backlog must be at least 1 \(.*\), not 0"),
        (["app:handle", "--limit-connections", "0"], 2, r"--limit-connections must be at least 1 \(.*\), not 0"),
        (["app:handle", "--limit-max-requests-jitter", "-3"], 2, r"--limit-max-requests-jitter must be at .*, not -3"),
        (
            ["app:handle", "--timeout-graceful-shutdown", "-1"],
            2,
            r"--timeout-graceful-shutdown must be at least 0 seconds \(inf: no limit\), not -1.0",
        ),
        (
            ["app:handle", "--timeout-keep-alive", "nan"],
            2,
            "--timeout-keep-alive must be at least 0 seconds .*, not nan",
        ),
        (["app:handle", "--reload", "--reload-delay", "inf"], 2, "--reload-delay must be a finite number .*, not inf"),
        (["app:handle", "--health-path", "x"], 2, "--health-path must begin with a slash; write '/x', not 'x'"),
        (["app:handle", "--config", "latin"], 2, r"--config latin is not UTF-8 \(byte 1\): save it as UTF-8"),
        (["app:handle", "--env-file", "latin"], 2, r"--env-file latin is not UTF-8 \(byte \d+\): save it as UTF-8"),
        (["app:handle", "--env-file", "nul"], 2, "--env-file nul: embedded null byte"),
        (["app:handle", "--fd", "999"], 2, "--fd 999: Bad file descriptor; it must be a listening socket .*"),
        (["app:handle", "--ssl-certfile", "c"], 2, "the file 'c' is not there: see --ssl-certfile and --ssl-keyfile"),
        (["app:handle", "--ssl-keyfile", "c"], 2, "--ssl-keyfile needs --ssl-certfile, the certificate of that key"),
        (["app:handle", "--workers", "2"], 2, "--workers 2 is not there yet: .*"),
        (["app:handle", "--config", "c"], 2, "--config c: No such file or directory"),
        (["app:handle", "--config", "bad.toml"], 2, "--config bad.toml is not TOML: .*"),
        (
            ["app:handle", "--config", "odd.toml"],
            2,
            "--config odd.toml: there is no option 'prot'; did you mean 'port'.?",
        ),
        (["app:handle", "--env-file", "c"], 2, "--env-file c: there is no such file"),
        (["app:handle", "--log-config", "c.json"], 2, "--log-config c.json: No such file or directory"),
        (["app:handle", "--log-config", "c.ini"], 2, "--log-config c.ini: No such file or directory"),
        (["app:handle", "--log-config", "bad.toml"], 2, "--log-config bad.toml: .*"),
        (["app:handle", "--reload", "--reload-dir", "x"], 2, "--reload-dir x: there is no such folder"),
        (["app:handle", "--pid-file", "no/pid"], 1, "--pid-file no/pid: No such file or directory"),
        (["raises:handle"], 3, r"importing 'raises' raised ZeroDivisionError \(see above\)"),
        (["needs:handle"], 3, "'needs:handle' needs the module 'not_there', which is not installed"),
        (["syntax:handle"], 3, r"'syntax:handle' is not Python: .* \(.*syntax\.py:1\)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_its_remedy(folder, capsys, arguments, status, message):
    (folder / "raises.py").write_text("def fail():\n    1 / 0\n\nfail()\n")
    (folder / "needs.py").write_text("import not_there\n")
    (folder / "syntax.py").write_text("def (\n")
    (folder / "latin").write_bytes(b"#\xe9")
    (folder / "nul").write_bytes(b"TRIONET_X=a\0b")
    (folder / "bad.toml").write_text("= 3")
    (folder / "odd.toml").write_text("prot = 3")
    if "999" not in arguments and "70000" not in arguments:
        arguments = [*arguments, *([] if "--port" in arguments else ["--port", "0"])]
    assert main(["serve", *arguments]) == status
    *before, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"trionet: {message}", last)
    assert not before or status == 3
    assert not any("importlib" in line or "/trionet/cli/" in line for line in before)


@pytest.mark.parametrize("more", [[], ["--reload"], ["--app-dir", "x"]])
def test_a_working_directory_that_was_deleted_is_one_line(folder, capsys, monkeypatch, more):
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    assert main(["serve", "app:handle", "--port", "0", *more]) == 2
    assert capsys.readouterr().err.startswith("trionet: the working directory is not there any more: ")


def test_a_port_in_use_is_named(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "app:handle", "--port", str(port)]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def test_a_port_variable_of_a_container_platform_is_explained(folder, capsys, monkeypatch):
    monkeypatch.setenv("TRIONET_PORT", "tcp://10.0.0.1:80")
    assert main(["serve", "app:handle"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("trionet: TRIONET_PORT is 'tcp://10.0.0.1:80', which a container platform sets")
    assert said.count("\n") == 1
