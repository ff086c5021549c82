"""The way through a proxy that is at work."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from yarl import URL

import trionet
from trionet import UpgradeFailedError, UpgradeRefusedError
from trionet.http.client.auth import basic
from trionet.http.client.proxies.http_tunnel import to_http_tunnel
from trionet.http.client.proxies.socks5_tunnel import to_socks5_tunnel

from ....helpers.http_proxies import RECIPES, both, small_proxy
from ....stories.test_cancel_everywhere import at_every_checkpoint


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
