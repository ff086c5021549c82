"""How a client gets to an origin: TLS, Unix sockets, proxies, and what was asked for on the way."""

import socket
from contextlib import asynccontextmanager

import pytest
import trio

import trionet
from trionet.scope.opening import open_http_client

from ...helpers.http_by_hand import HELLO, read_request, serving
from ...helpers.http_clients import get, redirect


async def test_https_on_one_connection_with_alpn(client_context, server_context):
    async with serving(HELLO, server_context) as server, open_http_client(ssl_context=client_context) as client:
        for _ in range(3):
            async with client.request("GET", server.url) as response:
                assert response.connection._transport.tls.alpn == "http/1.1"
                assert await response.read() == b"hello"
        assert server.accepted == 1


async def test_large_bodies_over_https(client_context, server_context):
    body = bytes(range(256)) * 8000

    async def echo(connection, asked):
        await connection.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(asked.body))
        await connection.send_all(asked.body)

    async with serving(echo, server_context) as server, open_http_client(ssl_context=client_context) as client:
        for size in (20_000, 100_000, len(body)):
            async with client.request("POST", server.url, content=body[:size]) as response:
                assert await response.read() == body[:size]
        assert server.accepted == 1


async def test_a_wrong_certificate_was_sent_nothing(server_context):
    async with serving(HELLO, server_context) as server, open_http_client() as client:
        with pytest.raises(trionet.UpgradeFailedError, match=r"certificate.*\(nothing of the request") as caught:
            await get(client, server.url)
        assert caught.value.retry_safe is None
        assert server.asked == []
        assert client.statistics().open == 0


async def test_an_https_connection_that_was_closed_politely_is_not_used_again(client_context, server_context):
    async def once(connection, asked):
        await connection.send_all(HELLO)
        await connection.aclose()

    async with serving(once, server_context) as server, open_http_client(ssl_context=client_context) as client:
        await get(client, server.url)
        (idle,) = client.scope.handles
        while idle.is_silent():
            await trio.lowlevel.wait_readable(idle._transport.lower.socket)
        async with client.request("POST", server.url) as response:
            assert response.status == 200
        assert client.statistics().dropped == 1


async def test_a_unix_socket_stands_for_every_host(tmp_path, nursery):
    path = tmp_path / "socket"
    asked = []

    async def handle(connection):
        while (one := await read_request(connection)) is not None:
            asked.append(one)
            await connection.send_all(HELLO)

    await nursery.start(trionet.serve_unix, handle, str(path))
    async with open_http_client(unix_path=path, proxy="http://127.0.0.1:1") as client:
        assert await get(client, "http://host.example/x") == (200, b"hello")
    assert asked[0].fields["host"] == "host.example"
    async with open_http_client(unix_path=tmp_path / "nobody") as client:
        with pytest.raises(OSError, match="a retry is safe"):
            await get(client, "http://host.example/x")
    nursery.cancel_scope.cancel()


async def test_a_unix_listener_without_room_is_an_error_that_says_so(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(tmp_path / "sock"))
            async with open_http_client(unix_path=tmp_path / "sock") as client:
                with pytest.raises(BlockingIOError, match="sock: the listener's backlog is full.*a retry is safe"):
                    await get(client, "http://host.example/")
                assert client.statistics().open == 0


async def test_http_through_an_http_proxy_names_the_whole_url():
    async with serving(HELLO) as proxy:
        async with (
            open_http_client(proxy=f"http://user:pw@127.0.0.1:{proxy.port}") as client,
            client.request("GET", "http://host.example:81/x?y") as response,
        ):
            assert str(response.url) == "http://host.example:81/x?y"
        (asked,) = proxy.asked
        assert asked.target == "http://host.example:81/x?y"
        assert asked.fields["host"] == "host.example:81"
        assert asked.fields["proxy-authorization"] == "Basic dXNlcjpwdw=="


@asynccontextmanager
async def tunnelling(port, refuse=None, context=None):
    """An HTTP proxy that leads every CONNECT to `port`."""
    asked = []

    async def connect(connection, one):
        asked.append(one)
        if refuse is not None:
            await connection.send_all(refuse)
            return
        async with trionet.open_tcp("127.0.0.1", port) as onward:
            await connection.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay, connection, onward)
                nursery.start_soon(relay, onward, connection)

    async with serving(connect, context) as proxy:
        yield proxy, asked


async def relay(one, other):
    try:
        while data := await one.receive_some():
            await other.send_all(data)
        await other.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def test_https_through_an_http_proxy_is_a_tunnel(client_context, server_context, monkeypatch):
    async with serving(HELLO, server_context) as server, tunnelling(server.port) as (proxy, asked):
        monkeypatch.setenv("https_proxy", f"http://u:p@127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with open_http_client(ssl_context=client_context) as client:
            for _ in range(2):
                assert await get(client, server.url) == (200, b"hello")
        (one,) = asked
        assert (one.method, one.target) == ("CONNECT", f"localhost:{server.port}")
        assert one.fields["proxy-authorization"] == "Basic dTpw"
        assert "proxy-authorization" not in server.asked[0].fields
        async with open_http_client(ssl_context=client_context, trust_env=False) as client:
            assert await get(client, server.url) == (200, b"hello")
        assert len(asked) == 1


async def test_a_proxy_that_refuses_is_told_from_the_server(client_context):
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with (
        tunnelling(1, refusal) as (proxy, _),
        open_http_client(ssl_context=client_context, proxy=proxy.url) as client,
    ):
        with pytest.raises(trionet.UpgradeRefusedError, match="407") as caught:
            await get(client, "https://localhost/")
        assert caught.value.retry_safe is None
        assert caught.value.response.status == 407
        assert client.statistics().open == 0
        assert client.scope.handles == ()


@asynccontextmanager
async def socks(answer=b"\5\0", port=None):
    """A SOCKS5 proxy that leads everybody to `port`, or to where he asks; it answers a greeting with `answer`."""
    asked = []

    async def handle(connection):
        greeting = await connection.receive_exactly(2)
        await connection.receive_exactly(greeting[1])
        await connection.send_all(answer)
        if answer == b"\5\2":
            for _ in range(2 if await connection.receive_exactly(1) else 0):
                asked.append(await connection.receive_exactly((await connection.receive_exactly(1))[0]))
            await connection.send_all(b"\1\0")
        *_, kind = await connection.receive_exactly(4)
        size = (await connection.receive_exactly(1))[0] if kind == 3 else 4
        asked.append(await connection.receive_exactly(size))
        there = int.from_bytes(await connection.receive_exactly(2), "big")
        async with trionet.open_tcp("127.0.0.1", port or there) as onward:
            await connection.send_all(b"\5\0\0\1" + bytes(6))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay, connection, onward)
                nursery.start_soon(relay, onward, connection)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_tcp, handle, 0)
        yield server.port, asked
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_socks_proxy(scheme, secure, client_context, server_context):
    async with serving(HELLO, server_context if secure else None) as server, socks() as (port, asked):
        url = server.url.replace("127.0.0.1", "localhost")
        options = {"proxy": f"{scheme}://127.0.0.1:{port}", "ssl_context": client_context}
        async with open_http_client(**options) as client:
            for _ in range(2):
                assert await get(client, url) == (200, b"hello")
            assert (client.statistics().opened, client.statistics().reused) == (1, 1)
        (where,) = asked
        assert where == b"localhost" if scheme == "socks5h" else len(where) in (4, 16)
        assert server.asked[0].target == "/"  # and not the whole URL: the proxy is none of HTTP


async def test_credentials_for_a_socks_proxy_are_for_it_alone():
    async with serving(HELLO) as server, socks(b"\5\2", server.port) as (port, asked):
        async with open_http_client(proxy=f"socks5h://user:s%20e@127.0.0.1:{port}") as client:
            assert await get(client, "http://host.example/") == (200, b"hello")
        assert asked == [b"user", b"s e", b"host.example"]
        assert b"roxy" not in server.asked[0].head


async def test_a_socks_proxy_that_refuses_was_sent_nothing():
    async with socks(b"\5\xff") as (port, _), open_http_client(proxy=f"socks5h://127.0.0.1:{port}") as client:
        with pytest.raises(trionet.UpgradeFailedError, match="accepts none of the ways of authentication") as caught:
            await get(client, "http://host.example/")
        assert caught.value.retry_safe is None
        assert client.statistics().open == client.statistics().running == 0
        assert client.scope.handles == ()


async def test_http_through_an_https_proxy(client_context, server_context):
    async with serving(HELLO, server_context) as proxy:
        options = {"proxy": f"https://user:pw@localhost:{proxy.port}", "ssl_context": client_context}
        async with open_http_client(**options) as client:
            assert await get(client, "http://host.example/x") == (200, b"hello")
        (asked,) = proxy.asked
        assert asked.target == "http://host.example/x"
        assert asked.fields["proxy-authorization"] == "Basic dXNlcjpwdw=="


async def test_https_through_an_https_proxy_is_tls_within_tls(client_context, server_context):
    async with (
        serving(HELLO, server_context) as server,
        tunnelling(server.port, context=server_context) as (proxy, asked),
        open_http_client(proxy=f"https://u:p@localhost:{proxy.port}", ssl_context=client_context) as client,
    ):
        for _ in range(2):
            assert await get(client, server.url) == (200, b"hello")
        (one,) = asked
        assert one.fields["proxy-authorization"] == "Basic dTpw"
        assert all("proxy-authorization" not in each.fields for each in server.asked)
        assert client.statistics().reused == 1


async def test_an_https_proxy_is_verified(server_context):
    async with serving(HELLO, server_context) as proxy, open_http_client(proxy=proxy.url) as client:
        with pytest.raises(trionet.UpgradeFailedError, match="certificate") as caught:
            await get(client, "http://host.example/")
        assert caught.value.retry_safe is None
        assert not proxy.asked


async def test_a_redirect_past_the_proxy_takes_no_credentials_of_it_along(monkeypatch):
    """NO_PROXY lets the second hop be asked directly."""
    async with serving(HELLO) as server, serving(redirect(f"{server.url}/there")) as proxy:
        for name in ("NO_PROXY", "no_proxy", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://u:p@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with open_http_client() as client:
            assert await get(client, "http://host.example/") == (200, b"hello")
        assert proxy.asked[0].fields["proxy-authorization"] == "Basic dTpw"
        assert server.asked[0].target == "/there"
        assert b"roxy" not in server.asked[0].head
