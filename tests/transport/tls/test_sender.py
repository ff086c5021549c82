"""Sending over TLS: what a cancelled or failed send leaves behind, and that all of it arrives."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trionet import HandleBrokenError
from trionet.transport.tls.engine import TLSEngine
from trionet.transport.tls.sender import BATCH, RECORD, TLSSender, pieces

from ...helpers.tls import both, choke, empty, socket_of

if TYPE_CHECKING:
    import ssl


async def test_a_send_cancelled_before_its_first_byte_did_not_happen(secure: Any) -> None:
    """The socket is full, a send waits, is cancelled: sending and receiving go on as if it had never begun."""
    async with secure() as (client, server):
        stuffed = choke(client)
        for data in (b"never sent", b"never sent" * 10000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, data)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        await server.send_all(b"receiving works")
        assert await client.receive_some() == b"receiving works"
        empty(socket_of(server), stuffed)
        await client.send_all(b"sending works")
        assert await server.receive_some() == b"sending works"


async def test_a_torn_send_says_how_much_is_whole(secure: Any) -> None:
    """A send is cancelled midway: the peer can read exactly `bytes_sent` bytes, and we go on receiving."""
    async with secure() as (client, server):
        data = os.urandom(4_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, data)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(HandleBrokenError) as info:
            await client.send_all(b"more")
        sent = info.value.bytes_sent
        assert sent is not None
        assert 0 < sent < len(data)
        assert await server.receive_exactly(sent) == data[:sent]
        await server.send_all(b"receiving works")
        assert await client.receive_some() == b"receiving works"
        client.abort()
        with pytest.raises(HandleBrokenError, match="close_notify"):
            await server.receive_some()


async def test_a_torn_first_record_is_not_nothing(secure: Any) -> None:
    """Not one record is whole, `bytes_sent` is 0, and still the connection must not be used for sending."""
    async with secure() as (client, server):
        transport = client._transport
        real = transport._sender._lower_send
        # The system takes 100 bytes of the record; then the buffer is full.
        transport._sender._lower_send = lambda data: real(data[:100]) + 0 * choke(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"x" * 1000)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(HandleBrokenError, match="abandoned after 0 bytes") as info:
            await client.send_all(b"more")
        assert info.value.bytes_sent == 0
        await server.send_all(b"receiving works")
        assert await client.receive_some() == b"receiving works"


async def test_send_resumes_what_was_taken_in_part(secure: Any) -> None:
    """The system takes a few bytes of a record: the rest follows, once."""
    async with secure() as (client, server):
        transport = client._transport
        real = transport._sender._lower_send
        transport._sender._lower_send = lambda data: real(data[:7])
        await client.send_all(b"small but torn")
        transport._sender._lower_send = real
        await client.send_all(b"|next")
        assert await server.receive_exactly(19) == b"small but torn|next"


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 65536, 65537, 1_000_000])
@pytest.mark.parametrize("tcp", [True, False])
async def test_all_sizes_arrive(size: int, tcp: bool, secure: Any) -> None:
    async with secure(tcp=tcp) as (client, server):
        data = os.urandom(size)
        _, received = await both(
            functools.partial(client.send_all, bytearray(data)), functools.partial(server.receive_exactly, size)
        )
        assert received == data


async def test_vectored(secure: Any) -> None:
    async with secure() as (client, server):
        parts: list[bytes | memoryview] = [
            b"",
            b"head",
            memoryview(b"x" * 100_000),
            b"",
            b"tail",
            b"y" * 16384,
            b"z" * 40_000,
            b"end",
        ]
        data = b"".join(parts)
        _, received = await both(
            functools.partial(client.send_vectored, parts), functools.partial(server.receive_exactly, len(data))
        )
        assert received == data
        assert client.statistics().bytes_sent == len(data)


async def test_a_torn_vectored_send_counts_from_its_beginning(
    secure: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with secure() as (client, server):
        parts = [os.urandom(100_000) for _ in range(30)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_vectored, parts)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(HandleBrokenError) as info:
            await client.send_all(b"more")
        sent = info.value.bytes_sent
        assert sent
        assert sent > 16384
        assert await server.receive_exactly(sent) == b"".join(parts)[:sent]


async def test_small_records_for_a_peer_that_wants_them(secure: Any) -> None:
    """OpenSSL may take less than it was given (RFC 6066 §4): the rest follows."""
    async with secure() as (client, server):
        transport = client._transport
        real = transport.engine.ssl_object.write
        transport.engine.ssl_object.write = lambda data: real(data[:5])
        await client.send_all(b"twelve bytes")
        await client.send_all(b"y" * 20000)
        assert await server.receive_exactly(20012) == b"twelve bytes" + b"y" * 20000


# --- the fast path and the careful one ----------------------------------------------------------------------------

SIZES = st.lists(
    st.one_of(st.integers(0, 40), st.sampled_from([RECORD - 1, RECORD, RECORD + 1, BATCH + 1])), max_size=6
)
TAKES = st.lists(st.one_of(st.integers(0, 60), st.integers(RECORD, 2 * RECORD)), max_size=12)


class Narrow:
    """A lower transport that takes so many bytes at a time, 0 for none; and everything when its list is over."""

    untouched = True

    def __init__(self, takes: list[int]) -> None:
        self.takes = [*takes]
        self.taken = bytearray()
        self.bytes_sent: int | None = 0

    def is_writable(self) -> bool:
        if self.takes[:1] == [0]:
            del self.takes[0]
            return False
        return True

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def send_some(self, data: bytes | memoryview) -> int:
        size = min(self.takes.pop(0), len(data)) if self.takes else len(data)
        self.taken += data[:size]
        return size

    async def send_all(self, data: bytes | memoryview) -> None:
        self.bytes_sent = len(data)
        self.taken += data


@pytest.fixture(scope="module")
def shaken(ca: Any, server_context: ssl.SSLContext) -> Any:
    """A function that makes two engines, client and server, whose handshake is complete."""
    import ssl

    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(client_context)

    def make() -> tuple[TLSEngine, TLSEngine]:
        client = TLSEngine(client_context, server_hostname="localhost")
        server = TLSEngine(server_context, server_side=True)
        while not client.advance() or not server.advance():
            server.feed(client.take_output())
            server.advance()
            client.feed(server.take_output())
        return client, server

    return make


@given(sizes=SIZES, takes=TAKES)
async def test_the_fast_path_sends_what_the_careful_one_sends(sizes: list[int], takes: list[int], shaken: Any) -> None:
    """`send_some`, and `send_all` with the same bytes where that did not take them, equals `send_all` alone."""
    messages = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    for fast in (True, False):
        client, server = shaken()
        sender = TLSSender(lower := Narrow(takes), client)
        for message in messages:
            taken = sender.send_some(message) if fast else 0
            assert taken in (0, len(message))
            if taken < len(message) or not fast:
                await sender.send_all(message)
                assert sender.bytes_sent == len(message)
        server.feed(bytes(lower.taken))
        received = b""
        while len(received) < sum(sizes):
            received += server.ssl_object.read(2**16)
        assert received == b"".join(messages)
        assert not sender.torn
        assert sender.waiting() == 0
        assert server.incoming.pending == 0


@given(sizes=SIZES)
def test_small_parts_share_a_record_and_nothing_is_lost(sizes: list[int]) -> None:
    parts = [os.urandom(size) for size in sizes]
    found = [bytes(piece) for piece in pieces(parts)]
    assert b"".join(found) == b"".join(parts)
    assert all(found)
    assert all(len(piece) >= RECORD for piece in found[:-1])
