"""Heads that are written: what is sent is what is read, and nothing splits a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import LocalProtocolError
from trionet.http import Headers
from trionet.http.protocol import outgoing
from trionet.http.protocol.head import parse_request, parse_response
from trionet.http.protocol.outgoing import write_request, write_response

names = st.text(st.sampled_from("abcXYZ019!#$%&'*+-.^_`|~"), min_size=1)
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cc"]))


@given(st.lists(st.tuples(names, values)))
def test_what_is_written_is_read(fields):
    written = write_request("GET", "/", [("Host", "a"), *((f"x-{name}", value) for name, value in fields)])
    expected = [("Host", "a"), *((f"x-{name}", value.strip(" \t")) for name, value in fields)]
    assert parse_request(written).headers.items() == expected
    answered = write_response(200, "OK", Headers([(f"x-{name}", value) for name, value in fields]))
    assert parse_response(answered).headers.items() == expected[1:]


@pytest.mark.parametrize("target", ["/a b", "/\r\n", "/\xe4", "", "/#a"])
def test_a_target_that_cannot_be_sent_is_not_written(target):
    with pytest.raises(LocalProtocolError):
        write_request("GET", target, [])
    with pytest.raises(LocalProtocolError):
        write_response(200, f"OK\r\n{target}", [])


def test_the_date_is_formatted_once_a_second(monkeypatch):
    monkeypatch.setattr(outgoing.time, "time", lambda: 784111777.5)
    assert outgoing.date_line() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert outgoing.date_line() is outgoing.date_line()
