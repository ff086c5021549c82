"""Checks of what a program gives: the value comes back, or the error says what was given and what would be right."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

import trionet
from trionet.support.checks import check_count, check_flag, check_kind, check_seconds, flat_view, refuse_copy


@pytest.mark.parametrize("value", [0, 1, 0.5, math.inf])
def test_seconds(value: float) -> None:
    assert check_seconds("pause", value) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "pause must be a number of seconds (math.inf: no limit), not True"),
        ("5", "pause must be a number of seconds (math.inf: no limit), not '5'"),
        (None, "pause must be a number of seconds (math.inf: no limit), not None"),
        (-1, "pause must be at least 0 seconds (math.inf: no limit), not -1"),
        (math.nan, "pause must be at least 0 seconds (math.inf: no limit), not nan"),
    ],
)
def test_what_are_not_seconds(value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        check_seconds("pause", value)
    assert str(caught.value) == message


def test_no_seconds_at_all_where_that_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"^pause must be more than 0 seconds \(None: at once\), not 0$"):
        check_seconds("pause", 0, positive=True, off="None: at once")


class Three:
    """A number of another library."""

    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize("value", [1, 3, Three()])
def test_a_count_is_an_int(value: Any) -> None:
    assert type(check_count("size", value, 1, 3)) is int


@pytest.mark.parametrize(
    ("value", "most", "message"),
    [
        (True, None, "size must be an int (None: no bound), not True"),
        (1.0, None, "size must be an int (None: no bound), not 1.0"),
        ("1", None, "size must be an int (None: no bound), not '1'"),
        (0, None, "size must be at least 1 (None: no bound), not 0"),
        (4, 3, "size must be 1 to 3 (None: no bound), not 4"),
    ],
)
def test_what_is_not_a_count(value: Any, most: int | None, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        check_count("size", value, 1, most, off="None: no bound")
    assert str(caught.value) == message


def test_a_flag_is_true_or_false_and_no_text() -> None:
    assert check_flag("fast", False) is False
    with pytest.raises(TypeError, match=r"^fast must be True or False, not 'no'$"):
        check_flag("fast", "no")


def test_a_kind() -> None:
    assert check_kind("name", "a", str, "a str") == "a"
    with pytest.raises(TypeError, match=r"^name must be a str like 'a', not b'a'$"):
        check_kind("name", b"a", str, "a str like 'a'")


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdef"),
        memoryview(b"a.b.c.d.e.f.")[::2],
        memoryview(b"abcdef").cast("H"),
        memoryview(b"fedcba")[::-1],
    ],
    ids=["plain", "with gaps", "of other items", "backwards"],
)
def test_a_view_in_a_row(view: memoryview) -> None:
    assert bytes(flat_view(view)) == b"abcdef"
    assert len(flat_view(view)) == 6


class Alone:
    """Objects of it exist once."""

    __reduce_ex__ = refuse_copy


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_exists_once_is_not_copied(how: Any) -> None:
    with pytest.raises(TypeError, match="^Alone objects can be neither copied nor pickled"):
        how(Alone())


def test_handles_exist_once() -> None:
    assert trionet.Handle.__reduce_ex__ is refuse_copy
