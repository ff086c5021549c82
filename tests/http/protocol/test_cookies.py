"""Cookie fields as they come, and Set-Cookie fields as browsers keep them."""

from datetime import datetime, timedelta, timezone

import pytest

from trionet.http.protocol.cookies import MAX_SIZE, read_cookies, write_deletion, write_set_cookie


@pytest.mark.parametrize(
    ("fields", "cookies"),
    [
        ([], {}),
        (["a=b"], {"a": "b"}),
        (["a=b; c=d", "e=f"], {"a": "b", "c": "d", "e": "f"}),
        (["a=deep; a=shallow"], {"a": "deep"}),
        (['a="quoted"; b=x=y=='], {"a": '"quoted"', "b": "x=y=="}),
        (["a=;b= c\t; ;=nameless;no pair"], {"a": "", "b": "c"}),
        (["$Version=1; a=\xe4"], {"$Version": "1", "a": "\xe4"}),
    ],
)
def test_cookies_are_read_as_they_come(fields, cookies):
    assert read_cookies(fields) == cookies


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "a=b; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ({"secure": False, "http_only": False, "same_site": None}, "a=b; Path=/"),
        ({"max_age": 60, "path": "/x y", "same_site": "strict"},
         "a=b; Max-Age=60; Path=/x y; Secure; HttpOnly; SameSite=Strict"),
        ({"domain": "example.org", "same_site": "none", "partitioned": True},
         "a=b; Domain=example.org; Path=/; Secure; HttpOnly; SameSite=None; Partitioned"),
        ({"expires": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))},
         "a=b; Expires=Wed, 02 Jan 2030 02:04:05 GMT; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ],
)  # fmt: skip
def test_what_is_written(options, field):
    assert write_set_cookie("a", "b", **{"secure": True, **options}) == field


def test_a_deletion_has_expired_in_both_ways():
    assert write_deletion("__Host-a", path="/", domain=None, secure=True) == (
        "__Host-a=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; Secure; HttpOnly; SameSite=Lax"
    )


@pytest.mark.parametrize(
    ("name", "value", "options", "message"),
    [
        ("a b", "", {}, "must be a token"),
        ("", "", {}, "must be a token"),
        ("ä", "", {}, "must be a token"),
        (5, "", {}, "must be a token"),
        ("a", "x; Domain=evil", {}, r"has ';', which no cookie can have.*'%3B'"),
        ("a", "x y", {}, "' '"),
        ("a", "x\r\nSet-Cookie: b=c", {}, r"'\\r'"),
        ("a", "ä", {}, "%C3%A4"),
        ("a", "\ud800", {}, "no cookie can have"),
        ("a", 'x"', {}, "quote it"),
        ("a", "x,y", {}, "quote it"),
        ("a", "x\\y", {}, "quote it"),
        ("a", "x" * MAX_SIZE, {}, f"{MAX_SIZE + 1} bytes.*more than {MAX_SIZE}"),
        ("a", 5, {}, "must be a str, not 5"),
        ("a", "b", {"max_age": 1.5}, "whole number of seconds, not 1.5"),
        ("a", "b", {"max_age": True}, "whole number"),
        ("a", "b", {"expires": datetime(2030, 1, 1)}, "with a time zone"),
        ("a", "b", {"expires": 5}, "with a time zone, not 5"),
        ("a", "b", {"path": "x"}, "begin with a slash"),
        ("a", "b", {"path": "/;x"}, "semicolon"),
        ("a", "b", {"path": None}, "begin with a slash"),
        ("a", "b", {"domain": "a; b"}, "host name"),
        ("a", "b", {"domain": ""}, "host name"),
        ("a", "b", {"same_site": "LAX"}, "'lax', 'strict', 'none' or None, not 'LAX'"),
        ("a", "b", {"same_site": "none", "secure": False}, "not Secure; give secure=True"),
        ("a", "b", {"partitioned": True, "secure": False}, "not Secure"),
        ("__Host-a", "b", {"secure": False}, "promises by its name that it is Secure"),
        ("__SECURE-a", "b", {"secure": False}, "promises by its name that it is Secure"),
        ("__host-a", "b", {"path": "/x"}, "leave out path"),
        ("__Host-a", "b", {"domain": "example.org"}, "leave out domain"),
    ],
)  # fmt: skip
def test_what_browsers_would_drop_or_take_for_something_else_is_refused(name, value, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        write_set_cookie(name, value, **{"secure": True, **options})
