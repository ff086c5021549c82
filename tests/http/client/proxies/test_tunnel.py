"""What is the same for the tunnels of all proxies."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet import LocalProtocolError, Phase, Reason, UpgradeFailedError
from trionet.http.client.proxies.http_tunnel import to_http_tunnel
from trionet.http.client.proxies.socks5_tunnel import to_socks5_tunnel

from ....helpers.http_proxies import CHOSE_PASSWORD, IPV4_REPLY, OK, RECIPES, both, read_socks
from ....helpers.pairs import PAIRS, tcp_pair
from ....stories.test_cancel_everywhere import at_every_checkpoint


@both
def test_arguments_that_cannot_be_right(kind: str) -> None:
    recipe = RECIPES[kind]
    for host, port, says in (
        ("", 80, "host name"),
        ("a b", 80, "host name"),
        ("host.example\r\nX", 80, "host name"),
        ("fe80::1%eth0", 80, "zone"),
        ("host.example", 0, "port must be 1"),
        ("host.example", 65536, "port must be 1"),
    ):
        with pytest.raises(ValueError, match=says):
            recipe(host, port)
    with pytest.raises(ValueError, match="handshake_timeout"):
        recipe("host.example", 80, handshake_timeout=0)


def test_credentials_that_cannot_be_right() -> None:
    with pytest.raises(ValueError, match="both username and password"):
        to_socks5_tunnel("host.example", 80, username="u")
    with pytest.raises(ValueError, match="password must have 1 to 255 bytes"):
        to_socks5_tunnel("host.example", 80, username="u", password="")
    with pytest.raises(TypeError, match="username must be a str"):
        to_socks5_tunnel("host.example", 80, username=b"u", password="p")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="control character"):
        to_http_tunnel("host.example", 80, authorization="Basic x\r\nY: z")


@both
async def test_a_proxy_must_not_speak_first(kind: str) -> None:
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        await theirs.send_all(b"220 hello\r\n")
        await ours.peek(3)
        with pytest.raises(LocalProtocolError, match="must not speak first: b'220 hello"):
            await ours.upgrade(RECIPES[kind]("host.example", 80))
        assert ours.phase is Phase.OPEN


@both
async def test_a_recipe_is_for_one_connection_once(kind: str) -> None:
    class Source:
        pass

    recipe = RECIPES[kind]("host.example", 80)
    with pytest.raises(LocalProtocolError, match="works on a Connection"):
        recipe.prepare(Source())
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        await theirs.aclose()
        with pytest.raises(UpgradeFailedError):
            await ours.upgrade(recipe)
        again, _ = tcp_pair(scope)
        with pytest.raises(LocalProtocolError, match="used before"):
            await again.upgrade(recipe)


@both
async def test_a_proxy_that_does_not_answer(kind: str, autojump_clock: trio.testing.MockClock) -> None:
    async with trionet.open_scope() as scope:
        ours, _theirs = tcp_pair(scope)
        with pytest.raises(UpgradeFailedError, match="host.example:80 did not finish within 7 s"):
            await ours.upgrade(RECIPES[kind]("host.example", 80, handshake_timeout=7))
        assert ours.end is not None
        assert ours.end.reason is Reason.UPGRADE_FAILED


@both
@pytest.mark.parametrize("make_pair", PAIRS.values(), ids=PAIRS)
async def test_cancelled_at_every_checkpoint(kind: str, make_pair: Any) -> None:
    """Before anything was sent the connection is as it was; later there is the tunnel or nothing, never both."""
    outcomes = set()

    async def proxy(theirs: trionet.Connection) -> None:
        try:
            if kind == "http":
                await theirs.receive_until(b"\r\n\r\n", max_bytes=4096)
                await theirs.send_all(OK)
            else:
                await read_socks(theirs, [CHOSE_PASSWORD, b"\x01\x00", IPV4_REPLY])
        except trio.BrokenResourceError:
            pass  # the client has given up

    async def scenario(cancelling: Any) -> None:
        credentials = {} if kind == "http" else {"username": "u", "password": "p"}
        async with trionet.open_scope() as scope:
            ours, theirs = make_pair(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(proxy, theirs)
                with cancelling.scope:
                    await ours.upgrade(RECIPES[kind]("host.example", 80, **credentials))
                nursery.cancel_scope.cancel()
            outcomes.add(ours.end.reason if ours.end else ours.phase)
            if ours.end is not None and ours.end.reason is Reason.UPGRADED:
                assert set(scope.handles) == {theirs, ours.end.successor}
            scope.cancel()

    assert await at_every_checkpoint(scenario) >= 1
    assert Reason.UPGRADED in outcomes
    assert outcomes <= {Phase.OPEN, Reason.UPGRADE_FAILED, Reason.UPGRADED}


@both
async def test_cancelled_before_anything_was_sent_and_while_waiting_for_the_answer(kind: str) -> None:
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        with trio.CancelScope() as cancelling:
            cancelling.cancel()
            await ours.upgrade(RECIPES[kind]("host.example", 80))
        assert ours.phase is Phase.OPEN
        with trio.CancelScope() as cancelling:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.upgrade, RECIPES[kind]("host.example", 80))
                await trio.testing.wait_all_tasks_blocked()
                cancelling.cancel()
        assert ours.end is not None
        assert ours.end.reason is Reason.UPGRADE_FAILED
        await theirs.receive_some()
        assert await theirs.receive_some() == b""
