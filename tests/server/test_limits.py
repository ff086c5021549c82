"""The bounds of a server."""

import pytest

import trionet


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_connections": 0}, "max_connections must be at least 1.*0"),
        ({"max_connections_per_address": 0}, "max_connections_per_address must be at least 1.*0"),
        ({"drain_timeout": -1}, "drain_timeout must be at least 0.*-1"),
        ({"handshake_timeout": float("nan")}, "handshake_timeout must be more than 0.*nan"),
        ({"max_connections": "5"}, "max_connections must be an int.*not '5'"),
    ],
)
def test_limits_are_checked(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        trionet.Limits(**options)
