"""Hosts with or without a port."""

import re

from hypothesis import given
from hypothesis import strategies as st

from trionet.http.protocol.authority import COMMON, is_authority


@given(st.lists(st.sampled_from([*b"a0.-_:[]%25@/ ", 0x40, 0xE4]), max_size=8).map(bytes))
def test_the_common_pattern_takes_nothing_that_is_not_an_authority(value):
    assert not re.fullmatch(COMMON, value) or is_authority(value)
