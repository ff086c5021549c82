"""The fast paths of receiving and sending do what the careful ones do: the same bytes, messages, errors and figures."""

import socket

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from websockets.frames import Opcode

import trionet
from trionet import Headers, broadcast
from trionet.websocket import WebSocket
from trionet.websocket.handshake.server import WebSocketServerRecipe
from trionet.websocket.handshake.settings import Settings

from ..helpers.pairs import lockstep_pair, unix_pair
from ..helpers.websockets_by_hand import REQUEST, close, frame, text


class Careful(WebSocket):
    """A WebSocket without fast paths."""

    async def get_message(self):
        return await self._receiver.next_message(self)

    async def send_message(self, message):
        await self._sender.send(self, message)


def narrow_pair(scope):
    """Sockets that take little of a peer that does not read."""
    one, other = unix_pair(scope)
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return one, other


LARGE = 70_000
"""Stands for a message of so many bytes, in what a failing test prints."""
messages = st.one_of(st.text(max_size=9), st.binary(max_size=200), st.just(LARGE))
batches = st.lists(
    st.one_of(
        st.builds(text, st.text(max_size=9)),
        st.just(b"".join(text(str(number)) for number in range(40))),
        st.builds(lambda data: frame(Opcode.PING, data), st.binary(max_size=9)),
        st.just(text("a", fin=False) + frame(Opcode.CONT, b"b")),
        st.just(text("c", fin=False)),
        st.just(frame(Opcode.CONT, b"d")),
        st.just(frame(Opcode.PONG, b"p")),
    ),
    min_size=1,
    max_size=4,
).map(b"".join)
steps = st.one_of(
    st.tuples(st.just("peer"), batches),
    st.tuples(st.just("read")),
    st.tuples(st.just("get"), st.integers(1, 3)),
    st.tuples(st.just("part"), st.booleans()),
    st.tuples(st.just("ping")),
    st.tuples(st.just("fragments")),
    st.tuples(st.just("go on")),
    st.tuples(st.just("send"), st.lists(messages, min_size=1, max_size=3)),
    st.tuples(st.just("echo"), st.integers(1, 40)),
    st.tuples(st.just("post"), messages),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("close")),
    st.tuples(st.just("abort")),
)


def whole(message):
    return "x" * message if message == LARGE else message


class Story:
    """Operations on one WebSocket, each a task of its own, and a peer that reads when it is told to."""

    def __init__(self, scope, websocket, other):
        self.scope, self.websocket, self.other = scope, websocket, other
        self.seen = []
        self.ended = []  # of one step: which of several tasks comes first is up to Trio
        self.arrived = bytearray()
        self.reading = trio.Event()
        self.under_way = []
        self.fragments = None
        self.go_on = trio.Event()

    async def read(self):
        while True:
            await self.reading.wait()
            try:
                data = await self.other.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            self.arrived += data

    async def operate(self, number, function, scope):
        with scope:
            try:
                result = await function()
            except (trionet.TrionetError, trio.BrokenResourceError, trio.ClosedResourceError, ValueError) as exc:
                result = type(exc), self.websocket.closed and self.websocket.closed.code
            self.ended.append((number, result))
        if scope.cancelled_caught:
            self.ended.append((number, "cancelled"))

    async def start(self, number, function):
        scope = trio.CancelScope()
        self.under_way.append(scope)
        self.scope.start_soon(self.operate, number, function, scope)
        await wait_all_tasks_blocked()

    async def take(self, number, step):
        websocket = self.websocket

        async def get(count):
            return [await websocket.get_message() for _ in range(count)]

        async def part(new):
            if new or self.fragments is None:
                self.fragments = websocket.receive_fragments()
            async for found in self.fragments:
                return found

        async def parts():
            yield "1"
            await self.go_on.wait()
            yield "2"

        async def echo(count):
            for _ in range(count):
                await websocket.send_message(await websocket.get_message())

        match step:
            case "peer", data:
                await self.start(number, lambda: self.other.send_all(data))
            case ("read",):
                self.reading.set()
                await wait_all_tasks_blocked()
                self.reading = trio.Event()
            case "get", count:
                await self.start(number, lambda: get(count))
            case "part", new:
                await self.start(number, lambda: part(new))
            case ("ping",):
                await self.start(number, lambda: websocket.ping(b"p" if not number % 2 else b"q"))
            case ("fragments",):
                await self.start(number, lambda: websocket.send_fragments(parts()))
            case ("go on",):
                self.go_on.set()
                await wait_all_tasks_blocked()
                self.go_on = trio.Event()
            case "send", several:
                for message in several:
                    await self.start(number, lambda: websocket.send_message(whole(message)))  # noqa: B023
            case "echo", count:
                await self.start(number, lambda: echo(count))
            case "post", message:
                self.seen.append((number, broadcast([websocket], whole(message)) == []))
                await wait_all_tasks_blocked()
            case ("cancel",):
                if self.under_way:
                    self.under_way.pop(0).cancel()
                    await wait_all_tasks_blocked()
            case ("close",):
                await self.start(number, lambda: self.other.send_all(close(1001)))
            case ("abort",):
                websocket.abort()
                await wait_all_tasks_blocked()
        self.seen.append(sorted(self.ended, key=repr))
        self.ended.clear()
        self.seen.append(websocket.phase)


async def tell(kind, make_pair, steps):
    async with trionet.open_scope() as scope:
        one, other = make_pair(scope)
        scope.start_soon(other.send_all, REQUEST)
        reply = []

        async def accepted():
            reply.append(await other.receive_until(b"\r\n\r\n", max_bytes=999))

        scope.start_soon(accepted)
        websocket = await one.upgrade(WebSocketServerRecipe((), Headers(), None, Settings(kind=kind)))
        await wait_all_tasks_blocked()
        story = Story(scope, websocket, other)
        scope.start_soon(story.read)
        for number, step in enumerate(steps):
            await story.take(number, step)
        story.reading.set()
        await wait_all_tasks_blocked()
        figures = websocket.statistics()
        scope.cancel()
    return story.seen, figures.bytes_received, figures.bytes_sent, story.arrived


@pytest.mark.parametrize("make_pair", [lockstep_pair, narrow_pair])
def test_the_fast_paths_do_what_the_careful_ones_do(make_pair):
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(steps, max_size=8))
    @example([("peer", b"".join(text(str(number)) for number in range(40))), ("echo", 40), ("read",)])
    @example([("fragments",), ("send", ["b"]), ("read",), ("go on",), ("read",)])
    @example([("ping",), ("get", 1), ("peer", text("a") * 2), ("get", 1), ("peer", frame(Opcode.PONG, b"p"))])
    @example([("ping",), ("peer", text("a")), ("get", 1), ("peer", frame(Opcode.PONG, b"p")), ("read",)])
    @example(
        [
            ("peer", text("c", fin=False)),
            ("part", True),
            ("ping",),
            ("peer", frame(Opcode.CONT) + text("b") * 2 + frame(Opcode.PONG, b"p")),
            ("read",),
            ("get", 1),
            ("part", False),
        ]
    )
    @example([("peer", text("a") * 3 + frame(Opcode.PING, b"p")), ("get", 1), ("send", ["b", b"c"]), ("get", 2)])
    @example([("post", LARGE), ("send", ["b"]), ("read",), ("close",), ("get", 1), ("send", ["c"])])
    @example([("send", [LARGE, LARGE, "b"]), ("cancel",), ("send", ["c"]), ("read",), ("get", 1)])
    @example([("send", [LARGE]), ("get", 1), ("peer", frame(Opcode.PING, b"p") + text("a")), ("read",), ("send", "b")])
    @example([("peer", text("c", fin=False)), ("part", True), ("peer", frame(Opcode.CONT) + text("b") * 2), ("get", 2)])
    @example(
        [("peer", text("c", fin=False)), ("part", True), ("peer", frame(Opcode.CONT, b"d") + text("e")), ("get", 1)]
    )
    @example([("peer", text("a") * 3), ("get", 1), ("part", True), ("get", 1)])
    def compare(steps):
        clock = MockClock()  # it stands still: no tick of the caretaker comes between
        fast, careful = (trio.run(tell, kind, make_pair, steps, clock=clock) for kind in (WebSocket, Careful))
        assert fast == careful

    compare()
