"""Cookies: which of those that were set a request gets."""

from __future__ import annotations

import http.cookiejar
import time

import pytest
from yarl import URL

from trionet.http.client.cookies import MAX_COOKIE_SIZE, MAX_COOKIES, MAX_PER_DOMAIN, Cookies
from trionet.http.protocol.headers import Headers


def setting(*values: str) -> Headers:
    return Headers([("Set-Cookie", value) for value in values])


@pytest.fixture
def cookies() -> Cookies:
    return Cookies()


def test_a_cookie_goes_back_to_where_it_came_from(cookies: Cookies) -> None:
    url = URL("http://host.example/a/b")
    assert cookies.cookie_header(url) is None
    cookies.store(url, Headers([("set-cookie", "a=1"), ("Content-Type", "x"), ("Set-Cookie", "b=2; HttpOnly")]))
    assert cookies.cookie_header(url) in ("a=1; b=2", "b=2; a=1")
    assert cookies.cookie_header(URL("http://other.example/a/b")) is None
    assert cookies.cookie_header(URL("http://sub.host.example/a/b")) is None


def test_a_cookie_for_a_domain_goes_to_all_below_it(cookies: Cookies) -> None:
    cookies.store(URL("https://www.host.example/"), setting("a=1; Domain=host.example"))
    assert cookies.cookie_header(URL("https://host.example/")) == "a=1"
    assert cookies.cookie_header(URL("https://deep.www.host.example/")) == "a=1"
    assert cookies.cookie_header(URL("https://nothost.example/")) is None


def test_nobody_sets_cookies_for_others(cookies: Cookies) -> None:
    cookies.store(URL("https://evil.example/"), setting("a=1; Domain=host.example", "b=2; Domain=example"))
    assert len(cookies.jar) == 0


def test_a_path_bounds_a_cookie(cookies: Cookies) -> None:
    cookies.store(URL("http://host.example/shop/cart"), setting("a=1", "b=2; Path=/", "c=3; Path=/shop"))
    assert cookies.cookie_header(URL("http://host.example/")) == "b=2"
    assert cookies.cookie_header(URL("http://host.example/shopping")) == "b=2"
    got = cookies.cookie_header(URL("http://host.example/shop/x"))
    assert got is not None
    assert set(got.split("; ")) == {"a=1", "b=2", "c=3"}


def test_a_secure_cookie_is_sent_over_tls_only(cookies: Cookies) -> None:
    cookies.store(URL("https://host.example/"), setting("a=1; Secure"))
    assert cookies.cookie_header(URL("http://host.example/")) is None
    assert cookies.cookie_header(URL("https://host.example/")) == "a=1"


def test_a_cookie_expires(cookies: Cookies, monkeypatch: pytest.MonkeyPatch) -> None:
    url = URL("http://host.example/")
    now = time.time()
    cookies.store(url, setting("a=1; Max-Age=60", "b=2; Expires=Wed, 09 Jun 2100 10:18:14 GMT", "c=3; Max-Age=0"))
    assert cookies.cookie_header(url) in ("a=1; b=2", "b=2; a=1")
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert cookies.cookie_header(url) == "b=2"
    cookies.store(url, setting("b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"))
    assert cookies.cookie_header(url) is None


def test_a_later_cookie_of_the_same_name_replaces_the_first(cookies: Cookies) -> None:
    url = URL("http://host.example/")
    cookies.store(url, setting("a=1"))
    cookies.store(url, setting("a=2"))
    assert cookies.cookie_header(url) == "a=2"


@pytest.mark.parametrize("url", ["http://localhost:8080/", "http://127.0.0.1:8080/", "http://[::1]:8080/"])
def test_hosts_without_a_domain(cookies: Cookies, url: str) -> None:
    cookies.store(URL(url), setting("a=1"))
    assert cookies.cookie_header(URL(url)) == "a=1"
    assert cookies.cookie_header(URL("http://host.example/")) is None


def test_userinfo_and_fragment_play_no_part(cookies: Cookies) -> None:
    cookies.store(URL("http://user:secret@host.example/#x"), setting("a=1"))
    assert cookies.cookie_header(URL("http://host.example/")) == "a=1"


def test_a_server_cannot_fill_the_memory(cookies: Cookies) -> None:
    url = URL("http://host.example/")
    for n in range(MAX_PER_DOMAIN + 10):
        cookies.store(url, setting(f"c{n}=x"))
    kept = {cookie.name for cookie in cookies.jar}
    assert kept == {f"c{n}" for n in range(10, MAX_PER_DOMAIN + 10)}


def test_all_servers_together_cannot_either(cookies: Cookies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trionet.http.client.cookies.MAX_COOKIES", 30)
    assert MAX_COOKIES == 3000
    for n in range(40):
        cookies.store(URL(f"http://host{n}.example/"), setting("a=x"))
    assert {cookie.domain for cookie in cookies.jar} == {f"host{n}.example" for n in range(10, 40)}


def test_a_very_long_cookie_is_not_kept(cookies: Cookies) -> None:
    url = URL("http://host.example/")
    cookies.store(url, setting("a=" + "x" * MAX_COOKIE_SIZE, "b=" + "x" * (MAX_COOKIE_SIZE - 2)))
    assert [cookie.name for cookie in cookies.jar] == ["b"]


def test_a_jar_of_the_programs_own() -> None:
    jar = http.cookiejar.CookieJar()
    cookies = Cookies(jar)
    cookies.store(URL("http://host.example/"), setting("a=1"))
    assert cookies.jar is jar
    assert len(jar) == 1
    with pytest.raises(TypeError, match="CookieJar"):
        Cookies({"a": "1"})  # type: ignore[arg-type]


# --- RFC 6265bis -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "url", "kept"),
    [
        ("a=1; Secure", "https://host.example/", True),
        ("a=1; Secure", "http://host.example/", False),
        ("a=1; SECURE", "http://host.example/", False),
        ("a=1", "http://host.example/", True),
        ("__Secure-a=1; Secure", "https://host.example/", True),
        ("__Secure-a=1; Secure; Domain=host.example", "https://www.host.example/", True),
        ("__Secure-a=1", "https://host.example/", False),
        ("__secure-a=1", "https://host.example/", False),
        ("__Secure-a=1; Secure", "http://host.example/", False),
        ("__Host-a=1; Secure; Path=/", "https://host.example/a/b", True),
        ("__Host-a=1; Secure; path = / ", "https://host.example/a/b", True),
        ("__HOST-a=1; Secure; Path=/", "https://host.example/", True),
        ("__Host-a=1; Secure", "https://host.example/", False),
        ("__Host-a=1; Secure; Path=/a", "https://host.example/a", False),
        ("__Host-a=1; Path=/", "https://host.example/", False),
        ("__Host-a=1; Secure; Path=/; Domain=host.example", "https://host.example/", False),
        ("__Host-a=1; Secure; Path=/", "http://host.example/", False),
        ("=__Host-a=1; Secure", "https://host.example/", False),
        ("__Host-a; Secure", "https://host.example/", False),
        ("__Hostile=1", "http://host.example/", True),
    ],
)
def test_what_a_cookie_promises_by_its_name_holds(cookies: Cookies, field: str, url: str, kept: bool) -> None:
    cookies.store(URL(url), setting(field))
    assert len(cookies.jar) == kept
    assert (cookies.cookie_header(URL(url).with_scheme("https")) is not None) is kept


@pytest.mark.parametrize(
    "attributes",
    [
        "Domain=",
        "Domain",
        "Domain=evil.example; Domain=host.example",
        "Max-Age",
        "Max-Age=1e9",
        "Max-Age=" + "9" * 4000,
        "Max-Age=x; Expires=Wed, 01 Jan 2090 00:00:00 GMT",
        "Expires=0",
        "Expires=01 Jan 99999 00:00:00 GMT",
        "Expires=Wed, 01-Jan-69 00:00:00 GMT",
        "Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "Version=x",
        'Version=1; Port="81"',
        "Port",
        "Discard=x; Comment; CommentURL=y",
        'Path="/"',
        "Path=a",
        "Path",
        "Path=/other; path=/",
        "=; ; =x",
        "Partitioned; Priority=High",
    ],
)
def test_an_attribute_that_means_nothing_costs_no_cookie(cookies: Cookies, attributes: str) -> None:
    """The library dropped the cookie, or complained of a bug of its own in a warning with a traceback."""
    url = URL("http://host.example/a")
    cookies.store(url, setting(f"a=1; {attributes}"))
    assert cookies.cookie_header(url) == "a=1"
    assert cookies.cookie_header(url.with_port(82)) == "a=1"


@pytest.mark.parametrize(
    "attributes",
    ["Max-Age=-5", "Max-Age=0; Expires=Wed, 01 Jan 2090 00:00:00 GMT", "Expires=Thu, 01-Jan-70 00:00:00 GMT"],
)
def test_what_ends_a_cookie_ends_it(cookies: Cookies, attributes: str) -> None:
    url = URL("http://host.example/")
    cookies.store(url, setting("a=1"))
    cookies.store(url, setting(f"a=2; {attributes}"))
    assert cookies.cookie_header(url) is None


@pytest.mark.parametrize(
    ("host", "domain", "kept"),
    [
        ("localhost", "localhost", True),
        ("localhost", ".LocalHost", True),
        ("10.9.0.1", "10.9.0.1", True),
        ("[::1]", "::1", True),
        ("localhost", "local", False),
        ("10.9.0.1", "0.1", False),
        ("10.9.0.1", ".9.0.1", False),
        ("[::1]", "1", False),
        ("deep.localhost", "localhost", False),
    ],
)
def test_a_host_without_a_domain_sets_cookies_for_itself_alone(
    cookies: Cookies, host: str, domain: str, kept: bool
) -> None:
    """The library gave one address's cookies to all addresses with the same end."""
    url = URL(f"http://{host}/")
    cookies.store(url, setting(f"a=1; Domain={domain}"))
    assert (cookies.cookie_header(url) == "a=1") is kept
    for other in ("192.168.0.1", "other", "deep.localhost", "a.local"):
        assert other == host or cookies.cookie_header(URL(f"http://{other}/")) is None


def test_what_a_program_may_look_for_stays(cookies: Cookies) -> None:
    cookies.store(
        URL("https://www.host.example/"), setting("a=b=c; httponly; Secure; SameSite=Lax; Domain=host.example")
    )
    (cookie,) = cookies.jar
    assert (cookie.value, cookie.secure, cookie.domain) == ("b=c", True, ".host.example")
    assert cookie.has_nonstandard_attr("httponly")
    assert cookie.get_nonstandard_attr("SameSite") == "Lax"


@pytest.mark.parametrize("path", ["/", "/shop", "/shop/cart"])
@pytest.mark.parametrize(
    "field",
    ["a=evil", "a=evil; Path=/shop", "a=evil; Domain=host.example", "a=; Max-Age=0", "a=evil; Path=/shop/deep"],
)
def test_who_is_not_behind_tls_neither_replaces_nor_ends_a_secure_cookie(
    cookies: Cookies, field: str, path: str
) -> None:
    cookies.store(URL("https://www.host.example/"), setting("a=1; Secure; Path=/; Domain=host.example"))
    for host in ("www.host.example", "host.example", "deep.www.host.example"):
        cookies.store(URL(f"http://{host}{path}"), setting(field))
    assert [(cookie.name, cookie.value) for cookie in cookies.jar] == [("a", "1")]
    cookies.store(URL("http://www.host.example/"), setting("b=2", "A=5"))
    cookies.store(URL("http://nothost.example/"), setting("a=3"))
    cookies.store(URL("https://www.host.example/"), setting("a=4; Domain=host.example; Path=/"))
    assert sorted((cookie.name, cookie.value) for cookie in cookies.jar) == [
        ("A", "5"),
        ("a", "3"),
        ("a", "4"),
        ("b", "2"),
    ]


def test_a_secure_cookie_of_another_path_is_not_in_the_way(cookies: Cookies) -> None:
    cookies.store(URL("https://host.example/"), setting("a=1; Secure; Path=/shop"))
    cookies.store(URL("http://host.example/"), setting("a=2; Path=/"))
    cookies.store(URL("http://host.example/shop/x"), setting("a=3"))
    assert sorted((cookie.path, cookie.value) for cookie in cookies.jar) == [("/", "2"), ("/shop", "1")]


def test_the_secure_cookies_of_this_machine_are_safe_too(cookies: Cookies) -> None:
    cookies.store(URL("https://localhost/"), setting("a=1; Secure"))
    cookies.store(URL("http://localhost/"), setting("a=2"))
    assert cookies.cookie_header(URL("https://localhost/")) == "a=1"
