"""From what a program says to bytes: text as UTF-8, values as JSON, and the pieces of a body one by one."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ...support.checks import flat_view

if TYPE_CHECKING:
    from ..protocol.body_writer import Buffer

__all__ = ["as_json", "as_json_text", "as_piece", "checked_piece", "encoded", "read_json"]


def encoded(name: str, text: str) -> bytes:
    """Text as UTF-8; errors call it `name`.

    Raises:
        ValueError: it has half a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        wrong = exc.object[exc.start : exc.end]
        raise ValueError(f"{name} has a lone surrogate, which UTF-8 cannot carry: {wrong!r}") from exc


def as_json(value: Any) -> bytes:
    """As `as_json_text`, in UTF-8."""
    return encoded("json", as_json_text(value))


def as_json_text(value: Any) -> str:
    """A value as JSON: compact, and not escaped.

    Raises:
        TypeError: JSON cannot express it.
        ValueError: JSON cannot express a number in it, or it is nested too deeply, or contains itself.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except TypeError as exc:
        raise TypeError(f"json cannot be sent: {exc}; give dicts, lists, str, numbers, bools and None") from exc
    except RecursionError as exc:
        raise ValueError("json cannot be sent: it is nested too deeply") from exc
    except ValueError as exc:
        if "ircular" in str(exc):
            raise ValueError("json cannot be sent: it contains itself") from exc
        raise ValueError("json has NaN or Infinity, which JSON cannot express (RFC 8259 §6); use None") from exc


def read_json(data: bytes) -> Any:
    """The value that JSON in UTF-8 stands for (RFC 8259 §8.1).

    Raises:
        ValueError: it is not JSON, or more than Python takes: too deep, or an integer with too many digits.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in data:  # the only way to a lone surrogate, which no text can carry on (RFC 8259 §8.2)
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as exc:
        raise ValueError("the body is JSON with half a surrogate pair (RFC 8259 §8.2)") from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f"the body is not JSON: byte {exc.start} is not UTF-8 (RFC 8259 §8.1)") from exc
    except json.JSONDecodeError as exc:
        what = "it is empty" if not data.strip() else f"{exc.msg} at line {exc.lineno}, column {exc.colno}"
        raise ValueError(f"the body is not JSON: {what}") from exc
    except RecursionError as exc:
        raise ValueError("the body is JSON that is nested too deeply") from exc
    except ValueError as exc:
        raise ValueError(f"the body is JSON with a number that cannot be read: {exc}") from exc


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:32]} is beyond what a float can be (RFC 8259 §6)")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is none (RFC 8259 §6)")


def as_piece(data: Any) -> Buffer:
    """One piece of a body that a handler sends: bytes as they are, text as UTF-8.

    Raises:
        TypeError, ValueError: it is neither, or text that UTF-8 cannot carry.
    """
    if isinstance(data, str):
        return encoded("chunk", data)
    if isinstance(data, memoryview):
        return flat_view(data)
    if isinstance(data, (bytes, bytearray)):
        return data
    raise TypeError(f"chunk must be bytes or str, not {data!r}")


def checked_piece(data: Any) -> bytes:
    """One piece of an iterable as bytes.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    hint = "; encode it" if isinstance(data, str) else ""
    raise TypeError(f"a body's pieces must be bytes, not {data!r}{hint}")
