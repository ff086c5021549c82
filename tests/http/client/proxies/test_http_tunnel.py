"""CONNECT: the tunnel of an HTTP proxy, one byte after the other."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trionet
from trionet import Phase, Reason, UpgradeFailedError, UpgradeRefusedError
from trionet.http.client.proxies.http_tunnel import to_http_tunnel

from ....helpers.http_proxies import OK, echo, upgrade_against
from ....helpers.pairs import receive_all, tcp_pair

DENIED = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nno!!"


@pytest.mark.parametrize(
    ("host", "authority"),
    [("Host.example", b"host.example:443"), ("::1", b"[::1]:443"), ("bücher.example", b"xn--bcher-kva.example:443")],
)
async def test_connect_asks_for_host_and_port(host: str, authority: bytes) -> None:
    asked = b""

    async def proxy(theirs: trionet.Connection) -> None:
        nonlocal asked
        asked = await theirs.receive_until(b"\r\n\r\n", max_bytes=4096)
        await theirs.send_all(OK)
        await echo(theirs)

    result, old = await upgrade_against(to_http_tunnel(host, 443, authorization="Basic eA=="), proxy)
    assert result == (b"", b"echo:through")
    assert old.phase is Phase.MOVED
    assert asked == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic eA==\r\n\r\n" % (
        authority,
        authority,
    )


@pytest.mark.parametrize(
    "answer", [OK, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 299 x\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
async def test_a_success_in_every_split_and_what_comes_behind_it(answer: bytes) -> None:
    for at in range(len(answer) + 1):

        async def proxy(theirs: trionet.Connection, at: int = at) -> None:
            await theirs.receive_until(b"\r\n\r\n", max_bytes=4096)
            if at:
                await theirs.send_all(answer[:at])
                await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(answer[at:] + b"220 the server speaks first\r\n")
            await echo(theirs)

        (_, rest), _ = await upgrade_against(to_http_tunnel("host.example", 25), proxy)
        assert rest == b"220 the server speaks first\r\necho:through"


async def test_a_refusal_in_every_split_leaves_the_connection_usable() -> None:
    for at in range(1, len(DENIED)):

        async def proxy(theirs: trionet.Connection, at: int = at) -> None:
            await theirs.receive_until(b"\r\n\r\n", max_bytes=4096)
            await theirs.send_all(DENIED[:at])
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(DENIED[at:])
            await theirs.receive_until(b"\r\n\r\n", max_bytes=4096)
            await theirs.send_all(OK)
            await echo(theirs)

        async with trionet.open_scope() as scope:
            ours, theirs = tcp_pair(scope)
            scope.start_soon(proxy, theirs)
            with pytest.raises(UpgradeRefusedError, match="407 Proxy Authentication Required") as refused:
                await ours.upgrade(to_http_tunnel("host.example", 443))
            assert refused.value.response.status == 407
            assert refused.value.response.headers["proxy-authenticate"] == "Basic"
            assert refused.value.response.body == b"no!!"
            assert ours.phase is Phase.OPEN
            tunnel = await ours.upgrade(to_http_tunnel("host.example", 443, authorization="Basic eA=="))
            await tunnel.send_eof()
            assert await receive_all(tunnel) == b"echo:"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (DENIED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), "407 .*ends the connection"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nuntil EOF", "502 Bad Gateway.*ends the connection"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 65537\r\n\r\n", "65537 bytes"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "101"),
        (b"SSH-2.0-x\r\n\r\n", "handshake|failed"),
        (b"HTTP/1.1 200", "ended the connection instead of answering"),
        (b"", "ended the connection instead of answering"),
        (b"HTTP/1.1 102 x\r\n\r\n" * 16, "16 informational"),
        (b"HTTP/1.1 200 x\r\n" + b"x: y\r\n" * 12_000, "65536 bytes"),
    ],
)
async def test_an_answer_after_which_nothing_can_go_on(answer: bytes, says: str) -> None:
    async def proxy(theirs: trionet.Connection) -> None:
        await theirs.receive_until(b"\r\n\r\n", max_bytes=4096)
        await theirs.send_all(answer)
        await theirs.send_eof()

    error, old = await upgrade_against(to_http_tunnel("host.example", 443), proxy)
    assert isinstance(error, UpgradeFailedError)
    with pytest.raises(UpgradeFailedError, match=says):
        raise error
    assert old.end is not None
    assert old.end.reason is Reason.UPGRADE_FAILED


async def test_a_refusal_that_ends_the_connection_can_still_be_read() -> None:
    async def proxy(theirs: trionet.Connection) -> None:
        await theirs.receive_until(b"\r\n\r\n", max_bytes=4096)
        await theirs.send_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno such host")
        await theirs.send_eof()

    error, _ = await upgrade_against(to_http_tunnel("host.example", 443), proxy)
    assert error.__cause__.response.body == b"no such host"
