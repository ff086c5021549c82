"""What a redirect makes of a request."""

from __future__ import annotations

import pytest

from trionet import LocalProtocolError, RemoteProtocolError
from trionet.http.client.redirect import Next, next_request
from trionet.http.protocol.headers import Headers
from trionet.http.url.url import Target, parse_url

HERE = parse_url("https://host.example/a/b?q=1")
FIELDS = Headers(
    [
        ("Authorization", "Basic x"),
        ("Cookie", "a=b"),
        ("Proxy-Authorization", "Basic y"),
        ("Host", "other.name"),
        ("Accept", "*/*"),
        ("Content-Type", "text/plain"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
    ]
)


def follow(location: str | None = "/next", status: int = 302, method: str = "GET", here: Target = HERE) -> Next | None:
    return next_request(status, location, method, here, FIELDS, allow_downgrade=False)


def names(request: Next | None) -> set[str]:
    assert request is not None
    return {name.lower() for name in request.headers}


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 309, 404, 500])
def test_other_statuses_lead_nowhere(status: int) -> None:
    assert follow(status=status) is None


def test_a_redirect_without_location_is_a_response_like_any_other() -> None:
    assert follow(None) is None
    assert follow("") is None


@pytest.mark.parametrize(
    ("status", "method", "becomes", "drops_body"),
    [
        (301, "GET", "GET", False),
        (301, "POST", "GET", True),
        (301, "PUT", "PUT", False),
        (301, "HEAD", "HEAD", False),
        (302, "POST", "GET", True),
        (302, "DELETE", "DELETE", False),
        (303, "GET", "GET", True),
        (303, "POST", "GET", True),
        (303, "PUT", "GET", True),
        (303, "HEAD", "HEAD", True),
        (307, "POST", "POST", False),
        (307, "GET", "GET", False),
        (308, "POST", "POST", False),
        (308, "PATCH", "PATCH", False),
    ],
)
def test_method_and_body_of_the_next_request(status: int, method: str, becomes: str, drops_body: bool) -> None:
    request = follow(status=status, method=method)
    assert request is not None
    assert (request.method, request.drops_body) == (becomes, drops_body)
    of_body = {"content-type", "content-encoding", "content-length", "transfer-encoding", "expect"}
    assert names(request) & of_body == (set() if drops_body else of_body)
    assert "accept" in names(request)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/next", "https://host.example/next"),
        ("next", "https://host.example/a/next"),
        ("../next", "https://host.example/next"),
        ("?q=2", "https://host.example/a/b?q=2"),
        ("//other.example/x", "https://other.example/x"),
        ("https://other.example", "https://other.example"),
        ("/with space", "https://host.example/with%20space"),
        ("/stra\xc3\x9fe", "https://host.example/stra%C3%9Fe"),  # UTF-8 as it is, seen as latin-1
        ("/stra\xdfe", "https://host.example/stra%DFe"),  # latin-1: the bytes stay what they are
        ("/a%2Fb?x=%20", "https://host.example/a%2Fb?x=%20"),
        ("/a?", "https://host.example/a?"),
        ("?", "https://host.example/a/b?"),
        ("#part", "https://host.example/a/b?q=1#part"),
        ("/x/../y/./z", "https://host.example/x/../y/./z"),  # as it was given
        ("x/../y/./z", "https://host.example/a/y/z"),  # relative, so resolved (RFC 3986 §5.2)
        ("../../../x", "https://host.example/x"),
        (".", "https://host.example/a/"),
        ("..", "https://host.example/"),
        ("./x:y", "https://host.example/a/x:y"),
        ("\\\\other.example/", "https://host.example/a/%5C%5Cother.example/"),  # not another host
        ("https://b\xc3\xbccher.example/", "https://xn--bcher-kva.example/"),  # UTF-8 as it is, seen as latin-1
    ],
)
def test_location_is_resolved_against_the_request(location: str, url: str) -> None:
    request = follow(location)
    assert request is not None
    assert str(request.target.url) == url


def test_the_fragment_is_inherited_unless_the_redirect_has_one() -> None:
    here = parse_url("https://host.example/a#part%20one")
    assert str(follow("/b", here=here).target.url) == "https://host.example/b#part%20one"  # type: ignore[union-attr]
    assert str(follow("/b#two", here=here).target.url) == "https://host.example/b#two"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "location",
    ["https://other.example/", "https://host.example:8443/", "https://sub.host.example/", "https://host.example./"],
)
def test_another_origin_gets_no_credentials(location: str) -> None:
    assert names(follow(location, 307)) == {
        "accept", "content-type", "content-encoding", "content-length", "transfer-encoding", "expect",
    }  # fmt: skip


@pytest.mark.parametrize("location", ["/x", "https://host.example:443/x", "https://HOST.example/x"])
def test_the_same_origin_keeps_them(location: str) -> None:
    assert {"authorization", "cookie", "proxy-authorization", "host"} <= names(follow(location))


def test_from_http_to_https_of_the_same_host_is_another_origin() -> None:
    assert "authorization" not in names(follow("https://host.example/", here=parse_url("http://host.example/")))


def test_from_https_to_http_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(LocalProtocolError, match="allow_downgrade=True"):
        follow("http://host.example/")
    request = next_request(302, "http://host.example/", "GET", HERE, FIELDS, allow_downgrade=True)
    assert request is not None
    assert str(request.target.url) == "http://host.example/"
    assert "cookie" not in names(request)


def test_userinfo_of_the_request_is_not_carried_along() -> None:
    request = follow("/next", here=parse_url("https://user:secret@host.example/a"))
    assert request is not None
    assert str(request.target.url) == "https://host.example/next"
    assert "authorization" in names(request)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("mailto:somebody@host.example", "scheme 'mailto'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("javascript:alert(1)", "scheme 'javascript'"),
        ("https://", "no host"),
        ("https://host.example:99999/", "99999.* is not a number from 1 to 65535"),
        ("https://[::1/", "stands in brackets"),
        ("https://host.example:0/", "port 0"),
        ("https://host.example:-1/", "'-1' is not a number from 1 to 65535"),
        ("https://host.example:abc/", "'abc' is not a number"),
        ("//host.example:65536", "'65536' is not a number"),
        ("//other.example\\@host.example/", "backslash"),
        ("https://a..b/", "host name"),
        ("/x\tb", "control character"),
        ("https://user:secret@host.example/", "user name or password"),
    ],
)
def test_a_location_that_cannot_be_used_is_the_servers_fault(location: str, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as refused:
        follow(location)
    assert refused.value.status_hint == 502
