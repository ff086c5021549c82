"""Where a request goes: URLs taken apart, and those that are refused."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from trionet.http.client.auth import basic
from trionet.http.url.hosts import ascii_host
from trionet.http.url.parts import without_userinfo
from trionet.http.url.url import Origin, parse_url


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://host.example", ("http", "host.example", 80), "host.example", "/"),
        ("HTTPS://Host.EXAMPLE/", ("https", "host.example", 443), "host.example", "/"),
        ("http://host.example:80/a", ("http", "host.example", 80), "host.example", "/a"),
        ("https://host.example:80/a", ("https", "host.example", 80), "host.example:80", "/a"),
        ("http://host.example?x=1", ("http", "host.example", 80), "host.example", "/?x=1"),
        ("http://host.example/a/../b%2F?q=%2B", ("http", "host.example", 80), "host.example", "/a/../b%2F?q=%2B"),
        ("http://host.example/straße#part", ("http", "host.example", 80), "host.example", "/stra%C3%9Fe"),
        ("http://127.0.0.1:8080/", ("http", "127.0.0.1", 8080), "127.0.0.1:8080", "/"),
        ("http://[::1]/", ("http", "::1", 80), "[::1]", "/"),
        ("http://[0:0::0:1]:81/", ("http", "::1", 81), "[::1]:81", "/"),
        ("http://ex_ample.internal./", ("http", "ex_ample.internal.", 80), "ex_ample.internal.", "/"),
        ("http://host.example:/", ("http", "host.example", 80), "host.example", "/"),
        ("http://host.example:00081/", ("http", "host.example", 81), "host.example:81", "/"),
        ("http://host.example/a?", ("http", "host.example", 80), "host.example", "/a?"),
        ("http://host.example?", ("http", "host.example", 80), "host.example", "/?"),
        ("http://host.example/a b?c d", ("http", "host.example", 80), "host.example", "/a%20b?c%20d"),
        ("http://host.example/100%?%2", ("http", "host.example", 80), "host.example", "/100%25?%252"),
        ("http://host.example/[a]{b}|", ("http", "host.example", 80), "host.example", "/[a]%7Bb%7D%7C"),
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


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example",
        "http://host.example/a?",
        "http://host.example/a?#part",
        "http://host.example/a??",
        "http://host.example:81/%2F/%7e/../x?q=%2C&%7E#x%20y",
        "http://[fe80::1%25eth0]:8080//a//b",
    ],
)
def test_the_url_shows_what_is_sent(url: str) -> None:
    parsed = parse_url(url)
    assert str(parsed.url) == url
    assert parse_url(parsed.url) == parsed


def test_userinfo_is_decoded_and_does_not_stay_in_the_url() -> None:
    parsed = parse_url("http://us%40er:p%3Aw@host.example/x#fragment")
    assert parsed.userinfo == ("us@er", "p:w")
    assert str(parsed.url) == "http://host.example/x#fragment"
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
        ("http://host.example:65536/", "'65536' is not a number from 1 to 65535"),
        ("http://host.example:99999/", "not a number from 1 to 65535"),
        ("http://host.example:-1/", "not a number"),
        ("http://host.example:+80/", "not a number"),
        ("http://host.example:abc/", "'abc' is not a number"),
        ("http://host.example:\uff18\uff10/", "not a number"),
        (f"http://host.example:{'9' * 5000}/", "not a number"),
        ("http://host.example:00/", "port 0"),
        ("http://host.example:80:90/", "more than one colon"),
        ("http://::1/", "needs brackets"),
        ("http://[::1]x/", "stands in brackets"),
        ("http://host.example/\ud800", "surrogate"),
        ("http://host.example/\r\nX: 1", "control character"),
        ("http://ho st.example/", "host name"),
        ("http://host.example\\@other.example/", "backslash"),
        ("http://host.example\\/", "backslash"),
        ("http://[::1/", "malformed host"),
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
    ],
)
def test_a_url_that_cannot_be_asked_is_refused(url: str | URL, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret%00@host.example/",
        "http://user:secret@host.example:99999/",
        "http://user:secret@/",
        "http://user:secret@host.example\\/",
        "http://user:se/cret@host.example/",
        "http://user:se?c#ret@host.example/@x",
        "ftp://user:secret@host.example/",
        "ws://user:secret@host.example/",
        "//user:secret@host.example/",
        "user:secret@host.example/",
        "http://user:secret@host.example/\r\n",
    ],
)
def test_an_error_does_not_show_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="url") as refused:
        parse_url(url)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://host.example:8080/@x", "http://[::1]:8080/a:b@c", "http://host.example/u@v"])
def test_an_at_sign_behind_the_host_is_no_password(url: str) -> None:
    assert without_userinfo(url) == url


@pytest.mark.parametrize("url", [None, b"http://host.example/", 80, ["http://host.example/"]])
def test_a_url_is_text(url: object) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        parse_url(url)  # type: ignore[arg-type]


PIECES = st.sampled_from(
    ["http://", "https://", "host.example", "@", ":", "80", "/", "?", "#", "%", "%2F", "é", " ", "[::1]"]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=8).map("".join))
def test_what_is_sent_is_one_word_and_means_the_same_when_it_is_read_again(rest: str) -> None:
    url = f"http://host.example/{rest}"
    try:
        parsed = parse_url(url)
    except ValueError:
        return
    assert re.fullmatch(r"/[!-~]*", parsed.target)
    assert parsed.origin == Origin("http", "host.example", 80)
    assert parse_url(parsed.url) == parsed
    given_target = url.removeprefix("http://host.example").partition("#")[0]
    assert unquote(parsed.target) == unquote(given_target)


@given(st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=8).map("".join))
def test_nothing_but_a_value_error_comes_of_any_text(url: str) -> None:
    try:
        parsed = parse_url(url)
    except ValueError:
        return
    assert re.fullmatch(r"[a-z0-9._:%-]+", parsed.origin.host, re.IGNORECASE)
    assert 1 <= parsed.origin.port <= 65535
    assert parsed.authority.isascii()


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
