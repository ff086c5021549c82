"""Names that occur more than once."""

import pytest

from trionet import MultiMapping

MAPPING = MultiMapping([("a", 1), ("b", 2), ("a", 3)])


def test_a_single_value_is_the_first_and_all_of_them_are_there_in_order():
    assert MAPPING["a"] == 1
    assert MAPPING.get("a") == 1
    assert MAPPING.get_list("a") == [1, 3]
    assert MAPPING.items() == [("a", 1), ("b", 2), ("a", 3)]
    assert [*MAPPING] == ["a", "b"]
    assert len(MAPPING) == 2


def test_names_that_are_not_there():
    assert "A" not in MAPPING
    assert "b" in MAPPING
    assert MAPPING.get("A") is None
    assert MAPPING.get("A", 5) == 5
    assert MAPPING.get_list("A") == []
    with pytest.raises(KeyError, match="A"):
        MAPPING["A"]


def test_equality_is_that_of_the_pairs_in_their_order():
    assert MultiMapping([("a", 1), ("b", 2), ("a", 3)]) == MAPPING
    assert hash(MAPPING) == hash(MultiMapping(MAPPING.items()))
    assert MultiMapping([("a", 1), ("a", 3), ("b", 2)]) != MAPPING
    assert MAPPING != [("a", 1), ("b", 2), ("a", 3)]
    assert repr(MultiMapping([("a", 1)])) == "MultiMapping([('a', 1)])"
