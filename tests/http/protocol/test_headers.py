"""Fields: ordered, repeated, blind to case, and never a way to split a message."""

import pytest

from trionet.http import Headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b", ""),
        ("", ""),
        ("a:", ""),
        ("ä", ""),
        ("a\r\n", ""),
        ("a", "b\r\nc: d"),
        ("a", "b\n"),
        ("a", "\0"),
        ("a", "€"),
    ],
)
def test_fields_that_would_split_a_message_are_refused(name, value):
    with pytest.raises(ValueError, match="header"):
        Headers([(name, value)])


def test_headers_are_ordered_repeated_and_blind_to_case():
    headers = Headers([("Set-Cookie", "a"), ("Host", " x\t"), (b"set-cookie", b"b")])
    assert headers.raw == ((b"Set-Cookie", b"a"), (b"Host", b"x"), (b"set-cookie", b"b"))
    assert headers.get("SET-COOKIE") == headers["set-cookie"] == "a, b"
    assert headers.get_list("set-cookie") == ["a", "b"]
    assert headers.get("other") is None
    assert headers.get("other", "c") == "c"
    assert "host" in headers
    assert "other" not in headers
    assert b"host" not in headers
    assert list(headers) == ["Set-Cookie", "Host"]
    assert len(headers) == 2
    assert headers == Headers([("host", "x"), ("set-cookie", "a"), ("set-cookie", "b")])
    assert headers != Headers([("host", "x"), ("set-cookie", "b"), ("set-cookie", "a")])
    assert hash(headers) == hash(Headers([("host", "x"), ("set-cookie", "a"), ("set-cookie", "b")]))
    assert headers != "a"
    assert Headers(headers) == headers
    assert repr(Headers({"a": "b"})) == "Headers([('a', 'b')])"
    with pytest.raises(KeyError):
        headers["other"]
    with pytest.raises(TypeError):
        Headers({"Content-Length": 5})
