"""wrk, and the look at each server's answer without which its speed would mean nothing."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from http_peers import Workload
from paired import client_tls
from processes import Started, on_core

SCRIPT = Path(__file__).with_name("wrk.lua")
CLOSE = "Connection: close"

# --- one answer, looked at --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A response, in its parts."""

    status: str
    fields: dict[str, str]
    body: bytes
    size: int
    """All bytes of it."""

    def differences(self, workload: Workload, *, last: bool = False) -> list[str]:
        """How it differs from what was to be answered, as the `last` on its connection or not; empty: not at all."""
        expected = {"content-type": "text/plain", "content-length": str(len(workload.body)), "date": self.date}
        if last:
            expected["connection"] = "close"
        found = [f"status {self.status!r}"] if self.status.split()[:2] != ["HTTP/1.1", "200"] else []
        names = sorted(expected.keys() | self.fields.keys())
        found += [f"{name}: {self.fields.get(name)}" for name in names if self.fields.get(name) != expected.get(name)]
        if self.body != workload.body:
            found.append(f"body of {len(self.body)} bytes that are not those expected")
        return found

    @property
    def date(self) -> str:
        """The date, if it is one."""
        date = self.fields.get("date", "")
        return date if len(date) == len("Sun, 06 Nov 1994 08:49:37 GMT") and date.endswith(" GMT") else "a date"


def request_of(workload: Workload, port: int, fields: Sequence[str] = ()) -> bytes:
    """The same request as wrk's."""
    length = f"Content-Length: {len(workload.body)}\r\n" if workload.echo else ""
    more = "".join(f"{field}\r\n" for field in fields)
    head = f"{workload.method} / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}{more}\r\n"
    return head.encode("ascii") + (workload.body if workload.echo else b"")


def ask(sock: socket.socket, request: bytes) -> Answer:
    """One exchange on a connection. The answer has to have a Content-Length."""
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(fields["content-length"]):
        body += receive(sock)
    if len(fields) != len(lines):
        raise SystemExit(f"a field came twice, or is none: {lines}")
    return Answer(status, fields, body, len(head) + 4 + len(body))


def receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise EOFError("the server ended the connection instead of answering")
    return data


def dial(server: Started, authority: str | None = None) -> socket.socket:
    """A connection to the server, over TLS if there is an authority."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    if authority is None:
        return sock
    return client_tls(authority).wrap_socket(sock, server_hostname="localhost")


def ask_once(sock: socket.socket, request: bytes) -> Answer:
    """The only exchange of a connection, which the server has to end behind its answer."""
    answer = ask(sock, request)
    try:
        rest = sock.recv(1)
    except ssl.SSLEOFError:  # uvicorn and aiohttp leave close_notify out
        rest = b""
    if rest:
        raise SystemExit("more than the answer came")
    return answer


def look(
    name: str,
    server: Started,
    workload: Workload,
    allowed: set[str],
    authority: str | None = None,
    *,
    kept: bool = True,
) -> tuple[str, int]:
    """Ask twice, and refuse a server that answers otherwise than the rest.

    Args:
        allowed: Names of the fields that this server may have besides.
        kept: Whether both requests come on one connection; else each has one, and says that it is the last there.

    Returns:
        What was answered, in a line, and how many bytes that is.
    """
    answers = []
    with closing(dial(server, authority)) as sock:
        if kept:
            answers = [ask(sock, request_of(workload, server.port)) for _ in range(2)]
        else:
            answers = [ask_once(sock, request_of(workload, server.port, (CLOSE,)))]
        tls = f", {sock.version()} {sock.cipher()[0]}" if isinstance(sock, ssl.SSLSocket) else ""  # type: ignore[index]
    if not kept:
        with closing(dial(server, authority)) as sock:
            answers.append(ask_once(sock, request_of(workload, server.port, (CLOSE,))))
    besides = []
    for answer in answers:
        found = answer.differences(workload, last=not kept)
        besides = [each for each in found if each.partition(":")[0] in allowed]
        if wrong := [each for each in found if each not in besides]:
            raise SystemExit(f"{name} does not answer as it should: {'; '.join(wrong)}")
    more = f", with {', '.join(besides)}" if besides else ""
    size, body = answers[0].size, len(answers[0].body)
    return f"{name}: {answers[0].status!r}, head {size - body} + body {body} bytes{more}{tls}", size


# --- wrk --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """How wrk asks."""

    connections: int
    together: int = 1
    """Requests that leave in one piece; the next ones when all are answered."""
    over_tls: bool = False
    fields: tuple[str, ...] = ()
    """Fields that each request has besides, such as ``"Accept: */*"``."""

    @property
    def kept(self) -> bool:
        """Whether a connection carries more than one request; else wrk makes a new one behind each answer."""
        return CLOSE not in self.fields


@dataclass
class Wrk:
    """wrk, run for some seconds on some core."""

    seconds: int
    core: int | None
    commands: list[str] = field(default_factory=list)
    """Each command once, with PORT for the port."""

    @staticmethod
    def version() -> str:
        """What it calls itself; ends the programme if there is none."""
        if shutil.which("wrk") is None:
            raise SystemExit(
                "wrk, which makes the load, is not on the PATH: install it, for instance with 'apt install wrk' or"
                " 'brew install wrk' (https://github.com/wg/wrk)"
            )
        text = subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True).stdout
        return text.partition("[")[0].strip().removeprefix("wrk ")

    def run(self, port: int, workload: Workload, load: Load, expected: int) -> int:
        """How many requests were answered, each with `expected` bytes; anything that went wrong is an error."""
        size = len(workload.body) if workload.echo else 0
        asking = [f"-t1 -c{load.connections} -d{self.seconds}s", f"-s {SCRIPT}"]
        url = f"{'https' if load.over_tls else 'http'}://127.0.0.1:{port}/"
        fields = [part for each in load.fields for part in ("-H", each)]
        arguments = [str(size), str(load.together), "json" if workload.json else "plain"]
        command = on_core(self.core, ["wrk", *" ".join(asking).split(), *fields, url, "--", *arguments])
        shown = " ".join(command).replace(f":{port}/", ":PORT/")
        if shown not in self.commands:
            self.commands.append(shown)
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(printed.splitlines()[-1])
        if any(found["errors"].values()) or not found["requests"] or "Non-2xx" in printed:
            raise SystemExit(f"wrk met errors:\n{shown}\n{printed}")
        at_least = found["requests"] * expected
        on_the_way = load.connections * load.together * expected  # what was there when it stopped
        if not at_least <= found["bytes"] <= at_least + on_the_way:
            raise SystemExit(f"wrk was not answered with {expected} bytes every time:\n{shown}\n{printed}")
        return int(found["requests"])
