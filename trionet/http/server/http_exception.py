"""A response that a handler raises: for refusals deep inside of a program, where nobody has the exchange at hand."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ..content import ABSENT, encoded_body
from ..protocol.headers import Headers, with_defaults
from .error_response import PLAIN_TEXT, error_text

if TYPE_CHECKING:
    from ..protocol.headers import HeaderInput

__all__ = ["HTTPException"]


class HTTPException(Exception):  # noqa: N818 - the name that the Python web knows
    """Raised by a handler of `serve_http` or `http_handler`, it is the response: ``raise HTTPException(404)``.

    It is no failure: nothing is logged, and the connection goes on. Alone in exception groups, as nurseries raise them,
    it counts as if it were raised by itself. Once the response has begun it comes too late to be sent: the response is
    truncated then, as by any other exception; behind a complete response it does nothing.

    Args:
        status: 200 to 999.
        body: Bytes; or a str, sent as UTF-8, text/plain. By default a line of text with the status and its phrase.
        json: The body as a value to be written as JSON, in the place of `body`; None is ``null``.
        headers: Fields.

    Raises:
        ValueError, TypeError: one of these cannot be sent.

    Attributes:
        status: The status.
        body: The body, as bytes.
        headers: The fields, as `Headers`, with a Content-Type.
    """

    def __init__(
        self,
        status: int,
        body: bytes | str | None = None,
        *,
        json: Any = ABSENT,
        headers: HeaderInput | Headers = (),
    ) -> None:
        if type(status) is not int and not isinstance(status, HTTPStatus):
            raise TypeError(f"status must be an int from 200 to 999, not {status!r}")
        if not 200 <= status <= 999:
            raise ValueError(f"status must be from 200 to 999, of a final response, not {status!r}")
        self.status = int(status)
        self.body, self.headers = _made(self.status, body, json, headers)
        super().__init__(f"response {self.status}")


def _made(status: int, body: Any, json: Any, headers: HeaderInput | Headers) -> tuple[bytes, Headers]:
    if json is not ABSENT or isinstance(body, str):
        data, fields = encoded_body(b"" if body is None else body, json, headers)
        return data, Headers(fields)
    if body is None:
        if status in (204, 205, 304):
            return b"", Headers(headers)
        return error_text(status), Headers(with_defaults(headers, PLAIN_TEXT))
    if not isinstance(body, bytes):
        raise TypeError(f"the body of an HTTPException must be bytes or str, not {body!r}; respond with anything else")
    return body, Headers(headers)
