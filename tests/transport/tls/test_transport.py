"""TLS as a transport: how it ends, with other peers, over other transports, and Trio's own checks."""

from __future__ import annotations

import functools
import math
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import check_half_closeable_stream, check_two_way_stream, memory_stream_pair, wait_all_tasks_blocked

from trionet import (
    Connection,
    HandleBrokenError,
    HandleClosedError,
    LocalProtocolError,
    Phase,
    Reason,
    open_scope,
    to_plaintext,
    to_tls_client,
    to_tls_server,
)
from trionet.transport.linger import LINGER_SECONDS

from ...helpers.tls import both, choke, empty, socket_of, tcp_pair, two_handles, upgrade_both

if TYPE_CHECKING:
    pass


# --- ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls12", [False, True])
async def test_truncation_is_not_an_end(secure: Any, tls12: bool) -> None:
    """The peer's TCP ends without close_notify (an attacker can do that): data comes, then an error, not b""."""
    async with secure(tcp=True, tls12=tls12) as (client, server):
        await server.send_all(b"all but the e")
        socket_of(server).shutdown(socket.SHUT_WR)
        assert await client.receive_some() == b"all but the e"
        with pytest.raises(HandleBrokenError, match="without close_notify: data may have been cut off"):
            await client.receive_some()
        assert client.phase is Phase.OPEN
        await client.aclose()
        assert client.end.reason is Reason.PEER_EOF  # a FIN, and no reset


@pytest.mark.parametrize("how", ["scope", "draining", "detaching"])
async def test_truncation_is_an_eof_however_the_handle_ends(secure: Any, how: str) -> None:
    async with secure(tcp=True) as (client, server):

        async def receive() -> None:
            with pytest.raises((HandleBrokenError, HandleClosedError)):
                await client.receive_some()

        async def detach() -> None:
            while not client.blockers:  # else there is nothing to wait for
                await trio.lowlevel.checkpoint()
            with pytest.raises(HandleBrokenError, match="without close_notify"):
                await client.detach_when_idle()

        async def cut() -> None:
            await wait_all_tasks_blocked()
            socket_of(server).shutdown(socket.SHUT_WR)

        if how == "detaching":
            await both(receive, detach, cut)
        elif how == "draining":
            await both(client.aclose, cut)
        else:
            await both(receive, cut)
    assert client.end.reason is (Reason.LOCAL if how == "draining" else Reason.PEER_EOF)


@pytest.mark.parametrize("tls12", [False, True])
async def test_close_notify_is_an_end(secure: Any, tls12: bool) -> None:
    async with secure(tcp=True, tls12=tls12) as (client, server):
        await server.send_all(b"the end")
        assert await client.receive_some() == b"the end"

        async def close_client() -> None:
            assert await client.receive_some() == b""
            assert await client.receive_some() == b""
            await client.aclose()

        await both(close_client, server.aclose)
        assert client.end.reason is Reason.LOCAL
        assert server.end.reason is Reason.LOCAL


async def test_goodbye_is_said_and_answered_to_blocking_ssl(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """A blocking peer whose `unwrap` returns has both sent close_notify and received ours."""
    one, two = tcp_pair()
    seen: list[object] = []

    def peer() -> None:
        with server_context.wrap_socket(two, server_side=True) as sock:
            seen.append(sock.recv(100))
            sock.sendall(b"answer")
            seen.append(sock.recv(100))
            seen.append(sock.unwrap().fileno() >= 0)

    async with open_scope() as scope, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, peer)
        conn = await scope.adopt(one).upgrade(to_tls_client("localhost", client_context))
        await conn.send_all(b"question")
        assert await conn.receive_some() == b"answer"
        before = trio.current_time()
        await conn.aclose()
        assert trio.current_time() - before < LINGER_SECONDS
    assert seen == [b"question", b"", True]


async def test_lingering_is_bounded_in_time(secure: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with secure() as (client, _):
        before = trio.current_time()
        await client.aclose()
        assert trio.current_time() - before == pytest.approx(LINGER_SECONDS)
        assert client.end.reason is Reason.LOCAL


async def test_lingering_is_bounded_in_bytes(secure: Any, autojump_clock: trio.testing.MockClock) -> None:
    """A peer that never stops sending does not keep us."""
    async with secure() as (client, server):

        async def pour() -> None:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await server.send_all(bytes(16384))

        before = trio.current_time()
        await both(pour, client.aclose)
        assert trio.current_time() == before
        assert client.end.reason is Reason.LOCAL


async def test_goodbye_to_a_peer_that_is_gone(secure: Any) -> None:
    async with secure(tcp=True) as (client, server):
        server.abort()
        await client.aclose()
        assert client.phase is Phase.CLOSED


async def test_an_alert_breaks_both_directions_with_its_name(secure: Any) -> None:
    """Garbage on the wire: the receiver says so, and tells the sender by an alert."""
    async with secure() as (client, server):
        socket_of(server).send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(HandleBrokenError, match=r"TLS failed: (decryption failed or )?bad record mac"):
            await client.receive_some()
        with pytest.raises(HandleBrokenError, match="the peer sent the alert 'bad record mac'"):
            await server.receive_some()


@pytest.mark.parametrize("first", ["send", "receive"])
async def test_a_failed_send_takes_nothing_from_a_receive(
    secure: Any, first: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A send fails, and looks for 0.1 s whether the peer has said why: a receive, begun before or meanwhile, goes on.

    Given a connection that cannot send any more (its socket is shut down below), but on which the peer goes on.
    """
    async with secure(tcp=True) as (client, server):
        socket_of(client).shutdown(socket.SHUT_WR)
        told: list[object] = []

        async def send() -> None:
            with pytest.raises(HandleBrokenError):
                await client.send_all(b"nobody gets this")
            told.append("send")

        async def receive() -> None:
            told.append(await client.receive_exactly(8))

        async with trio.open_nursery() as nursery:
            for task in (send, receive) if first == "send" else (receive, send):
                nursery.start_soon(task)
                await wait_all_tasks_blocked()
            await server.send_all(b"still ")
            await wait_all_tasks_blocked()
            await server.send_all(b"on")
        assert told == ["send", b"still on"]


@pytest.mark.parametrize("how", ["aclose", "abort", "cancel"])
async def test_a_receive_that_ends_a_failed_send_s_look_ends_as_every_receive(secure: Any, how: str) -> None:
    async with secure(tcp=True) as (client, _):
        socket_of(client).shutdown(socket.SHUT_WR)

        async def end() -> None:
            if how != "cancel":
                await wait_all_tasks_blocked()
                await client.aclose() if how == "aclose" else client.abort()

        async def receive() -> None:
            with trio.move_on_after(0 if how == "cancel" else math.inf):
                await client.receive_some()

        sent, received, _ = await both(lambda: client.send_all(b"x"), receive, end)
        assert isinstance(sent, HandleBrokenError)
        assert received is None if how == "cancel" else isinstance(received, HandleClosedError)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (40, "handshake failure"),
        (110, "unsupported extension"),
        (111, "certificate unobtainable"),
        (112, "unrecognized name"),
        (113, "bad certificate status response"),
        (114, "bad certificate hash value"),
        (116, "certificate required"),
    ],
)
async def test_an_alert_is_told_as_the_peer_s(number: int, name: str, client_context: ssl.SSLContext) -> None:
    """Alerts of RFC 6066 have no "alert" in the names that OpenSSL gives them."""
    async with two_handles() as (client, server):

        async def refuse() -> None:
            await server.receive_some()
            await server.send_all(bytes([21, 3, 3, 0, 2, 2, number]))

        _, error = await both(refuse, lambda: client.upgrade(to_tls_client("localhost", client_context)))
        assert f"the peer sent the alert {name!r}" in str(error)


async def test_an_alert_without_a_name_may_be_the_peer_s(client_context: ssl.SSLContext) -> None:
    async with two_handles() as (client, server):

        async def refuse() -> None:
            await server.receive_some()
            await server.send_all(bytes([21, 3, 3, 0, 2, 2, 200]))

        _, error = await both(refuse, lambda: client.upgrade(to_tls_client("localhost", client_context)))
        assert "perhaps an alert from the peer that it does not know" in str(error)


async def test_after_a_protocol_error_everything_names_it(secure: Any) -> None:
    async with secure() as (client, server):
        socket_of(server).send(b"\x17\x03\x03\x00\x20" + bytes(32))
        transport = client._transport
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="bad record mac"):
                await transport.receive_some(100)
        with pytest.raises(trio.BrokenResourceError, match="bad record mac"):
            transport.send_some(b"data")
        with pytest.raises(trio.BrokenResourceError, match="bad record mac"):
            await transport.send_all(b"data")
        with pytest.raises(trio.BrokenResourceError, match="bad record mac"):
            await transport.send_eof()
        await transport.goodbye()
        client.abort()
        server.abort()


async def test_half_close(secure: Any) -> None:
    """close_notify goes out while a record of the peer's is only half read."""
    async with secure() as (client, server):
        await server.send_all(b"x" * 30000)
        assert await client.receive_some(10) == b"x" * 10
        await client.send_eof()
        assert await server.receive_some() == b""
        assert await client.receive_exactly(29990) == b"x" * 29990
        await server.send_all(b"more")
        assert await client.receive_some() == b"more"
        await server.send_eof()
        assert await client.receive_some() == b""


async def test_tls12_cannot_half_close(secure: Any) -> None:
    async with secure(tls12=True) as (client, server):
        with pytest.raises(LocalProtocolError, match=r"TLSv1\.2"):
            await client.send_eof()
        await client.send_all(b"still there")
        assert await server.receive_some() == b"still there"


# --- other peers, other transports, conformance -------------------------------------------------------------------


async def test_trio_ssl_stream_on_the_other_side(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    one, two = tcp_pair()
    theirs = trio.SSLStream(
        trio.SocketStream(trio.socket.from_stdlib_socket(two)), server_context, server_side=True, https_compatible=False
    )
    async with open_scope() as scope:
        conn, _ = await both(
            lambda: scope.adopt(one).upgrade(to_tls_client("localhost", client_context)), theirs.do_handshake
        )
        await theirs.send_all(b"hello")
        assert await conn.receive_some() == b"hello"
        await conn.send_all(b"x" * 100_000)
        await conn.send_eof()
        received = b""
        while data := await theirs.receive_some():
            received += data
        assert received == b"x" * 100_000
        await theirs.aclose()
        assert await conn.receive_some() == b""


async def test_over_a_trio_stream(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    one, two = memory_stream_pair()
    async with open_scope() as scope:
        client, server = await upgrade_both(
            scope.adopt(one),
            scope.adopt(two),
            to_tls_client("localhost", client_context),
            to_tls_server(server_context),
        )
        await client.send_all(b"x" * 100_000)
        assert await server.receive_exactly(100_000) == b"x" * 100_000
        await both(client.aclose, server.aclose)


async def test_tls_in_tls(secure: Any, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with secure() as (client, server):
        inner, other = await upgrade_both(
            client, server, to_tls_client("127.0.0.1", client_context), to_tls_server(server_context)
        )
        data = os.urandom(500_000)
        _, received = await both(
            functools.partial(inner.send_all, data), functools.partial(other.receive_exactly, len(data))
        )
        assert received == data
        await other.send_all(b"back")
        assert await inner.receive_some() == b"back"
        back, _ = await upgrade_both(inner, other, to_plaintext(), to_plaintext())
        assert back.tls is not None
        assert back.tls.server_hostname == "localhost"


async def test_tls_in_tls_torn(
    secure: Any, server_context: ssl.SSLContext, client_context: ssl.SSLContext, autojump_clock: trio.testing.MockClock
) -> None:
    async with secure() as (client, server):
        inner, other = await upgrade_both(
            client, server, to_tls_client("localhost", client_context), to_tls_server(server_context)
        )
        stuffed = choke(inner)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner.send_all, b"never sent")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        empty(socket_of(other), stuffed)
        data = os.urandom(3_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner.send_all, data)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(HandleBrokenError) as info:
            await inner.send_all(b"more")
        sent = info.value.bytes_sent
        assert sent
        assert await other.receive_exactly(sent) == data[:sent]


def clog(connection: Connection) -> None:
    """Send over TLS until the system takes no more. (While a socket is writable, a record fits in whole.)"""
    transport = connection._transport
    while transport.is_writable():
        assert transport.send_some(bytes(16384)) == 16384


@pytest.mark.parametrize("tls12", [False, True])
async def test_trios_own_checks(tls12: bool, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    if tls12:
        client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with open_scope() as scope:

        async def make() -> tuple[Connection, Connection]:
            one, two = socket.socketpair()
            return await upgrade_both(
                scope.adopt(one),
                scope.adopt(two),
                to_tls_client("localhost", client_context),
                to_tls_server(server_context),
            )

        async def make_clogged() -> tuple[Connection, Connection]:
            one, two = await make()
            clog(one)
            clog(two)
            return one, two

        if tls12:
            await check_two_way_stream(make, make_clogged)
        else:
            await check_half_closeable_stream(make, make_clogged)
