"""Which errors of an application tell of nothing but a client that has gone."""

import pytest

from trionet.asgi import ClientDisconnectedError
from trionet.asgi.errors import is_disconnect


def caused(error, by):
    error.__cause__ = by
    return error


def met(error, while_handling):
    error.__context__ = while_handling
    return error


class ClientDisconnect(Exception):
    __module__ = "starlette.requests"


GONE = ClientDisconnectedError("gone")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (GONE, True),
        (ClientDisconnect(), True),
        (caused(RuntimeError("of a framework"), GONE), True),
        (ExceptionGroup("of a nursery", [GONE, ClientDisconnect()]), True),
        (ExceptionGroup("of a nursery", [GONE, ValueError("its own")]), False),
        (ValueError("its own"), False),
        (met(ValueError("of its own cleaning up"), GONE), False),
        (OSError("of a file"), False),
    ],
)
def test_disconnects(error, told):
    assert is_disconnect(error) is told


def test_a_circle_of_causes_ends():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_disconnect(one)
