"""Where a request goes: URLs taken apart, and those that are refused."""

from __future__ import annotations

import pytest
from yarl import URL

from trionet.http.auth import basic
from trionet.http.url import Origin, ascii_host, parse_url


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://host.example", ("http", "host.example", 80), "host.example", "/"),
        ("HTTPS://Host.EXAMPLE/", ("https", "host.example", 443), "host.example", "/"),
        ("http://host.example:80/a", ("http", "host.example", 80), "host.example", "/a"),
        ("https://host.example:80/a", ("https", "host.example", 80), "host.example:80", "/a"),
        ("http://host.example?x=1", ("http", "host.example", 80), "host.example", "/?x=1"),
        ("http://host.example/a/../b%2F?q=%2B", ("http", "host.example", 80), "host.example", "/b%2F?q=%2B"),
        ("http://host.example/straße#part", ("http", "host.example", 80), "host.example", "/stra%C3%9Fe"),
        ("http://127.0.0.1:8080/", ("http", "127.0.0.1", 8080), "127.0.0.1:8080", "/"),
        ("http://[::1]/", ("http", "::1", 80), "[::1]", "/"),
        ("http://[0:0::0:1]:81/", ("http", "::1", 81), "[::1]:81", "/"),
        ("http://ex_ample.internal./", ("http", "ex_ample.internal.", 80), "ex_ample.internal.", "/"),
        ("http://host.example:/", ("http", "host.example", 80), "host.example", "/"),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: tuple[str, str, int], authority: str, target: str) -> None:
    parsed = parse_url(url)
    assert (parsed.origin, parsed.authority, parsed.target) == (Origin(*origin), authority, target)
    assert parse_url(URL(url)).origin == parsed.origin


@pytest.mark.parametrize(
    ("host", "ascii_form"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),  # IDNA 2008, not "fass"
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # UTS #46: an ideographic full stop is a dot
    ],
)
def test_a_host_name_becomes_ascii_by_idna(host: str, ascii_form: str) -> None:
    parsed = parse_url(f"http://{host}/")
    assert parsed.origin.host == parsed.authority == ascii_form


def test_a_zone_says_how_to_get_there_and_is_not_told_to_the_server() -> None:
    for url in ("http://[fe80::1%25eth0]:8080/", "http://[fe80::1%eth0]:8080/"):
        parsed = parse_url(url)
        assert parsed.origin == Origin("http", "fe80::1%eth0", 8080)
        assert parsed.authority == "[fe80::1]:8080"


def test_userinfo_is_decoded_and_does_not_stay_in_the_url() -> None:
    parsed = parse_url("http://us%40er:p%3Aw@host.example/x#fragment")
    assert parsed.userinfo == ("us@er", "p:w")
    assert str(parsed.url) == "http://host.example/x"
    assert parse_url("http://user@host.example/").userinfo == ("user", "")
    assert parse_url("http://host.example/").userinfo is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("host.example/x", "no scheme"),
        ("//host.example/x", "no scheme"),
        ("localhost:8080", "scheme 'localhost'"),
        ("ftp://host.example/", "scheme 'ftp'"),
        ("ws://host.example/", "open_websocket"),
        ("wss://host.example/", "to_websocket_client"),
        ("http:///path", "no host"),
        ("http://host.example:0/", "port 0"),
        ("http://host.example:65536/", "cannot be understood"),
        ("http://host.example/a b", "space"),
        ("http://host.example/\r\nX: 1", "control character"),
        ("http://ho st.example/", "space"),
        ("http://host.example\\@other.example/", "cannot be understood"),
        ("http://[::1/", "cannot be understood"),
        ("http://[v1.x]/", "IPv6"),
        ("http://[fe80::1%25]/", "zone"),
        ("http://a..b/", "host name"),
        ("http://.example/", "host name"),
        ("http://%65xample.org/", "host name"),
        ("http://a,b/", "host name"),
        ("http://☃.example/", "host name"),
        (f"http://{'a' * 64}.example/", "host name"),
        (f"http://{'a.' * 128}example/", "host name"),
        ("http://us%0d%0aer:x@host.example/", "user name or password"),
        ("http://user:%00@host.example/", "user name or password"),
        (URL("http://host.example/ä", encoded=True), "percent-encoded"),
    ],
)
def test_a_url_that_cannot_be_asked_is_refused(url: str | URL, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_url(url)


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(ValueError, match="control character") as refused:
        parse_url("http://user:secret%00@host.example/")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", [None, b"http://host.example/", 80, ["http://host.example/"]])
def test_a_url_is_text(url: object) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        parse_url(url)  # type: ignore[arg-type]


def test_an_address_has_one_form() -> None:
    assert ascii_host("2001:DB8:0::1") == "2001:db8::1"
    with pytest.raises(ValueError, match="not an IPv6 address"):
        ascii_host("1:2:3")


def test_basic_authorization_is_utf_8() -> None:
    assert basic("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert basic("test", "123£") == "Basic dGVzdDoxMjPCow=="  # RFC 7617 §2.1


def test_basic_authorization_refuses_what_it_cannot_carry() -> None:
    with pytest.raises(ValueError, match="colon"):
        basic("a:b", "x")
    with pytest.raises(ValueError, match="control character"):
        basic("a", "x\r\n")
    with pytest.raises(TypeError, match="must be a str"):
        basic("a", b"x")  # type: ignore[arg-type]
