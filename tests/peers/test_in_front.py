"""The configurations of docs/in-front.md, with a real nginx and a real HAProxy in front of two servers."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
from pathlib import Path

import pytest
import trio

import trionet

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "in_front"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
PROGRAMS = {name: shutil.which(name, path=PATH) for name in ("nginx", "haproxy")}
CURL = shutil.which("curl")

both = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(name, marks=pytest.mark.skipif(path is None, reason=f"{name} is not installed"))
        for name, path in PROGRAMS.items()
    ],
)


def free_ports(count):
    with_them = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in with_them]
    for sock in with_them:
        sock.close()
    return ports


class Behind:
    """Two servers, which can be restarted, and the proxy in front of them."""

    def __init__(self, nursery, kind, ca, folder):
        self.nursery = nursery
        self.kind = kind
        self.port, *self.ports = free_ports(3)
        self.servers: dict[int, trionet.Server] = {}
        self.answered = dict.fromkeys(self.ports, 0)
        self.folder = folder
        self.context = ssl.create_default_context()
        ca.configure_trust(self.context)
        ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "site.pem")
        ca.cert_pem.write_to_path(folder / "ca.pem")

    async def start_server(self, port):
        async def handler(exchange):
            await self.answer(exchange, port)

        limits = trionet.Limits(idle_grace=0.2)
        serve = lambda task_status: trionet.serve_http(  # noqa: E731
            handler, port, host="127.0.0.1", limits=limits, task_status=task_status
        )
        self.servers[port] = await self.nursery.start(serve)

    async def answer(self, exchange, port):
        if exchange.path == "/health":
            await exchange.respond(503 if self.servers[port].draining else 200)
        elif exchange.wants_websocket:
            ws = await exchange.upgrade(trionet.to_websocket_server())
            async for message in ws:
                await ws.send_message(message)
        elif exchange.path == "/events":
            async with exchange.stream(200, headers=[("Content-Type", "text/event-stream")]) as stream:
                await stream.send(b"data: 1\n\n")
                await trio.sleep_forever()
        else:
            body = await exchange.read(max_bytes=2**23)
            self.answered[port] += 1
            names = ("x-forwarded-for", "x-forwarded-proto", "host")
            told = " ".join(exchange.headers.get(name, "-") for name in names)
            await exchange.respond(200, f"{exchange.method} {len(body)} {told}\n".encode())

    async def start(self):
        for port in self.ports:
            await self.start_server(port)
        command = self.nginx() if self.kind == "nginx" else self.haproxy()
        await self.nursery.start(trio.run_process, command)
        with trio.fail_after(20):
            while True:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    await trio.sleep(0.01)
                else:
                    await stream.aclose()
                    return

    def configuration(self, name):
        text = (FOLDER / name).read_text(encoding="utf-8")
        here = {"8443": self.port, "8000": self.ports[0], "8001": self.ports[1], "/etc/ssl/site.pem": "site.pem"}
        for theirs, ours in here.items():
            text = re.sub(rf"{re.escape(theirs)}\b", str(ours if theirs[0] != "/" else self.folder / str(ours)), text)
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def nginx(self):
        kept = "".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
        path = Path(self.configuration("nginx.conf"))
        path.write_text(path.read_text().replace("http {", f"http {{ client_body_temp_path {self.folder}/body; {kept}"))
        there = f"daemon off; master_process off; pid {self.folder}/pid; error_log {self.folder}/errors;"
        return [PROGRAMS["nginx"], "-p", str(self.folder), "-c", str(path), "-g", there]

    def haproxy(self):
        return [PROGRAMS["haproxy"], "-db", "-q", "-f", self.configuration("haproxy.cfg")]

    async def restart(self, port):
        await self.servers[port].drain(10)
        await self.start_server(port)


@pytest.fixture
async def behind(nursery, kind, ca, tmp_path):
    it = Behind(nursery, kind, ca, tmp_path)
    await it.start()
    return it


@both
@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["http2", "http1.1"])
async def test_a_browser_protocol_in_front_and_what_the_server_is_told(behind, version):
    command = [
        CURL,
        "-s",
        f"--{version}",
        "--cacert",
        str(behind.folder / "ca.pem"),
        "-w",
        "%{http_version}",
        "-d",
        "abc",
    ]
    done = await trio.run_process([*command, f"https://localhost:{behind.port}/"], capture_stdout=True)
    number = version.removeprefix("http")
    assert re.fullmatch(rf"POST 3 (127.0.0.1|::1) https localhost:{behind.port}\n{number}", done.stdout.decode())


@both
async def test_connections_to_the_servers_are_kept(behind):
    async with trionet.open_http_client(ssl_context=behind.context) as client:
        for _ in range(20):
            await ask(client, behind)
    asking = [server.statistics().accepted for server in behind.servers.values()]
    if behind.kind == "nginx":
        assert sum(asking) <= 4
    assert sum(behind.answered.values()) == 20


async def ask(client, behind, method="GET", **options):
    async with client.request(method, f"https://localhost:{behind.port}/", **options) as response:
        text = await response.read()
        assert response.status == 200
        return text.decode()


@both
async def test_what_goes_on_for_long_arrives_as_it_is_sent(behind):
    async with trionet.open_http_client(ssl_context=behind.context) as client:
        async with client.request("GET", f"https://localhost:{behind.port}/events") as response:
            with trio.fail_after(10):
                async for chunk in response:
                    assert chunk == b"data: 1\n\n"
                    break
        url = f"wss://localhost:{behind.port}/"
        async with trionet.open_websocket(url, ssl_context=behind.context) as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
        assert await ask(client, behind, "POST", content=b"x" * 3_000_000) == f"POST 3000000 {told(behind)}"


def told(behind):
    return f"127.0.0.1 https localhost:{behind.port}\n"


@both
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.soak)])
async def test_a_restart_of_one_server_after_the_other_is_noticed_by_nobody(behind, times):
    """Seen from outside: no request fails, and every WebSocket is closed as it should be."""
    done, closed = dict.fromkeys(("kept", "single", "upload"), 0), []

    async def keeps_asking(kind, **options):
        async with trionet.open_http_client(ssl_context=behind.context) as client:
            while True:
                await ask(client, behind, **options)
                done[kind] += 1
                await trio.sleep(0.003)  # a client that thinks: its connection is idle again and again

    async def asks_anew():
        while True:
            async with trionet.open_http_client(ssl_context=behind.context) as client:
                await ask(client, behind)
            done["single"] += 1

    async def chats():
        url = f"wss://localhost:{behind.port}/"
        while True:
            async with trionet.open_websocket(url, ssl_context=behind.context) as ws:
                try:
                    while True:
                        await ws.send_message("hello")
                        assert await ws.get_message() == "hello"
                        await trio.sleep(0.005)
                except trionet.ConnectionClosed as exc:
                    closed.append(exc.reason.code)

    async with trio.open_nursery() as clients:
        for _ in range(4):
            clients.start_soon(keeps_asking, "kept")
            clients.start_soon(chats)
        clients.start_soon(asks_anew)
        clients.start_soon(lambda: keeps_asking("upload", method="POST", content=b"x" * 200_000))
        for port in behind.ports * times:
            before = dict(done)
            await behind.restart(port)
            with trio.fail_after(20):
                while any(done[kind] < before[kind] + 5 for kind in done):
                    await trio.sleep(0.01)
        clients.cancel_scope.cancel()
    assert len(closed) >= 2 * times
    assert {*closed} == {1001}
    assert all(server.statistics().failed == 0 for server in behind.servers.values())


@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg"])
def test_the_page_shows_the_configuration_that_is_tested(name):
    page = (ROOT / "docs" / "in-front.md").read_text(encoding="utf-8")
    shown = re.search(rf"<!-- file: examples/in_front/{re.escape(name)} -->\n```\w+\n(.*?)```\n", page, re.DOTALL)
    assert shown is not None
    assert shown[1] == (FOLDER / name).read_text(encoding="utf-8")
