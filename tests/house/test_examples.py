"""Every program in ``examples/`` runs, and prints what it should."""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import trionet
from trionet import Phase

from ..helpers.pairs import tcp_pair
from ..helpers.redis import needs_redis

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "asgi_app": (
        r"request 1 for /one\nrequest 2 for /two\nyou said hello\na line: no HTTP at all\nshut down after 2\n"
    ),
    "chat": r"welcome and welcome\nann hears hello, all\nbob hears hello, all\n5000000 bytes sent as \d+\n",
    "fanout_chat": (
        r"both hear \{'ann: hello'\}\nann's process is gone: 1006\nbob hears bob: where are you\?\n"
        r"ann comes again and hears bob: where are you\?\n"
        r"while Redis is gone, ann hears not sent: ann: is anybody there\?\nboth hear \{'ann: is anybody there\?'\}\n"
    ),
    "http_app": (r"200 b'hello\\n'\n{'sum': 6}\nb'0\\n1\\n2\\n'\n201 b'1000000 bytes\\n'\n404\n1 connection\n"),
    "json_api": (r"401 {'error': 'POST /login first'}\n{'notes': 1}\n\['buy milk'\]\n206 b'pix'\n"),
    "length_prefixed": r"b'stressed'\n1 closed gracefully, 0 by force, in .* s\n",
    "one_port": r"from a line protocol\n200 b'hello\\n'\nover HTTP\n",
    "reverse_proxy": (
        r"200 GET /a\?b=c: 0 bytes\n200 POST /a\?b=c: 200000 bytes\nthe backend heard 'hello'\n"
        r"1 closed gracefully, 0 by force, in .* s\n"
    ),
    "starttls": r"TLSv1\.3 b'250 a secret\\r\\n'\n\d closed gracefully, 0 by force, in .* s\n",
}
"""What each one that ends by itself prints."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def start(name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py")]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


def test_every_example_is_tested() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*EXAMPLES, "graceful_server"}


NEEDS = {"fanout_chat": needs_redis}
"""What needs a program that may be missing."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in EXAMPLES])
def test_an_example_that_ends_by_itself(name: str) -> None:
    with start(name) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert re.fullmatch(EXAMPLES[name], out), out
    assert err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_graceful_server_ends_on_a_signal(number: signal.Signals) -> None:
    """One client is in the middle of a dialogue and waits; the server says goodbye to it and ends."""
    with start("graceful_server") as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().split()[-1])
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(b"hello\n")
                assert client.recv(100) == b"you said: hello\n"
                process.send_signal(number)
                assert client.recv(100) == b""
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert re.fullmatch(r"1 closed gracefully, 0 by force, in .* s\n", out), out
    assert err == ""


# --- what docs/recipes.md says about its example -------------------------------------------------------------------

length_prefixed = runpy.run_path(str(ROOT / "examples" / "length_prefixed.py"))
to_messages = length_prefixed["to_messages"]


async def test_messages_behind_the_hello_are_the_first_ones() -> None:
    """The peer has sent its hello and a message in one piece, before the upgrade began."""
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        await theirs.send_all(b"MSG/1\n\0\0\0\2hi\0\0\0\0")
        await ours.peek(1)
        stream = await ours.upgrade(to_messages())
        assert await stream.get_message() == b"hi"
        elsewhere = stream.transfer(scope)
        assert elsewhere.max_size == 65536
        assert await elsewhere.get_message() == b""
        await theirs.send_eof()
        assert await elsewhere.get_message() is None


@pytest.mark.parametrize(
    ("answer", "error", "phase"),
    [
        (b"NO\n", trionet.UpgradeRefusedError, Phase.OPEN),
        (b"WHAT\n", trionet.UpgradeFailedError, Phase.CLOSED),
        (b"x" * 64, trionet.LimitExceededError, Phase.CLOSED),
    ],
)
async def test_a_peer_that_does_not_say_hello(answer: bytes, error: type[Exception], phase: Phase) -> None:
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        await theirs.send_all(answer)
        with pytest.raises(error):
            await ours.upgrade(to_messages())
        assert ours.phase is phase


async def test_a_message_that_is_too_long_or_cut_off_is_an_error_and_a_cancelled_receive_loses_nothing() -> None:
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        await theirs.send_all(b"MSG/1\n\0\0\0\2h")
        stream = await ours.upgrade(to_messages(max_size=5))
        with trio.move_on_after(0.01):
            await stream.get_message()
        await theirs.send_all(b"i\0\0\0\x06")
        assert await stream.get_message() == b"hi"
        with pytest.raises(trionet.LimitExceededError, match="6 bytes was announced, and max_size is 5"):
            await stream.get_message()
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        await theirs.send_all(b"MSG/1\n\0\0")
        await theirs.send_eof()
        stream = await ours.upgrade(to_messages())
        with pytest.raises(trionet.RemoteProtocolError):
            await stream.get_message()


async def test_the_reverse_proxy_asks_its_backend_alone_whatever_the_target_says() -> None:
    """A whole URL as the target must not choose whom the proxy connects to."""
    names = runpy.run_path(str(ROOT / "examples" / "reverse_proxy.py"))
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_http, names["backend"], 0)
        backend = f"localhost:{server.port}"
        async with scope.open_http_client(follow_redirects=False) as to_backend:
            front = await scope.start(trionet.serve_http, names["proxy"](to_backend, backend), 0)
            for target, seen in (
                ("http://127.0.0.1:1/a?b=c", b"GET /a?b=c"),
                ("//127.0.0.1:1/a", b"GET //127.0.0.1:1/a"),
            ):
                host = b"127.0.0.1:1" if target.startswith("http") else b"a"
                async with trionet.open_tcp("localhost", front.port) as conn:
                    await conn.send_all(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target.encode(), host))
                    assert (await conn.receive_until(b"\r\n", max_bytes=99)) == b"HTTP/1.1 200 OK\r\n"
                    await conn.receive_until(b"\r\n\r\n", max_bytes=999)
                    assert seen in await conn.receive_some()
        scope.cancel()


async def test_the_reverse_proxy_passes_on_what_has_no_body_and_asks_for_one_itself() -> None:
    """HEAD, 304 and Expect are about the body alone; two cookies stay two, and nobody is believed about who he is."""
    names = runpy.run_path(str(ROOT / "examples" / "reverse_proxy.py"))
    seen = []

    async def backend(exchange: trionet.Exchange) -> None:
        seen.append((exchange.method, await exchange.read(), exchange.headers))
        cookies = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        if exchange.path == "/same":
            await exchange.respond(304, headers=[("ETag", '"x"')])
        else:
            await exchange.respond(200, b"hello", headers=cookies)

    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(trionet.serve_http, backend, 0)
        async with scope.open_http_client(follow_redirects=False) as to_backend:
            app = names["proxy"](to_backend, f"localhost:{server.port}")
            front = await scope.start(trionet.serve_http, app, 0)
            conn = await scope.connect_tcp("localhost", front.port)
            await conn.send_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
            head = await conn.receive_until(b"\r\n\r\n", max_bytes=999)
            assert b"\r\nContent-Length: 5\r\n" in head
            assert head.count(b"Set-Cookie: ") == 2
            await conn.send_all(b"GET /same HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b'304 Not Modified\r\nETag: "x"' in await conn.receive_until(b"\r\n\r\n", max_bytes=999)
            await conn.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            assert await conn.receive_until(b"\r\n\r\n", max_bytes=999) == b"HTTP/1.1 100 Continue\r\n\r\n"
            await conn.send_all(b"body")
            assert (await conn.receive_until(b"hello", max_bytes=999)).startswith(b"HTTP/1.1 200 OK")
        scope.cancel()
    assert [(method, body) for method, body, _ in seen] == [("HEAD", b""), ("GET", b""), ("POST", b"body")]
    assert all("6.6.6.6" not in fields["x-forwarded-for"] and fields["host"] == "a" for *_, fields in seen)
