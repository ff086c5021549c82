"""Fields in which proxies tell of their clients: who is believed, and what."""

import pytest

from trionet import ProxyHeader, ProxyTLS
from trionet.asgi.forwarded import Forwarding

from ..helpers.asgi_served import respond, serving
from ..helpers.http_served import get


def seen(peers, names, *fields, kind="http"):
    """Client, scheme and Host of a request with these fields."""
    headers = [(b"host", b"inner")]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in fields]
    scope = {"type": kind, "scheme": "http", "client": ("9.9.9.9", 1), "headers": headers}
    Forwarding(peers, names).apply(scope)
    [host] = [value.decode() for name, value in scope["headers"] if name == b"host"]
    return scope["client"], scope["scheme"], host


USUAL = ("x-forwarded-for", "x-forwarded-proto")
ALL = (*USUAL, "x-forwarded-host", "x-forwarded-port")


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("1.2.3.4", ("1.2.3.4", 0)),
        ("1.2.3.4:567", ("1.2.3.4", 567)),
        ("[2001:db8::1]:567", ("2001:db8::1", 567)),
        ("2001:DB8::1", ("2001:db8::1", 0)),
        ("6.6.6.6, 1.2.3.4", ("1.2.3.4", 0)),
        ("6.6.6.6, 1.2.3.4, 10.0.0.7", ("1.2.3.4", 0)),
        ("10.0.0.9, 10.0.0.7", ("10.0.0.9", 0)),
        ("evil, 10.0.0.7", ("10.0.0.7", 0)),
        ("unknown", ("9.9.9.9", 1)),
        ("", ("9.9.9.9", 1)),
        ("1.2.3.4\x00", ("9.9.9.9", 1)),
        ("fe80::1%eth0", ("fe80::1%eth0", 0)),
        ('fe80::1%" 200 - "GET', ("9.9.9.9", 1)),
        ("fe80::1%\x9b31m", ("9.9.9.9", 1)),
    ],
)
def test_the_client_is_the_last_one_that_no_trusted_proxy_is(value, client):
    assert seen(["127.0.0.1", "10.0.0.0/8"], USUAL, ("x-forwarded-for", value))[0] == client


def test_several_fields_are_one_list():
    fields = ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4, 10.0.0.7")
    assert seen(["10.0.0.7"], USUAL, *fields)[0] == ("1.2.3.4", 0)


def test_everybody_is_believed_with_a_star():
    assert seen("*", USUAL, ("x-forwarded-for", "6.6.6.6, 1.2.3.4"))[0] == ("6.6.6.6", 0)


@pytest.mark.parametrize(
    ("value", "kind", "scheme"),
    [
        ("https", "http", "https"),
        ("wss", "http", "https"),
        ("https", "websocket", "wss"),
        ("http, https", "http", "https"),
        ("gopher", "http", "http"),
        ("HTTPS", "http", "https"),
    ],
)
def test_the_scheme(value, kind, scheme):
    assert seen("*", USUAL, ("x-forwarded-proto", value), kind=kind)[1] == scheme


def test_host_and_port_only_where_they_are_named():
    fields = ("x-forwarded-host", "evil.example"), ("x-forwarded-port", "444")
    assert seen("*", USUAL, *fields)[2] == "inner"
    assert seen("*", ALL, *fields)[2] == "evil.example:444"
    assert seen("*", ALL, ("x-forwarded-host", "a b"))[2] == "inner"


def test_forwarded_alone():
    value = 'for=6.6.6.6, for="[2001:db8::1]:99";proto=https;host=outer.example:8443, for=10.0.0.7;proto=http'
    assert seen(["10.0.0.7"], ["forwarded"], ("forwarded", value)) == (("2001:db8::1", 99), "http", "inner")
    value = 'for="[2001:db8::1]:99";proto=https;host="outer.example:8443"'
    assert seen("*", ["forwarded"], ("forwarded", value)) == (("2001:db8::1", 99), "https", "outer.example:8443")
    assert seen("*", ["forwarded"], ("forwarded", "for=1.2.3.4;;=")) == (("9.9.9.9", 1), "http", "inner")
    assert seen("*", ["forwarded"], ("x-forwarded-for", "1.2.3.4"))[0] == ("9.9.9.9", 1)


@pytest.mark.parametrize(
    ("peers", "names", "text"),
    [
        (["localhost"], USUAL, "'localhost', which is not an address"),
        (["10.0.0.1/8"], USUAL, "the bits behind the prefix have to be 0"),
        ("*", ["x-forwarded-server"], "'x-forwarded-server', which is not one of"),
        ("*", ["forwarded", "x-forwarded-for"], "'forwarded' beside x-forwarded-for"),
    ],
)
def test_mistakes(peers, names, text):
    with pytest.raises(ValueError, match=text):
        Forwarding(peers, names)


@pytest.mark.parametrize(
    ("peers", "remote", "local", "trusted"),
    [
        (["127.0.0.1"], ("127.0.0.1", 1), ("127.0.0.1", 2), True),
        (["127.0.0.1"], ("127.0.0.2", 1), ("127.0.0.1", 2), False),
        (["127.0.0.0/8"], ("127.0.0.2", 1), ("127.0.0.1", 2), True),
        (["127.0.0.0/8"], ("::ffff:127.0.0.2", 1, 0, 0), ("::", 2, 0, 0), True),
        (["fe80::/10"], ("fe80::1%eth0", 1, 0, 2), ("::", 2, 0, 0), True),
        (["127.0.0.1"], "", "/run/a.sock", False),
        (["unix:"], "", "/run/a.sock", True),
        (["unix:/run/a.sock"], "", "/run/a.sock", True),
        (["/run/a.sock"], "", b"/run/a.sock", True),
        (["unix:/run/b.sock"], "", "/run/a.sock", False),
        ("*", "", "/run/a.sock", True),
        ("127.0.0.1, ::1", ("::1", 1, 0, 0), ("::", 2, 0, 0), True),
        ("", ("::1", 1, 0, 0), ("::", 2, 0, 0), False),
    ],
)
def test_who_is_trusted(peers, remote, local, trusted):
    assert Forwarding(peers).trusts_peer(remote, local) is trusted


@pytest.mark.parametrize(
    ("options", "client"),
    [
        ({}, "1.2.3.4"),
        ({"forwarded_allow_ips": ["10.0.0.1"]}, "127.0.0.1"),
        ({"forwarded_allow_ips": ()}, "127.0.0.1"),
        ({"forwarded_headers": ()}, "127.0.0.1"),
    ],
)
async def test_a_request_through_a_proxy(options, client):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    async with serving(app, **options) as served:
        await served.ask(get("/", "X-FORWARDED-For: 1.2.3.4", "X-Forwarded-Proto: https"))
    [scope] = scopes
    assert scope["client"][0] == client
    assert scope["scheme"] == ("https" if client == "1.2.3.4" else "http")
    assert (b"x-forwarded-for", b"1.2.3.4") in scope["headers"]


SECURE = ProxyHeader(source=("10.0.0.7", 99), destination=("10.0.0.1", 80), tls=ProxyTLS())


@pytest.mark.parametrize(
    ("header", "allowed", "client", "scheme"),
    [
        (b"PROXY TCP4 10.0.0.7 10.0.0.1 99 80\r\n", "127.0.0.1", "10.0.0.7", "http"),
        (b"PROXY TCP4 10.0.0.7 10.0.0.1 99 80\r\n", "10.0.0.7", "1.2.3.4", "http"),
        (SECURE.to_bytes(), "127.0.0.1", "10.0.0.7", "https"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1", "127.0.0.1", "http"),  # who that is nobody knows
        (ProxyHeader(local=True).to_bytes(), "127.0.0.1", "1.2.3.4", "http"),  # the proxy itself
    ],
)
async def test_behind_the_proxy_protocol_the_client_that_it_names_is_judged(header, allowed, client, scheme):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    async with serving(app, proxy_protocol=["127.0.0.1"], forwarded_allow_ips=allowed) as served:
        await served.ask(header + get("/", "X-Forwarded-For: 1.2.3.4"))
    assert (scopes[0]["client"][0], scopes[0]["scheme"]) == (client, scheme)
