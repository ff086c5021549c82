"""What a client's request says: URLs, fields, credentials, cookies, and what hooks make of it."""

import gzip
import http.cookiejar

import httpx
import pytest
import trio
from yarl import URL

import trionet
from trionet.http.client.auth import basic
from trionet.scope.opening import open_http_client

from ...helpers.http_by_hand import HELLO, serving
from ...helpers.http_clients import get, redirect, routes


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
