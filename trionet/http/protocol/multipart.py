"""multipart/form-data taken apart as it comes (RFC 7578). Without I/O.

The bytes are parsed by python-multipart, which is the parser of Starlette and FastAPI too; its callbacks become events
here. What it accepts and a form cannot be is refused: a part without a name, and a body that ends in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PART_END", "FormError", "MultipartReader", "Part", "content_type_of"]

_MAX_BOUNDARY: Final = 70
"""Characters of a boundary at most (RFC 2046 §5.1.1)."""


class FormError(ValueError):
    """The body is not the form that its Content-Type announces."""


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part.

    Attributes:
        name: The name of its field.
        filename: The client's name for its file; None for a part that is no file.
        content_type: Of a file, as its client says; None if it does not.
    """

    name: str
    filename: str | None
    content_type: str | None


class _PartEnd:
    """The part is complete."""


PART_END: Final = _PartEnd()

PartEvent = Part | bytes | _PartEnd


def content_type_of(field: str | None) -> tuple[str, str | None]:
    """The media type of a Content-Type, in lower case, and the boundary of a multipart one."""
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(field or "")
    boundary = options.get(b"boundary")
    return kind.decode("latin-1"), None if boundary is None else boundary.decode("latin-1")


class MultipartReader:
    """Takes the body piece by piece, and says what it consists of.

    Args:
        boundary: As Content-Type has it.

    Raises:
        FormError: there is no boundary, or it cannot be one.
    """

    def __init__(self, boundary: str | None) -> None:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        if not boundary or len(boundary) > _MAX_BOUNDARY:
            raise FormError(f"Content-Type needs a boundary of 1 to {_MAX_BOUNDARY} characters, not {boundary!r}")
        self._error = FormParserError
        self._options = parse_options_header
        self._events: list[PartEvent] = []
        self._name, self._value = bytearray(), bytearray()
        self._fields: dict[bytes, bytes] = {}
        self._is_complete = False
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_end,
            "on_end": self._on_last,
        }
        self._parser: Any = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> list[PartEvent]:
        """What comes of these bytes: heads of parts, their data in pieces, and their ends.

        Raises:
            FormError: they are malformed.
        """
        try:
            self._parser.write(data)
        except self._error as exc:
            raise FormError(f"the form is malformed: {exc}") from exc
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """The body is complete.

        Raises:
            FormError: the form is not.
        """
        if not self._is_complete:
            raise FormError("the form ends before its last boundary")

    def _begin(self) -> None:
        self._fields = {}

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._fields[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _on_headers(self) -> None:
        kind, options = self._options(self._fields.get(b"content-disposition", b"").decode("latin-1"))
        name, filename = options.get(b"name"), options.get(b"filename")
        if kind != b"form-data" or name is None:
            raise FormError("a part of the form has no Content-Disposition with a name (RFC 7578 §4.2)")
        content_type = self._fields.get(b"content-type")
        self._events.append(
            Part(
                name.decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                None if content_type is None else content_type.decode("latin-1"),
            )
        )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_end(self) -> None:
        self._events.append(PART_END)

    def _on_last(self) -> None:
        self._is_complete = True
