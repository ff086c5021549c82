"""A file as a response: its type, its validators, the conditions of the request, and the ranges that it asks for.

The work is divided. `open_file` finds and opens the file, in a worker thread. `protocol.conditions` and
`protocol.ranges` decide without I/O what the request asks for. This module puts the response together: all of the file,
one part of it, several parts (multipart/byteranges), or only a status.
"""

from __future__ import annotations

import mimetypes
import os
import secrets
from email.utils import formatdate
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from ..content import FileContent
from ..protocol.conditions import is_range_wanted, parse_date, precondition
from ..protocol.headers import Headers, with_defaults
from ..protocol.ranges import UnsatisfiableRangeError, parse_range
from .at_length import send_content
from .error_response import PLAIN_TEXT, error_text
from .open_file import OpenedFile, open_below, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.headers import HeaderInput
    from ..protocol.ranges import Span
    from .response_stream import ResponseStream

__all__ = ["respond_file"]

_METHODS: Final = ("GET", "HEAD")
_OF_CONTENT: Final = frozenset({"content-type", "content-length", "content-encoding", "content-language"})
"""Fields that describe a body, and have no place in a response without one (RFC 9110 §15.4.5)."""

_TYPES: Final = mimetypes.MimeTypes(filenames=())  # not those of this machine: a response is the same everywhere
_OF_ENCODING: Final = {
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip2",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
}


class Responding(Protocol):
    """What is needed of an `Exchange`, which stands above."""

    @property
    def method(self) -> str:
        """As `Exchange.method`."""
        ...

    @property
    def headers(self) -> Headers:
        """As `Exchange.headers`."""
        ...

    async def respond(self, status: int, body: Any = b"", *, headers: HeaderInput | Headers = ()) -> None:
        """As `Exchange.respond`."""
        ...

    def stream(self, status: int, *, headers: HeaderInput | Headers = (), length: int | None = None) -> ResponseStream:
        """As `Exchange.stream`."""
        ...


async def respond_file(
    exchange: Responding,
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    headers: HeaderInput | Headers,
) -> None:
    """As `Exchange.respond_file`."""
    given = Headers(headers)
    if exchange.method not in _METHODS:
        await _refuse(exchange, 405, [("Allow", ", ".join(_METHODS))])
        return
    opened = await trio.to_thread.run_sync(_opener(path, root))
    if opened is None:
        await _refuse(exchange, 404)
        return
    try:
        await _respond(exchange, opened, given)
    finally:
        opened.close()


def _opener(path: Any, root: Any) -> Callable[[], OpenedFile | None]:
    if root is None:
        return partial(open_regular, path)
    if not isinstance(path, str):
        raise TypeError(f"path must be a str with root, such as exchange.path, not {path!r}")
    return partial(open_below, root, path)


async def _respond(exchange: Responding, opened: OpenedFile, given: Headers) -> None:
    fields = Headers(with_defaults(given, _own_fields(opened)))
    etag, modified = fields.get("etag"), parse_date(fields.get("last-modified"))
    status = precondition(exchange.headers, etag, modified)
    if status != 200:
        await _respond_without_content(exchange, status, fields)
        return
    spans = None
    wanted = exchange.headers.get("range")
    if wanted is not None and exchange.method == "GET" and is_range_wanted(exchange.headers, etag, modified):
        try:
            spans = parse_range(wanted, opened.size)
        except UnsatisfiableRangeError:
            await _refuse(exchange, 416, [("Content-Range", f"bytes */{opened.size}")])
            return
    if spans is None:
        whole = FileContent(opened.file, 0, opened.size) if opened.data is None else opened.data
        await exchange.respond(200, whole, headers=fields)
    elif len(spans) == 1:
        [(start, end)] = spans
        part = FileContent(opened.file, start, end - start) if opened.data is None else opened.data[start:end]
        await exchange.respond(
            206, part, headers=[*fields.items(), ("Content-Range", _content_range(spans[0], opened))]
        )
    else:
        await _respond_in_parts(exchange, opened, spans, fields)


async def _respond_without_content(exchange: Responding, status: int, fields: Headers) -> None:
    """304: the client has it, and learns what may have changed about it; 412: it has become another one."""
    if status == 304:
        kept = [field for field in fields.items() if field[0].lower() not in _OF_CONTENT]
        await exchange.respond(304, headers=kept)
    else:
        await _refuse(exchange, status)


async def _refuse(exchange: Responding, status: int, fields: list[tuple[str, str]] | None = None) -> None:
    await exchange.respond(status, error_text(status), headers=[*PLAIN_TEXT, *(fields or ())])


async def _respond_in_parts(exchange: Responding, opened: OpenedFile, spans: list[Span], fields: Headers) -> None:
    """Several parts, each behind a head of its own (RFC 9110 §14.6)."""
    boundary = secrets.token_hex(16)
    kind = fields.get("content-type", "application/octet-stream")
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {_content_range(span, opened)}\r\n\r\n".encode(
            "latin-1"
        )
        for span in spans
    ]
    end = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(stop - start for start, stop in spans) + len(end)
    others = [field for field in fields.items() if field[0].lower() != "content-type"]
    own = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    async with exchange.stream(206, headers=[own, *others], length=length) as stream:
        for head, (start, stop) in zip(heads, spans, strict=True):
            await stream.send(head)
            await send_content(stream, FileContent(opened.file, start, stop - start))
        await stream.send(end)


def _content_range(span: Span, opened: OpenedFile) -> str:
    return f"bytes {span[0]}-{span[1] - 1}/{opened.size}"


def _own_fields(opened: OpenedFile) -> list[tuple[str, str]]:
    return [
        ("Content-Type", _content_type(os.path.basename(opened.name))),
        ("X-Content-Type-Options", "nosniff"),
        ("ETag", f'"{opened.modified:x}-{opened.size:x}"'),
        ("Last-Modified", formatdate(opened.modified // 10**9, usegmt=True)),
        ("Accept-Ranges", "bytes"),
    ]


@lru_cache(maxsize=1024)
def _content_type(name: str) -> str:
    """The media type of a file by its name; a text's is UTF-8. What the name does not tell is just bytes."""
    kind, encoding = _TYPES.guess_type(f"x{name}")  # one that begins with a scheme would be taken for a URL
    if encoding is not None:  # a packed file, which is to stay packed
        return _OF_ENCODING.get(encoding, "application/octet-stream")
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
