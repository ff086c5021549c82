"""HTTP fields: names and values in the order in which they stand in a message.

Names are compared without regard to case, and a name may occur more than once. On the wire both are bytes; programs see
them as latin-1 strings, which loses nothing. What a program gives is checked here, once: a line break inside a value
would let it write a second header, or a second message (RFC 9110 §5.5, response splitting).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, overload

from .syntax import TEXT, TOKEN

__all__ = [
    "Field",
    "HeaderInput",
    "Headers",
    "as_pairs",
    "check_name",
    "check_value",
    "checked_headers",
    "is_token",
    "split_lines",
    "split_list",
    "with_defaults",
]

Field = tuple[str | bytes, str | bytes]
"""A name and a value that were not checked yet."""
HeaderInput = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""What is taken for header fields: (name, value) pairs, a mapping, or `Headers`."""

_TOKEN: Final = re.compile(TOKEN)
_VALUE: Final = re.compile(TEXT)
_SECRET: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
"""Fields whose values are not shown."""
_FIELD: Final = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")


class Headers:
    """Header fields: ordered, case-insensitive, with repeated names. Immutable.

    Args:
        fields: (name, value) pairs, a mapping, or other `Headers`. Names and values are str (latin-1) or bytes; spaces
            and tabs around a value are dropped.

    Raises:
        ValueError: a name is not a token (RFC 9110 §5.6.2), or a value has CR, LF, NUL or another control character.
        TypeError: a name or value is neither str nor bytes.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: HeaderInput | Headers = ()) -> None:
        if isinstance(fields, Headers):
            self._fields: tuple[tuple[bytes, bytes], ...] = fields.raw
            return
        self._fields = tuple((check_name(name), check_value(name, value)) for name, value in as_pairs(fields))

    @property
    def raw(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields as bytes, in order, with names in the case in which they were written."""
        return self._fields

    def items(self) -> list[tuple[str, str]]:
        """All fields as (name, value) pairs, in order; a repeated name occurs repeatedly."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw]

    @overload
    def get(self, name: str, default: str) -> str: ...
    @overload
    def get(self, name: str, default: str | None = None) -> str | None: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of this name; several are joined by commas, as RFC 9110 §5.3 allows. For Set-Cookie: `get_list`."""
        values = self.get_list(name)
        return ", ".join(values) if values else default

    def get_list(self, name: str) -> list[str]:
        """Every value of this name, in order."""
        if not isinstance(name, str):
            raise TypeError(f"a header name to look for must be a str, not {name!r}")
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for field, value in self.raw if field.lower() == wanted]

    def get_lists(self, *names: bytes) -> list[list[str]]:
        """What `get_list` gives for each of several different names, which are in lower case, in one pass."""
        found: dict[bytes, list[str]] = {name: [] for name in names}
        for field, value in self.raw:
            values = found.get(field.lower())
            if values is not None:
                values.append(value.decode("latin-1"))
        return list(found.values())

    def __getitem__(self, name: str) -> str:
        """As `get`; `KeyError` if there is none of this name."""
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        """Whether there is a field of this name."""
        return isinstance(name, str) and bool(self.get_list(name))

    def __iter__(self) -> Iterator[str]:
        """Each name once, as first written."""
        names: dict[bytes, bytes] = {}
        for name, _ in self.raw:
            names.setdefault(name.lower(), name)
        return iter([name.decode("latin-1") for name in names.values()])

    def __len__(self) -> int:
        """How many different names."""
        return len({name.lower() for name, _ in self.raw})

    def __eq__(self, other: object) -> bool:
        """Whether the same names have the same values in the same order."""
        return self._grouped() == other._grouped() if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset((name, tuple(values)) for name, values in self._grouped().items()))

    def __repr__(self) -> str:
        shown = [(name, "..." if _is_secret(name) else value) for name, value in self.items()]
        return f"Headers({shown!r})"

    def _grouped(self) -> dict[bytes, list[bytes]]:
        groups: dict[bytes, list[bytes]] = {}
        for name, value in self.raw:
            groups.setdefault(name.lower(), []).append(value)
        return groups


def checked_headers(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Fields that have been checked before, by a parser for instance."""
    headers = Headers.__new__(Headers)  # past `__init__`, which would look at what it is given
    headers._fields = tuple(fields)
    return headers


def as_pairs(fields: Any) -> Iterable[tuple[str | bytes, str | bytes]]:
    """`HeaderInput`, or what was given for it, as pairs whose names and values are not checked yet.

    Raises:
        TypeError: these are not pairs.
    """
    if isinstance(fields, Headers):
        return fields.raw
    if isinstance(fields, Mapping):
        return fields.items()
    if isinstance(fields, (str, bytes)) or not isinstance(fields, Iterable):
        raise _no_pairs(fields, fields)
    pairs = [*fields]
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise _no_pairs(fields, pair)
    return pairs


def _no_pairs(fields: Any, wrong: Any) -> TypeError:
    """The error about what stands where (name, value) pairs should; it says how these would be written."""
    right = ""
    if isinstance(fields, tuple) and len(fields) == 2 and all(isinstance(part, (str, bytes)) for part in fields):
        wrong, right = fields, f"[{fields!r}]"
    elif isinstance(wrong, str) and ":" in wrong:
        name, _, value = wrong.partition(":")
        right = repr((name.strip(), value.strip()))
        right = f"[{right}]" if wrong is fields else right
    return TypeError(
        f"headers must be (name, value) pairs or a mapping, not {wrong!r}{'; write ' if right else ''}{right}"
    )


def with_defaults(headers: HeaderInput | Headers, defaults: Iterable[Field]) -> list[Field]:
    """`headers`, and in front of them those of `defaults` whose names they do not have."""
    given = list(as_pairs(headers))
    names = {_lower(name) for name, _ in given}
    return [*(field for field in defaults if _lower(field[0]) not in names), *given]


def _lower(name: str | bytes) -> str:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str):
        raise TypeError(f"a header name must be str or bytes, not {name!r}")
    return name.lower()


def split_lines(lines: bytes) -> list[tuple[bytes, bytes]]:
    """The fields on these lines, each with its CRLF, which are known to be well formed."""
    fields: list[tuple[bytes, bytes]] = _FIELD.findall(lines)
    if b" \r\n" in lines or b"\t\r\n" in lines:
        return [(name, value.rstrip(b" \t")) for name, value in fields]
    return fields


def is_token(name: bytes) -> bool:
    """Whether this is a token (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


def split_list(values: Iterable[str]) -> list[str]:
    """The elements of a comma-separated field without quoted strings, empty ones left out (RFC 9110 §5.6.1)."""
    return [element for value in values for part in value.split(",") if (element := part.strip(" \t"))]


def _as_wire(what: str, text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"a header {what} must be str or bytes, not {text!r}{_hint(text)}")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"header {what} {text!r} has characters outside of latin-1; encode them yourself") from None


def _hint(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"; write {str(value)!r}"
    return "; write one pair for each of them" if isinstance(value, (list, tuple)) else ""


def check_name(name: str | bytes) -> bytes:
    """A field's name as it goes on the wire; raises what `Headers` raises."""
    wire = _as_wire("name", name)
    if not is_token(wire):
        raise ValueError(f"header name {name!r} is not a token: letters, digits and !#$%&'*+-.^_`|~ (RFC 9110 §5.6.2)")
    return wire


def check_value(name: str | bytes, value: str | bytes) -> bytes:
    """A field's value as it goes on the wire; raises what `Headers` raises."""
    if isinstance(value, str) and value.isascii() and value.isprintable():  # fast path: no pattern
        return value.strip(" ").encode()
    try:
        wire = _as_wire("value", value).strip(b" \t")
    except ValueError:
        if not _is_secret(name):
            raise
        raise ValueError(f"value of header {name!r} has characters outside of latin-1; encode them yourself") from None
    if not _VALUE.fullmatch(wire):
        shown = "" if _is_secret(name) else f": {value!r}"
        raise ValueError(f"value of header {name!r} has a control character such as CR, LF or NUL{shown}")
    return wire


def _is_secret(name: str | bytes) -> bool:
    """Whether what a field of this name says is not shown to anybody."""
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return text.lower() in _SECRET
