"""The clients that http_client.py compares, each as its own documentation would use it: `measure` runs one of them.

Every client is opened anew for a run and has its connections before the clock starts. All read the whole body, look at
status and body, and know of no proxy. aiohttp has a jar that keeps nothing, as trionet keeps cookies only if it is told
to; httpx has no such switch.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module

WARM = 5
"""Requests of every task before the clock starts."""

Get = Callable[[str], Awaitable[tuple[int, bytes]]]
"""Gets a URL: status and body."""
Client = Callable[[], AbstractAsyncContextManager[Get]]
Run = Callable[[Client, str, int, int], float]


# --- clients ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def trionet_client() -> AsyncIterator[Get]:
    import trionet

    async with trionet.open_http_client() as client:

        async def get(url: str) -> tuple[int, bytes]:
            async with client.request("GET", url) as response:
                return response.status, await response.read()

        yield get


@asynccontextmanager
async def trionet_client_with_deadline() -> AsyncIterator[Get]:
    """With a deadline for each request, as httpx and aiohttp have of themselves."""
    import trio

    async with trionet_client() as plain:

        async def get(url: str) -> tuple[int, bytes]:
            with trio.fail_after(30):
                return await plain(url)

        yield get


@asynccontextmanager
async def httpx_client() -> AsyncIterator[Get]:
    import httpx

    async with httpx.AsyncClient() as client:

        async def get(url: str) -> tuple[int, bytes]:
            response = await client.get(url)
            return response.status_code, response.content

        yield get


@asynccontextmanager
async def httpx_client_over_trionet() -> AsyncIterator[Get]:
    """httpx with trionet's transport: the one class of ``trionet.httpx`` that httpx takes for a transport."""
    import httpx

    found = [each for each in vars(import_module("trionet.httpx")).values() if isinstance(each, type)]
    transport = next(
        each for each in found if issubclass(each, httpx.AsyncBaseTransport) and "trionet" in each.__module__
    )
    async with httpx.AsyncClient(transport=transport()) as client:

        async def get(url: str) -> tuple[int, bytes]:
            response = await client.get(url)
            return response.status_code, response.content

        yield get


@asynccontextmanager
async def aiohttp_client() -> AsyncIterator[Get]:
    import aiohttp

    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def get(url: str) -> tuple[int, bytes]:
            async with session.get(url) as response:
                return response.status, await response.read()

        yield get


# --- event loops ------------------------------------------------------------------------------------------------


def run_trio(client: Client, url: str, tasks: int, requests: int) -> float:
    import trio

    async def main() -> float:
        async with client() as get:

            async def together(count: int) -> None:
                async with trio.open_nursery() as nursery:
                    for _ in range(tasks):
                        nursery.start_soon(get_often, get, url, count)

            return await timed(together, requests // tasks)

    return trio.run(main)


def run_uvloop(client: Client, url: str, tasks: int, requests: int) -> float:
    import asyncio

    import uvloop

    async def main() -> float:
        async with client() as get:

            async def together(count: int) -> None:
                async with asyncio.TaskGroup() as group:
                    for _ in range(tasks):
                        group.create_task(get_often(get, url, count))

            return await timed(together, requests // tasks)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def get_often(get: Get, url: str, count: int) -> None:
    """What each task does."""
    for _ in range(count):
        status, body = await get(url)
        if status != 200 or not body:
            raise ValueError(f"{url} was answered with status {status} and {len(body)} bytes")


async def timed(together: Callable[[int], Awaitable[None]], count: int) -> float:
    """CPU seconds of this process for `count` requests of each task, once all have their connections."""
    await together(WARM)
    gc.collect()
    begin = time.process_time()
    await together(count)
    return time.process_time() - begin


# --- what the benchmark calls -----------------------------------------------------------------------------------

CLIENTS: dict[str, tuple[Run, Client]] = {
    "trionet": (run_trio, trionet_client),
    "trionet, fail_after": (run_trio, trionet_client_with_deadline),
    "httpx": (run_trio, httpx_client),
    "aiohttp": (run_uvloop, aiohttp_client),
    "httpx over trionet": (run_trio, httpx_client_over_trionet),
}


def measure(name: str, url: str, tasks: int, requests: int) -> float:
    """CPU microseconds that one request costs this client: `requests` in all, by so many tasks at the same time."""
    for variable in [each for each in os.environ if each.lower().endswith("_proxy")]:
        del os.environ[variable]
    run, client = CLIENTS[name]
    each = max(1, requests // tasks)
    return run(client, url, tasks, each * tasks) / (each * tasks) * 1e6
