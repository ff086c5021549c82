"""The form in a request's body: fields and files, within bounds, however it was sent.

A form is the largest thing that a stranger can make a server take. So everything is bounded: the parts, each text, all
texts together, the whole. Files beyond some 64 KiB go to the disk (`spill`), in worker threads, so that memory stays
flat. When the block ends, also by a cancellation, they are closed, and with that they are gone.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

from ...errors import LimitExceededError, LocalProtocolError, RemoteProtocolError
from ...support.block import block
from ...support.checks import check_count
from ...support.multi_mapping import MultiMapping
from ..protocol.multipart import FormError, MultipartReader, Part, content_type_of
from .http_exception import HTTPException
from .spill import Spill
from .uploaded_file import UploadedFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..protocol.headers import Headers

__all__ = ["MAX_FIELD", "MAX_FORM", "MAX_PARTS", "open_form"]

_LOG = logging.getLogger("trionet.server")

MAX_PARTS: Final = 1000
MAX_FIELD: Final = 2**20
MAX_FORM: Final = 100 * 2**20
_TEXTS: Final = 8
"""All texts together may have so many times the bytes of one."""
_FILE_IN_MEMORY: Final = 65536
_FILES_IN_MEMORY: Final = 2**20
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Form = MultiMapping[str | UploadedFile]


class Receiving(Protocol):
    """What is needed of an `Exchange`, which stands above."""

    connection: Any
    _trailers: Headers | None

    @property
    def headers(self) -> Headers:
        """As `Exchange.headers`."""
        ...

    async def read(self, max_bytes: int) -> bytes:
        """As `Exchange.read`."""
        ...

    async def __anext__(self) -> bytes:
        """As `Exchange`."""
        ...


@block
async def open_form(exchange: Receiving, max_parts: int, max_field_bytes: int, max_bytes: int) -> AsyncIterator[Form]:
    """As `Exchange.form`."""
    for name, value in (("max_parts", max_parts), ("max_field_bytes", max_field_bytes), ("max_bytes", max_bytes)):
        check_count(name, value, 1)
    if exchange._trailers is not None:
        raise LocalProtocolError(f"form refused: the body of {exchange!r} has been read already")
    collected = Collected(exchange, max_parts, max_field_bytes, max_bytes)
    try:
        try:
            await collected.read()
        except FormError as exc:
            raise RemoteProtocolError(str(exc)).with_handle(exchange.connection) from exc
        except OSError as exc:
            if exc.errno not in _FULL:
                raise
            _LOG.error("there is no room for the files of a form: %s", exc)
            raise HTTPException(507) from exc
        yield MultiMapping(collected.entries)
    finally:
        collected.close()


class Collected:
    """What was read of a form so far.

    Attributes:
        entries: Names and values.
    """

    def __init__(self, exchange: Receiving, max_parts: int, max_field_bytes: int, max_bytes: int) -> None:
        self.entries: list[tuple[str, str | UploadedFile]] = []
        self._exchange = exchange
        self._max_parts = max_parts
        self._max_field = max_field_bytes
        self._max = max_bytes
        self._texts = 0
        self._in_memory = 0
        self._part: Part | None = None
        self._text = bytearray()
        self._file: UploadedFile | None = None
        self._spill = Spill()

    async def read(self) -> None:
        """Read all of it.

        Raises:
            FormError, LimitExceededError, RemoteProtocolError, OSError: as `Exchange.form` says.
        """
        kind, boundary = content_type_of(self._exchange.headers.get("content-type"))
        if kind == _URLENCODED:
            await self._read_urlencoded()
        elif kind == _MULTIPART:
            await self._read_multipart(MultipartReader(boundary))
        else:
            raise RemoteProtocolError(
                f"a form has the Content-Type {_URLENCODED} or {_MULTIPART}, not {kind[:64]!r}", 415
            ).with_handle(self._exchange.connection)

    def close(self) -> None:
        """Close all files."""
        self._spill.close()
        for _, value in self.entries:
            if isinstance(value, UploadedFile):
                value.file.close()

    async def _read_urlencoded(self) -> None:
        data = await self._exchange.read(min(self._max, self._max_field))
        text = data.decode("utf-8", "replace")
        try:
            self.entries += parse_qsl(text, keep_blank_values=True, max_num_fields=self._max_parts)
        except ValueError as exc:
            raise self._too_much("fields", self._max_parts, "max_parts") from exc

    async def _read_multipart(self, reader: MultipartReader) -> None:
        length = self._exchange.headers.get("content-length", "")
        size = int(length) if length.isdecimal() else 0
        if size > self._max:
            raise self._too_much("bytes", self._max, "max_bytes")
        size = 0
        while data := await self._next():
            size += len(data)
            if size > self._max:
                raise self._too_much("bytes", self._max, "max_bytes")
            for event in reader.feed(data):
                if isinstance(event, bytes):
                    await self._take(event)
                elif isinstance(event, Part):
                    self._begin(event)
                else:
                    await self._end_part()
        reader.end()

    async def _next(self) -> bytes:
        try:
            return await self._exchange.__anext__()
        except StopAsyncIteration:
            return b""

    def _begin(self, part: Part) -> None:
        if len(self.entries) >= self._max_parts:
            raise self._too_much("parts", self._max_parts, "max_parts")
        self._part = part
        if part.filename is not None:
            self._file = UploadedFile(part.filename, part.content_type, self._spill)

    async def _take(self, data: bytes) -> None:
        if self._file is not None:
            large = self._file.size + len(data) > _FILE_IN_MEMORY or self._in_memory + len(data) > _FILES_IN_MEMORY
            if not large and self._file.is_in_memory:
                self._in_memory += len(data)
            await self._file._take(data, to_disk=large)
            return
        self._text += data
        self._texts += len(data)
        if len(self._text) > self._max_field:
            raise self._too_much("bytes in a field", self._max_field, "max_field_bytes")
        if self._texts > self._max_field * _TEXTS:
            raise self._too_much("bytes in its fields", self._max_field * _TEXTS, f"{_TEXTS} times max_field_bytes")

    async def _end_part(self) -> None:
        assert self._part is not None
        value: str | UploadedFile
        if self._file is None:
            value = self._text.decode("utf-8", "replace")
            self._text.clear()
        else:
            value = await self._file._finish()
            self._file = None
        self.entries.append((self._part.name, value))

    def _too_much(self, what: str, most: int, option: str) -> LimitExceededError:
        return LimitExceededError(
            f"the form has more than {most} {what} ({option}); raise it, or respond with 413"
        ).with_handle(self._exchange.connection)
