"""The tunnel of a SOCKS5 proxy."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet import Phase, Reason, UpgradeFailedError
from trionet.http.client.proxies.socks5_tunnel import to_socks5_tunnel

from ....helpers.http_proxies import CHOSE_NONE, CHOSE_PASSWORD, IPV4_REPLY, echo, read_socks, upgrade_against
from ....helpers.pairs import tcp_pair

IPV6_REPLY = b"\x05\x00\x00\x04" + bytes(16) + b"\x12\x34"


NAME_REPLY = b"\x05\x00\x00\x03\x04host\x12\x34"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("host.example", b"\x03\x0chost.example"),
        ("bücher.example", b"\x03\x15xn--bcher-kva.example"),
        ("192.0.2.7", b"\x01\xc0\x00\x02\x07"),
        ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
    ],
)
@pytest.mark.parametrize("reply", [IPV4_REPLY, IPV6_REPLY, NAME_REPLY])
async def test_socks_asks_for_the_host_in_its_own_form(host: str, address: bytes, reply: bytes) -> None:
    asked: list[bytes] = []

    async def proxy(theirs: trionet.Connection) -> None:
        asked.extend(await read_socks(theirs, [CHOSE_NONE, reply]))
        await echo(theirs)

    result, old = await upgrade_against(to_socks5_tunnel(host, 443), proxy)
    assert result == (b"", b"echo:through")
    assert old.phase is Phase.MOVED
    assert asked == [b"\x05\x01\x00", b"\x05\x01\x00" + address + b"\x01\xbb"]


async def test_socks_with_user_name_and_password() -> None:
    asked: list[bytes] = []

    async def proxy(theirs: trionet.Connection) -> None:
        asked.extend(await read_socks(theirs, [CHOSE_PASSWORD, b"\x01\x00", IPV4_REPLY]))
        await echo(theirs)

    result, _ = await upgrade_against(to_socks5_tunnel("192.0.2.7", 80, username="Zoë", password="pw"), proxy)
    assert result == (b"", b"echo:through")
    assert asked == [b"\x05\x02\x00\x02", b"\x01\x04Zo\xc3\xab\x02pw", b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50"]


async def test_socks_looks_a_name_up_on_this_machine_if_it_is_told_to() -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            assert (host, port) == (b"host.example", 80)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 80))]

        async def getnameinfo(self, *args: Any) -> Any:
            raise NotImplementedError

    asked: list[bytes] = []

    async def proxy(theirs: trionet.Connection) -> None:
        asked.extend(await read_socks(theirs, [CHOSE_NONE, IPV4_REPLY]))
        await echo(theirs)

    trio.socket.set_custom_hostname_resolver(Resolver())
    result, _ = await upgrade_against(to_socks5_tunnel("host.example", 80, remote_dns=False), proxy)
    assert result == (b"", b"echo:through")
    assert asked[1] == b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50"


async def test_a_name_that_is_not_found_leaves_the_connection_as_it_was() -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *args: Any) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    async with trionet.open_scope() as scope:
        ours, _ = tcp_pair(scope)
        with pytest.raises(UpgradeFailedError, match="look up host.example: Name or service not known"):
            await ours.upgrade(to_socks5_tunnel("host.example", 80, remote_dns=False))
        assert ours.phase is Phase.OPEN


@pytest.mark.parametrize("reply", [IPV4_REPLY, IPV6_REPLY, NAME_REPLY])
async def test_socks_answers_in_every_split_and_what_comes_behind_them(reply: bytes) -> None:
    behind = b"220 the server speaks first\r\n"
    for at in range(len(reply) + len(behind)):

        async def proxy(theirs: trionet.Connection, at: int = at) -> None:
            await read_socks(theirs, [CHOSE_PASSWORD, b"\x01\x00", reply + behind], at)
            await echo(theirs)

        (_, rest), _ = await upgrade_against(to_socks5_tunnel("h.example", 25, username="u", password="p"), proxy)
        assert rest == behind + b"echo:through"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([b"\x05\xff"], "accepts none of the ways of authentication.*may want username and password"),
        ([b"\x05\x02"], "chose 2, which is none"),
        ([b"\x04\x00"], "not a SOCKS5 proxy"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not a SOCKS5 proxy: its reply begins with b'H'"),
        ([b"\x05"], "ended the connection in the middle of its reply, after b'\\\\x05'"),
        ([CHOSE_NONE, b"\x05\x01\x00\x01" + bytes(6)], "general failure"),
        ([CHOSE_NONE, b"\x05\x02\x00\x01" + bytes(6)], "rules do not allow"),
        ([CHOSE_NONE, b"\x05\x05\x00\x01" + bytes(6)], "did not connect to host.example:443: connection refused"),
        ([CHOSE_NONE, b"\x05\x63\x00\x01" + bytes(6)], "reply 99"),
        ([CHOSE_NONE, b"\x05\x00\x00\x02"], "kind 2"),
        ([CHOSE_NONE, b"\x04\x00\x00\x01"], "not a SOCKS5 proxy"),
        ([CHOSE_NONE, IPV4_REPLY[:-1]], "ended the connection"),
    ],
)
async def test_socks_refusals_end_the_connection(answers: list[bytes], says: str) -> None:
    async def proxy(theirs: trionet.Connection) -> None:
        await read_socks(theirs, answers)
        await theirs.send_eof()

    error, old = await upgrade_against(to_socks5_tunnel("host.example", 443), proxy)
    with pytest.raises(UpgradeFailedError, match=says):
        raise error
    assert old.end is not None
    assert old.end.reason is Reason.UPGRADE_FAILED


async def test_socks_with_a_wrong_password() -> None:
    async def proxy(theirs: trionet.Connection) -> None:
        await read_socks(theirs, [CHOSE_PASSWORD, b"\x01\x01"])
        await theirs.send_eof()

    error, _ = await upgrade_against(to_socks5_tunnel("host.example", 443, username="u", password="p"), proxy)
    with pytest.raises(UpgradeFailedError, match="does not accept user name and password"):
        raise error
