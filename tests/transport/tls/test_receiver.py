"""Receiving over TLS: what OpenSSL says meanwhile, and what a receive takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trionet import (
    Connection,
    HandleBrokenError,
)
from trionet.transport.tls.sender import BATCH

from ...helpers.tls import choke, empty, socket_of

if TYPE_CHECKING:
    pass


def speak_when_read(connection: Connection, words: bytes) -> None:
    """The next time that OpenSSL is asked to read it also writes, as for a KeyUpdate: here a record with `words`."""
    transport: Any = connection._transport
    real_read = transport.engine.ssl_object.read

    def read(max_bytes: int) -> bytes:
        transport.engine.ssl_object.read = real_read
        transport.engine.ssl_object.write(words)
        result: bytes = real_read(max_bytes)
        return result

    transport.engine.ssl_object.read = read


async def test_answers_are_sent_by_the_reader(secure: Any) -> None:
    async with secure() as (client, server):
        speak_when_read(client, b"ANSWER")
        await server.send_all(b"data")
        assert await client.receive_some() == b"data"
        assert await server.receive_some() == b"ANSWER"


async def test_answers_go_behind_a_sender_at_work(secure: Any) -> None:
    """A send waits within a record when the reader makes OpenSSL speak: the records stay whole and in order."""
    async with secure() as (client, server):
        data = os.urandom(2_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, data)
            await wait_all_tasks_blocked()
            speak_when_read(client, b"ANSWER")
            await server.send_all(b"data")
            assert await client.receive_some() == b"data"
            received = await server.receive_exactly(len(data) + 6)
        assert received.replace(b"ANSWER", b"") == data
        assert not received.endswith(b"ANSWER")


async def test_answers_wait_for_the_next_send_if_they_must(secure: Any) -> None:
    """The socket is full and nobody sends: the answer goes in front of the next send, and receiving is not held up."""
    async with secure() as (client, server):
        stuffed = choke(client)
        speak_when_read(client, b"ANSWER")
        await server.send_all(b"data")
        assert await client.receive_some() == b"data"
        async with trio.open_nursery() as nursery:  # a send that waits behind the answer, and is cancelled: undone
            nursery.start_soon(client.send_all, b"never sent")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        empty(socket_of(server), stuffed)
        await client.send_all(b"next")
        assert await server.receive_exactly(10) == b"ANSWERnext"


async def test_an_alert_goes_behind_a_sender_at_work(secure: Any) -> None:
    """The peer breaks the protocol while a send waits: what was encrypted goes out, the alert behind it."""
    async with secure() as (client, server):
        data = os.urandom(2_000_000)

        async def send() -> None:
            with pytest.raises(HandleBrokenError, match="bad record mac"):
                await client.send_all(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            socket_of(server).send(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(HandleBrokenError, match="bad record mac"):
                await client.receive_some()
            received = b""
            with pytest.raises(HandleBrokenError, match="alert 'bad record mac'"):
                while True:
                    received += await server.receive_some()
        assert received
        assert data.startswith(received)


def speak_whenever_read(connection: Connection, words: bytes) -> None:
    """As `speak_when_read`, every time: a peer that sends one KeyUpdate after the other."""
    transport: Any = connection._transport
    real_read = transport.engine.ssl_object.read

    def read(max_bytes: int) -> bytes:
        for _ in range(100):
            transport.engine.ssl_object.write(words)
        result: bytes = real_read(max_bytes)
        return result

    transport.engine.ssl_object.read = read


@pytest.mark.parametrize("sending", [False, True], ids=["alone", "beside a sender"])
async def test_a_peer_that_reads_no_answers_cannot_pile_them_up(sending: bool, secure: Any) -> None:
    async with secure() as (client, server):
        async with trio.open_nursery() as nursery:
            if sending:
                nursery.start_soon(client.send_all, bytes(2_000_000))
                await wait_all_tasks_blocked()
            else:
                choke(client)
            speak_whenever_read(client, b"ANSWER")

            async def send() -> None:
                while True:
                    await server.send_all(b"x")

            async def receive() -> None:
                with pytest.raises(HandleBrokenError, match="does not read the answers"):
                    while True:
                        await client.receive_some()
                nursery.cancel_scope.cancel()

            nursery.start_soon(send)
            nursery.start_soon(receive)
        transport: Any = client._transport
        assert len(transport._sender._unsent) + transport.engine.outgoing.pending < 3 * BATCH


async def test_an_answer_to_a_peer_that_is_gone_hides_nothing(secure: Any) -> None:
    async with secure() as (client, server):
        await server.send_all(b"last words")
        server.abort()
        speak_when_read(client, b"ANSWER")
        assert await client.receive_some() == b"last words"
        with pytest.raises(HandleBrokenError):
            await client.send_all(b"to nobody")


async def test_after_a_torn_send_nothing_is_said(secure: Any) -> None:
    """The rest of a torn record was reported as not sent: neither an answer nor a close_notify may follow it."""
    async with secure() as (client, server):
        data = os.urandom(2_000_000)
        transport = client._transport
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send_all, data)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        sent = transport.bytes_sent
        assert not transport.untouched
        speak_when_read(client, b"ANSWER")
        await server.send_all(b"data")
        assert await client.receive_some() == b"data"
        with pytest.raises(trio.BrokenResourceError, match="abandoned within a TLS record"):
            await transport.send_all(b"more")
        assert transport.send_some(b"more") == 0
        with trio.fail_after(5):
            await transport.goodbye()
        client.abort()
        received = b""
        with pytest.raises(HandleBrokenError, match="without close_notify"):
            while True:
                received += await server.receive_some()
        assert data.startswith(received)
        assert len(received) == sent


async def test_waking_a_reader_that_holds_half_a_record(secure: Any) -> None:
    """Half a record has come, and before the reader takes its turn it is called off: it must not wait for the rest."""
    async with secure() as (client, server):
        await server.send_all(b"behind the session tickets")
        await client.receive_some()
        transport = client._transport
        server._transport.engine.ssl_object.write(b"data")
        record = server._transport.engine.take_output()
        halves: list[bytes] = [record[:10], record[10:]]

        async def receive(_: int) -> bytes:
            await trio.lowlevel.checkpoint()
            if len(halves) == 2:
                transport.wake_receiver()
            return halves.pop(0)

        class Halved:
            receive_some = staticmethod(receive)

            def __getattr__(self, name: str) -> Any:
                return getattr(lower, name)

        lower, transport._receiver._lower = transport.lower, Halved()
        with pytest.raises(trio.ClosedResourceError, match="called off"):
            await transport.receive_some(100)
        assert await transport.receive_some(100) == b"data"
        client.abort()
        server.abort()


async def test_buffered_data_is_a_checkpoint(secure: Any) -> None:
    async with secure() as (client, server):
        await server.send_all(b"0123456789")
        assert await client.receive_some(5) == b"01234"
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.receive_some()
        assert scope.cancelled_caught
        with trio.testing.assert_checkpoints():
            assert await client.receive_some() == b"56789"


async def test_a_receive_takes_all_records_that_are_there(secure: Any) -> None:
    """Three records in one segment, the close_notify behind them: one receive gives the data, the next the end."""
    async with secure() as (client, server):
        for _ in range(3):
            await server.send_all(b"abc")
        await server.send_eof()
        await trio.lowlevel.checkpoint()
        assert await client.receive_some() == b"abcabcabc"
        assert await client.receive_some() == b""
