"""Bytes both ways between two connections: what goes on, what ends, and how."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trionet
from trionet import HandleBrokenError, HandleBusyError, HandleClosedError, Phase, Reason

from .helpers.pairs import PAIRS, clog, receive_all, tcp_pair, unix_pair
from .helpers.tls import no_hang, secure

__all__ = ["no_hang", "secure"]

BIG = bytes(range(256)) * 4096


class Line:
    """A client, what is pumped between, and a server; `result` is what `pump` gave or raised."""

    def __init__(self, scope, left, right):
        self.client, self.a = left(scope)
        self.b, self.server = right(scope)
        self.result = None
        self.cancel = trio.CancelScope()

    async def pump(self, **options):
        with self.cancel:
            try:
                self.result = await trionet.pump(self.a, self.b, **options)
            except trionet.TrionetError as exc:
                self.result = exc


@pytest.fixture
async def line(nursery):
    """Start a pump between two pairs: ``await line()``."""
    async with trionet.open_scope(drain_timeout=0) as scope:

        async def start(left=unix_pair, right=unix_pair, **options):
            made = Line(scope, left, right)
            nursery.start_soon(lambda: made.pump(**options))
            await wait_all_tasks_blocked()
            return made

        yield start


@pytest.mark.parametrize("left", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("right", PAIRS.values(), ids=PAIRS)
async def test_all_goes_both_ways_at_once(line, left, right):
    it = await line(left, right)
    got = {}

    async def say(conn, data):
        await conn.send_all(data)
        await conn.send_eof()

    async def hear(name, conn):
        got[name] = await receive_all(conn)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, it.client, BIG)
        nursery.start_soon(say, it.server, BIG[::-1] + b"!")
        nursery.start_soon(hear, "client", it.client)
        nursery.start_soon(hear, "server", it.server)
    await wait_all_tasks_blocked()
    assert got == {"client": BIG[::-1] + b"!", "server": BIG}
    assert it.result == (len(BIG), len(BIG) + 1)


async def test_half_closed_the_other_way_goes_on_and_the_figures_are_right(line):
    it = await line()
    await it.client.send_all(b"question")
    await it.client.send_eof()
    assert await receive_all(it.server) == b"question"
    await it.server.send_all(b"the ")
    assert await it.client.receive_exactly(4) == b"the "
    assert it.result is None
    await it.server.send_all(b"answer")
    await it.server.send_eof()
    assert await receive_all(it.client) == b"answer"
    await wait_all_tasks_blocked()
    assert it.result == (8, 10)
    assert (it.a.phase, it.b.phase) == (Phase.OPEN, Phase.OPEN)


async def test_what_was_unread_before_goes_first(line):
    async with trionet.open_scope() as scope:
        client, a = unix_pair(scope)
        b, server = unix_pair(scope)
        await client.send_all(b"HELLO\r\nthen")
        assert await a.receive_until(b"\r\n", max_bytes=9) == b"HELLO\r\n"
        for conn in (client, server):
            await conn.send_eof()
        assert await trionet.pump(a, b) == (4, 0)
        assert await receive_all(server) == b"then"


async def test_a_side_that_takes_nothing_holds_up_the_other(line, autojump_clock):
    it = await line()
    clog(it.b)
    total = 0
    with trio.move_on_after(60):
        while True:
            await it.client.send_all(bytes(10_000))
            total += 10_000
    assert it.a.statistics().bytes_received <= 65536
    assert it.a._transport.receive_nowait(1) is not None  # the rest waits in the system
    it.cancel.cancel()


async def test_a_reset_becomes_a_reset_on_the_other_side(line):
    it = await line(tcp_pair, tcp_pair)
    await it.client.send_all(b"half of")
    assert await it.server.receive_exactly(7) == b"half of"
    it.client._transport.spoil()
    it.client.abort()
    with pytest.raises(HandleBrokenError):
        await it.server.receive_some()
    await wait_all_tasks_blocked()
    assert isinstance(it.result, HandleBrokenError)
    assert it.result.handle is it.a
    assert (it.a.phase, it.b.end.reason) == (Phase.OPEN, Reason.ABORTED)


async def test_what_a_side_said_before_it_left_is_delivered(line):
    """A server answers early and closes with input unread; the client, which is still sending, gets the answer."""
    it = await line(tcp_pair, tcp_pair)
    await it.client.send_all(b"x" * 1000)
    await it.server.peek(1000)
    await it.server.send_all(b"413 too much")
    await wait_all_tasks_blocked()
    assert await it.client.receive_exactly(3) == b"413"
    it.server._transport.spoil()
    it.server.abort()
    await it.client.send_all(b"x")
    with pytest.raises(HandleBrokenError):
        await receive_all(it.client)
    await wait_all_tasks_blocked()
    assert isinstance(it.result, HandleBrokenError)
    assert it.result.handle is it.b


async def test_a_broken_target_lets_the_other_way_end_in_its_time(line, autojump_clock):
    """given memory streams whose one direction has failed, the other goes on for `linger` seconds, not for ever"""
    it = await line(PAIRS["memory"], PAIRS["memory"], linger=3)
    began = trio.current_time()
    await it.server._transport.stream.receive_stream.aclose()
    await it.client.send_all(b"to nobody")
    await it.server.send_all(b"still here")
    assert await it.client.receive_exactly(10) == b"still here"
    while it.result is None:
        await trio.sleep(1)
    assert trio.current_time() - began == pytest.approx(3, abs=1)
    assert isinstance(it.result, HandleBrokenError)
    assert it.a.end.reason is Reason.ABORTED


async def test_cancelled_nothing_is_lost_that_was_not_sent(line):
    it = await line()
    clog(it.b)
    await it.client.send_all(b"waits for room")
    await wait_all_tasks_blocked()
    assert it.a.statistics().bytes_received == 14
    it.cancel.cancel()
    await wait_all_tasks_blocked()
    assert it.result is None
    assert (it.a.phase, it.b.phase) == (Phase.OPEN, Phase.OPEN)
    await it.client.send_all(b", and more")
    assert await it.a.receive_exactly(24) == b"waits for room, and more"


async def test_an_end_that_cannot_be_passed_on_is_lingered_for_and_cut(secure, autojump_clock):
    """TLS 1.2 has no half-close: what the other way still says is delivered; then both are aborted."""
    async with secure(tls12=True) as (b, server), trionet.open_scope() as scope:
        client, a = unix_pair(scope)
        await client.send_all(b"question")
        await client.send_eof()
        result = []

        async def run():
            result.append(await trionet.pump(a, b, linger=7))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            assert await server.receive_exactly(8) == b"question"
            await server.send_all(b"answer")
            assert await client.receive_exactly(6) == b"answer"
        assert trio.current_time() - began == 7
        assert result == [(8, 6)]
        assert (a.end.reason, b.end.reason) == (Reason.ABORTED, Reason.ABORTED)


async def test_an_end_that_cannot_be_passed_on_is_no_cut_where_the_other_way_ends(secure, autojump_clock):
    async with secure(tls12=True) as (b, server), trionet.open_scope() as scope:
        client, a = unix_pair(scope)
        await client.send_eof()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.aclose)
            assert await trionet.pump(a, b, linger=math.inf) == (0, 0)
        assert (a.phase, b.phase) == (Phase.OPEN, Phase.OPEN)
        assert await client.receive_some() == b""


async def test_a_close_ends_the_pump_and_leaves_the_other_side(line):
    it = await line()
    await it.a.aclose()
    await wait_all_tasks_blocked()
    assert isinstance(it.result, HandleClosedError)
    assert it.b.phase is Phase.OPEN


async def test_a_side_that_is_in_use_is_refused_and_nothing_is_taken(line):
    it = await line()
    with pytest.raises(HandleBusyError):
        await trionet.pump(it.a, it.b)
    await it.client.send_all(b"goes on")
    assert await it.server.receive_exactly(7) == b"goes on"


async def test_what_cannot_be_pumped_is_refused():
    async with trionet.open_scope() as scope:
        a, b = unix_pair(scope)
        with pytest.raises(TypeError, match="b must be a Connection, not 5"):
            await trionet.pump(a, 5)
        with pytest.raises(ValueError, match="give two connections"):
            await trionet.pump(a, a)
        with pytest.raises(ValueError, match="linger must be more than 0"):
            await trionet.pump(a, b, linger=0)
