"""Following redirects: where to, with what, and on which connection."""

import pytest
import trio
from yarl import URL

import trionet
from trionet import Reason
from trionet.http.protocol.limits import HTTPLimits
from trionet.scope.opening import open_http_client

from ...helpers.http_by_hand import HELLO, serving
from ...helpers.http_clients import get, redirect, routes


async def test_ten_hops_on_one_origin_are_one_connection():
    answers = {f"/{n}": redirect(f"/{n + 1}") for n in range(10)} | {"/10": HELLO}
    async with serving(routes(answers)) as server, open_http_client() as client:
        async with client.request("GET", f"{server.url}/0") as response:
            assert await response.read() == b"hello"
            assert response.url == URL(f"{server.url}/10")
            assert [str(past.url) for past in response.history] == [f"{server.url}/{n}" for n in range(10)]
        assert server.accepted == 1
        assert client.statistics().opened == 1


async def test_twenty_hops_are_followed_and_no_more():
    answers = {f"/{n}": redirect(f"/{n + 1}") for n in range(30)} | {"/20": HELLO}
    async with serving(routes(answers)) as server, open_http_client() as client:
        async with client.request("GET", f"{server.url}/0") as response:
            assert len(response.history) == 20
        answers |= {"/20": redirect("/21"), "/21": HELLO}
        with pytest.raises(trionet.TooManyRedirectsError, match=r"at most 20 are followed \(max_redirects\)") as caught:
            await get(client, f"{server.url}/0")
        assert caught.value.retry_safe is None
        assert client.statistics().running == 0
    async with serving(routes(answers)) as server, open_http_client(max_redirects=0) as client:
        with pytest.raises(trionet.TooManyRedirectsError):
            await get(client, f"{server.url}/0")


async def test_redirects_are_followed_only_where_that_is_wanted():
    answers = {"/": redirect("/there"), "/there": HELLO, "/odd": b"HTTP/1.1 304 X\r\nLocation: /\r\n\r\n"}
    async with serving(routes(answers)) as server:
        async with open_http_client(follow_redirects=False) as client:
            assert (await get(client, server.url))[0] == 302
            assert (await get(client, server.url, follow_redirects=True))[0] == 200
        async with open_http_client() as client:
            assert (await get(client, server.url, follow_redirects=False))[0] == 302
            assert (await get(client, f"{server.url}/odd"))[0] == 304


async def test_the_body_of_a_redirect_is_not_downloaded_if_it_is_large():
    async def large(connection, asked):
        await connection.send_all(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 5000000\r\n\r\n")
        sent = 0
        try:
            while sent < 5_000_000:
                await connection.send_all(bytes(1000))
                sent += 1000
        finally:
            given.append(sent)

    given = []
    async with serving(routes({"/": large, "/there": HELLO})) as server, open_http_client() as client:
        async with client.request("GET", server.url) as response:
            assert await response.read() == b"hello"
            (past,) = response.history
        assert past.connection.end.reason is Reason.ABORTED
        assert past.connection.statistics().bytes_received < 200_000  # what came together with the head
        assert server.accepted == 2


async def test_an_endless_body_of_a_redirect_costs_the_drain_bound_at_most():
    async def endless(connection, asked):
        await connection.send_all(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await connection.send_all(b"400\r\n%b\r\n" % bytes(1024))

    async with (
        serving(routes({"/": endless, "/there": HELLO})) as server,
        open_http_client(limits=HTTPLimits(drain_bytes=10_000)) as client,
    ):
        with trio.fail_after(5):
            async with client.request("GET", server.url) as response:
                assert await response.read() == b"hello"
                (past,) = response.history
        assert past.connection.end.reason is Reason.ABORTED
        assert past.connection.statistics().bytes_received <= 10_000 + 65536


@pytest.mark.parametrize(
    ("status", "method", "then", "keeps"),
    [
        (301, "POST", "GET", False),
        (302, "POST", "GET", False),
        (303, "PUT", "GET", False),
        (303, "HEAD", "HEAD", False),
        (307, "POST", "POST", True),
        (308, "PUT", "PUT", True),
    ],
)
async def test_what_a_redirect_makes_of_the_request(status, method, then, keeps):
    content = None if method == "HEAD" else b"body"
    head_only = redirect("/there", status).removesuffix(b"gone") if method == "HEAD" else redirect("/there", status)
    there = HELLO.removesuffix(b"hello") if method == "HEAD" else HELLO
    async with serving(routes({"/": head_only, "/there": there})) as server, open_http_client() as client:
        async with client.request(method, server.url, content=content, headers={"Content-Language": "de"}):
            pass
        _, asked = server.asked
        assert (asked.method, asked.body) == (then, b"body" if keeps else b"")
        assert ("content-language" in asked.fields) is keeps


async def test_a_body_that_cannot_be_produced_again_is_not_sent_on():
    async with serving(routes({"/": redirect("/there", 307)})) as server, open_http_client() as client:
        with pytest.raises(trionet.BodyNotReplayableError, match="can be produced only once") as caught:
            async with client.request("POST", server.url, content=iter([b"x"])):
                pass
        assert caught.value.retry_safe is False
        assert client.statistics().running == 0
        assert len(server.asked) == 1


async def test_another_origin_gets_no_credentials():
    async with serving(HELLO) as other:
        answers = {"/": redirect("/again"), "/again": redirect(f"{other.url}/there")}
        async with serving(routes(answers)) as server:
            async with open_http_client(auth=("a", "b"), headers={"X-Kept": "1"}) as client:
                await get(client, server.url, headers={"Cookie": "c=d", "Proxy-Authorization": "e"})
            for asked in server.asked:
                assert asked.fields["authorization"] == "Basic YTpi"
                assert asked.fields["cookie"] == "c=d"
        (asked,) = other.asked
        assert not {"authorization", "cookie", "proxy-authorization"} & asked.fields.keys()
        assert asked.fields["x-kept"] == "1"
        assert asked.fields["host"] == f"127.0.0.1:{other.port}"


async def test_from_https_to_http_only_where_that_is_allowed(client_context, server_context):
    async with serving(HELLO) as plain, serving(redirect(plain.url), server_context) as secure:
        async with open_http_client(ssl_context=client_context) as client:
            with pytest.raises(trionet.LocalProtocolError, match="allow_downgrade=True"):
                await get(client, secure.url)
            assert client.statistics().running == 0
        async with open_http_client(ssl_context=client_context, allow_downgrade=True) as client:
            assert await get(client, secure.url) == (200, b"hello")


async def test_a_location_that_is_none_is_an_error():
    async with serving(redirect("gopher://x")) as server, open_http_client() as client:
        with pytest.raises(trionet.RemoteProtocolError, match="gopher"):
            await get(client, server.url)
