"""The HTTP client: retries, redirects, TLS, proxies, cookies, hooks, and how it ends."""

import gzip
import http.cookiejar
import itertools
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from yarl import URL

import trionet
from trionet import Reason
from trionet.http.client.auth import basic
from trionet.http.client.retry import IDEMPOTENT
from trionet.http.protocol.limits import HTTPLimits
from trionet.scope.opening import open_http_client

from ...helpers.http_by_hand import HELLO, read_request, serving
from ...helpers.pairs import open_descriptors
from ...stories.test_cancel_everywhere import at_every_checkpoint


async def get(client, url, method="GET", **options):
    async with client.request(method, url, **options) as response:
        return response.status, await response.read()


def redirect(location, status=302, body=b"gone"):
    head = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def routes(answers):
    """What a server answers: bytes, or a function, by path."""

    async def answer(connection, asked):
        reply = answers[asked.target.partition("?")[0]]
        await (connection.send_all(reply) if isinstance(reply, bytes) else reply(connection, asked))

    return answer


# --- what a request says ----------------------------------------------------------------------------------------


async def test_a_request_says_what_a_server_needs_to_know():
    async with serving(HELLO) as server, open_http_client() as client:
        async with client.request("GET", f"{server.url}/a%20b?q=ü#part") as response:
            assert response.status == 200
            assert str(response.url) == f"{server.url}/a%20b?q=%C3%BC#part"
            assert response.history == ()
        (asked,) = server.asked
        assert asked.target == "/a%20b?q=%C3%BC"
        assert asked.fields["host"] == f"127.0.0.1:{server.port}"
        assert asked.fields["accept-encoding"].startswith("gzip, deflate")
        assert asked.fields["user-agent"] == "trionet"


async def test_the_fields_of_a_request_replace_those_of_the_client_and_the_defaults():
    async with serving(HELLO) as server:
        async with open_http_client(headers={"X-A": "client", "X-B": "client", "User-Agent": "mine"}) as client:
            await get(client, server.url, headers={"x-a": "request", "Host": "other.example"})
        (asked,) = server.asked
        assert asked.fields["x-a"] == "request"
        assert asked.fields["x-b"] == "client"
        assert asked.fields["user-agent"] == "mine"
        assert asked.fields["host"] == "other.example"
        assert asked.head.lower().count(b"x-a:") == asked.head.lower().count(b"host:") == 1


async def test_base_url_and_params():
    async with serving(HELLO) as server, open_http_client(base_url=f"{server.url}/api/") as client:
        await get(client, "users")
        await get(client, "/users?a=1", params={"b": "2 3"})
        await get(client, "")
        await get(client, server.url + "/else", params=[("a", "1"), ("a", "2")])
        assert [asked.target for asked in server.asked] == [
            "/api/users", "/api/users?a=1&b=2+3", "/api/", "/else?a=1&a=2"
        ]  # fmt: skip


async def test_a_request_on_the_connection_of_a_response_names_the_port():
    async with serving(HELLO) as server, open_http_client() as client:
        async with client.request("GET", server.url, keep_connection=True) as response:
            await response.read()
            async with response.connection.request("GET", "/own?") as own:
                assert str(own.url) == f"{server.url}/own?"
        assert [asked.fields["host"] for asked in server.asked] == [f"127.0.0.1:{server.port}"] * 2


RELATIVE = ["", "users", "/users", "?q=1", "/a?", "/%2F%7e?x=%2C", "é b"]


@pytest.mark.parametrize("base", ["", "/", "/api", "/api/", "/api//", "/%7Eme/%2f"])
async def test_base_url_is_joined_as_httpx_does_it(base):
    async with serving(HELLO) as server, open_http_client(base_url=server.url + base) as client:
        for url in RELATIVE:
            await get(client, url)
        peer = httpx.AsyncClient(base_url=server.url + base)
        expected = [peer.build_request("GET", url).url.raw_path.decode() for url in RELATIVE]
        assert [asked.target for asked in server.asked] == expected
        await get(client, "//a/../b")  # never another host, and spelled as it was given
        assert server.asked[-1].target == f"{server.asked[0].target}a/../b"


async def test_credentials_in_base_url_are_basic_authorization_below_it_alone():
    async with serving(HELLO) as server, serving(HELLO) as other:
        base = server.url.replace("//", "//us%40er:p%3Aw@") + "/api"
        async with open_http_client(base_url=base) as client:
            await get(client, "/x")
            await get(client, "/x", auth=("other", "one"))
            await get(client, other.url)
        first, second = (asked.fields["authorization"] for asked in server.asked)
        assert (first, second) == (basic("us@er", "p:w"), basic("other", "one"))
        assert [asked.target for asked in server.asked] == ["/api/x", "/api/x"]
        assert "authorization" not in other.asked[0].fields


@pytest.mark.parametrize(
    "base", ["http://host.example/a?b=c", "http://host.example/?", "http://u:secret@host.example/#x"]
)
async def test_base_url_has_no_query_and_no_fragment(base):
    with pytest.raises(ValueError, match="base_url .* has a (query|fragment)") as refused:
        async with open_http_client(base_url=base):
            pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "params", "target"),
    [
        ("/a?x=%2C&y=%7e", {"b": "1"}, "/a?x=%2C&y=%7e&b=1"),
        ("/a?", {"b": 1}, "/a?b=1"),
        ("/a?x&", {"b": 1.5}, "/a?x&b=1.5"),
        ("/a#part", {"b": ["1", "2"]}, "/a?b=1&b=2"),
        ("/a?x=%2F", {}, "/a?x=%2F"),
        ("/a", [("q", "ä /&=+~%")], "/a?q=%C3%A4+%2F%26%3D%2B~%25"),
        ("/a?x", "raw=%2f&s=a b", "/a?x&raw=%2f&s=a%20b"),
    ],
)
async def test_params_leave_the_url_as_it_is_spelled(url, params, target):
    async with serving(HELLO) as server, open_http_client() as client:
        await get(client, server.url + url, params=params)
        assert server.asked[0].target == target


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"a": None}, "None for 'a'.*leave it out"),
        ({"a": True}, "True for 'a'.*'true'"),
        ({"a": b"x"}, "give a str"),
        ({1: "x"}, "name 1"),
        ([("a", "b", "c")], "pair"),
        (b"a=b", "mapping, pairs or a str"),
        (5, "mapping, pairs or a str"),
    ],
)
async def test_params_that_say_nothing_certain_are_refused(params, says):
    async with open_http_client() as client:
        with pytest.raises(TypeError, match=says):
            await get(client, "http://host.example/", params=params)


@pytest.mark.parametrize("url", [None, 5, b"/x", ["/x"]])
async def test_a_url_below_base_url_is_text(url):
    async with open_http_client(base_url="http://host.example/") as client:
        with pytest.raises(TypeError, match="url must be a str"):
            await get(client, url, params={"a": "b"})


async def test_a_request_that_repeats_is_the_same_each_time():
    async with serving(HELLO) as server, open_http_client() as client:
        for _ in range(3):
            await get(client, server.url)
            async with client.request("POST", server.url, json=[1]):
                pass
            async with client.request("POST", server.url, content="ü"):
                pass
        heads = {(asked.method, asked.fields.get("content-type"), asked.head, asked.body) for asked in server.asked}
        assert len(heads) == 3
        assert {body for *_, body in heads} == {b"", b"[1]", "ü".encode()}


async def test_plans_are_bounded(monkeypatch):
    monkeypatch.setattr("trionet.http.client.plan.MAX_KEPT", 3)
    async with serving(HELLO) as server, open_http_client() as client:
        for number in range(8):
            await get(client, f"{server.url}/{number}")
        assert len(client._sender.planner._kept) <= 3


@pytest.mark.parametrize(
    ("auth", "user", "sent"),
    [
        (None, "user:s%20e@", "Basic dXNlcjpzIGU="),
        (("a", "b"), "user:secret@", "Basic YTpi"),
        (("a", "b"), "", "Basic YTpi"),
    ],
)
async def test_basic_authorization(auth, user, sent):
    async with serving(HELLO) as server, open_http_client() as client:
        async with client.request("GET", f"http://{user}127.0.0.1:{server.port}/", auth=auth) as response:
            assert "secret" not in str(response.url)
        assert server.asked[0].fields["authorization"] == sent
    async with serving(HELLO) as server, open_http_client(auth=("c", "d")) as client:
        await get(client, server.url)
        await get(client, server.url, headers={"Authorization": "Bearer x"})
        assert [asked.fields["authorization"] for asked in server.asked] == ["Basic Yzpk", "Bearer x"]


async def test_cookies_are_kept_where_that_is_wanted():
    answers = {"/set": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nContent-Length: 0\r\n\r\n", "/": HELLO}
    for cookies in (False, True, http.cookiejar.CookieJar()):
        async with serving(routes(answers)) as server, open_http_client(cookies=cookies) as client:
            await get(client, f"{server.url}/set")
            await get(client, server.url)
            await get(client, server.url, headers={"Cookie": "b=2"})
            sent = [asked.fields.get("cookie") for asked in server.asked]
            assert sent == ([None, None, "b=2"] if cookies is False else [None, "a=1", "b=2"])


async def test_content_codings_are_taken_off_whoever_has_asked_for_them():
    plain = b"hello " * 50_000
    packed = gzip.compress(plain)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with serving(head + packed) as server, open_http_client() as client:
        assert (await get(client, server.url))[1] == plain
        async with client.request("GET", server.url) as response:
            pieces = [piece async for piece in response]
            assert b"".join(pieces) == plain
            assert max(map(len, pieces)) <= 65536
        async with client.request("GET", server.url) as response:
            with pytest.raises(trionet.LimitExceededError, match="longer than 100000 bytes"):
                await response.read(100_000)
        for asked in ("gzip", "identity"):
            assert (await get(client, server.url, headers={"Accept-Encoding": asked}))[1] == plain
        async with client.request("GET", server.url) as response:
            assert b"".join([piece async for piece in response.raw()]) == packed


@pytest.mark.parametrize(
    ("named", "left", "packed"),
    [
        ("utf-8", "utf-8", False),
        ("none", "none", False),
        ("Identity", "", False),
        ("", "", False),
        ("aws-chunked", "aws-chunked", False),
        ("compress", "compress", False),
        ("gzip", "", True),
        ("X-GZIP", "", True),
        ("gzip, aws-chunked", "aws-chunked", True),
        ("AWS-chunked,gzip,  none", "aws-chunked, none", True),
        ("gzip\r\nContent-Encoding: utf-8", "utf-8", True),
    ],
)
async def test_what_a_content_encoding_names_and_is_not_known_stays_on(named, left, packed):
    body = gzip.compress(b"hello") if packed else b"hello"
    wire = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b"
    async with (
        serving(wire % (named.encode(), len(body), body)) as server,
        open_http_client() as client,
        client.request("GET", server.url) as response,
    ):
        assert response.content_encoding == left
        assert await response.read() == b"hello"
        assert response.content_encoding == left


async def test_a_content_length_over_the_bound_is_refused_before_a_byte_of_it_is_read():
    wire = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n"
    async with serving(wire) as server, open_http_client() as client, client.request("GET", server.url) as response:
        with pytest.raises(trionet.LimitExceededError, match="16777216 bytes .*Content-Length says 20000000"):
            await response.read()
    async with (
        serving(wire.replace(b"20000000", b"12") + b"hello, world") as server,
        open_http_client() as client,
        client.request("GET", server.url) as response,
    ):
        with pytest.raises(trionet.LimitExceededError, match="Content-Length says 12"):
            await response.read(11)
        assert await response.read(12) == b"hello, world"


async def test_a_coded_length_says_nothing_about_the_bound():
    """A few bytes are longer coded than they are."""
    body = gzip.compress(b"hi")
    wire = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with serving(wire) as server, open_http_client() as client, client.request("GET", server.url) as response:
        assert await response.read(2) == b"hi"


@pytest.mark.parametrize(
    ("coding", "body", "message"),
    [
        (b"gzip", b"not gzip", "gzip"),
        (b"gzip", gzip.compress(b"hello", mtime=0)[:-4], "gzip"),
        (b"gzip,gzip,gzip", b"x", "3"),
    ],
)
async def test_a_body_that_cannot_be_decoded_is_an_error(coding, body, message):
    wire = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (coding, len(body), body)
    async with serving(wire) as server, open_http_client() as client:
        with pytest.raises(trionet.RemoteProtocolError, match=message):
            await get(client, server.url)


async def test_an_empty_body_may_name_a_coding():
    wire = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    async with serving(routes({"/a": wire, "/b": chunked})) as server, open_http_client() as client:
        assert (await get(client, f"{server.url}/a"))[1] == b""
        assert (await get(client, f"{server.url}/b"))[1] == b""


async def test_hooks_see_and_change_requests_and_see_responses():
    seen = []

    def sign(request):
        seen.append(repr(request))
        request.headers = trionet.http.Headers([*request.headers.items(), ("X-Signed", "yes")])

    async def note(response):
        await trio.lowlevel.checkpoint()
        seen.append(response.status)

    answers = {"/": redirect("/there"), "/there": HELLO}
    async with serving(routes(answers)) as server:
        async with open_http_client(event_hooks={"request": [sign], "response": [note]}) as client:
            await get(client, server.url)
        assert seen == [f"<HTTPRequest GET {server.url}>", 302, f"<HTTPRequest GET {server.url}/there>", 200]
        assert all(asked.fields["x-signed"] == "yes" for asked in server.asked)


async def test_a_redirect_leads_on_from_where_the_hooks_have_sent_the_request():
    """The client looked where the request was to go before the hooks: at the wrong path, host and scheme."""
    leads_on = redirect("next")
    async with serving(routes({"/deep/b": leads_on, "/deep/next": HELLO})) as server:

        def send_elsewhere(request):
            request.headers = trionet.http.Headers([*request.headers.items(), ("X-Hop", "1")])
            if request.url.host == "first.invalid":
                request.url = URL(f"{server.url}/deep/b")

        async with open_http_client(event_hooks={"request": [send_elsewhere]}) as client:
            got = await get(client, "http://first.invalid/a", headers={"Authorization": "x"})
            assert got == (200, b"hello")
        assert [asked.target for asked in server.asked] == ["/deep/b", "/deep/next"]
        assert [asked.head.count(b"X-Hop") for asked in server.asked] == [1, 1]
        assert all(asked.fields["authorization"] == "x" for asked in server.asked)


async def test_a_hook_that_asks_over_tls_is_not_led_back_to_plain_http(client_context, server_context):
    async with serving(HELLO) as plain, serving(redirect(f"{plain.url}/"), server_context) as secure:

        def secured(request):
            request.url = URL(f"{secure.url}/")

        async with open_http_client(ssl_context=client_context, event_hooks={"request": [secured]}) as client:
            with pytest.raises(trionet.LocalProtocolError, match="it leads from https to http"):
                await get(client, plain.url)
        assert plain.asked == []


async def test_proxy_credentials_of_a_request_replace_those_of_the_proxy():
    async with serving(HELLO) as proxy, open_http_client(proxy=proxy.url.replace("//", "//me:secret@")) as client:
        await get(client, "http://host.example/")
        await get(client, "http://host.example/", headers={"proxy-authorization": "mine"})
        assert [asked.fields["proxy-authorization"] for asked in proxy.asked] == [basic("me", "secret"), "mine"]
        assert proxy.asked[1].head.lower().count(b"proxy-authorization") == 1


async def test_trace_has_no_credentials(client_context, server_context):
    """Its answer shows what was sent, to whoever can make it be asked (RFC 9110 §9.3.8)."""
    setting = HELLO.replace(b"Content-Length", b"Set-Cookie: a=1\r\nContent-Length")
    async with serving(setting, server_context) as server:
        options = {"headers": {"Authorization": "x", "COOKIE": "b=2", "X-Other": "stays"}, "auth": ("me", "secret")}
        async with open_http_client(ssl_context=client_context, cookies=True, **options) as client:
            await get(client, server.url)
            assert server.asked[0].fields["authorization"] == "x"
            for url in (server.url, server.url.replace("//", "//me:secret@")):
                await get(client, url, "TRACE")
                assert not {"authorization", "cookie"} & set(server.asked[-1].fields)
                assert server.asked[-1].fields["x-other"] == "stays"
            for fields in ({"cookie": "c=3"}, {b"Authorization": b"x"}):
                with pytest.raises(trionet.LocalProtocolError, match="TRACE with .* refused"):
                    await get(client, server.url, "TRACE", headers=fields)


@pytest.mark.parametrize("event", ["request", "response"])
async def test_a_hook_that_raises_ends_the_request(event):
    def fail(_):
        raise KeyError(event)

    async with serving(HELLO) as server, open_http_client(event_hooks={event: [fail]}) as client:
        with pytest.raises(KeyError):
            await get(client, server.url)
        figures = client.statistics()
        assert (figures.open, figures.running) == (0, 0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"event_hooks": {"requests": []}}, ValueError),
        ({"event_hooks": {"request": [7]}}, TypeError),
        ({"base_url": "ftp://x"}, ValueError),
        ({"proxy": "ftp://x"}, ValueError),
        ({"cookies": 7}, TypeError),
        ({"headers": {"a b": "c"}}, ValueError),
        ({"nonsense": 1}, TypeError),
        ({"drain_timeout": -1}, ValueError),
    ],
)
async def test_options_are_checked(options, error):
    with pytest.raises(error):
        async with open_http_client(**options):
            pass


@pytest.mark.parametrize("url", ["ftp://x/", "/path", "http://", "http://a b/", 7])
async def test_urls_are_checked_before_anything_is_opened(url):
    async with open_http_client() as client:
        with pytest.raises((ValueError, TypeError)):
            await get(client, url)
        assert client.statistics().running == 0


# --- the one retry ----------------------------------------------------------------------------------------------


def dying(times):
    """A server whose connections answer once; on the second request the first `times` of them end without a word."""
    served = {}
    died = itertools.count()

    async def answer(connection, asked):
        served[connection] = served.get(connection, 0) + 1
        if served[connection] > 1 and next(died) < times:
            connection.abort()
        else:
            await connection.send_all(HELLO)

    return answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
async def test_an_idempotent_request_is_sent_again_if_its_reused_connection_died(method):
    async with serving(dying(1)) as server, open_http_client() as client:
        await get(client, server.url)
        async with client.request(method, server.url) as response:
            assert response.status == 200
        assert [asked.method for asked in server.asked] == ["GET", method, method]
        figures = client.statistics()
        assert (figures.retried, figures.opened) == (1, 2)


@pytest.mark.parametrize(
    ("method", "options"), [("POST", {}), ("PATCH", {"content": b"x"}), ("PUT", {"content": iter([b"x"])})]
)
async def test_no_other_request_is_sent_again(method, options):
    async with serving(dying(1)) as server, open_http_client() as client:
        await get(client, server.url)
        with pytest.raises((trionet.RemoteProtocolError, trionet.HandleBrokenError)) as caught:
            async with client.request(method, server.url, **options):
                pass
        assert caught.value.retry_safe is (method == "PUT")
        assert ("a retry is safe" in str(caught.value)) is (method == "PUT")
        assert [asked.method for asked in server.asked] == ["GET", method]
        assert client.statistics().retried == 0


async def test_the_retry_is_on_a_fresh_connection_and_the_only_one():
    async def end(connection, asked):
        if asked.target == "/":
            await connection.send_all(HELLO)
        else:
            await connection.aclose()

    async with serving(end) as server, open_http_client() as client:
        async with client.request("GET", server.url), client.request("GET", server.url):
            pass
        assert client.statistics().idle == 2
        with pytest.raises(trionet.RemoteProtocolError, match="GET is idempotent: a retry is safe"):
            await get(client, f"{server.url}/end")
        assert server.accepted == 3  # not on the other idle one
        assert [asked.target for asked in server.asked].count("/end") == 2


async def test_nothing_is_sent_again_on_a_connection_that_was_fresh():
    async def end(connection, asked):
        await connection.aclose()

    async with serving(end) as server, open_http_client() as client:
        with pytest.raises(trionet.RemoteProtocolError):
            await get(client, server.url)
        assert len(server.asked) == 1


async def test_nothing_is_sent_again_after_a_byte_of_the_response():
    async def half(connection, asked):
        if asked.target == "/":
            await connection.send_all(HELLO)
        else:
            await connection.send_all(b"H")
            await connection.aclose()

    async with serving(half) as server, open_http_client() as client:
        await get(client, server.url)
        with pytest.raises(trionet.RemoteProtocolError, match="after 1 byte of it"):
            await get(client, f"{server.url}/half")
        assert len(server.asked) == 2


async def test_who_cannot_be_reached_was_sent_nothing():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        async with open_http_client() as client:
            with pytest.raises(ConnectionRefusedError, match=r"nothing was sent: a retry is safe") as caught:
                await get(client, f"http://127.0.0.1:{bound.getsockname()[1]}/")
            assert caught.value.retry_safe is True
            assert client.statistics().running == 0


# --- redirects --------------------------------------------------------------------------------------------------


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


# --- TLS, Unix sockets, proxies ---------------------------------------------------------------------------------


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


# --- how a client ends ------------------------------------------------------------------------------------------


async def test_leaving_closes_every_connection_and_refuses_requests():
    async with serving(HELLO) as server:
        before = open_descriptors()
        async with open_http_client() as client:
            await get(client, server.url)
            (connection,) = client.scope.handles
        assert connection.end.reason is Reason.LOCAL
        assert client.scope.report.clean
        assert client.statistics().open == 0
        with pytest.raises(trionet.ScopeClosedError, match="nothing of the request was sent: a retry is safe"):
            await get(client, server.url)
        assert "closed" in repr(client)
        await server.all_gone()
        assert open_descriptors() == before


async def test_an_exception_of_the_body_leaves_as_it_is_and_closes_at_once():
    async with serving(HELLO) as server:
        with pytest.raises(KeyError):
            async with open_http_client() as client, client.request("GET", server.url):
                raise KeyError
        with pytest.raises(KeyError):
            async with open_http_client() as client:
                await get(client, server.url)
                (connection,) = client.scope.handles
                raise KeyError
        assert connection.end.reason is Reason.SCOPE_CANCELLED


@pytest.mark.parametrize("way", ["leave", "aclose", "scope"])
async def test_running_requests_are_waited_for_and_waiting_ones_refused(way):
    go_on, outcomes = trio.Event(), []

    async def slowly(connection, asked):
        await go_on.wait()
        await connection.send_all(HELLO)

    async def ask(client, url):
        try:
            outcomes.append((await get(client, url))[0])
        except trionet.ScopeClosedError as exc:
            outcomes.append("refused" if exc.retry_safe else str(exc))

    async with serving(slowly) as server, trio.open_nursery() as nursery, trionet.open_scope() as scope:
        opening = scope.open_http_client if way == "scope" else open_http_client
        async with opening(max_connections_per_origin=1) as client:
            for _ in range(3):
                nursery.start_soon(ask, client, server.url)
            await wait_all_tasks_blocked()
            assert client.statistics().waiting == 2
            nursery.start_soon(release, go_on, outcomes)
            if way == "aclose":
                await client.aclose()
                assert sorted(map(str, outcomes)) == ["200", "refused", "refused"]
        await wait_all_tasks_blocked()
        assert sorted(map(str, outcomes)) == ["200", "refused", "refused"]
        assert client.scope.report.clean


async def test_a_request_that_waits_for_any_connection_is_refused_when_the_client_closes():
    """It has the place of its origin already, and waits for one of the client's, which another origin has."""
    refused = trio.Event()

    async def slowly(connection, asked):
        await refused.wait()
        await connection.send_all(HELLO)

    async def waiter(client, url):
        with pytest.raises(trionet.ScopeClosedError):
            await get(client, url)
        refused.set()

    async with serving(slowly) as one, serving(slowly) as other, trio.open_nursery() as nursery:
        async with open_http_client(max_connections=1) as client:
            nursery.start_soon(get, client, one.url)
            await wait_all_tasks_blocked()
            nursery.start_soon(waiter, client, other.url)
            await wait_all_tasks_blocked()
            assert client.statistics().waiting == 1
        assert refused.is_set()
        assert client.scope.report.clean


async def release(go_on, outcomes):
    while len(outcomes) < 2:
        await wait_all_tasks_blocked()
    go_on.set()


async def test_requests_that_do_not_end_are_cut_off_at_the_deadline_and_reported(autojump_clock):
    async def never(connection, asked):
        await trio.sleep_forever()

    async def victim(client, url):
        with pytest.raises(trionet.HandleClosedError, match="not idempotent"):
            async with client.request("POST", url):
                pass

    async with serving(never) as server, trio.open_nursery() as nursery:
        async with open_http_client(drain_timeout=2) as client:
            nursery.start_soon(victim, client, f"{server.url}/slow")
            await wait_all_tasks_blocked()
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(2)
        (forced,) = client.scope.report.forced
        assert forced.reason is Reason.DRAIN_TIMEOUT
        assert "request POST /slow" in str(forced)
        assert "client/test_client.py" in forced.opened_at


async def test_abort_ends_everything_at_once():
    refused = []

    async def never(connection, asked):
        await trio.sleep_forever()

    async def victim(client, url):
        with pytest.raises((trionet.HandleClosedError, trionet.ScopeClosedError)) as caught:
            await get(client, url)
        refused.append(type(caught.value))

    async with serving(never) as server, open_http_client(max_connections_per_origin=1) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(victim, client, server.url)
            nursery.start_soon(victim, client, server.url)
            await wait_all_tasks_blocked()
            client.abort()
            assert client.statistics().open == 0
        assert sorted(kind.__name__ for kind in refused) == ["HandleClosedError", "ScopeClosedError"]
        with pytest.raises(trionet.ScopeClosedError):
            await get(client, server.url)


async def test_a_request_that_is_connecting_is_called_off(monkeypatch):
    async def never(*_):
        await trio.sleep_forever()

    monkeypatch.setattr("trionet.transport.connecting.tcp_socket", never)
    async with trio.open_nursery() as nursery, open_http_client() as client:

        async def victim():
            with pytest.raises(trionet.ScopeClosedError):
                await get(client, "http://host.example/")

        nursery.start_soon(victim)
        await wait_all_tasks_blocked()
        assert client.statistics().running == 1
    assert client.statistics().running == 0


async def test_a_client_of_a_scope_belongs_to_it():
    async with serving(HELLO) as server:
        async with (
            trionet.open_scope(name="outer", drain_timeout=3) as scope,
            scope.open_http_client() as client,
        ):
            assert client.scope.parent is scope
            assert client.scope._owner.drain_timeout == 3
            assert await get(client, server.url) == (200, b"hello")
            assert len(client.scope.handles) == 1
            assert scope.handles == ()
        with pytest.raises(trionet.ScopeClosedError):
            async with scope.open_http_client():
                pass


async def test_a_cancelled_scope_takes_its_client_along():
    async def never(connection, asked):
        await trio.sleep_forever()

    async with serving(never) as server:
        async with trionet.open_scope() as scope:

            async def use():
                async with scope.open_http_client() as client:
                    clients.append(client)
                    await get(client, server.url)

            clients = []
            scope.start_soon(use)
            await wait_all_tasks_blocked()
            scope.cancel()
        assert clients[0].statistics().open == clients[0].statistics().running == 0


async def test_a_request_is_sent_once():
    async with serving(HELLO) as server, open_http_client() as client:
        context = client.request("GET", server.url)
        async with context:
            pass
        with pytest.raises(RuntimeError, match="sent already"):
            async with context:
                pass


async def test_a_request_that_two_tasks_send_costs_no_slot():
    """The second one's slot took the place of the first one's, which nobody gave back."""
    outcomes = []

    async def send(context):
        try:
            async with context as response:
                outcomes.append(await response.read())
        except RuntimeError as exc:
            outcomes.append(str(exc))

    async with serving(HELLO) as server, open_http_client(max_connections=1) as client:
        context = client.request("GET", server.url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, context)
            nursery.start_soon(send, context)
        assert sorted(outcomes, key=str) == [b"hello", "this request was sent already; call request() again"]
        assert client.statistics().running == 0


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_generator_that_a_failed_request_has_closed_is_not_sent_as_an_empty_body(kind):
    """The second attempt went well, and nothing of the body had been sent."""

    async def several():
        yield b"abc"

    async with serving(HELLO) as server, open_http_client() as client:
        body = several() if kind == "async" else (piece for piece in [b"abc"])
        with pytest.raises(ConnectionRefusedError, match="a retry is safe"):
            await get(client, "http://127.0.0.1:1/", "POST", content=body)
        with pytest.raises(ValueError, match="content is a generator that has ended, .* make a new one"):
            await get(client, server.url, "POST", content=body)
        assert server.asked == []


async def test_a_request_that_failed_can_be_sent_again():
    async with serving(HELLO) as server, open_http_client() as client:
        context = client.request("GET", server.url)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with context:
                pass
        async with context as response:
            assert await response.read() == b"hello"


async def test_a_response_may_become_something_else():
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhi"
    async with serving(switching) as server, trionet.open_scope() as scope, open_http_client() as client:
        async with client.request("GET", server.url, headers={"Connection": "upgrade", "Upgrade": "chat"}) as response:
            raw = scope.adopt(response.connection.detach())
        assert await raw.receive_exactly(2) == b"hi"
        async with client.request("GET", server.url, headers={"Connection": "upgrade", "Upgrade": "chat"}) as response:
            kept = response.connection
        assert kept.end.reason is Reason.ABORTED  # nobody took it
        assert client.statistics().open == 0
        raw.abort()


# --- cancelled everywhere ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/hop", "/big"])
async def test_cancelled_at_every_checkpoint_of_a_request(path, server_context, client_context):
    answers = {"/": HELLO, "/hop": redirect("/", body=b"x" * 1000), "/big": HELLO}
    async with serving(routes(answers), server_context) as server:
        # By address: a cancelled look-up of a name goes on in its thread, and has a descriptor open for a while.
        server.url = server.url.replace("localhost", "127.0.0.1")

        async def scenario(cancelling):
            content = bytes(2_000_000) if path == "/big" else None
            async with open_http_client(ssl_context=client_context, max_connections=1) as client:
                with cancelling.scope:
                    async with client.request("PUT", server.url + path, content=content) as response:
                        assert await response.read() == b"hello"
                figures = client.statistics()
                assert (figures.running, figures.waiting) == (0, 0)
                assert client._pool.slots.free == 1
                assert figures.open <= 1
                assert figures.open == figures.idle == len(client.scope.handles)
            await server.all_gone()

        assert await at_every_checkpoint(scenario) > 3


def test_the_methods_that_are_sent_again_are_those_of_the_contract():
    assert sorted(IDEMPOTENT) == ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"]
