"""WebSockets whose sends are cancelled anywhere, and whose peers mean it ill: nothing is torn unnoticed, memory is
bounded, a server goes on, and a close comes to its end.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import random
import socket
import subprocess
import sys
import tracemalloc
import zlib
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import outcome
import pytest
import trio
import websockets.exceptions
import websockets.sync.client
from trio.testing import wait_all_tasks_blocked
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

import trionet
from trionet import (
    ConnectionClosed,
    HandleBrokenError,
    PerMessageDeflate,
    Phase,
    Reason,
    to_websocket_client,
    to_websocket_server,
)
from trionet.websocket.protocol.engine import COSTLY, FRAMES
from trionet.websocket.protocol.writer import MAX_PONGS

from ..helpers.http_served import vanish
from ..helpers.pairs import clog, open_descriptors, receive_all, tcp_pair, unix_pair
from ..helpers.websockets_by_hand import (
    REQUEST,
    answer_by_hand,
    both,
    client_by_hand,
    close,
    frame,
    receive_frame,
    server_by_hand,
    text,
)

DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; client_max_window_bits=12\r\n"
TAIL = b"\x00\x00\xff\xff"  # of each compressed message, never sent (RFC 7692 §7.2.1)


def small_sockets(kind: str) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets with buffers so small that most sends have to wait."""
    size = 4096
    if kind == "unix":
        one, other = socket.socketpair()
    else:
        size = 16384  # with windows smaller than that, TCP now and then waits for a timer
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            one = socket.socket()
            one.connect(listener.getsockname())
            other, _ = listener.accept()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    return one, other


@pytest.fixture(autouse=True)
def seeded():
    """The order in which Trio runs its tasks is the same in each run."""
    trio._core._run._r.seed(1)


# --- a peer that forgives nothing ---------------------------------------------------------------------------------


class Strict:
    """Frames and messages out of bytes, by hand (RFC 6455 §5, RFC 7692 §6, §7.2.2), with every rule asserted."""

    def __init__(self, *, masked: bool, deflate: bool) -> None:
        self._masked = masked
        self._inflater = zlib.decompressobj(-12) if deflate else None
        self._data = bytearray()
        self._opcode = 0
        self._deflated = False
        self.unfinished: bytearray | None = None
        self.messages: list[str | bytes] = []
        self.pongs: list[bytes] = []
        self.compressed = 0
        self.close: int | None = None

    @property
    def torn(self) -> int:
        """Bytes of a frame that has begun and not ended."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        self._data += data
        while self._one_frame():
            pass

    def _one_frame(self) -> bool:
        data = self._data
        if len(data) < 2:
            return False
        assert bool(data[1] & 0x80) is self._masked
        size = data[1] & 0x7F
        extended = {126: 2, 127: 8}.get(size, 0)
        start = 2 + extended + 4 * self._masked
        if len(data) < start:
            return False
        if extended:
            size = int.from_bytes(data[2 : 2 + extended], "big")
            assert (65536 if extended == 8 else 126) <= size < 2**63
        if len(data) < start + size:
            return False
        first, payload = data[0], bytes(data[start : start + size])
        if self._masked and size:
            key = (bytes(data[start - 4 : start]) * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        del data[: start + size]
        self._take(bool(first & 0x80), bool(first & 0x40), first & 0x3F, payload)
        return True

    def _take(self, fin: bool, rsv1: bool, opcode: int, payload: bytes) -> None:
        assert self.close is None, "something comes behind the close frame"
        assert opcode in (0, 1, 2, 8, 10)  # no reserved bits; this side sends no pings
        if opcode >= 8:
            assert fin
            assert not rsv1
            assert len(payload) <= 125
            if opcode == 8:
                self.close = int.from_bytes(payload[:2], "big")
            else:
                self.pongs.append(payload)
            return
        assert (self.unfinished is None) is bool(opcode), "a message begins inside of another, or goes on without one"
        if opcode:
            self._opcode, self._deflated, self.unfinished = opcode, rsv1, bytearray()
        assert self.unfinished is not None
        assert not (rsv1 and (self._inflater is None or not opcode))
        if self._deflated:
            assert self._inflater is not None
            self.compressed += 1
            payload = self._inflater.decompress(payload + (TAIL if fin else b""))
            assert not self._inflater.eof
        self.unfinished += payload
        if fin:
            whole, self.unfinished = bytes(self.unfinished), None
            self.messages.append(whole.decode() if self._opcode == 1 else whole)


def read_by_websockets(data: bytes, *, masked: bool, deflate: bool) -> list[str | bytes]:
    """The messages that the websockets library finds in these bytes."""
    peer = Protocol(Side.SERVER if masked else Side.CLIENT, state=State.OPEN, max_size=None)
    if deflate:
        peer.extensions = [WebsocketsDeflate(False, False, 12, 12)]
    peer.receive_data(data)
    messages: list[str | bytes] = []
    begun, opcode = b"", Opcode.CONT
    for event in peer.events_received():
        if event.opcode is Opcode.TEXT or event.opcode is Opcode.BINARY:
            begun, opcode = bytes(event.data), event.opcode
        elif event.opcode is Opcode.CONT:
            begun += event.data
        if event.opcode <= Opcode.BINARY and event.fin:
            messages.append(begun.decode() if opcode is Opcode.TEXT else begun)
    # A close in the middle of a message in fragments is an error to this library, not to RFC 6455 (§5.4, §5.5.1).
    assert peer.parser_exc is None or (peer.close_rcvd and "incomplete fragmented message" in str(peer.parser_exc))
    return messages


# --- sends that are cancelled anywhere ----------------------------------------------------------------------------


class Clock:
    """Counts the turns of a slow reader: that is the time at which sends are cancelled."""

    def __init__(self) -> None:
        self._now = 0
        self._fuses: dict[trio.CancelScope, int] = {}

    def cancel_in(self, turns: int | None, scope: trio.CancelScope) -> None:
        if turns == 0:
            scope.cancel()
        elif turns is not None:
            self._fuses[scope] = self._now + turns

    def forget(self, scope: trio.CancelScope) -> None:
        self._fuses.pop(scope, None)

    def turn(self) -> None:
        self._now += 1
        for scope in [scope for scope, due in self._fuses.items() if due <= self._now]:
            del self._fuses[scope]
            scope.cancel()


CHUNKS = [random.Random(index).randbytes(200).hex() for index in range(200)]


@dataclass
class Attempt:
    """A send: what of, what came of it, and when it is to be cancelled."""

    message: str | bytes
    parts: list[str | bytes] | None
    cancelled_in: int | None
    cancelled_at: int | None  # before which of the parts
    outcome: str = "never ended"


def plan(randomness: random.Random, name: str, *, fragments: bool) -> Attempt:
    """Something to send, small or too large for the socket, of which `name` is the beginning."""
    count = randomness.choice([0, 1, 3, 20, 50, 100, 200])
    message: str | bytes = f"{name} " + "".join(randomness.choices(CHUNKS[: randomness.choice([4, 200, 200])], k=count))
    if randomness.random() < 0.5:
        message = message.encode()
    parts = None
    cancelled_at = None
    if fragments and randomness.random() < 0.2:
        cuts = sorted(randomness.choices(range(len(message) + 1), k=randomness.randrange(5)))
        parts = [message[start:end] for start, end in zip([0, *cuts], [*cuts, len(message)], strict=True)]
        if randomness.random() < 0.05:
            cancelled_at = randomness.randrange(len(parts))
    cancelled_in = randomness.choice(
        [None, None, 0, 1, randomness.randrange(20), randomness.randrange(100), randomness.randrange(400)]
    )
    return Attempt(message, parts, cancelled_in, cancelled_at)


async def give(parts: list[str | bytes], cancelled_at: int | None, scope: trio.CancelScope):
    for index, part in enumerate(parts):
        if index == cancelled_at:
            scope.cancel()
        if index % 2:
            await trio.lowlevel.checkpoint()
        yield part


@dataclass
class Bombardment:
    """Several tasks send over one WebSocket and are cancelled, until so many sends were made or one was torn."""

    randomness: random.Random
    budget: int
    fragments: bool = True
    clock: Clock = field(default_factory=Clock)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    error: ConnectionClosed | None = None

    async def send_many(self, websocket: trionet.WebSocket, name: str, received: Any = None) -> None:
        """Send; for each message that is received, if that is given."""
        randomness = random.Random(self.randomness.random())
        number = 0
        while self.budget and self.error is None:
            if received is not None and not await received():
                return
            self.budget = max(0, self.budget - 1)
            attempt = plan(randomness, f"{name} {number}", fragments=self.fragments)
            self.attempts[f"{name} {number}"] = attempt
            await self._send(websocket, attempt)
            number += 1

    async def _send(self, websocket: trionet.WebSocket, attempt: Attempt) -> None:
        with trio.CancelScope() as scope:
            self.clock.cancel_in(attempt.cancelled_in, scope)
            try:
                if attempt.parts is None:
                    await websocket.send_message(attempt.message)
                else:
                    async with aclosing(give(attempt.parts, attempt.cancelled_at, scope)) as parts:
                        await websocket.send_fragments(parts)
                attempt.outcome = "sent"
            except ConnectionClosed as exc:
                attempt.outcome = "refused"
                self.error = exc
        self.clock.forget(scope)
        if scope.cancelled_caught:
            attempt.outcome = "cancelled"

    async def probe(self, websocket: trionet.WebSocket) -> None:
        """One more send, which nobody cancels. If it is refused, as something was torn before, all others are too."""
        attempt = self.attempts["probe 0"] = Attempt("probe 0 ", None, None, None)
        await self._send(websocket, attempt)
        if self.error is None:
            return
        assert attempt.outcome == "refused"
        for send in (
            partial(websocket.send_message, "swallowed?"),
            partial(websocket.send_message, b"swallowed?"),
            partial(websocket.send_fragments, ["swallowed?"]),
            partial(websocket.ping, b"swallowed?"),
            partial(websocket.pong, b"swallowed?"),
        ):
            with pytest.raises(type(self.error)) as caught:
                await send()
            if isinstance(self.error, HandleBrokenError):
                assert caught.value.bytes_sent == self.error.bytes_sent
        assert trionet.broadcast([websocket], "swallowed?") == [websocket]

    def check(self, messages: list[str | bytes], *, broken: bool, reset: bool) -> Counter[str]:
        """Hold what has arrived against what was sent: what became of the sends. A reset may have dropped the last."""
        latest: dict[str, int] = {}
        names: set[str] = set()
        for message in messages:
            name = name_of(message)
            assert name in self.attempts, f"nobody has sent a message that begins with {name!r}"
            sender, number = name.split()
            assert int(number) > latest.get(sender, -1), f"{name} comes twice, or too late"
            latest[sender] = int(number)
            assert message == self.attempts[name].message, f"{name} has arrived as something else"
            names.add(name)
        found: Counter[str] = Counter()
        for name, attempt in self.attempts.items():
            found[attempt.outcome] += 1
            if attempt.outcome == "sent":
                assert name in names or reset, f"{name} was sent and has not arrived"
            elif attempt.outcome == "refused":
                assert name not in names, f"{name} was refused and has arrived"
                assert broken, f"{name} was refused, but nothing was torn"
            else:
                assert attempt.outcome == "cancelled"
                found["cancelled, yet whole"] += name in names
        return found


def as_bytes(message: str | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.encode()


def name_of(message: str | bytes) -> str:
    return " ".join(as_bytes(message).decode().split(" ", 2)[:2])


@dataclass
class ByHand:
    """The other end of the WebSocket, as bytes: it reads slowly, and sends pings, and messages to be answered."""

    connection: trionet.Connection
    strict: Strict
    randomness: random.Random
    clock: Clock
    wire: bytearray = field(default_factory=bytearray)
    reset: bool = False
    asked: int = 0
    taken: int = 0
    all_taken: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    async def read(self) -> None:
        """Read to the end, or to a close frame; then go away."""
        connection, randomness, clock = self.connection, self.randomness, self.clock
        while self.strict.close is None:
            for _ in range(randomness.choice([0, 1, 5])):
                await trio.lowlevel.checkpoint()
                clock.turn()
            try:
                data = await connection.receive_some(randomness.choice([1, 100, 1000, 4000]))
            except HandleBrokenError:
                self.reset = True
                break
            clock.turn()
            if not data:
                break
            self.wire += data
            self.strict.feed(data)
        connection.abort()

    async def ask(self, *, masked: bool) -> None:
        """Send a few messages and pings at once, and the next ones when those were taken."""
        while True:
            count = self.randomness.randrange(1, 20)
            self.asked += count
            data = [text("?", masked=masked)] * count + [frame(Opcode.PING, b"?", masked=masked)]
            self.randomness.shuffle(data)
            await self.connection.send_all(b"".join(data))
            while self.taken < self.asked:
                await self.all_taken.park()

    def took(self) -> None:
        self.taken += 1
        self.all_taken.unpark_all()


async def bombard(sockets: tuple[socket.socket, socket.socket], it: Bombardment, *, client: bool, deflate: bool):
    """One connection's worth of cancelled sends against a peer by hand: what became of them."""
    compression = PerMessageDeflate(server_max_window_bits=12, client_max_window_bits=12) if deflate else None
    async with trionet.open_scope(drain_timeout=30) as scope:
        one, other = map(scope.adopt, sockets)
        extension = DEFLATE if deflate else b""
        if client:
            recipe = to_websocket_client("ws://example/", compression=compression)
            websocket, _ = await both(lambda: one.upgrade(recipe), lambda: answer_by_hand(other, extra=extension))
        else:
            await other.send_all(REQUEST.removesuffix(b"\r\n") + extension + b"\r\n")
            websocket = await one.upgrade(to_websocket_server(compression=compression))
            await other.receive_until(b"\r\n\r\n", max_bytes=1000)
        assert (websocket.compression is not None) is deflate
        peer = ByHand(other, Strict(masked=client, deflate=deflate), random.Random(it.randomness.random()), it.clock)

        async def take() -> bool:
            try:
                assert await websocket.get_message() == "?"
            except ConnectionClosed:
                return False  # a message was abandoned: see `conclude`
            peer.took()
            return True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(peer.ask, masked=not client))
            async with trio.open_nursery() as reading:
                reading.start_soon(peer.read)
                async with trio.open_nursery() as sending:
                    # Answers alone go out together with each other; among other messages they take turns with those.
                    for name in it.randomness.choice(["abc", ""]):
                        sending.start_soon(it.send_many, websocket, name)
                    sending.start_soon(it.send_many, websocket, "answers", take)
                await it.probe(websocket)
                if isinstance(it.error, HandleBrokenError):
                    # A close with input left unread is a reset, which would drop what the peer has not read yet.
                    websocket._transport.socket.shutdown(socket.SHUT_WR)
                else:
                    reading.start_soon(websocket.aclose)
            await websocket.aclose()
            nursery.cancel_scope.cancel()
    assert websocket.end.reason is not Reason.DRAIN_TIMEOUT
    return conclude(it, peer, client=client, deflate=deflate)


def conclude(it: Bombardment, peer: ByHand, *, client: bool, deflate: bool) -> Counter[str]:
    strict = peer.strict
    found = it.check(strict.messages, broken=it.error is not None, reset=peer.reset)
    assert read_by_websockets(peer.wire, masked=client, deflate=deflate) == strict.messages
    found["pongs"] = len(strict.pongs)
    found["compressed"] = strict.compressed
    cut_off = [attempt for attempt in it.attempts.values() if attempt.parts and attempt.outcome == "cancelled"]
    if strict.unfinished:
        assert any(as_bytes(attempt.message).startswith(strict.unfinished) for attempt in cut_off)
    if it.error is None:
        assert (strict.close, strict.torn, strict.unfinished, peer.reset) == (1000, 0, None, False)
    elif isinstance(it.error, HandleBrokenError):
        assert (strict.close, strict.torn, peer.reset) == (None, it.error.bytes_sent, False)
        assert strict.torn > 0
        found["torn"] = 1
    else:
        assert it.error.reason.code == 1011
        assert cut_off
        if strict.close is None:  # in the middle of a fragment: the connection was closed at once
            found["torn fragment"] = 1
        else:
            assert (strict.close, strict.torn) == (1011, 0)
            found["abandoned"] = 1
    return found


TORN = {
    "tcp server": ("tcp", False, False),
    "unix client": ("unix", True, False),
    "tcp client deflate": ("tcp", True, True),
    "unix server deflate": ("unix", False, True),
}
torn = pytest.mark.parametrize(("kind", "client", "deflate"), TORN.values(), ids=TORN)


async def bombard_often(cancelled: int, kind: str, **options: bool) -> Counter[str]:
    """So many sends that are cancelled, among others, on as many connections as they take."""
    randomness = random.Random(f"{kind} {options}")
    found: Counter[str] = Counter()
    while found["cancelled"] < cancelled:
        found += await bombard(small_sockets(kind), Bombardment(randomness, 500), **options)
    # Else nothing was tried.
    assert found["sent"] > cancelled / 4
    assert found["cancelled, yet whole"] < cancelled / 4
    assert found["torn"] > cancelled / 100
    assert found["abandoned"] > cancelled / 1000
    assert found["pongs"] > cancelled / 50
    assert not options["deflate"] or found["compressed"] > cancelled / 4
    return found


@torn
async def test_messages_are_whole_or_not_begun_or_the_connection_says_that_it_is_broken(kind, client, deflate):
    await bombard_often(300, kind, client=client, deflate=deflate)


@pytest.mark.soak
@torn
async def test_ten_thousand_sends_that_are_cancelled(kind, client, deflate):
    await bombard_often(10_000, kind, client=client, deflate=deflate)


async def bombard_websockets(it: Bombardment, *, deflate: bool) -> Counter[str]:
    """The same against a client of the websockets library in a thread, whose slowness is that of this thread."""
    messages: list[str | bytes] = []
    ends: list[websockets.exceptions.ConnectionClosed] = []
    one, other = small_sockets("unix")

    def note(message: str | bytes) -> None:
        messages.append(message)
        for _ in range(it.randomness.randrange(20)):
            it.clock.turn()

    def client() -> None:
        options = {"sock": other, "max_size": None, "max_queue": 1, "compression": "deflate" if deflate else None}
        with websockets.sync.client.connect("ws://example/", **options) as websocket:
            try:
                while True:
                    trio.from_thread.run_sync(note, websocket.recv())
            except websockets.exceptions.ConnectionClosed as exc:
                ends.append(exc)

    async with trionet.open_scope(drain_timeout=5) as scope, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, client)
        recipe = to_websocket_server(compression=PerMessageDeflate() if deflate else None)
        websocket = await scope.adopt(one).upgrade(recipe)
        assert (websocket.compression is not None) is deflate
        async with trio.open_nursery() as sending:
            for name in "abc":
                sending.start_soon(it.send_many, websocket, name)
        await it.probe(websocket)
        await websocket.aclose()
    found = it.check(messages, broken=it.error is not None, reset=False)
    code = ends[0].rcvd and ends[0].rcvd.code
    if it.error is None:
        assert code == 1000
    else:
        assert code is None
        found["torn"] = 1
    return found


async def bombard_websockets_often(cancelled: int, *, deflate: bool) -> None:
    randomness = random.Random(f"websockets {deflate}")
    found: Counter[str] = Counter()
    while found["cancelled"] < cancelled:
        # It takes a message without an end for an offence, so there is none.
        found += await bombard_websockets(Bombardment(randomness, 500, fragments=False), deflate=deflate)
    assert found["sent"] > cancelled / 4
    assert found["torn"] > cancelled / 100


@pytest.mark.parametrize("deflate", [False, True])
async def test_a_client_of_the_websockets_library_finds_the_same(deflate):
    await bombard_websockets_often(50, deflate=deflate)


@pytest.mark.soak
@pytest.mark.parametrize("deflate", [False, True])
async def test_ten_thousand_sends_that_are_cancelled_to_the_websockets_library(deflate):
    await bombard_websockets_often(10_000, deflate=deflate)


# --- floods -------------------------------------------------------------------------------------------------------

LIMIT = 100_000  # max_message_size
BATCH = 65_536  # what one receive brings at most
BOUND = LIMIT + 6 * BATCH  # of memory, whatever comes


class Memory:
    """Bytes that are allocated at most while a block runs, beyond those from before."""

    peak = 0

    def __enter__(self) -> Memory:
        gc.collect()
        tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


def unmasked(first: int, payload: bytes) -> bytes:
    """A client's frame whose masking key is all zeros, so that it costs nothing to make."""
    size = len(payload)
    if size < 126:
        return bytes((first, 0x80 | size)) + bytes(4) + payload
    if size < 65536:
        return bytes((first, 0xFE)) + size.to_bytes(2, "big") + bytes(4) + payload
    return bytes((first, 0xFF)) + size.to_bytes(8, "big") + bytes(4) + payload


FLOODS = {
    "large": unmasked(0x82, b"x" * 60_000) * 10,
    "small": unmasked(0x82, b"x" * 1000) * 500,
    "text": unmasked(0x81, "é".encode() * 500) * 500,
    "pings between": (unmasked(0x82, b"x" * 1000) + unmasked(0x89, b"?")) * 500,
    "fragments": (unmasked(0x02, b"x" * 100) + unmasked(0x00, b"x" * 100) + unmasked(0x80, b"")) * 2000,
    "one without an end": unmasked(0x02, b"x" * 1000),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_that_nobody_receives_is_held_back(flood, autojump_clock):
    """A gigabyte is offered. What is taken in stops at the bound; the peer stops behind what the system buffers."""
    sent = 0
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = tcp_pair(scope)
        server = await server_by_hand(one, other, max_message_size=LIMIT)
        message = FLOODS[flood]
        more = message if flood != "one without an end" else unmasked(0x00, b"x" * 1000) * 500

        async def offer() -> None:
            nonlocal sent
            with pytest.raises(HandleBrokenError):
                await other.send_all(message)
                while sent < 10**9:
                    await other.send_all(more)
                    sent += len(more)

        with Memory() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(offer)
                await trio.sleep(600)
                assert server.phase is Phase.OPEN
                server.abort()
        assert server.statistics().bytes_received < BOUND
        assert sent < 32 * 2**20
        assert memory.peak < BOUND


async def test_a_flood_of_empty_messages_that_nobody_receives_is_held_back(autojump_clock):
    """They have no bytes, so their number is bounded."""
    sent = 0
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=LIMIT)
        messages = (unmasked(0x82, b"") + unmasked(0x81, b"") + unmasked(0x01, b"") + unmasked(0x80, b"")) * 1000

        async def offer() -> None:
            nonlocal sent
            with pytest.raises(HandleBrokenError):
                while True:
                    await other.send_all(messages)
                    sent += 3000

        async with trio.open_nursery() as nursery:
            nursery.start_soon(offer)
            await trio.sleep(60)
            stuck = sent
            await trio.sleep(60)
            assert sent == stuck
            assert 65_536 < len(server._engine.reader.messages) < 65_536 + BATCH // 6
            for _ in range(stuck):
                assert not await server.get_message()
            server.abort()
        assert stuck < 2 * 65_536


def numbered(start: int, count: int, size: int) -> bytes:
    return b"".join(unmasked(0x82, number.to_bytes(4, "big") * (size // 4)) for number in range(start, start + count))


async def receive_slowly(megabytes: int, size: int) -> None:
    """The peer is always ahead by all that there is room for; nothing is lost, and nothing grows."""
    total = megabytes * 2**20 // size // 100 * 100
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=LIMIT)

        async def flood() -> None:
            for start in range(0, total, 10):
                await other.send_all(numbered(start, 10, size))

        with Memory() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                for number in range(total):
                    if not number % 100:
                        await wait_all_tasks_blocked()
                    message = await server.get_message()
                    assert (message[:4], len(message)) == (number.to_bytes(4, "big"), size)
        assert memory.peak < BOUND + 20 * size


async def test_a_slow_receiver_gets_everything_in_bounded_memory():
    await receive_slowly(64, 4000)


@pytest.mark.soak
@pytest.mark.parametrize("size", [1000, 60_000])
async def test_a_slow_receiver_gets_a_gigabyte_in_bounded_memory(size):
    await receive_slowly(1000, size)


FLOODED = """
import socket, sys, trio, trio.testing, trionet

def resident(which):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(which)) // 1024

async def main(descriptor, how):
    async with trionet.open_scope(drain_timeout=0) as scope:
        connection = scope.adopt(socket.socket(fileno=int(descriptor)))
        websocket = await connection.upgrade(trionet.to_websocket_server())
        await websocket.get_message()
        before, size = resident("VmRSS"), 0
        if how == "sleeping":
            while websocket.statistics().bytes_received < 2 ** 20:
                await trio.sleep(1)
            await trio.sleep(1000)
            size = websocket.statistics().bytes_received
        else:
            try:
                while True:
                    size += len(await websocket.get_message())
                    await trio.lowlevel.checkpoint()
            except trionet.ConnectionClosed:
                pass
        print(size, resident("VmHWM") - before)

trio.run(main, *sys.argv[1:], clock=trio.testing.MockClock(rate=2000))
"""


async def flood_a_process(megabytes: int, how: str) -> tuple[int, int]:
    """Flood a process of its own: bytes of messages that it has taken, and by how many MB it has grown at most."""
    one, other = socket.socketpair()
    chunk = unmasked(0x82, b"x" * 1000) * 1000
    with one:
        command = [sys.executable, "-c", FLOODED, str(other.fileno()), how]
        options = {"pass_fds": [other.fileno()], "stdout": subprocess.PIPE}
        process = await trio.lowlevel.open_process(command, **options)
        other.close()

        def flood() -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                one.sendall(REQUEST)
                assert one.recv(1000).endswith(b"\r\n\r\n")
                one.sendall(text("go"))
                for _ in range(megabytes):
                    one.sendall(chunk)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_WR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, flood)
            assert process.stdout is not None
            output = b"".join([part async for part in process.stdout])
            assert await process.wait() == 0
    size, growth = map(int, output.split())
    return size, growth


async def check_processes(megabytes: int) -> None:
    size, growth = await flood_a_process(megabytes, "sleeping")
    assert 2**20 < size < 2 * 2**20
    assert growth < 6
    size, growth = await flood_a_process(megabytes, "receiving")
    assert size == megabytes * 10**6
    assert growth < 6


async def test_a_process_that_is_flooded_does_not_grow():
    await check_processes(64)


@pytest.mark.soak
async def test_a_process_that_is_flooded_with_a_gigabyte_does_not_grow():
    await check_processes(1000)


# --- compressed floods --------------------------------------------------------------------------------------------

ZEROS = 65 * 10**6


async def compressed_server(one, other, **options):
    """A server on `one` that has agreed on compression; its client is `other`, by hand."""
    await other.send_all(REQUEST.removesuffix(b"\r\n") + DEFLATE + b"\r\n")
    server = await one.upgrade(to_websocket_server(compression=PerMessageDeflate(), **options))
    await other.receive_until(b"\r\n\r\n", max_bytes=1000)
    return server


def compressed(*messages: bytes) -> list[bytes]:
    """Messages as a peer compresses them that makes as much of its context as can be."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    flushed = [stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH) for message in messages]
    return [data.removesuffix(TAIL) for data in flushed]


@functools.cache
def bomb() -> bytes:
    """64 kB, of which zlib makes 65 MB."""
    (data,) = compressed(bytes(ZEROS))
    assert len(data) < 65536
    return data


def in_one_frame() -> bytes:
    return unmasked(0xC2, bomb())


def in_fragments() -> bytes:
    cuts = [bomb()[start : start + 1000] for start in range(0, len(bomb()), 1000)]
    return unmasked(0x42, cuts[0]) + b"".join(unmasked(0x00, cut) for cut in cuts[1:]) + unmasked(0x80, b"")


@pytest.mark.parametrize("make", [in_one_frame, in_fragments])
async def test_few_bytes_that_expand_to_many_are_too_big(make):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await compressed_server(one, other, max_message_size=LIMIT)
        data = make()
        with Memory() as memory:
            await other.send_all(data)
            with pytest.raises(trionet.LimitExceededError, match="max_message_size"):
                await server.get_message()
            opcode, payload = await receive_frame(other)
        assert (opcode, payload[:2]) == (0x88, (1009).to_bytes(2, "big"))
        assert memory.peak < BOUND


@pytest.mark.parametrize("make", [in_one_frame, in_fragments])
async def test_few_bytes_that_expand_to_many_are_received_in_parts(make):
    """In parts there is no limit, and no part is large."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await compressed_server(one, other, max_message_size=LIMIT)
        data = make() + text("next")
        size = 0
        with Memory() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.send_all, data)
                async for part in server.receive_fragments():
                    assert len(part) <= BATCH
                    size += len(part)
            assert await server.get_message() == "next"
        assert size == ZEROS
        assert memory.peak < BOUND


async def test_of_few_bytes_that_expand_to_many_the_rest_is_dropped():
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await compressed_server(one, other, max_message_size=LIMIT)
        data = in_one_frame() + text("next")
        with Memory() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.send_all, data)
                parts = server.receive_fragments()
                assert await anext(parts) == bytes(BATCH)
                await parts.aclose()
            assert await server.get_message() == "next"
        assert memory.peak < BOUND


@pytest.mark.parametrize("asleep", [False, True], ids=["receiving", "asleep"])
async def test_few_bytes_that_expand_to_many_messages_come_one_after_another(asleep, autojump_clock):
    """Each is within the limit. They are expanded as they are taken, not all at once; and none is lost."""
    messages = [bytes([number]) * (LIMIT - number) for number in range(250)]
    data = b"".join(unmasked(0xC2, message) for message in compressed(*messages))
    assert len(data) < BATCH
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await compressed_server(one, other, max_message_size=LIMIT)
        with Memory() as memory:
            await other.send_all(data)
            if asleep:
                await trio.sleep(60)
                assert 0 < server._engine.reader.buffered < 3 * LIMIT
            for message in messages:
                assert await server.get_message() == message
        assert memory.peak < BOUND


async def test_a_client_that_goes_away_behind_many_messages_has_sent_them_all(autojump_clock):
    """What waits to be expanded when the close comes, or the end of the connection, is delivered all the same."""
    messages = [bytes([number]) * LIMIT for number in range(100)]
    data = b"".join(unmasked(0xC2, message) for message in compressed(*messages))
    for end in (close(4001), b""):
        async with trionet.open_scope(drain_timeout=5) as scope:
            one, other = unix_pair(scope)
            server = await compressed_server(one, other, max_message_size=LIMIT)
            await other.send_all(data + end)
            await trio.sleep(10)
            other.abort()
            for message in messages:
                assert await server.get_message() == message
            with pytest.raises(ConnectionClosed, match="4001" if end else "1006"):
                await server.get_message()


# --- pings, and messages without data -----------------------------------------------------------------------------


class Counting:
    """A transport that counts the receives which brought something."""

    def __init__(self, transport):
        self._transport = transport
        self.batches = 0

    def __getattr__(self, name):
        return getattr(self._transport, name)

    async def receive_some(self, max_bytes):
        data = await self._transport.receive_some(max_bytes)
        self.batches += bool(data)
        return data


async def test_of_ten_thousand_pings_in_a_segment_a_few_are_answered_for_each_batch():
    pings = b"".join(frame(Opcode.PING, b"%d" % number) for number in range(10_000))
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        server._transport = counting = Counting(server._transport)
        await other.send_all(pings + text("x"))
        assert await server.get_message() == "x"
        answered = [await receive_frame(other)]
        while answered[-1] != (0x8A, b"9999"):
            answered.append(await receive_frame(other))
        assert counting.batches <= len(pings) // BATCH + 2
        assert len(answered) <= MAX_PONGS * (10_000 * COSTLY // FRAMES + counting.batches)
        numbers = [int(payload) for _, payload in answered]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("how", ["receiving", "asleep", "sending in vain"])
async def test_pongs_do_not_pile_up_for_a_peer_that_never_reads(how, autojump_clock):
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        filler = clog(server)
        pings = frame(Opcode.PING, b"x" * 125) * 100
        with Memory() as memory:
            async with trio.open_nursery() as nursery:
                if how == "receiving":
                    nursery.start_soon(server.get_message)
                for _ in range(200):
                    await other.send_all(pings)
                    with trio.move_on_after(2):
                        if how == "sending in vain":
                            await server.send_message("x" * 100)
                        await trio.sleep_forever()
                await other.send_all(frame(Opcode.PING, b"last"))
                await trio.sleep(2)
                nursery.cancel_scope.cancel()
        assert memory.peak < 6 * BATCH
        await other.receive_exactly(filler)
        answered = [await receive_frame(other)]
        while answered[-1] != (0x8A, b"last"):
            answered.append(await receive_frame(other))
        assert (
            len(answered) <= 3 * MAX_PONGS
        )  # what is being sent, what is due, and what was put back by a cancelled send


async def test_pings_are_answered_as_long_as_there_is_room_for_the_messages_before_them(autojump_clock):
    """The application sleeps for a minute. Then it takes the messages, and the pings behind them are answered too."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=LIMIT)
        answered = []

        async def note() -> None:
            while True:
                answered.append((await receive_frame(other))[1])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
            for number in range(20):
                await other.send_all(text("x" * 10_000) + frame(Opcode.PING, b"%d" % number))
                await trio.sleep(2)
            room = LIMIT // 10_000
            assert answered == [b"%d" % number for number in range(len(answered))]
            assert room <= len(answered) <= room + 2
            for _ in range(20):
                assert await server.get_message() == "x" * 10_000
            await trio.sleep(2)
            assert answered[-1] == b"19"
            nursery.cancel_scope.cancel()


async def test_ten_thousand_messages_and_fragments_without_data():
    fragments = unmasked(0x01, b"") + unmasked(0x00, b"") * 10_000 + unmasked(0x80, b"")
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=LIMIT)
        data = (unmasked(0x81, b"") + unmasked(0x82, b"")) * 5000 + fragments + fragments + fragments + text("end")

        with Memory() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.send_all, data)
                for _ in range(5000):
                    assert await server.get_message() == ""
                    assert await server.get_message() == b""
                assert await server.get_message() == ""
                assert [part async for part in server.receive_fragments()] == [""]
                assert [part async for part in server.receive_fragments()] == [""]
                assert await server.get_message() == "end"
        assert memory.peak < BOUND


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
@pytest.mark.parametrize("megabytes", [0.25, pytest.param(8, marks=pytest.mark.soak)])
async def test_fragments_without_data_and_without_an_end_cost_no_memory(megabytes, parts):
    fragments = unmasked(0x00, b"") * 10_000
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=LIMIT)

        async def flood() -> None:
            await other.send_all(unmasked(0x02, b""))
            for _ in range(int(megabytes * 2**20) // len(fragments)):
                await other.send_all(fragments)
            await other.send_all(unmasked(0x80, b"x"))

        with Memory() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                if parts:
                    assert [part async for part in server.receive_fragments()] == [b"x"]
                else:
                    assert await server.get_message() == b"x"
        assert memory.peak < BOUND


async def test_a_length_that_is_only_claimed_costs_nothing():
    """The head of a frame says that 2 ** 62 bytes will come: nobody waits for them, nor makes room for them."""
    async with trionet.open_scope(drain_timeout=0) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other, max_message_size=LIMIT)
        with Memory() as memory:
            await other.send_all(bytes((0x82, 0xFF)) + (2**62).to_bytes(8, "big") + bytes(4) + b"x")
            with pytest.raises(trionet.LimitExceededError, match="max_message_size"):
                await server.get_message()
        assert (await receive_frame(other))[1][:2] == (1009).to_bytes(2, "big")
        assert memory.peak < BOUND


async def test_what_comes_behind_a_close_that_was_sent_costs_nothing(autojump_clock):
    """This side closes; the peer, in place of its close, sends messages until it cannot: the deadline ends it."""
    async with trionet.open_scope(drain_timeout=3) as scope:
        one, other = unix_pair(scope)
        server = await compressed_server(one, other, max_message_size=LIMIT)
        data = in_one_frame() + unmasked(0x82, b"x" * 1000) * 100 + unmasked(0x89, b"?") * 100
        began = trio.current_time()
        with Memory() as memory:
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    with pytest.raises(HandleBrokenError):
                        while True:
                            await other.send_all(data)
                            await trio.sleep(0.1)

                nursery.start_soon(flood)
                await server.aclose()
        assert 3 <= trio.current_time() - began < 4
        assert server.end.reason is Reason.DRAIN_TIMEOUT
        assert memory.peak < BOUND


# --- handlers that raise, clients that reset ----------------------------------------------------------------------


class Loud(Exception):
    """What a handler raises."""


async def converse(websocket: trionet.WebSocket) -> None:
    async for message in websocket:
        if message == "raise":
            raise Loud
        await websocket.send_message(message)


async def on_connection(connection: trionet.Connection) -> None:
    await converse(await connection.upgrade(to_websocket_server()))


async def on_exchange(exchange: trionet.Exchange) -> None:
    await converse(await exchange.upgrade(to_websocket_server()))


class Errors(logging.Handler):
    """Notes what a server logs as an error, by type; and is a hook for `serve_http` too."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.logged: Counter[str] = Counter()
        self.hooked: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info is not None
        self.logged[type(record.exc_info[1]).__name__] += 1

    def hook(self, _: trionet.Exchange, failure: outcome.Error) -> None:
        self.hooked[type(failure.error).__name__] += 1


@pytest.fixture
def errors(monkeypatch):
    logger, errors = logging.getLogger("trionet.server"), Errors()
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(errors)
    yield errors
    logger.removeHandler(errors)


async def greet(client: trionet.Connection) -> None:
    await client.send_all(REQUEST)
    assert (await client.receive_until(b"\r\n\r\n", max_bytes=1000)).startswith(b"HTTP/1.1 101 ")


async def make_it_raise(client: trionet.Connection, _: random.Random) -> None:
    await greet(client)
    await client.send_all(text("raise"))
    opcode, payload = await receive_frame(client)
    assert (opcode, payload[:2]) == (0x88, (1011).to_bytes(2, "big"))
    await client.send_all(close(1011))
    assert await receive_all(client) == b""


async def reset_it(client: trionet.Connection, randomness: random.Random) -> None:
    await greet(client)
    message = text("x" * randomness.choice([0, 100, 1000, 70_000]))
    await client.send_all(message[: randomness.randrange(1, len(message))])
    vanish(client)


async def be_served(port: int) -> None:
    """A client who means well is served."""
    with trio.fail_after(5):
        async with trionet.open_tcp("127.0.0.1", port) as client:
            await greet(client)
            await client.send_all(text("hello"))
            assert await receive_frame(client) == (0x81, b"hello")
            await client.send_all(close())
            assert await receive_frame(client) == (0x88, (1000).to_bytes(2, "big"))
            assert await receive_all(client) == b""


async def all_gone(server: trionet.Server) -> None:
    await wait_all_tasks_blocked()
    while server.statistics().open:
        await wait_all_tasks_blocked()


async def offend(serve: Any, offences: Any, count: int) -> Counter[str]:
    """So many clients offend a server, and after each of them one is served: what the offences were.

    In the end the server has no more tasks and files than in the beginning.
    """
    randomness = random.Random(count)
    made: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        for offence in offences:
            async with trionet.open_tcp("127.0.0.1", server.port) as client:
                await offence(client, randomness)
        await be_served(server.port)
        await all_gone(server)
        tasks, files = trio.lowlevel.current_statistics().tasks_living, open_descriptors()
        failed = server.statistics().failed
        for _ in range(count):
            offence = randomness.choice(offences)
            made[offence.__name__] += 1
            async with trionet.open_tcp("127.0.0.1", server.port) as client:
                await offence(client, randomness)
            await be_served(server.port)
        await all_gone(server)
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert open_descriptors() == files
        figures = server.statistics()
        made["failed"] = figures.failed - failed
        made.update(figures.peer_faults)
        assert (await server.drain(1)).clean
        nursery.cancel_scope.cancel()
    return made


async def check_a_server_of_connections(errors: Errors, count: int) -> None:
    serve = partial(trionet.serve_tcp, on_connection, 0, host="127.0.0.1")
    made = await offend(serve, [make_it_raise, reset_it], count)
    assert made["failed"] == made["make_it_raise"]
    assert made["reset"] == made["reset_it"] + 1
    assert errors.logged == {"Loud": made["make_it_raise"] + 1}


async def check_a_server_of_exchanges(errors: Errors, count: int) -> None:
    """The handler's error goes to the hook. That a client has gone is no error of the handler's."""
    serve = partial(trionet.serve_http, on_exchange, 0, host="127.0.0.1", on_error=errors.hook)
    made = await offend(serve, [make_it_raise, reset_it], count)
    assert errors.hooked["Loud"] == made["make_it_raise"] + 1
    assert set(errors.hooked) == {"Loud"}
    assert not errors.logged


SERVERS = [check_a_server_of_connections, check_a_server_of_exchanges]


@pytest.mark.parametrize("check", SERVERS)
async def test_handlers_that_raise_and_clients_that_reset_leave_nothing_behind(check, errors):
    await check(errors, 100)


@pytest.mark.soak
@pytest.mark.parametrize("check", SERVERS)
async def test_five_thousand_handlers_that_raise_and_clients_that_reset_leave_nothing_behind(check, errors):
    await check(errors, 5000)


# --- handshakes ---------------------------------------------------------------------------------------------------


async def send_half_a_handshake(client: trionet.Connection, randomness: random.Random) -> None:
    await client.send_all(REQUEST[: randomness.randrange(1, len(REQUEST) - 1)])
    if randomness.random() < 0.5:
        vanish(client)
    else:
        await client.send_eof()
        await receive_all(client)


async def send_garbage(client: trionet.Connection, randomness: random.Random) -> None:
    garbage = randomness.choice(
        [randomness.randbytes(500), b"\x16\x03\x01\x02\x00\x01", b"\x00" * 50, b"\x81\x85abcdefghi"]
    )
    await client.send_all(garbage + b"\r\n\r\n")
    assert (await receive_all(client)).startswith(b"HTTP/1.1 400 ")


async def send_a_huge_head(client: trionet.Connection, randomness: random.Random) -> None:
    """A head without an end: the answer comes when it is too long, and nobody reads on for ever."""
    sent = 0
    with contextlib.suppress(HandleBrokenError):
        await client.send_all(REQUEST[:-2])
        while sent < 10**9:
            await client.send_all(b"X-%d: %b\r\n" % (sent, b"x" * randomness.randrange(5000)))
            sent += 2500
    assert sent < 10**8


async def send_a_body(client: trionet.Connection, _: random.Random) -> None:
    await client.send_all(REQUEST[:-2] + b"Content-Length: 1000000\r\n\r\n")
    assert (await receive_all(client)).startswith(b"HTTP/1.1 400 ")


async def be_refused(client: trionet.Connection, _: random.Random) -> None:
    await client.send_all(REQUEST.replace(b"Version: 13", b"Version: 12"))
    assert (await client.receive_until(b"\r\n\r\n", max_bytes=1000)).startswith(b"HTTP/1.1 426 ")


async def test_handshakes_that_go_wrong_leave_nothing_behind(errors):
    serve = partial(trionet.serve_tcp, on_connection, 0, host="127.0.0.1")
    offences = [send_half_a_handshake, send_garbage, send_a_huge_head, send_a_body, be_refused]
    made = await offend(serve, offences, 50)
    assert made["failed"] == 0
    assert made["refused"] == made["be_refused"] + 1
    assert made["handshake"] == 50 + len(offences) - made["refused"]
    assert not errors.logged


@pytest.mark.parametrize("seconds", [0.5, 9.0, 60.0], ids=lambda seconds: f"a byte in {seconds:g} s")
async def test_a_client_that_takes_its_time_for_the_handshake_is_given_up(seconds, errors, autojump_clock):
    """However steadily its bytes come; and the next client does not wait for it."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trionet.serve_tcp, on_connection, 0, host="127.0.0.1"))
        async with trionet.open_tcp("127.0.0.1", server.port) as client:
            began = trio.current_time()

            async def drip() -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    for byte in REQUEST:
                        await client.send_all(bytes([byte]))
                        await trio.sleep(seconds)

            nursery.start_soon(drip)
            await be_served(server.port)
            with contextlib.suppress(HandleBrokenError):
                assert not await client.receive_some()
            assert 10 <= trio.current_time() - began <= 11
        assert server.statistics().peer_faults["handshake"] == 1
        assert (await server.drain(1)).clean
        nursery.cancel_scope.cancel()
    assert not errors.logged


# --- closing against a peer that does not help --------------------------------------------------------------------


async def never_answer(peer: trionet.Connection, _: bool) -> None:
    await receive_all(peer)


async def never_read(_: trionet.Connection, __: bool) -> None:
    await trio.sleep_forever()


async def answer_half(peer: trionet.Connection, masked: bool) -> None:
    await peer.send_all(close(masked=masked)[:-1])
    await receive_all(peer)


async def promise_much(peer: trionet.Connection, masked: bool) -> None:
    await peer.send_all(bytes((0x82, 0x80 * masked + 127)) + (2**62).to_bytes(8, "big") + bytes(4 * masked))
    with pytest.raises((HandleBrokenError, trio.ClosedResourceError)):
        while True:
            await peer.send_all(b"x" * 1000)
            await trio.sleep(0.01)


async def drip_pings(peer: trionet.Connection, masked: bool) -> None:
    with pytest.raises((HandleBrokenError, trio.ClosedResourceError)):
        while True:
            for byte in frame(Opcode.PING, b"?", masked=masked):
                await peer.send_all(bytes([byte]))
                await trio.sleep(0.1)


async def answer_with_garbage(peer: trionet.Connection, _: bool) -> None:
    with contextlib.suppress(HandleBrokenError):
        await peer.send_all(b"\xff" * 1000)
    await receive_all(peer)


async def answer_with_garbage_without_an_end(peer: trionet.Connection, _: bool) -> None:
    with contextlib.suppress(HandleBrokenError):
        while True:
            await peer.send_all(b"\xff" * 1000)
            await trio.sleep(0.01)


DEADLINE = 3
UNHELPFUL = {
    # The peer, and after how many seconds it is over: an offence is not waited out to the end.
    never_answer: DEADLINE,
    never_read: DEADLINE,
    answer_half: DEADLINE,
    promise_much: DEADLINE,
    drip_pings: DEADLINE,
    answer_with_garbage: 1,
    answer_with_garbage_without_an_end: 1,
}


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("peer", UNHELPFUL, ids=lambda peer: peer.__name__)
async def test_a_close_comes_to_its_end(peer, client, autojump_clock):
    async with trionet.open_scope(drain_timeout=DEADLINE) as scope:
        one, other = unix_pair(scope)
        websocket = await (client_by_hand if client else server_by_hand)(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer, other, not client)
            began = trio.current_time()
            await websocket.aclose(1000, "over")
            assert trio.current_time() - began == pytest.approx(UNHELPFUL[peer], abs=0.2)
            assert websocket.phase is Phase.CLOSED
            assert websocket.end.reason is (Reason.DRAIN_TIMEOUT if UNHELPFUL[peer] == DEADLINE else Reason.LOCAL)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stuck", ["message", "fragments", "pong", "broadcast", "nothing"])
async def test_a_close_behind_what_the_peer_does_not_read_comes_to_its_end(stuck, autojump_clock):
    """A task is sending; or a pong, or a message that was broadcast, waits to be sent; then the WebSocket is closed."""
    ends = []
    async with trionet.open_scope(drain_timeout=DEADLINE) as scope:
        one, other = unix_pair(scope)
        server = await server_by_hand(one, other)
        clog(server)

        async def send(sending: Any, message: Any) -> None:
            try:
                await sending(message)
            except ConnectionClosed as exc:
                ends.append(exc)

        async with trio.open_nursery() as nursery:
            if stuck == "message":
                nursery.start_soon(send, server.send_message, b"x")
                nursery.start_soon(send, server.send_message, b"in the queue")
            elif stuck == "fragments":
                nursery.start_soon(send, server.send_fragments, [b"x", b"x"])
                nursery.start_soon(send, server.send_fragments, [b"in the queue"])
            elif stuck == "pong":
                await other.send_all(frame(Opcode.PING, b"?") + text("x"))
                assert await server.get_message() == "x"
            elif stuck == "broadcast":
                assert trionet.broadcast([server], "x") == []
            await wait_all_tasks_blocked()
            began = trio.current_time()
            await server.aclose()
            assert trio.current_time() - began == pytest.approx(DEADLINE, abs=0.2)
            assert server.end.reason is Reason.DRAIN_TIMEOUT
    assert len(ends) == (2 if stuck in ("message", "fragments") else 0)


async def test_a_server_that_drains_does_not_wait_for_clients_that_do_not_help(errors, autojump_clock):
    """All of them together take as long as one."""
    offences = [never_answer, never_read, answer_half, drip_pings]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trionet.serve_tcp, on_connection, 0, host="127.0.0.1"))
        async with trionet.open_scope(drain_timeout=0) as scope:
            for offence in offences * 5:
                client = await scope.connect_tcp("127.0.0.1", server.port)
                await greet(client)
                nursery.start_soon(offence, client, True)
            await be_served(server.port)
            began = trio.current_time()
            report = await server.drain(DEADLINE)
            assert trio.current_time() - began == pytest.approx(DEADLINE, abs=0.2)
            assert sum(entry.handle.startswith("<WebSocket") for entry in report.forced) == 20
            nursery.cancel_scope.cancel()
    assert not errors.logged
