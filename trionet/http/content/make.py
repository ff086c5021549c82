"""What a program gives for a body, as `Content`, and the fields that go with it: Content-Type and Expect."""

from __future__ import annotations

import enum
import inspect
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import trio

from ...support.generators import has_ended
from ..protocol.framing import NO_BODY
from ..protocol.headers import with_defaults
from .content import Content
from .files import make_file_content
from .iterables import NOTHING, IteratedContent, MemoryContent, StreamedContent
from .text import as_json, checked_piece, encoded

if TYPE_CHECKING:
    from ..protocol.headers import Field, HeaderInput, Headers

__all__ = ["ABSENT", "content_fields", "encoded_body", "make_content"]

_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
_JSON: Final = (("Content-Type", "application/json"),)


class _Absent(enum.Enum):
    """What an argument is that was not given, where None is a value."""

    ABSENT = enum.auto()

    def __repr__(self) -> str:
        return "..."


ABSENT: Final = _Absent.ABSENT
"""What stands for a `json` that was not given: None is JSON's null."""


def encoded_body(body: Any, json: Any, headers: HeaderInput | Headers) -> tuple[bytes, Iterable[Field]]:
    """A response's body that is given as text, or as a value for JSON: its bytes, and the fields with its Content-Type.

    Raises:
        TypeError: both are given, or JSON cannot express the value.
        ValueError: JSON cannot express a number, or UTF-8 a character.
    """
    if json is ABSENT:
        return encoded("body", body), with_defaults(headers, _TEXT)
    if not isinstance(body, bytes) or body:
        raise TypeError(f"give a response body or json, not both: body is {body!r}")
    return as_json(json), with_defaults(headers, _JSON)


def make_content(content: Any = None, json: Any = None, *, name: str = "content") -> Content:
    """Make content of what a program gives.

    Args:
        content: bytes, bytearray, memoryview; str (sent as UTF-8, text/plain); a file opened in binary mode, from where
            it stands to its end; an iterable or async iterable of bytes; None for no body.
        json: Anything `json.dumps` takes, sent as application/json; None for none. Compact, not escaped.

        name: What errors call the content.

    Raises:
        TypeError: something else, such as a file in text mode or a dict; or JSON cannot express the value.
        ValueError: both are given; or JSON cannot express a number (NaN, Infinity), or UTF-8 a character; or it is a
            generator that has ended.
    """
    if json is not None:
        if content is not None:
            raise ValueError("give a request content or json, not both")
        return MemoryContent(as_json(json), "application/json")
    if content is None:
        return NOTHING
    if isinstance(content, Content):
        return content
    if isinstance(content, (bytes, bytearray, memoryview)):
        return MemoryContent(bytes(content), None)
    if isinstance(content, str):
        return MemoryContent(encoded(name, content), _TEXT[0][1])
    return _make_streamed(content, name)


def content_fields(content: Content, expect_continue: bool) -> list[Field]:
    """The fields that a body of this kind needs, apart from those of its framing."""
    fields: list[Field] = []
    if content.content_type is not None:
        fields.append(("Content-Type", content.content_type))
    if expect_continue and content.length != NO_BODY:
        fields.append(("Expect", "100-continue"))
    return fields


def _make_streamed(content: Any, name: str) -> Content:
    if isinstance(content, trio.abc.AsyncResource):
        content = getattr(content, "wrapped", content)  # of trio.wrap_file(): iterating it would give lines
    if callable(getattr(content, "read", None)) and not isinstance(content, AsyncIterable):
        return make_file_content(content, name)
    if isinstance(content, Mapping):
        raise TypeError(f"{name} must not be a {type(content).__name__}; for a JSON body give json=...")
    if has_ended(content):
        raise ValueError(
            f"{name} is a generator that has ended, {content!r}: it was sent before, or closed with the request that "
            f"it was given to; make a new one"
        )
    if inspect.iscoroutine(content):
        content.close()
        raise TypeError(f"{name} must not be a coroutine, {content!r}: await it, and give what it returns")
    if isinstance(content, AsyncIterable):
        return StreamedContent(content)
    if isinstance(content, (list, tuple)):
        parts = tuple(map(checked_piece, content))
        return IteratedContent(parts, sum(map(len, parts)))
    if isinstance(content, Iterable):
        return IteratedContent(content, None)
    raise TypeError(
        f"{name} must be bytes, str, a binary file, or an iterable or async iterable of bytes, "
        f"not {content!r}; for a JSON body give json=..."
    )
