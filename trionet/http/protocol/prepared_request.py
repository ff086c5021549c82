"""A request's head, checked and written once, to be sent any number of times.

What a program asks for repeats: the same method, target and fields. So checking and writing are apart from sending, and
a client that sends the same head again can keep it. What depends on the body is added when it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...errors import LocalProtocolError
from ...support.texts import amount
from .framing import CHUNKED, NO_BODY
from .outgoing import OutgoingFields, request_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .framing import Framing
    from .headers import HeaderInput, Headers

__all__ = ["CREDENTIALS", "PreparedRequest"]

_HAVE_CONTENT: Final = frozenset({"POST", "PUT", "PATCH"})
_HAVE_NONE: Final = {"CONNECT": "9.3.6", "TRACE": "9.3.8"}
"""Methods whose requests must not have content, and where that is said."""
CREDENTIALS: Final = frozenset({b"authorization", b"cookie"})
"""Fields of a server's that TRACE must not have, as it sends back what it is sent."""


class PreparedRequest:
    """The head of a request, without the fields that frame its body.

    Args:
        method: A token, as upper case as it is meant.
        target: What stands in the request line: a path with its query, an absolute URL, ``*``, ``host:port``.
        headers: Host is among them.

    Attributes:
        method: The same.
        target: The same.
        lines: Request line and fields, each with its CRLF.
        closes: Whether it asks for the end of the connection.
        upgrade: The protocols that it offers to switch to, lower case.
        expects: Whether it asks to wait for 100 (Continue) with the body.
        length: What its own Content-Length says, if it has one.
        name: What the lease of the request is called.

    Raises:
        LocalProtocolError: the head cannot be sent.
        ValueError, TypeError: a field cannot be sent; see `Headers`.
    """

    __slots__ = ("closes", "expects", "length", "lines", "method", "name", "target", "upgrade", "whole")

    def __init__(self, method: str, target: str, headers: HeaderInput | Headers) -> None:
        line = request_line(method, target)
        fields = OutgoingFields(headers)
        if b"host" not in fields.picked:
            raise LocalProtocolError("a request needs a Host field (RFC 9112 §3.2)")
        if method == "TRACE":
            _refuse_credentials(fields.lines)
        self.method = method
        self.target = target
        self.lines = b"".join([line, *fields.lines])
        options = fields.tokens(b"connection")
        self.closes = b"close" in options
        self.upgrade = tuple(fields.tokens(b"upgrade")) if b"upgrade" in options else ()
        self.expects = b"100-continue" in fields.tokens(b"expect")
        self.length = fields.length(None)
        self.name = f"request {method} {target}"
        self.whole = self._write(self.length or NO_BODY)

    def framing(self, length: int | None) -> Framing:
        """How a body of this length (None: not known) is framed.

        Raises:
            LocalProtocolError: Content-Length says something else, or the method cannot have a body.
        """
        if self.length is not None and length is not None and length != self.length:
            raise LocalProtocolError(f"Content-Length is {self.length}, but the body has {amount(length, 'byte')}")
        framing = length if self.length is None else self.length
        if framing != NO_BODY and self.method in _HAVE_NONE:
            section = _HAVE_NONE[self.method]
            raise LocalProtocolError(f"{self.method} has no content (RFC 9110 §{section}); send it without a body")
        return CHUNKED if framing is None else framing

    def head(self, framing: Framing) -> bytes:
        """The bytes of the head, with what tells the framing of the body."""
        return self.whole if framing == NO_BODY else self._write(framing)

    def _write(self, framing: Framing) -> bytes:
        if framing == CHUNKED:
            return self.lines + b"Transfer-Encoding: chunked\r\n\r\n"
        if self.length is None and (framing or self.method in _HAVE_CONTENT):
            return b"%bContent-Length: %d\r\n\r\n" % (self.lines, framing)
        return self.lines + b"\r\n"


def _refuse_credentials(lines: Iterable[bytes]) -> None:
    for line in lines:
        name = line.partition(b":")[0]
        if name.lower() in CREDENTIALS:
            raise LocalProtocolError(
                f"TRACE with {name.decode()} refused: its response shows what was sent (RFC 9110 §9.3.8); leave it out"
            )
