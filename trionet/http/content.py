"""What a request sends, whatever it is given as: bytes, text, JSON, a file, an iterator.

Two questions decide how it is sent: how long it is (a Content-Length, or chunks), and whether it can be produced again
(a redirect, a retry). Files are read in a worker thread, for a disk can take its time and nobody may wait for it but
the request.
"""

from __future__ import annotations

import enum
import inspect
import io
import json as _json
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import trio

from ..errors import BodyNotReplayableError, LocalProtocolError
from ..support.checks import flat_view
from ..support.generators import has_ended
from .protocol.framing import NO_BODY
from .protocol.headers import with_defaults

if TYPE_CHECKING:
    from .protocol.body_writer import Buffer
    from .protocol.headers import Field, HeaderInput, Headers

__all__ = ["ABSENT", "CHUNK", "NOTHING", "Chunks", "Content", "as_piece", "content_fields", "make_content", "written"]

_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)
_JSON: Final = (("Content-Type", "application/json"),)

CHUNK: Final = 65536
"""Bytes that are read of a file at a time."""


class Chunks(AsyncIterator[bytes]):
    """The pieces of a body, none of them empty. Close it with `aclose` when it is not iterated to its end."""

    async def aclose(self) -> None:
        """Let the source know that no more is wanted, where it can be told: a generator's ``finally`` runs.

        Cancellation: is the source's business.
        """


class Content:
    """What a request sends.

    Attributes:
        length: Bytes; None if that is not known, so that it is sent in chunks.
        replayable: Whether it can be produced again.
        content_type: The Content-Type that fits, unless the request has one; None if there is none.
        data: The whole of it, where it is in memory.
    """

    __slots__ = ("content_type", "data", "length", "replayable")

    def __init__(self, length: int | None, replayable: bool, content_type: str | None, data: bytes | None) -> None:
        self.length = length
        self.replayable = replayable
        self.content_type = content_type
        self.data = data

    def chunks(self) -> Chunks:
        """The content, from its beginning.

        Raises:
            BodyNotReplayableError: it was asked for before, and can be produced only once.
        """
        raise NotImplementedError


class _Absent(enum.Enum):
    """What an argument is that was not given, where None is a value."""

    ABSENT = enum.auto()

    def __repr__(self) -> str:
        return "..."


ABSENT: Final = _Absent.ABSENT
"""What stands for a `json` that was not given: None is JSON's null."""


def written(body: Any, json: Any, headers: HeaderInput | Headers) -> tuple[bytes, Iterable[Field]]:
    """A response's body that is given as text, or as a value for JSON: its bytes, and the fields with its Content-Type.

    Raises:
        TypeError: both are given, or JSON cannot express the value.
        ValueError: JSON cannot express a number, or UTF-8 a character.
    """
    if json is ABSENT:
        return _encoded("body", body), with_defaults(headers, _TEXT)
    if not isinstance(body, bytes) or body:
        raise TypeError(f"give a response body or json, not both: body is {body!r}")
    return _as_json(json), with_defaults(headers, _JSON)


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
        return _Memory(_as_json(json), "application/json")
    if content is None:
        return NOTHING
    if isinstance(content, Content):
        return content
    if isinstance(content, (bytes, bytearray, memoryview)):
        return _Memory(bytes(content), None)
    if isinstance(content, str):
        return _Memory(_encoded(name, content), _TEXT[0][1])
    return _make_streamed(content, name)


def content_fields(content: Content, expect_continue: bool) -> list[Field]:
    """The fields that a body of this kind needs, apart from those of its framing."""
    fields: list[Field] = []
    if content.content_type is not None:
        fields.append(("Content-Type", content.content_type))
    if expect_continue and content.length != NO_BODY:
        fields.append(("Expect", "100-continue"))
    return fields


def _encoded(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        wrong = exc.object[exc.start : exc.end]
        raise ValueError(f"{name} has a lone surrogate, which UTF-8 cannot carry: {wrong!r}") from exc


def _make_streamed(content: Any, name: str) -> Content:
    if isinstance(content, trio.abc.AsyncResource):
        content = getattr(content, "wrapped", content)  # of trio.wrap_file(): iterating it would give lines
    if callable(getattr(content, "read", None)) and not isinstance(content, AsyncIterable):
        return _make_file(content, name)
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
        return _Streamed(content)
    if isinstance(content, (list, tuple)):
        parts = tuple(map(_checked, content))
        return _Iterated(parts, sum(map(len, parts)))
    if isinstance(content, Iterable):
        return _Iterated(content, None)
    raise TypeError(
        f"{name} must be bytes, str, a binary file, or an iterable or async iterable of bytes, "
        f"not {content!r}; for a JSON body give json=..."
    )


def _as_json(value: Any) -> bytes:
    try:
        text = _json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except TypeError as exc:
        raise TypeError(f"json cannot be sent: {exc}; give dicts, lists, str, numbers, bools and None") from exc
    except RecursionError as exc:
        raise ValueError("json cannot be sent: it is nested too deeply") from exc
    except ValueError as exc:
        if "ircular" in str(exc):
            raise ValueError("json cannot be sent: it contains itself") from exc
        raise ValueError("json has NaN or Infinity, which JSON cannot express (RFC 8259 §6); use None") from exc
    return _encoded("json", text)


def as_piece(data: Any) -> Buffer:
    """One piece of a body that a handler sends: bytes as they are, text as UTF-8.

    Raises:
        TypeError, ValueError: it is neither, or text that UTF-8 cannot carry.
    """
    if isinstance(data, str):
        return _encoded("chunk", data)
    if isinstance(data, memoryview):
        return flat_view(data)
    if isinstance(data, (bytes, bytearray)):
        return data
    raise TypeError(f"chunk must be bytes or str, not {data!r}")


def _checked(data: Any) -> bytes:
    """One piece of an iterable as bytes."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    hint = "; encode it" if isinstance(data, str) else ""
    raise TypeError(f"a body's pieces must be bytes, not {data!r}{hint}")


# --- in memory ---------------------------------------------------------------------------------------------------


class _Memory(Content):
    """All of it is there."""

    __slots__ = ()

    def __init__(self, data: bytes, content_type: str | None) -> None:
        super().__init__(len(data), True, content_type, data)

    def chunks(self) -> Chunks:
        return _SyncChunks(iter((self.data,) if self.data else ()))


NOTHING: Final[Content] = _Memory(b"", None)
"""No body."""


# --- iterables ---------------------------------------------------------------------------------------------------


class _Once(Content):
    """What keeps account of whether a source was used that can be used only once."""

    __slots__ = ("_used",)

    def __init__(self, length: int | None, replayable: bool) -> None:
        super().__init__(length, replayable, None, None)
        self._used = False

    def _use(self, what: str) -> None:
        if self._used and not self.replayable:
            raise BodyNotReplayableError(
                f"the body has to be sent again, but {what} can be read only once: give bytes, a list or a seekable "
                f"file, or switch off what repeats the request (follow_redirects=False)"
            )
        self._used = True


class _Iterated(_Once):
    """An iterable of bytes; a collection can be iterated again, an iterator cannot."""

    __slots__ = ("_source",)

    def __init__(self, source: Iterable[Any], length: int | None) -> None:
        super().__init__(length, isinstance(source, Collection))
        self._source = source

    def chunks(self) -> Chunks:
        self._use(f"a {type(self._source).__name__}")
        return _SyncChunks(iter(self._source))


class _SyncChunks(Chunks):
    """Pieces out of an iterator."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            if data := _checked(piece):
                return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


class _Streamed(_Once):
    """An async iterable of bytes."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterable[Any]) -> None:
        super().__init__(None, False)
        self._source = source

    def chunks(self) -> Chunks:
        self._use(f"a {type(self._source).__name__}")
        return _AsyncChunks(self._source.__aiter__())


class _AsyncChunks(Chunks):
    """Pieces out of an async iterator."""

    def __init__(self, pieces: AsyncIterator[Any]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        while True:
            if data := _checked(await anext(self._pieces)):
                return data

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


# --- files -------------------------------------------------------------------------------------------------------


def _make_file(file: Any, name: str) -> Content:
    if isinstance(file, io.TextIOBase) or hasattr(file, "encoding"):
        raise TypeError(f"{name} is a file in text mode, {file!r}; open it in binary mode: open(path, 'rb')")
    start = _position(file)
    return _File(file, start, None if start is None else _length(file, start))


def _position(file: Any) -> int | None:
    """Where a seekable file stands; None for one that cannot seek, such as a pipe."""
    try:
        return int(file.tell()) if file.seekable() else None
    except (AttributeError, OSError):
        return None


def _length(file: Any, start: int) -> int | None:
    """Bytes from `start` to the end, as far as that costs no reading.

    A file object around another one (`gzip.GzipFile`) has the other's descriptor, and its end is found by decoding all
    of it. So descriptors count only where nothing stands between.
    """
    inner = getattr(file, "file", file)  # of tempfile.NamedTemporaryFile
    raw = inner.raw if isinstance(inner, (io.BufferedReader, io.BufferedRandom)) else inner
    if isinstance(raw, io.FileIO):
        status = os.fstat(raw.fileno())
        return max(0, status.st_size - start) if stat.S_ISREG(status.st_mode) else None
    if isinstance(file, io.BytesIO):
        return max(0, file.getbuffer().nbytes - start)
    return None


class _File(_Once):
    """A file in binary mode, from where it stood to where it ended."""

    __slots__ = ("_file", "_start")

    def __init__(self, file: Any, start: int | None, length: int | None) -> None:
        super().__init__(length, start is not None)
        self._file = file
        self._start = start

    def chunks(self) -> Chunks:
        self._use(f"the file {self._file!r}")
        return _FileChunks(self._file, self._start, self.length)


class _FileChunks(Chunks):
    """Pieces out of a file, read in a thread; exactly `length` bytes where that was promised."""

    def __init__(self, file: Any, start: int | None, length: int | None) -> None:
        self._file = file
        self._seek = start
        self._length = length
        self._read = 0

    async def __anext__(self) -> bytes:
        size = CHUNK if self._length is None else min(CHUNK, self._length - self._read)
        data = await self._next(size) if size else b""
        if not data:
            self._check_whole()
            raise StopAsyncIteration
        self._read += len(data)
        return data

    async def _next(self, size: int) -> bytes:
        if isinstance(self._file, io.BytesIO):
            return self._read_some(size)
        # A read of a pipe may never return, so a cancellation does not wait for it; one of a disk's file does.
        abandon = self._length is None
        return await trio.to_thread.run_sync(self._read_some, size, abandon_on_cancel=abandon)

    def _read_some(self, size: int) -> bytes:
        if self._seek is not None:
            self._file.seek(self._seek)
            self._seek = None
        data = self._file.read(size)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"read() of {self._file!r} gave {type(data).__name__}, not bytes")
        return bytes(data)

    def _check_whole(self) -> None:
        if self._length is not None and self._read < self._length:
            raise LocalProtocolError(
                f"the file {self._file!r} ended after {self._read} of {self._length} bytes: it has become shorter "
                f"since the request began"
            )
