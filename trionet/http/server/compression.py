"""Compressing responses: which of them, with what coding, and what that does to their fields (RFC 9110 §8.4, §12.5.3).

A response is looked at twice. By itself it may be one that is worth compressing, and safe: then it varies with
Accept-Encoding, and says so also where it is not compressed, for caches in between. Then the request decides with what.

A compressed body has other bytes than the file, or the text, that it is made of. So an ETag becomes weak, the length is
that of the coded body or is not known, and ranges are not offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from ...handle.turn import Turn
from ...support.checks import check_count, check_flag
from ..coding.compressors import available_codings, make_compressor
from ..protocol.body_writer import make_writer
from ..protocol.headers import Headers, as_pairs, split_list
from ..protocol.negotiation import preferred_coding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..coding.compressors import Compressor
    from ..protocol.body_writer import Buffer
    from ..protocol.headers import HeaderInput
    from ..protocol.server_machine import H1Server

__all__ = ["CodedBody", "Compression"]

PIECE: Final = 65536
"""Bytes that are compressed at a time: about a millisecond in which nothing else runs."""
_CODINGS: Final = ("zstd", "br", "gzip")
_WITHOUT: Final = frozenset({204, 205, 206, 304})
"""Statuses without a body, or with a part of one, whose offsets count bytes as they are (RFC 9110 §14)."""
_FORBIDDING: Final = ("Content-Encoding", "Content-Range", "Content-Digest", "Repr-Digest", "Digest", "Content-MD5")
_COMPRESSIBLE: Final = frozenset({
    "application/ecmascript", "application/javascript", "application/json", "application/rtf", "application/wasm",
    "application/x-javascript", "application/x-ndjson", "application/xml", "font/otf", "font/ttf", "image/bmp",
    "image/svg+xml", "image/vnd.microsoft.icon", "image/x-icon",
})  # fmt: skip
_NOT_COMPRESSIBLE: Final = frozenset({"text/event-stream"})


@dataclass(frozen=True, slots=True)
class Compression:
    """That responses are compressed, for clients that ask for it (Accept-Encoding), and which.

    Those are responses with a body in a format that is text, by their Content-Type, and not packed already. Not those
    with a Content-Encoding, a digest, or ``Cache-Control: no-transform``, and no ranges and event streams. They get
    Vary, and a weak ETag.

    Secrets beside a client's own words in one compressed response can be guessed from its length (BREACH). So responses
    that set a cookie are left alone, and what repeats the request beside a secret should say ``no-transform``.

    Attributes:
        codings: Of "zstd", "br" and "gzip"; the first one is taken where the client has no preference. If empty, all
            whose packages are installed (``pip install 'trionet[codings]'``).
        min_size: Bytes of a body from which on it is compressed; one whose length is not known is.
        with_cookies: Whether responses that set a cookie are compressed.

    Raises:
        ValueError: a coding is not one of these, or its package is not installed; or `min_size` is negative.
        TypeError: one of these is of another type.

    Source: RFC 9110 §8.4.1, §12.5.3.
    """

    codings: tuple[str, ...] = ()
    min_size: int = 1024
    with_cookies: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "codings", _checked_codings(self.codings))
        check_count("min_size", self.min_size)
        check_flag("with_cookies", self.with_cookies)

    async def _compress(
        self, machine: H1Server, status: int, headers: HeaderInput | Headers, body: Buffer
    ) -> tuple[HeaderInput | Headers, Buffer]:
        """The fields and the body of a whole response: compressed, or as they are if that is not to be, or longer.

        Cancellation: nothing has happened.
        """
        plan = self._plan(machine, status, headers, len(body))
        if plan.coding is None:
            return plan.fields, body
        compressor = make_compressor(plan.coding)
        coded = []
        for at in range(0, len(body), PIECE):
            if at:
                await trio.lowlevel.checkpoint()
            coded.append(compressor.encode(bytes(body[at : at + PIECE])))
        whole = b"".join((*coded, compressor.finish()))
        return (_coded_fields(plan), whole) if len(whole) < len(body) else (plan.fields, body)

    def _begin(
        self, machine: H1Server, status: int, headers: HeaderInput | Headers, length: int | None
    ) -> tuple[HeaderInput | Headers, int | None, CodedBody | None]:
        """The fields and the length of a response in pieces, and what makes its pieces; None where they stay."""
        plan = self._plan(machine, status, headers, length)
        if plan.coding is None:
            return plan.fields, length, None
        head_only = machine.request is None or machine.request.method == "HEAD"
        return _coded_fields(plan), None, None if head_only else CodedBody(make_compressor(plan.coding), plan.length)

    def _plan(
        self, machine: H1Server, status: int, headers: HeaderInput | Headers, length: int | None
    ) -> CompressionPlan:
        """What becomes of a response. What is wrong with it the machine says, which gets it as it is."""
        fields = list(as_pairs(headers))
        request = machine.request
        if request is None or request.method == "CONNECT":
            return CompressionPlan(fields, None, None)
        response = Headers(machine.with_added(fields))
        if status == 304:
            return CompressionPlan(_not_modified(request.headers, response, fields), None, None)
        if status in _WITHOUT or not self._applies(response):
            return CompressionPlan(fields, None, None)
        given = response.get_list("content-length")
        if given:
            if len(given) > 1 or not given[0].isdecimal() or length not in (None, int(given[0][:20])):
                return CompressionPlan(fields, None, None)
            length = int(given[0][:20])
        if length is not None and length < max(self.min_size, 1):
            return CompressionPlan(fields, None, None)
        if not _varies(response):
            fields.append(("Vary", "Accept-Encoding"))
        coding = None
        if request.http_version != "1.0":  # its body would have no end but that of the connection
            coding = preferred_coding(request.headers.get_list("accept-encoding"), self.codings)
        return CompressionPlan(fields, coding, length)

    def _applies(self, response: Headers) -> bool:
        """Whether a response with these fields is one to be compressed."""
        kind = response.get("content-type", "").partition(";")[0].strip(" \t").lower()
        if not (kind.startswith("text/") or kind.endswith(("+json", "+xml")) or kind in _COMPRESSIBLE):
            return False
        if kind in _NOT_COMPRESSIBLE or any(name in response for name in _FORBIDDING):
            return False
        if "set-cookie" in response and not self.with_cookies:
            return False
        return "no-transform" not in split_list(map(str.lower, response.get_list("cache-control")))


class CompressionPlan(NamedTuple):
    """The fields of a response, with Vary where it belongs; the coding, if any; the length of the body before it."""

    fields: list[Any]
    coding: str | None
    length: int | None


class CodedBody:
    """The body of a response that is compressed piece by piece. What was given can be decoded at once, each time."""

    __slots__ = ("_account", "_compressor", "turn")

    def __init__(self, compressor: Compressor, length: int | None) -> None:
        self._compressor = compressor
        self._account = None if length is None else make_writer(length)
        self.turn = Turn()  # a long piece becomes several, and none of another task may come in between

    def count(self, data: Buffer) -> None:
        """Take account of a piece.

        Raises:
            LocalProtocolError: the body is longer than was said.
        """
        if self._account is not None:
            self._account.count(len(data))

    def pieces(self, data: Buffer) -> Iterator[bytes]:
        """The coded bytes of a piece, `PIECE` bytes of it at a time; of an empty one an empty one."""
        for at in range(0, len(data), PIECE):
            yield self._compressor.encode(bytes(data[at : at + PIECE])) + self._compressor.flush()
        if not data:
            yield b""

    def end(self) -> bytes:
        """The end of the coded body.

        Raises:
            LocalProtocolError: the body is shorter than was said.
        """
        if self._account is not None:
            self._account.end(())
        return self._compressor.finish()


def _checked_codings(codings: Any) -> tuple[str, ...]:
    if isinstance(codings, str) or not all(isinstance(name, str) for name in codings):
        raise TypeError(f"codings must be a tuple of names such as ('zstd', 'gzip'), not {codings!r}")
    for name in codings:
        if name not in _CODINGS:
            raise ValueError(f"codings must be of 'zstd', 'br', 'gzip', not {name!r}")
        if name not in available_codings():
            raise ValueError(f"the package for {name!r} is not installed: pip install 'trionet[codings]'")
    return tuple(codings) or available_codings()


def _varies(response: Headers) -> bool:
    """Whether the response says already that it varies with Accept-Encoding."""
    named = split_list(map(str.lower, response.get_list("vary")))
    return "accept-encoding" in named or "*" in named


def _coded_fields(plan: CompressionPlan) -> list[tuple[str, str]]:
    assert plan.coding is not None
    fields = [
        (name, _weak(value) if name.lower() == "etag" else value)
        for name, value in Headers(plan.fields).items()
        if name.lower() not in ("content-length", "accept-ranges")
    ]
    return [*fields, ("Content-Encoding", plan.coding)]


def _not_modified(request: Headers, response: Headers, fields: list[Any]) -> list[Any]:
    """The fields of a 304: those of the 200 that the client has, which may have been compressed (RFC 9110 §15.4.5)."""
    etag = response.get("etag")
    if etag is not None and _weak(etag) in split_list(request.get_list("if-none-match")):
        fields = [(name, _weak(value) if name.lower() == "etag" else value) for name, value in Headers(fields).items()]
    return fields if _varies(response) else [*fields, ("Vary", "Accept-Encoding")]


def _weak(etag: str) -> str:
    return etag if etag.startswith("W/") else f"W/{etag}"
