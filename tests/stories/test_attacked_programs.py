"""The programs that the documentation prints, attacked: what hostile clients do to them is never a traceback.

Each program's own server runs here, on a real port. The attacks are the same for all: most of them mean nothing to most
of the programs, which is the point.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import runpy
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import trionet
from trionet.asgi import open_asgi

from ..helpers.http_served import WEBSOCKET, get, vanish
from ..helpers.websockets_by_hand import Opcode, close, frame, text
from ..house.test_readme import marked

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Awaitable[None]]


# --- the programs -------------------------------------------------------------------------------------------------


def program(source: str | Path) -> dict[str, Any]:
    """What a program defines, without running it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (trio, trionet):
            patch.setattr(module, "run", lambda *args, **kwargs: None)
        if isinstance(source, Path):
            return runpy.run_path(str(source))
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, "documentation", "exec"), names)
        return names


def example(name: str) -> dict[str, Any]:
    return program(ROOT / "examples" / f"{name}.py")


def first_block(page: str) -> str:
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert found
    return found[1]


def starttls(context: Any) -> Serve:
    return partial(trionet.serve_tcp, partial(example("starttls")["handle"], context=context))


async def reverse_proxy(port: int, **options: Any) -> None:
    """The example's proxy, and behind it the example's backend."""
    names = example("reverse_proxy")
    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(trionet.serve_http, names["backend"], 0)
        backend = f"localhost:{server.port}"
        async with scope.open_http_client(follow_redirects=False) as client:
            await trionet.serve_http(names["proxy"](client, backend), port, **options)
        scope.cancel()


async def asgi_app(port: int, **options: Any) -> None:
    """The example's application, on a port of its own."""
    async with open_asgi(example("asgi_app")["app"]) as handler:
        await trionet.serve_http(handler, port, **options)


PROGRAMS: dict[str, Callable[[Any], Serve]] = {
    "asgi_app": lambda _: asgi_app,
    "chat": lambda _: partial(trionet.serve_http, example("chat")["app"]),
    "graceful_server": lambda _: partial(trionet.serve_tcp, example("graceful_server")["handle"]),
    "http_app": lambda _: partial(trionet.serve_http, example("http_app")["app"]),
    "json_api": lambda _: partial(trionet.serve_http, example("json_api")["app"]),
    "length_prefixed": lambda _: partial(trionet.serve_tcp, example("length_prefixed")["handle"]),
    "one_port": lambda _: partial(trionet.serve_tcp, example("one_port")["handle"]),
    "reverse_proxy": lambda _: reverse_proxy,
    "starttls": starttls,
    "README, first program": lambda _: partial(trionet.serve_tcp, program(marked("tested: first program"))["handle"]),
    "README, http program": lambda _: partial(trionet.serve_http, program(marked("tested: http program"))["app"]),
    "docs/serving.md": lambda _: partial(trionet.serve_tcp, program(first_block("serving.md"))["handle"]),
}


def test_every_example_is_attacked() -> None:
    needs_redis = {"fanout_chat"}  # tests/house runs it where there is one
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} - needs_redis <= {*PROGRAMS}


# --- the attacks --------------------------------------------------------------------------------------------------


def post(target: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode() + body


def handshake(*fields: str, version: str = "13", key: str = "dGhlIHNhbXBsZSBub25jZQ==") -> bytes:
    lines = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Version: {version}")
    return get("/", *lines, f"Sec-WebSocket-Key: {key}", *fields)


FRAMES = {
    "a message that is too big": frame(Opcode.BINARY, bytes(2**20 + 1)),
    "a frame of 2**40 bytes": b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4),
    "a frame without a mask": text("plain", masked=False),
    "reserved bits": b"\xf1\x80" + bytes(4),
    "text that is no text": frame(Opcode.TEXT, b"\xff"),
    "half a frame": text("hello")[:5],
    "a close for no good reason": close(4000, "so\nthere"),
    "a usual close": close(1000),
    "a message": text("hello"),
}
OPENINGS = {
    "": WEBSOCKET,
    "to /size, ": WEBSOCKET.replace(b"/chat", b"/size"),
    "behind CHAT, ": b"CHAT me\r\n" + WEBSOCKET,
}
ATTACKS = {
    "nothing": b"",
    "garbage": bytes(range(256)),
    "zeros": bytes(5000),
    "empty lines": b"\r\n" * 100,
    "a ClientHello": bytes.fromhex("16030100c8010000c40303") + bytes(189),
    "an endless line": b"x" * 100_000,
    "a line": b"hello\r\n",
    "half a line": b"hello",
    "half of CHAT": b"CH",
    "CHAT and nothing": b"CHAT me\r\n",
    "CHAT and an endless line": b"CHAT" + b"x" * 1000,
    "CHAT and garbage": b"CHAT me\r\n" + bytes(range(256)),
    "CHAT and a plain GET": b"CHAT me\r\n" + get("/"),
    "STARTTLS and plaintext": b"STARTTLS\r\nPASS secret\r\n",
    "STARTTLS and half a ClientHello": b"STARTTLS\r\n" + bytes.fromhex("16030100c8010000c40303"),
    "a hello and 4 GB": b"MSG/1\n\xff\xff\xff\xff",
    "a hello and half a message": b"MSG/1\n\0\0\0\x05he",
    "a refusal": b"NO\n",
    "half a request": b"GET / HT",
    "two Host fields": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a field that is none": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer SECRET\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000,
    "an odd method": b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "a body that is too big": post("/", bytes(2**21)),
    "a body that is too big for /sum": post("/sum", b"[" + b"1," * 40_000 + b"1]"),
    "half a body": post("/", b"so", 9),
    "half a body for PUT": post("/", b"so", 9).replace(b"POST", b"PUT"),
    "bad chunks": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad chunks for PUT": b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no JSON": post("/sum", b"{"),
    "other JSON": post("/sum", b'{"a": [null]}'),
    "deep JSON": post("/sum", b"[" * 60_000),
    "JSON that is not UTF-8": post("/sum", b"\xff\xfe["),
    "three requests": get("/count") * 3,
    "a foreign page": handshake("Origin: https://evil.example"),
    "another version": handshake(version="12"),
    "a bad key": handshake(key="x"),
    "a handshake with a body": handshake("Content-Length: 3") + b"abc",
    **{
        f"{opening}{name}": start + data
        for (opening, start), (name, data) in itertools.product(OPENINGS.items(), FRAMES.items())
    },
}


async def resets(client: trionet.Connection) -> None:
    vanish(client)


async def leaves(client: trionet.Connection) -> None:
    await client.aclose()


async def waits_for_an_answer(client: trionet.Connection) -> None:
    await client.send_eof()
    while await client.receive_some():
        pass


async def attack(port: int, data: bytes, end: Callable[[trionet.Connection], Awaitable[None]]) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        async with trionet.open_tcp("127.0.0.1", port) as client:
            await client.send_all(data)
            await end(client)


@pytest.mark.parametrize("end", [resets, leaves, waits_for_an_answer], ids=lambda end: end.__name__)
@pytest.mark.parametrize("name", PROGRAMS)
async def test_hostile_clients_are_no_traceback(
    name: str, end: Callable[..., Awaitable[None]], server_context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with trionet.open_scope() as scope:
        server = await scope.start(lambda **kw: PROGRAMS[name](server_context)(0, host="127.0.0.1", **kw))
        for what, data in ATTACKS.items():
            with trio.fail_after(20):
                await attack(server.port, data, end)
                while server.statistics().open:
                    await trio.lowlevel.checkpoint()
            loud = [record for record in caplog.records if record.levelno > logging.INFO or record.exc_info]
            assert not loud, f"{what}: {loud[0].getMessage()}"
            assert "SECRET" not in caplog.text
        figures = server.statistics()
        assert figures.failed == 0
        assert figures.accepted == len(ATTACKS)
        assert any(figures.peer_faults.values())
        scope.cancel()
