"""Proxies by hand, and upgrades against them."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet.http.client.proxies.http_tunnel import to_http_tunnel
from trionet.http.client.proxies.socks5_tunnel import to_socks5_tunnel

from .pairs import receive_all, tcp_pair

OK = b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n"


async def upgrade_against(
    recipe: Any, proxy: Callable[[trionet.Connection], Awaitable[None]]
) -> tuple[Any, trionet.Connection]:
    """Upgrade a connection to `proxy`, and see what comes of it: the successor or the error, and the old handle."""
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        scope.start_soon(proxy, theirs)
        try:
            result: Any = await ours.upgrade(recipe)
        except trionet.TrionetError as exc:
            ours.abort()  # or the proxy would wait for ever
            return exc, ours
        leftover = bytes(result._leftover)
        await result.send_all(b"through")
        await result.send_eof()
        return (leftover, await receive_all(result)), ours


async def echo(theirs: trionet.Connection) -> None:
    """The host behind the proxy: sends back what it gets."""
    await theirs.send_all(b"echo:" + await receive_all(theirs))
    await theirs.send_eof()


CHOSE_NONE, CHOSE_PASSWORD = b"\x05\x00", b"\x05\x02"


IPV4_REPLY = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"


async def read_socks(theirs: trionet.Connection, answers: list[bytes], split: int | None = None) -> list[bytes]:
    """A SOCKS5 server that has its answers ready: what the client sent before each. `split` cuts one answer in two."""
    asked = []
    for answer in answers:
        asked.append(await theirs.receive_some())
        if split is None:
            await theirs.send_all(answer)
            continue
        head, tail = answer[:split], answer[split:]
        if head:
            await theirs.send_all(head)
            await trio.testing.wait_all_tasks_blocked()
        if tail:
            await theirs.send_all(tail)
    return asked


RECIPES: dict[str, Callable[..., Any]] = {"http": to_http_tunnel, "socks5": to_socks5_tunnel}


both = pytest.mark.parametrize("kind", RECIPES)


async def pass_on(source: trionet.Connection, sink: trionet.Connection) -> None:
    while data := await source.receive_some():
        await sink.send_all(data)
    await sink.send_eof()


async def small_proxy(conn: trionet.Connection) -> None:
    """CONNECT or SOCKS5 with names, whichever the client speaks."""
    if await conn.peek(1) == b"\x05":
        _, count = await conn.receive_exactly(2)
        await conn.receive_exactly(count)
        await conn.send_all(b"\x05\x00")
        *_, kind, length = await conn.receive_exactly(5)
        assert kind == 3
        host = (await conn.receive_exactly(length)).decode()
        (port,) = struct.unpack(">H", await conn.receive_exactly(2))
        answer = IPV4_REPLY
    else:
        line, _, _ = (await conn.receive_until(b"\r\n\r\n", max_bytes=4096)).partition(b"\r\n")
        host, _, text = line.split()[1].decode().rpartition(":")
        port, answer = int(text), OK
    async with trionet.open_tcp(host, port) as onward:
        await conn.send_all(answer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, conn, onward)
            nursery.start_soon(pass_on, onward, conn)
