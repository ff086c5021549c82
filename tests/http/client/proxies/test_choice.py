"""Which proxy is for which URL."""

from __future__ import annotations

import pytest
from yarl import URL

from trionet.http.client.auth import basic
from trionet.http.client.proxies.choice import Proxies
from trionet.http.client.proxies.proxy import Proxy
from trionet.http.url.url import Origin, parse_url


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
