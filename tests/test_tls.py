"""TLS: the recipes, the transport, and what they promise about bytes that are not theirs."""

from __future__ import annotations

import functools
import math
import os
import socket
import ssl
import sys
import threading
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from trio.testing import check_half_closeable_stream, check_two_way_stream, memory_stream_pair, wait_all_tasks_blocked

from trionet import (
    Connection,
    HandleBrokenError,
    HandleClosedError,
    LocalProtocolError,
    Phase,
    PlaintextInjectionError,
    Reason,
    UpgradeFailedError,
    open_scope,
    to_plaintext,
    to_tls_client,
    to_tls_server,
)
from trionet.tls import arguments
from trionet.transport.linger import LINGER_SECONDS
from trionet.transport.tls.sender import BATCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

LIMIT = 20  # seconds: only against a test that hangs


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A test that waits for ever fails in the end."""
    timer = threading.Timer(LIMIT, os._exit, (70,))
    timer.start()
    yield
    timer.cancel()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    return one, two


@asynccontextmanager
async def two_handles(*, tcp: bool = False) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two plain connections, one to the other."""
    one, two = tcp_pair() if tcp else socket.socketpair()
    async with open_scope() as scope:
        yield scope.adopt(one), scope.adopt(two)


async def both(*operations: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Run the operations together: what each returned, or the exception it raised."""
    results: list[Any] = [None] * len(operations)

    async def run(index: int, operation: Callable[[], Awaitable[Any]]) -> None:
        try:
            results[index] = await operation()
        except Exception as exc:  # noqa: BLE001 - the test looks at it
            results[index] = exc

    async with trio.open_nursery() as nursery:
        for index, operation in enumerate(operations):
            nursery.start_soon(run, index, operation)
    return results


async def upgrade_both(
    client: Connection, server: Connection, to_client: Any, to_server: Any
) -> tuple[Connection, Connection]:
    results = await both(lambda: client.upgrade(to_client), lambda: server.upgrade(to_server))
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results[0], results[1]


@pytest.fixture
def secure(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> Callable[..., Any]:
    """A context manager of two connections over TLS, client and server."""

    @asynccontextmanager
    async def open_pair(*, tcp: bool = False, tls12: bool = False) -> AsyncIterator[tuple[Connection, Connection]]:
        if tls12:
            client_context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with two_handles(tcp=tcp) as (client, server):
            yield await upgrade_both(
                client, server, to_tls_client("localhost", client_context), to_tls_server(server_context)
            )

    return open_pair


def choke(connection: Connection) -> int:
    """Fill the socket under `connection`, from below TLS, until it is not writable: how many bytes that took.

    The peer sees garbage: only for tests in which it takes these bytes away itself.
    """
    return _fill(_socket(connection))


def _socket(connection: Connection) -> socket.socket:
    transport: Any = connection._transport
    while hasattr(transport, "lower"):
        transport = transport.lower
    sock: socket.socket = transport.socket
    return sock


def _fill(sock: socket.socket) -> int:
    total = 0
    while True:
        try:
            total += sock.send(bytes(65536))
        except BlockingIOError:
            return total


def _empty(sock: socket.socket, size: int) -> None:
    while size:
        try:
            size -= len(sock.recv(min(size, 65536)))
        except BlockingIOError:
            raise AssertionError(f"{size} bytes less than were sent") from None


# --- arguments --------------------------------------------------------------------------------------------------


async def test_client_needs_a_name_to_verify() -> None:
    with pytest.raises(ValueError, match=r"server_hostname is missing.*server_hostname='host.example'.*check_hostname"):
        to_tls_client()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        ".example",
        "a..b",
        "http://a",
        "a:443",
        "[::1]",
        "a b",
        "user@a",
        "x" * 64 + ".a",
        "a\0b",
        "ü\x00",
        "a%eth0",
        "127.0.0.1%eth0",
        "fe80::1%",
        "fe80::1%a/b",
        "1:2:3",
    ],
)
async def test_impossible_names_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an IP address") as info:
        to_tls_client(name)
    assert repr(name) in str(info.value)


async def test_wrong_arguments_are_named(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    with pytest.raises(TypeError, match=r"must be a str.*b'localhost'"):
        to_tls_client(b"localhost")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"for the server side.*create_default_context\(\)"):
        to_tls_client("localhost", server_context)
    with pytest.raises(ValueError, match=r"for the client side.*CLIENT_AUTH"):
        to_tls_server(client_context)
    with pytest.raises(TypeError, match=r"must be an ssl.SSLContext.*'cert.pem'"):
        to_tls_server("cert.pem")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be an ssl.SSLContext.*42"):
        to_tls_client("localhost", 42)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"not 'h2'; write alpn=\['h2'\]"):
        to_tls_client("localhost", alpn="h2")
    for wrong in ("", "x" * 256, "ü", b"h2"):
        with pytest.raises(ValueError, match="1 to 255 ASCII"):
            to_tls_client("localhost", alpn=[wrong])  # type: ignore[list-item]
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="handshake_timeout must be more than 0"):
            to_tls_server(server_context, handshake_timeout=seconds)
        with pytest.raises(ValueError, match="handshake_timeout must be more than 0"):
            to_plaintext(handshake_timeout=seconds)


async def test_a_recipe_is_used_once(secure: Any, client_context: ssl.SSLContext) -> None:
    recipe = to_tls_client("localhost", client_context)
    async with two_handles() as (one, two):
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.upgrade(recipe)
        assert one.phase is Phase.OPEN
        await two.aclose()
        with pytest.raises(UpgradeFailedError):
            await one.upgrade(recipe)
    async with two_handles() as (one, _):
        with pytest.raises(LocalProtocolError, match="this to_tls_client recipe was used before; make one per upgrade"):
            await one.upgrade(recipe)
        assert one.phase is Phase.OPEN


async def test_only_connections_can_be_upgraded(server_context: ssl.SSLContext) -> None:
    recipe = to_tls_server(server_context)
    with pytest.raises(LocalProtocolError, match=r"works on a Connection, not on 'exchange'"):
        recipe.prepare("exchange")


async def test_default_context_verifies_and_is_kept() -> None:
    context = arguments.default_context(())
    assert context is arguments.default_context(())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert arguments.default_context(("h2",)) is not context


async def test_systems_with_their_own_trust_store_use_truststore(monkeypatch: pytest.MonkeyPatch) -> None:
    import truststore

    monkeypatch.setattr(sys, "platform", "darwin")
    assert type(arguments.system_trust()).__mro__[0] is truststore.SSLContext


# --- handshakes -------------------------------------------------------------------------------------------------


async def test_both_sides_move_and_talk(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with two_handles(tcp=True) as (client, server):
        new_client, new_server = await upgrade_both(
            client, server, to_tls_client("localhost", client_context), to_tls_server(server_context)
        )
        assert client.end is not None
        assert client.end.reason is Reason.UPGRADED
        assert client.end.successor is new_client
        assert new_client.local_address == client.local_address
        await new_client.send_all(b"ping")
        assert await new_server.receive_some() == b"ping"
        await new_server.send_all(b"pong")
        assert await new_client.receive_some() == b"pong"


async def test_what_was_agreed_can_be_read(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with two_handles() as (client, server):
        assert client.tls is None
        recipe = to_tls_client("localhost", client_context, ["spdy", "http/1.1"])
        secure, other = await upgrade_both(client, server, recipe, to_tls_server(server_context))
        assert secure.tls is not None
        assert other.tls is not None
        assert secure.tls.version == other.tls.version == "TLSv1.3"
        assert secure.tls.cipher.startswith("TLS_")
        assert secure.tls.alpn == other.tls.alpn == "http/1.1"
        assert secure.tls.server_hostname == "localhost"
        assert secure.tls.peer_certificate is not None
        assert ("DNS", "localhost") in secure.tls.peer_certificate["subjectAltName"]
        assert secure.tls.peer_certificate_der is not None
        assert ssl.DER_cert_to_PEM_cert(secure.tls.peer_certificate_der).startswith("-----BEGIN")
        assert other.tls.peer_certificate is None
        assert other.tls.peer_certificate_der is None
    assert secure.tls.version == "TLSv1.3"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("localhost", "localhost"),
        ("localhost.", "localhost"),
        ("LOCALHOST", "localhost"),
        ("127.0.0.1", None),  # RFC 6066 §3: addresses are not sent
        ("127.0.0.1.", None),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("2001:DB8::1", None),
        ("fe80::1%eth0", None),  # RFC 6874 §4: nor is the zone, which means nothing to anybody else
        ("fe80::1%1", None),
    ],
)
async def test_server_name(given: str, sent: str | None, ca: Any, client_context: ssl.SSLContext) -> None:
    names = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names_of_server = ["localhost", "127.0.0.1", "xn--bcher-kva.example", "2001:db8::1", "fe80::1"]
    ca.issue_cert(*names_of_server).configure_cert(context)
    context.sni_callback = lambda _obj, name, _ctx: names.append(name)
    async with two_handles() as (client, server):
        await upgrade_both(client, server, to_tls_client(given, client_context), to_tls_server(context))
    assert names == [sent]


async def test_a_name_with_an_underscore_is_sent_as_it_is(server_context: ssl.SSLContext) -> None:
    names = []
    server_context.sni_callback = lambda _obj, name, _ctx: names.append(name)
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    async with two_handles() as (client, server):
        name = "under_score.example"
        await upgrade_both(client, server, to_tls_client(name, careless), to_tls_server(server_context))
    assert names == [name]


async def test_a_wrong_name_is_told_to_both(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with two_handles() as (client, server):
        mine, theirs = await both(
            lambda: client.upgrade(to_tls_client("other.example", client_context)),
            lambda: server.upgrade(to_tls_server(server_context)),
        )
        assert isinstance(mine, UpgradeFailedError)
        assert "certificate verify failed: Hostname mismatch" in str(mine)
        assert "other.example" in str(mine)
        assert isinstance(theirs, UpgradeFailedError)
        assert "the peer sent the alert" in str(theirs)
        assert client.end is not None
        assert client.end.reason is Reason.UPGRADE_FAILED


async def test_an_unknown_issuer_is_told_to_both(server_context: ssl.SSLContext) -> None:
    async with two_handles() as (client, server):
        mine, theirs = await both(
            lambda: client.upgrade(to_tls_client("localhost")),
            lambda: server.upgrade(to_tls_server(server_context)),
        )
        assert "with localhost failed: certificate verify failed: " in str(mine)
        assert "the peer sent the alert 'unknown ca'" in str(theirs)


@pytest.mark.parametrize("sends", range(4))
@pytest.mark.parametrize(("shown", "alert"), [(False, "certificate required"), (True, "unknown ca")])
async def test_a_rejected_client_learns_why_also_after_its_handshake(
    sends: int, shown: bool, alert: str, ca: Any, client_context: ssl.SSLContext
) -> None:
    """TLS 1.3: the client's handshake is complete before the server has seen its certificate."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server_context)
    ca.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    if shown:
        trustme.CA().issue_cert("me").configure_cert(client_context)
    async with two_handles(tcp=True) as (one, other):
        client, failure = await both(
            lambda: one.upgrade(to_tls_client("localhost", client_context)),
            lambda: other.upgrade(to_tls_server(server_context)),
        )
        assert isinstance(failure, UpgradeFailedError)
        with pytest.raises(HandleBrokenError, match=f"alert '{alert}'"):
            for _ in range(sends):
                await client.send_all(b"x")
            await client.receive_some()
        with pytest.raises(HandleBrokenError, match=f"alert '{alert}'"):
            await client.receive_some()


async def test_no_common_version(ca: Any, client_context: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with two_handles() as (client, server):
        mine, theirs = await both(
            lambda: client.upgrade(to_tls_client("localhost", client_context)),
            lambda: server.upgrade(to_tls_server(context)),
        )
        assert "the peer sent the alert 'protocol version'" in str(mine)
        assert "unsupported protocol" in str(theirs)


async def test_a_name_is_not_needed_where_names_are_not_checked(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    async with two_handles() as (client, server):
        secure, _ = await upgrade_both(
            client, server, to_tls_client(ssl_context=client_context), to_tls_server(server_context)
        )
        assert secure.tls is not None
        assert secure.tls.peer_certificate == {}
        assert secure.tls.peer_certificate_der


async def test_contexts_can_be_shared_by_recipes_with_other_alpn(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    first = to_tls_client("localhost", client_context, ["h2"])
    to_tls_client("localhost", client_context, ["http/1.1"])
    async with two_handles() as (client, server):
        secure, _ = await upgrade_both(client, server, first, to_tls_server(server_context))
        assert secure.tls is not None
        assert secure.tls.alpn == "h2"


async def test_peer_leaves_during_the_handshake(client_context: ssl.SSLContext) -> None:
    async with two_handles() as (client, server):
        await server.send_eof()
        with pytest.raises(UpgradeFailedError, match="ended the connection in the middle"):
            await client.upgrade(to_tls_client("localhost", client_context))
        assert client.phase is Phase.CLOSED


async def test_silence_before_the_client_hello_can_be_undone(
    server_context: ssl.SSLContext, autojump_clock: trio.testing.MockClock
) -> None:
    async with two_handles() as (client, server):
        with pytest.raises(UpgradeFailedError, match=r"did not finish within 3 s \(handshake_timeout\)"):
            await server.upgrade(to_tls_server(server_context, handshake_timeout=3))
        assert server.phase is Phase.OPEN
        await client.send_all(b"still plain")
        assert await server.receive_some() == b"still plain"


async def test_silence_after_the_client_hello_closes(
    client_context: ssl.SSLContext, autojump_clock: trio.testing.MockClock
) -> None:
    async with two_handles() as (client, _):
        with pytest.raises(UpgradeFailedError, match="did not finish within"):
            await client.upgrade(to_tls_client("localhost", client_context, handshake_timeout=3))
        assert client.end is not None
        assert client.end.reason is Reason.UPGRADE_FAILED


# --- bytes that are not TLS, bytes that are -----------------------------------------------------------------------


def client_hello(context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return tls, incoming, outgoing


async def finish(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, plain: Connection) -> None:
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            if outgoing.pending:
                await plain.send_all(outgoing.read())
            incoming.write(await plain.receive_some())
    await plain.send_all(outgoing.read())


@pytest.mark.parametrize("cut", [1, 3, 6, 1000])
async def test_a_client_hello_behind_another_line_is_used(
    cut: int, server_context: ssl.SSLContext, client_context: ssl.SSLContext, autojump_clock: trio.testing.MockClock
) -> None:
    async with two_handles() as (client, server):
        tls, incoming, outgoing = client_hello(client_context)
        hello = outgoing.read()
        await client.send_all(b"PROXY line\r\n" + hello[:cut])
        assert await server.receive_until(b"\r\n", max_bytes=100) == b"PROXY line\r\n"

        async def peer() -> None:
            await client.send_all(hello[cut:])
            await finish(tls, incoming, outgoing, client)
            tls.write(b"secret")
            await client.send_all(outgoing.read())

        _, secure = await both(peer, lambda: server.upgrade(to_tls_server(server_context)))
        assert await secure.receive_some() == b"secret"


async def test_data_in_the_same_segment_as_the_last_flight(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, autojump_clock: trio.testing.MockClock
) -> None:
    """The client's Finished and its first data come together: the data is the successor's first input, at once."""
    async with two_handles() as (client, server):
        tls, incoming, outgoing = client_hello(client_context)

        async def peer() -> None:
            await client.send_all(outgoing.read())
            while True:
                incoming.write(await client.receive_some())
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    pass
            tls.write(b"early")
            await client.send_all(outgoing.read())

        _, secure = await both(peer, lambda: server.upgrade(to_tls_server(server_context)))
        assert await secure.receive_some() == b"early"


INJECTED = [
    b"EHLO evil\r\n",
    b"\x16EHLO",
    b"\x16\x03EHLO",
    b"\x16\x03\x05\x00\x10\x01",
    b"\x16\x03\x01\x00\x00\x01",
    b"\x16\x03\x01\xff\xff\x01",
    b"\x16\x03\x01\x00\x10\x02",
    b"\x15\x03\x01\x00\x02\x01\x00",
    b"\x80\x2e\x01\x03\x01",
]


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("injected", INJECTED)
async def test_plaintext_behind_starttls_is_never_tls_data(
    injected: bytes, buffered: bool, server_context: ssl.SSLContext
) -> None:
    """A client (or somebody between) pipelines a command behind STARTTLS: told alike, wherever the bytes lie.

    Given a server that catches the error and goes on in plain text, then it does not find the command.
    """
    async with two_handles() as (client, server):
        await client.send_all(b"STARTTLS\r\n")
        if buffered:
            await client.send_all(injected)
        assert await server.receive_until(b"\r\n", max_bytes=100) == b"STARTTLS\r\n"
        if not buffered:
            await client.send_all(injected)
        with pytest.raises(PlaintextInjectionError) as info:
            await server.upgrade(to_tls_server(server_context))
        assert ("EHLO..." if injected[:1] == b"E" else repr(injected[:6])) in str(info.value)
        assert "evil" not in str(info.value)
        await check_nothing_was_let_in(server, info.value)


async def check_nothing_was_let_in(handle: Connection, error: BaseException) -> None:
    """The injection has ended the handle, and what was injected is nowhere to be had."""
    assert handle.end.reason is Reason.UPGRADE_FAILED
    kept = handle.end.outcome.error
    assert type(kept) is type(error)
    assert str(kept) == str(error)
    assert _socket(handle).fileno() == -1
    for receive in (handle.receive_some(), handle.peek(1), handle.receive_until(b"\n", max_bytes=100)):
        with pytest.raises(HandleClosedError):
            await receive
    with pytest.raises(HandleClosedError):
        handle.detach()


async def test_injection_is_told_byte_by_byte(server_context: ssl.SSLContext) -> None:
    """The bytes come one at a time: the first impossible one decides, and none comes back."""
    async with two_handles() as (client, server):

        async def drip() -> None:
            for byte in b"\x16\x03X":
                await client.send_all(bytes([byte]))
                await wait_all_tasks_blocked()

        _, error = await both(drip, lambda: server.upgrade(to_tls_server(server_context)))
        assert isinstance(error, PlaintextInjectionError)
        await check_nothing_was_let_in(server, error)


async def test_what_may_be_a_password_is_not_in_the_message(server_context: ssl.SSLContext) -> None:
    async with two_handles() as (client, server):
        await client.send_all(b"hunter2")
        with pytest.raises(PlaintextInjectionError) as info:
            await server.upgrade(to_tls_server(server_context))
        assert "hunter2" not in str(info.value)


async def test_a_server_must_not_speak_before_tls(client_context: ssl.SSLContext) -> None:
    async with two_handles() as (client, server):
        await server.send_all(b"220 go ahead\r\n* injected")
        await client.receive_until(b"\r\n", max_bytes=100)
        with pytest.raises(PlaintextInjectionError, match=r"b'\* injected'") as info:
            await client.upgrade(to_tls_client("localhost", client_context))
        await check_nothing_was_let_in(client, info.value)


@pytest.mark.parametrize("injected", [b"* injected", b"\x17\x03\x03\x00\x05hello", b"\x16\x03\x03\x00\x05\x02hell"])
async def test_plaintext_from_the_server_still_in_the_socket(injected: bytes, client_context: ssl.SSLContext) -> None:
    """What is there before the ClientHello leaves was injected, whatever it looks like; no ClientHello leaves then."""
    async with two_handles() as (client, server):
        await server.send_all(b"220 go ahead\r\n")
        await client.receive_until(b"\r\n", max_bytes=100)
        await server.send_all(injected)
        with pytest.raises(PlaintextInjectionError, match="the server sent plaintext") as info:
            await client.upgrade(to_tls_client("localhost", client_context))
        await check_nothing_was_let_in(client, info.value)
        assert await server.receive_some() == b""


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x02\x03\x00\x05\x02hell", b"-ERR\r\n"])
async def test_a_server_that_does_not_speak_tls_has_injected_nothing(
    answer: bytes, client_context: ssl.SSLContext
) -> None:
    """``https://`` on a port of plain HTTP: the server answers the ClientHello with what it has to say to garbage."""
    async with two_handles() as (client, server):

        async def plain_server() -> None:
            await server.receive_some()
            await server.send_all(answer)

        _, error = await both(plain_server, lambda: client.upgrade(to_tls_client("localhost", client_context)))
        assert type(error) is UpgradeFailedError
        assert str(error).startswith("the peer does not speak TLS")
        assert repr(answer[:32])[2:-1] in str(error)
        assert client.end.reason is Reason.UPGRADE_FAILED


# --- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls12", [False, True])
async def test_truncation_is_not_an_end(secure: Any, tls12: bool) -> None:
    """The peer's TCP ends without close_notify (an attacker can do that): data comes, then an error, not b""."""
    async with secure(tcp=True, tls12=tls12) as (client, server):
        await server.send_all(b"all but the e")
        _socket(server).shutdown(socket.SHUT_WR)
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
            _socket(server).shutdown(socket.SHUT_WR)

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
        _socket(server).send(b"\x17\x03\x03\x00\x20" + bytes(32))
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
        _socket(client).shutdown(socket.SHUT_WR)
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
        _socket(client).shutdown(socket.SHUT_WR)

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
        assert "such as an alert of the peer's that it does not know" in str(error)


async def test_after_a_protocol_error_everything_names_it(secure: Any) -> None:
    async with secure() as (client, server):
        _socket(server).send(b"\x17\x03\x03\x00\x20" + bytes(32))
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


# --- back to plaintext ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls12", [False, True])
async def test_unwrapping(secure: Any, tls12: bool) -> None:
    async with secure(tls12=tls12) as (client, server):
        await client.send_all(b"CCC")
        assert await server.receive_some() == b"CCC"
        plain, other = await upgrade_both(client, server, to_plaintext(), to_plaintext())
        assert plain.tls is None
        await plain.send_all(b"in the clear")
        assert _socket(other).recv(100, socket.MSG_PEEK) == b"in the clear"
        assert await other.receive_some() == b"in the clear"


async def test_bytes_behind_close_notify_are_the_plain_layers(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with two_handles() as (client, server):
        tls, incoming, outgoing = client_hello(client_context)
        _, secure = await both(
            lambda: finish(tls, incoming, outgoing, client), lambda: server.upgrade(to_tls_server(server_context))
        )
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        await client.send_all(outgoing.read() + b"plain bytes")
        plain = await secure.upgrade(to_plaintext())
        assert plain.tls is None
        assert await plain.receive_some() == b"plain bytes"


async def test_unwrapping_is_refused(secure: Any) -> None:
    async with two_handles() as (client, _):
        with pytest.raises(LocalProtocolError, match="is not TLS; it is plain already"):
            await client.upgrade(to_plaintext())
        assert client.phase is Phase.OPEN
    async with secure() as (client, server):
        await server.send_all(b"peeked and not")
        assert await client.peek(6) == b"peeked"
        with pytest.raises(
            LocalProtocolError, match="has 14 unread bytes that came over TLS; receive what is there first"
        ):
            await client.upgrade(to_plaintext())
        assert await client.receive_some(6) == b"peeked"
        assert await client.receive_some() == b" and not"


async def test_unwrapping_fails_when_the_peer_goes_on(secure: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with secure() as (client, server):
        await server.send_all(b"more data")
        with pytest.raises(UpgradeFailedError, match=r"the peer went on sending over TLS \(at least 9 bytes\)"):
            await client.upgrade(to_plaintext())
        assert client.end.reason is Reason.UPGRADE_FAILED
    async with secure() as (client, server):
        with pytest.raises(UpgradeFailedError, match="did not finish within 2 s"):
            await client.upgrade(to_plaintext(handshake_timeout=2))
        assert client.end.reason is Reason.UPGRADE_FAILED
    async with secure() as (client, server):
        server.abort()
        with pytest.raises(UpgradeFailedError, match="exchange of TLS close_notify failed"):
            await client.upgrade(to_plaintext())


async def test_unwrapping_cancelled_before_close_notify_is_undone(secure: Any) -> None:
    async with secure() as (client, server):
        stuffed = choke(client)
        async with trio.open_nursery() as nursery:

            async def unwrap() -> None:
                await client.upgrade(to_plaintext())

            nursery.start_soon(unwrap)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert client.phase is Phase.OPEN
        _empty(_socket(server), stuffed)
        await client.send_all(b"as before")
        assert await server.receive_some() == b"as before"


# --- sending ----------------------------------------------------------------------------------------------------


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
        _empty(_socket(server), stuffed)
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


# --- what OpenSSL says of its own accord --------------------------------------------------------------------------


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
        _empty(_socket(server), stuffed)
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
            _socket(server).send(b"\x17\x03\x03\x00\x20" + bytes(32))
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
                with pytest.raises(HandleBrokenError, match="reads no answer"):
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


# --- other peers, other transports, conformance ------------------------------------------------------------------


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
        _empty(_socket(other), stuffed)
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


# --- cancellation at every point ----------------------------------------------------------------------------------


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` after the k-th step of one task: where that task has just begun to wait."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.task: Any = None
        self.scope = trio.CancelScope()

    def after_task_step(self, task: Any) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


async def cancelled_at(step: int, victim: str, to_client: Any, to_server: Any) -> tuple[Phase, bool, bool]:
    """Cancel the victim at its k-th step: its phase, whether it was upgraded, whether there was no such step."""
    instrument = CancelAtStep(step)
    one, two = socket.socketpair()
    phase: Any = None
    upgraded = False
    async with open_scope() as scope:
        client, server = scope.adopt(one), scope.adopt(two)
        descriptors = [one_of.fileno() for one_of in map(_socket, (client, server))]
        mine, my_recipe, other, other_recipe = (
            (client, to_client, server, to_server) if victim == "client" else (server, to_server, client, to_client)
        )

        async def watched() -> None:
            nonlocal phase, upgraded
            instrument.task = trio.lowlevel.current_task()
            with instrument.scope:
                await mine.upgrade(my_recipe)
                upgraded = True
            instrument.task = None
            phase = mine.phase
            if upgraded:
                assert mine.end is not None
                assert mine.end.successor.phase is Phase.OPEN
                assert mine.end.successor in scope.handles
            elif phase is Phase.OPEN:
                assert mine._leftover == b"" or mine._leftover[0] == 22
            mine.abort()

        trio.lowlevel.add_instrument(instrument)
        await both(watched, lambda: other.upgrade(other_recipe))
        trio.lowlevel.remove_instrument(instrument)
        for handle in scope.handles:
            handle.abort()
    assert not any(map(_is_open, descriptors))
    return phase, upgraded, instrument.left > 0


@pytest.mark.parametrize("victim", ["client", "server"])
async def test_cancelled_anywhere(victim: str, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    """Cancel one side's handshake at every point: its handle is OPEN with all bytes back, CLOSED, or MOVED."""
    outcomes = set()
    for step in range(1, 100):
        recipes = to_tls_client("localhost", client_context), to_tls_server(server_context)
        phase, upgraded, done = await cancelled_at(step, victim, *recipes)
        outcomes.add((phase, upgraded))
        if done:
            break
    assert done
    # A client has sent its ClientHello before it waits for the first time: nothing to undo from there on.
    undone = {(Phase.OPEN, False)} if victim == "server" else set()
    assert outcomes == undone | {(Phase.CLOSED, False), (Phase.MOVED, True)}
