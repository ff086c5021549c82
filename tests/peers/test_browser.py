"""WebSockets and an event stream that a browser opens: Chromium, with a page that trionet serves.

The browser runs once. The script of the page opens them to the server that the page is from, and posts what came
of each; a test looks at one of them, from both sides.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio

import trionet
from trionet import to_websocket_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")

FLAGS = [
    "--headless=new",
    "--no-sandbox",  # which root has to say
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers may have little of that
    "--disable-breakpad",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--ignore-certificate-errors",  # of a certificate authority that nobody knows
]
NOISE = random.Random(1).randbytes(500).hex()  # as good as incompressible the first time, and known from then on
REPEATS = 4

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>WebSocket</title>
<script>
const {SECURE, NOISE, REPEATS} = GIVEN;
const LARGE = 1 << 20;

// A WebSocket that is open: its messages in order, and how it is closed.
async function connect(path, protocols = [], base = `ws://${location.host}`) {
  const socket = new WebSocket(base + path, protocols);
  socket.binaryType = "arraybuffer";
  const messages = [], waiting = [];
  let over = false;
  socket.onmessage = (event) => waiting.length ? waiting.shift()(event.data) : messages.push(event.data);
  const closed = new Promise((resolve) => {
    socket.onclose = (event) => {
      over = true;
      for (const wake of waiting) wake(null);
      resolve([event.code, event.reason, event.wasClean]);
    };
  });
  const opened = await Promise.race([new Promise((resolve) => { socket.onopen = () => resolve(true); }), closed]);
  // The next message; null if there is none any more.
  const receive = () => {
    if (messages.length) return messages.shift();
    return over ? null : new Promise((resolve) => waiting.push(resolve));
  };
  return {socket, receive, closed, opened: opened === true};
}

const sameBytes = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

async function isEchoed({socket, receive}, message) {
  socket.send(message);
  const answer = await receive();
  if (typeof message === "string") return answer === message;
  return answer instanceof ArrayBuffer && sameBytes(new Uint8Array(answer), message);
}

function noise(size) {
  const bytes = new Uint8Array(size);
  for (let at = 0, seed = 1; at < size; at++) {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    bytes[at] = seed >> 16;
  }
  return bytes;
}

async function echoes(base) {
  const connection = await connect("/echo", [], base);
  const messages = {
    "text": "ä€😀", "empty text": "", "binary": new Uint8Array([0, 255]), "empty binary": new Uint8Array(),
    "125 bytes": "x".repeat(125), "126 bytes": "x".repeat(126), "65536 bytes": noise(65536),
    "large text": "x".repeat(LARGE), "large binary": noise(LARGE),
  };
  const results = {};
  for (const [name, message] of Object.entries(messages)) results[name] = await isEchoed(connection, message);
  connection.socket.close();
  await connection.closed;
  return results;
}

// What the page reports, by name.
const checks = {
  plain: () => echoes(),
  secure: () => echoes(SECURE),
  async many() {
    const {socket, receive, closed} = await connect("/echo");
    for (let number = 0; number < 1000; number++) socket.send(String(number));
    let inOrder = true;
    for (let number = 0; number < 1000; number++) inOrder &&= await receive() === String(number);
    socket.close();
    await closed;
    return inOrder;
  },
  async subprotocol() {
    const {socket, closed} = await connect("/echo", ["superchat", "chat"]);
    socket.close();
    await closed;
    return socket.protocol;
  },
  async compressed() {
    const connection = await connect("/compressed");
    const extensions = connection.socket.extensions;
    const echoed = [];
    for (let count = 0; count < REPEATS; count++) echoed.push(await isEchoed(connection, NOISE));
    connection.socket.send("now something else");
    await connection.receive();
    for (const message of ["", new Uint8Array(), "short", "x".repeat(LARGE), noise(LARGE), NOISE]) {
      echoed.push(await isEchoed(connection, message));
    }
    connection.socket.close();
    await connection.closed;
    return {extensions, echoed};
  },
  async alone() {
    const connection = await connect("/alone");
    const extensions = connection.socket.extensions;
    const echoed = [];
    for (let count = 0; count < REPEATS; count++) echoed.push(await isEchoed(connection, NOISE));
    connection.socket.close();
    await connection.closed;
    return {extensions, echoed};
  },
  async fragments() {
    const {receive, closed} = await connect("/fragments");
    const messages = [await receive(), [...new Uint8Array(await receive())]];
    await closed;
    return messages;
  },
  async pinged() {
    const {receive, closed} = await connect("/pinged");
    const message = await receive();
    await closed;
    return message;
  },
  async foreign() {
    const {opened, closed} = await connect("/foreign");
    return {opened, closed: await closed};
  },
  async friendly() {
    const {socket, opened, closed} = await connect("/friendly");
    socket.close();
    await closed;
    return opened;
  },
  async close1000() {
    const {socket, closed} = await connect("/closed/1000");
    socket.close(1000, "bye");
    return await closed;
  },
  async close3000() {
    const {socket, closed} = await connect("/closed/3000");
    socket.close(3000, "schön");
    return await closed;
  },
  async closeWithoutCode() {
    const {socket, closed} = await connect("/closed/none");
    socket.close();
    return await closed;
  },
  async events() {
    const source = new EventSource("/events"), seen = [];
    let opened = 0;
    source.onopen = () => opened++;
    source.onmessage = (event) => seen.push([event.lastEventId, event.data]);
    source.addEventListener("tick", (event) => seen.push([event.lastEventId, "tick", JSON.parse(event.data)]));
    await new Promise((resolve) => {
      source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(); };
    });
    return {opened, seen};
  },
  closedByServer1000: async () => await (await connect("/closing/1000")).closed,
  closedByServer3000: async () => await (await connect("/closing/3000")).closed,
  closedByReturning: async () => await (await connect("/returning")).closed,
};

(async () => {
  const report = {};
  await Promise.all(Object.entries(checks).map(async ([name, check]) => {
    try {
      report[name] = await check();
    } catch (error) {
      report[name] = `${error.stack}`;
    }
  }));
  await fetch("/report", {method: "POST", body: JSON.stringify(report)});
})();
</script>
"""


@dataclass
class Browsed:
    """What came of it: as the page reports it, and what the server has seen."""

    page: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)


class App:
    """The server's side. What it has seen goes into `seen`."""

    def __init__(self, secure: str, seen: dict[str, Any]) -> None:
        given = {"SECURE": secure, "NOISE": NOISE, "REPEATS": REPEATS}
        self.page = PAGE.replace("GIVEN", json.dumps(given))
        self.seen = seen
        self.reported = trio.Event()
        self.report: dict[str, Any] = {}
        self.event_ids: list[str | None] = []

    async def __call__(self, exchange: trionet.Exchange) -> None:
        if exchange.wants_websocket:
            await self.upgrade(exchange)
        elif exchange.path == "/":
            await exchange.respond(200, self.page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})
        elif exchange.path == "/events":
            await self.send_events(exchange)
        elif exchange.path == "/report":
            self.report = json.loads(await exchange.read())
            await exchange.respond(204)
            self.reported.set()
        else:
            await exchange.respond(404)

    async def send_events(self, exchange: trionet.Exchange) -> None:
        """A few events at a time: the end of the stream, a lost connection, and the last word."""
        if len(self.event_ids) == 3:
            self.seen["/events"] = self.event_ids
            await exchange.respond(204)
            return
        async with exchange.stream_events(keepalive=0.01) as events:
            self.event_ids.append(events.last_event_id)
            number = len(self.event_ids)
            await events.send(f"number {number}\n{'ä€😀' * 1000}", id=str(number), retry=0.01)
            await trio.sleep(0.05)  # comments come
            await events.send(json={"number": number}, event="tick")
            if number == 2:
                exchange.connection.abort()
                await trio.sleep_forever()

    async def upgrade(self, exchange: trionet.Exchange) -> None:
        path = exchange.path
        match path:
            case "/echo":
                await self.echo(await exchange.upgrade(to_websocket_server(subprotocols=["chat"])))
            case "/compressed":
                await self.count(exchange, trionet.PerMessageDeflate())
            case "/alone":
                alone = {"server_no_context_takeover": True, "client_no_context_takeover": True}
                await self.count(exchange, trionet.PerMessageDeflate(**alone))
            case "/fragments":
                websocket = await exchange.upgrade(to_websocket_server(compression=trionet.PerMessageDeflate()))
                await websocket.send_fragments(["frag", "", "ments ", "ä€😀" * 1000])
                await websocket.send_fragments([b"\0", b"\xff"])
            case "/pinged":
                websocket = await exchange.upgrade(to_websocket_server())
                await websocket.ping()
                await websocket.send_message("behind the pong")
            case "/foreign":
                with pytest.raises(trionet.UpgradeRefusedError) as caught:
                    await exchange.upgrade(to_websocket_server(origins=["https://friend.example"]))
                self.seen[path] = (exchange.headers["origin"], caught.value.response.status)
            case "/friendly":
                origin = f"http://{exchange.headers['host']}"
                await self.echo(await exchange.upgrade(to_websocket_server(origins=[origin])))
            case "/closed/1000" | "/closed/3000" | "/closed/none":
                websocket = await exchange.upgrade(to_websocket_server())
                with pytest.raises(trionet.ConnectionClosed):
                    await websocket.get_message()
                self.seen[path] = (websocket.closed.code, websocket.closed.reason)
            case "/closing/1000" | "/closing/3000":
                websocket = await exchange.upgrade(to_websocket_server())
                await websocket.aclose(int(path.rpartition("/")[2]), "schön")
                self.seen[path] = websocket.end.reason
            case "/returning":
                await exchange.upgrade(to_websocket_server())

    async def echo(self, websocket: trionet.WebSocket) -> None:
        async for message in websocket:
            await websocket.send_message(message)

    async def count(self, exchange: trionet.Exchange, compression: trionet.PerMessageDeflate) -> None:
        """Echo, and note how many bytes each of the repeated messages was, received and sent."""
        websocket = await exchange.upgrade(to_websocket_server(compression=compression))
        costs: list[tuple[int, int]] = []
        before = websocket.statistics()
        async for message in websocket:
            await websocket.send_message(message)
            now = websocket.statistics()
            costs.append((now.bytes_received - before.bytes_received, now.bytes_sent - before.bytes_sent))
            before = now
        self.seen[exchange.path] = (websocket.compression, costs[:REPEATS])


async def browse(server_context: ssl.SSLContext) -> Browsed:
    """Let the browser look at the page."""
    browsed = Browsed()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            serve = partial(trionet.serve_http, host="127.0.0.1")
            echo = App("", {})
            secure = await nursery.start(partial(serve, echo, 0, ssl_context=server_context))
            app = App(f"wss://127.0.0.1:{secure.port}", browsed.server)
            server = await nursery.start(partial(serve, app, 0))
            await visit(f"http://127.0.0.1:{server.port}/", app.reported)
            browsed.page = app.report
            assert (await server.drain(5)).clean
            nursery.cancel_scope.cancel()
    return browsed


async def visit(url: str, over: trio.Event) -> None:
    """Run the browser with this page until `over`."""
    with tempfile.TemporaryDirectory() as profile:
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", url]
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=os.environ | {"HOME": profile, "TMPDIR": profile},
            )
            complaints = bytearray()
            all_gone = trio.Event()

            async def watch() -> None:
                async for data in process.stderr:
                    complaints.extend(data)
                all_gone.set()
                if not over.is_set():
                    pytest.fail(f"the browser has ended: {complaints.decode(errors='replace')}")

            nursery.start_soon(watch)
            try:
                await over.wait()
            finally:
                with trio.move_on_after(10, shield=True):
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
                    await all_gone.wait()  # each of its processes has that pipe, and might still write into the profile
                await process.stderr.aclose()
            assert all_gone.is_set()


@pytest.fixture(scope="module")
def browsed(server_context: ssl.SSLContext) -> Browsed:
    return trio.run(browse, server_context)


@pytest.fixture(scope="module")
def page(browsed: Browsed) -> dict[str, Any]:
    return browsed.page


@pytest.fixture(scope="module")
def server(browsed: Browsed) -> dict[str, Any]:
    return browsed.server


@pytest.mark.parametrize("check", ["plain", "secure"])
def test_messages_of_all_kinds(page, check):
    assert page[check] == dict.fromkeys(page["plain"], True)
    assert len(page[check]) == 9


def test_many_messages_at_a_time(page):
    assert page["many"] is True


def test_the_subprotocol(page):
    assert page["subprotocol"] == "chat"


def test_messages_in_fragments(page):
    assert page["fragments"] == ["fragments " + "ä€😀" * 1000, [0, 255]]


def test_a_ping(page):
    assert page["pinged"] == "behind the pong"


def test_compression(page, server):
    assert page["compressed"]["extensions"].startswith("permessage-deflate")
    assert page["compressed"]["echoed"] == [True] * (REPEATS + 6)
    agreed, costs = server["/compressed"]
    assert not agreed.server_no_context_takeover
    assert not agreed.client_no_context_takeover
    (first_received, first_sent), *others = costs
    assert 500 < first_received < 700
    assert 500 < first_sent < 700
    for received, sent in others:  # the message was there before
        assert received < 50
        assert sent < 50


def test_compression_without_context_takeover(page, server):
    assert "server_no_context_takeover" in page["alone"]["extensions"]
    assert "client_no_context_takeover" in page["alone"]["extensions"]
    assert page["alone"]["echoed"] == [True] * REPEATS
    agreed, costs = server["/alone"]
    assert agreed.server_no_context_takeover
    assert agreed.client_no_context_takeover
    for received, sent in costs:
        assert 500 < received < 700
        assert 500 < sent < 700


def test_events_through_the_end_of_a_stream_and_a_lost_connection(page, server):
    assert server["/events"] == [None, "1", "2"]
    text = "ä€😀" * 1000
    assert page["events"]["opened"] == 3
    assert page["events"]["seen"] == [
        entry
        for number in (1, 2, 3)
        for entry in ([str(number), f"number {number}\n{text}"], [str(number), "tick", {"number": number}])
    ]


def test_a_page_from_elsewhere_is_refused(page, server):
    origin, status = server["/foreign"]
    assert origin.startswith("http://127.0.0.1:")
    assert status == 403
    assert page["foreign"] == {"opened": False, "closed": [1006, "", False]}


def test_a_page_from_here_is_let_in(page):
    assert page["friendly"] is True


@pytest.mark.parametrize(
    ("check", "path", "by_page", "by_server"),
    [
        ("close1000", "/closed/1000", [1000, "bye", True], (1000, "bye")),
        ("close3000", "/closed/3000", [3000, "schön", True], (3000, "schön")),
        ("closeWithoutCode", "/closed/none", [1005, "", True], (1005, None)),
    ],
)
def test_the_page_closes(page, server, check, path, by_page, by_server):
    assert page[check] == by_page
    assert server[path] == by_server


@pytest.mark.parametrize("code", [1000, 3000])
def test_the_server_closes(page, server, code):
    assert page[f"closedByServer{code}"] == [code, "schön", True]
    assert server[f"/closing/{code}"] is trionet.Reason.LOCAL


def test_the_handler_returns(page):
    assert page["closedByReturning"] == [1000, "", True]
