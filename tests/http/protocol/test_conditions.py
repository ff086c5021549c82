"""Conditional requests, by the order of RFC 9110 §13.2.2."""

import pytest

from trionet import Headers
from trionet.http.protocol.conditions import is_range_wanted, parse_date, precondition

ETAG = '"abc"'
MODIFIED = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"


@pytest.mark.parametrize("text", [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
def test_a_date_has_three_forms(text):
    assert parse_date(text) == MODIFIED


@pytest.mark.parametrize("text", [None, "", "yesterday", "5", "Sun, 99 Nov 1994 08:49:37 GMT"])
def test_what_is_no_date(text):
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"If-Match": ETAG}, 200),
        ({"If-Match": f'"x", {ETAG}'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": f"W/{ETAG}"}, 412),
        ({"If-Match": "nonsense"}, 412),
        ({"If-Match": ETAG, "If-Unmodified-Since": BEFORE}, 200),
        ({"If-Unmodified-Since": BEFORE}, 412),
        ({"If-Unmodified-Since": DATE}, 200),
        ({"If-Unmodified-Since": "nonsense"}, 200),
        ({"If-None-Match": ETAG}, 304),
        ({"If-None-Match": f"W/{ETAG}"}, 304),
        ({"If-None-Match": f'"x",{ETAG}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": DATE}, 200),
        ({"If-None-Match": ETAG, "If-Modified-Since": BEFORE}, 304),
        ({"If-Modified-Since": DATE}, 304),
        ({"If-Modified-Since": AFTER}, 304),
        ({"If-Modified-Since": BEFORE}, 200),
        ({"If-Modified-Since": "nonsense"}, 200),
        ({"If-Match": '"x"', "If-None-Match": ETAG}, 412),
        ({"If-Match": ETAG, "If-None-Match": ETAG}, 304),
    ],
)
def test_conditions(fields, status):
    assert precondition(Headers(fields), ETAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If-Match": ETAG}, 412),
        ({"If-Match": "*"}, 200),
        ({"If-None-Match": ETAG}, 200),
        ({"If-Modified-Since": DATE}, 200),
        ({"If-Unmodified-Since": BEFORE}, 200),
    ],
)
def test_conditions_on_something_without_validators(fields, status):
    assert precondition(Headers(fields), None, None) == status


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, True),
        (ETAG, True),
        (f"W/{ETAG}", False),
        ('"x"', False),
        (DATE, True),
        (BEFORE, False),
        (AFTER, False),
        ("nonsense", False),
    ],
)
def test_if_range(text, wanted):
    assert is_range_wanted(Headers({} if text is None else {"If-Range": text}), ETAG, MODIFIED) is wanted


def test_a_weak_validator_is_not_good_enough_for_a_range():
    assert not is_range_wanted(Headers({"If-Range": 'W/"x"'}), 'W/"x"', None)
    assert not is_range_wanted(Headers({"If-Range": '"x"'}), 'W/"x"', None)
