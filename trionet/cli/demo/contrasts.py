"""What others do where trionet keeps a promise: plain Trio, trio-websocket and httpx, in the same situation, live.

Each contrast is one situation that happens in every larger program. trionet's side is a promise, and checked. What the
other side does is only watched, and told as it was found; nobody has promised anything there.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
import trio.testing
import trio_websocket
from websockets.client import ClientProtocol
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from ... import HandleBrokenError, HandleMovedError, to_websocket_client
from .promises import HOST, BrokenPromiseError, expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ... import Scope

__all__ = ["CONTRASTS", "Contrast", "Seen", "watch"]

BIG = bytes(8_000_000)
"""More than two sockets have room for."""
POOL_PATIENCE = 0.2
"""Seconds that a request waits for a slot that will not come."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """One situation, and both sides of it."""

    name: str
    situation: str
    """What happens, in a sentence of at most 76 characters."""
    ours: Callable[[Scope, int], Awaitable[str]]
    """What trionet does; raises if that is not what it promises."""
    peer: str
    """The other library."""
    theirs: Callable[[int], Awaitable[str]]
    """What that does."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one contrast."""

    name: str
    situation: str
    ours: str
    peer: str
    theirs: str
    kept: bool


async def watch(contrasts: Iterable[Contrast], scope: Scope, port: int, tell: Callable[[Seen], None]) -> bool:
    """Try each contrast against the server on this port: whether trionet kept its side of all.

    Cancellation: what was opened is closed.
    """
    kept = True
    for contrast in contrasts:
        try:
            ours, held = await contrast.ours(scope, port), True
        except Exception as exc:  # noqa: BLE001 - whatever it is, the promise was not kept
            ours = str(exc) if isinstance(exc, BrokenPromiseError) else f"{type(exc).__name__}: {exc}"
            kept = held = False
        theirs = await _observed(contrast, port)
        tell(Seen(contrast.name, contrast.situation, ours, contrast.peer, theirs, held))
    return kept


async def _observed(contrast: Contrast, port: int) -> str:
    try:
        return await contrast.theirs(port)
    except ModuleNotFoundError as exc:
        return f"skipped: {exc.name} is not installed"
    except Exception as exc:  # noqa: BLE001 - that, too, is something it does
        return f"{type(exc).__name__}: {exc}"


# --- two owners ---------------------------------------------------------------------------------------------------


async def _one_owner(scope: Scope, port: int) -> str:
    conn = await scope.connect_tcp(HOST, port)
    ws = await conn.upgrade(to_websocket_client(f"ws://localhost:{port}/"))
    try:
        await conn.send_all(b"a stray line\r\n")
    except HandleMovedError:
        await ws.send_message("hello")
        expect(await ws.get_message() == "hello", "the WebSocket works on")
        await ws.aclose()
        return "HandleMovedError at once; the WebSocket works on"
    raise BrokenPromiseError("broken: the old handle refuses to send")


async def _two_owners(port: int) -> str:
    async with await trio.open_tcp_stream(HOST, port) as stream, trio.open_nursery() as nursery:
        ws = await trio_websocket.wrap_client_stream(nursery, stream, f"localhost:{port}", "/")
        await stream.send_all(b"a stray line\r\n")
        outcome = "lived on"
        try:
            await ws.send_message("hello")
            await ws.get_message()
        except trio_websocket.ConnectionClosed as exc:
            outcome = f"is dead ({exc.reason.code if exc.reason else 'no code'})"
        nursery.cancel_scope.cancel()
    return f"the stream took the line too; the WebSocket {outcome}"


# --- a lost leftover ----------------------------------------------------------------------------------------------


def _chat_and_handshake(port: int) -> bytes:
    """A line and a WebSocket handshake, as one piece."""
    return b"CHAT eve\r\n" + ClientProtocol(parse_uri(f"ws://localhost:{port}/")).connect().serialize()


async def _leftover_goes_down(scope: Scope, port: int) -> str:
    conn = await scope.connect_tcp(HOST, port)
    await conn.send_all(_chat_and_handshake(port))
    expect(await conn.receive_until(b"\r\n", max_bytes=99) == b"OK eve\r\n", "the server agrees to CHAT")
    head = await conn.receive_until(b"\r\n\r\n", max_bytes=4096)
    expect(head.startswith(b"HTTP/1.1 101 "), "the handshake behind the line is answered")
    conn.abort()
    return "the upgrade begins with what came early: 101"


async def _leftover_is_lost(port: int) -> str:
    server, client = _stream_pair()
    request = _chat_and_handshake(port)
    async with client, server, trio.open_nursery() as nursery:
        await client.send_all(request)
        data = await server.receive_some(4096)
        line = data.partition(b"\r\n")[0]
        accepted = trio.Event()

        async def accept() -> None:
            with suppress(Exception):
                await trio_websocket.wrap_server_stream(nursery, server)
                accepted.set()

        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    gone = len(data) - len(line) - 2
    return "the handshake was found" if accepted.is_set() else f"{gone} bytes were read and are lost: it waits for ever"


# --- a torn frame -------------------------------------------------------------------------------------------------


async def _torn_and_told(scope: Scope, port: int) -> str:
    ours, theirs = socket.socketpair()
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    async with peer, trio.open_nursery() as nursery:
        nursery.start_soon(_shake_hands, peer)
        ws = await scope.adopt(ours).upgrade(to_websocket_client("ws://localhost/"))
        await _cancel_half_way(ws.send_message)
        sent = None
        try:
            await ws.send_message("next")
        except HandleBrokenError as exc:
            sent = exc.bytes_sent
        ws.abort()
    expect(sent is not None, "a send behind a torn frame is refused, and says how much went out")
    return f"the next send raises: {sent:,} bytes of it went out"


async def _torn_and_not_told(port: int) -> str:
    ours, peer = _stream_pair()
    async with ours, peer, trio.open_nursery() as nursery:
        nursery.start_soon(_shake_hands, peer)
        ws = await trio_websocket.wrap_client_stream(nursery, ours, "localhost", "/")
        await _cancel_half_way(ws.send_message)
        nursery.start_soon(_swallow, peer)  # so that there is room again
        outcome = "succeeds, in the middle of the torn one"
        try:
            await ws.send_message("next")
        except Exception as exc:  # noqa: BLE001 - that is what is asked
            outcome = f"raises {type(exc).__name__}"
        nursery.cancel_scope.cancel()
    return f"the next send {outcome}"


async def _cancel_half_way(send: Callable[[bytes], Awaitable[None]]) -> None:
    """Cancel a send when it can go no further, as the peer takes nothing."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, BIG)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()


async def _shake_hands(peer: trio.SocketStream) -> None:
    """Accept a WebSocket handshake, and take nothing more."""
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        protocol.receive_data(bytes(await peer.receive_some()))
    protocol.send_response(protocol.accept(events[0]))  # type: ignore[arg-type]
    for data in protocol.data_to_send():
        await peer.send_all(data)


async def _swallow(peer: trio.SocketStream) -> None:
    while await peer.receive_some():
        pass


# --- a lost slot --------------------------------------------------------------------------------------------------


async def _slot_comes_back(scope: Scope, port: int) -> str:
    async with scope.open_http_client(max_connections=1, base_url=f"http://{HOST}:{port}") as client:
        with suppress(KeyError):
            async with client.request("GET", "/hello"):
                raise KeyError("a bug, in the middle of a response")
        async with client.request("GET", "/hello") as response:
            expect(await response.read() == b"hello over HTTP\n", "the next request is answered")
    return "the block gives the slot back; the next request is answered"


async def _slot_is_lost(port: int) -> str:
    import httpx

    limits = httpx.Limits(max_connections=1)
    url = f"http://{HOST}:{port}/hello"
    async with httpx.AsyncClient(
        limits=limits, timeout=httpx.Timeout(5, pool=POOL_PATIENCE), trust_env=False
    ) as client:
        left = await client.send(client.build_request("GET", url), stream=True)  # here the bug: nobody closes it
        try:
            await client.get(url)
        except httpx.PoolTimeout:
            return "the slot stays taken: PoolTimeout for every later request"
        finally:
            await left.aclose()
    return "the next request was answered"


def _stream_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, two = socket.socketpair()
    return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in (one, two))  # type: ignore[return-value]


CONTRASTS = (
    Contrast(
        "two owners",
        "A WebSocket is made of a TCP connection, and another task still has that.",
        _one_owner,
        "trio-websocket",
        _two_owners,
    ),
    Contrast(
        "lost leftover",
        "The handshake arrives in one piece with the line before it.",
        _leftover_goes_down,
        "plain Trio",
        _leftover_is_lost,
    ),
    Contrast(
        "torn frame",
        "A timeout cancels a send in the middle of a message.",
        _torn_and_told,
        "trio-websocket",
        _torn_and_not_told,
    ),
    Contrast(
        "lost slot",
        "A bug raises while a response of a pool with one slot is open.",
        _slot_comes_back,
        "httpx",
        _slot_is_lost,
    ),
)
