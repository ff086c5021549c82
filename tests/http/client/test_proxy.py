"""Proxies: which one is for which URL, and the ways through them."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from yarl import URL

import trionet
from trionet import LocalProtocolError, Phase, Reason, UpgradeFailedError, UpgradeRefusedError
from trionet.http.client.auth import basic
from trionet.http.client.proxies.choice import Proxies
from trionet.http.client.proxies.http_tunnel import to_http_tunnel
from trionet.http.client.proxies.proxy import Proxy
from trionet.http.client.proxies.socks5_tunnel import to_socks5_tunnel
from trionet.http.url.url import Origin, parse_url

from ...helpers.pairs import PAIRS, receive_all, tcp_pair
from ...stories.test_cancel_everywhere import at_every_checkpoint

# --- which proxy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("http://proxy.example/", Proxy("http", "proxy.example", 80)),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("socks5://127.0.0.1", Proxy("socks5", "127.0.0.1", 1080)),
        ("SOCKS5H://[::1]:9050", Proxy("socks5h", "::1", 9050)),
        ("http://us%40er:p%3Aw@proxy.example:1", Proxy("http", "proxy.example", 1, "us@er", "p:w")),
        ("http://user@bücher.example:1", Proxy("http", "xn--bcher-kva.example", 1, "user", "")),
    ],
)
def test_a_proxy_is_a_url(url: str, proxy: Proxy) -> None:
    assert Proxy.parse(url) == Proxy.parse(URL(url)) == proxy


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("proxy.example:3128", "must begin with http, https, socks5 or socks5h"),
        ("ftp://proxy.example", "must begin with"),
        ("socks4://proxy.example", "must begin with"),
        ("http://", "no host"),
        ("http://proxy.example/path", "more behind"),
        ("http://proxy.example:0", "port 0"),
        ("http://proxy.example:99999", "proxy 'http://proxy.example:99999': port '99999' is not a number"),
        ("http://proxy.example:-1", "'-1' is not a number from 1 to 65535"),
        ("http://proxy.example:abc", "'abc' is not a number"),
        ("http://proxy.example:\uff18\uff10", "is not a number"),
        (f"http://proxy.example:{'9' * 5000}", "9{20}\\.\\.\\.' is not a number"),
        ("http://proxy.example:1:2", "more than one colon"),
        ("http://[::1", "stands in brackets"),
        ("http://proxy.example\\@other.example", "backslash"),
        ("http://proxy.example\r\n", "control character"),
        ("http://a..b", "host name"),
        ("http://us%3Aer:x@proxy.example", "colon"),
        ("http://user:%0d@proxy.example", "control character"),
        ("socks5://user@proxy.example", "1 to 255 bytes"),
        (f"socks5://{'u' * 256}:x@proxy.example", "1 to 255 bytes"),
    ],
)
def test_what_is_no_proxy(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Proxy.parse(url)


def test_a_proxy_is_a_text() -> None:
    with pytest.raises(TypeError, match="must be a URL"):
        Proxy.parse(None)  # type: ignore[arg-type]


def test_a_password_is_not_shown() -> None:
    proxy = Proxy.parse("http://user:secret@[::1]:3128")
    assert "secret" not in f"{proxy} {proxy!r}"
    assert str(proxy) == "http://[::1]:3128"
    assert proxy.authorization == basic("user", "secret")
    assert Proxy.parse("http://proxy.example").authorization is None


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@proxy.example/path",
        "http://user:secret@proxy.example:99999",
        "http://user:se/cret@proxy.example",
        "http://user:secret@a..b",
        "ftp://user:secret@proxy.example",
        "user:secret@proxy.example",
        "http://user:secret@",
        "http://user:secret@[::1",
    ],
)
def test_an_error_about_a_proxy_does_not_show_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="proxy") as refused:
        Proxy.parse(url)
    assert "cret" not in str(refused.value)


def test_who_looks_names_up() -> None:
    assert not Proxy.parse("socks5://proxy.example").remote_dns
    assert Proxy.parse("socks5h://proxy.example").remote_dns


def via(url: str, **environ: str) -> str | None:
    proxy = Proxies.from_environment(environ).for_origin(parse_url(url).origin)
    return proxy and str(proxy)


def test_the_environment_names_a_proxy_for_each_scheme() -> None:
    both = {"http_proxy": "http://a.example:1", "https_proxy": "b.example:2"}
    assert via("http://host.example/", **both) == "http://a.example:1"
    assert via("https://host.example/", **both) == "http://b.example:2"
    assert via("https://host.example/", http_proxy="http://a.example:1") is None
    assert via("https://host.example/", ALL_PROXY="socks5://c.example") == "socks5://c.example:1080"
    assert via("http://host.example/", ALL_PROXY="c.example", HTTP_PROXY="a.example") == "http://a.example:80"
    assert via("http://host.example/") is None


def test_lower_case_comes_first() -> None:
    assert via("http://host.example/", HTTP_PROXY="http://upper.example", http_proxy="http://lower.example") == (
        "http://lower.example:80"
    )
    assert via("http://host.example/", HTTP_PROXY="http://upper.example", http_proxy="") is None


def test_a_cgi_program_does_not_take_its_proxy_from_a_client() -> None:
    cgi = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://evil.example"}
    assert via("http://host.example/", **cgi) is None
    assert via("https://host.example/", **cgi, HTTPS_PROXY="http://a.example") == "http://a.example:80"
    assert via("http://host.example/", **cgi, http_proxy="http://a.example") == "http://a.example:80"


def test_the_real_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://a.example:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert Proxies.from_environment().for_origin(Origin("https", "host.example", 443)) == Proxy("http", "a.example", 1)


def test_an_environment_that_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="environment variable HTTPS_PROXY: proxy 'ftp://a.example'"):
        Proxies.from_environment({"HTTPS_PROXY": "ftp://a.example"})
    with pytest.raises(ValueError, match="NO_PROXY has the entry 'host:http'"):
        Proxies.from_environment({"HTTPS_PROXY": "http://a.example", "NO_PROXY": "host:http"})


def test_a_malformed_no_proxy_is_called_by_its_name():
    with pytest.raises(ValueError, match="NO_PROXY has an entry that is not a host: 'ü"):
        Proxies.from_environment({"HTTPS_PROXY": "http://a.example", "NO_PROXY": "ü" * 80})


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("host.example", ["http://host.example", "http://a.b.host.example:81"], ["http://nothost.example"]),
        (".host.example", ["http://a.host.example"], ["http://host.example", "http://nothost.example"]),
        ("*.host.example", ["http://a.host.example"], ["http://host.example"]),
        ("HOST.example", ["http://Host.Example."], ["http://example"]),
        ("bücher.example", ["http://bücher.example", "http://xn--bcher-kva.example"], ["http://buecher.example"]),
        ("host.example:8080", ["http://host.example:8080"], ["http://host.example", "http://host.example:80"]),
        ("host.example:443", ["https://host.example"], ["http://host.example"]),
        ("https://host.example", ["https://host.example"], ["http://host.example"]),
        ("all://host.example", ["https://host.example", "http://host.example"], ["http://x.example"]),
        ("localhost", ["http://localhost:1234"], ["http://127.0.0.1"]),
        ("10.0.0.1", ["http://10.0.0.1", "http://10.0.0.1:99"], ["http://10.0.0.2"]),
        ("10.0.0.1:99", ["http://10.0.0.1:99"], ["http://10.0.0.1"]),
        ("10.0.0.0/8", ["http://10.200.3.4"], ["http://11.0.0.1", "http://host10.0.0.1.example", "http://[::1]"]),
        ("10.1.2.3/8", ["http://10.200.3.4"], ["http://11.0.0.1"]),
        ("::1", ["http://[::1]:80", "http://[0:0::1]"], ["http://[::2]"]),
        ("[::1]", ["http://[::1]:80"], ["http://[::2]"]),
        ("[::1]:81", ["http://[::1]:81"], ["http://[::1]:80"]),
        ("fe80::/10", ["http://[fe80::1%25eth0]"], ["http://[::1]"]),
        ("[fe80::]/10", ["http://[fe80::1%25eth0]"], ["http://[::1]"]),
        ("fe80::1%eth0", ["http://[fe80::1%25eth0]"], ["http://[fe80::2%25eth0]"]),
        ("10.0.0.0/8", ["http://[::ffff:10.1.2.3]"], ["http://[::ffff:11.1.2.3]"]),
        ("::ffff:10.0.0.1", ["http://10.0.0.1", "http://[::ffff:10.0.0.1]"], ["http://10.0.0.2"]),
        ("http://[::1]:80/", ["http://[::1]"], ["http://[::1]:81"]),
        ("host.example/", ["http://host.example"], ["http://nothost.example"]),
        ("a.example, b.example  c.example,,", ["http://a.example", "http://b.example", "http://c.example"], []),
        ("a.example,*", ["http://anything.example", "https://127.0.0.1"], []),
        ("", [], ["http://host.example"]),
    ],
)
def test_what_is_asked_directly(no_proxy: str, direct: list[str], proxied: list[str]) -> None:
    for url in direct:
        assert via(url, ALL_PROXY="proxy.example", NO_PROXY=no_proxy) is None, url
    for url in proxied:
        assert via(url, ALL_PROXY="proxy.example", NO_PROXY=no_proxy) == "http://proxy.example:80", url


def test_a_single_proxy_is_for_everything() -> None:
    proxy = Proxy.parse("http://proxy.example")
    assert Proxies.single(proxy).for_origin(Origin("http", "localhost", 80)) is proxy


# --- the ways through: one byte after the other ---------------------------------------------------------------------

OK = b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n"
DENIED = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nno!!"


async def upgrade_against(
    recipe: Any, proxy: Callable[[trionet.Connection], Awaitable[None]]
) -> tuple[Any, trionet.Connection]:
    """Upgrade a connection to `proxy`, and see what comes of it: the successor or the error, and the old handle."""
    async with trionet.open_scope() as scope:
        ours, theirs = tcp_pair(scope)
        scope.start_soon(proxy, theirs)
        try:
            result: Any = await ours.upgrade(recipe)
        except trionet.TrionetError as exc:
            ours.abort()  # or the proxy would wait for ever
            return exc, ours
        leftover = bytes(result._leftover)
        await result.send_all(b"through")
        await result.send_eof()
        return (leftover, await receive_all(result)), ours


async def echo(theirs: trionet.Connection) -> None:
    """The host behind the proxy: sends back what it gets."""
    await theirs.send_all(b"echo:" + await receive_all(theirs))
    await theirs.send_eof()


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


# --- SOCKS5 ------------------------------------------------------------------------------------------------------

CHOSE_NONE, CHOSE_PASSWORD = b"\x05\x00", b"\x05\x02"
IPV4_REPLY = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"
IPV6_REPLY = b"\x05\x00\x00\x04" + bytes(16) + b"\x12\x34"
NAME_REPLY = b"\x05\x00\x00\x03\x04host\x12\x34"


async def read_socks(theirs: trionet.Connection, answers: list[bytes], split: int | None = None) -> list[bytes]:
    """A SOCKS5 server that has its answers ready: what the client sent before each. `split` cuts one answer in two."""
    asked = []
    for answer in answers:
        asked.append(await theirs.receive_some())
        if split is None:
            await theirs.send_all(answer)
            continue
        head, tail = answer[:split], answer[split:]
        if head:
            await theirs.send_all(head)
            await trio.testing.wait_all_tasks_blocked()
        if tail:
            await theirs.send_all(tail)
    return asked


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


# --- both --------------------------------------------------------------------------------------------------------

RECIPES: dict[str, Callable[..., Any]] = {"http": to_http_tunnel, "socks5": to_socks5_tunnel}
both = pytest.mark.parametrize("kind", RECIPES)


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


# --- a proxy at work -----------------------------------------------------------------------------------------------


async def pass_on(source: trionet.Connection, sink: trionet.Connection) -> None:
    while data := await source.receive_some():
        await sink.send_all(data)
    await sink.send_eof()


async def small_proxy(conn: trionet.Connection) -> None:
    """CONNECT or SOCKS5 with names, whichever the client speaks."""
    if await conn.peek(1) == b"\x05":
        _, count = await conn.receive_exactly(2)
        await conn.receive_exactly(count)
        await conn.send_all(b"\x05\x00")
        *_, kind, length = await conn.receive_exactly(5)
        assert kind == 3
        host = (await conn.receive_exactly(length)).decode()
        (port,) = struct.unpack(">H", await conn.receive_exactly(2))
        answer = IPV4_REPLY
    else:
        line, _, _ = (await conn.receive_until(b"\r\n\r\n", max_bytes=4096)).partition(b"\r\n")
        host, _, text = line.split()[1].decode().rpartition(":")
        port, answer = int(text), OK
    async with trionet.open_tcp(host, port) as onward:
        await conn.send_all(answer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, conn, onward)
            nursery.start_soon(pass_on, onward, conn)


async def greet(conn: trionet.Connection) -> None:
    """A server that speaks first, and then sends back what it gets."""
    await conn.send_all(b"220 hello\r\n")
    await conn.send_all(await conn.receive_until(b"\n", max_bytes=100))
    await conn.receive_some()


async def talk_through(recipe: Any, proxy_port: int) -> bytes:
    async with trionet.open_tcp("127.0.0.1", proxy_port) as conn:
        tunnel = await conn.upgrade(recipe)
        assert await tunnel.receive_until(b"\r\n", max_bytes=100) == b"220 hello\r\n"
        await tunnel.send_all(b"there and back\n")
        return await tunnel.receive_until(b"\n", max_bytes=100)


@both
async def test_through_a_small_proxy(kind: str) -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_tcp, greet, 0)
        proxy = await scope.start(trionet.serve_tcp, small_proxy, 0)
        recipe = RECIPES[kind]("localhost", server.port)
        assert await talk_through(recipe, proxy.port) == b"there and back\n"
        scope.cancel()


async def talk_to(scope: trionet.Scope, host: str, port: int, proxy: str) -> None:
    """The same by the name of the proxy."""
    conn = await scope.connect_tcp(host, port, proxy=proxy)
    assert await conn.receive_until(b"\r\n", max_bytes=100) == b"220 hello\r\n"
    await conn.send_all(b"there and back\n")
    assert await conn.receive_until(b"\n", max_bytes=100) == b"there and back\n"
    assert conn.scope is scope
    conn.abort()


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_connecting_through_a_proxy(scheme: str) -> None:
    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_tcp, greet, 0)
        proxy = await scope.start(trionet.serve_tcp, small_proxy, 0)
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        await talk_to(scope, "localhost", server.port, url)
        async with trionet.open_tcp(b"localhost", server.port, proxy=URL(url)) as conn:
            assert await conn.receive_exactly(3) == b"220"
        scope.cancel()


async def test_a_proxy_behind_tls_comes_before_the_tunnel(client_context: Any, server_context: Any) -> None:
    """With a context of one's own, step by step; and by its name it is verified with the system's trust store."""

    async def serve(*, task_status: Any) -> None:
        await trionet.serve_tcp(small_proxy, 0, ssl_context=server_context, task_status=task_status)

    async with trionet.open_scope() as scope:
        server = await scope.start(trionet.serve_tcp, greet, 0)
        proxy = await scope.start(serve)
        conn = await scope.connect_tcp("127.0.0.1", proxy.port)
        conn = await conn.upgrade(trionet.to_tls_client("localhost", client_context))
        conn = await conn.upgrade(trionet.to_http_tunnel("127.0.0.1", server.port))
        assert await conn.receive_exactly(3) == b"220"
        before = scope.handles
        with pytest.raises(UpgradeFailedError, match="the proxy https://localhost:.*certificate"):
            await scope.connect_tcp("127.0.0.1", server.port, proxy=f"https://localhost:{proxy.port}")
        assert scope.handles == before
        scope.cancel()


@pytest.mark.parametrize(
    ("host", "port", "proxy", "error", "says"),
    [
        ("a.example", 0, "http://127.0.0.1:1", ValueError, "port"),
        ("a b", 1, "http://127.0.0.1:1", ValueError, "host"),
        (7, 1, "http://127.0.0.1:1", TypeError, "host"),
        ("a.example", 1, "ftp://127.0.0.1:1", ValueError, "must begin with"),
        ("a.example", 1, 7, TypeError, "a proxy must be a URL"),
    ],
)
async def test_what_cannot_be_a_way_is_refused_before_anything_is_opened(
    host: Any, port: int, proxy: Any, error: type[Exception], says: str
) -> None:
    async with trionet.open_scope() as scope:
        with pytest.raises(error, match=says):
            await scope.connect_tcp(host, port, proxy=proxy)


async def test_a_proxy_that_is_not_there_is_named() -> None:
    async with trionet.open_scope() as scope:
        port = free_port()
        with pytest.raises(ConnectionRefusedError, match=f"cannot connect to the proxy http://127.0.0.1:{port}: "):
            await scope.connect_tcp("a.example", 1, proxy=f"http://u:p@127.0.0.1:{port}")


async def test_connecting_through_a_proxy_cancelled_at_every_checkpoint() -> None:
    async with trionet.open_scope() as outer:
        server = await outer.start(trionet.serve_tcp, greet, 0)
        proxy = await outer.start(trionet.serve_tcp, small_proxy, 0)

        async def scenario(cancelling: Any) -> None:
            async with trionet.open_scope() as scope:
                with cancelling.scope:
                    url = f"http://127.0.0.1:{proxy.port}"
                    conn = await scope.connect_tcp("127.0.0.1", server.port, proxy=url)
                    conn.abort()
                assert scope.handles == ()
            with trio.fail_after(5):
                while server.statistics().open or proxy.statistics().open:
                    await trio.testing.wait_all_tasks_blocked()

        assert await at_every_checkpoint(scenario) > 3
        outer.cancel()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def until_it_listens(port: int) -> None:
    with trio.fail_after(10):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.01)
            else:
                await stream.aclose()
                return


async def test_through_a_real_http_proxy(tmp_path: Path) -> None:
    program = shutil.which("tinyproxy")
    if program is None:
        pytest.skip("tinyproxy is not installed (apt-get install tinyproxy)")
    port = free_port()
    (tmp_path / "conf").write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nBasicAuth user secret\n")
    with subprocess.Popen([program, "-d", "-c", str(tmp_path / "conf")], stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220 - at once
        try:
            await until_it_listens(port)
            async with trionet.open_scope() as scope:
                server = await scope.start(trionet.serve_tcp, greet, 0)
                recipe = to_http_tunnel("127.0.0.1", server.port, authorization=basic("user", "secret"))
                assert await talk_through(recipe, port) == b"there and back\n"
                await talk_to(scope, "127.0.0.1", server.port, f"http://user:secret@127.0.0.1:{port}")
                with pytest.raises((UpgradeRefusedError, UpgradeFailedError), match="the proxy http://.*: .*40[17]"):
                    await scope.connect_tcp("127.0.0.1", server.port, proxy=f"http://127.0.0.1:{port}")
                with pytest.raises((UpgradeRefusedError, UpgradeFailedError), match="40[17]"):
                    await talk_through(to_http_tunnel("127.0.0.1", server.port), port)
                scope.cancel()
        finally:
            process.kill()


async def test_through_a_real_socks_proxy() -> None:
    program = shutil.which("microsocks")
    if program is None:
        pytest.skip("microsocks is not installed (apt-get install microsocks)")
    port = free_port()
    arguments = [program, "-i", "127.0.0.1", "-p", str(port), "-u", "user", "-P", "secret"]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:  # noqa: ASYNC220 - at once
        try:
            await until_it_listens(port)
            async with trionet.open_scope() as scope:
                server = await scope.start(trionet.serve_tcp, greet, 0)
                for host, remote_dns in (("127.0.0.1", True), ("localhost", True), ("localhost", False)):
                    recipe = to_socks5_tunnel(
                        host, server.port, username="user", password="secret", remote_dns=remote_dns
                    )
                    assert await talk_through(recipe, port) == b"there and back\n"
                for scheme in ("socks5", "socks5h"):
                    await talk_to(scope, "localhost", server.port, f"{scheme}://user:secret@127.0.0.1:{port}")
                with pytest.raises(UpgradeFailedError, match="not accept user name and password|may want username"):
                    wrong = to_socks5_tunnel("127.0.0.1", server.port, username="user", password="wrong")
                    await talk_through(wrong, port)
                refused = to_socks5_tunnel("127.0.0.1", free_port(), username="user", password="secret")
                with pytest.raises(UpgradeFailedError, match="connection refused") as failed:
                    await talk_through(refused, port)
                assert isinstance(failed.value.__cause__, UpgradeRefusedError)
                assert failed.value.__cause__.response == 5
                scope.cancel()
        finally:
            process.kill()
