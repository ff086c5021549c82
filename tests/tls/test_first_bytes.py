"""Bytes that are not TLS where TLS has to begin, and bytes that are."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trionet import (
    Connection,
    HandleClosedError,
    PlaintextInjectionError,
    Reason,
    UpgradeFailedError,
    to_tls_client,
    to_tls_server,
)

from ..helpers.tls import both, client_hello, finish, socket_of, two_handles

if TYPE_CHECKING:
    pass


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
    assert socket_of(handle).fileno() == -1
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
