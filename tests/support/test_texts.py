"""How errors, logs and reprs show things."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet.support.texts import amount, printable, shown_address, shown_bytes


@given(st.text())
def test_a_text_stays_on_one_line(text: str) -> None:
    assert len(printable(text).splitlines()) <= 1


def test_a_text_without_control_characters_is_left_alone() -> None:
    assert printable(ValueError("grüße, 你好")) == "grüße, 你好"
    assert printable("a\nb\x1b\u2028") == "a\\nb\\x1b\\u2028"


def test_bytes_show_how_they_begin() -> None:
    assert shown_bytes(b"x" * 32) == repr(b"x" * 32)
    assert shown_bytes(bytearray(b"\0") + b"x" * 32, most=3) == r"b'\x00xx'..."


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ("/run/x.sock", "/run/x.sock"),
        ("", "unnamed"),
        ("/run/a\nb", "/run/a\\nb"),
        (None, "?"),
    ],
)
def test_addresses(address: Any, shown: str) -> None:
    assert shown_address(address) == shown


def test_amounts() -> None:
    assert [amount(number, "byte") for number in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]
