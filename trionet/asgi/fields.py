"""The fields of an application's response, from the specification's pairs of bytes to lines for the wire.

This is where an application could inject a header: every name and value is checked before a byte of it is sent. What
an application says repeats from response to response, so the checked lines are remembered, and a response of which all
lines are known costs no check. Fields that decide about the connection or about where the body ends are never among
them: those go the careful way, through `OutgoingFields`, which judges them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..http.protocol.headers import check_name, check_value
from ..http.protocol.outgoing import DECISIVE, CheckedFields

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NO_DEFAULTS", "DefaultFields", "careful", "check_bytes", "read_fields", "without_length"]

Pair = tuple[bytes, bytes]

_OF_EACH_RESPONSE: Final = DECISIVE - {b"date"}
_MAX_LINES: Final = 1024
_MAX_LINE: Final = 256


class DefaultFields:
    """Fields that the server adds to each response, unless the application gives one of that name.

    Attributes:
        pairs: Name and value of each.
        lines: The same, written.
        names: Their names, in lower case.
        with_date: Whether Date is added.
        plain: Whether a response may go without a judgement of each field; not so where Date is left out, or given.
        known: The line of each pair of an application's that was checked, and decides nothing. Bounded.

    Raises:
        ValueError: a name or value cannot be sent; or the field is one that each response decides about by itself.
    """

    __slots__ = ("known", "lines", "names", "pairs", "plain", "with_date")

    def __init__(self, fields: Iterable[tuple[str | bytes, str | bytes]] = (), *, with_date: bool = True) -> None:
        self.pairs = tuple((check_name(name), check_value(name, value)) for name, value in fields)
        self.lines = b"".join(b"%b: %b\r\n" % pair for pair in self.pairs)
        self.names = frozenset(name.lower() for name, _ in self.pairs)
        if refused := sorted(self.names & _OF_EACH_RESPONSE):
            raise ValueError(
                f"headers has {refused[0].decode()!r}, which each response decides about by itself; leave it out, "
                f"or have the application give it"
            )
        self.with_date = with_date
        self.plain = with_date and b"date" not in self.names
        self.known: dict[Pair, bytes] = {}

    def beside(self, fields: Iterable[tuple[str | bytes, str | bytes]]) -> list[Pair]:
        """These fields, and those of the defaults that they have not given."""
        given = [(check_name(name), check_value(name, value)) for name, value in fields]
        names = {name.lower() for name, _ in given}
        return [*(pair for pair in self.pairs if pair[0].lower() not in names), *given]


NO_DEFAULTS: Final = DefaultFields()


def read_fields(headers: Any, defaults: DefaultFields) -> CheckedFields:
    """The fields of a response.

    Raises:
        TypeError: the headers are not pairs of bytes.
        ValueError: a name or value cannot be sent.
    """
    if type(headers) is not list:
        headers = list(headers)
    if not defaults.plain:
        return _read_carefully(headers, defaults)
    lines, length, known = defaults.lines, None, defaults.known
    try:
        for pair in headers:
            line = known.get(pair)
            if line is not None:
                lines += line
            elif pair[0] == b"content-length" and length is None:
                length = pair[1]
            elif (line := _check_line(pair[0], pair[1], defaults)) is not None:
                lines += line
            else:
                return _read_carefully(headers, defaults)
    except TypeError:  # a pair that is a list cannot be looked up
        return _read_carefully(headers, defaults)
    return CheckedFields(lines, headers, length, defaults.pairs)


def careful(fields: CheckedFields) -> CheckedFields:
    """The same fields, to be judged by whoever frames the response: their Content-Length counts."""
    fields.lines = None
    return fields


def without_length(fields: CheckedFields) -> CheckedFields:
    """The same fields, but Content-Length."""
    return CheckedFields(None, [pair for pair in fields if pair[0].lower() != b"content-length"], None)


def _check_line(name: Any, value: Any, defaults: DefaultFields) -> bytes | None:
    """The line of a field that was not seen before; None if it decides something, or replaces a default."""
    check_bytes(name, value)
    lower = name.lower()
    if lower in DECISIVE or lower in defaults.names:
        return None
    line = b"%b: %b\r\n" % (check_name(name), check_value(name, value))
    if len(line) < _MAX_LINE and len(defaults.known) < _MAX_LINES:
        defaults.known[name, value] = line
    return line


def _read_carefully(headers: Iterable[Any], defaults: DefaultFields) -> CheckedFields:
    """As `read_fields`, field by field.

    Transfer-Encoding is left out: the specification has the server ignore it, which frames the body itself.
    """
    pairs: list[Pair] = []
    names = set()
    length = None
    for entry in headers:
        if not isinstance(entry, (tuple, list)) or len(entry) != 2:
            raise TypeError(f"headers must be (name, value) pairs of bytes, not {entry!r}")
        name, value = check_bytes(*entry)
        lower = name.lower()
        if lower == b"transfer-encoding":
            continue
        if lower == b"content-length":
            length = value
        names.add(lower)
        pairs.append((name, value))
    pairs[:0] = [pair for pair in defaults.pairs if pair[0].lower() not in names]
    return CheckedFields(None, pairs, length)


def check_bytes(name: Any, value: Any) -> Pair:
    """A field as the specification has it.

    Raises:
        TypeError: name or value is something other than bytes.
    """
    for part in (name, value):
        if not isinstance(part, bytes):
            remedy = f"; write {part.encode('latin-1', 'backslashreplace')!r}" if isinstance(part, str) else ""
            raise TypeError(f"names and values of headers must be bytes, not {part!r}{remedy}")
    return name, value
