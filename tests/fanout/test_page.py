"""What docs/fanout.md shows runs, and does what the page says."""

import ast
import inspect
import re
from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import fanout as package

from ..helpers.redis import RedisServer, needs_redis

PAGE = Path(__file__).parents[2] / "docs" / "fanout.md"
BLOCKS = re.findall(r"(?<!-->\n)^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
"""All but the program, which runs as an example."""
REDIS = [block for block in BLOCKS if "redis://localhost" in block]
"""They need a server; `test_what_the_page_shows_with_redis` runs them."""


async def run(block: str, names: dict[str, object]) -> None:
    """Run a block as the body of an async function would, with its names kept."""
    code = compile("from __future__ import annotations\n" + block, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.isawaitable(result := eval(code, names)):
        await result


async def test_the_blocks_of_the_page(capsys):
    names = {"trionet": trionet, "Message": package.Message}
    async with trio.open_nursery() as nursery:
        for block in (block for block in BLOCKS if block not in REDIS):
            await run(block, names)
            if block.startswith("from trionet.fanout import Gap"):
                nursery.start_soon(names["listen"], "ann")
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
        out = capsys.readouterr().out
        nursery.cancel_scope.cancel()
    assert out == "ann hears it rains\n['ann']\n"
    assert names["encode"](package.Message(None, b"x")) == "x"
    assert names["encode"](package.Gap(None, "reconnect")) == '{"missed": true}'


async def test_the_relayed_room_of_the_page():
    names = {"trionet": trionet}
    for block in BLOCKS:
        if "MemoryFanout()" in block or "def handle" in block:
            await run(block, names)
    async with trionet.open_scope() as scope:
        await scope.start(package.relay, names["fanout"], "news", names["room"])
        server = await scope.start(trionet.serve_http, names["handle"], 0)
        url = f"ws://localhost:{server.port}"
        async with trionet.open_websocket(url) as ann, trionet.open_websocket(url) as bob:
            while len(names["room"]) < 2:
                await trio.lowlevel.checkpoint()
            await ann.send_message("hello")
            assert await bob.get_message() == b"hello"
        scope.cancel()


@needs_redis
async def test_what_the_page_shows_with_redis(tmp_path, capsys):
    async with (
        RedisServer(tmp_path) as redis,
        package.RedisFanout(redis.url) as listener,
        listener.subscribe("news") as items,
    ):
        for block in REDIS:
            await run(block.replace("redis://localhost", redis.url), {})
        assert (await anext(items)).data == b"it rains"
    assert capsys.readouterr().out.endswith("-0 b'it rains'\n")
