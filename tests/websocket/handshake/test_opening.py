"""`open_websocket`: from a URL to a WebSocket, over proxies and redirects, and out of the block again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

import trionet
from trionet import (
    LocalProtocolError,
    Reason,
    RemoteProtocolError,
    ScopeClosedError,
    TooManyRedirectsError,
    UpgradeFailedError,
    UpgradeRefusedError,
    to_http_server,
    to_tls_server,
    to_websocket_server,
)
from trionet.http.client.auth import basic
from trionet.scope.opening import open_websocket

from ...helpers.http_proxies import small_proxy
from ...helpers.pairs import open_descriptors
from ...helpers.websockets_by_hand import answer_by_hand
from ...stories.test_cancel_everywhere import at_every_checkpoint


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def serving(handler, **options):
    """The port of a server on this machine."""
    with trio.fail_after(20):
        async with trionet.open_scope(drain_timeout=0) as scope:
            server = await scope.start(partial(trionet.serve_tcp, handler, 0, host="127.0.0.1", **options))
            yield server.port
            scope.cancel()


class Site:
    """A web site: redirects at ``/to/...``, and a WebSocket that sends everything back elsewhere."""

    def __init__(self, **redirects):
        self.redirects = redirects
        self.asked = []
        self.connections = 0
        self.closes = []

    async def __call__(self, conn):
        self.connections += 1
        async for exchange in await conn.upgrade(to_http_server()):
            self.asked.append((exchange.target, exchange.headers.get("authorization"), exchange.headers.get("cookie")))
            name = exchange.target.strip("/")
            if name in self.redirects:
                status, location, *headers = self.redirects[name]
                await exchange.respond(status, b"elsewhere", headers=[("Location", location), *headers])
            elif name == "secret":
                await exchange.respond(401, b"who are you?", headers=[("WWW-Authenticate", "Basic")])
            else:
                await self.echo(await exchange.upgrade(to_websocket_server(subprotocols=["chat"])))

    async def echo(self, websocket):
        async for message in websocket:
            await websocket.send_message(message)
        self.closes.append(websocket.closed.code)

    @property
    def targets(self):
        return [target for target, *_ in self.asked]


async def talk(url, **options):
    """Open, exchange a message, close."""
    async with open_websocket(url, **options) as websocket:
        await websocket.send_message("there and back")
        assert await websocket.get_message() == "there and back"
    assert websocket.end.reason is Reason.LOCAL
    return websocket


async def test_there_and_back():
    site = Site()
    async with serving(site) as port:
        websocket = await talk(f"ws://127.0.0.1:{port}/room?x=%C3%BC", subprotocols=["news", "chat"])
        assert (websocket.path, websocket.subprotocol, websocket.closed.code) == ("/room?x=%C3%BC", "chat", 1000)
        assert websocket.remote.url == f"ws://127.0.0.1:{port}"
        await trio.testing.wait_all_tasks_blocked()
        assert site.closes == [1000]


async def test_with_tls(server_context, client_context):
    site = Site()
    async with serving(site, ssl_context=server_context) as port:
        websocket = await talk(f"wss://localhost:{port}/", ssl_context=client_context)
        assert websocket.remote.url.startswith("wss://")


async def test_a_certificate_that_is_not_trusted(server_context):
    async with serving(Site(), ssl_context=server_context) as port:
        with pytest.raises(UpgradeFailedError, match="certificate"):
            await talk(f"wss://localhost:{port}/")


async def test_over_a_unix_socket(tmp_path):
    site = Site()
    async with trionet.open_scope(drain_timeout=0) as scope:
        await scope.start(trionet.serve_unix, site, tmp_path / "socket")
        await talk("ws://host.example/room", unix_path=tmp_path / "socket")
        assert site.targets == ["/room"]
        scope.cancel()


async def test_user_name_and_password_become_basic_authorization():
    site = Site()
    async with serving(site) as port:
        await talk(f"ws://us%40er:secret@127.0.0.1:{port}/")
        await talk(f"ws://user:secret@127.0.0.1:{port}/", extra_headers={"Authorization": "Bearer x"})
        assert [authorization for _, authorization, _ in site.asked] == [basic("us@er", "secret"), "Bearer x"]


# --- how the block is left ----------------------------------------------------------------------------------------


async def test_what_the_block_raises_leaves_as_it_is():
    async with serving(Site()) as port:
        with pytest.raises(ZeroDivisionError):
            async with open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
                raise ZeroDivisionError
        assert websocket.end.reason is Reason.SCOPE_CANCELLED
        with trio.CancelScope() as cancelled:
            async with open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
                cancelled.cancel()
                await websocket.get_message()
        assert cancelled.cancelled_caught
        assert websocket.end.reason is Reason.SCOPE_CANCELLED


async def test_an_exception_is_not_lost_to_a_cancellation(autojump_clock):
    async with serving(Site()) as port:
        with pytest.raises(ZeroDivisionError), trio.move_on_after(1):
            async with open_websocket(f"ws://127.0.0.1:{port}/"):
                try:
                    await trio.sleep_forever()
                finally:
                    raise ZeroDivisionError


async def test_a_server_that_does_not_answer_the_close_is_cut_off(autojump_clock):
    async def silent(conn):
        await answer_by_hand(conn)
        await trio.sleep_forever()

    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(partial(trionet.serve_tcp, silent, 0, host="127.0.0.1"))
        async with open_websocket(f"ws://127.0.0.1:{server.port}/", drain_timeout=3) as websocket:
            before = trio.current_time()
        assert websocket.end.reason in (Reason.DRAIN_TIMEOUT, Reason.SCOPE_EXIT)
        assert trio.current_time() - before == pytest.approx(3)
        scope.cancel()


async def test_in_a_scope():
    async with serving(Site()) as port, trionet.open_scope() as scope:
        async with scope.open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
            assert websocket.scope.parent is scope
            await websocket.send_message("x")
            assert await websocket.get_message() == "x"
        assert websocket.end.reason is Reason.LOCAL
    with pytest.raises(ScopeClosedError, match="open_websocket refused"):
        async with scope.open_websocket(f"ws://127.0.0.1:{port}/"):
            pass


# --- refusals and failures ----------------------------------------------------------------------------------------


async def test_a_refusal_can_be_read():
    async with serving(Site()) as port:
        with pytest.raises(UpgradeRefusedError, match="401 Unauthorized") as caught:
            await talk(f"ws://127.0.0.1:{port}/secret")
        response = caught.value.response
        assert (response.status, response.headers["www-authenticate"]) == (401, "Basic")
        assert response.body == b"who are you?"


async def test_nobody_listens():
    async with serving(Site()) as port:
        pass
    with pytest.raises(OSError, match=str(port)):
        await talk(f"ws://127.0.0.1:{port}/")


async def test_one_deadline_for_everything(autojump_clock):
    async def silent(conn):
        await conn.receive_until(b"\r\n\r\n", max_bytes=2000)
        await trio.sleep(4)
        await conn.send_all(b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
        await trio.sleep_forever()

    async with trionet.open_scope(drain_timeout=0) as scope:
        server = await scope.start(partial(trionet.serve_tcp, silent, 0, host="127.0.0.1"))
        with pytest.raises(UpgradeFailedError, match=r"to ws://127\.0\.0\.1:\d+/ .*within 7 s \(handshake_timeout\)"):
            await talk(f"ws://127.0.0.1:{server.port}/?token=SECRET", handshake_timeout=7)
        assert trio.current_time() == pytest.approx(7)
        scope.cancel()


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("http://a", {}, "must begin with ws"),
        ("ws://a/#x", {}, "fragment"),
        ("ws://a..b", {}, "host name"),
        ("ws://a:0", {}, "port 0"),
        ("ws://us%3Aer:x@a", {}, "colon"),
        ("ws://a", {"subprotocols": ["a b"]}, "subprotocol"),
        ("ws://a", {"extra_headers": {"Host": "b"}}, "the handshake sets it"),
        ("ws://a", {"max_message_size": 0}, "max_message_size"),
        ("ws://a", {"handshake_timeout": 0}, "handshake_timeout"),
        ("ws://a", {"proxy": "ftp://b"}, "proxy"),
        ("ws://a", {"drain_timeout": -1}, "drain_timeout"),
    ],
)
async def test_arguments_that_cannot_be_right(url, options, says):
    with pytest.raises(ValueError, match=says):
        await talk(url, **options)


# --- redirects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_on_the_same_connection(status):
    site = Site(old=(status, "/new"))
    async with serving(site) as port:
        websocket = await talk(f"ws://user:secret@127.0.0.1:{port}/old", extra_headers={"Cookie": "a=b"})
        assert websocket.path == "/new"
        assert site.asked == [("/old", basic("user", "secret"), "a=b"), ("/new", basic("user", "secret"), "a=b")]
        assert site.connections == 1


async def test_a_redirect_that_ends_the_connection_is_followed_on_another():
    site = Site(old=(302, "/new", ("Connection", "close")))
    async with serving(site) as port:
        await talk(f"ws://127.0.0.1:{port}/old")
        assert site.targets == ["/old", "/new"]
        assert site.connections == 2


async def test_bytes_behind_a_redirect_are_not_taken_for_the_next_answer():
    async def server(conn):
        await conn.receive_until(b"\r\n\r\n", max_bytes=2000)
        if await anext(turns):
            await conn.send_all(
                b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n"
            )
            await conn.receive_some()
        else:
            await conn.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async def count():
        yield True
        yield False

    turns = count()
    async with serving(server) as port:
        with pytest.raises(UpgradeRefusedError, match="404"):
            await talk(f"ws://127.0.0.1:{port}/")


@pytest.mark.parametrize("scheme", ["ws", "http", "WS"])
async def test_another_origin_gets_no_credentials(scheme):
    there = Site()
    async with serving(there) as port_there:
        here = Site(old=(302, f"{scheme}://127.0.0.1:{port_there}/new"))
        async with serving(here) as port:
            await talk(f"ws://user:secret@127.0.0.1:{port}/old", extra_headers={"Cookie": "a=b"})
        assert there.asked == [("/new", None, None)]


async def test_from_ws_to_wss_but_not_back(server_context, client_context):
    safe = Site()
    async with serving(safe, ssl_context=server_context) as safe_port:
        plain = Site(up=(301, f"wss://localhost:{safe_port}/x"))
        safe.redirects["up"] = (301, f"wss://localhost:{safe_port}/x")
        async with serving(plain) as port:
            safe.redirects["down"] = (301, f"ws://127.0.0.1:{port}/y")
            await talk(f"ws://127.0.0.1:{port}/up", ssl_context=client_context)
            with pytest.raises(LocalProtocolError, match="allow_downgrade=True"):
                await talk(f"wss://localhost:{safe_port}/down", ssl_context=client_context)
            await talk(f"wss://localhost:{safe_port}/down", ssl_context=client_context, allow_downgrade=True)
            assert plain.targets == ["/up", "/y"]
            assert safe.targets == ["/x", "/down", "/down"]


async def test_a_circle_of_redirects_ends():
    site = Site(old=(302, "/old"))
    async with serving(site) as port:
        with pytest.raises(TooManyRedirectsError, match="after 20 redirects"):
            await talk(f"ws://127.0.0.1:{port}/old")
        assert site.targets == ["/old"] * 21
        with pytest.raises(TooManyRedirectsError, match=r"at most 2 are followed \(max_redirects\)"):
            await talk(f"ws://127.0.0.1:{port}/old", max_redirects=2)


async def test_an_error_about_redirects_shows_no_query():
    async with serving(Site(old=(302, "/old?token=SECRET"))) as port:
        with pytest.raises(TooManyRedirectsError, match=r"with ws://127\.0\.0\.1:\d+/old leads on to '/old'") as caught:
            await talk(f"ws://127.0.0.1:{port}/old", max_redirects=0)
        assert "SECRET" not in str(caught.value)


async def test_a_redirect_that_is_not_to_be_followed_is_a_refusal():
    async with serving(Site(old=(302, "/new"), other=(300, "/new"))) as port:
        with pytest.raises(UpgradeRefusedError) as caught:
            await talk(f"ws://127.0.0.1:{port}/old", follow_redirects=False)
        assert caught.value.response.headers["location"] == "/new"
        with pytest.raises(UpgradeRefusedError, match="300"):
            await talk(f"ws://127.0.0.1:{port}/other")


@pytest.mark.parametrize("port_of_it", ["99999", "65536", "0", "-1", "abc", "1:2"])
@pytest.mark.parametrize("scheme", ["ws:", "https:", ""])
async def test_a_redirect_to_a_port_that_is_none(scheme, port_of_it):
    async with serving(Site(old=(302, f"{scheme}//127.0.0.1:{port_of_it}/"))) as port:
        with pytest.raises(RemoteProtocolError, match=r"cannot be followed.*(port|colon)"):
            await talk(f"ws://127.0.0.1:{port}/old")


async def test_a_redirect_that_leads_nowhere():
    async with serving(Site(old=(302, "ftp://host.example/"), other=(302, "ws://user@127.0.0.1/"))) as port:
        with pytest.raises(RemoteProtocolError, match="cannot be followed"):
            await talk(f"ws://127.0.0.1:{port}/old")
        with pytest.raises(RemoteProtocolError, match="user name"):
            await talk(f"ws://127.0.0.1:{port}/other")


# --- proxies ------------------------------------------------------------------------------------------------------


class CountingProxy:
    """CONNECT or SOCKS5, whichever the client speaks."""

    def __init__(self):
        self.connections = 0

    async def __call__(self, conn):
        self.connections += 1
        await small_proxy(conn)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_proxy(scheme, secure, server_context, client_context):
    proxy = CountingProxy()
    options = {"ssl_context": server_context} if secure else {}
    async with serving(Site(), **options) as port, serving(proxy) as proxy_port:
        url = f"{'wss' if secure else 'ws'}://localhost:{port}/"
        await talk(url, proxy=f"{scheme}://127.0.0.1:{proxy_port}", ssl_context=client_context)
        assert proxy.connections == 1


async def test_through_a_proxy_that_is_spoken_to_in_tls(server_context, client_context):
    async def proxy(conn):
        await small_proxy(await conn.upgrade(to_tls_server(server_context)))

    async with serving(Site()) as port, serving(proxy) as proxy_port:
        await talk(f"ws://localhost:{port}/", proxy=f"https://localhost:{proxy_port}", ssl_context=client_context)


async def test_the_environment_names_the_proxy(monkeypatch):
    proxy = CountingProxy()
    async with serving(Site()) as port, serving(proxy) as proxy_port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy_port}")
        await talk(f"ws://localhost:{port}/")
        assert proxy.connections == 1
        await talk(f"ws://127.0.0.1:{port}/", trust_env=False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await talk(f"ws://127.0.0.1:{port}/")
        assert proxy.connections == 1


async def test_a_proxy_that_refuses_is_no_redirect():
    async def proxy(conn):
        head = await conn.receive_until(b"\r\n\r\n", max_bytes=2000)
        asked.append(head.partition(b"\r\n")[0])
        await conn.send_all(b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n")
        await conn.receive_some()

    asked = []
    async with serving(proxy) as port:
        with pytest.raises(UpgradeRefusedError, match="302") as caught:
            await talk("ws://host.example/", proxy=f"http://127.0.0.1:{port}")
        assert caught.value.response.headers["location"] == "http://evil.example/"
    assert asked == [b"CONNECT host.example:80 HTTP/1.1"]


# --- cancellation -------------------------------------------------------------------------------------------------


async def test_cancelled_at_every_checkpoint_nothing_stays_open():
    site = Site(old=(302, "/new", ("Connection", "close")))
    outcomes = set()

    async def scenario(cancelling):
        before = open_descriptors()
        with cancelling.scope:
            async with open_websocket(f"ws://127.0.0.1:{port}/old") as websocket:
                await websocket.send_message("x")
                assert await websocket.get_message() == "x"
            outcomes.add(websocket.end.reason)
        await trio.testing.wait_all_tasks_blocked()
        assert open_descriptors() <= before

    async with serving(site) as port:
        await talk(f"ws://127.0.0.1:{port}/old")
        assert await at_every_checkpoint(scenario) >= 5
    assert Reason.LOCAL in outcomes
