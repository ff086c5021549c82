"""The recipes for TLS: handshakes that come about and that do not, unwrapping, and cancellation at every point."""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from trionet import (
    HandleBrokenError,
    LocalProtocolError,
    Phase,
    Reason,
    UpgradeFailedError,
    open_scope,
    to_plaintext,
    to_tls_client,
    to_tls_server,
)

from ..helpers.tls import both, choke, client_hello, empty, finish, socket_of, two_handles, upgrade_both

if TYPE_CHECKING:
    pass


# --- handshakes ---------------------------------------------------------------------------------------------------


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


# --- back to plaintext --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls12", [False, True])
async def test_unwrapping(secure: Any, tls12: bool) -> None:
    async with secure(tls12=tls12) as (client, server):
        await client.send_all(b"CCC")
        assert await server.receive_some() == b"CCC"
        plain, other = await upgrade_both(client, server, to_plaintext(), to_plaintext())
        assert plain.tls is None
        await plain.send_all(b"in the clear")
        assert socket_of(other).recv(100, socket.MSG_PEEK) == b"in the clear"
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
        empty(socket_of(server), stuffed)
        await client.send_all(b"as before")
        assert await server.receive_some() == b"as before"


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
        descriptors = [one_of.fileno() for one_of in map(socket_of, (client, server))]
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
