"""Targets of requests: their forms, the host that they name, and what is shown of them."""

import pytest

from trionet import RemoteProtocolError
from trionet.http.protocol.target import check_host, check_same_host, check_target, origin_form


@pytest.mark.parametrize(
    ("target", "form"),
    [
        ("/a?b", "/a?b"),
        ("//a", "//a"),
        ("/a://b", "/a://b"),
        ("http://host", "/"),
        ("http://host?a", "/?a"),
        ("http://host:80/a?b://c", "/a?b://c"),
        ("*", ""),
        ("host:80", ""),
    ],
)
def test_path_and_query_of_each_form(target, form):
    assert origin_form(target) == form


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"*"),
        ("GET", b"host:80"),
        ("GET", b"http:///a"),
        ("CONNECT", b"/"),
        ("CONNECT", b"host"),
        ("OPTIONS", b"**"),
        ("GET", b"http://me:secret@host/"),
    ],
)
def test_a_target_that_its_method_cannot_have(method, target):
    with pytest.raises(RemoteProtocolError, match="target") as caught:
        check_target(method, target)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "target"),
    [("OPTIONS", b"*"), ("CONNECT", b"host:80"), ("GET", b"http://host/"), ("GET", b"urn://"), ("GET", b"x://?")],
)
def test_a_target_that_its_method_can_have(method, target):
    check_target(method, target)


def test_a_target_and_host_name_the_same():
    check_same_host("http://Host:80/a", "hOST:80")
    check_same_host("/a", "host")
    check_same_host("http://host/", None)
    for target, host in (("http://host/", "other"), ("http://host/", "host:80"), ("x:///", "host")):
        with pytest.raises(RemoteProtocolError, match="Host says"):
            check_same_host(target, host)


def test_a_request_has_one_host():
    check_host([b"host"], "1.1")
    check_host([], "1.0")
    for hosts, version in (([], "1.1"), ([b"a", b"a"], "1.0"), ([b"a b"], "1.1")):
        with pytest.raises(RemoteProtocolError, match="Host"):
            check_host(hosts, version)
