"""What a request says, as its handler sees it: the request line and the fields. Nothing here waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ...support.multi_mapping import MultiMapping
from ..protocol.cookies import read_cookies
from ..protocol.target import origin_form

if TYPE_CHECKING:
    from ..protocol.head import RequestHead
    from ..protocol.headers import Headers

__all__ = ["IncomingRequest"]


class IncomingRequest:
    """The head of a request; `Exchange` is one."""

    __slots__ = ("_head",)

    _head: RequestHead

    @property
    def method(self) -> str:
        """The method as the client wrote it; methods are case-sensitive (RFC 9110 §9.1)."""
        return self._head.method

    @property
    def target(self) -> str:
        """The request target: a path with its query, an absolute URL, ``*``, or ``host:port`` (RFC 9112 §3.2)."""
        return self._head.target

    @property
    def path(self) -> str:
        """The path of the target, percent-encoded, without the query; empty for ``*`` and ``host:port``."""
        return origin_form(self._head.target).partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the first question mark of the target, percent-encoded; empty if there is none."""
        return origin_form(self._head.target).partition("?")[2]

    @property
    def query_params(self) -> MultiMapping[str]:
        """The names and values of the query, as HTML forms write them: decoded, ``+`` for a space, ``&`` between.

        A name without a value has an empty one. What is no UTF-8 becomes U+FFFD. Parsed anew each time.

        Source: WHATWG URL, application/x-www-form-urlencoded parsing.
        """
        return MultiMapping(parse_qsl(self.query, keep_blank_values=True))

    @property
    def http_version(self) -> str:
        """``1.0`` or ``1.1``."""
        return self._head.http_version

    @property
    def headers(self) -> Headers:
        """The fields of the request."""
        return self._head.headers

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies of the request, by name, as the client sent them. Of several with one name it is the first.

        A browser sends the one with the most specific path first. Parsed anew each time.

        Source: RFC 6265bis §5.8.
        """
        return read_cookies(self._head.headers.get_list("cookie"))

    @property
    def wants_websocket(self) -> bool:
        """Whether the client asks for a WebSocket in a request that can become one: a GET without a body."""
        head = self._head
        fields: Any = head.fields
        return (
            fields is not None
            and b"websocket" in fields.upgrade
            and b"upgrade" in fields.options
            and head.method == "GET"
            and head.http_version == "1.1"
            and not (fields.chunked or fields.length)
        )
